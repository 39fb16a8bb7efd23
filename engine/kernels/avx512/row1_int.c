/* One row against block formats: lanes are output rows, weights are not unpacked.
 *
 * A 16-bit half of four nibbles is masked in place and multiplied as it stands: nibble p counts
 * 16^p times, so products of p = 1 and 2 are summed apart and shifted once a block; p = 3 would
 * reach the sign bit and is shifted first. The sums fit: 4 groups * 2 * (15 * 256) * 32639 < 2^30,
 * and for q6_k 2 * 2 * (63 * 256) * 32639 < 2^31. The offset of the weights (8, 32) times the sum
 * of the activations is where a sum starts, so that it costs nothing. */
#include "avx512_priv.h"

/* Sums of products of nibble positions 0 to 3. Position 3 has its own only so that the chains of
 * dependent additions are short. */
struct sums {
    __m512i p[4];
};

TSR_INLINE struct sums sums_start(int32_t offset)
{
    struct sums s;
    s.p[0] = _mm512_set1_epi32(offset);
    s.p[1] = s.p[2] = s.p[3] = _mm512_setzero_si512();
    return s;
}

/* p0 + p1 / 16 + p2 / 256 + p3; p2 is a multiple of 256, p1 of 16. */
TSR_INLINE __m512i sums_total(const struct sums *s)
{
    __m512i high = _mm512_add_epi32(_mm512_srai_epi32(s->p[2], 4), s->p[1]);
    return _mm512_add_epi32(_mm512_add_epi32(s->p[0], s->p[3]), _mm512_srai_epi32(high, 4));
}

TSR_INLINE void q4_group(struct sums *s, const uint8_t *group, const int16_t *a)
{
    const __m512i m0 = _mm512_set1_epi16(0x000f), m1 = _mm512_set1_epi16(0x00f0);
    const __m512i m2 = _mm512_set1_epi16(0x0f00);
    __m512i w = load512(group);
    s->p[0] = dot_i16(s->p[0], _mm512_and_si512(w, m0), a);
    s->p[1] = dot_i16(s->p[1], _mm512_and_si512(w, m1), a + 2);
    s->p[2] = dot_i16(s->p[2], _mm512_and_si512(w, m2), a + 4);
    s->p[3] = dot_i16(s->p[3], _mm512_srli_epi16(w, 12), a + 6);
}

/* The lines that a block `ahead` holds. */
TSR_INLINE void prefetch(const uint8_t *ahead, const int lines)
{
    for (int i = 0; i < lines; i++) {
        _mm_prefetch((const char *)ahead + 64 * i, _MM_HINT_T0);
    }
}

/* q4_0 and q4_1: heads is the number of f16 vectors in front of the groups. */
TSR_INLINE void row1_q4(const uint8_t *block, uint32_t n_panels, uint32_t cols,
                        const struct tsr_acts *acts, uint32_t row, float *out, const int heads)
{
    uint32_t blocks = (cols + 31) / 32;
    size_t at = (size_t)row * (acts->cols / 32);
    const float *d = acts->d + at, *ds = acts->ds + at;
    const int32_t *sum32 = acts->sum32 + at;
    for (uint32_t p = 0; p < n_panels; p++, out += 16) {
        const int16_t *a = acts->q + (size_t)row * acts->cols;
        __m512 acc = _mm512_setzero_ps();
        for (uint32_t b = 0; b < blocks; b++, block += 256 + 32 * heads, a += 32) {
            struct sums s = sums_start(heads == 1 ? -8 * sum32[b] : 0);
            prefetch(block + 2048, 3 + heads);
            for (int g = 0; g < 4; g++) {
                q4_group(&s, block + 32 * heads + 64 * g, a + 8 * g);
            }
            acc = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums_total(&s)),
                                  _mm512_mul_ps(halves(block), _mm512_set1_ps(d[b])), acc);
            if (heads == 2) {
                acc = _mm512_fmadd_ps(halves(block + 32), _mm512_set1_ps(ds[b]), acc);
            }
        }
        _mm512_storeu_ps(out, acc);
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
    const float *d = acts->d + (size_t)row * (acts->cols / 32);
    for (uint32_t p = 0; p < n_panels; p++, out += 16) {
        const int16_t *a = acts->q + (size_t)row * acts->cols;
        __m512 acc = _mm512_setzero_ps();
        for (uint32_t b = 0; b < blocks; b++, block += 544, a += 32) {
            __m512i even = _mm512_setzero_si512(), odd = even;
            prefetch(block + 2048, 8);
            for (int g = 0; g < 8; g++) {
                __m512i w = load512(block + 32 + 64 * g);
                even = dot_i16(even, _mm512_srai_epi16(_mm512_slli_epi16(w, 8), 8), a + 4 * g);
                odd = dot_i16(odd, _mm512_srai_epi16(w, 8), a + 4 * g + 2);
            }
            acc = _mm512_fmadd_ps(_mm512_cvtepi32_ps(_mm512_add_epi32(even, odd)),
                                  _mm512_mul_ps(halves(block), _mm512_set1_ps(d[b])), acc);
        }
        _mm512_storeu_ps(out, acc);
    }
}

