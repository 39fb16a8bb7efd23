#include <tsr/kernels/format.h>

#include <assert.h>
#include <math.h>
#include <string.h>

enum { ROWS = TSR_PANEL_ROWS };

static const struct tsr_format_info infos[TSR_FORMAT_COUNT] = {
    [TSR_FORMAT_F32] = {"f32", 1, 64, 0},        [TSR_FORMAT_F16] = {"f16", 1, 32, 0},
    [TSR_FORMAT_BF16] = {"bf16", 2, 64, 0},      [TSR_FORMAT_Q8_0] = {"q8_0", 32, 544, 32},
    [TSR_FORMAT_Q4_0] = {"q4_0", 32, 288, 32},   [TSR_FORMAT_Q4_1] = {"q4_1", 32, 320, 32},
    [TSR_FORMAT_Q6_K] = {"q6_k", 256, 3360, 16},
};

const struct tsr_format_info *tsr_format_info(enum tsr_format format)
{
    assert(format < TSR_FORMAT_COUNT);
    return &infos[format];
}

enum tsr_format tsr_format_of(enum tsr_dtype dtype)
{
    switch (dtype) {
    case TSR_DTYPE_F16:
        return TSR_FORMAT_F16;
    case TSR_DTYPE_Q8_0:
        return TSR_FORMAT_Q8_0;
    case TSR_DTYPE_Q4_0:
        return TSR_FORMAT_Q4_0;
    case TSR_DTYPE_Q4_1:
        return TSR_FORMAT_Q4_1;
    case TSR_DTYPE_Q6_K:
        return TSR_FORMAT_Q6_K;
    default:
        return TSR_FORMAT_BF16;
    }
}

