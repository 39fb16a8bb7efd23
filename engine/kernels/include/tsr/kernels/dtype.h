/* Element and block types of weights as files store them, and their exact values. */
#ifndef TSR_KERNELS_DTYPE_H
#define TSR_KERNELS_DTYPE_H

#include <stddef.h>
#include <stdint.h>

/* Types of safetensors and of ggml, whose blocks are described in ggml-common.h
 * (github.com/ggml-org/llama.cpp). */
enum tsr_dtype {
    TSR_DTYPE_F32,
    TSR_DTYPE_F16,
    TSR_DTYPE_BF16,
    TSR_DTYPE_F64,
    TSR_DTYPE_F8_E4M3, /* "fn": no infinity, 0x7f and 0xff are NaN */
    TSR_DTYPE_I8,
    TSR_DTYPE_I16,
    TSR_DTYPE_I32,
    TSR_DTYPE_I64,
    TSR_DTYPE_Q8_0, /* the types from here on are blocks of integers */
    TSR_DTYPE_Q8_1,
    TSR_DTYPE_Q8_K,
    TSR_DTYPE_Q4_0,
    TSR_DTYPE_Q4_1,
    TSR_DTYPE_Q5_0,
    TSR_DTYPE_Q5_1,
    TSR_DTYPE_Q2_K,
    TSR_DTYPE_Q3_K,
    TSR_DTYPE_Q4_K,
    TSR_DTYPE_Q5_K,
    TSR_DTYPE_Q6_K,
    TSR_DTYPE_IQ4_NL,
    TSR_DTYPE_IQ4_XS,
    TSR_DTYPE_MXFP4,
    TSR_DTYPE_NVFP4,
    TSR_DTYPE_Q1_0,
    TSR_DTYPE_TQ1_0,
    TSR_DTYPE_TQ2_0,
    TSR_DTYPE_IQ2_XXS,
    TSR_DTYPE_IQ2_XS,
    TSR_DTYPE_IQ2_S,
    TSR_DTYPE_IQ3_XXS,
    TSR_DTYPE_IQ3_S,
    TSR_DTYPE_IQ1_S,
    TSR_DTYPE_IQ1_M,
    TSR_DTYPE_COUNT
};

struct tsr_dtype_info {
    const char *name;     /* "F32", "Q4_0": as llama.cpp and safetensors spell it */
    uint32_t block;       /* elements a block, 1 for plain types */
    uint32_t block_bytes; /* bytes a block */
};

const struct tsr_dtype_info *tsr_dtype_info(enum tsr_dtype dtype);

/* The f32 values of count elements (a multiple of the block) at src, unaligned as files have it:
 * what ggml's reference gives, bit for bit. F64, I32 and I64 are rounded to nearest even. */
void tsr_dtype_to_f32(enum tsr_dtype dtype, const void *src, float *out, size_t count);

/* IEEE 754 half and bfloat16 against float, round to nearest even, NaN kept. */
float tsr_f16_to_f32(uint16_t h);
uint16_t tsr_f32_to_f16(float f);
uint16_t tsr_f32_to_bf16(float f);
/* 8 bits: sign, 4 of exponent (bias 7), 3 of mantissa (Micikevicius et al., "FP8 formats for deep
 * learning", 2022). */
float tsr_f8_e4m3_to_f32(uint8_t h);
static inline float tsr_bf16_to_f32(uint16_t h)
{
    union {
        uint32_t u;
        float f;
    } v = {.u = (uint32_t)h << 16};
    return v.f;
}

#endif
