#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <tsr/api/json.h>
#include <tsr/api/out.h>

static struct tsr_json *json;
static struct tsr_err err;

static int set_up(void **state)
{
    (void)state;
    return tsr_json_create(&json, &(struct tsr_json_limits){.bytes_max = 1 << 24}, NULL);
}

static int tear_down(void **state)
{
    (void)state;
    tsr_json_destroy(json);
    return 0;
}

/* Fed in pieces that end at each of `cuts`. */
static int read_cut(const char *text, size_t size, const size_t *cuts, size_t n_cuts)
{
    size_t from = 0;
    tsr_json_reset(json);
    memset(&err, 0, sizeof err);
    for (size_t i = 0; i < n_cuts; i++) {
        tsr_json_feed(json, text + from, cuts[i] - from, &err);
        from = cuts[i];
    }
    tsr_json_feed(json, text + from, size - from, &err);
    return tsr_json_end(json, &err);
}

static int read_whole(const char *text)
{
    return read_cut(text, strlen(text), NULL, 0);
}

/* Which texts are JSON: in the manner of JSONTestSuite (Nicolas Seriot, "Parsing JSON is a
 * minefield"), whose kinds of cases these are. */
static const struct {
    const char *text;
    size_t size;         /* 0: up to the NUL */
    const char *written; /* NULL: refused */
    const char *says;    /* of a refusal; NULL otherwise */
} cases[] = {
    /* values alone */
    {"null", 0, "null", NULL},
    {"true", 0, "true", NULL},
    {" \t\r\n false \n", 0, "false", NULL},
    {"42", 0, "42", NULL},
    {"\"\"", 0, "\"\"", NULL},
    {"[]", 0, "[]", NULL},
    {"{}", 0, "{}", NULL},
    {"", 0, NULL, "byte 0: the text ends where a value is wanted"},
    {" ", 0, NULL, "byte 1: the text ends where a value is wanted"},
    {"\xef\xbb\xbf{}", 0, NULL, "byte 0: a value is wanted"},
    {"\f1", 0, NULL, "byte 0: a value is wanted"},
    {"\0", 1, NULL, "byte 0: a value is wanted"},
    {"1\0", 2, NULL, "byte 1: the end of the text is wanted"},
    {"nul", 0, NULL, "byte 3: the text ends where true, false or null is wanted"},
    {"nulll", 0, NULL, "byte 4: the end of the text is wanted"},
    {"True", 0, NULL, "byte 0: a value is wanted"},
    {"trUe", 0, NULL, "byte 2: true, false or null is wanted"},
    {"NaN", 0, NULL, "byte 0: a value is wanted"},
    {"Infinity", 0, NULL, "byte 0"},
    {"1 2", 0, NULL, "byte 2: the end of the text is wanted"},
    {"{}}", 0, NULL, "byte 2: the end of the text is wanted"},
    {"// x\n1", 0, NULL, "byte 0"},
    {"/* x */1", 0, NULL, "byte 0"},
    /* arrays */
    {"[1,[],{},null]", 0, "[1,[],{},null]", NULL},
    {" [ 1 , 2 ] ", 0, "[1,2]", NULL},
    {"[", 0, NULL, "byte 1: the text ends where a value or ']' is wanted"},
    {"[1", 0, NULL, "byte 2: the text ends where a comma or ']' is wanted"},
    {"[1,", 0, NULL, "byte 3: the text ends where a value is wanted"},
    {"[1,]", 0, NULL, "byte 3: a value is wanted"},
    {"[,1]", 0, NULL, "byte 1: a value or ']' is wanted"},
    {"[1,,2]", 0, NULL, "byte 3: a value is wanted"},
    {"[1 2]", 0, NULL, "byte 3: a comma or ']' is wanted"},
    {"[1}", 0, NULL, "byte 2: a comma or ']' is wanted"},
    {"[}", 0, NULL, "byte 1: a value or ']' is wanted"},
    {"]", 0, NULL, "byte 0: a value is wanted"},
    {"[1:2]", 0, NULL, "byte 2: a comma or ']' is wanted"},
    /* objects */
    {"{\"a\":1,\"b\":{\"a\":[{\"a\":2}]}}", 0, "{\"a\":1,\"b\":{\"a\":[{\"a\":2}]}}", NULL},
    {"{ \"a\" : 1 , \"\" : 2 }", 0, "{\"a\":1,\"\":2}", NULL},
    {"{", 0, NULL, "byte 1: the text ends where a key in quotes or '}' is wanted"},
    {"{\"a\"", 0, NULL, "byte 4: the text ends where ':' is wanted"},
    {"{\"a\":", 0, NULL, "byte 5: the text ends where a value is wanted"},
    {"{\"a\":1", 0, NULL, "byte 6: the text ends where a comma or '}' is wanted"},
    {"{\"a\":1,", 0, NULL, "byte 7: the text ends where a key in quotes is wanted"},
    {"{\"a\":1,}", 0, NULL, "byte 7: a key in quotes is wanted"},
    {"{\"a\" 1}", 0, NULL, "byte 5: ':' is wanted"},
    {"{\"a\",1}", 0, NULL, "byte 4: ':' is wanted"},
    {"{\"a\":1 \"b\":2}", 0, NULL, "byte 7: a comma or '}' is wanted"},
    {"{\"a\":1]", 0, NULL, "byte 6: a comma or '}' is wanted"},
    {"{a:1}", 0, NULL, "byte 1: a key in quotes or '}' is wanted"},
    {"{'a':1}", 0, NULL, "byte 1: a key in quotes or '}' is wanted"},
    {"{1:1}", 0, NULL, "byte 1: a key in quotes or '}' is wanted"},
    {"{\"a\":1,,}", 0, NULL, "byte 7: a key in quotes is wanted"},
    {"{\"a\"::1}", 0, NULL, "byte 5: a value is wanted"},
    {"{\"a\":}", 0, NULL, "byte 5: a value is wanted"},
    /* numbers */
    {"[0,-0,10,-1,0.5,1.25e10,1E+2,1e-2,0e0,0.0E-0]", 0,
     "[0,-0,10,-1,0.5,1.25e10,1E+2,1e-2,0e0,0.0E-0]", NULL},
    {"-", 0, NULL, "byte 1: the text ends where a digit is wanted"},
    {"[-]", 0, NULL, "byte 2: a digit is wanted"},
    {"[+1]", 0, NULL, "byte 1: a value or ']' is wanted"},
    {"[.5]", 0, NULL, "byte 1: a value or ']' is wanted"},
    {"[1.]", 0, NULL, "byte 3: a digit is wanted"},
    {"1.", 0, NULL, "byte 2: the text ends where a digit is wanted"},
    {"[1.e1]", 0, NULL, "byte 3: a digit is wanted"},
    {"[01]", 0, NULL, "byte 2: a comma or ']' is wanted"},
    {"[-01]", 0, NULL, "byte 3: a comma or ']' is wanted"},
    {"[00]", 0, NULL, "byte 2: a comma or ']' is wanted"},
    {"[1e]", 0, NULL, "byte 3: a digit or a sign is wanted"},
    {"[1e+]", 0, NULL, "byte 4: a digit is wanted"},
    {"1e", 0, NULL, "byte 2: the text ends where a digit or a sign is wanted"},
    {"[1e1.5]", 0, NULL, "byte 4: a comma or ']' is wanted"},
    {"[1ee1]", 0, NULL, "byte 3: a digit or a sign is wanted"},
    {"[1.2.3]", 0, NULL, "byte 4: a comma or ']' is wanted"},
    {"[0x1]", 0, NULL, "byte 2: a comma or ']' is wanted"},
    {"[--1]", 0, NULL, "byte 2: a digit is wanted"},
    {"[-Infinity]", 0, NULL, "byte 2: a digit is wanted"},
    {"[1e5-]", 0, NULL, "byte 4: a comma or ']' is wanted"},
    {"[1a]", 0, NULL, "byte 2: a comma or ']' is wanted"},
    {"[\xef\xbc\x91]", 0, NULL, "byte 1: a value or ']' is wanted"}, /* a fullwidth digit */
    /* strings */
    {"\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", 0, "\"\\\"\\\\/\\b\\f\\n\\r\\t\"", NULL},
    {"\"\\u0041\\u00e9\\u20ac\\uD83D\\uDE00\"", 0, "\"A\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\"",
     NULL},
    {"\"\\u0000\\u001f\\u007f\"", 0, "\"\\u0000\\u001f\x7f\"", NULL},
    {"\"\\uDBFF\\uDFFF\\uffff\"", 0, "\"\xf4\x8f\xbf\xbf\xef\xbf\xbf\"", NULL},
    {"\"\xc2\x80 \xdf\xbf \xe0\xa0\x80 \xed\x9f\xbf \xee\x80\x80 \xf0\x90\x80\x80 "
     "\xf4\x8f\xbf\xbf\"",
     0,
     "\"\xc2\x80 \xdf\xbf \xe0\xa0\x80 \xed\x9f\xbf \xee\x80\x80 \xf0\x90\x80\x80 "
     "\xf4\x8f\xbf\xbf\"",
     NULL},
    {"\"", 0, NULL, "byte 1: the text ends where the quote that ends a string is wanted"},
    {"'a'", 0, NULL, "byte 0: a value is wanted"},
    {"\"a\nb\"", 0, NULL,
     "byte 2: within a string, the control character 0x0a must be written as \\u000a"},
    {"\"a\0b\"", 5, NULL, "byte 2: within a string, the control character 0x00"},
    {"\"\x1f\"", 0, NULL, "byte 1: within a string, the control character 0x1f"},
    {"\"\\a\"", 0, NULL, "byte 2: one of \"\\/bfnrtu after a backslash is wanted"},
    {"\"\\\0\"", 4, NULL, "byte 2: one of"},
    {"\"\\x41\"", 0, NULL, "byte 2: one of"},
    {"\"\\", 0, NULL, "byte 2: the text ends where one of"},
    {"\"\\\"", 0, NULL, "byte 3: the text ends where the quote"},
    {"\"\\u", 0, NULL, "byte 3: the text ends where a hexadecimal digit is wanted"},
    {"\"\\u00g0\"", 0, NULL, "byte 5: a hexadecimal digit is wanted"},
    {"\"\\u00\"", 0, NULL, "byte 5: a hexadecimal digit is wanted"},
    {"\"\\U0041\"", 0, NULL, "byte 2: one of"},
    {"\"\\ud83d\"", 0, NULL, "byte 7: the second half of a surrogate pair is wanted"},
    {"\"\\ud83dx\"", 0, NULL, "byte 7: the second half of a surrogate pair is wanted"},
    {"\"\\ud83d\\n\"", 0, NULL, "byte 8: the second half of a surrogate pair is wanted"},
    {"\"\\ud83d\\u0041\"", 0, NULL, "byte 12: \\ud83d: surrogates come in pairs"},
    {"\"\\ud83d\\ud83d\"", 0, NULL, "byte 12: \\ud83d: surrogates come in pairs"},
    {"\"\\ude00\"", 0, NULL, "byte 6: \\ude00: surrogates come in pairs"},
    {"\"\\ude00\\ud83d\"", 0, NULL, "byte 6: \\ude00: surrogates come in pairs"},
    {"\"\\ud83d", 0, NULL, "byte 7: the text ends where the second half"},
    /* UTF-8 */
    {"\"\x80\"", 0, NULL, "byte 1: valid UTF-8 is wanted"},
    {"\"\xc3\"", 0, NULL, "byte 2: valid UTF-8 is wanted"},
    {"\"\xc3", 0, NULL, "byte 2: the text ends where valid UTF-8 is wanted"},
    {"\"\xc0\xaf\"", 0, NULL, "byte 1: valid UTF-8 is wanted"},
    {"\"\xc1\xbf\"", 0, NULL, "byte 1: valid UTF-8 is wanted"},
    {"\"\xe0\x9f\xbf\"", 0, NULL, "byte 2: valid UTF-8 is wanted"},
    {"\"\xed\xa0\x80\"", 0, NULL, "byte 2: valid UTF-8 is wanted"},
    {"\"\xf0\x8f\xbf\xbf\"", 0, NULL, "byte 2: valid UTF-8 is wanted"},
    {"\"\xf4\x90\x80\x80\"", 0, NULL, "byte 2: valid UTF-8 is wanted"},
    {"\"\xf5\x80\x80\x80\"", 0, NULL, "byte 1: valid UTF-8 is wanted"},
    {"\"\xe2\x82\"", 0, NULL, "byte 3: valid UTF-8 is wanted"},
    {"\"\xe2\x82x\"", 0, NULL, "byte 3: valid UTF-8 is wanted"},
    {"\"\xff\"", 0, NULL, "byte 1: valid UTF-8 is wanted"},
    {"[\xc3\xa9]", 0, NULL, "byte 1: a value or ']' is wanted"},
    /* a key twice */
    {"{\"a\":1,\"a\":1}", 0, NULL, "byte 9: the key 'a' comes twice in its object"},
    {"{\"a\":1,\"\\u0061\":1}", 0, NULL, "byte 14: the key 'a' comes twice in its object"},
    {"{\"\":1,\"\":1}", 0, NULL, "byte 7: the key '' comes twice in its object"},
    {"{\"a\":{\"b\":1,\"c\":{},\"b\":1}}", 0, NULL, "byte 21: the key 'b' comes twice"},
    {"{\"a\xc3\xa9'\\n\":1,\"a\xc3\xa9'\\n\":1}", 0, NULL, "comes twice in its object"},
    {"{\"a\":1,\"a\\u0000\":1,\"A\":1,\"a \":1}", 0, "{\"a\":1,\"a\\u0000\":1,\"A\":1,\"a \":1}",
     NULL},
    {"[{\"a\":1},{\"a\":1}]", 0, "[{\"a\":1},{\"a\":1}]", NULL},
};

