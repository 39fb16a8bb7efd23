/* ggml's numbers of tensor types. */
#ifndef TSR_MODEL_GGUF_TYPES_PRIV_H
#define TSR_MODEL_GGUF_TYPES_PRIV_H

#include <tsr/kernels/dtype.h>

/* The type of that number in a file, or TSR_DTYPE_COUNT where there is none. */
enum tsr_dtype tsr_ggml_dtype(uint32_t number);

#endif
