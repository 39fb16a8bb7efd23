/* JSON (RFC 8259) that comes: read as its bytes come, checked, bounded, and kept as a flat
 * document.
 *
 * Strict: no comments, no trailing commas, one value and nothing behind it, UTF-8 throughout
 * (no overlong forms, no surrogates, no byte order mark; \ud83d\ude00 pairs are joined, lone ones
 * refused), a key at most once in its object. Depth, bytes and number of values are bounded. After
 * an error the reader stays in it until tsr_json_reset(). Used by one thread. */
#ifndef TSR_API_JSON_H
#define TSR_API_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <tsr/shm/err.h>

struct tsr_json;
struct tsr_json_value; /* within a document; lives until tsr_json_reset() */

enum tsr_json_type {
    TSR_JSON_NULL,
    TSR_JSON_FALSE,
    TSR_JSON_TRUE,
    TSR_JSON_NUMBER,
    TSR_JSON_STRING,
    TSR_JSON_ARRAY,
    TSR_JSON_OBJECT,
};

struct tsr_json_limits {
    uint32_t depth_max;  /* arrays and objects within each other, up to 1024 [64] */
    uint32_t values_max; /* values and keys, up to 2^28 [2^18] */
    size_t bytes_max;    /* of the text, 1 .. 2^31 - 1 */
};

/* 0 stands for a limit in brackets. Memory grows with the text, by a constant factor that json.c
 * states, and is kept for the next document up to a bound. -EINVAL a limit; -ENOMEM; -EIO: no
 * random bytes for the hash of keys. */
int tsr_json_create(struct tsr_json **json, const struct tsr_json_limits *limits,
                    struct tsr_err *err);
void tsr_json_destroy(struct tsr_json *json);
void tsr_json_reset(struct tsr_json *json);

/* The next bytes; the end of the text. 0; -EINVAL with what is wrong at which byte, counted from 0
 * ("byte 17: a comma or '}' is wanted"); -E2BIG a limit; -ENOMEM. How the text is cut into pieces
 * makes no difference. */
int tsr_json_feed(struct tsr_json *json, const void *bytes, size_t size, struct tsr_err *err);
int tsr_json_end(struct tsr_json *json, struct tsr_err *err);

/* Bytes of memory that it holds. */
size_t tsr_json_held(const struct tsr_json *json);

/* ---- The document, after tsr_json_end() ---- */

/* NULL where there is none. */
const struct tsr_json_value *tsr_json_root(const struct tsr_json *json);
enum tsr_json_type tsr_json_type_of(const struct tsr_json_value *value);

/* "null", "boolean", "number", "string", "array", "object": for sentences. */
const char *tsr_json_type_name(const struct tsr_json_value *value);

/* Of an object: the value of a key, or NULL. */
const struct tsr_json_value *tsr_json_get(const struct tsr_json *json,
                                          const struct tsr_json_value *object, const char *key);

/* Elements of an array, or values of an object: the first, the next, NULL at the end. The key of a
 * value within its object (decoded; NULL elsewhere). */
uint32_t tsr_json_count(const struct tsr_json_value *value);
const struct tsr_json_value *tsr_json_first(const struct tsr_json *json,
                                            const struct tsr_json_value *parent);
const struct tsr_json_value *tsr_json_next(const struct tsr_json *json,
                                           const struct tsr_json_value *value);
const char *tsr_json_key(const struct tsr_json *json, const struct tsr_json_value *value,
                         size_t *size);

/* Of a string: its decoded UTF-8 (may hold NUL bytes; also NUL-terminated). Of a number: its text
 * as it came. */
const char *tsr_json_text(const struct tsr_json *json, const struct tsr_json_value *value,
                          size_t *size);

/* Of a number: the nearest double, +-HUGE_VAL beyond their range (the C locale is expected); and
 * exactly, where its value is integral ("1e2" and "3.0" are) and within int64. */
double tsr_json_number(const struct tsr_json *json, const struct tsr_json_value *value);
bool tsr_json_integer(const struct tsr_json *json, const struct tsr_json_value *value,
                      int64_t *out);

struct tsr_out;

/* Writes a value again as JSON without spaces; numbers as they came, keys in their order. */
void tsr_json_write(const struct tsr_json *json, const struct tsr_json_value *value,
                    struct tsr_out *out);

#endif
