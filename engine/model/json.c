#include "json_priv.h"

#include <errno.h>
#include <stdbool.h>

/* Counts values and nesting as a valid text has them; of an invalid one it gives some bound, and
 * jansson refuses. */
static int scan(const char *text, size_t size, size_t values_max, struct tsr_err *err)
{
    size_t values = 1, depth = 0;
    bool quoted = false;
    for (size_t i = 0; i < size; i++) {
        char c = text[i];
        if (quoted) {
            if (c == '\\') {
                i++;
            } else if (c == '"') {
                quoted = false;
            }
        } else if (c == '"') {
            quoted = true;
        } else if (c == '{' || c == '[') {
            values++;
            depth++;
        } else if (c == ',') {
            values++;
        } else if ((c == '}' || c == ']') && depth > 0) {
            depth--;
        }
        if (depth > TSR_JSON_DEPTH_MAX) {
            return tsr_err_set(err, -E2BIG, "byte %zu: the JSON is nested more than %d deep", i,
                               TSR_JSON_DEPTH_MAX);
        }
        if (values > values_max) {
            return tsr_err_set(err, -E2BIG, "byte %zu: the JSON holds more than %zu values", i,
                               values_max);
        }
    }
    return 0;
}

static int parse(json_t **value, json_type type, const char *text, size_t size, size_t values_max,
                 struct tsr_err *err)
{
    int rc = scan(text, size, values_max, err);
    if (rc < 0) {
        return rc;
    }
    json_error_t why;
    json_t *json = json_loadb(text, size, JSON_REJECT_DUPLICATES, &why);
    if (!json) {
        /* jansson quotes the text, which may hold anything. */
        for (char *c = why.text; *c; c++) {
            if (*c < 0x20 || *c > 0x7e) {
                *c = '?';
            }
        }
        bool memory = json_error_code(&why) == json_error_out_of_memory;
        return tsr_err_set(err, memory ? -ENOMEM : -EINVAL, "JSON, line %d, column %d: %s",
                           why.line, why.column, why.text);
    }
    if (json_typeof(json) != type) {
        json_decref(json);
        return tsr_err_set(err, -EINVAL, "the JSON is not an %s",
                           type == JSON_OBJECT ? "object" : "array");
    }
    *value = json;
    return 0;
}

int tsr_json_object(json_t **object, const char *text, size_t size, size_t values_max,
                    struct tsr_err *err)
{
    return parse(object, JSON_OBJECT, text, size, values_max, err);
}

int tsr_json_array(json_t **array, const char *text, size_t size, size_t values_max,
                   struct tsr_err *err)
{
    return parse(array, JSON_ARRAY, text, size, values_max, err);
}
