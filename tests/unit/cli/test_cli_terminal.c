#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "cli_priv.h"

#define BAD "\xef\xbf\xbd"

static void test_cli_terminal_takes_the_steering_out_of_text(void **state)
{
    (void)state;
    static const struct {
        const char *in, *out;
    } cases[] = {
        {"plain text\n\twith tab", "plain text\n\twith tab"},
        {"\033[2Jgone", BAD "[2Jgone"},           /* clear the screen */
        {"\033]0;title\a", BAD "]0;title" BAD},   /* set the window's title */
        {"a\rb\bc\x7f", "a" BAD "b" BAD "c" BAD}, /* overwrite what was said */
        {"\xc2\x9b\x32J", BAD "2J"},              /* the one-character form of ESC [ */
        {"\xc2\xa0\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80",
         "\xc2\xa0\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80"},
        {"\xc2", "\xc2"},
        {"", ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char out[256];
        size_t n = cli_tame_text(cases[i].in, strlen(cases[i].in), out);
        assert_int_equal(n, strlen(cases[i].out));
        assert_memory_equal(out, cases[i].out, n);
    }
}

static void test_cli_terminal_leaves_files_as_they_are(void **state)
{
    (void)state;
    char text[8] = {0};
    FILE *file = tmpfile();
    assert_non_null(file);
    cli_write_text(file, "\033[2J\0x", 6);
    rewind(file);
    assert_int_equal(fread(text, 1, sizeof text, file), 6);
    assert_memory_equal(text, "\033[2J\0x", 6);
    assert_string_equal(cli_style(file, CLI_BOLD), "");
    fclose(file);
}

static void test_cli_terminal_writes_json_that_is_json(void **state)
{
    (void)state;
    static const struct {
        const char *in, *out;
    } cases[] = {
        {"a \"b\" \\ /", "\"a \\\"b\\\" \\\\ /\""},
        {"\n\t\x01\x7f", "\"\\u000a\\u0009\\u0001\\u007f\""},
        {"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", "\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\""},
        {"\xff\xc3", "\"\\ufffd\\ufffd\""},                       /* no lead byte; cut off */
        {"\xc0\xaf", "\"\\ufffd\\ufffd\""},                       /* overlong */
        {"\xe0\x80\x80", "\"\\ufffd\\ufffd\\ufffd\""},            /* overlong */
        {"\xed\xa0\x80", "\"\\ufffd\\ufffd\\ufffd\""},            /* half a surrogate pair */
        {"\xf4\x90\x80\x80", "\"\\ufffd\\ufffd\\ufffd\\ufffd\""}, /* beyond U+10FFFF */
        {"\xf8\x88\x80\x80", "\"\\ufffd\\ufffd\\ufffd\\ufffd\""},
        {"", "\"\""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *text = NULL;
        size_t size = 0;
        FILE *out = open_memstream(&text, &size);
        assert_non_null(out);
        cli_write_json(out, cases[i].in, strlen(cases[i].in));
        fclose(out);
        assert_string_equal(text, cases[i].out);
        free(text);
    }
}

static void test_cli_terminal_figures_for_people(void **state)
{
    (void)state;
    char text[32];
    assert_string_equal(cli_text_count(0, text), "0");
    assert_string_equal(cli_text_count(999, text), "999");
    assert_string_equal(cli_text_count(1000, text), "1,000");
    assert_string_equal(cli_text_count(UINT64_MAX, text), "18,446,744,073,709,551,615");
    assert_string_equal(cli_text_bytes(0, text), "0 B");
    assert_string_equal(cli_text_bytes(1536, text), "1.50 KiB");
    assert_string_equal(cli_text_bytes(98362432, text), "93.8 MiB");
    assert_string_equal(cli_text_bytes((uint64_t)300 << 30, text), "300 GiB");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cli_terminal_takes_the_steering_out_of_text),
        cmocka_unit_test(test_cli_terminal_leaves_files_as_they_are),
        cmocka_unit_test(test_cli_terminal_writes_json_that_is_json),
        cmocka_unit_test(test_cli_terminal_figures_for_people),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