enum { N_CASES = sizeof cases / sizeof *cases };

static size_t case_size(size_t i)
{
    return cases[i].size ? cases[i].size : strlen(cases[i].text);
}

static void check_case(size_t i, int rc)
{
    char written[256];
    struct tsr_out out;
    if (!cases[i].written) {
        if (rc != -EINVAL || err.code != rc || !strstr(err.text, cases[i].says)) {
            fail_msg("case %zu, %s: %d, %s", i, cases[i].text, rc, err.text);
        }
        assert_null(tsr_json_root(json));
        return;
    }
    if (rc < 0) {
        fail_msg("case %zu, %s: %s", i, cases[i].text, err.text);
    }
    tsr_out_init(&out, written, sizeof written);
    tsr_json_write(json, tsr_json_root(json), &out);
    tsr_out_bytes(&out, "", 1);
    assert_false(out.full);
    assert_string_equal(written, cases[i].written);
}

static void test_json_cases(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_CASES; i++) {
        check_case(i, read_cut(cases[i].text, case_size(i), NULL, 0));
    }
}

static void test_json_is_the_same_for_every_cut(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_CASES; i++) {
        size_t size = case_size(i), every[128];
        for (size_t at = 0; at <= size; at++) {
            check_case(i, read_cut(cases[i].text, size, &at, 1));
            every[at] = at;
        }
        check_case(i, read_cut(cases[i].text, size, every, size));
    }
}

