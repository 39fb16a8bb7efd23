#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <tsr/text/stop.h>

static void test_stop_refuses_bad_strings(void **state)
{
    (void)state;
    struct tsr_stop stop;
    struct tsr_err err;
    char text[TSR_STOP_BYTES_MAX + 1] = {0};
    const char *strings[TSR_STOP_STRINGS_MAX + 1];
    size_t len[TSR_STOP_STRINGS_MAX + 1];
    for (size_t i = 0; i < TSR_STOP_STRINGS_MAX + 1; i++) {
        strings[i] = text;
        len[i] = 1;
    }
    assert_int_equal(tsr_stop_init(&stop, strings, len, TSR_STOP_STRINGS_MAX + 1, &err), -22);
    assert_non_null(strstr(err.text, "17"));
    len[1] = 0;
    assert_int_equal(tsr_stop_init(&stop, strings, len, 2, &err), -22);
    assert_non_null(strstr(err.text, "stop string 2 is empty"));
    len[1] = sizeof(text);
    assert_int_equal(tsr_stop_init(&stop, strings, len, 2, &err), -22);
    assert_non_null(strstr(err.text, "257 bytes"));
    len[1] = TSR_STOP_BYTES_MAX;
    assert_int_equal(tsr_stop_init(&stop, strings, len, 2, &err), 0);
}

static void init(struct tsr_stop *stop, const char *const *strings)
{
    size_t len[TSR_STOP_STRINGS_MAX], n = 0;
    for (; strings[n]; n++)
        len[n] = strlen(strings[n]);
    assert_int_equal(tsr_stop_init(stop, strings, len, n, NULL), 0);
}

static void test_stop_holds_back_beginnings(void **state)
{
    (void)state;
    static const char *const strings[] = {"END", "\n\n", NULL};
    struct tsr_stop stop;
    char out[TSR_STOP_BYTES_MAX + 64];
    size_t n;
    init(&stop, strings);
    assert_false(tsr_stop_push(&stop, "abcE", 4, out, &n));
    assert_int_equal(n, 3);
    assert_false(tsr_stop_push(&stop, "N", 1, out, &n));
    assert_int_equal(n, 0);
    assert_false(tsr_stop_push(&stop, "E", 1, out, &n)); /* "ENE": only the last E may begin it */
    assert_int_equal(n, 2);
    assert_memory_equal(out, "EN", 2);
    assert_true(tsr_stop_push(&stop, "NDxyz", 5, out, &n));
    assert_int_equal(n, 0);
    assert_int_equal(stop.hit, 0);
    assert_true(tsr_stop_push(&stop, "more", 4, out, &n)); /* it stays ended */
    assert_int_equal(n, 0);
    assert_int_equal(tsr_stop_flush(&stop, out), 0);
}

static void test_stop_flush_gives_back_what_was_held(void **state)
{
    (void)state;
    static const char *const strings[] = {"STOP", NULL};
    struct tsr_stop stop;
    char out[TSR_STOP_BYTES_MAX + 64];
    size_t n;
    init(&stop, strings);
    assert_false(tsr_stop_push(&stop, "xSTO", 4, out, &n));
    assert_int_equal(n, 1);
    assert_int_equal(tsr_stop_flush(&stop, out), 3);
    assert_memory_equal(out, "STO", 3);
    assert_int_equal(tsr_stop_flush(&stop, out), 0);
}

/* The longest string that there can be, of which every proper prefix is a border. */
static void test_stop_finds_the_longest_string(void **state)
{
    (void)state;
    enum { N = TSR_STOP_BYTES_MAX };
    static char text[N], out[2 * N];
    const char *const strings[] = {text};
    const size_t len[] = {N};
    struct tsr_stop stop;
    size_t n;
    memset(text, 'a', N);
    assert_int_equal(tsr_stop_init(&stop, strings, len, 1, NULL), 0);
    assert_false(tsr_stop_push(&stop, text, N - 1, out, &n));
    assert_int_equal(n, 0);
    assert_false(tsr_stop_push(&stop, "b", 1, out, &n));
    assert_int_equal(n, N);
    assert_false(tsr_stop_push(&stop, text, N - 1, out, &n));
    assert_true(tsr_stop_push(&stop, "a", 1, out, &n));
    assert_int_equal(n, 0);
}

