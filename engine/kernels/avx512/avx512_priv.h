/* What the AVX-512 files share. A zmm register is the 16 rows of a panel, one 32-bit lane each. */
#ifndef TSR_KERNELS_AVX512_PRIV_H
#define TSR_KERNELS_AVX512_PRIV_H

#include <immintrin.h>

#include <tsr/kernels/kernels.h>

#include "blocks_priv.h"
#include "layout_priv.h"

#define TSR_INLINE static inline __attribute__((always_inline))

#define TSR_ROW1(name)                                                                             \
    void tsr_avx512_row1_##name(const void *panels, uint32_t n_panels, uint32_t cols,              \
                                const struct tsr_acts *acts, uint32_t row, float *out)
#define TSR_ROWS(name)                                                                             \
    void tsr_avx512_rows_##name(const void *panel, uint32_t cols, const struct tsr_acts *acts,     \
                                uint32_t row_first, uint32_t rows, float *out)

#define TSR_DECLARE(name, format)                                                                  \
    TSR_ROW1(name);                                                                                \
    TSR_ROWS(name);
TSR_FORMATS(TSR_DECLARE)

void tsr_avx512_norm(const float *in, const float *weight, float eps, uint32_t count, float *out);
void tsr_avx512_quantize(const float *x, uint32_t count, struct tsr_acts *acts, uint32_t row);
void tsr_avx512_to_bf16(const float *x, uint32_t count, struct tsr_acts *acts, uint32_t row);
void tsr_avx512_silu_mul(float *gate, const float *up, uint32_t count);
void tsr_avx512_gelu_mul(float *gate, const float *up, uint32_t count);
void tsr_avx512_rope(float *x, const float *cos, const float *sin, uint32_t dims);
void tsr_avx512_store_kv(const float *x, uint32_t count, void *kv, uint32_t stride);
void tsr_avx512_attend(const struct tsr_attend *args);

TSR_INLINE __m512i load512(const void *p)
{
    return _mm512_loadu_si512(p);
}

/* 16 f16 as f32. */
TSR_INLINE __m512 halves(const void *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
}

/* The count of a shift. Intrinsics take int or unsigned, as the compiler and its version like; this
 * becomes either. */
typedef uint8_t shift_count;

/* Sixteen bytes as f32. */
TSR_INLINE __m512 from_i8(const void *p)
{
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)p)));
}

TSR_INLINE __m512i widen_u8(const void *p)
{
    return _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)p));
}

/* tsr_iq4_values in each quarter. */
TSR_INLINE __m512i iq4_table(void)
{
    return _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)tsr_iq4_values));
}

/* Scales of sub-block `sub` of a packed block, and minima where it has them. */
TSR_INLINE __m512 block_scale(const struct tsr_layout l, const uint8_t *block, uint32_t sub)
{
    const uint8_t *at = block + tsr_layout_scales(&l) + 16 * sub;
    if (!l.super) {
        return halves(block);
    }
    if (l.minima && l.sub == 16) {
        __m512i low = _mm512_and_si512(widen_u8(at), _mm512_set1_epi32(15));
        return _mm512_mul_ps(halves(block), _mm512_cvtepi32_ps(low));
    }
    return _mm512_mul_ps(halves(block), from_i8(at));
}

TSR_INLINE __m512 block_minimum(const struct tsr_layout l, const uint8_t *block, uint32_t sub)
{
    if (!l.super) {
        return halves(block + 32);
    }
    __m512i min = widen_u8(block + tsr_layout_minima(&l) + 16 * sub);
    min = l.sub == 16 ? _mm512_srli_epi32(min, 4) : min;
    return _mm512_mul_ps(halves(block + 32), _mm512_cvtepi32_ps(min));
}

/* The 32 bits at p in every lane. */
TSR_INLINE __m512i pair(const void *p)
{
    int32_t v;
    __builtin_memcpy(&v, p, 4);
    return _mm512_set1_epi32(v);
}

/* sum + the products of w's 16-bit halves with the two 16-bit activations at a, and the same of
 * bf16. gcc 12 does not fold the broadcast into these two instructions, so they are written out;
 * clang folds it, and the address sanitizer should see the load. */
