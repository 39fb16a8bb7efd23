#include "json_priv.h"

#include <stdlib.h>
#include <string.h>

#include <tsr/api/out.h>

const struct tsr_json_value *tsr_json_root(const struct tsr_json *json)
{
    return json->state == WANT_NOTHING && !json->err.code ? json->values : NULL;
}

enum tsr_json_type tsr_json_type_of(const struct tsr_json_value *value)
{
    return (enum tsr_json_type)value->type;
}

const char *tsr_json_type_name(const struct tsr_json_value *value)
{
    static const char *const names[] = {
        [TSR_JSON_NULL] = "null",     [TSR_JSON_FALSE] = "boolean", [TSR_JSON_TRUE] = "boolean",
        [TSR_JSON_NUMBER] = "number", [TSR_JSON_STRING] = "string", [TSR_JSON_ARRAY] = "array",
        [TSR_JSON_OBJECT] = "object",
    };
    return names[value->type];
}

const struct tsr_json_value *tsr_json_get(const struct tsr_json *json,
                                          const struct tsr_json_value *object, const char *key)
{
    uint32_t node = tsr_json_find_key(json, (uint32_t)(object - json->values), key, strlen(key));
    return node ? &json->values[node + 1] : NULL;
}

static bool is_container(const struct tsr_json_value *value)
{
    return value->type == TSR_JSON_ARRAY || value->type == TSR_JSON_OBJECT;
}

uint32_t tsr_json_count(const struct tsr_json_value *value)
{
    return is_container(value) ? value->size : 0;
}

const struct tsr_json_value *tsr_json_first(const struct tsr_json *json,
                                            const struct tsr_json_value *parent)
{
    (void)json;
    if (!tsr_json_count(parent)) {
        return NULL;
    }
    return parent + (parent->type == TSR_JSON_OBJECT ? 2 : 1); /* of an object: behind its key */
}

const struct tsr_json_value *tsr_json_next(const struct tsr_json *json,
                                           const struct tsr_json_value *value)
{
    return value->next ? &json->values[value->next] : NULL;
}

const char *tsr_json_key(const struct tsr_json *json, const struct tsr_json_value *value,
                         size_t *size)
{
    if (value == json->values || value[-1].type != TSR_JSON_KEY) {
        return NULL;
    }
    *size = value[-1].size;
    return json->bytes + value[-1].off;
}

const char *tsr_json_text(const struct tsr_json *json, const struct tsr_json_value *value,
                          size_t *size)
{
    assert(value->type == TSR_JSON_STRING || value->type == TSR_JSON_NUMBER);
    *size = value->size;
    return json->bytes + value->off;
}

double tsr_json_number(const struct tsr_json *json, const struct tsr_json_value *value)
{
    assert(value->type == TSR_JSON_NUMBER);
    return strtod(json->bytes + value->off, NULL);
}

/* The exponent, if any; beyond 2^40 it makes no difference, as no text is as long. */
static int64_t read_exponent(const char *text)
{
    int64_t exponent = 0;
    bool negative = *text == '-';
    for (text += *text == '-' || *text == '+'; *text; text++) {
        exponent = exponent < (INT64_C(1) << 40) ? 10 * exponent + (*text - '0') : exponent;
    }
    return negative ? -exponent : exponent;
}

/* A number is digits times a power of ten: the first `n` digits up to the last that is not 0, the
 * point left out. */
bool tsr_json_integer(const struct tsr_json *json, const struct tsr_json_value *value, int64_t *out)
{
    assert(value->type == TSR_JSON_NUMBER);
    const char *text = json->bytes + value->off;
    bool negative = *text == '-', point = false;
    uint64_t magnitude = 0, zeros = 0;
    int64_t scale = 0;
    for (text += negative; *text && *text != 'e' && *text != 'E'; text++) {
        if (*text == '.') {
            point = true;
            continue;
        }
        scale -= point;
        zeros++;
        if (*text == '0') {
            continue;
        }
        for (; zeros; zeros--) {
            if (magnitude && __builtin_mul_overflow(magnitude, 10u, &magnitude)) {
                return false;
            }
        }
        if (__builtin_add_overflow(magnitude, (uint64_t)(*text - '0'), &magnitude)) {
            return false;
        }
    }
    scale += (int64_t)zeros + (*text ? read_exponent(text + 1) : 0);
    if (magnitude && scale < 0) {
        return false;
    }
    for (; magnitude && scale > 0; scale--) {
        if (__builtin_mul_overflow(magnitude, 10u, &magnitude)) {
            return false;
        }
    }
    if (magnitude > (uint64_t)INT64_MAX + negative) {
        return false;
    }
    *out = (int64_t)(negative ? 0 - magnitude : magnitude);
    return true;
}

static void write_container(const struct tsr_json *json, const struct tsr_json_value *value,
                            struct tsr_out *out)
{
    bool object = value->type == TSR_JSON_OBJECT;
    const struct tsr_json_value *first = tsr_json_first(json, value);
    tsr_out_text(out, object ? "{" : "[");
    for (const struct tsr_json_value *v = first; v; v = tsr_json_next(json, v)) {
        if (v != first) {
            tsr_out_text(out, ",");
        }
        if (object) {
            size_t size = 0;
            const char *key = tsr_json_key(json, v, &size);
            tsr_out_string(out, key, size);
            tsr_out_text(out, ":");
        }
        tsr_json_write(json, v, out);
    }
    tsr_out_text(out, object ? "}" : "]");
}

void tsr_json_write(const struct tsr_json *json, const struct tsr_json_value *value,
                    struct tsr_out *out)
{
    static const char *const literals[] = {"null", "false", "true"};
    if (is_container(value)) {
        write_container(json, value, out);
    } else if (value->type == TSR_JSON_STRING) {
        tsr_out_string(out, json->bytes + value->off, value->size);
    } else if (value->type == TSR_JSON_NUMBER) {
        tsr_out_bytes(out, json->bytes + value->off, value->size);
    } else {
        tsr_out_text(out, literals[value->type]);
    }
}
