/* One row against block formats: lanes are output rows, weights are not unpacked.
 *
 * A 16-bit half of a group is masked in place and multiplied as it stands, worth 1, 16 or 256 times
 * its value (fields of two bits: 1, 4, 16 or 64 times); products of one worth have their own sum,
 * and the sums are shifted together once a scale's block. What would reach the sign bit is shifted
 * first. The sums fit: of 4 + 1 bits 4 groups * 2 * (31 * 256) * 32639 < 2^31, of 4 + 2 bits, whose
 * blocks are half as long, 2 * 2 * (63 * 256) * 32639 < 2^31; bytes and tables have no worth but 1,
 * 32 * 128 * 32639 < 2^31. */
#include "avx2_priv.h"

/* Sums of products of the worths 1, 16, 256 (1, 4, 16, 64; of bytes: even and odd bytes), for the
 * panel's lower and upper eight rows. */
struct sums {
    __m256i p[4][2];
};

TSR_INLINE void mul_add(__m256i *sum, __m256i w, __m256i a)
{
    *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(w, a));
}

TSR_INLINE __m256i sums_total(const struct tsr_layout l, const struct sums *s, int v)
{
    if (l.low == 8 || l.table) {
        return _mm256_add_epi32(s->p[0][v], s->p[1][v]);
    }
    if (l.low == 4) {
        return _mm256_add_epi32(_mm256_add_epi32(s->p[0][v], _mm256_srai_epi32(s->p[1][v], 4)),
                                _mm256_srai_epi32(s->p[2][v], 8));
    }
    __m256i t = _mm256_add_epi32(_mm256_srai_epi32(s->p[3][v], 2), s->p[2][v]);
    t = _mm256_add_epi32(_mm256_srai_epi32(t, 2), s->p[1][v]);
    return _mm256_add_epi32(_mm256_srai_epi32(t, 2), s->p[0][v]);
}

/* Signed bytes: the even ones by pair e of activations, the odd ones by pair o. */
TSR_INLINE void bytes(struct sums *s, int v, __m256i w, __m256i e, __m256i o)
{
    mul_add(&s->p[0][v], _mm256_srai_epi16(_mm256_slli_epi16(w, 8), 8), e);
    mul_add(&s->p[1][v], _mm256_srai_epi16(w, 8), o);
}

/* Eight inputs of four bits that are indices. */
TSR_INLINE void table_group(struct sums *s, const uint8_t *group, const int16_t *a)
{
    const __m256i values =
        _mm256_broadcastsi128_si256(_mm_loadu_si128((const void *)tsr_iq4_values));
    const __m256i low = _mm256_set1_epi8(15);
    for (int v = 0; v < 2; v++) {
        __m256i w = load256(group + 32 * v);
        __m256i x = _mm256_shuffle_epi8(values, _mm256_and_si256(w, low));
        __m256i y = _mm256_shuffle_epi8(values, _mm256_and_si256(_mm256_srli_epi16(w, 4), low));
        bytes(s, v, x, pair(a), pair(a + 4));
        bytes(s, v, y, pair(a + 2), pair(a + 6));
    }
}

TSR_INLINE __m256i merge(__m256i low, int low_mask, __m256i high, int high_mask)
{
    low = _mm256_and_si256(low, _mm256_set1_epi16((short)low_mask));
    if (!high_mask) {
        return low;
    }
    return _mm256_or_si256(low, _mm256_and_si256(high, _mm256_set1_epi16((short)high_mask)));
}

/* Eight inputs of four bits, with one or two bits of H put above them (see format.h): group g of a
 * step. */
TSR_INLINE void nibble_group(const struct tsr_layout l, struct sums *s, const uint8_t *groups,
                             const int g, const int16_t *a)
{
    const int bits = l.high == 2 ? 3 : l.high, shift = l.high == 2 ? g % 2 * 2 : g;
    const uint8_t *high = groups + 256 + (l.high == 2 ? g / 2 * 64 : 0);
    for (int v = 0; v < 2; v++) {
        __m256i w = load256(groups + 64 * g + 32 * v), h = w;
        if (bits) {
            h = load256(high + 32 * v);
            h = shift ? _mm256_srli_epi16(h, shift) : h;
        }
        mul_add(&s->p[0][v], merge(w, 0x000f, h, bits << 4), pair(a));
        mul_add(&s->p[1][v], merge(w, 0x00f0, h, bits << 8), pair(a + 2));
        mul_add(&s->p[2][v], merge(w, 0x0f00, h, bits << 12), pair(a + 4));
        __m256i top = _mm256_srli_epi16(w, 12);
        if (bits) {
            h = _mm256_and_si256(_mm256_slli_epi16(h, 4), _mm256_set1_epi16((short)(bits << 4)));
            top = _mm256_or_si256(top, h);
        }
        mul_add(&s->p[0][v], top, pair(a + 6));
    }
}

