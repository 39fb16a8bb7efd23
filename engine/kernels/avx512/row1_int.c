/* One row against block formats: lanes are output rows, weights are not unpacked.
 *
 * A 16-bit half of a group is masked in place and multiplied as it stands, worth 1, 16 or 256 times
 * its value (fields of two bits: 1, 4, 16 or 64 times); products of one worth have their own sum,
 * and the sums are shifted together once a scale's block. What would reach the sign bit is shifted
 * first. That the sums fit is shown in avx2/row1_int.c. The offset of the weights (4, 8, 16, 32)
 * times the sum of the activations is where a sum starts, so that it costs nothing. */
#include "avx512_priv.h"

/* Sums of products of the worths 1, 16, 256 and 1 again (1, 4, 16, 64; of bytes: even and odd
 * bytes). The second sum of worth 1 is only there so that the chains of dependent additions are
 * short. */
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

/* A sum of a worth is a multiple of it. */
TSR_INLINE __m512i sums_total(const struct tsr_layout l, const struct sums *s)
{
    if (l.low == 8 || l.table) {
        return _mm512_add_epi32(s->p[0], s->p[1]);
    }
    if (l.low == 4) {
        __m512i high = _mm512_add_epi32(_mm512_srai_epi32(s->p[2], 4), s->p[1]);
        return _mm512_add_epi32(_mm512_add_epi32(s->p[0], s->p[3]), _mm512_srai_epi32(high, 4));
    }
    __m512i t = _mm512_add_epi32(_mm512_srai_epi32(s->p[3], 2), s->p[2]);
    t = _mm512_add_epi32(_mm512_srai_epi32(t, 2), s->p[1]);
    return _mm512_add_epi32(_mm512_srai_epi32(t, 2), s->p[0]);
}

/* Signed bytes: the even ones by the pair e of activations, the odd ones by the pair o. */
TSR_INLINE void bytes(struct sums *s, __m512i w, const int16_t *e, const int16_t *o)
{
    s->p[0] = dot_i16(s->p[0], _mm512_srai_epi16(_mm512_slli_epi16(w, 8), 8), e);
    s->p[1] = dot_i16(s->p[1], _mm512_srai_epi16(w, 8), o);
}

/* Eight inputs of four bits that are indices. */
TSR_INLINE void table_group(struct sums *s, const uint8_t *group, const int16_t *a)
{
    const __m512i low = _mm512_set1_epi8(15);
    __m512i w = load512(group);
    bytes(s, _mm512_shuffle_epi8(iq4_table(), _mm512_and_si512(w, low)), a, a + 4);
    w = _mm512_and_si512(_mm512_srli_epi16(w, 4), low);
    bytes(s, _mm512_shuffle_epi8(iq4_table(), w), a + 2, a + 6);
}

/* The bits of low in low_mask and of high in high_mask. The ternary 0xca takes low where the mask
 * has a one and high elsewhere. */
TSR_INLINE __m512i merge(__m512i low, int low_mask, __m512i high, int high_mask)
{
    const __m512i mask = _mm512_set1_epi16((short)low_mask);
    if (!high_mask) {
        return _mm512_and_si512(low, mask);
    }
    return _mm512_and_si512(_mm512_ternarylogic_epi32(mask, low, high, 0xca),
                            _mm512_set1_epi16((short)(low_mask | high_mask)));
}

/* Eight inputs of four bits, with one or two bits of H put above them (see format.h): group g of a
 * step. */
TSR_INLINE void nibble_group(const struct tsr_layout l, struct sums *s, const uint8_t *groups,
                             const int g, const int16_t *a)
{
    const int bits = l.high == 2 ? 3 : l.high, shift = l.high == 2 ? g % 2 * 2 : g;
    __m512i w = load512(groups + 64 * g), h = w, top = _mm512_srli_epi16(w, 12);
    if (bits) {
        h = load512(groups + 256 + (l.high == 2 ? g / 2 * 64 : 0));
        h = shift ? _mm512_srli_epi16(h, (shift_count)shift) : h;
        /* 0xf8: a | (b & c) */
        top = _mm512_ternarylogic_epi32(top, _mm512_slli_epi16(h, 4),
                                        _mm512_set1_epi16((short)(bits << 4)), 0xf8);
    }
    s->p[0] = dot_i16(s->p[0], merge(w, 0x000f, h, bits << 4), a);
    s->p[1] = dot_i16(s->p[1], merge(w, 0x00f0, h, bits << 8), a + 2);
    s->p[2] = dot_i16(s->p[2], merge(w, 0x0f00, h, bits << 12), a + 4);
    s->p[3] = dot_i16(s->p[3], top, a + 6);
}

