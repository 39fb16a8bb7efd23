/* What gguf.c builds and gguf_values.c answers from. */
#ifndef TSR_MODEL_GGUF_PRIV_H
#define TSR_MODEL_GGUF_PRIV_H

#include <tsr/model/gguf.h>

#include "map_priv.h"

struct tsr_gguf_array {
    enum tsr_gguf_type type;
    uint64_t count;
    const uint8_t *data; /* of element 0 */
    uint64_t *strings; /* [count] offset from data of each string's length; NULL for other types */
};

struct tsr_gguf_entry {
    char *key;
    enum tsr_gguf_type type;
    const uint8_t *data; /* of the value; of a string, its bytes */
    uint64_t size;       /* bytes of a string */
    struct tsr_gguf_array array;
};

struct tsr_gguf {
    struct tsr_map map;
    bool mapped; /* map is ours to close */
    uint32_t version;
    size_t n_entries;
    struct tsr_gguf_entry *entries; /* sorted by key */
    struct tsr_tensors tensors;
    uint64_t data_off;
};

/* Bytes of one value; 0 for strings and arrays, whose length the file states. */
extern const uint8_t tsr_gguf_type_bytes[TSR_GGUF_TYPE_COUNT];

#endif
