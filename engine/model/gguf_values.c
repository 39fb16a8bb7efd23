#include "gguf_priv.h"

#include <stdlib.h>
#include <string.h>

const uint8_t tsr_gguf_type_bytes[TSR_GGUF_TYPE_COUNT] = {
    [TSR_GGUF_U8] = 1,  [TSR_GGUF_I8] = 1,  [TSR_GGUF_U16] = 2, [TSR_GGUF_I16] = 2,
    [TSR_GGUF_U32] = 4, [TSR_GGUF_I32] = 4, [TSR_GGUF_F32] = 4, [TSR_GGUF_BOOL] = 1,
    [TSR_GGUF_U64] = 8, [TSR_GGUF_I64] = 8, [TSR_GGUF_F64] = 8,
};

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

uint32_t tsr_gguf_version(const struct tsr_gguf *gguf)
{
    return gguf->version;
}

uint64_t tsr_gguf_bytes(const struct tsr_gguf *gguf)
{
    return gguf->map.size;
}

static int compare_key(const void *key, const void *entry)
{
    return strcmp(key, ((const struct tsr_gguf_entry *)entry)->key);
}

static const struct tsr_gguf_entry *find(const struct tsr_gguf *gguf, const char *key)
{
    return gguf->n_entries
               ? bsearch(key, gguf->entries, gguf->n_entries, sizeof *gguf->entries, compare_key)
               : NULL;
}

/* An integer or bool of any type; false for others and above INT64_MAX. */
static bool decode_int(enum tsr_gguf_type type, const uint8_t *data, int64_t *value)
{
    uint16_t u16;
    switch (type) {
    case TSR_GGUF_U8:
    case TSR_GGUF_BOOL:
        *value = data[0];
        return true;
    case TSR_GGUF_I8:
        *value = (int8_t)data[0];
        return true;
    case TSR_GGUF_U16:
    case TSR_GGUF_I16:
        memcpy(&u16, data, sizeof u16);
        *value = type == TSR_GGUF_U16 ? u16 : (int16_t)u16;
        return true;
    case TSR_GGUF_U32:
        *value = load_u32(data);
        return true;
    case TSR_GGUF_I32:
        *value = (int32_t)load_u32(data);
        return true;
    case TSR_GGUF_U64:
    case TSR_GGUF_I64:
        *value = (int64_t)load_u64(data);
        return type == TSR_GGUF_I64 || *value >= 0;
    default:
        return false;
    }
}

static bool decode_float(enum tsr_gguf_type type, const uint8_t *data, double *value)
{
    if (type == TSR_GGUF_F32) {
        float f;
        memcpy(&f, data, sizeof f);
        *value = (double)f;
        return true;
    }
    if (type == TSR_GGUF_F64) {
        memcpy(value, data, sizeof *value);
        return true;
    }
    int64_t i;
    if (!decode_int(type, data, &i)) {
        return false;
    }
    *value = (double)i;
    return true;
}

bool tsr_gguf_has(const struct tsr_gguf *gguf, const char *key)
{
    return find(gguf, key) != NULL;
}

bool tsr_gguf_string(const struct tsr_gguf *gguf, const char *key, struct tsr_gguf_string *value)
{
    const struct tsr_gguf_entry *entry = find(gguf, key);
    if (!entry || entry->type != TSR_GGUF_STRING) {
        return false;
    }
    *value = (struct tsr_gguf_string){(const char *)entry->data, entry->size};
    return true;
}

bool tsr_gguf_int(const struct tsr_gguf *gguf, const char *key, int64_t *value)
{
    const struct tsr_gguf_entry *entry = find(gguf, key);
    return entry && entry->type != TSR_GGUF_BOOL && decode_int(entry->type, entry->data, value);
}

bool tsr_gguf_float(const struct tsr_gguf *gguf, const char *key, double *value)
{
    const struct tsr_gguf_entry *entry = find(gguf, key);
    return entry && entry->type != TSR_GGUF_BOOL && decode_float(entry->type, entry->data, value);
}

bool tsr_gguf_bool(const struct tsr_gguf *gguf, const char *key, bool *value)
{
    const struct tsr_gguf_entry *entry = find(gguf, key);
    if (!entry || entry->type != TSR_GGUF_BOOL) {
        return false;
    }
    *value = entry->data[0] != 0;
    return true;
}

const struct tsr_gguf_array *tsr_gguf_array(const struct tsr_gguf *gguf, const char *key)
{
    const struct tsr_gguf_entry *entry = find(gguf, key);
    return entry && entry->type == TSR_GGUF_ARRAY ? &entry->array : NULL;
}

uint64_t tsr_gguf_array_count(const struct tsr_gguf_array *array)
{
    return array->count;
}

enum tsr_gguf_type tsr_gguf_array_type(const struct tsr_gguf_array *array)
{
    return array->type;
}

struct tsr_gguf_string tsr_gguf_array_string(const struct tsr_gguf_array *array, uint64_t i)
{
    if (i >= array->count || array->type != TSR_GGUF_STRING) {
        return (struct tsr_gguf_string){"", 0};
    }
    const uint8_t *at = array->data + array->strings[i];
    return (struct tsr_gguf_string){(const char *)at + 8, load_u64(at)};
}

int64_t tsr_gguf_array_int(const struct tsr_gguf_array *array, uint64_t i)
{
    int64_t value;
    if (i >= array->count ||
        !decode_int(array->type, array->data + i * tsr_gguf_type_bytes[array->type], &value)) {
        return 0;
    }
    return value;
}

double tsr_gguf_array_float(const struct tsr_gguf_array *array, uint64_t i)
{
    double value;
    if (i >= array->count ||
        !decode_float(array->type, array->data + i * tsr_gguf_type_bytes[array->type], &value)) {
        return 0.0;
    }
    return value;
}

size_t tsr_gguf_keys(const struct tsr_gguf *gguf)
{
    return gguf->n_entries;
}

const char *tsr_gguf_key(const struct tsr_gguf *gguf, size_t i, enum tsr_gguf_type *type)
{
    if (i >= gguf->n_entries) {
        return NULL;
    }
    *type = gguf->entries[i].type;
    return gguf->entries[i].key;
}

struct tsr_tensors *tsr_gguf_tensors(struct tsr_gguf *gguf)
{
    return &gguf->tensors;
}

uint64_t tsr_gguf_data_off(const struct tsr_gguf *gguf)
{
    return gguf->data_off;
}

void tsr_gguf_drop_tensors(struct tsr_gguf *gguf)
{
    if (gguf->mapped) {
        tsr_map_drop(&gguf->map, gguf->data_off, gguf->map.size - gguf->data_off);
    }
}
