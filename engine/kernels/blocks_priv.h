/* ggml's blocks as integers: what dtype.c takes values from and format.c packs. */
#ifndef TSR_KERNELS_BLOCKS_PRIV_H
#define TSR_KERNELS_BLOCKS_PRIV_H

#include <stdbool.h>
#include <string.h>

#include <tsr/kernels/dtype.h>

/* 32 weights: weight i = (d * scale[i / 16]) * q[i] + m * min[i / 16], and without minima no sum.
 * The products d * scale and m * min are exact for all types but those with an f32 scale. */
struct tsr_ints {
    int8_t q[32];
    float d, m;
    float scale[2], min[2]; /* whole numbers but for NVFP4 */
};

/* Whether dtype is made of blocks of such integers, and whether these have minima. */
bool tsr_dtype_is_ints(enum tsr_dtype dtype);
bool tsr_dtype_has_minima(enum tsr_dtype dtype);

/* Inputs [32 * step, 32 * step + 32) of a block. */
void tsr_block_ints(enum tsr_dtype dtype, const uint8_t *block, uint32_t step,
                    struct tsr_ints *out);

/* The 16 values of IQ4_NL and IQ4_XS. */
extern const int8_t tsr_iq4_values[16];

/* Codebooks of IQ types (grids.c). An entry's numbers are indices of 2 bits into {8, 25, 43} (iq1:
 * {-1, 0, 1}), of 3 bits into {4, 12, 20, 28, 36, 44, 52, 62} (iq3_s: {1, 3, .. 15}), the first
 * lowest. */
extern const uint16_t tsr_grid_iq2_xxs[256], tsr_grid_iq2_xs[512], tsr_grid_iq2_s[1024];
extern const uint16_t tsr_grid_iq3_xxs[256], tsr_grid_iq3_s[512], tsr_grid_iq1[2048];

static inline uint16_t tsr_load_u16(const uint8_t *p)
{
    uint16_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

static inline uint32_t tsr_load_u32(const uint8_t *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

#endif
