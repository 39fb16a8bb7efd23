#include "gguf_priv.h"
#include "gguf_types_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Limits of the format's own documentation, and of sense. */
enum {
    KEY_MAX = 255,
    ALIGNMENT_DEFAULT = 32,
    ALIGNMENT_MAX = 1 << 24,
    DIMS_MAX = 4,
    KEY_BYTES_MIN = 8 + 1 + 4 + 1,            /* of a metadata entry in the file */
    TENSOR_BYTES_MIN = 8 + 1 + 4 + 8 + 4 + 8, /* of a tensor's description in the file */
};

/* Where the walk over the header stands. Invariant: at <= size. */
struct cursor {
    const uint8_t *data;
    size_t size, at;
    struct tsr_err *err;
};

/* The next n bytes, or NULL with a sentence in which `what` says what they would have been. */
static const uint8_t *take(struct cursor *c, uint64_t n, const char *what)
{
    if (n > c->size - c->at) {
        tsr_err_set(c->err, -EINVAL,
                    "%s at byte %zu, of %llu bytes, ends beyond the file's %zu bytes", what, c->at,
                    (unsigned long long)n, c->size);
        return NULL;
    }
    const uint8_t *bytes = c->data + c->at;
    c->at += n;
    return bytes;
}

static uint32_t load_u32(const uint8_t *bytes)
{
    uint32_t value;
    memcpy(&value, bytes, sizeof value);
    return value;
}

static uint64_t load_u64(const uint8_t *bytes)
{
    uint64_t value;
    memcpy(&value, bytes, sizeof value);
    return value;
}

static int take_u32(struct cursor *c, uint32_t *value, const char *what)
{
    const uint8_t *bytes = take(c, sizeof *value, what);
    if (!bytes) {
        return -EINVAL;
    }
    *value = load_u32(bytes);
    return 0;
}

static int take_u64(struct cursor *c, uint64_t *value, const char *what)
{
    const uint8_t *bytes = take(c, sizeof *value, what);
    if (!bytes) {
        return -EINVAL;
    }
    *value = load_u64(bytes);
    return 0;
}

static int take_string(struct cursor *c, struct tsr_gguf_string *string, const char *what)
{
    uint64_t size;
    if (take_u64(c, &size, what) < 0) {
        return -EINVAL;
    }
    const uint8_t *bytes = take(c, size, what);
    if (!bytes) {
        return -EINVAL;
    }
    *string = (struct tsr_gguf_string){(const char *)bytes, size};
    return 0;
}

/* A key: printable ASCII, copied. */
static int take_key(struct cursor *c, size_t index, char **key)
{
    struct tsr_gguf_string s;
    if (take_string(c, &s, "a metadata key") < 0) {
        return -EINVAL;
    }
    if (s.size == 0 || s.size > KEY_MAX) {
        return tsr_err_set(c->err, -EINVAL,
                           "metadata key %zu has %zu bytes, where 1 to %d are allowed", index,
                           s.size, KEY_MAX);
    }
    for (size_t i = 0; i < s.size; i++) {
        if (s.data[i] < 0x21 || s.data[i] > 0x7e) {
            return tsr_err_set(c->err, -EINVAL,
                               "metadata key %zu holds byte 0x%02x, which is not printable ASCII",
                               index, (unsigned)(unsigned char)s.data[i]);
        }
    }
    *key = strndup(s.data, s.size);
    return *key ? 0 : tsr_err_set(c->err, -ENOMEM, "no memory for metadata key %zu", index);
}

static int check_bools(struct cursor *c, const char *key, const uint8_t *data, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        if (data[i] > 1) {
            return tsr_err_set(c->err, -EINVAL, "metadata '%s' holds %u where a bool is 0 or 1",
                               key, data[i]);
        }
    }
    return 0;
}

