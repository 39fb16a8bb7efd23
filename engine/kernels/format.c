#include <tsr/kernels/format.h>

#include "blocks_priv.h"
#include "layout_priv.h"

#include <assert.h>
#include <math.h>

/* Layouts are constants to these: without, each bit costs a division. */
#define INLINE static inline __attribute__((always_inline))

enum { ROWS = TSR_PANEL_ROWS, GROUPS_MAX = 8 };

/* clang-format off */
static const struct tsr_format_info infos[TSR_FORMAT_COUNT] = {
    [TSR_FORMAT_F32]    = {"f32",    1,   64,   0},
    [TSR_FORMAT_F16]    = {"f16",    1,   32,   0},
    [TSR_FORMAT_BF16]   = {"bf16",   2,   64,   0},
    [TSR_FORMAT_Q8_0]   = {"q8_0",   32,  544,  32},
    [TSR_FORMAT_Q4_0]   = {"q4_0",   32,  288,  32},
    [TSR_FORMAT_Q4_1]   = {"q4_1",   32,  320,  32},
    [TSR_FORMAT_Q5_0]   = {"q5_0",   32,  352,  32},
    [TSR_FORMAT_Q5_1]   = {"q5_1",   32,  384,  32},
    [TSR_FORMAT_IQ4_NL] = {"iq4_nl", 32,  288,  32},
    [TSR_FORMAT_Q2_K]   = {"q2_k",   256, 1344, 16},
    [TSR_FORMAT_Q3_K]   = {"q3_k",   256, 1824, 16},
    [TSR_FORMAT_Q4_K]   = {"q4_k",   256, 2368, 32},
    [TSR_FORMAT_Q5_K]   = {"q5_k",   256, 2880, 32},
    [TSR_FORMAT_Q6_K]   = {"q6_k",   256, 3360, 16},
    [TSR_FORMAT_IQ4_XS] = {"iq4_xs", 256, 2208, 32},
};

/* Which format holds a type, and whether exactly. Absent: bf16, rounded. */
static const struct {
    uint8_t format;
    bool exact;
} holds[TSR_DTYPE_COUNT] = {
    [TSR_DTYPE_F32]     = {TSR_FORMAT_BF16,   false},
    [TSR_DTYPE_F16]     = {TSR_FORMAT_F16,    true},
    [TSR_DTYPE_BF16]    = {TSR_FORMAT_BF16,   true},
    [TSR_DTYPE_F64]     = {TSR_FORMAT_BF16,   false},
    [TSR_DTYPE_F8_E4M3] = {TSR_FORMAT_BF16,   false}, /* its block scales are f32 */
    [TSR_DTYPE_I8]      = {TSR_FORMAT_BF16,   true},
    [TSR_DTYPE_I16]     = {TSR_FORMAT_BF16,   false},
    [TSR_DTYPE_I32]     = {TSR_FORMAT_BF16,   false},
    [TSR_DTYPE_I64]     = {TSR_FORMAT_BF16,   false},
    [TSR_DTYPE_Q8_0]    = {TSR_FORMAT_Q8_0,   true},
    [TSR_DTYPE_Q8_1]    = {TSR_FORMAT_Q8_0,   true},
    [TSR_DTYPE_Q8_K]    = {TSR_FORMAT_BF16,   false}, /* its scales are f32 */
    [TSR_DTYPE_Q4_0]    = {TSR_FORMAT_Q4_0,   true},
    [TSR_DTYPE_Q4_1]    = {TSR_FORMAT_Q4_1,   true},
    [TSR_DTYPE_Q5_0]    = {TSR_FORMAT_Q5_0,   true},
    [TSR_DTYPE_Q5_1]    = {TSR_FORMAT_Q5_1,   true},
    [TSR_DTYPE_Q2_K]    = {TSR_FORMAT_Q2_K,   true},
    [TSR_DTYPE_Q3_K]    = {TSR_FORMAT_Q3_K,   true},
    [TSR_DTYPE_Q4_K]    = {TSR_FORMAT_Q4_K,   true},
    [TSR_DTYPE_Q5_K]    = {TSR_FORMAT_Q5_K,   true},
    [TSR_DTYPE_Q6_K]    = {TSR_FORMAT_Q6_K,   true},
    [TSR_DTYPE_IQ4_NL]  = {TSR_FORMAT_IQ4_NL, true},
    [TSR_DTYPE_IQ4_XS]  = {TSR_FORMAT_IQ4_XS, true},
    [TSR_DTYPE_MXFP4]   = {TSR_FORMAT_BF16,   true},
    [TSR_DTYPE_NVFP4]   = {TSR_FORMAT_BF16,   true},
    [TSR_DTYPE_Q1_0]    = {TSR_FORMAT_Q4_0,   true},
    [TSR_DTYPE_TQ1_0]   = {TSR_FORMAT_Q3_K,   true},
    [TSR_DTYPE_TQ2_0]   = {TSR_FORMAT_Q3_K,   true},
    [TSR_DTYPE_IQ2_XXS] = {TSR_FORMAT_Q8_0,   false},
    [TSR_DTYPE_IQ2_XS]  = {TSR_FORMAT_F16,    false},
    [TSR_DTYPE_IQ2_S]   = {TSR_FORMAT_F16,    false},
    [TSR_DTYPE_IQ3_XXS] = {TSR_FORMAT_Q8_0,   false},
    [TSR_DTYPE_IQ3_S]   = {TSR_FORMAT_Q6_K,   true},
    [TSR_DTYPE_IQ1_S]   = {TSR_FORMAT_Q8_0,   false},
    [TSR_DTYPE_IQ1_M]   = {TSR_FORMAT_F16,    false},
};
/* clang-format on */

