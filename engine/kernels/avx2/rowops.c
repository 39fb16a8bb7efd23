/* What happens to one row between matrices. */
#include "avx2_priv.h"

#include <math.h>

TSR_INLINE float sum8(__m256 x)
{
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

void tsr_avx2_norm(const float *in, const float *weight, float eps, uint32_t count, float *out)
{
    __m256 acc[4] = {_mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps(),
                     _mm256_setzero_ps()};
    uint32_t i = 0;
    for (; i + 32 <= count; i += 32) {
        for (uint32_t v = 0; v < 4; v++) {
            __m256 x = _mm256_loadu_ps(in + i + 8 * v);
            acc[v] = _mm256_fmadd_ps(x, x, acc[v]);
        }
    }
    float sum = sum8(_mm256_add_ps(_mm256_add_ps(acc[0], acc[1]), _mm256_add_ps(acc[2], acc[3])));
    for (; i < count; i++) {
        sum += in[i] * in[i];
    }
    float r = 1.0f / sqrtf(sum / (float)count + eps);
    __m256 factor = _mm256_set1_ps(r);
    for (i = 0; i + 8 <= count; i += 8) {
        __m256 x = _mm256_mul_ps(_mm256_loadu_ps(in + i), factor);
        _mm256_storeu_ps(out + i, _mm256_mul_ps(x, _mm256_loadu_ps(weight + i)));
    }
    for (; i < count; i++) {
        out[i] = in[i] * r * weight[i];
    }
}

TSR_INLINE int32_t sum_i32(__m128i x)
{
    x = _mm_add_epi32(x, _mm_shuffle_epi32(x, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(x, _mm_shuffle_epi32(x, 0xb1)));
}

TSR_INLINE void quantize_block(const float *x, struct tsr_acts *acts, size_t at)
{
    __m256 v[4], most = _mm256_setzero_ps();
    const __m256 sign = _mm256_set1_ps(-0.0f);
    for (int i = 0; i < 4; i++) {
        v[i] = _mm256_loadu_ps(x + 8 * i);
        most = _mm256_max_ps(most, _mm256_andnot_ps(sign, v[i]));
    }
    __m128 m = _mm_max_ps(_mm256_castps256_ps128(most), _mm256_extractf128_ps(most, 1));
    m = _mm_max_ps(m, _mm_movehl_ps(m, m));
    m = _mm_max_ss(m, _mm_movehdup_ps(m));
    float absmax = _mm_cvtss_f32(m);
    float d = absmax / TSR_ACT_MAX;
    __m256 inverse = _mm256_set1_ps(absmax > 0 ? TSR_ACT_MAX / absmax : 0);
    __m256i q[4];
    for (int i = 0; i < 4; i++) {
        q[i] = _mm256_cvtps_epi32(_mm256_mul_ps(v[i], inverse));
    }
    int32_t sums[2];
    for (int i = 0; i < 2; i++) {
        /* packs works within 128-bit lanes: the permutation restores the order */
        __m256i p = _mm256_permute4x64_epi64(_mm256_packs_epi32(q[2 * i], q[2 * i + 1]), 0xd8);
        p = _mm256_max_epi16(_mm256_min_epi16(p, _mm256_set1_epi16(TSR_ACT_MAX)),
                             _mm256_set1_epi16(-TSR_ACT_MAX));
        _mm256_storeu_si256((__m256i *)(acts->q + at * 32 + 16 * i), p);
        __m256i s = _mm256_madd_epi16(p, _mm256_set1_epi16(1));
        sums[i] = sum_i32(_mm_add_epi32(_mm256_castsi256_si128(s), _mm256_extracti128_si256(s, 1)));
    }
    acts->d[at] = d;
    acts->sum16[2 * at] = sums[0];
    acts->sum16[2 * at + 1] = sums[1];
    acts->sum32[at] = sums[0] + sums[1];
}

void tsr_avx2_quantize(const float *x, uint32_t count, struct tsr_acts *acts, uint32_t row)
{
    size_t at = (size_t)row * (acts->cols / 32);
    uint32_t i = 0;
    for (; i + 32 <= count; i += 32) {
        quantize_block(x + i, acts, at++);
    }
    for (; i < acts->cols; i += 32) {
        float rest[32] = {0};
        for (uint32_t j = 0; i + j < count && j < 32; j++) {
            rest[j] = x[i + j];
        }
        quantize_block(rest, acts, at++);
    }
}

TSR_INLINE __m256 silu(__m256 x)
{
    __m256 e = exp256(_mm256_sub_ps(_mm256_setzero_ps(), x));
    return _mm256_div_ps(x, _mm256_add_ps(_mm256_set1_ps(1), e));
}

/* 0.5 x (1 + tanh(u)) = x / (1 + e^(-2u)) */
TSR_INLINE __m256 gelu(__m256 x)
{
    __m256 x3 = _mm256_mul_ps(_mm256_mul_ps(x, x), x);
    __m256 u = _mm256_fmadd_ps(x3, _mm256_set1_ps(0.044715f), x);
    __m256 e = exp256(_mm256_mul_ps(u, _mm256_set1_ps(-2 * 0.7978845608f)));
    return _mm256_div_ps(x, _mm256_add_ps(_mm256_set1_ps(1), e));
}

TSR_INLINE void act_mul(float *gate, const float *up, uint32_t count, __m256 (*act)(__m256))
{
    uint32_t i = 0;
    for (; i + 8 <= count; i += 8) {
        __m256 g = act(_mm256_loadu_ps(gate + i));
        _mm256_storeu_ps(gate + i, _mm256_mul_ps(g, _mm256_loadu_ps(up + i)));
    }
    if (i < count) { /* the same arithmetic for the rest, so that a column never feels its place */
        float g[8] = {0}, u[8] = {0};
        for (uint32_t j = i; j < count; j++) {
            g[j - i] = gate[j];
            u[j - i] = up[j];
        }
        _mm256_storeu_ps(g, _mm256_mul_ps(act(_mm256_loadu_ps(g)), _mm256_loadu_ps(u)));
        for (uint32_t j = i; j < count; j++) {
            gate[j] = g[j - i];
        }
    }
}

void tsr_avx2_silu_mul(float *gate, const float *up, uint32_t count)
{
    act_mul(gate, up, count, silu);
}

void tsr_avx2_gelu_mul(float *gate, const float *up, uint32_t count)
{
    act_mul(gate, up, count, gelu);
}

void tsr_avx2_rope(float *x, const float *cos, const float *sin, uint32_t dims)
{
    uint32_t half = dims / 2, i = 0;
    for (; i + 8 <= half; i += 8) {
        __m256 a = _mm256_loadu_ps(x + i), b = _mm256_loadu_ps(x + i + half);
        __m256 c = _mm256_loadu_ps(cos + i), s = _mm256_loadu_ps(sin + i);
        _mm256_storeu_ps(x + i, _mm256_sub_ps(_mm256_mul_ps(a, c), _mm256_mul_ps(b, s)));
        _mm256_storeu_ps(x + i + half, _mm256_add_ps(_mm256_mul_ps(b, c), _mm256_mul_ps(a, s)));
    }
    for (; i < half; i++) {
        float a = x[i], b = x[i + half];
        x[i] = a * cos[i] - b * sin[i];
        x[i + half] = b * cos[i] + a * sin[i];
    }
}

void tsr_avx2_store_kv(const float *x, uint32_t count, void *kv, uint32_t stride)
{
    uint16_t *out = kv;
    const __m256 top = _mm256_set1_ps(65504.0f), bottom = _mm256_set1_ps(-65504.0f);
    for (uint32_t i = 0; i < count; i += 8) {
        float v[8] = {0};
        uint32_t n = count - i < 8 ? count - i : 8;
        for (uint32_t j = 0; j < n; j++) {
            v[j] = x[i + j];
        }
        __m256 y = _mm256_max_ps(_mm256_min_ps(top, _mm256_loadu_ps(v)), bottom);
        uint16_t h[8];
        _mm_storeu_si128((__m128i *)h, _mm256_cvtps_ph(y, _MM_FROUND_TO_NEAREST_INT));
        for (uint32_t j = 0; j < n; j++) {
            out[(size_t)(i + j) * stride] = h[j];
        }
    }
}
