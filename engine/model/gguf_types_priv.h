/* ggml's tensor types: one table. */
#ifndef TSR_MODEL_GGUF_TYPES_PRIV_H
#define TSR_MODEL_GGUF_TYPES_PRIV_H

#include <stdint.h>

#include <tsr/kernels/dtype.h>

struct tsr_ggml_type {
    const char *name;
    uint32_t block;       /* elements a block */
    uint32_t block_bytes; /* bytes a block */
    enum tsr_dtype dtype; /* TSR_DTYPE_COUNT: known by size, not computed with */
};

/* The type of that number in a file, or NULL where there is none. */
const struct tsr_ggml_type *tsr_ggml_type(uint32_t number);

#endif
