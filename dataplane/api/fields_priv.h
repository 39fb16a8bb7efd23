/* A request's fields, read by type and range, with errors that name the parameter as OpenAI's do.
 *
 * Absent and null are the same: the value stays as it was. After the first problem further reading
 * does nothing, so a handler reads all it wants and looks once. */
#ifndef TSR_API_FIELDS_PRIV_H
#define TSR_API_FIELDS_PRIV_H

#include "api_priv.h"

struct api_fields {
    const struct tsr_json *json;
    const struct tsr_json_value *object;
    struct api_problem *problem;
    char path[80]; /* of the object: "messages[3]."; empty at the top */
};

/* The document's root; a problem where it is no object. */
void api_fields_root(struct api_fields *fields, const struct tsr_json *json,
                     struct api_problem *problem);

/* Fields of a value inside; `format` is its path with the dot at its end. A problem where it is no
 * object. */
__attribute__((format(printf, 4, 5))) void api_fields_inner(struct api_fields *inner,
                                                            const struct api_fields *fields,
                                                            const struct tsr_json_value *value,
                                                            const char *format, ...);

/* NULL: absent, null, or there is a problem already. */
const struct tsr_json_value *api_field(const struct api_fields *fields, const char *name);

void api_field_number(const struct api_fields *fields, const char *name, double min, double max,
                      float *out);
void api_field_uint(const struct api_fields *fields, const char *name, uint64_t min, uint64_t max,
                    uint64_t *out);
void api_field_uint32(const struct api_fields *fields, const char *name, uint32_t min, uint32_t max,
                      uint32_t *out);
void api_field_bool(const struct api_fields *fields, const char *name, bool *out);
const char *api_field_string(const struct api_fields *fields, const char *name, size_t *size);
const struct tsr_json_value *api_field_array(const struct api_fields *fields, const char *name);
const struct tsr_json_value *api_field_object(const struct api_fields *fields, const char *name);

/* "temperature: a number is wanted, not a string". */
void api_field_wrong(const struct api_fields *fields, const char *name, const char *wanted,
                     const struct tsr_json_value *value);

/* Refuses the parameter where it is there and says something: not null, false, 0, "" or empty. */
void api_field_unsupported(const struct api_fields *fields, const char *name);

/* Whether a string is that one. */
bool api_text_is(const char *text, size_t size, const char *other);

#endif