/* Sixteen inputs of two bits, with or without a third: group g of a step. */
TSR_INLINE void pair_group(const struct tsr_layout l, struct sums *s, const uint8_t *groups,
                           const int g, const int16_t *a)
{
    __m512i w = load512(groups + 64 * g), h = w;
    if (l.high) {
        h = load512(groups + 128);
        if (g) { /* its other byte */
            h = _mm512_or_si512(_mm512_srli_epi16(h, 8), _mm512_slli_epi16(h, 8));
        }
    }
    for (int half = 0; half < 2; half++) {
        for (int p = 0; p < 4; p++) {
            __m512i x = merge(w, 3 << (2 * p), h, l.high << (2 * p + 2));
            s->p[p] = dot_i16(s->p[p], x, a + 8 * half + 2 * p);
        }
        w = _mm512_srli_epi16(w, 8);
        h = _mm512_srli_epi16(h, 1);
    }
}

/* Inputs 16 part to 16 part + 15 of a step. */
TSR_INLINE void products(const struct tsr_layout l, struct sums *s, const uint8_t *groups,
                         const int part, const int16_t *a)
{
    if (l.low == 8) {
        for (int g = 0; g < 4; g++) {
            bytes(s, load512(groups + 256 * part + 64 * g), a + 4 * g, a + 4 * g + 2);
        }
    } else if (l.low == 2) {
        pair_group(l, s, groups, part, a);
    } else {
        for (int g = 0; g < 2; g++) {
            if (l.table) {
                table_group(s, groups + 128 * part + 64 * g, a + 8 * g);
            } else {
                nibble_group(l, s, groups, 2 * part + g, a + 8 * g);
            }
        }
    }
}

/* acc + a scale's block: sub is its number in the block of the format. */
TSR_INLINE __m512 scale(const struct tsr_layout l, const struct sums *s, const uint8_t *block,
                        const uint32_t sub, float da, int32_t asum, __m512 acc)
{
    __m512 d = _mm512_mul_ps(block_scale(l, block, sub), _mm512_set1_ps(da));
    acc = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums_total(l, s)), d, acc);
    if (l.minima) {
        acc = _mm512_fmadd_ps(block_minimum(l, block, sub), _mm512_set1_ps(da * (float)asum), acc);
    }
    return acc;
}

TSR_INLINE void row1_int(const enum tsr_format format, const uint8_t *block, uint32_t n_panels,
                         uint32_t cols, const struct tsr_acts *acts, uint32_t row, float *out)
{
    const struct tsr_layout l = tsr_layouts[format];
    const uint32_t steps = tsr_layout_steps(&l), subs = 32 / l.sub;
    const size_t step_bytes = tsr_layout_step_bytes(&l);
    const size_t ahead = tsr_layout_block_bytes(&l) / steps; /* header and all */
    uint32_t blocks = (cols + 32 * steps - 1) / (32 * steps);
    size_t at = (size_t)row * (acts->cols / 32);
    for (uint32_t p = 0; p < n_panels; p++, out += 16) {
        const int16_t *a = acts->q + (size_t)row * acts->cols;
        const float *da = acts->d + at;
        const int32_t *sum16 = acts->sum16 + 2 * at;
        __m512 acc = _mm512_setzero_ps();
        for (uint32_t b = 0; b < blocks; b++, block += tsr_layout_block_bytes(&l)) {
            const uint8_t *groups = block + tsr_layout_groups(&l);
            for (uint32_t i = 0; i < steps; i++, groups += step_bytes, a += 32, da++, sum16 += 2) {
                for (size_t line = 0; line < ahead; line += 64) {
                    _mm_prefetch((const char *)block + i * ahead + 2048 + line, _MM_HINT_T0);
                }
                const int32_t sum = subs == 2 ? sum16[1] : sum16[0] + sum16[1];
                struct sums s = sums_start(-l.offset * (subs == 2 ? sum16[0] : sum));
                products(l, &s, groups, 0, a);
                if (subs == 2) {
                    acc = scale(l, &s, block, 2 * i, *da, sum16[0], acc);
                    s = sums_start(-l.offset * sum);
                }
                products(l, &s, groups, 1, a + 16);
                acc = scale(l, &s, block, subs * i + subs - 1, *da, sum, acc);
            }
        }
        _mm512_storeu_ps(out, acc);
    }
}

#define BLOCK_FORMAT(name, format)                                                                 \
    TSR_ROW1(name)                                                                                 \
    {                                                                                              \
        row1_int(format, panels, n_panels, cols, acts, row, out);                                  \
    }
TSR_BLOCK_FORMATS(BLOCK_FORMAT)
