/* Element and block types of weights as files store them, and their exact values. */
#ifndef TSR_KERNELS_DTYPE_H
#define TSR_KERNELS_DTYPE_H

#include <stddef.h>
#include <stdint.h>

enum tsr_dtype {
    TSR_DTYPE_F32,
    TSR_DTYPE_F16,
    TSR_DTYPE_BF16,
    TSR_DTYPE_Q8_0, /* blocks of 32: f16 scale, 32 x i8; value = d * q (ggml block_q8_0) */
    TSR_DTYPE_Q4_0, /* blocks of 32: f16 scale, 16 bytes; value = d * (q - 8) (ggml block_q4_0) */
    TSR_DTYPE_Q4_1, /* blocks of 32: f16 scale and minimum, 16 bytes; value = d * q + m (block_q4_1)
                     */
    TSR_DTYPE_Q6_K, /* blocks of 256: 128 low bytes, 64 high bytes, 16 x i8 scales, f16 d
                       (block_q6_K) */
    TSR_DTYPE_COUNT
};

struct tsr_dtype_info {
    const char *name;     /* "F32", "Q4_0": as llama.cpp and safetensors spell it */
    uint32_t block;       /* elements a block, 1 for plain types */
    uint32_t block_bytes; /* bytes a block */
};

const struct tsr_dtype_info *tsr_dtype_info(enum tsr_dtype dtype);

/* The exact f32 values of count elements (a multiple of the block) at src, unaligned as files have
 * it. */
void tsr_dtype_to_f32(enum tsr_dtype dtype, const void *src, float *out, size_t count);

/* IEEE 754 half and bfloat16 against float, round to nearest even, NaN kept. */
float tsr_f16_to_f32(uint16_t h);
uint16_t tsr_f32_to_f16(float f);
uint16_t tsr_f32_to_bf16(float f);
static inline float tsr_bf16_to_f32(uint16_t h)
{
    union {
        uint32_t u;
        float f;
    } v = {.u = (uint32_t)h << 16};
    return v.f;
}

#endif