static void test_stop_prefers_the_longest_of_those_that_end_together(void **state)
{
    (void)state;
    static const char *const strings[] = {"c", "abc", "bc", NULL};
    struct tsr_stop stop;
    char out[TSR_STOP_BYTES_MAX + 64];
    size_t n;
    init(&stop, strings);
    assert_true(tsr_stop_push(&stop, "xabc", 4, out, &n));
    assert_int_equal(stop.hit, 1);
    assert_int_equal(n, 1);
}

static void test_stop_without_strings_lets_everything_through(void **state)
{
    (void)state;
    static const char *const strings[] = {NULL};
    struct tsr_stop stop;
    char out[TSR_STOP_BYTES_MAX + 64];
    size_t n;
    init(&stop, strings);
    assert_false(tsr_stop_push(&stop, "abc", 3, out, &n));
    assert_int_equal(n, 3);
}

/* Against looking at the whole stream: for random texts, strings and splits, what came out is the
 * text before the first string to become complete, and nothing that came out was ever part of a
 * stop string's beginning. */
static void test_stop_is_the_same_for_any_split(void **state)
{
    (void)state;
    uint64_t random = 11;
#define NEXT() (random = random * 6364136223846793005u + 1442695040888963407u, random >> 33)
    for (unsigned round = 0; round < 5000; round++) {
        char strings[4][8], text[64];
        const char *list[4];
        size_t len[4], n = NEXT() % 4 + 1, text_n = NEXT() % sizeof(text);
        for (size_t i = 0; i < n; i++) {
            len[i] = NEXT() % 6 + 1;
            for (size_t k = 0; k < len[i]; k++)
                strings[i][k] = (char)('a' + NEXT() % 2);
            list[i] = strings[i];
        }
        for (size_t i = 0; i < text_n; i++)
            text[i] = (char)('a' + NEXT() % 2);

        size_t expected = text_n;
        bool hit = false;
        for (size_t end = 1; end <= text_n && !hit; end++) {
            for (size_t i = 0; i < n; i++) {
                if (len[i] <= end && memcmp(text + end - len[i], strings[i], len[i]) == 0 &&
                    (!hit || end - len[i] < expected)) {
                    expected = end - len[i];
                    hit = true;
                }
            }
        }

        struct tsr_stop stop;
        char out[TSR_STOP_BYTES_MAX + 64], got[128];
        size_t at = 0, got_n = 0, part;
        bool ended = false;
        assert_int_equal(tsr_stop_init(&stop, list, len, n, NULL), 0);
        while (at < text_n && !ended) {
            size_t step = NEXT() % 5;
            step = step < text_n - at ? step : text_n - at;
            ended = tsr_stop_push(&stop, text + at, step, out, &part);
            memcpy(got + got_n, out, part);
            got_n += part;
            at += step;
        }
        if (!ended) {
            part = tsr_stop_flush(&stop, out);
            memcpy(got + got_n, out, part);
            got_n += part;
        }
        assert_int_equal(ended, hit);
        assert_int_equal(got_n, expected);
        assert_memory_equal(got, text, got_n);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stop_refuses_bad_strings),
        cmocka_unit_test(test_stop_holds_back_beginnings),
        cmocka_unit_test(test_stop_flush_gives_back_what_was_held),
        cmocka_unit_test(test_stop_finds_the_longest_string),
        cmocka_unit_test(test_stop_prefers_the_longest_of_those_that_end_together),
        cmocka_unit_test(test_stop_without_strings_lets_everything_through),
        cmocka_unit_test(test_stop_is_the_same_for_any_split),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
