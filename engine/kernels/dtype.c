#include <tsr/kernels/dtype.h>

#include "blocks_priv.h"

#include <assert.h>
#include <string.h>

/* clang-format off */
static const struct tsr_dtype_info infos[TSR_DTYPE_COUNT] = {
    [TSR_DTYPE_F32]     = {"F32",       1,   4},
    [TSR_DTYPE_F16]     = {"F16",       1,   2},
    [TSR_DTYPE_BF16]    = {"BF16",      1,   2},
    [TSR_DTYPE_F64]     = {"F64",       1,   8},
    [TSR_DTYPE_F8_E4M3] = {"F8_E4M3",   1,   1},
    [TSR_DTYPE_I8]      = {"I8",        1,   1},
    [TSR_DTYPE_I16]     = {"I16",       1,   2},
    [TSR_DTYPE_I32]     = {"I32",       1,   4},
    [TSR_DTYPE_I64]     = {"I64",       1,   8},
    [TSR_DTYPE_Q8_0]    = {"Q8_0",     32,  34},
    [TSR_DTYPE_Q8_1]    = {"Q8_1",     32,  36},
    [TSR_DTYPE_Q8_K]    = {"Q8_K",    256, 292},
    [TSR_DTYPE_Q4_0]    = {"Q4_0",     32,  18},
    [TSR_DTYPE_Q4_1]    = {"Q4_1",     32,  20},
    [TSR_DTYPE_Q5_0]    = {"Q5_0",     32,  22},
    [TSR_DTYPE_Q5_1]    = {"Q5_1",     32,  24},
    [TSR_DTYPE_Q2_K]    = {"Q2_K",    256,  84},
    [TSR_DTYPE_Q3_K]    = {"Q3_K",    256, 110},
    [TSR_DTYPE_Q4_K]    = {"Q4_K",    256, 144},
    [TSR_DTYPE_Q5_K]    = {"Q5_K",    256, 176},
    [TSR_DTYPE_Q6_K]    = {"Q6_K",    256, 210},
    [TSR_DTYPE_IQ4_NL]  = {"IQ4_NL",   32,  18},
    [TSR_DTYPE_IQ4_XS]  = {"IQ4_XS",  256, 136},
    [TSR_DTYPE_MXFP4]   = {"MXFP4",    32,  17},
    [TSR_DTYPE_NVFP4]   = {"NVFP4",    64,  36},
    [TSR_DTYPE_Q1_0]    = {"Q1_0",    128,  18},
    [TSR_DTYPE_TQ1_0]   = {"TQ1_0",   256,  54},
    [TSR_DTYPE_TQ2_0]   = {"TQ2_0",   256,  66},
    [TSR_DTYPE_IQ2_XXS] = {"IQ2_XXS", 256,  66},
    [TSR_DTYPE_IQ2_XS]  = {"IQ2_XS",  256,  74},
    [TSR_DTYPE_IQ2_S]   = {"IQ2_S",   256,  82},
    [TSR_DTYPE_IQ3_XXS] = {"IQ3_XXS", 256,  98},
    [TSR_DTYPE_IQ3_S]   = {"IQ3_S",   256, 110},
    [TSR_DTYPE_IQ1_S]   = {"IQ1_S",   256,  50},
    [TSR_DTYPE_IQ1_M]   = {"IQ1_M",   256,  56},
};
/* clang-format on */

const struct tsr_dtype_info *tsr_dtype_info(enum tsr_dtype dtype)
{
    assert(dtype < TSR_DTYPE_COUNT);
    return &infos[dtype];
}

union bits {
    uint32_t u;
    float f;
};

float tsr_f16_to_f32(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16;
    uint32_t exponent = (h >> 10) & 0x1f;
    uint32_t mantissa = h & 0x3ff;
    union bits v;
    if (exponent == 0x1f) {
        v.u = sign | 0x7f800000 | mantissa << 13;
    } else if (exponent) {
        v.u = sign | (exponent + 112) << 23 | mantissa << 13;
    } else {
        v.f = (float)mantissa * 0x1p-24f; /* subnormal: exact */
        v.u |= sign;
    }
    return v.f;
}