/* Sixteen inputs of two bits, with or without a third: group g of a step. */
TSR_INLINE void pair_group(const struct tsr_layout l, struct sums *s, const uint8_t *groups,
                           const int g, const int16_t *a)
{
    for (int v = 0; v < 2; v++) {
        __m256i w = load256(groups + 64 * g + 32 * v), h = w;
        if (l.high) {
            h = load256(groups + 128 + 32 * v);
            if (g) { /* its other byte */
                h = _mm256_or_si256(_mm256_srli_epi16(h, 8), _mm256_slli_epi16(h, 8));
            }
        }
        for (int half = 0; half < 2; half++) {
            for (int p = 0; p < 4; p++) {
                __m256i x = merge(w, 3 << (2 * p), h, l.high << (2 * p + 2));
                mul_add(&s->p[p][v], x, pair(a + 8 * half + 2 * p));
            }
            w = _mm256_srli_epi16(w, 8);
            h = _mm256_srli_epi16(h, 1);
        }
    }
}

/* Inputs 16 part to 16 part + 15 of a step. */
TSR_INLINE void products(const struct tsr_layout l, struct sums *s, const uint8_t *groups,
                         const int part, const int16_t *a)
{
    if (l.low == 8) {
        for (int g = 0; g < 4; g++) {
            for (int v = 0; v < 2; v++) {
                __m256i w = load256(groups + 256 * part + 64 * g + 32 * v);
                bytes(s, v, w, pair(a + 4 * g), pair(a + 4 * g + 2));
            }
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

/* acc += a scale's block of a step: sub is its number in the block of the format. */
TSR_INLINE void scale(const struct tsr_layout l, const struct sums *s, const uint8_t *block,
                      const uint32_t sub, float da, int32_t asum, __m256 acc[2])
{
    const __m256 d = _mm256_set1_ps(da), ds = _mm256_set1_ps(da * (float)asum);
    const __m256i offset = _mm256_set1_epi32(l.offset * asum);
    for (int v = 0; v < 2; v++) {
        __m256i sum = sums_total(l, s, v);
        if (l.offset) {
            sum = _mm256_sub_epi32(sum, offset);
        }
        __m256 dw = _mm256_mul_ps(block_scale(l, block, sub, v), d);
        acc[v] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum), dw, acc[v]);
        if (l.minima) {
            acc[v] = _mm256_fmadd_ps(block_minimum(l, block, sub, v), ds, acc[v]);
        }
    }
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
        __m256 acc[2] = {_mm256_setzero_ps(), _mm256_setzero_ps()};
        for (uint32_t b = 0; b < blocks; b++, block += tsr_layout_block_bytes(&l)) {
            const uint8_t *groups = block + tsr_layout_groups(&l);
            for (uint32_t i = 0; i < steps; i++, groups += step_bytes, a += 32, da++, sum16 += 2) {
                for (size_t line = 0; line < ahead; line += 64) {
                    _mm_prefetch((const char *)block + i * ahead + 2048 + line, _MM_HINT_T0);
                }
                struct sums s = {0};
                products(l, &s, groups, 0, a);
                if (subs == 2) {
                    scale(l, &s, block, 2 * i, *da, sum16[0], acc);
                    s = (struct sums){0};
                }
                products(l, &s, groups, 1, a + 16);
                scale(l, &s, block, subs * i + subs - 1, *da,
                      subs == 2 ? sum16[1] : sum16[0] + sum16[1], acc);
            }
        }
        _mm256_storeu_ps(out, acc[0]);
        _mm256_storeu_ps(out + 8, acc[1]);
    }
}

#define BLOCK_FORMAT(name, format)                                                                 \
    TSR_ROW1(name)                                                                                 \
    {                                                                                              \
        row1_int(format, panels, n_panels, cols, acts, row, out);                                  \
    }
TSR_BLOCK_FORMATS(BLOCK_FORMAT)