static int take_array(struct cursor *c, const char *key, struct tsr_gguf_array *array)
{
    uint32_t type;
    if (take_u32(c, &type, key) < 0 || take_u64(c, &array->count, key) < 0) {
        return -EINVAL;
    }
    if (type == TSR_GGUF_ARRAY) {
        return tsr_err_set(c->err, -ENOTSUP, "metadata '%s' is an array of arrays", key);
    }
    if (type >= TSR_GGUF_TYPE_COUNT) {
        return tsr_err_set(c->err, -EINVAL,
                           "metadata '%s' is an array of type %u, which does not exist", key, type);
    }
    array->type = (enum tsr_gguf_type)type;
    array->data = c->data + c->at;
    uint64_t element = array->type == TSR_GGUF_STRING ? 8 : tsr_gguf_type_bytes[type];
    if (array->count > (c->size - c->at) / element) {
        return tsr_err_set(c->err, -EINVAL,
                           "metadata '%s' is an array of %llu elements, which end beyond the "
                           "file's %zu bytes",
                           key, (unsigned long long)array->count, c->size);
    }
    if (array->type != TSR_GGUF_STRING) {
        take(c, array->count * element, key);
        return array->type == TSR_GGUF_BOOL ? check_bools(c, key, array->data, array->count) : 0;
    }
    /* 8 bytes of index for at least 8 bytes of file each. */
    array->strings = malloc((array->count + 1) * sizeof *array->strings);
    if (!array->strings) {
        return tsr_err_set(c->err, -ENOMEM, "no memory to index the %llu strings of '%s'",
                           (unsigned long long)array->count, key);
    }
    for (uint64_t i = 0; i < array->count; i++) {
        struct tsr_gguf_string s;
        array->strings[i] = (uint64_t)(c->data + c->at - array->data);
        if (take_string(c, &s, key) < 0) {
            return -EINVAL;
        }
    }
    return 0;
}

static int take_entry(struct cursor *c, size_t index, struct tsr_gguf_entry *entry)
{
    uint32_t type;
    int rc = take_key(c, index, &entry->key);
    if (rc < 0) {
        return rc;
    }
    if (take_u32(c, &type, entry->key) < 0) {
        return -EINVAL;
    }
    if (type >= TSR_GGUF_TYPE_COUNT) {
        return tsr_err_set(c->err, -EINVAL, "metadata '%s' has type %u, which does not exist",
                           entry->key, type);
    }
    entry->type = (enum tsr_gguf_type)type;
    if (entry->type == TSR_GGUF_ARRAY) {
        return take_array(c, entry->key, &entry->array);
    }
    if (entry->type == TSR_GGUF_STRING) {
        struct tsr_gguf_string s;
        if (take_string(c, &s, entry->key) < 0) {
            return -EINVAL;
        }
        entry->data = (const uint8_t *)s.data;
        entry->size = s.size;
        return 0;
    }
    entry->data = take(c, tsr_gguf_type_bytes[type], entry->key);
    if (!entry->data) {
        return -EINVAL;
    }
    return entry->type == TSR_GGUF_BOOL ? check_bools(c, entry->key, entry->data, 1) : 0;
}

static int compare_entries(const void *a, const void *b)
{
    return strcmp(((const struct tsr_gguf_entry *)a)->key, ((const struct tsr_gguf_entry *)b)->key);
}

static int take_metadata(struct tsr_gguf *gguf, struct cursor *c, uint64_t count)
{
    if (count > (c->size - c->at) / KEY_BYTES_MIN) {
        return tsr_err_set(c->err, -EINVAL,
                           "the header states %llu metadata keys, more than %zu bytes can hold",
                           (unsigned long long)count, c->size);
    }
    gguf->entries = calloc(count + 1, sizeof *gguf->entries);
    if (!gguf->entries) {
        return tsr_err_set(c->err, -ENOMEM, "no memory for %llu metadata keys",
                           (unsigned long long)count);
    }
    while (gguf->n_entries < count) {
        struct tsr_gguf_entry *entry = &gguf->entries[gguf->n_entries];
        int rc = take_entry(c, gguf->n_entries++, entry);
        if (rc < 0) {
            return rc;
        }
    }
    qsort(gguf->entries, gguf->n_entries, sizeof *gguf->entries, compare_entries);
    for (size_t i = 1; i < gguf->n_entries; i++) {
        if (compare_entries(&gguf->entries[i - 1], &gguf->entries[i]) == 0) {
            return tsr_err_set(c->err, -EINVAL, "metadata '%s' occurs twice", gguf->entries[i].key);
        }
    }
    return 0;
}

