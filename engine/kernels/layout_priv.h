/* The block formats of format.h by their figures. Kernels read the table with a constant format, so
 * that the compiler sees constants. */
#ifndef TSR_KERNELS_LAYOUT_PRIV_H
#define TSR_KERNELS_LAYOUT_PRIV_H

#include <stdbool.h>

#include <tsr/kernels/format.h>

struct tsr_layout {
    uint8_t low, high; /* bits of a weight in groups L and H */
    uint8_t sub;       /* inputs that share a scale: 32 or 16 */
    uint8_t offset;    /* is subtracted */
    bool minima;
    bool super; /* blocks of 256, whose scales (and minima) are 8-bit factors of d (and m) */
    bool table; /* weights are indices into tsr_iq4_values */
};

/* clang-format off */
static const struct tsr_layout tsr_layouts[TSR_FORMAT_COUNT] = {
    [TSR_FORMAT_Q8_0]   = {8, 0, 32,  0, false, false, false},
    [TSR_FORMAT_Q4_0]   = {4, 0, 32,  8, false, false, false},
    [TSR_FORMAT_Q4_1]   = {4, 0, 32,  0, true,  false, false},
    [TSR_FORMAT_Q5_0]   = {4, 1, 32, 16, false, false, false},
    [TSR_FORMAT_Q5_1]   = {4, 1, 32,  0, true,  false, false},
    [TSR_FORMAT_IQ4_NL] = {4, 0, 32,  0, false, false, true},
    [TSR_FORMAT_Q2_K]   = {2, 0, 16,  0, true,  true,  false},
    [TSR_FORMAT_Q3_K]   = {2, 1, 16,  4, false, true,  false},
    [TSR_FORMAT_Q4_K]   = {4, 0, 32,  0, true,  true,  false},
    [TSR_FORMAT_Q5_K]   = {4, 1, 32,  0, true,  true,  false},
    [TSR_FORMAT_Q6_K]   = {4, 2, 16, 32, false, true,  false},
    [TSR_FORMAT_IQ4_XS] = {4, 0, 32,  0, false, true,  true},
};
/* clang-format on */

/* Steps of 32 inputs in a block, and bytes of a step's groups. */
static inline uint32_t tsr_layout_steps(const struct tsr_layout *l)
{
    return l->super ? 8 : 1;
}

static inline size_t tsr_layout_step_bytes(const struct tsr_layout *l)
{
    return 64 * (size_t)(l->low + l->high);
}

/* Where in a block the 8-bit scales, the minima and the groups begin. The minima of 16 inputs have
 * 4 bits and lie above their scales' 4 bits. */
static inline size_t tsr_layout_scales(const struct tsr_layout *l)
{
    return l->minima ? 64 : 32;
}

static inline size_t tsr_layout_minima(const struct tsr_layout *l)
{
    return tsr_layout_scales(l) + (l->sub == 32 ? 128 : 0);
}

static inline size_t tsr_layout_groups(const struct tsr_layout *l)
{
    size_t scales = l->super ? 4096u / l->sub : 0;
    return tsr_layout_scales(l) + (l->minima && l->sub == 32 ? 2 * scales : scales);
}

static inline size_t tsr_layout_block_bytes(const struct tsr_layout *l)
{
    return tsr_layout_groups(l) + tsr_layout_steps(l) * tsr_layout_step_bytes(l);
}

#endif
