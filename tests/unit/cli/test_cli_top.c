#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cli_priv.h"

static struct tessera_status before, now;
static struct cli_rates rates;

static void make(void)
{
    before = (struct tessera_status){.request_count = 1,
                                     .uptime_ns = 10000000000u,
                                     .steps = 100,
                                     .prompt_tokens = 50,
                                     .completion_tokens = 1000,
                                     .requests_done = 7,
                                     .queue_ns = 5000000,
                                     .prefill_ns = 5000000};
    now = (struct tessera_status){.model = "some model",
                                  .uptime_ns = 12000000000u,
                                  .steps = 150,
                                  .prompt_tokens = 250,
                                  .completion_tokens = 1300,
                                  .requests_done = 11,
                                  .queue_ns = 25000000,
                                  .prefill_ns = 105000000,
                                  .kv_bytes = 64 << 20,
                                  .kv_used_bytes = 16 << 20,
                                  .requests_running = 2,
                                  .node_count = 1,
                                  .thread_count = 3,
                                  .request_count = 1};
    now.threads[0] = (struct tessera_status_thread){"worker 0", 4, 0, TESSERA_WORKS};
    now.threads[1] = (struct tessera_status_thread){"worker 1", 5, 0, TESSERA_WORKS};
    now.threads[2] = (struct tessera_status_thread){"control", -1, 0, TESSERA_SLEEPS};
    now.requests[0] = (struct tessera_status_request){.tenant = 1000,
                                                      .age_ns = 4000000000u,
                                                      .state = TESSERA_DECODING,
                                                      .prompt_tokens = 9,
                                                      .completion_tokens = 90,
                                                      .tokens_max = 200};
    before.requests[0] = now.requests[0];
    before.requests[0].age_ns = 2000000000u;
    before.requests[0].completion_tokens = 10;
    cli_rates(&rates, &before, &now);
}

static void test_top_rates(void **state)
{
    (void)state;
    make();
    assert_true(rates.tokens == 150);
    assert_true(rates.prompt_tokens == 100);
    assert_true(rates.steps == 25);
    assert_true(rates.rows == 10);
    assert_true(rates.requests == 2);
    assert_true(rates.first_ms == 30);
    assert_true(rates.between_ms == 25);
}

/* Three that came at once, one of which is new, one slow, one without a token before; and one more
 * that was born when another was. */
static void test_top_knows_requests_again(void **state)
{
    (void)state;
    make();
    now.request_count = 4;
    before.request_count = 3;
    for (int i = 1; i < 4; i++) {
        now.requests[i] = now.requests[0];
    }
    before.requests[1] = before.requests[2] = before.requests[0];
    now.requests[1].completion_tokens = 30; /* 20 in 2 s */
    before.requests[2].completion_tokens = 0;
    now.requests[3].age_ns = 1000000000u;
    cli_rates(&rates, &before, &now);
    assert_true(rates.between_ms == 100);
    assert_true(rates.between_max_ms == 100);
    before.requests[2].completion_tokens = 50; /* 40 in 2 s: 50 ms */
    cli_rates(&rates, &before, &now);
    assert_true(rates.between_ms == 50);
    assert_true(rates.between_max_ms == 100);
}

/* Two looks at once, at an engine that stands still: no number is made up. */
static void test_top_rates_of_nothing(void **state)
{
    (void)state;
    make();
    cli_rates(&rates, &now, &now);
    assert_true(rates.tokens == 0 && rates.rows == 0 && rates.requests == 0 && rates.first_ms == 0);
    assert_true(rates.between_ms == 0 && rates.between_max_ms == 0);
}

static const char *page_of(void (*write)(FILE *, const struct tessera_status *,
                                         const struct cli_rates *))
{
    static char text[4096];
    FILE *out = fmemopen(text, sizeof text, "w");
    write(out, &now, &rates);
    fclose(out);
    return text;
}

static void test_top_page_says_it_all(void **state)
{
    (void)state;
    static const char *const words[] = {
        "some model",
        "150.0/s answered",
        "100.0/s of prompts",
        "25.0 steps/s of 10.0 rows",
        "2 running",
        "2.0/s done",
        "first token after 30.0 ms",
        "between tokens 25.0 ms (median request), 25.0 ms (slowest)",
        "[#####...............]  25 %",
        "2 working",
        "1 asleep",
        "workers: 4 5\n",
        "answering",
        "22.5  4.0 s"};
    make();
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        const char *page = page_of(cli_top_page);
        if (!strstr(page, words[i])) {
            fail_msg("the page lacks '%s': %s", words[i], page);
        }
    }
    assert_string_equal(page_of(cli_top_line),
                        "150.0 tokens/s, 100.0 prompt tokens/s, 2 running, 0 waiting, 0 parked, "
                        "2.0 done/s, KV 25 %\n");
}

static const char *drawn(const char *page, unsigned rows, unsigned columns)
{
    static char text[4096];
    FILE *out = fmemopen(text, sizeof text, "w");
    cli_top_draw(out, page, rows, columns);
    fclose(out);
    return text;
}

static void test_top_draws_what_fits(void **state)
{
    (void)state;
    assert_string_equal(drawn("abc\ndef\nghi\n", 9, 80), "abc\033[K\ndef\033[K\nghi\033[K\n\033[J");
    assert_string_equal(drawn("abc\ndef\nghi\n", 2, 2), "ab\033[K\nde\033[K\033[J");
    assert_string_equal(drawn("\xc3\xa4\xc3\xb6\xc3\xbc", 1, 2), "\xc3\xa4\xc3\xb6\033[K\033[J");
    assert_string_equal(drawn("", 1, 2), "\033[J");
    assert_string_equal(drawn("a\033[2Jb", 1, 80), "a\xef\xbf\xbd[2Jb\033[K\033[J");
    char wide[3000];
    memset(wide, 'x', sizeof wide - 1);
    wide[sizeof wide - 1] = '\0';
    assert_int_equal(strlen(drawn(wide, 1, 5000)), 1024 + strlen("\033[K\033[J"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_top_rates),
        cmocka_unit_test(test_top_knows_requests_again),
        cmocka_unit_test(test_top_rates_of_nothing),
        cmocka_unit_test(test_top_page_says_it_all),
        cmocka_unit_test(test_top_draws_what_fits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
