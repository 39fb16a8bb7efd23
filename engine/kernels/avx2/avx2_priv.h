/* What the AVX2 files share. */
#ifndef TSR_KERNELS_AVX2_PRIV_H
#define TSR_KERNELS_AVX2_PRIV_H

#include <immintrin.h>

#include <tsr/kernels/kernels.h>

#include "blocks_priv.h"
#include "layout_priv.h"

#define TSR_INLINE static inline __attribute__((always_inline))

#define TSR_ROW1(name)                                                                             \
    void tsr_avx2_row1_##name(const void *panels, uint32_t n_panels, uint32_t cols,                \
                              const struct tsr_acts *acts, uint32_t row, float *out)
#define TSR_ROWS(name)                                                                             \
    void tsr_avx2_rows_##name(const void *panel, uint32_t cols, const struct tsr_acts *acts,       \
                              uint32_t row_first, uint32_t rows, float *out)

#define TSR_DECLARE(name, format)                                                                  \
    TSR_ROW1(name);                                                                                \
    TSR_ROWS(name);
TSR_FORMATS(TSR_DECLARE)

void tsr_avx2_norm(const float *in, const float *weight, float eps, uint32_t count, float *out);
void tsr_avx2_quantize(const float *x, uint32_t count, struct tsr_acts *acts, uint32_t row);
void tsr_avx2_silu_mul(float *gate, const float *up, uint32_t count);
void tsr_avx2_gelu_mul(float *gate, const float *up, uint32_t count);
void tsr_avx2_rope(float *x, const float *cos, const float *sin, uint32_t dims);
void tsr_avx2_store_kv(const float *x, uint32_t count, void *kv, uint32_t stride);
void tsr_avx2_attend(const struct tsr_attend *args);

TSR_INLINE __m256i load256(const void *p)
{
    return _mm256_loadu_si256((const __m256i *)p);
}

/* Two neighbouring 16-bit activations in every 32-bit lane. */
TSR_INLINE __m256i pair(const int16_t *q)
{
    int32_t v;
    __builtin_memcpy(&v, q, 4);
    return _mm256_set1_epi32(v);
}

/* 8 f16 as f32. */
TSR_INLINE __m256 halves(const void *p)
{
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p));
}

/* Eight bytes as f32. */
TSR_INLINE __m256 from_i8(const void *p)
{
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)p)));
}

TSR_INLINE __m256 from_u8(const void *p)
{
    return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)p)));
}

/* Scales of sub-block `sub` of a packed block, rows 8v to 8v + 7, and minima where it has them. */
TSR_INLINE __m256 block_scale(const struct tsr_layout l, const uint8_t *block, uint32_t sub, int v)
{
    __m256 d = halves(block + 16 * v);
    const uint8_t *at = block + tsr_layout_scales(&l) + 16 * sub + 8 * v;
    if (!l.super) {
        return d;
    }
    if (l.minima && l.sub == 16) {
        __m256i both = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)at));
        return _mm256_mul_ps(d, _mm256_cvtepi32_ps(_mm256_and_si256(both, _mm256_set1_epi32(15))));
    }
    return _mm256_mul_ps(d, from_i8(at));
}

TSR_INLINE __m256 block_minimum(const struct tsr_layout l, const uint8_t *block, uint32_t sub,
                                int v)
{
    __m256 m = halves(block + 32 + 16 * v);
    const uint8_t *at = block + tsr_layout_minima(&l) + 16 * sub + 8 * v;
    if (!l.super) {
        return m;
    }
    if (l.sub == 16) {
        __m256i both = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)at));
        return _mm256_mul_ps(m, _mm256_cvtepi32_ps(_mm256_srli_epi32(both, 4)));
    }
    return _mm256_mul_ps(m, from_u8(at));
}

/* e^x, relative error below 2e-7 over the range of normal results: 2^n * p(f) with |f| <= ln 2 / 2
 * split in two parts (Cody and Waite, "Software manual for the elementary functions", 1980, ch. 6),
 * the polynomial is Taylor's to degree 6. x <= -87.3 gives 0, x > 88.3 the largest power. */
TSR_INLINE __m256 exp256(__m256 x)
{
    __m256 low = _mm256_cmp_ps(x, _mm256_set1_ps(-87.3f), _CMP_LT_OQ);
    x = _mm256_min_ps(_mm256_max_ps(x, _mm256_set1_ps(-87.3f)), _mm256_set1_ps(88.3f));
    __m256 n = _mm256_round_ps(_mm256_mul_ps(x, _mm256_set1_ps(1.44269504088896341f)),
                               _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m256 f = _mm256_fnmadd_ps(n, _mm256_set1_ps(0.693359375f), x);
    f = _mm256_fnmadd_ps(n, _mm256_set1_ps(-2.12194440e-4f), f);
    __m256 p = _mm256_set1_ps(1.0f / 720);
    p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(1.0f / 120));
    p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(1.0f / 24));
    p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(1.0f / 6));
    p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(0.5f));
    p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(1.0f));
    p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(1.0f));
    __m256i e =
        _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23);
    return _mm256_andnot_ps(low, _mm256_mul_ps(p, _mm256_castsi256_ps(e)));
}

#endif