/* One tensor's description. file_off is its offset from the data's beginning, not yet checked. */
static int take_tensor(struct tsr_gguf *gguf, struct cursor *c)
{
    struct tsr_gguf_string name;
    if (take_string(c, &name, "a tensor's name") < 0) {
        return -EINVAL;
    }
    struct tsr_tensor_entry entry = {0};
    struct tsr_tensor *t = &entry.tensor;
    uint32_t number;
    if (take_u32(c, &t->n_dims, "a tensor's number of dimensions") < 0) {
        return -EINVAL;
    }
    /* Only printable names may go into a sentence; tsr_tensors_add() checks them first. */
    int rc = tsr_tensors_add(&gguf->tensors, &entry, name.data, name.size, c->err);
    if (rc < 0) {
        return rc;
    }
    struct tsr_tensor_entry *added = &gguf->tensors.entries[gguf->tensors.n - 1];
    const char *text = added->tensor.name;
    if (t->n_dims == 0 || t->n_dims > DIMS_MAX) {
        return tsr_err_set(c->err, -EINVAL,
                           "tensor '%s' has %u dimensions, where 1 to %d are allowed", text,
                           t->n_dims, DIMS_MAX);
    }
    for (uint32_t i = 0; i < t->n_dims; i++) {
        if (take_u64(c, &t->dims[t->n_dims - 1 - i], text) < 0) {
            return -EINVAL;
        }
    }
    if (!tsr_tensor_elements(t->dims, t->n_dims, &entry.elements) || entry.elements == 0) {
        return tsr_err_set(c->err, -EINVAL,
                           "tensor '%s' has dimensions whose product is 0 or too "
                           "large",
                           text);
    }
    if (take_u32(c, &number, text) < 0 || take_u64(c, &entry.file_off, text) < 0) {
        return -EINVAL;
    }
    t->dtype = tsr_ggml_dtype(number);
    if (t->dtype == TSR_DTYPE_COUNT) {
        return tsr_err_set(c->err, -ENOTSUP,
                           "tensor '%s' has type %u, which this reader does not know", text,
                           number);
    }
    const struct tsr_dtype_info *type = tsr_dtype_info(t->dtype);
    if (t->dims[t->n_dims - 1] % type->block != 0) {
        return tsr_err_set(c->err, -EINVAL,
                           "tensor '%s' has rows of %llu, not a multiple of the %u that a block of "
                           "%s holds",
                           text, (unsigned long long)t->dims[t->n_dims - 1], type->block,
                           type->name);
    }
    uint64_t blocks = entry.elements / type->block;
    if (blocks > (uint64_t)INT64_MAX / type->block_bytes) {
        return tsr_err_set(c->err, -EINVAL, "tensor '%s' has more bytes than can be counted", text);
    }
    t->bytes = blocks * type->block_bytes;
    t->name = text;
    entry.type = type->name;
    *added = entry;
    return 0;
}

/* Turns offsets into places in the file and checks them. */
static int place_tensors(struct tsr_gguf *gguf, struct cursor *c)
{
    int64_t alignment = ALIGNMENT_DEFAULT;
    if (tsr_gguf_int(gguf, "general.alignment", &alignment) &&
        (alignment < 1 || alignment > ALIGNMENT_MAX || (alignment & (alignment - 1)) != 0)) {
        return tsr_err_set(c->err, -EINVAL,
                           "general.alignment is %lld, not a power of two up to %d",
                           (long long)alignment, ALIGNMENT_MAX);
    }
    uint64_t align = (uint64_t)alignment;
    uint64_t data_off = (c->at + align - 1) / align * align;
    gguf->data_off = data_off < c->size ? data_off : c->size;
    for (size_t i = 0; i < gguf->tensors.n; i++) {
        struct tsr_tensor_entry *entry = &gguf->tensors.entries[i];
        struct tsr_tensor *t = &entry->tensor;
        if (entry->file_off % align != 0) {
            return tsr_err_set(c->err, -EINVAL,
                               "tensor '%s' begins at offset %llu, not a multiple of %llu", t->name,
                               (unsigned long long)entry->file_off, (unsigned long long)align);
        }
        if (entry->file_off > (uint64_t)INT64_MAX - data_off ||
            t->bytes > (uint64_t)INT64_MAX - data_off - entry->file_off) {
            return tsr_err_set(c->err, -EINVAL,
                               "tensor '%s' begins at offset %llu, beyond any file", t->name,
                               (unsigned long long)entry->file_off);
        }
        entry->file_off += data_off;
        uint64_t end = entry->file_off + t->bytes;
        if (end > c->size) {
            return tsr_err_set(c->err, -EINVAL,
                               "tensor '%s' ends at byte %llu of %zu: the file is truncated or "
                               "damaged; fetch it again",
                               t->name, (unsigned long long)end, c->size);
        }
        t->data = c->data + entry->file_off;
    }
    return tsr_tensors_check_disjoint(&gguf->tensors, 0, c->err);
}

