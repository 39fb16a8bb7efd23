/* One row against block formats: lanes are output rows, weights are not unpacked.
 *
 * A 16-bit lane of four nibbles is masked in place and multiplied as it stands: nibble p counts
 * 16^p times, so products of p = 1 and 2 are summed apart and shifted once a block; p = 3 would
 * reach the sign bit and is shifted first. The sums fit: 4 groups * 2 * (15 * 256) * 32639 < 2^30,
 * and for q6_k 2 * 2 * (63 * 256) * 32639 < 2^31. */
#include "avx2_priv.h"

/* Sums of products of nibble positions 0 and 3, 1, and 2, for the panel's lower and upper eight
 * rows. */
struct sums {
    __m256i p0[2], p1[2], p2[2];
};

TSR_INLINE void mul_add(__m256i *sum, __m256i w, __m256i a)
{
    *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(w, a));
}

TSR_INLINE __m256i sums_total(const struct sums *s, int v)
{
    return _mm256_add_epi32(_mm256_add_epi32(s->p0[v], _mm256_srai_epi32(s->p1[v], 4)),
                            _mm256_srai_epi32(s->p2[v], 8));
}

TSR_INLINE void q4_group(struct sums *s, const uint8_t *group, const int16_t *a)
{
    const __m256i m0 = _mm256_set1_epi16(0x000f), m1 = _mm256_set1_epi16(0x00f0);
    const __m256i m2 = _mm256_set1_epi16(0x0f00);
    __m256i w0 = load256(group), w1 = load256(group + 32);
    __m256i b = pair(a);
    mul_add(&s->p0[0], _mm256_and_si256(w0, m0), b);
    mul_add(&s->p0[1], _mm256_and_si256(w1, m0), b);
    b = pair(a + 2);
    mul_add(&s->p1[0], _mm256_and_si256(w0, m1), b);
    mul_add(&s->p1[1], _mm256_and_si256(w1, m1), b);
    b = pair(a + 4);
    mul_add(&s->p2[0], _mm256_and_si256(w0, m2), b);
    mul_add(&s->p2[1], _mm256_and_si256(w1, m2), b);
    b = pair(a + 6);
    mul_add(&s->p0[0], _mm256_srli_epi16(w0, 12), b);
    mul_add(&s->p0[1], _mm256_srli_epi16(w1, 12), b);
}

/* q4_0 and q4_1: heads is the number of f16 vectors in front of the groups. */
TSR_INLINE void row1_q4(const uint8_t *block, uint32_t n_panels, uint32_t cols,
                        const struct tsr_acts *acts, uint32_t row, float *out, int heads)
{
    uint32_t blocks = (cols + 31) / 32;
    for (uint32_t p = 0; p < n_panels; p++, out += 16) {
        const int16_t *a = acts->q + (size_t)row * acts->cols;
        size_t at = (size_t)row * (acts->cols / 32);
        __m256 acc[2] = {_mm256_setzero_ps(), _mm256_setzero_ps()};
        for (uint32_t b = 0; b < blocks; b++, block += 256 + 32 * heads, a += 32) {
            struct sums s = {0};
            _mm_prefetch((const char *)block + 2048, _MM_HINT_T0);
            _mm_prefetch((const char *)block + 2048 + 64, _MM_HINT_T0);
            _mm_prefetch((const char *)block + 2048 + 128, _MM_HINT_T0);
            _mm_prefetch((const char *)block + 2048 + 192, _MM_HINT_T0);
            for (int g = 0; g < 4; g++) {
                q4_group(&s, block + 32 * heads + 64 * g, a + 8 * g);
            }
            __m256 d = _mm256_set1_ps(acts->d[at + b]);
            __m256i offset = _mm256_set1_epi32(8 * acts->sum32[at + b]);
            for (int v = 0; v < 2; v++) {
                __m256i sum = sums_total(&s, v);
                if (heads == 1) {
                    sum = _mm256_sub_epi32(sum, offset);
                }
                acc[v] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum),
                                         _mm256_mul_ps(halves(block + 16 * v), d), acc[v]);
                if (heads == 2) {
                    acc[v] = _mm256_fmadd_ps(halves(block + 32 + 16 * v),
                                             _mm256_set1_ps(acts->ds[at + b]), acc[v]);
                }
            }
        }
        _mm256_storeu_ps(out, acc[0]);
        _mm256_storeu_ps(out + 8, acc[1]);
    }
}

TSR_ROW1(q4_0)
{
    row1_q4(panels, n_panels, cols, acts, row, out, 1);
}

TSR_ROW1(q4_1)
{
    row1_q4(panels, n_panels, cols, acts, row, out, 2);
}