static void test_json_limits_are_checked(void **state)
{
    (void)state;
    static const struct tsr_json_limits refused[] = {
        {.bytes_max = 0},
        {.bytes_max = (size_t)INT32_MAX + 1},
        {.bytes_max = 1, .depth_max = 1025},
        {.bytes_max = 1, .values_max = (1 << 28) + 1},
    };
    struct tsr_json *none;
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        assert_int_equal(tsr_json_create(&none, &refused[i], &err), -EINVAL);
        assert_null(none);
    }
    tsr_json_destroy(NULL);
}

static void test_json_refuses_what_is_beyond_a_limit(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int rc;
        const char *says;
    } rows[] = {
        {"[[{}]]", 0, NULL},
        {"[[[[", -E2BIG, "byte 3: nested more than 3 deep"},
        {"[[[],[[]]]]", -E2BIG, "byte 6: nested more than 3 deep"},
        {"[1,2,3,4]", 0, NULL},
        {"[1,2,3,4,5]", -E2BIG, "byte 9: more than 5 values and keys"},
        {"{\"a\":1,\"b\":2}", 0, NULL},
        {"{\"a\":1,\"b\":{},\"c", -E2BIG, "byte 14: more than 5 values and keys"},
        {"\"123456789012345678\"", 0, NULL},
        {"\"1234567890123456789\"", -E2BIG, "the JSON is longer than 20 bytes"},
        {"1                    ", -E2BIG, "the JSON is longer than 20 bytes"},
        {"\"1234567\xff"
         "901234567890",
         -EINVAL, "byte 8: valid UTF-8"},
    };
    struct tsr_json *usual = json;
    static const struct tsr_json_limits small = {.depth_max = 3, .values_max = 5, .bytes_max = 20};
    assert_int_equal(tsr_json_create(&json, &small, NULL), 0);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        for (size_t at = 0; at <= strlen(rows[i].text); at++) {
            int rc = read_cut(rows[i].text, strlen(rows[i].text), &at, 1);
            if (rc != rows[i].rc || (rows[i].says && strcmp(err.text, rows[i].says) != 0 &&
                                     !strstr(err.text, rows[i].says))) {
                fail_msg("%s, cut at %zu: %d, %s", rows[i].text, at, rc, err.text);
            }
        }
    }
    tsr_json_destroy(json);
    json = usual;
}