uint16_t tsr_f32_to_f16(float f)
{
    union bits v = {.f = f};
    uint32_t sign = v.u >> 16 & 0x8000;
    uint32_t a = v.u & 0x7fffffff;
    if (a > 0x7f800000) {
        return (uint16_t)(sign | 0x7e00 | (a >> 13 & 0x3ff)); /* NaN, made quiet */
    }
    if (a >= 0x477ff000) {
        return (uint16_t)(sign | 0x7c00); /* 65520 and above round to infinity */
    }
    if (a < 0x38800000) { /* below the least normal half: count units of 2^-24 */
        union bits m = {.u = a};
        m.f += 0.5f; /* the sum's unit in the last place is 2^-24: rounds to nearest even */
        return (uint16_t)(sign | (m.u - 0x3f000000));
    }
    uint32_t odd = a >> 13 & 1;
    a += 0xfff + odd - (112u << 23);
    return (uint16_t)(sign | a >> 13);
}

uint16_t tsr_f32_to_bf16(float f)
{
    union bits v = {.f = f};
    if ((v.u & 0x7fffffff) > 0x7f800000) {
        return (uint16_t)(v.u >> 16 | 0x40);
    }
    return (uint16_t)((v.u + 0x7fff + (v.u >> 16 & 1)) >> 16);
}

float tsr_f8_e4m3_to_f32(uint8_t h)
{
    union bits v;
    uint32_t sign = (uint32_t)(h & 0x80) << 24, exponent = h >> 3 & 15, mantissa = h & 7;
    if ((h & 0x7f) == 0x7f) {
        v.u = sign | 0x7fc00000;
    } else if (exponent) {
        v.u = sign | (exponent + 120) << 23 | mantissa << 20;
    } else {
        v.f = (float)mantissa * 0x1p-9f; /* subnormal: exact */
        v.u |= sign;
    }
    return v.f;
}

static void ints_to_f32(enum tsr_dtype dtype, const struct tsr_ints *x, float *out)
{
    bool minima = tsr_dtype_has_minima(dtype);
    for (int i = 0; i < 32; i++) {
        float v = x->d * x->scale[i / 16] * (float)x->q[i];
        out[i] = minima ? v + x->m * x->min[i / 16] : v;
    }
}

static float plain_to_f32(enum tsr_dtype dtype, const uint8_t *p)
{
    float f;
    double d;
    int64_t i;
    switch (dtype) {
    case TSR_DTYPE_F32:
        memcpy(&f, p, sizeof f);
        return f;
    case TSR_DTYPE_F16:
        return tsr_f16_to_f32(tsr_load_u16(p));
    case TSR_DTYPE_BF16:
        return tsr_bf16_to_f32(tsr_load_u16(p));
    case TSR_DTYPE_F64:
        memcpy(&d, p, sizeof d);
        return (float)d;
    case TSR_DTYPE_F8_E4M3:
        return tsr_f8_e4m3_to_f32(*p);
    case TSR_DTYPE_I8:
        return (float)(int8_t)*p;
    case TSR_DTYPE_I16:
        return (float)(int16_t)tsr_load_u16(p);
    case TSR_DTYPE_I32:
        return (float)(int32_t)tsr_load_u32(p);
    default:
        assert(dtype == TSR_DTYPE_I64);
        memcpy(&i, p, sizeof i);
        return (float)i;
    }
}

void tsr_dtype_to_f32(enum tsr_dtype dtype, const void *src, float *out, size_t count)
{
    const struct tsr_dtype_info *info = tsr_dtype_info(dtype);
    const uint8_t *p = src;
    assert(count % info->block == 0);
    if (!tsr_dtype_is_ints(dtype)) {
        for (size_t i = 0; i < count; i++) {
            out[i] = plain_to_f32(dtype, p + i * info->block_bytes);
        }
        return;
    }
    for (size_t i = 0; i < count; i += info->block, p += info->block_bytes) {
        for (uint32_t k = 0; k < info->block; k += 32) {
            struct tsr_ints x;
            tsr_block_ints(dtype, p, k / 32, &x);
            ints_to_f32(dtype, &x, out + i + k);
        }
    }
}
