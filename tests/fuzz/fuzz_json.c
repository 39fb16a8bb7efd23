/* A JSON text against jansson: the same texts are accepted and the same values seen in them. In
 * pieces it reads as at once, with the same error; what is written of it reads as the same again.
 *
 * Where the two may differ: ours has a limit on depth and values; jansson refuses numbers that
 * neither int64 nor double can hold, and keys with a NUL, and overlooks a NUL behind a number. */
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include <tsr/api/json.h>
#include <tsr/api/out.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct tsr_json *whole, *pieces, *again;

static void check(bool right)
{
    if (!right) {
        abort();
    }
}

static void create(void)
{
    static const struct tsr_json_limits limits = {.values_max = 1 << 16, .bytes_max = 1 << 24};
    check(tsr_json_create(&whole, &limits, NULL) == 0);
    check(tsr_json_create(&pieces, &limits, NULL) == 0);
    check(tsr_json_create(&again, &limits, NULL) == 0);
}

static int read_whole(struct tsr_json *json, const void *text, size_t size, struct tsr_err *err)
{
    tsr_json_reset(json);
    tsr_json_feed(json, text, size, err);
    return tsr_json_end(json, err);
}

/* Pieces of 0 .. 7 bytes, as the text itself says. */
static int read_pieces(struct tsr_json *json, const uint8_t *text, size_t size, struct tsr_err *err)
{
    tsr_json_reset(json);
    for (size_t from = 0, i = 0; from < size; i++) {
        size_t n = (text[from] + i) % 8;
        n = n < size - from ? n : size - from;
        uint8_t *exact = malloc(n ? n : 1); /* a sanitizer sees what is read beyond a piece */
        check(exact);
        memcpy(exact, text + from, n);
        tsr_json_feed(json, exact, n, err);
        free(exact);
        from += n;
    }
    return tsr_json_end(json, err);
}

static void check_number(const struct tsr_json *json, const struct tsr_json_value *v,
                         const json_t *oracle)
{
    int64_t integer;
    if (json_is_integer(oracle)) {
        check(tsr_json_integer(json, v, &integer) && integer == json_integer_value(oracle));
    } else {
        double number = tsr_json_number(json, v);
        check(json_is_real(oracle) && number == json_real_value(oracle));
        check(!tsr_json_integer(json, v, &integer) || (double)integer == number);
    }
}

static void check_same(const struct tsr_json *json, const struct tsr_json_value *v, json_t *oracle)
{
    static const json_type types[] = {JSON_NULL,   JSON_FALSE, JSON_TRUE,  JSON_INTEGER,
                                      JSON_STRING, JSON_ARRAY, JSON_OBJECT};
    size_t size, i = 0;
    if (tsr_json_type_of(v) == TSR_JSON_NUMBER) {
        check_number(json, v, oracle);
        return;
    }
    check(json_typeof(oracle) == types[tsr_json_type_of(v)]);
    if (json_is_string(oracle)) {
        const char *text = tsr_json_text(json, v, &size);
        check(size == json_string_length(oracle) &&
              memcmp(text, json_string_value(oracle), size + 1) == 0);
    } else if (json_is_array(oracle)) {
        check(tsr_json_count(v) == json_array_size(oracle));
    } else if (json_is_object(oracle)) {
        check(tsr_json_count(v) == json_object_size(oracle));
    }
    for (const struct tsr_json_value *e = tsr_json_first(json, v); e; e = tsr_json_next(json, e)) {
        const char *key = tsr_json_key(json, e, &size);
        json_t *other = key ? json_object_get(oracle, key) : json_array_get(oracle, i++);
        check(other && (!key || tsr_json_get(json, v, key) == e));
        check_same(json, e, other);
    }
}

static void check_written(const struct tsr_json *json)
{
    struct tsr_out first, second;
    tsr_out_init_growing(&first, 1 << 26);
    tsr_out_init_growing(&second, 1 << 26);
    tsr_json_write(json, tsr_json_root(json), &first);
    check(!first.full && read_whole(again, first.bytes, first.size, NULL) == 0);
    tsr_json_write(again, tsr_json_root(again), &second);
    check(first.size == second.size && memcmp(first.bytes, second.bytes, first.size) == 0);
    tsr_out_fini(&first);
    tsr_out_fini(&second);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct tsr_err err = {0}, err_pieces = {0};
    json_error_t why;
    if (!whole) {
        create();
    }
    int rc = read_whole(whole, data, size, &err);
    check(read_pieces(pieces, data, size, &err_pieces) == rc);
    check(rc == err.code && rc == err_pieces.code && strcmp(err.text, err_pieces.text) == 0);
    check((rc == 0) == (tsr_json_root(whole) != NULL));
    if (rc == -E2BIG) {
        return 0;
    }
    if (size && memchr(data, 0, size)) {
        check(rc < 0);
        return 0;
    }
    json_t *oracle = json_loadb((const char *)data, size,
                                JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | JSON_ALLOW_NUL, &why);
    if (!oracle) {
        check(rc < 0 || json_error_code(&why) == json_error_numeric_overflow ||
              json_error_code(&why) == json_error_null_byte_in_key);
    } else {
        check(rc == 0);
        check_same(whole, tsr_json_root(whole), oracle);
        json_decref(oracle);
    }
    if (rc == 0) {
        check_written(whole);
    }
    return 0;
}