static void test_json_stays_in_its_error_until_reset(void **state)
{
    (void)state;
    tsr_json_reset(json);
    assert_int_equal(tsr_json_feed(json, "[}", 2, &err), -EINVAL);
    assert_int_equal(tsr_json_feed(json, "]", 1, NULL), -EINVAL);
    memset(&err, 0, sizeof err);
    assert_int_equal(tsr_json_end(json, &err), -EINVAL);
    assert_string_equal(err.text, "byte 1: a value or ']' is wanted");
    assert_int_equal(read_whole("[]"), 0);
}

static void test_json_nests_as_deep_as_allowed(void **state)
{
    (void)state;
    char text[2 * 64 + 2];
    memset(text, '[', 64);
    memset(text + 64, ']', 64);
    assert_int_equal(read_cut(text, 128, NULL, 0), 0);
    const struct tsr_json_value *v = tsr_json_root(json);
    for (int i = 1; i < 64; i++) {
        assert_int_equal(tsr_json_count(v), 1);
        v = tsr_json_first(json, v);
    }
    assert_int_equal(tsr_json_count(v), 0);
    memset(text, '[', sizeof text);
    assert_int_equal(read_cut(text, sizeof text, NULL, 0), -E2BIG);
}

static void test_json_document_is_walked(void **state)
{
    (void)state;
    size_t size;
    assert_int_equal(
        read_whole("{\"model\":\"m\",\"n\":2,\"stop\":[\"a\\u0000b\",null,true],\"o\":{"
                   "\"n\":3},\"e\":{}}"),
        0);
    const struct tsr_json_value *root = tsr_json_root(json), *v;
    assert_int_equal(tsr_json_type_of(root), TSR_JSON_OBJECT);
    assert_int_equal(tsr_json_count(root), 5);
    assert_null(tsr_json_key(json, root, &size));
    assert_null(tsr_json_next(json, root));

    static const char *const keys[] = {"model", "n", "stop", "o", "e"};
    static const char *const types[] = {"string", "number", "array", "object", "object"};
    v = tsr_json_first(json, root);
    for (int i = 0; i < 5; i++, v = tsr_json_next(json, v)) {
        assert_string_equal(tsr_json_key(json, v, &size), keys[i]);
        assert_int_equal(size, strlen(keys[i]));
        assert_ptr_equal(v, tsr_json_get(json, root, keys[i]));
        assert_string_equal(tsr_json_type_name(v), types[i]);
    }
    assert_null(v);
    assert_null(tsr_json_get(json, root, "a"));
    assert_null(tsr_json_get(json, root, ""));
    assert_null(tsr_json_first(json, tsr_json_get(json, root, "e")));
    assert_null(tsr_json_first(json, tsr_json_get(json, root, "n")));
    assert_null(tsr_json_get(json, tsr_json_get(json, root, "stop"), "n"));

    v = tsr_json_get(json, tsr_json_get(json, root, "o"), "n");
    assert_string_equal(tsr_json_text(json, v, &size), "3");
    v = tsr_json_first(json, tsr_json_get(json, root, "stop"));
    assert_null(tsr_json_key(json, v, &size));
    assert_memory_equal(tsr_json_text(json, v, &size), "a\0b", 4);
    assert_int_equal(size, 3);
    v = tsr_json_next(json, v);
    assert_int_equal(tsr_json_type_of(v), TSR_JSON_NULL);
    v = tsr_json_next(json, v);
    assert_string_equal(tsr_json_type_name(v), "boolean");
    assert_null(tsr_json_next(json, v));
}

