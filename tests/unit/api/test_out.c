#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <tsr/api/out.h>

static char room[256];
static struct tsr_out out;

static int set_up(void **state)
{
    (void)state;
    memset(room, '#', sizeof room);
    tsr_out_init(&out, room, sizeof room);
    return 0;
}

static void expect(const char *text)
{
    assert_false(out.full);
    assert_int_equal(out.size, strlen(text));
    assert_memory_equal(out.bytes, text, out.size);
    tsr_out_clear(&out);
}

static void test_out_writes_numbers(void **state)
{
    (void)state;
    tsr_out_uint(&out, 0);
    expect("0");
    tsr_out_uint(&out, UINT64_MAX);
    expect("18446744073709551615");
    tsr_out_int(&out, INT64_MIN);
    expect("-9223372036854775808");
    tsr_out_int(&out, INT64_MAX);
    expect("9223372036854775807");
    tsr_out_format(&out, "%s=%d", "a", 1);
    expect("a=1");
}

static void test_out_doubles_are_short_and_read_back(void **state)
{
    (void)state;
    static const struct {
        double value;
        const char *text;
    } rows[] = {
        {0, "0"},
        {1, "1"},
        {-0.5, "-0.5"},
        {0.1, "0.1"},
        {0.3, "0.3"},
        {1e21, "1e+21"},
        {1e-7, "1e-07"},
        {100, "100"},
        {1.0 / 3, "0.3333333333333333"},
        {NAN, "null"},
        {INFINITY, "null"},
        {-INFINITY, "null"},
        {0.1 + 0.2, "0.30000000000000004"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        tsr_out_double(&out, rows[i].value);
        expect(rows[i].text);
    }
    static const double more[] = {DBL_MIN, DBL_MAX, DBL_EPSILON, 5e-324, 9007199254740993.0,
                                  -1e300};
    for (size_t i = 0; i < sizeof more / sizeof *more; i++) {
        tsr_out_double(&out, more[i]);
        tsr_out_bytes(&out, "", 1);
        assert_true(strtod(room, NULL) == more[i]);
        tsr_out_clear(&out);
    }
}

static void test_out_escapes_strings(void **state)
{
    (void)state;
    static const struct {
        const char *text, *json;
    } rows[] = {
        {"", "\"\""},
        {"plain", "\"plain\""},
        {"\"\\/", "\"\\\"\\\\/\""},
        {"\b\f\n\r\t", "\"\\b\\f\\n\\r\\t\""},
        {"\x01\x1f\x7f", "\"\\u0001\\u001f\x7f\""},
        {"h\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", "\"h\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\""},
        {"a\xff"
         "b",
         "\"a\xef\xbf\xbd"
         "b\""},
        {"\xc0\xaf", "\"\xef\xbf\xbd\xef\xbf\xbd\""},
        {"\xe2\x82", "\"\xef\xbf\xbd\""},           /* cut: one */
        {"\xf0\x9f\x98\"", "\"\xef\xbf\xbd\\\"\""}, /* a maximal part: one */
        {"\xed\xa0\x80", "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\""},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        tsr_out_string(&out, rows[i].text, strlen(rows[i].text));
        expect(rows[i].json);
    }
    tsr_out_escaped(&out, "a\0b", 3);
    expect("a\\u0000b");
}

static void test_out_marks_what_does_not_fit(void **state)
{
    (void)state;
    tsr_out_init(&out, room, 8);
    tsr_out_text(&out, "12345678");
    expect("12345678");
    tsr_out_text(&out, "1234567");
    tsr_out_text(&out, "89");
    assert_true(out.full);
    tsr_out_text(&out, "8"); /* would fit: but something is missing before it */
    assert_true(out.full && out.size == 7);
    assert_int_equal(room[8], '#');
    tsr_out_clear(&out);
    tsr_out_format(&out, "%s", "1234567");
    expect("1234567");
    tsr_out_format(&out, "%s", "12345678"); /* no room for the NUL */
    assert_true(out.full && out.size == 0);
    assert_int_equal(room[8], '#');
}

static void test_out_grows_up_to_its_bound(void **state)
{
    (void)state;
    tsr_out_init_growing(&out, 1000);
    assert_int_equal(out.capacity, 0);
    for (int i = 0; i < 100; i++) {
        tsr_out_text(&out, "0123456789");
    }
    assert_false(out.full);
    assert_int_equal(out.size, 1000);
    tsr_out_text(&out, "0");
    assert_true(out.full && out.size == 1000 && out.capacity == 1000);
    tsr_out_fini(&out);
    tsr_out_init_growing(&out, 10);
    tsr_out_text(&out, "12345678901");
    assert_true(out.full && !out.bytes);
    tsr_out_fini(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_out_writes_numbers, set_up),
        cmocka_unit_test_setup(test_out_doubles_are_short_and_read_back, set_up),
        cmocka_unit_test_setup(test_out_escapes_strings, set_up),
        cmocka_unit_test_setup(test_out_marks_what_does_not_fit, set_up),
        cmocka_unit_test_setup(test_out_grows_up_to_its_bound, set_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
