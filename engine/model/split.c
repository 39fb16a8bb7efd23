/* A GGUF in several files: NAME-00001-of-00003.gguf and so on, as llama.cpp's gguf-split names
 * them. The first holds the metadata, each its own tensors. */
#include "split_priv.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SUFFIX = 20 }; /* bytes of "-00001-of-00003.gguf" */

/* What a file says of itself; 1 and 0 where it is no part. */
static int read_place(const struct tsr_gguf *gguf, const char *path, int64_t *count,
                      int64_t *number, struct tsr_err *err)
{
    *count = 1;
    *number = 0;
    if (!tsr_gguf_has(gguf, "split.count")) {
        return 0;
    }
    if (!tsr_gguf_int(gguf, "split.count", count) || *count < 0 || *count > UINT16_MAX) {
        return tsr_err_set(err, -EINVAL, "%s: split.count is not a number of parts", path);
    }
    if (*count <= 1) {
        *count = 1;
        return 0;
    }
    if (*count > TSR_SOURCE_FILES_MAX) {
        return tsr_err_set(err, -E2BIG, "%s: is one of %lld parts, more than %d", path,
                           (long long)*count, TSR_SOURCE_FILES_MAX);
    }
    if (!tsr_gguf_int(gguf, "split.no", number) || *number < 0 || *number >= *count) {
        return tsr_err_set(err, -EINVAL, "%s: is one of %lld parts, but split.no is not 0 to %lld",
                           path, (long long)*count, (long long)*count - 1);
    }
    return 0;
}

static int part_path(char out[static PATH_MAX], const char *path, int64_t number, int64_t count)
{
    int n = snprintf(out, PATH_MAX, "%.*s-%05d-of-%05d.gguf", (int)(strlen(path) - SUFFIX), path,
                     (int)number + 1, (int)count);
    return n < PATH_MAX ? 0 : -ENAMETOOLONG;
}

/* Opens part `number` and holds it against what `count` and its name promise. */
static int open_part(struct tsr_gguf **part, const char *path, int64_t number, int64_t count,
                     struct tsr_err *err)
{
    char name[PATH_MAX];
    int64_t its_count, its_number;
    if (part_path(name, path, number, count) < 0) {
        return tsr_err_set(err, -ENAMETOOLONG, "%s: its path is longer than %d bytes", path,
                           PATH_MAX);
    }
    int rc = tsr_gguf_open(part, name, err);
    if (rc == -ENOENT) {
        return tsr_err_set(err, rc,
                           "%s: part %lld of %lld is missing; put all parts into one folder", name,
                           (long long)number + 1, (long long)count);
    }
    if (rc < 0) {
        return rc;
    }
    rc = read_place(*part, name, &its_count, &its_number, err);
    if (rc == 0 && (its_count != count || its_number != number)) {
        rc = tsr_err_set(err, -EINVAL,
                         "%s: says that it is part %lld of %lld: the parts are not of one model",
                         name, (long long)its_number + 1, (long long)its_count);
    }
    if (rc < 0) {
        tsr_gguf_close(*part);
        *part = NULL;
    }
    return rc;
}

/* The tensors of all parts as one directory. */
static int merge(struct tsr_source *source, struct tsr_err *err)
{
    int64_t stated;
    for (size_t i = 0; i < source->n_parts; i++) {
        const struct tsr_tensors *from = tsr_gguf_tensors(source->parts[i]);
        int rc = tsr_tensors_reserve(&source->own, from->n, err);
        for (size_t k = 0; k < from->n && rc == 0; k++) {
            const char *name = from->entries[k].tensor.name;
            rc = tsr_tensors_add(&source->own, &from->entries[k], name, strlen(name), err);
        }
        if (rc < 0) {
            return rc;
        }
    }
    if (tsr_gguf_int(source->gguf, "split.tensors.count", &stated) &&
        stated != (int64_t)source->own.n) {
        return tsr_err_set(err, -EINVAL,
                           "the %zu parts hold %zu tensors, where split.tensors.count is %lld",
                           source->n_parts, source->own.n, (long long)stated);
    }
    source->tensors = &source->own;
    return tsr_tensors_seal(&source->own, err);
}

int tsr_split_open(struct tsr_source *source, const char *path, struct tsr_err *err)
{
    int64_t count, number;
    int rc = read_place(source->gguf, path, &count, &number, err);
    if (rc < 0 || count == 1) {
        return rc;
    }
    char name[PATH_MAX];
    size_t size = strlen(path);
    if (size < SUFFIX || part_path(name, path, number, count) < 0 || strcmp(name, path) != 0) {
        return tsr_err_set(err, -EINVAL,
                           "%s: is part %lld of %lld, but its name does not end in "
                           "-%05lld-of-%05lld.gguf, by which the other parts are found",
                           path, (long long)number + 1, (long long)count, (long long)number + 1,
                           (long long)count);
    }
    source->parts = calloc((size_t)count, sizeof *source->parts);
    if (!source->parts) {
        return tsr_err_set(err, -ENOMEM, "%s: no memory for %lld parts", path, (long long)count);
    }
    struct tsr_gguf *opened = source->gguf;
    source->gguf = NULL;
    for (int64_t i = 0; i < count && rc == 0; i++) {
        if (i == number) {
            source->parts[i] = opened;
        } else {
            rc = open_part(&source->parts[i], path, i, count, err);
        }
        source->n_parts += rc == 0;
    }
    if (rc < 0) {
        if (source->n_parts <= (size_t)number) {
            tsr_gguf_close(opened);
        }
        return rc;
    }
    source->gguf = source->parts[0];
    for (size_t i = 0; i < source->n_parts; i++) {
        source->file_bytes += i == (size_t)number ? 0 : tsr_gguf_bytes(source->parts[i]);
    }
    rc = merge(source, err);
    if (rc < 0) {
        tsr_err_prefix(err, "%s", path);
    }
    return rc;
}