static void test_json_numbers(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        double number;
        bool is_integer;
        int64_t integer;
    } rows[] = {
        {"0", 0, true, 0},
        {"-0", -0.0, true, 0},
        {"-0.0e-99999999999999999999", -0.0, true, 0},
        {"0e99999999999999999999", 0, true, 0},
        {"7", 7, true, 7},
        {"-7", -7, true, -7},
        {"1e2", 100, true, 100},
        {"3.0", 3, true, 3},
        {"3.50", 3.5, false, 0},
        {"350e-1", 35, true, 35},
        {"355e-1", 35.5, false, 0},
        {"0.00012e5", 12, true, 12},
        {"0.00012e4", 1.2, false, 0},
        {"1200000000000000000000000e-22", 120, true, 120},
        {"9223372036854775807", 9223372036854775807.0, true, INT64_MAX},
        {"9223372036854775808", 9223372036854775808.0, false, 0},
        {"-9223372036854775808", -9223372036854775808.0, true, INT64_MIN},
        {"-9223372036854775809", -9223372036854775809.0, false, 0},
        {"9223372036854775807.0000000000000000000000", 9223372036854775807.0, true, INT64_MAX},
        {"9.223372036854775807e18", 9223372036854775807.0, true, INT64_MAX},
        {"18446744073709551616", 18446744073709551616.0, false, 0},
        {"1e19", 1e19, false, 0},
        {"-1e18", -1e18, true, -1000000000000000000},
        {"9007199254740993", 9007199254740992.0, true, 9007199254740993},
        {"0.1", 0.1, false, 0},
        {"1e400", HUGE_VAL, false, 0},
        {"-1e400", -HUGE_VAL, false, 0},
        {"1e-400", 0, false, 0},
        {"1e99999999999999999999", HUGE_VAL, false, 0},
        {"1e-99999999999999999999", 0, false, 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        int64_t integer = 0;
        size_t size;
        assert_int_equal(read_whole(rows[i].text), 0);
        const struct tsr_json_value *v = tsr_json_root(json);
        assert_string_equal(tsr_json_text(json, v, &size), rows[i].text);
        double number = tsr_json_number(json, v);
        if (memcmp(&number, &rows[i].number, sizeof number) != 0 ||
            tsr_json_integer(json, v, &integer) != rows[i].is_integer ||
            integer != rows[i].integer) {
            fail_msg("%s: %g, %lld", rows[i].text, number, (long long)integer);
        }
    }
}

