#include <tsr/model/safetensors.h>

#include "json_priv.h"
#include "map_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
    LENGTH_BYTES = 8,      /* of the header's length, before the header */
    VALUES_MAX = 16 << 20, /* JSON values of a header: 16 for each of a million tensors */
    DIMS_MAX = 4,
};

struct tsr_safetensors {
    struct tsr_map map;
    bool mapped; /* map is ours to close */
};

/* clang-format off */
static const struct type {
    const char *name;
    uint32_t bytes;
    enum tsr_dtype dtype; /* TSR_DTYPE_COUNT: known by size, not computed with */
} types[] = {
    {"F32",     4, TSR_DTYPE_F32},
    {"F16",     2, TSR_DTYPE_F16},
    {"BF16",    2, TSR_DTYPE_BF16},
    {"F64",     8, TSR_DTYPE_F64},
    {"I64",     8, TSR_DTYPE_COUNT},
    {"I32",     4, TSR_DTYPE_COUNT},
    {"I16",     2, TSR_DTYPE_COUNT},
    {"I8",      1, TSR_DTYPE_COUNT},
    {"U64",     8, TSR_DTYPE_COUNT},
    {"U32",     4, TSR_DTYPE_COUNT},
    {"U16",     2, TSR_DTYPE_COUNT},
    {"U8",      1, TSR_DTYPE_COUNT},
    {"BOOL",    1, TSR_DTYPE_COUNT},
    {"F8_E4M3", 1, TSR_DTYPE_F8_E4M3},
    {"F8_E5M2", 1, TSR_DTYPE_COUNT},
};
/* clang-format on */

static const struct type *find_type(const char *name)
{
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        if (strcmp(types[i].name, name) == 0) {
            return &types[i];
        }
    }
    return NULL;
}

/* The header's member `name`, an array of at most max whole numbers >= 0; their number, or -1. */
static int read_numbers(json_t *tensor, const char *name, uint64_t *numbers, size_t max)
{
    json_t *array = json_object_get(tensor, name);
    if (!json_is_array(array) || json_array_size(array) > max) {
        return -1;
    }
    size_t count = json_array_size(array);
    for (size_t i = 0; i < count; i++) {
        json_t *one = json_array_get(array, i);
        if (!json_is_integer(one) || json_integer_value(one) < 0) {
            return -1;
        }
        numbers[i] = (uint64_t)json_integer_value(one);
    }
    return (int)count;
}

/* The tensor of one header entry. begin: of the tensors' bytes in the file. */
static int add_tensor(const struct tsr_safetensors *file, struct tsr_tensors *tensors,
                      const char *name, json_t *header, uint64_t begin, struct tsr_err *err)
{
    /* Only a printable name may go into a sentence; tsr_tensors_add() checks it first. */
    struct tsr_tensor_entry entry = {0};
    int rc = tsr_tensors_add(tensors, &entry, name, strlen(name), err);
    if (rc < 0) {
        return rc;
    }
    struct tsr_tensor_entry *added = &tensors->entries[tensors->n - 1];
    struct tsr_tensor *t = &entry.tensor;
    t->name = added->tensor.name;

    json_t *dtype = json_object_get(header, "dtype");
    if (!json_is_string(dtype)) {
        return tsr_err_set(err, -EINVAL, "tensor '%s' has no dtype", name);
    }
    const struct type *type = find_type(json_string_value(dtype));
    if (!type) {
        return tsr_err_set(err, -ENOTSUP,
                           "tensor '%s' is of a dtype that this reader does not know", name);
    }
    int n_dims = read_numbers(header, "shape", t->dims, DIMS_MAX);
    uint64_t range[2];
    if (n_dims < 0 || !tsr_tensor_elements(t->dims, (uint32_t)n_dims, &entry.elements) ||
        entry.elements > (uint64_t)INT64_MAX / type->bytes) {
        return tsr_err_set(err, -EINVAL,
                           "tensor '%s' has a shape that is not a list of up to %d sizes, or too "
                           "large",
                           name, DIMS_MAX);
    }
    if (read_numbers(header, "data_offsets", range, 2) != 2 || range[0] > range[1]) {
        return tsr_err_set(err, -EINVAL, "tensor '%s' has data_offsets that are not a range", name);
    }
    t->bytes = entry.elements * type->bytes;
    if (t->bytes != range[1] - range[0]) {
        return tsr_err_set(err, -EINVAL,
                           "tensor '%s' has %llu bytes by data_offsets, where %llu elements of %s "
                           "are %llu",
                           name, (unsigned long long)(range[1] - range[0]),
                           (unsigned long long)entry.elements, type->name,
                           (unsigned long long)t->bytes);
    }
    if (range[1] > file->map.size - begin) {
        return tsr_err_set(
            err, -EINVAL,
            "tensor '%s' ends at byte %llu of %zu: the file is truncated or damaged; "
            "fetch it again",
            name, (unsigned long long)(begin + range[1]), file->map.size);
    }
    t->n_dims = (uint32_t)n_dims;
    t->dtype = type->dtype;
    t->data = file->map.data + begin + range[0];
    entry.type = type->name;
    entry.file_off = begin + range[0];
    *added = entry;
    return 0;
}

