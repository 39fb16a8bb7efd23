/* Finding and reading the outside vectors of text; for tests only. */
#ifndef TSR_TESTS_OUTSIDE_H
#define TSR_TESTS_OUTSIDE_H

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <jansson.h>

/* Path of a file or folder among the vectors; the program ends with 77 where the vectors are
 * absent. */
static inline const char *outside_path(const char *name)
{
    static char path[8][4096];
    static unsigned turn;
    const char *root = getenv("TESSERA_CONFORMANCE");
    const char *source = getenv("TESSERA_SOURCE");
    char *out = path[turn++ % 8];
    if (root)
        snprintf(out, sizeof(path[0]), "%s", root);
    else
        snprintf(out, sizeof(path[0]), "%s/../shared/conformance", source ? source : ".");
    struct stat st;
    if (stat(out, &st) != 0) {
        printf("skipped: no vectors at %s (set TESSERA_CONFORMANCE to their folder)\n", out);
        exit(77);
    }
    size_t len = strlen(out);
    snprintf(out + len, sizeof(path[0]) - len, "/%s", name);
    return out;
}

/* The JSON of a file; NULL where there is none. Freed by json_decref(). */
static inline json_t *outside_json(const char *path)
{
    json_error_t where;
    json_t *root = json_load_file(path, JSON_ALLOW_NUL, &where);
    struct stat st;
    if (!root && stat(path, &st) == 0)
        fprintf(stderr, "%s: line %d: %s\n", path, where.line, where.text);
    return root;
}

static inline const char *outside_string(const json_t *object, const char *key, size_t *len)
{
    const json_t *value = json_object_get(object, key);
    *len = json_string_length(value);
    return json_string_value(value);
}

#endif