static void test_json_reads_a_number_of_a_megabyte(void **state)
{
    (void)state;
    enum { SIZE = 1 << 20 };
    char *text = malloc(SIZE);
    int64_t integer;
    assert_non_null(text);
    memset(text, '9', SIZE);
    text[1] = '.';
    assert_int_equal(read_cut(text, SIZE, NULL, 0), 0);
    assert_true(tsr_json_number(json, tsr_json_root(json)) == 10.0);
    assert_false(tsr_json_integer(json, tsr_json_root(json), &integer));
    memset(text + 1, '0', SIZE - 1);
    assert_int_equal(read_cut(text, SIZE, NULL, 0), 0);
    assert_false(tsr_json_integer(json, tsr_json_root(json), &integer));
    free(text);
}

/* 100,000 keys in one object, and the same ones again in many. */
static void test_json_many_keys_are_found(void **state)
{
    (void)state;
    enum { N = 100000 };
    struct tsr_out out;
    tsr_out_init_growing(&out, 1 << 22);
    tsr_out_text(&out, "{\"k0\":0");
    for (int i = 1; i < N; i++) {
        tsr_out_format(&out, ",\"k%d\":%d", i, i);
    }
    size_t keys = out.size;
    tsr_out_text(&out, "}");
    assert_false(out.full);
    assert_int_equal(read_cut(out.bytes, out.size, NULL, 0), 0);
    for (int i = 0; i < N; i += 77) {
        char key[16];
        int64_t integer;
        snprintf(key, sizeof key, "k%d", i);
        assert_true(tsr_json_integer(json, tsr_json_get(json, tsr_json_root(json), key), &integer));
        assert_int_equal(integer, i);
    }
    assert_true(tsr_json_held(json) <= 18 * out.size + (32 << 10));

    out.size = keys;
    tsr_out_text(&out, ",\"k77777\":0}");
    assert_int_equal(read_cut(out.bytes, out.size, NULL, 0), -EINVAL);
    assert_non_null(strstr(err.text, "the key 'k77777' comes twice in its object"));
    tsr_out_fini(&out);
}