const struct tsr_format_info *tsr_format_info(enum tsr_format format)
{
    assert(format < TSR_FORMAT_COUNT);
    return &infos[format];
}

enum tsr_format tsr_format_of(enum tsr_dtype dtype)
{
    assert(dtype < TSR_DTYPE_COUNT);
    return (enum tsr_format)holds[dtype].format;
}

enum tsr_format tsr_format_exact(enum tsr_dtype dtype)
{
    return holds[dtype].exact ? tsr_format_of(dtype) : TSR_FORMAT_F32;
}

static void store_u16(uint8_t *p, uint32_t v)
{
    uint16_t u = (uint16_t)v;
    memcpy(p, &u, sizeof u);
}

/* Where the bits of input k (0..31) lie in a row's lanes of a step's groups: which group, and the
 * lowest bit in its 32-bit lane. */
struct place {
    uint32_t low, low_bit, high, high_bit;
};

INLINE struct place place_of(const struct tsr_layout l, uint32_t k)
{
    const uint32_t n = 32u / l.low;          /* inputs a group */
    const uint32_t g = k / n, p = k % n / 2; /* group, pair */
    struct place at = {.low = g, .low_bit = l.low * p, .high = l.low};
    if (l.high == 2) {
        at.high += g / 2;
        at.high_bit = (p == 3 ? 0 : 4 * p + 4) + 2 * (g % 2);
    } else if (l.low == 4) {
        at.high_bit = (p == 3 ? 0 : 4 * p + 4) + g;
    } else {
        at.high_bit = (2 * (p % 4) + 2 + 8 * g + p / 4) % 16;
    }
    at.low_bit += k % 2 * 16;
    at.high_bit += k % 2 * 16;
    return at;
}

INLINE uint32_t encode(const struct tsr_layout l, int q)
{
    if (!l.table) {
        return (uint32_t)(q + l.offset) & ((1u << (l.low + l.high)) - 1);
    }
    uint32_t i = 0;
    while (tsr_iq4_values[i] != q) {
        i++;
    }
    return i;
}

INLINE int decode(const struct tsr_layout l, uint32_t v)
{
    return l.table ? tsr_iq4_values[v] : l.low == 8 ? (int8_t)v : (int)v - l.offset;
}

/* A step's integers into lane r of a packed block that was zero. */
INLINE void pack_step(const struct tsr_layout l, const struct tsr_ints *x, uint32_t step,
                      uint32_t r, uint8_t *block)
{
    float d = l.super ? x->d : x->d * x->scale[0], m = l.super ? x->m : x->m * x->min[0];
    store_u16(block + 2 * r, tsr_f32_to_f16(d));
    if (l.minima) {
        store_u16(block + 32 + 2 * r, tsr_f32_to_f16(m));
    }
    for (uint32_t i = 0; l.super && i < 32u / l.sub; i++) {
        uint32_t at = (step * (32u / l.sub) + i) * ROWS + r;
        uint8_t scale = (uint8_t)(int8_t)x->scale[i], min = (uint8_t)x->min[i];
        if (l.minima && l.sub == 32) {
            block[tsr_layout_minima(&l) + at] = min;
        } else if (l.minima) {
            scale |= (uint8_t)(min << 4);
        }
        block[tsr_layout_scales(&l) + at] = scale;
    }
    uint32_t lanes[GROUPS_MAX] = {0};
    for (uint32_t k = 0; k < 32; k++) {
        struct place at = place_of(l, k);
        uint32_t v = encode(l, x->q[k]);
        lanes[at.low] |= (v & ((1u << l.low) - 1)) << at.low_bit;
        if (l.high) {
            lanes[at.high] |= v >> l.low << at.high_bit;
        }
    }
    uint8_t *groups = block + tsr_layout_groups(&l) + step * tsr_layout_step_bytes(&l);
    for (uint32_t i = 0; i < (uint32_t)l.low + l.high; i++) {
        memcpy(groups + 64 * i + 4 * r, &lanes[i], 4);
    }
}

