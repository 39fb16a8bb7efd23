/* Random blocks of every type whose scales are finite; for tests only. */
#ifndef TSR_TESTS_BLOCKS_H
#define TSR_TESTS_BLOCKS_H

#include <string.h>

#include <tsr/kernels/dtype.h>

static uint32_t blocks_state = 12345;

static inline uint32_t blocks_next(void)
{
    blocks_state = blocks_state * 1664525u + 1013904223u;
    return blocks_state >> 8;
}

/* Where the f16 fields of a block lie. */
static inline int blocks_halves(enum tsr_dtype dtype, uint32_t at[2])
{
    at[0] = 0;
    at[1] = 2;
    switch (dtype) {
    case TSR_DTYPE_F32:
    case TSR_DTYPE_MXFP4:
    case TSR_DTYPE_NVFP4:
    case TSR_DTYPE_IQ1_M:
        return 0;
    case TSR_DTYPE_Q4_1:
    case TSR_DTYPE_Q5_1:
    case TSR_DTYPE_Q4_K:
    case TSR_DTYPE_Q5_K:
        return 2;
    case TSR_DTYPE_Q2_K:
        at[0] = 80;
        at[1] = 82;
        return 2;
    case TSR_DTYPE_Q3_K:
        at[0] = 108;
        return 1;
    case TSR_DTYPE_Q6_K:
        at[0] = 208;
        return 1;
    case TSR_DTYPE_TQ1_0:
        at[0] = 52;
        return 1;
    case TSR_DTYPE_TQ2_0:
        at[0] = 64;
        return 1;
    default:
        return 1;
    }
}

/* A row of cols (a multiple of the block) weights; scales up to `scale` in size. */
static inline void blocks_random_row(enum tsr_dtype dtype, uint8_t *row, uint32_t cols, float scale)
{
    const struct tsr_dtype_info *info = tsr_dtype_info(dtype);
    uint32_t at[2];
    int halves = blocks_halves(dtype, at);
    for (uint32_t b = 0; b < cols / info->block; b++) {
        uint8_t *p = row + (size_t)b * info->block_bytes;
        float f = ((float)(blocks_next() & 0xffff) / 32768 - 1) * scale;
        for (uint32_t i = 0; i < info->block_bytes; i++) {
            p[i] = (uint8_t)blocks_next();
        }
        for (int i = 0; i < halves; i++) {
            uint16_t h = dtype == TSR_DTYPE_BF16 ? tsr_f32_to_bf16(f) : tsr_f32_to_f16(f);
            memcpy(p + at[i], &h, 2);
            f = -f / 3;
        }
        if (dtype == TSR_DTYPE_F32 || dtype == TSR_DTYPE_Q8_K) {
            memcpy(p, &f, 4);
        } else if (dtype == TSR_DTYPE_MXFP4) {
            p[0] = (uint8_t)(110 + p[0] % 16);
        } else if (dtype == TSR_DTYPE_IQ1_M) {
            p[55] = (uint8_t)((p[55] & 15) | 0x20); /* the top of its scattered f16 */
        }
    }
}

#endif
