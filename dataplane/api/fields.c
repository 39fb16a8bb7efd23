#include "fields_priv.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void api_fields_root(struct api_fields *fields, const struct tsr_json *json,
                     struct api_problem *problem)
{
    *fields = (struct api_fields){.json = json, .object = tsr_json_root(json), .problem = problem};
    if (tsr_json_type_of(fields->object) != TSR_JSON_OBJECT) {
        api_problem_invalid(problem, NULL, "the body must be a JSON object, not %s %s",
                            tsr_json_type_of(fields->object) == TSR_JSON_ARRAY ? "an" : "a",
                            tsr_json_type_name(fields->object));
    }
}

void api_fields_inner(struct api_fields *inner, const struct api_fields *fields,
                      const struct tsr_json_value *value, const char *format, ...)
{
    *inner = (struct api_fields){.json = fields->json, .object = value, .problem = fields->problem};
    va_list args;
    va_start(args, format);
    (void)vsnprintf(inner->path, sizeof inner->path, format, args);
    va_end(args);
    if (tsr_json_type_of(value) != TSR_JSON_OBJECT) {
        char name[sizeof inner->path];
        size_t size = strlen(inner->path);
        (void)snprintf(name, sizeof name, "%.*s", (int)(size ? size - 1 : 0), inner->path);
        const struct api_fields outer = {.problem = fields->problem};
        api_field_wrong(&outer, name, "an object", value);
    }
}

const struct tsr_json_value *api_field(const struct api_fields *fields, const char *name)
{
    if (fields->problem->status) {
        return NULL;
    }
    const struct tsr_json_value *value = tsr_json_get(fields->json, fields->object, name);
    return value && tsr_json_type_of(value) != TSR_JSON_NULL ? value : NULL;
}

void api_field_wrong(const struct api_fields *fields, const char *name, const char *wanted,
                     const struct tsr_json_value *value)
{
    char param[sizeof fields->problem->param];
    (void)snprintf(param, sizeof param, "%s%s", fields->path, name);
    const char *type = tsr_json_type_name(value);
    api_problem_set(fields->problem, 400, "invalid_request_error", "invalid_type", param,
                    "'%s' must be %s, not %s%s", param, wanted,
                    tsr_json_type_of(value) == TSR_JSON_NULL ? ""
                    : strchr("ao", type[0])                  ? "an "
                                                             : "a ",
                    type);
}

static void out_of_range(const struct api_fields *fields, const char *name, double min, double max,
                         const struct tsr_json_value *value)
{
    char param[sizeof fields->problem->param];
    size_t size;
    const char *text = tsr_json_text(fields->json, value, &size);
    (void)snprintf(param, sizeof param, "%s%s", fields->path, name);
    api_problem_invalid(fields->problem, param, "'%s' is %.*s; it must be from %.12g to %.12g",
                        param, size < 40 ? (int)size : 40, text, min, max);
}

void api_field_number(const struct api_fields *fields, const char *name, double min, double max,
                      float *out)
{
    const struct tsr_json_value *value = api_field(fields, name);
    if (!value) {
        return;
    }
    if (tsr_json_type_of(value) != TSR_JSON_NUMBER) {
        api_field_wrong(fields, name, "a number", value);
        return;
    }
    double number = tsr_json_number(fields->json, value);
    if (!(number >= min && number <= max)) {
        out_of_range(fields, name, min, max, value);
        return;
    }
    *out = (float)number;
}

void api_field_uint(const struct api_fields *fields, const char *name, uint64_t min, uint64_t max,
                    uint64_t *out)
{
    const struct tsr_json_value *value = api_field(fields, name);
    int64_t number;
    if (!value) {
        return;
    }
    if (tsr_json_type_of(value) != TSR_JSON_NUMBER) {
        api_field_wrong(fields, name, "an integer", value);
        return;
    }
    if (!tsr_json_integer(fields->json, value, &number)) {
        char param[sizeof fields->problem->param];
        size_t size;
        const char *text = tsr_json_text(fields->json, value, &size);
        (void)snprintf(param, sizeof param, "%s%s", fields->path, name);
        api_problem_invalid(fields->problem, param, "'%s' must be an integer, not %.*s", param,
                            size < 40 ? (int)size : 40, text);
        return;
    }
    if (number < 0 || (uint64_t)number < min || (uint64_t)number > max) {
        out_of_range(fields, name, (double)min, (double)max, value);
        return;
    }
    *out = (uint64_t)number;
}

void api_field_uint32(const struct api_fields *fields, const char *name, uint32_t min, uint32_t max,
                      uint32_t *out)
{
    uint64_t value = *out;
    api_field_uint(fields, name, min, max, &value);
    *out = (uint32_t)value;
}

void api_field_bool(const struct api_fields *fields, const char *name, bool *out)
{
    const struct tsr_json_value *value = api_field(fields, name);
    if (!value) {
        return;
    }
    enum tsr_json_type type = tsr_json_type_of(value);
    if (type != TSR_JSON_TRUE && type != TSR_JSON_FALSE) {
        api_field_wrong(fields, name, "a boolean", value);
        return;
    }
    *out = type == TSR_JSON_TRUE;
}

static const struct tsr_json_value *of_type(const struct api_fields *fields, const char *name,
                                            enum tsr_json_type type, const char *wanted)
{
    const struct tsr_json_value *value = api_field(fields, name);
    if (value && tsr_json_type_of(value) != type) {
        api_field_wrong(fields, name, wanted, value);
        return NULL;
    }
    return value;
}

const char *api_field_string(const struct api_fields *fields, const char *name, size_t *size)
{
    const struct tsr_json_value *value = of_type(fields, name, TSR_JSON_STRING, "a string");
    *size = 0;
    return value ? tsr_json_text(fields->json, value, size) : NULL;
}

const struct tsr_json_value *api_field_array(const struct api_fields *fields, const char *name)
{
    return of_type(fields, name, TSR_JSON_ARRAY, "an array");
}

const struct tsr_json_value *api_field_object(const struct api_fields *fields, const char *name)
{
    return of_type(fields, name, TSR_JSON_OBJECT, "an object");
}

static bool says_nothing(const struct api_fields *fields, const struct tsr_json_value *value)
{
    size_t size;
    switch (tsr_json_type_of(value)) {
    case TSR_JSON_NULL:
    case TSR_JSON_FALSE:
        return true;
    case TSR_JSON_NUMBER:
        return tsr_json_number(fields->json, value) == 0;
    case TSR_JSON_STRING:
        return tsr_json_text(fields->json, value, &size) && size == 0;
    case TSR_JSON_ARRAY:
    case TSR_JSON_OBJECT:
        return tsr_json_count(value) == 0;
    default:
        return false;
    }
}

void api_field_unsupported(const struct api_fields *fields, const char *name)
{
    const struct tsr_json_value *value = api_field(fields, name);
    if (value && !says_nothing(fields, value)) {
        char param[sizeof fields->problem->param];
        (void)snprintf(param, sizeof param, "%s%s", fields->path, name);
        api_problem_unsupported(fields->problem, param, "'%s' is not supported by this server",
                                param);
    }
}

bool api_text_is(const char *text, size_t size, const char *other)
{
    return strlen(other) == size && memcmp(text, other, size) == 0;
}