static int parse(struct tsr_safetensors *file, struct tsr_tensors *tensors, struct tsr_err *err)
{
    const struct tsr_map *map = &file->map;
    uint64_t length;
    if (map->size < LENGTH_BYTES) {
        return tsr_err_set(err, -EINVAL, "its %zu bytes are too few for a safetensors file",
                           map->size);
    }
    memcpy(&length, map->data, sizeof length);
    if (length > TSR_SAFETENSORS_HEADER_MAX) {
        return tsr_err_set(err, -EINVAL,
                           "a header of %llu bytes is more than the %d that safetensors allows: is "
                           "this a safetensors file?",
                           (unsigned long long)length, TSR_SAFETENSORS_HEADER_MAX);
    }
    if (length > map->size - LENGTH_BYTES) {
        return tsr_err_set(err, -EINVAL,
                           "the header ends at byte %llu of %zu: the file is truncated or damaged; "
                           "fetch it again",
                           (unsigned long long)length + LENGTH_BYTES, map->size);
    }
    json_t *header;
    int rc =
        tsr_json_object(&header, (const char *)map->data + LENGTH_BYTES, length, VALUES_MAX, err);
    if (rc < 0) {
        return rc;
    }
    size_t first = tensors->n;
    const char *name;
    json_t *tensor;
    rc = tsr_tensors_reserve(tensors, json_object_size(header), err);
    if (rc == 0) {
        json_object_foreach(header, name, tensor)
        {
            if (strcmp(name, "__metadata__") != 0) {
                rc = add_tensor(file, tensors, name, tensor, LENGTH_BYTES + length, err);
                if (rc < 0) {
                    break;
                }
            }
        }
    }
    json_decref(header);
    return rc < 0 ? rc : tsr_tensors_check_disjoint(tensors, first, err);
}

int tsr_safetensors_parse(struct tsr_safetensors **file, const void *data, size_t size,
                          struct tsr_tensors *tensors, struct tsr_err *err)
{
    struct tsr_safetensors *made = calloc(1, sizeof *made);
    if (!made) {
        return tsr_err_set(err, -ENOMEM, "no memory to read a safetensors file");
    }
    made->map = (struct tsr_map){.data = data, .size = size};
    int rc = parse(made, tensors, err);
    if (rc < 0) {
        free(made);
        return rc;
    }
    *file = made;
    return 0;
}

int tsr_safetensors_open(struct tsr_safetensors **file, const char *path,
                         struct tsr_tensors *tensors, struct tsr_err *err)
{
    struct tsr_map map;
    int rc = tsr_map_open(&map, path, err);
    if (rc < 0) {
        return rc;
    }
    rc = tsr_safetensors_parse(file, map.data, map.size, tensors, err);
    if (rc < 0) {
        tsr_map_close(&map);
        tsr_err_prefix(err, "%s", path);
        return rc;
    }
    (*file)->mapped = true;
    return 0;
}

void tsr_safetensors_close(struct tsr_safetensors *file)
{
    if (file && file->mapped) {
        tsr_map_close(&file->map);
    }
    free(file);
}

uint64_t tsr_safetensors_bytes(const struct tsr_safetensors *file)
{
    return file->map.size;
}

bool tsr_safetensors_holds(const struct tsr_safetensors *file, const struct tsr_tensor *tensor)
{
    uintptr_t data = (uintptr_t)tensor->data, begin = (uintptr_t)file->map.data;
    return data >= begin && data <= begin + file->map.size;
}

void tsr_safetensors_drop(struct tsr_safetensors *file)
{
    if (file->mapped) {
        tsr_map_drop(&file->map, 0, file->map.size);
    }
}