static uint16_t load_u16(const uint8_t *p)
{
    uint16_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

static void store_u16(uint8_t *p, uint16_t v)
{
    memcpy(p, &v, sizeof v);
}

/* Position of input k (0..31) of row r in the groups that follow a q8_0 or q4 block's scales. */
static uint8_t *byte_of(uint8_t *groups, uint32_t k, uint32_t r)
{
    static const uint8_t place[4] = {0, 2, 1, 3}; /* byte of input 4g + i */
    return groups + k / 4 * 64 + r * 4 + place[k % 4];
}

static void nibble_set(uint8_t *groups, uint32_t k, uint32_t r, uint32_t value)
{
    uint32_t p = k % 8 / 2, half = k % 2;
    groups[k / 8 * 64 + r * 4 + half * 2 + p / 2] |= (uint8_t)(value << (p % 2 * 4));
}

static uint32_t nibble_get(const uint8_t *groups, uint32_t k, uint32_t r)
{
    uint32_t p = k % 8 / 2, half = k % 2;
    return (uint32_t)groups[k / 8 * 64 + r * 4 + half * 2 + p / 2] >> (p % 2 * 4) & 15u;
}

/* Bit of H at which the two high bits of input k (0..31) lie in its 16-bit half, and the half's
 * address. */
static uint8_t *high_of(uint8_t *h_groups, uint32_t k, uint32_t r, uint32_t *bit)
{
    uint32_t group = k / 8, p = k % 8 / 2, half = k % 2;
    *bit = (p == 3 ? 0 : 4 * p + 4) + 2 * (group % 2);
    return h_groups + group / 2 * 64 + r * 4 + half * 2;
}

/* A row of one block of the file's own type into lane r of a zeroed packed block. */
static void repack_block(enum tsr_format format, const uint8_t *src, uint32_t r, uint8_t *dst)
{
    switch (format) {
    case TSR_FORMAT_Q8_0:
        memcpy(dst + 2 * r, src, 2);
        for (uint32_t k = 0; k < 32; k++) {
            *byte_of(dst + 32, k, r) = src[2 + k];
        }
        break;
    case TSR_FORMAT_Q4_0:
    case TSR_FORMAT_Q4_1: {
        uint32_t heads = format == TSR_FORMAT_Q4_0 ? 1 : 2; /* d, or d and m */
        memcpy(dst + 2 * r, src, 2);
        if (heads == 2) {
            memcpy(dst + 32 + 2 * r, src + 2, 2);
        }
        for (uint32_t i = 0; i < 16; i++) {
            uint8_t byte = src[2 * heads + i];
            nibble_set(dst + 32 * heads, i, r, byte & 15);
            nibble_set(dst + 32 * heads, i + 16, r, byte >> 4);
        }
        break;
    }
    case TSR_FORMAT_Q6_K:
        memcpy(dst + 2 * r, src + 208, 2);
        for (uint32_t s = 0; s < 16; s++) {
            dst[32 + 16 * s + r] = src[192 + s];
        }
        for (uint32_t k = 0; k < 256; k++) {
            uint32_t half = k / 128, run = k % 128 / 32, i = k % 32;
            uint32_t low = src[64 * half + 32 * (run & 1) + i] >> (run >= 2 ? 4 : 0) & 15u;
            uint32_t high = src[128 + 32 * half + i] >> (2 * run) & 3u;
            uint8_t *part = dst + 288 + k / 32 * 384;
            uint32_t bit;
            uint8_t *h = high_of(part + 256, i, r, &bit);
            nibble_set(part, i, r, low);
            store_u16(h, (uint16_t)(load_u16(h) | high << bit));
        }
        break;
    default:
        assert(0);
    }
}

/* q8_0 from values: one scale of absmax / 127 for 32 inputs. */
static void quantize_block(const float *x, uint32_t r, uint8_t *dst)
{
    float most = 0;
    for (uint32_t k = 0; k < 32; k++) {
        most = fmaxf(most, fabsf(x[k]));
    }
    uint16_t half = tsr_f32_to_f16(most / 127.0f);
    float d = tsr_f16_to_f32(half);
    store_u16(dst + 2 * r, half);
    for (uint32_t k = 0; k < 32; k++) {
        float q = d > 0 ? rintf(x[k] / d) : 0;
        *byte_of(dst + 32, k, r) = (uint8_t)(int8_t)fminf(fmaxf(q, -127), 127);
    }
}

static void convert_row(enum tsr_format format, const float *x, uint32_t cols_padded, uint32_t r,
                        uint8_t *panel)
{
    for (uint32_t k = 0; k < cols_padded; k++) {
        switch (format) {
        case TSR_FORMAT_F32:
            memcpy(panel + (size_t)k * 64 + r * 4, &x[k], 4);
            break;
        case TSR_FORMAT_F16:
            store_u16(panel + (size_t)k * 32 + r * 2, tsr_f32_to_f16(x[k]));
            break;
        case TSR_FORMAT_BF16:
            store_u16(panel + (size_t)(k / 2) * 64 + r * 4 + k % 2 * 2, tsr_f32_to_bf16(x[k]));
            break;
        default: /* q8_0 */
            if (k % 32 == 0) {
                quantize_block(x + k, r, panel + (size_t)(k / 32) * 544);
            }
        }
    }
}

bool tsr_panel_pack(enum tsr_format format, enum tsr_dtype dtype, const void *const rows[16],
                    uint32_t cols, void *panel, float *scratch)
{
    const struct tsr_format_info *info = tsr_format_info(format);
    const struct tsr_dtype_info *src = tsr_dtype_info(dtype);
    bool own = info->scale_inputs && tsr_format_of(dtype) == format;
    if (!own && info->scale_inputs && format != TSR_FORMAT_Q8_0) {
        return false;
    }
    assert(cols % src->block == 0);
    uint32_t padded = (cols + info->block - 1) / info->block * info->block;
    memset(panel, 0, tsr_panel_bytes(format, cols));
    for (uint32_t r = 0; r < ROWS; r++) {
        if (!rows[r]) {
            continue;
        }
        if (own) {
            for (uint32_t b = 0; b < cols / info->block; b++) {
                repack_block(format, (const uint8_t *)rows[r] + (size_t)b * src->block_bytes, r,
                             (uint8_t *)panel + (size_t)b * info->block_bytes);
            }
        } else {
            tsr_dtype_to_f32(dtype, rows[r], scratch, cols);
            memset(scratch + cols, 0, (padded - cols) * sizeof *scratch);
            convert_row(format, scratch, padded, r, panel);
        }
    }
    return true;
}

void tsr_panel_to_int(enum tsr_format format, const void *panel, uint32_t k0, int16_t q[32][16],
                      float d[2][16], float m[16])
{
    const struct tsr_format_info *info = tsr_format_info(format);
    const uint8_t *block = (const uint8_t *)panel + (size_t)(k0 / info->block) * info->block_bytes;
    for (uint32_t r = 0; r < ROWS; r++) {
        d[0][r] = d[1][r] = tsr_f16_to_f32(load_u16(block + 2 * r));
        m[r] = 0;
    }
    switch (format) {
    case TSR_FORMAT_Q8_0:
        for (uint32_t k = 0; k < 32; k++) {
            for (uint32_t r = 0; r < ROWS; r++) {
                q[k][r] = (int8_t)*byte_of((uint8_t *)(uintptr_t)block + 32, k, r);
            }
        }
        break;
    case TSR_FORMAT_Q4_0:
    case TSR_FORMAT_Q4_1:
        for (uint32_t k = 0; k < 32; k++) {
            for (uint32_t r = 0; r < ROWS; r++) {
                q[k][r] = format == TSR_FORMAT_Q4_0 ? (int16_t)(nibble_get(block + 32, k, r) - 8)
                                                    : (int16_t)nibble_get(block + 64, k, r);
            }
        }
        if (format == TSR_FORMAT_Q4_1) {
            for (uint32_t r = 0; r < ROWS; r++) {
                m[r] = tsr_f16_to_f32(load_u16(block + 32 + 2 * r));
            }
        }
        break;
    default: { /* q6_k */
        const uint8_t *part = block + 288 + k0 % 256 / 32 * 384;
        const int8_t *scales = (const int8_t *)block + 32 + k0 % 256 / 16 * 16;
        for (uint32_t r = 0; r < ROWS; r++) {
            d[0][r] *= (float)scales[r];
            d[1][r] *= (float)scales[16 + r];
            for (uint32_t k = 0; k < 32; k++) {
                uint32_t bit;
                const uint8_t *h = high_of((uint8_t *)(uintptr_t)part + 256, k, r, &bit);
                uint32_t high = (uint32_t)load_u16(h) >> bit & 3u;
                q[k][r] = (int16_t)((int)(nibble_get(part, k, r) | high << 4) - 32);
            }
        }
    }
    }
}

void tsr_panel_to_f32(enum tsr_format format, const void *panel, uint32_t k0, uint32_t n,
                      float *out)
{
    const uint8_t *p = panel;
    assert(k0 % tsr_format_info(format)->block == 0);
    if (tsr_format_info(format)->scale_inputs) {
        int16_t q[32][16];
        float d[2][16], m[16];
        for (uint32_t k = 0; k < n; k++, out += ROWS) {
            if (k % 32 == 0) {
                tsr_panel_to_int(format, panel, k0 + k, q, d, m);
            }
            for (uint32_t r = 0; r < ROWS; r++) {
                out[r] = d[k % 32 / 16][r] * (float)q[k % 32][r] + m[r];
            }
        }
        return;
    }
    for (uint32_t k = k0; k < k0 + n; k++, out += ROWS) {
        for (uint32_t r = 0; r < ROWS; r++) {
            if (format == TSR_FORMAT_F32) {
                memcpy(&out[r], p + (size_t)k * 64 + r * 4, 4);
            } else if (format == TSR_FORMAT_F16) {
                out[r] = tsr_f16_to_f32(load_u16(p + (size_t)k * 32 + r * 2));
            } else {
                out[r] = tsr_bf16_to_f32(load_u16(p + (size_t)(k / 2) * 64 + r * 4 + k % 2 * 2));
            }
        }
    }
}

void tsr_panel_row(enum tsr_format format, const void *panel, uint32_t row, uint32_t cols,
                   float *out)
{
    const struct tsr_format_info *info = tsr_format_info(format);
    const uint8_t *p = panel;
    for (uint32_t k = 0; k < cols; k++) {
        const uint8_t *block = p + (size_t)(k / info->block) * info->block_bytes;
        uint32_t i = k % info->block;
        uint32_t heads = format == TSR_FORMAT_Q4_1 ? 2 : 1;
        switch (format) {
        case TSR_FORMAT_F32:
            memcpy(&out[k], block + row * 4, 4);
            break;
        case TSR_FORMAT_F16:
            out[k] = tsr_f16_to_f32(load_u16(block + row * 2));
            break;
        case TSR_FORMAT_BF16:
            out[k] = tsr_bf16_to_f32(load_u16(block + row * 4 + i * 2));
            break;
        case TSR_FORMAT_Q8_0:
            out[k] = tsr_f16_to_f32(load_u16(block + row * 2)) *
                     (float)(int8_t)*byte_of((uint8_t *)(uintptr_t)block + 32, i, row);
            break;
        case TSR_FORMAT_Q4_0:
            out[k] = tsr_f16_to_f32(load_u16(block + row * 2)) *
                     (float)((int)nibble_get(block + 32, i, row) - 8);
            break;
        case TSR_FORMAT_Q4_1:
            out[k] = tsr_f16_to_f32(load_u16(block + row * 2)) *
                         (float)nibble_get(block + 32 * heads, i, row) +
                     tsr_f16_to_f32(load_u16(block + 32 + row * 2));
            break;
        default: {
            const uint8_t *part = block + 288 + i / 32 * 384;
            uint32_t bit;
            const uint8_t *h = high_of((uint8_t *)(uintptr_t)part + 256, i % 32, row, &bit);
            int q =
                (int)(nibble_get(part, i % 32, row) | ((uint32_t)load_u16(h) >> bit & 3u) << 4) -
                32;
            float scale = (float)(int8_t)block[32 + i / 16 * 16 + row];
            out[k] = tsr_f16_to_f32(load_u16(block + row * 2)) * scale * (float)q;
        }
        }
    }
}