INLINE void pack_row_as(const enum tsr_format format, enum tsr_dtype dtype, const uint8_t *src,
                        uint32_t cols, uint32_t r, uint8_t *panel)
{
    const struct tsr_layout l = tsr_layouts[format];
    const struct tsr_dtype_info *info = tsr_dtype_info(dtype);
    const uint32_t steps = tsr_layout_steps(&l);
    for (uint32_t s = 0; s < cols / 32; s++) {
        struct tsr_ints x;
        const uint8_t *block = src + (size_t)(32 * s / info->block) * info->block_bytes;
        tsr_block_ints(dtype, block, 32 * s % info->block / 32, &x);
        pack_step(l, &x, s % steps, r, panel + s / steps * tsr_layout_block_bytes(&l));
    }
}

static void pack_row(enum tsr_format format, enum tsr_dtype dtype, const uint8_t *src,
                     uint32_t cols, uint32_t r, uint8_t *panel)
{
#define CASE(name, f)                                                                              \
    case f:                                                                                        \
        pack_row_as(f, dtype, src, cols, r, panel);                                                \
        break;
    switch (format) {
        TSR_BLOCK_FORMATS(CASE)
    default:
        assert(0);
    }
#undef CASE
}

/* q8_0 from values: one scale of absmax / 127 for 32 inputs. */
static void quantize_block(const float *x, uint32_t r, uint8_t *block)
{
    struct tsr_ints ints = {.scale = {1, 1}};
    float most = 0;
    for (uint32_t k = 0; k < 32; k++) {
        most = fmaxf(most, fabsf(x[k]));
    }
    ints.d = tsr_f16_to_f32(tsr_f32_to_f16(most / 127.0f));
    for (uint32_t k = 0; k < 32; k++) {
        float q = ints.d > 0 ? rintf(x[k] / ints.d) : 0;
        ints.q[k] = (int8_t)fminf(fmaxf(q, -127), 127);
    }
    pack_step(tsr_layouts[TSR_FORMAT_Q8_0], &ints, 0, r, block);
}

void tsr_panel_put_row(enum tsr_format format, const float *x, uint32_t cols, uint32_t row,
                       void *panel)
{
    const uint32_t block = tsr_format_info(format)->block;
    uint8_t *p = panel;
    for (uint32_t k = 0; k < (cols + block - 1) / block * block; k++) {
        switch (format) {
        case TSR_FORMAT_F32:
            memcpy(p + (size_t)k * 64 + row * 4, &x[k], 4);
            break;
        case TSR_FORMAT_F16:
            store_u16(p + (size_t)k * 32 + row * 2, tsr_f32_to_f16(x[k]));
            break;
        case TSR_FORMAT_BF16:
            store_u16(p + (size_t)(k / 2) * 64 + row * 4 + k % 2 * 2, tsr_f32_to_bf16(x[k]));
            break;
        default:
            assert(format == TSR_FORMAT_Q8_0);
            if (k % 32 == 0) {
                quantize_block(x + k, row, p + (size_t)(k / 32) * 544);
            }
        }
    }
}

bool tsr_panel_pack(enum tsr_format format, enum tsr_dtype dtype, const void *const rows[16],
                    uint32_t cols, void *panel, float *scratch)
{
    const struct tsr_format_info *info = tsr_format_info(format);
    bool own = info->scale_inputs && tsr_format_of(dtype) == format;
    if (!own && info->scale_inputs && format != TSR_FORMAT_Q8_0) {
        return false;
    }
    assert(cols % tsr_dtype_info(dtype)->block == 0);
    uint32_t padded = (cols + info->block - 1) / info->block * info->block;
    memset(panel, 0, tsr_panel_bytes(format, cols));
    for (uint32_t r = 0; r < ROWS; r++) {
        if (!rows[r]) {
            continue;
        }
        if (own) {
            pack_row(format, dtype, rows[r], cols, r, panel);
        } else {
            tsr_dtype_to_f32(dtype, rows[r], scratch, cols);
            memset(scratch + cols, 0, (padded - cols) * sizeof *scratch);
            tsr_panel_put_row(format, scratch, cols, r, panel);
        }
    }
    return true;
}

/* The 32 inputs from k0 of row r of a block format's panel. */
struct row_step {
    int16_t q[32];
    float d[2], m[2];
};

