#include <tsr/model/tensors.h>

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

bool tsr_tensor_elements(const uint64_t *dims, uint32_t n_dims, uint64_t *elements)
{
    uint64_t product = 1;
    if (n_dims > 4) {
        return false;
    }
    for (uint32_t i = 0; i < n_dims; i++) {
        if (dims[i] != 0 && product > (uint64_t)INT64_MAX / dims[i]) {
            return false;
        }
        product *= dims[i];
    }
    *elements = product;
    return true;
}

int tsr_tensors_reserve(struct tsr_tensors *tensors, size_t n, struct tsr_err *err)
{
    if (n > TSR_TENSORS_MAX || tensors->n > TSR_TENSORS_MAX - n) {
        return tsr_err_set(err, -E2BIG, "%zu tensors are more than the %d that a model may have", n,
                           TSR_TENSORS_MAX);
    }
    if (tensors->n + n <= tensors->capacity) {
        return 0;
    }
    size_t capacity = tensors->n + n;
    struct tsr_tensor_entry *grown = realloc(tensors->entries, capacity * sizeof *tensors->entries);
    if (!grown) {
        return tsr_err_set(err, -ENOMEM, "no memory for a directory of %zu tensors", capacity);
    }
    tensors->entries = grown;
    tensors->capacity = capacity;
    return 0;
}

int tsr_tensors_add(struct tsr_tensors *tensors, const struct tsr_tensor_entry *entry,
                    const char *name, size_t name_size, struct tsr_err *err)
{
    assert(!tensors->sealed);
    if (name_size == 0 || name_size > TSR_TENSOR_NAME_MAX) {
        return tsr_err_set(err, -EINVAL,
                           "the name of tensor %zu has %zu bytes, where 1 to %d are allowed",
                           tensors->n, name_size, TSR_TENSOR_NAME_MAX);
    }
    for (size_t i = 0; i < name_size; i++) {
        if (name[i] < 0x21 || name[i] > 0x7e) {
            return tsr_err_set(err, -EINVAL,
                               "the name of tensor %zu holds byte 0x%02x at %zu, which is not "
                               "printable ASCII",
                               tensors->n, (unsigned)(unsigned char)name[i], i);
        }
    }
    int rc = tsr_tensors_reserve(tensors, 1, err);
    if (rc < 0) {
        return rc;
    }
    char *copy = malloc(name_size + 1);
    if (!copy) {
        return tsr_err_set(err, -ENOMEM, "no memory for the name of tensor %zu", tensors->n);
    }
    memcpy(copy, name, name_size);
    copy[name_size] = '\0';
    struct tsr_tensor_entry *slot = &tensors->entries[tensors->n++];
    *slot = *entry;
    slot->tensor.name = copy;
    slot->used = false;
    return 0;
}

static int compare_places(const void *a, const void *b)
{
    const struct tsr_tensor_entry *x = *(const struct tsr_tensor_entry *const *)a;
    const struct tsr_tensor_entry *y = *(const struct tsr_tensor_entry *const *)b;
    return (x->file_off > y->file_off) - (x->file_off < y->file_off);
}

int tsr_tensors_check_disjoint(const struct tsr_tensors *tensors, size_t first, struct tsr_err *err)
{
    const struct tsr_tensor_entry **places = malloc((tensors->n - first + 1) * sizeof(*places));
    if (!places) {
        return tsr_err_set(err, -ENOMEM, "no memory to check %zu tensors", tensors->n - first);
    }
    size_t n = 0;
    for (size_t i = first; i < tensors->n; i++) {
        if (tensors->entries[i].tensor.bytes > 0) {
            places[n++] = &tensors->entries[i];
        }
    }
    qsort(places, n, sizeof *places, compare_places);
    int rc = 0;
    for (size_t i = 1; i < n && rc == 0; i++) {
        const struct tsr_tensor_entry *before = places[i - 1], *after = places[i];
        if (before->file_off + before->tensor.bytes > after->file_off) {
            rc = tsr_err_set(err, -EINVAL,
                             "tensors '%s' and '%s' overlap: one ends at byte %llu, the other "
                             "begins at %llu",
                             before->tensor.name, after->tensor.name,
                             (unsigned long long)(before->file_off + before->tensor.bytes),
                             (unsigned long long)after->file_off);
        }
    }
    free(places);
    return rc;
}

static int compare_names(const void *a, const void *b)
{
    const struct tsr_tensor_entry *x = a, *y = b;
    return strcmp(x->tensor.name, y->tensor.name);
}

int tsr_tensors_seal(struct tsr_tensors *tensors, struct tsr_err *err)
{
    if (tensors->n > 0) {
        qsort(tensors->entries, tensors->n, sizeof *tensors->entries, compare_names);
    }
    for (size_t i = 1; i < tensors->n; i++) {
        if (compare_names(&tensors->entries[i - 1], &tensors->entries[i]) == 0) {
            return tsr_err_set(err, -EINVAL, "there are two tensors named '%s'",
                               tensors->entries[i].tensor.name);
        }
    }
    tensors->sealed = true;
    return 0;
}

static int compare_key(const void *key, const void *entry)
{
    return strcmp(key, ((const struct tsr_tensor_entry *)entry)->tensor.name);
}

struct tsr_tensor_entry *tsr_tensors_find(const struct tsr_tensors *tensors, const char *name)
{
    if (!tensors->sealed || tensors->n == 0) {
        return NULL;
    }
    return bsearch(name, tensors->entries, tensors->n, sizeof *tensors->entries, compare_key);
}

void tsr_tensors_fini(struct tsr_tensors *tensors)
{
    for (size_t i = 0; i < tensors->n; i++) {
        free((void *)tensors->entries[i].tensor.name);
        free((void *)tensors->entries[i].tensor.scales);
    }
    free(tensors->entries);
    *tensors = (struct tsr_tensors){0};
}