#if defined __clang__ || defined __SANITIZE_ADDRESS__
TSR_INLINE __m512i dot_i16(__m512i sum, __m512i w, const void *a)
{
    return _mm512_dpwssd_epi32(sum, w, pair(a));
}
TSR_INLINE __m512 dot_bf16(__m512 sum, __m512i w, const void *a)
{
    return _mm512_dpbf16_ps(sum, (__m512bh)w, (__m512bh)pair(a));
}
#else
TSR_INLINE __m512i dot_i16(__m512i sum, __m512i w, const void *a)
{
    __asm__("vpdpwssd %2%{1to16%}, %1, %0" : "+v"(sum) : "v"(w), "m"(*(const int32_t *)a));
    return sum;
}
TSR_INLINE __m512 dot_bf16(__m512 sum, __m512i w, const void *a)
{
    __asm__("vdpbf16ps %2%{1to16%}, %1, %0" : "+v"(sum) : "v"(w), "m"(*(const int32_t *)a));
    return sum;
}
#endif

/* The first n lanes (0 <= n; 16 and more: all). */
TSR_INLINE __mmask16 lanes(uint32_t n)
{
    return (__mmask16)(n < 16 ? (1u << n) - 1 : 0xffffu);
}

/* The activations of a tile's rows. Row r is base[r / 3] + (r % 3) * stride, so that each is one
 * memory operand (base, or base and index) and twelve rows take six general registers. */
struct tile_rows {
    const char *base[6];
    size_t stride, stride2; /* bytes, and twice */
};

TSR_INLINE struct tile_rows tile_rows(const void *first, size_t stride, const int n_rows)
{
    struct tile_rows t = {.stride = stride, .stride2 = 2 * stride};
    for (int i = 0; 3 * i < n_rows; i++) {
        t.base[i] = (const char *)first + (size_t)(3 * i) * stride;
        __asm__("" : "+r"(t.base[i])); /* hides the relation, else twelve pointers come of it */
    }
    return t;
}

/* Called before each round of tile_row(): else gcc keeps stride + k in a register for every k. */
TSR_INLINE void tile_rows_hide(struct tile_rows *t)
{
    __asm__("" : "+r"(t->stride), "+r"(t->stride2));
}

TSR_INLINE const char *tile_row(const struct tile_rows *t, int r)
{
    return t->base[r / 3] + (r % 3 == 0 ? 0 : r % 3 == 1 ? t->stride : t->stride2);
}

TSR_INLINE void tile_rows_advance(struct tile_rows *t, const int n_rows, size_t bytes)
{
    for (int i = 0; 3 * i < n_rows; i++) {
        t->base[i] += bytes;
        __asm__("" : "+r"(t->base[i])); /* else gcc adds one shared index to each, each time */
    }
}

/* Cases of a switch, for tile functions whose row count is a constant. */
#define TSR_CASES_2_5(CALL)   CALL(2) CALL(3) CALL(4) CALL(5)
#define TSR_CASES_6_12(CALL)  CALL(6) CALL(7) CALL(8) CALL(9) CALL(10) CALL(11) CALL(12)
#define TSR_CASES_13_16(CALL) CALL(13) CALL(14) CALL(15) CALL(16)

/* e^x, relative error below 2e-7 over the range of normal results: 2^n * p(f) with |f| <= ln 2 / 2
 * split in two parts (Cody and Waite, "Software manual for the elementary functions", 1980, ch. 6),
 * the polynomial is Taylor's to degree 6. x <= -87.3 gives 0, x > 88.3 the largest power. */
TSR_INLINE __m512 exp512(__m512 x)
{
    const __m512 least = _mm512_set1_ps(-87.3f);
    __mmask16 normal = _mm512_cmp_ps_mask(x, least, _CMP_NLT_UQ);
    x = _mm512_min_ps(_mm512_max_ps(x, least), _mm512_set1_ps(88.3f));
    __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504088896341f)),
                                    _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m512 f = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693359375f), x);
    f = _mm512_fnmadd_ps(n, _mm512_set1_ps(-2.12194440e-4f), f);
    __m512 p = _mm512_set1_ps(1.0f / 720);
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(1.0f / 120));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(1.0f / 24));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(1.0f / 6));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(0.5f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(1.0f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(1.0f));
    return _mm512_maskz_scalef_ps(normal, p, n);
}

#endif
