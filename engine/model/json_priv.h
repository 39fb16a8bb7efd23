/* JSON from files that are not trusted: jansson behind limits. */
#ifndef TSR_MODEL_JSON_PRIV_H
#define TSR_MODEL_JSON_PRIV_H

#include <stddef.h>

#include <jansson.h>

#include <tsr/shm/err.h>

enum { TSR_JSON_DEPTH_MAX = 32 };

/* Parses one JSON object, or one array. Before anything is built, the text is scanned: nesting
 * above TSR_JSON_DEPTH_MAX and more than values_max values are refused (-E2BIG), so that memory is
 * bounded by values_max and the text's size. Member names that occur twice, strings with NUL,
 * invalid UTF-8 and numbers beyond 64 bits are -EINVAL, with line and column. The caller frees
 * *object or *array with json_decref(). */
int tsr_json_object(json_t **object, const char *text, size_t size, size_t values_max,
                    struct tsr_err *err);
int tsr_json_array(json_t **array, const char *text, size_t size, size_t values_max,
                   struct tsr_err *err);

#endif