/* Eight inputs of q6_k: nibbles of L with the two high bits of H put above them (see format.h). The
 * ternary 0xca takes l where mask has a one and h elsewhere, 0xf8 is l | (h & mask). */
TSR_INLINE void q6_group(struct sums *s, const uint8_t *low, __m512i h, const int16_t *a)
{
    const __m512i m0 = _mm512_set1_epi16(0x000f), m1 = _mm512_set1_epi16(0x00f0);
    const __m512i m2 = _mm512_set1_epi16(0x0f00), h0 = _mm512_set1_epi16(0x0030);
    __m512i l = load512(low);
    __m512i w0 =
        _mm512_and_si512(_mm512_ternarylogic_epi32(m0, l, h, 0xca), _mm512_set1_epi16(0x003f));
    __m512i w1 =
        _mm512_and_si512(_mm512_ternarylogic_epi32(m1, l, h, 0xca), _mm512_set1_epi16(0x03f0));
    __m512i w2 =
        _mm512_and_si512(_mm512_ternarylogic_epi32(m2, l, h, 0xca), _mm512_set1_epi16(0x3f00));
    __m512i w3 =
        _mm512_ternarylogic_epi32(_mm512_srli_epi16(l, 12), _mm512_slli_epi16(h, 4), h0, 0xf8);
    s->p[0] = dot_i16(s->p[0], w0, a);
    s->p[1] = dot_i16(s->p[1], w1, a + 2);
    s->p[2] = dot_i16(s->p[2], w2, a + 4);
    s->p[3] = dot_i16(s->p[3], w3, a + 6);
}

TSR_ROW1(q6_k)
{
    const uint8_t *block = panels;
    uint32_t blocks = (cols + 255) / 256;
    size_t at = (size_t)row * (acts->cols / 32);
    for (uint32_t p = 0; p < n_panels; p++, out += 16) {
        const int16_t *a = acts->q + (size_t)row * acts->cols;
        const float *da = acts->d + at;
        const int32_t *sum16 = acts->sum16 + 2 * at;
        __m512 acc = _mm512_setzero_ps();
        for (uint32_t b = 0; b < blocks; b++, block += 3360) {
            __m512 d = halves(block);
            const uint8_t *part = block + 288;
            for (int i = 0; i < 8; i++, part += 384, a += 32, da++, sum16 += 2) {
                prefetch(part + 2048, 6);
                for (int half = 0; half < 2; half++) {
                    const uint8_t *low = part + 128 * half;
                    __m512i h = load512(part + 256 + 64 * half);
                    struct sums s = sums_start(-32 * sum16[half]);
                    q6_group(&s, low, h, a + 16 * half);
                    q6_group(&s, low + 64, _mm512_srli_epi16(h, 2), a + 16 * half + 8);
                    __m128i scales =
                        _mm_loadu_si128((const __m128i *)(block + 32 + 32 * i + 16 * half));
                    __m512 dw = _mm512_mul_ps(d, _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(scales)));
                    acc = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums_total(&s)),
                                          _mm512_mul_ps(dw, _mm512_set1_ps(*da)), acc);
                }
            }
        }
        _mm512_storeu_ps(out, acc);
    }
}
