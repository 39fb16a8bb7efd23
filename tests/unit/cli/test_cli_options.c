#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "cli_priv.h"

static void test_cli_options_refuse_what_is_no_number(void **state)
{
    (void)state;
    static const char *const wrong[] = {"",   "x",   "1x",   " 1", "-1",
                                        "+1", "1.5", "0x10", "11", "99999999999999999999"};
    uint64_t value = 7;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        if (cli_parse_u64("--n", wrong[i], 0, 10, &value)) {
            fail_msg("'%s' was taken for a number", wrong[i]);
        }
    }
    assert_int_equal(value, 7);
    static const char *const wrong_real[] = {"",     "x",    "1x",  "nan", "inf",
                                             "-0.1", "10.1", "1e9", "1,5"};
    double real = 7;
    for (size_t i = 0; i < sizeof wrong_real / sizeof *wrong_real; i++) {
        if (cli_parse_double("--x", wrong_real[i], 0, 10, &real)) {
            fail_msg("'%s' was taken for a number", wrong_real[i]);
        }
    }
    assert_true(real == 7);
}

static void test_cli_options_take_numbers_in_range(void **state)
{
    (void)state;
    uint64_t value;
    double real;
    assert_true(cli_parse_u64("--n", "0", 0, 10, &value) && value == 0);
    assert_true(cli_parse_u64("--n", "18446744073709551615", 0, UINT64_MAX, &value));
    assert_true(value == UINT64_MAX);
    assert_true(cli_parse_double("--x", "0.5", 0, 1, &real) && real == 0.5);
    assert_true(cli_parse_double("--x", "1e-3", 0, 1, &real) && real == 1e-3);
}

static void test_cli_options_sampling_refuses(void **state)
{
    (void)state;
    static const struct {
        int option;
        const char *value;
    } wrong[] = {
        {CLI_OPT_TEMPERATURE, "-1"}, {CLI_OPT_TOP_P, "0"},   {CLI_OPT_TOP_P, "1.1"},
        {CLI_OPT_TOKENS, "0"},       {CLI_OPT_SEED, "x"},    {CLI_OPT_STOP, ""},
        {CLI_OPT_BIAS, "5"},         {CLI_OPT_BIAS, "=1"},   {CLI_OPT_BIAS, "5=101"},
        {CLI_OPT_BIAS, "x=1"},       {CLI_OPT_BIAS, "5=1x"}, {CLI_OPT_PRIORITY, "256"},
        {CLI_OPT_DEADLINE, "0"},     {CLI_OPT_MIN_P, "2"},   {CLI_OPT_REPETITION, "0"},
    };
    static struct cli_sampling s;
    cli_sampling_init(&s);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        if (cli_sampling_option(&s, wrong[i].option, wrong[i].value) != -1) {
            fail_msg("option %d took '%s'", wrong[i].option, wrong[i].value);
        }
    }
    assert_int_equal(cli_sampling_option(&s, CLI_OPT_OWN, "1"), 0);
    assert_int_equal(s.options.bias_count, 0);
    assert_int_equal(s.options.stop_count, 0);
    char stop[TESSERA_STOP_BYTES + 2];
    memset(stop, 'x', sizeof stop);
    stop[TESSERA_STOP_BYTES + 1] = '\0';
    assert_int_equal(cli_sampling_option(&s, CLI_OPT_STOP, stop), -1);
}

static void test_cli_options_sampling_fills_in(void **state)
{
    (void)state;
    static struct cli_sampling s;
    cli_sampling_init(&s);
    assert_int_equal(cli_sampling_option(&s, CLI_OPT_TEMPERATURE, "0.7"), 1);
    assert_int_equal(cli_sampling_option(&s, CLI_OPT_TOP_P, "0.9"), 1);
    assert_int_equal(cli_sampling_option(&s, CLI_OPT_TOP_K, "40"), 1);
    assert_int_equal(cli_sampling_option(&s, CLI_OPT_TOKENS, "12"), 1);
    assert_int_equal(cli_sampling_option(&s, CLI_OPT_SEED, "18446744073709551615"), 1);
    assert_int_equal(cli_sampling_option(&s, CLI_OPT_BIAS, "17=-2.5"), 1);
    assert_int_equal(cli_sampling_option(&s, CLI_OPT_DEADLINE, "1.5"), 1);
    assert_true(s.options.temperature == 0.7f);
    assert_true(s.options.top_p == 0.9f);
    assert_int_equal(s.options.top_k, 40);
    assert_int_equal(s.options.tokens_max, 12);
    assert_true(s.options.has_seed && s.options.seed == UINT64_MAX);
    assert_int_equal(s.options.biases[0].token, 17);
    assert_true(s.options.biases[0].bias == -2.5f);
    assert_int_equal(s.options.deadline_ms, 1500);
    for (int i = 0; i < TESSERA_STOPS_MAX; i++) {
        assert_int_equal(cli_sampling_option(&s, CLI_OPT_STOP, "end"), 1);
    }
    assert_int_equal(cli_sampling_option(&s, CLI_OPT_STOP, "end"), -1);
    assert_string_equal(s.options.stops[TESSERA_STOPS_MAX - 1], "end");
}

static void test_cli_options_place(void **state)
{
    (void)state;
    struct cli_place place = {0};
    assert_int_equal(cli_place_option(&place, CLI_OPT_SOCKET, "/x"), 1);
    assert_int_equal(cli_place_option(&place, CLI_OPT_WAIT, "2.5"), 1);
    assert_int_equal(cli_place_option(&place, CLI_OPT_WAIT, "soon"), -1);
    assert_int_equal(cli_place_option(&place, CLI_OPT_TOKENS, "1"), 0);
    assert_string_equal(place.socket, "/x");
    assert_true(place.wait_seconds == 2.5);
}

static void test_cli_options_join_the_words_of_a_prompt(void **state)
{
    (void)state;
    char *argv[] = {(char[]){"What"}, (char[]){"is"}, (char[]){""}, (char[]){"it?"}};
    char *text;
    size_t bytes;
    assert_true(cli_read_text(4, argv, &text, &bytes));
    assert_string_equal(text, "What is  it?");
    assert_int_equal(bytes, strlen(text));
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cli_options_refuse_what_is_no_number),
        cmocka_unit_test(test_cli_options_take_numbers_in_range),
        cmocka_unit_test(test_cli_options_sampling_refuses),
        cmocka_unit_test(test_cli_options_sampling_fills_in),
        cmocka_unit_test(test_cli_options_place),
        cmocka_unit_test(test_cli_options_join_the_words_of_a_prompt),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