INLINE void read_step_as(const struct tsr_layout l, const uint8_t *panel, uint32_t k0, uint32_t r,
                         struct row_step *out)
{
    const uint32_t steps = tsr_layout_steps(&l), step = k0 / 32 % steps;
    const uint8_t *block = panel + k0 / 32 / steps * tsr_layout_block_bytes(&l);
    const uint8_t *groups = block + tsr_layout_groups(&l) + step * tsr_layout_step_bytes(&l);
    float d = tsr_f16_to_f32(tsr_load_u16(block + 2 * r));
    float m = l.minima ? tsr_f16_to_f32(tsr_load_u16(block + 32 + 2 * r)) : 0;
    for (uint32_t i = 0; i < 2; i++) {
        uint32_t at = (l.sub == 32 ? step : 2 * step + i) * ROWS + r;
        out->d[i] = d;
        out->m[i] = m;
        if (l.super) {
            uint8_t scale = block[tsr_layout_scales(&l) + at];
            uint8_t min = l.minima ? block[tsr_layout_minima(&l) + at] : 0;
            if (l.minima && l.sub == 16) {
                scale &= 15;
                min >>= 4;
            }
            out->d[i] *= (float)(int8_t)scale;
            out->m[i] *= (float)min;
        }
    }
    uint32_t lanes[GROUPS_MAX];
    for (uint32_t i = 0; i < (uint32_t)l.low + l.high; i++) {
        lanes[i] = tsr_load_u32(groups + 64 * i + 4 * r);
    }
    for (uint32_t k = 0; k < 32; k++) {
        struct place at = place_of(l, k);
        uint32_t v = lanes[at.low] >> at.low_bit & ((1u << l.low) - 1);
        if (l.high) {
            v |= (lanes[at.high] >> at.high_bit & ((1u << l.high) - 1)) << l.low;
        }
        out->q[k] = (int16_t)decode(l, v);
    }
}

static void read_step(enum tsr_format format, const uint8_t *panel, uint32_t k0, uint32_t r,
                      struct row_step *out)
{
#define CASE(name, f)                                                                              \
    case f:                                                                                        \
        read_step_as(tsr_layouts[f], panel, k0, r, out);                                           \
        break;
    switch (format) {
        TSR_BLOCK_FORMATS(CASE)
    default:
        assert(0);
    }
#undef CASE
}

void tsr_panel_to_int(enum tsr_format format, const void *panel, uint32_t k0, int16_t q[32][16],
                      float d[2][16], float m[2][16])
{
    for (uint32_t r = 0; r < ROWS; r++) {
        struct row_step x;
        read_step(format, panel, k0, r, &x);
        for (uint32_t k = 0; k < 32; k++) {
            q[k][r] = x.q[k];
        }
        for (uint32_t i = 0; i < 2; i++) {
            d[i][r] = x.d[i];
            m[i][r] = x.m[i];
        }
    }
}

static float plain_value(enum tsr_format format, const uint8_t *panel, uint32_t k, uint32_t r)
{
    float f;
    switch (format) {
    case TSR_FORMAT_F32:
        memcpy(&f, panel + (size_t)k * 64 + r * 4, 4);
        return f;
    case TSR_FORMAT_F16:
        return tsr_f16_to_f32(tsr_load_u16(panel + (size_t)k * 32 + r * 2));
    default:
        return tsr_bf16_to_f32(tsr_load_u16(panel + (size_t)(k / 2) * 64 + r * 4 + k % 2 * 2));
    }
}

/* Input k of row r, for ascending k; a block format's step is read where it begins. */
static float value(enum tsr_format format, const uint8_t *panel, uint32_t k, uint32_t r,
                   struct row_step *x)
{
    const struct tsr_layout *l = &tsr_layouts[format];
    if (!l->sub) {
        return plain_value(format, panel, k, r);
    }
    if (k % 32 == 0) {
        read_step(format, panel, k, r, x);
    }
    float v = x->d[k % 32 / 16] * (float)x->q[k % 32];
    return l->minima ? v + x->m[k % 32 / 16] : v;
}

void tsr_panel_to_f32(enum tsr_format format, const void *panel, uint32_t k0, uint32_t n,
                      float *out)
{
    assert(k0 % tsr_format_info(format)->block == 0);
    for (uint32_t r = 0; r < ROWS; r++) {
        struct row_step x;
        for (uint32_t k = 0; k < n; k++) {
            out[k * ROWS + r] = value(format, panel, k0 + k, r, &x);
        }
    }
}

void tsr_panel_row(enum tsr_format format, const void *panel, uint32_t row, uint32_t cols,
                   float *out)
{
    struct row_step x;
    for (uint32_t k = 0; k < cols; k++) {
        out[k] = value(format, panel, k, row, &x);
    }
}
