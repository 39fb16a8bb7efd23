/* Layouts: ggml-common.h, values: ggml-quants.c of github.com/ggml-org/llama.cpp. A step is 32
 * weights; in blocks of 256 a run of 32 bytes often holds one step's weights at each of its bit
 * positions. */
#include "blocks_priv.h"

#include <assert.h>

const int8_t tsr_iq4_values[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                   1,    13,   25,  38,  53,  69,  89,  113};
static const int8_t fp4_values[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

static float half(const uint8_t *p)
{
    return tsr_f16_to_f32(tsr_load_u16(p));
}

static void set_scales(struct tsr_ints *x, int first, int second)
{
    x->scale[0] = (float)first;
    x->scale[1] = (float)second;
}

/* 16 bytes whose low nibbles are the first 16 weights; high: a fifth bit of each, or NULL. */
static void nibbles(const uint8_t *qs, const uint8_t *high, int offset, struct tsr_ints *x)
{
    uint32_t fifth = high ? tsr_load_u32(high) : 0;
    for (int i = 0; i < 32; i++) {
        int low = qs[i % 16] >> (i / 16 * 4) & 15;
        x->q[i] = (int8_t)((low | (int)(fifth >> i & 1) << 4) - offset);
    }
}

static void nibble_table(const uint8_t *qs, const int8_t values[16], struct tsr_ints *x)
{
    for (int i = 0; i < 32; i++) {
        x->q[i] = values[qs[i % 16] >> (i / 16 * 4) & 15];
    }
}

static void bytes(const uint8_t *qs, struct tsr_ints *x)
{
    memcpy(x->q, qs, 32);
}

static void q2_k(const uint8_t *b, uint32_t s, struct tsr_ints *x)
{
    x->d = half(b + 80);
    x->m = -half(b + 82);
    for (uint32_t i = 0; i < 32; i++) {
        x->q[i] = (int8_t)(b[16 + s / 4 * 32 + i] >> (s % 4 * 2) & 3);
    }
    for (uint32_t i = 0; i < 2; i++) {
        x->scale[i] = (float)(b[2 * s + i] & 15);
        x->min[i] = (float)(b[2 * s + i] >> 4);
    }
}

/* Six-bit scales: 16 low nibbles in 8 bytes, then 16 times 2 high bits in 4 bytes. */
static void q3_k(const uint8_t *b, uint32_t s, struct tsr_ints *x)
{
    const uint8_t *scales = b + 96;
    x->d = half(b + 108);
    for (uint32_t i = 0; i < 32; i++) {
        int low = b[32 + s / 4 * 32 + i] >> (s % 4 * 2) & 3;
        x->q[i] = (int8_t)(low - (b[i] >> s & 1 ? 0 : 4));
    }
    for (uint32_t i = 0; i < 2; i++) {
        uint32_t k = 2 * s + i;
        int low = scales[k % 8] >> (k / 8 * 4) & 15, high = scales[8 + k % 4] >> (k / 4 * 2) & 3;
        x->scale[i] = (float)((low | high << 4) - 32);
    }
}

/* Six-bit scales and minima of Q4_K and Q5_K in 12 bytes. */
static void k_scales(const uint8_t *p, uint32_t s, struct tsr_ints *x)
{
    int scale = p[s] & 63, min = p[s + 4] & 63;
    if (s >= 4) {
        scale = (p[s + 4] & 15) | (p[s - 4] >> 6) << 4;
        min = p[s + 4] >> 4 | (p[s] >> 6) << 4;
    }
    set_scales(x, scale, scale);
    x->min[0] = x->min[1] = (float)min;
}

static void q45_k(const uint8_t *b, uint32_t s, const uint8_t *qs, const uint8_t *high,
                  struct tsr_ints *x)
{
    x->d = half(b);
    x->m = -half(b + 2);
    k_scales(b + 4, s, x);
    for (uint32_t i = 0; i < 32; i++) {
        int low = qs[s / 2 * 32 + i] >> (s % 2 * 4) & 15;
        x->q[i] = (int8_t)(low | (high ? high[i] >> s & 1 : 0) << 4);
    }
}

static void q6_k(const uint8_t *b, uint32_t s, struct tsr_ints *x)
{
    const uint8_t *low = b + s / 4 * 64 + s % 2 * 32, *high = b + 128 + s / 4 * 32;
    const int8_t *scales = (const int8_t *)b + 192;
    x->d = half(b + 208);
    for (uint32_t i = 0; i < 32; i++) {
        int q = (low[i] >> (s % 4 / 2 * 4) & 15) | (high[i] >> (s % 4 * 2) & 3) << 4;
        x->q[i] = (int8_t)(q - 32);
    }
    set_scales(x, scales[2 * s], scales[2 * s + 1]);
}

static void iq4_xs(const uint8_t *b, uint32_t s, struct tsr_ints *x)
{
    x->d = half(b);
    nibble_table(b + 8 + 16 * s, tsr_iq4_values, x);
    int low = b[4 + s / 2] >> (s % 2 * 4) & 15, high = tsr_load_u16(b + 2) >> (2 * s) & 3;
    set_scales(x, (low | high << 4) - 32, (low | high << 4) - 32);
}

/* A step of two halves, each with an E4M3 scale of its own, whose sign is not looked at; 0x7f
 * counts as 0, 0xff as 480 (ggml-impl.h, ggml_ue4m3_to_fp32). */
static void nvfp4(const uint8_t *b, uint32_t s, struct tsr_ints *x)
{
    x->d = 0.5f; /* the table's numbers are doubled */
    for (uint32_t i = 0; i < 32; i++) {
        uint32_t sub = 2 * s + i / 16;
        x->q[i] = fp4_values[b[4 + 8 * sub + i % 8] >> (i % 16 / 8 * 4) & 15];
    }
    for (uint32_t i = 0; i < 2; i++) {
        uint8_t e = b[2 * s + i];
        x->scale[i] = e == 0x7f ? 0 : e == 0xff ? 480 : tsr_f8_e4m3_to_f32(e & 0x7f);
    }
}

/* Five ternary digits a byte, most significant first, as a fraction of 256: digit n is the whole
 * part of 3 * (byte * 3^n mod 256) / 256. 160 weights in 32 bytes, 80 in 16, 16 (four digits) in 4.
 */
static void tq1_0(const uint8_t *b, uint32_t s, struct tsr_ints *x)
{
    static const uint8_t power[5] = {1, 3, 9, 27, 81};
    x->d = half(b + 52);
    for (uint32_t i = 0; i < 32; i++) {
        uint32_t k = 32 * s + i, at = k % 32, digit = k / 32;
        if (k >= 160) {
            at = 32 + (k - 160) % 16;
            digit = (k - 160) / 16;
        }
        if (k >= 240) {
            at = 48 + (k - 240) % 4;
            digit = (k - 240) / 4;
        }
        uint8_t rest = (uint8_t)(b[at] * power[digit]);
        x->q[i] = (int8_t)((rest * 3 >> 8) - 1);
    }
}

static void tq2_0(const uint8_t *b, uint32_t s, struct tsr_ints *x)
{
    x->d = half(b + 64);
    for (uint32_t i = 0; i < 32; i++) {
        x->q[i] = (int8_t)((b[s / 4 * 32 + i] >> (s % 4 * 2) & 3) - 1);
    }
}

static void q1_0(const uint8_t *b, uint32_t s, struct tsr_ints *x)
{
    uint32_t bits = tsr_load_u32(b + 2 + 4 * s);
    x->d = half(b);
    for (int i = 0; i < 32; i++) {
        x->q[i] = bits >> i & 1 ? 1 : -1;
    }
}

/* --- codebooks ---------------------------------------------------------------------------------
 */

/* Eight weights of a 2-bit codebook with a sign bit each. */
static void grid2(int8_t *q, uint16_t entry, uint32_t signs)
{
    static const int8_t value[4] = {8, 25, 43, 0};
    for (int i = 0; i < 8; i++) {
        int v = value[entry >> (2 * i) & 3];
        q[i] = (int8_t)(signs >> i & 1 ? -v : v);
    }
}

static void grid3(int8_t *q, uint16_t entry, const int8_t value[8], uint32_t signs)
{
    for (int i = 0; i < 4; i++) {
        int v = value[entry >> (3 * i) & 7];
        q[i] = (int8_t)(signs >> i & 1 ? -v : v);
    }
}

/* Eight times (number + 1/8), or minus it. */
static void grid1(int8_t *q, uint16_t entry, bool minus)
{
    for (int i = 0; i < 8; i++) {
        q[i] = (int8_t)(8 * ((entry >> (2 * i) & 3) - 1) + (minus ? -1 : 1));
    }
}

/* Seven stored signs; the eighth makes their number even. */
static uint32_t even_signs(uint32_t seven)
{
    seven &= 127;
    return seven | (uint32_t)(__builtin_popcount(seven) & 1) << 7;
}

static void iq2_xxs(const uint8_t *b, uint32_t s, struct tsr_ints *x)
{
    const uint8_t *index = b + 2 + 8 * s;
    uint32_t rest = tsr_load_u32(index + 4);
    x->d = half(b) * 0.125f; /* d * (0.5 + scale) / 4 = d / 8 * (2 scale + 1) */
    set_scales(x, (int)(2 * (rest >> 28) + 1), (int)(2 * (rest >> 28) + 1));
    for (int i = 0; i < 4; i++) {
        grid2(x->q + 8 * i, tsr_grid_iq2_xxs[index[i]], even_signs(rest >> (7 * i)));
    }
}

static void iq2_xs(const uint8_t *b, uint32_t s, struct tsr_ints *x)
{
    uint8_t scales = b[66 + s];
    x->d = half(b) * 0.125f;
    set_scales(x, 2 * (scales & 15) + 1, 2 * (scales >> 4) + 1);
    for (uint32_t i = 0; i < 4; i++) {
        uint16_t v = tsr_load_u16(b + 2 + 8 * s + 2 * i);
        grid2(x->q + 8 * i, tsr_grid_iq2_xs[v & 511], even_signs(v >> 9));
    }
}

static void iq2_s(const uint8_t *b, uint32_t s, struct tsr_ints *x)
{
    uint8_t scales = b[74 + s];
    x->d = half(b) * 0.125f;
    set_scales(x, 2 * (scales & 15) + 1, 2 * (scales >> 4) + 1);
    for (uint32_t i = 0; i < 4; i++) {
        uint32_t index = b[2 + 4 * s + i] | (b[66 + s] >> (2 * i) & 3u) << 8;
        grid2(x->q + 8 * i, tsr_grid_iq2_s[index], b[34 + 4 * s + i]);
    }
}

static void iq3_xxs(const uint8_t *b, uint32_t s, struct tsr_ints *x)
{
    static const int8_t value[8] = {4, 12, 20, 28, 36, 44, 52, 62};
    uint32_t rest = tsr_load_u32(b + 66 + 4 * s);
    x->d = half(b) * 0.25f; /* d * (0.5 + scale) / 2 = d / 4 * (2 scale + 1) */
    set_scales(x, (int)(2 * (rest >> 28) + 1), (int)(2 * (rest >> 28) + 1));
    for (uint32_t i = 0; i < 8; i++) {
        uint32_t signs = even_signs(rest >> (i / 2 * 7)) >> (i % 2 * 4);
        grid3(x->q + 4 * i, tsr_grid_iq3_xxs[b[2 + 8 * s + i]], value, signs);
    }
}

static void iq3_s(const uint8_t *b, uint32_t s, struct tsr_ints *x)
{
    static const int8_t value[8] = {1, 3, 5, 7, 9, 11, 13, 15};
    int scale = 2 * (b[106 + s / 2] >> (s % 2 * 4) & 15) + 1;
    x->d = half(b);
    set_scales(x, scale, scale);
    for (uint32_t i = 0; i < 8; i++) {
        uint32_t index = b[2 + 8 * s + i] | (b[66 + s] >> i & 1u) << 8;
        uint32_t signs = (uint32_t)b[74 + 4 * s + i / 2] >> (i % 2 * 4);
        grid3(x->q + 4 * i, tsr_grid_iq3_s[index], value, signs);
    }
}

static void iq1_s(const uint8_t *b, uint32_t s, struct tsr_ints *x)
{
    uint32_t high = tsr_load_u16(b + 34 + 2 * s);
    int scale = (int)(2 * (high >> 12 & 7) + 1);
    x->d = half(b) * 0.125f; /* for the eighths of grid1() */
    set_scales(x, scale, scale);
    for (uint32_t i = 0; i < 4; i++) {
        uint32_t index = b[2 + 4 * s + i] | (high >> (3 * i) & 7) << 8;
        grid1(x->q + 8 * i, tsr_grid_iq1[index], high >> 15);
    }
}

/* The f16 scale lies in the top nibbles of the four words of scales. */
static void iq1_m(const uint8_t *b, uint32_t s, struct tsr_ints *x)
{
    uint32_t d = 0, scales = tsr_load_u16(b + 48 + s / 2 * 2) >> (s % 2 * 6);
    for (uint32_t i = 0; i < 4; i++) {
        d |= (uint32_t)(b[49 + 2 * i] >> 4) << (4 * i);
    }
    x->d = tsr_f16_to_f32((uint16_t)d) * 0.125f;
    set_scales(x, (int)(2 * (scales & 7) + 1), (int)(2 * (scales >> 3 & 7) + 1));
    for (uint32_t i = 0; i < 4; i++) {
        uint32_t high = (uint32_t)b[32 + 2 * s + i / 2] >> (i % 2 * 4);
        grid1(x->q + 8 * i, tsr_grid_iq1[b[4 * s + i] | (high & 7) << 8], high & 8);
    }
}

bool tsr_dtype_is_ints(enum tsr_dtype dtype)
{
    return tsr_dtype_info(dtype)->block > 1;
}

bool tsr_dtype_has_minima(enum tsr_dtype dtype)
{
    return dtype == TSR_DTYPE_Q4_1 || dtype == TSR_DTYPE_Q5_1 || dtype == TSR_DTYPE_Q2_K ||
           dtype == TSR_DTYPE_Q4_K || dtype == TSR_DTYPE_Q5_K;
}

void tsr_block_ints(enum tsr_dtype dtype, const uint8_t *b, uint32_t s, struct tsr_ints *x)
{
    x->d = half(b);
    x->m = 0;
    set_scales(x, 1, 1);
    x->min[0] = x->min[1] = 1;
    switch (dtype) {
    case TSR_DTYPE_Q4_0:
        nibbles(b + 2, NULL, 8, x);
        break;
    case TSR_DTYPE_Q4_1:
        x->m = half(b + 2);
        nibbles(b + 4, NULL, 0, x);
        break;
    case TSR_DTYPE_Q5_0:
        nibbles(b + 6, b + 2, 16, x);
        break;
    case TSR_DTYPE_Q5_1:
        x->m = half(b + 2);
        nibbles(b + 8, b + 4, 0, x);
        break;
    case TSR_DTYPE_Q8_0:
        bytes(b + 2, x);
        break;
    case TSR_DTYPE_Q8_1:
        bytes(b + 4, x);
        break;
    case TSR_DTYPE_Q8_K:
        memcpy(&x->d, b, 4);
        bytes(b + 4 + 32 * s, x);
        break;
    case TSR_DTYPE_Q2_K:
        q2_k(b, s, x);
        break;
    case TSR_DTYPE_Q3_K:
        q3_k(b, s, x);
        break;
    case TSR_DTYPE_Q4_K:
        q45_k(b, s, b + 16, NULL, x);
        break;
    case TSR_DTYPE_Q5_K:
        q45_k(b, s, b + 48, b + 16, x);
        break;
    case TSR_DTYPE_Q6_K:
        q6_k(b, s, x);
        break;
    case TSR_DTYPE_IQ4_NL:
        nibble_table(b + 2, tsr_iq4_values, x);
        break;
    case TSR_DTYPE_IQ4_XS:
        iq4_xs(b, s, x);
        break;
    case TSR_DTYPE_MXFP4: {
        uint32_t e = b[0] < 2 ? 0x00200000u << b[0] : (b[0] - 1u) << 23; /* 2^(e - 128) */
        memcpy(&x->d, &e, 4);
        nibble_table(b + 1, fp4_values, x);
        break;
    }
    case TSR_DTYPE_NVFP4:
        nvfp4(b, s, x);
        break;
    case TSR_DTYPE_Q1_0:
        q1_0(b, s, x);
        break;
    case TSR_DTYPE_TQ1_0:
        tq1_0(b, s, x);
        break;
    case TSR_DTYPE_TQ2_0:
        tq2_0(b, s, x);
        break;
    case TSR_DTYPE_IQ2_XXS:
        iq2_xxs(b, s, x);
        break;
    case TSR_DTYPE_IQ2_XS:
        iq2_xs(b, s, x);
        break;
    case TSR_DTYPE_IQ2_S:
        iq2_s(b, s, x);
        break;
    case TSR_DTYPE_IQ3_XXS:
        iq3_xxs(b, s, x);
        break;
    case TSR_DTYPE_IQ3_S:
        iq3_s(b, s, x);
        break;
    case TSR_DTYPE_IQ1_S:
        iq1_s(b, s, x);
        break;
    case TSR_DTYPE_IQ1_M:
        iq1_m(b, s, x);
        break;
    default:
        assert(0);
    }
}