static int parse(struct tsr_gguf *gguf, struct cursor *c)
{
    uint64_t n_tensors, n_keys;
    const uint8_t *magic = take(c, 4, "the magic");
    if (!magic) {
        return -EINVAL;
    }
    if (memcmp(magic, "GGUF", 4) != 0) {
        return tsr_err_set(c->err, -EINVAL, "is not a GGUF file: it does not begin with 'GGUF'");
    }
    if (take_u32(c, &gguf->version, "the version") < 0) {
        return -EINVAL;
    }
    if (gguf->version != 0 && (gguf->version & 0xffff) == 0) {
        return tsr_err_set(c->err, -ENOTSUP,
                           "is a big-endian GGUF file; convert it to little endian");
    }
    if (gguf->version != 2 && gguf->version != 3) {
        return tsr_err_set(c->err, -ENOTSUP,
                           "is GGUF version %u; versions 2 and 3 are supported: convert it again",
                           gguf->version);
    }
    if (take_u64(c, &n_tensors, "the number of tensors") < 0 ||
        take_u64(c, &n_keys, "the number of metadata keys") < 0) {
        return -EINVAL;
    }
    int rc = take_metadata(gguf, c, n_keys);
    if (rc < 0) {
        return rc;
    }
    if (n_tensors > (c->size - c->at) / TENSOR_BYTES_MIN) {
        return tsr_err_set(c->err, -EINVAL,
                           "the header states %llu tensors, more than %zu bytes can describe",
                           (unsigned long long)n_tensors, c->size - c->at);
    }
    rc = tsr_tensors_reserve(&gguf->tensors, n_tensors, c->err);
    for (uint64_t i = 0; i < n_tensors && rc == 0; i++) {
        rc = take_tensor(gguf, c);
    }
    if (rc == 0) {
        rc = place_tensors(gguf, c);
    }
    return rc < 0 ? rc : tsr_tensors_seal(&gguf->tensors, c->err);
}

int tsr_gguf_parse(struct tsr_gguf **gguf, const void *data, size_t size, struct tsr_err *err)
{
    struct tsr_gguf *made = calloc(1, sizeof *made);
    if (!made) {
        return tsr_err_set(err, -ENOMEM, "no memory to read a GGUF file");
    }
    made->map = (struct tsr_map){.data = data, .size = size};
    struct cursor cursor = {.data = data, .size = size, .err = err};
    int rc = parse(made, &cursor);
    if (rc < 0) {
        tsr_gguf_close(made);
        return rc;
    }
    *gguf = made;
    return 0;
}

int tsr_gguf_open(struct tsr_gguf **gguf, const char *path, struct tsr_err *err)
{
    struct tsr_map map;
    int rc = tsr_map_open(&map, path, err);
    if (rc < 0) {
        return rc;
    }
    rc = tsr_gguf_parse(gguf, map.data, map.size, err);
    if (rc < 0) {
        tsr_map_close(&map);
        tsr_err_prefix(err, "%s", path);
        return rc;
    }
    (*gguf)->mapped = true;
    return 0;
}

void tsr_gguf_close(struct tsr_gguf *gguf)
{
    if (!gguf) {
        return;
    }
    for (size_t i = 0; i < gguf->n_entries; i++) {
        free(gguf->entries[i].key);
        free(gguf->entries[i].array.strings);
    }
    free(gguf->entries);
    tsr_tensors_fini(&gguf->tensors);
    if (gguf->mapped) {
        tsr_map_close(&gguf->map);
    }
    free(gguf);
}