static void test_json_memory_stays_within_its_bound(void **state)
{
    (void)state;
    static const char *const units[] = {
        "1,", "[],", "{\"\":1},", "\"a\",", "{\"a\":[1,2]},", "\"\\u00e9\xc3\xa9\",", "123456789,"};
    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        struct tsr_out out;
        tsr_out_init_growing(&out, 1 << 20);
        tsr_out_text(&out, "[");
        for (int k = 0; k < 40000; k++) {
            tsr_out_text(&out, units[i]);
        }
        tsr_out_text(&out, "0]");
        assert_false(out.full);
        assert_int_equal(read_cut(out.bytes, out.size, NULL, 0), 0);
        if (tsr_json_held(json) > 18 * out.size + (32 << 10)) {
            fail_msg("%s: %zu bytes for %zu", units[i], tsr_json_held(json), out.size);
        }
        tsr_out_fini(&out);
    }
    tsr_json_reset(json);
    assert_true(tsr_json_held(json) <= 256 << 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_json_cases),
        cmocka_unit_test(test_json_is_the_same_for_every_cut),
        cmocka_unit_test(test_json_limits_are_checked),
        cmocka_unit_test(test_json_refuses_what_is_beyond_a_limit),
        cmocka_unit_test(test_json_stays_in_its_error_until_reset),
        cmocka_unit_test(test_json_nests_as_deep_as_allowed),
        cmocka_unit_test(test_json_document_is_walked),
        cmocka_unit_test(test_json_numbers),
        cmocka_unit_test(test_json_reads_a_number_of_a_megabyte),
        cmocka_unit_test(test_json_many_keys_are_found),
        cmocka_unit_test(test_json_memory_stays_within_its_bound),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
