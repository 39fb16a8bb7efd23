/* What happens to one row between matrices. Rests of less than a register are masked lanes of the
 * same arithmetic, so that a column never feels its place. */
#include "avx512_priv.h"

#include <math.h>

void tsr_avx512_norm(const float *in, const float *weight, float eps, uint32_t count, float *out)
{
    __m512 acc[4] = {_mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps(),
                     _mm512_setzero_ps()};
    uint32_t i = 0;
    for (; i + 64 <= count; i += 64) {
        for (uint32_t v = 0; v < 4; v++) {
            __m512 x = _mm512_loadu_ps(in + i + 16 * v);
            acc[v] = _mm512_fmadd_ps(x, x, acc[v]);
        }
    }
    for (uint32_t v = 0; i < count; i += 16, v++) {
        __m512 x = _mm512_maskz_loadu_ps(lanes(count - i), in + i);
        acc[v] = _mm512_fmadd_ps(x, x, acc[v]);
    }
    float sum = _mm512_reduce_add_ps(
        _mm512_add_ps(_mm512_add_ps(acc[0], acc[1]), _mm512_add_ps(acc[2], acc[3])));
    __m512 factor = _mm512_set1_ps(1.0f / sqrtf(sum / (float)count + eps));
    for (i = 0; i < count; i += 16) {
        __mmask16 m = lanes(count - i);
        __m512 x = _mm512_mul_ps(_mm512_maskz_loadu_ps(m, in + i), factor);
        _mm512_mask_storeu_ps(out + i, m, _mm512_mul_ps(x, _mm512_maskz_loadu_ps(m, weight + i)));
    }
}

/* Sixteen inputs as 16-bit integers, stored; their sum. */
TSR_INLINE int32_t quantize16(__m512 x, __m512 inverse, int16_t *q)
{
    __m512i v = _mm512_cvtps_epi32(_mm512_mul_ps(x, inverse));
    v = _mm512_min_epi32(v, _mm512_set1_epi32(TSR_ACT_MAX));
    v = _mm512_max_epi32(v, _mm512_set1_epi32(-TSR_ACT_MAX));
    _mm256_storeu_si256((__m256i *)q, _mm512_cvtepi32_epi16(v));
    return _mm512_reduce_add_epi32(v);
}

void tsr_avx512_quantize(const float *x, uint32_t count, struct tsr_acts *acts, uint32_t row)
{
    size_t at = (size_t)row * (acts->cols / 32);
    for (uint32_t i = 0; i < acts->cols; i += 32, at++) {
        uint32_t n = i < count ? count - i : 0;
        __m512 low = _mm512_maskz_loadu_ps(lanes(n), x + i);
        __m512 high = _mm512_maskz_loadu_ps(lanes(n > 16 ? n - 16 : 0), x + i + 16);
        float most = _mm512_reduce_max_ps(_mm512_max_ps(_mm512_abs_ps(low), _mm512_abs_ps(high)));
        float d = most / TSR_ACT_MAX;
        __m512 inverse = _mm512_set1_ps(most > 0 ? TSR_ACT_MAX / most : 0);
        int32_t first = quantize16(low, inverse, acts->q + at * 32);
        int32_t second = quantize16(high, inverse, acts->q + at * 32 + 16);
        acts->d[at] = d;
        acts->sum16[2 * at] = first;
        acts->sum16[2 * at + 1] = second;
        acts->sum32[at] = first + second;
    }
}

void tsr_avx512_to_bf16(const float *x, uint32_t count, struct tsr_acts *acts, uint32_t row)
{
    uint16_t *out = acts->bf + (size_t)row * acts->cols;
    for (uint32_t i = 0; i < acts->cols; i += 16) {
        __m512 v = _mm512_maskz_loadu_ps(lanes(i < count ? count - i : 0), x + i);
        _mm256_storeu_si256((__m256i *)(out + i), (__m256i)_mm512_cvtneps_pbh(v));
    }
}

TSR_INLINE __m512 silu(__m512 x)
{
    __m512 e = exp512(_mm512_sub_ps(_mm512_setzero_ps(), x));
    return _mm512_div_ps(x, _mm512_add_ps(_mm512_set1_ps(1), e));
}

/* 0.5 x (1 + tanh(u)) = x / (1 + e^(-2u)) */
TSR_INLINE __m512 gelu(__m512 x)
{
    __m512 x3 = _mm512_mul_ps(_mm512_mul_ps(x, x), x);
    __m512 u = _mm512_fmadd_ps(x3, _mm512_set1_ps(0.044715f), x);
    __m512 e = exp512(_mm512_mul_ps(u, _mm512_set1_ps(-2 * 0.7978845608f)));
    return _mm512_div_ps(x, _mm512_add_ps(_mm512_set1_ps(1), e));
}

TSR_INLINE void act_mul(float *gate, const float *up, uint32_t count, __m512 (*act)(__m512))
{
    for (uint32_t i = 0; i < count; i += 16) {
        __mmask16 m = lanes(count - i);
        __m512 g = act(_mm512_maskz_loadu_ps(m, gate + i));
        _mm512_mask_storeu_ps(gate + i, m, _mm512_mul_ps(g, _mm512_maskz_loadu_ps(m, up + i)));
    }
}

void tsr_avx512_silu_mul(float *gate, const float *up, uint32_t count)
{
    act_mul(gate, up, count, silu);
}

void tsr_avx512_gelu_mul(float *gate, const float *up, uint32_t count)
{
    act_mul(gate, up, count, gelu);
}

void tsr_avx512_rope(float *x, const float *cos, const float *sin, uint32_t dims)
{
    uint32_t half = dims / 2;
    for (uint32_t i = 0; i < half; i += 16) {
        __mmask16 m = lanes(half - i);
        __m512 a = _mm512_maskz_loadu_ps(m, x + i), b = _mm512_maskz_loadu_ps(m, x + i + half);
        __m512 c = _mm512_maskz_loadu_ps(m, cos + i), s = _mm512_maskz_loadu_ps(m, sin + i);
        _mm512_mask_storeu_ps(x + i, m, _mm512_sub_ps(_mm512_mul_ps(a, c), _mm512_mul_ps(b, s)));
        _mm512_mask_storeu_ps(x + i + half, m,
                              _mm512_add_ps(_mm512_mul_ps(b, c), _mm512_mul_ps(a, s)));
    }
}

void tsr_avx512_store_kv(const float *x, uint32_t count, void *kv, uint32_t stride)
{
    uint16_t *out = kv;
    const __m512 top = _mm512_set1_ps(65504.0f), bottom = _mm512_set1_ps(-65504.0f);
    for (uint32_t i = 0; i < count; i += 16) {
        __mmask16 m = lanes(count - i);
        __m512 y = _mm512_maskz_loadu_ps(m, x + i);
        y = _mm512_max_ps(bottom, _mm512_min_ps(top, y)); /* in this order NaN stays NaN */
        __m256i h = _mm512_cvtps_ph(y, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
        if (stride == 1) {
            _mm256_mask_storeu_epi16(out + i, m, h);
            continue;
        }
        _Alignas(32) uint16_t v[16];
        _mm256_store_si256((__m256i *)v, h);
        uint32_t n = count - i < 16 ? count - i : 16;
        for (uint32_t j = 0; j < n; j++) {
            out[(size_t)(i + j) * stride] = v[j];
        }
    }
}
