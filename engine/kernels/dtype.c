#include <tsr/kernels/dtype.h>

#include <assert.h>
#include <string.h>

static const struct tsr_dtype_info infos[TSR_DTYPE_COUNT] = {
    [TSR_DTYPE_F32] = {"F32", 1, 4},       [TSR_DTYPE_F16] = {"F16", 1, 2},
    [TSR_DTYPE_BF16] = {"BF16", 1, 2},     [TSR_DTYPE_Q8_0] = {"Q8_0", 32, 34},
    [TSR_DTYPE_Q4_0] = {"Q4_0", 32, 18},   [TSR_DTYPE_Q4_1] = {"Q4_1", 32, 20},
    [TSR_DTYPE_Q6_K] = {"Q6_K", 256, 210},
};

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

static uint16_t load_u16(const uint8_t *p)
{
    uint16_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

/* ggml-common.h, block_q6_K: ql[128], qh[64], scales[16], d. Each half of 128 values holds four
 * runs of 32: the low nibbles of ql[0..31] and ql[32..63], then their high nibbles, with two high
 * bits each from qh. */
static void q6_k_to_f32(const uint8_t *block, float *out)
{
    float d = tsr_f16_to_f32(load_u16(block + 208));
    for (int half = 0; half < 2; half++) {
        const uint8_t *ql = block + 64 * half;
        const uint8_t *qh = block + 128 + 32 * half;
        const int8_t *scales = (const int8_t *)block + 192 + 8 * half;
        for (int run = 0; run < 4; run++) {
            for (int i = 0; i < 32; i++) {
                int low = ql[32 * (run & 1) + i] >> (run >= 2 ? 4 : 0) & 15;
                int high = qh[i] >> (2 * run) & 3;
                float scale = d * (float)scales[2 * run + i / 16];
                out[128 * half + 32 * run + i] = scale * (float)((low | high << 4) - 32);
            }
        }
    }
}

static void block_to_f32(enum tsr_dtype dtype, const uint8_t *block, float *out)
{
    float d = tsr_f16_to_f32(load_u16(block));
    switch (dtype) {
    case TSR_DTYPE_Q8_0:
        for (int i = 0; i < 32; i++) {
            out[i] = d * (float)(int8_t)block[2 + i];
        }
        break;
    case TSR_DTYPE_Q4_0:
        for (int i = 0; i < 16; i++) {
            out[i] = d * (float)((block[2 + i] & 15) - 8);
            out[i + 16] = d * (float)((block[2 + i] >> 4) - 8);
        }
        break;
    case TSR_DTYPE_Q4_1: {
        float m = tsr_f16_to_f32(load_u16(block + 2));
        for (int i = 0; i < 16; i++) {
            out[i] = d * (float)(block[4 + i] & 15) + m;
            out[i + 16] = d * (float)(block[4 + i] >> 4) + m;
        }
        break;
    }
    case TSR_DTYPE_Q6_K:
        q6_k_to_f32(block, out);
        break;
    default:
        assert(0);
    }
}

void tsr_dtype_to_f32(enum tsr_dtype dtype, const void *src, float *out, size_t count)
{
    const struct tsr_dtype_info *info = tsr_dtype_info(dtype);
    const uint8_t *p = src;
    assert(count % info->block == 0);
    switch (dtype) {
    case TSR_DTYPE_F32:
        memcpy(out, src, count * 4);
        return;
    case TSR_DTYPE_F16:
        for (size_t i = 0; i < count; i++) {
            out[i] = tsr_f16_to_f32(load_u16(p + 2 * i));
        }
        return;
    case TSR_DTYPE_BF16:
        for (size_t i = 0; i < count; i++) {
            out[i] = tsr_bf16_to_f32(load_u16(p + 2 * i));
        }
        return;
    default:
        for (size_t i = 0; i < count; i += info->block, p += info->block_bytes) {
            block_to_f32(dtype, p, out + i);
        }
    }
}