TSR_ROW1(q8_0)
{
    const uint8_t *block = panels;
    uint32_t blocks = (cols + 31) / 32;
    for (uint32_t p = 0; p < n_panels; p++, out += 16) {
        const int16_t *a = acts->q + (size_t)row * acts->cols;
        size_t at = (size_t)row * (acts->cols / 32);
        __m256 acc[2] = {_mm256_setzero_ps(), _mm256_setzero_ps()};
        for (uint32_t b = 0; b < blocks; b++, block += 544, a += 32) {
            __m256i sum[2][2] = {{_mm256_setzero_si256(), _mm256_setzero_si256()},
                                 {_mm256_setzero_si256(), _mm256_setzero_si256()}};
            for (int g = 0; g < 8; g++) {
                __m256i even = pair(a + 4 * g), odd = pair(a + 4 * g + 2);
                _mm_prefetch((const char *)block + 2048 + 64 * g, _MM_HINT_T0);
                for (int v = 0; v < 2; v++) {
                    __m256i w = load256(block + 32 + 64 * g + 32 * v);
                    mul_add(&sum[v][0], _mm256_srai_epi16(_mm256_slli_epi16(w, 8), 8), even);
                    mul_add(&sum[v][1], _mm256_srai_epi16(w, 8), odd);
                }
            }
            __m256 d = _mm256_set1_ps(acts->d[at + b]);
            for (int v = 0; v < 2; v++) {
                __m256i total = _mm256_add_epi32(sum[v][0], sum[v][1]);
                acc[v] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(total),
                                         _mm256_mul_ps(halves(block + 16 * v), d), acc[v]);
            }
        }
        _mm256_storeu_ps(out, acc[0]);
        _mm256_storeu_ps(out + 8, acc[1]);
    }
}

/* Eight inputs of q6_k: nibbles of L with the two high bits of H put above them (see format.h). */
TSR_INLINE void q6_group(struct sums *s, const uint8_t *low, const uint8_t *high, int odd,
                         const int16_t *a)
{
    const __m256i m0 = _mm256_set1_epi16(0x000f), m1 = _mm256_set1_epi16(0x00f0);
    const __m256i m2 = _mm256_set1_epi16(0x0f00), h0 = _mm256_set1_epi16(0x0030);
    const __m256i h1 = _mm256_set1_epi16(0x0300), h2 = _mm256_set1_epi16(0x3000);
    for (int v = 0; v < 2; v++) {
        __m256i l = load256(low + 32 * v), h = load256(high + 32 * v);
        if (odd) {
            h = _mm256_srli_epi16(h, 2);
        }
        mul_add(&s->p0[v], _mm256_or_si256(_mm256_and_si256(l, m0), _mm256_and_si256(h, h0)),
                pair(a));
        mul_add(&s->p1[v], _mm256_or_si256(_mm256_and_si256(l, m1), _mm256_and_si256(h, h1)),
                pair(a + 2));
        mul_add(&s->p2[v], _mm256_or_si256(_mm256_and_si256(l, m2), _mm256_and_si256(h, h2)),
                pair(a + 4));
        mul_add(&s->p0[v],
                _mm256_or_si256(_mm256_srli_epi16(l, 12),
                                _mm256_and_si256(_mm256_slli_epi16(h, 4), h0)),
                pair(a + 6));
    }
}

TSR_ROW1(q6_k)
{
    const uint8_t *block = panels;
    uint32_t blocks = (cols + 255) / 256;
    for (uint32_t p = 0; p < n_panels; p++, out += 16) {
        const int16_t *a = acts->q + (size_t)row * acts->cols;
        size_t at = (size_t)row * (acts->cols / 32);
        __m256 acc[2] = {_mm256_setzero_ps(), _mm256_setzero_ps()};
        for (uint32_t b = 0; b < blocks; b++, block += 3360) {
            __m256 d[2] = {halves(block), halves(block + 16)};
            for (int sub = 0; sub < 16; sub++, a += 16) {
                const uint8_t *low = block + 288 + sub / 2 * 384 + sub % 2 * 128;
                const uint8_t *high = block + 288 + sub / 2 * 384 + 256 + sub % 2 * 64;
                struct sums s = {0};
                _mm_prefetch((const char *)block + 2048 + 210 * sub, _MM_HINT_T0);
                _mm_prefetch((const char *)block + 2048 + 210 * sub + 64, _MM_HINT_T0);
                _mm_prefetch((const char *)block + 2048 + 210 * sub + 128, _MM_HINT_T0);
                q6_group(&s, low, high, 0, a);
                q6_group(&s, low + 64, high, 1, a + 8);
                size_t i = at + 8 * b + (size_t)sub / 2;
                __m256 da = _mm256_set1_ps(acts->d[i]);
                __m256i offset = _mm256_set1_epi32(32 * acts->sum16[2 * i + (size_t)sub % 2]);
                for (int v = 0; v < 2; v++) {
                    __m128i scales =
                        _mm_loadl_epi64((const __m128i *)(block + 32 + 16 * sub + 8 * v));
                    __m256 dw =
                        _mm256_mul_ps(d[v], _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(scales)));
                    __m256i sum = _mm256_sub_epi32(sums_total(&s, v), offset);
                    acc[v] =
                        _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum), _mm256_mul_ps(dw, da), acc[v]);
                }
            }
        }
        _mm256_storeu_ps(out, acc[0]);
        _mm256_storeu_ps(out + 8, acc[1]);
    }
}
