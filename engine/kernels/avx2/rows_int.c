/* Several rows against one panel of a block format: the panel is unpacked chunk by chunk to 16-bit
 * integers that stay in the first-level cache, then four rows at a time are multiplied with
 * vpmaddwd. The order of every float operation is that of row1_int.c, so that the bytes are the
 * same. */
#include "avx2_priv.h"

#include <string.h>

enum { CHUNK = 512 };

/* A chunk of a panel: w [CHUNK / 2][16 rows][2 inputs], scales and minima of each `sub` inputs. */
struct chunk {
    _Alignas(64) int16_t w[CHUNK * 16];
    _Alignas(64) float d[CHUNK / 16][16];
    _Alignas(64) float m[CHUNK / 16][16];
};

TSR_INLINE void store_w(int16_t *w, uint32_t k, int v, __m256i x)
{
    _mm256_store_si256((__m256i *)(w + k * 16 + v * 16), x);
}

/* Pair p of group g of a step as 16-bit integers of rows 8v to 8v + 7. */
TSR_INLINE __m256i weights(const struct tsr_layout l, const uint8_t *groups, const int g,
                           const int p, const int v)
{
    __m256i w = load256(groups + 64 * g + 32 * v), q;
    if (l.low == 8) {
        return p ? _mm256_srai_epi16(w, 8) : _mm256_srai_epi16(_mm256_slli_epi16(w, 8), 8);
    }
    if (l.table) {
        __m256i values = _mm256_broadcastsi128_si256(_mm_loadu_si128((const void *)tsr_iq4_values));
        q = _mm256_and_si256(_mm256_srli_epi16(w, p % 2 * 4), _mm256_set1_epi8(15));
        q = _mm256_shuffle_epi8(values, q);
        return _mm256_srai_epi16(p / 2 ? q : _mm256_slli_epi16(q, 8), 8);
    }
    q = _mm256_and_si256(_mm256_srli_epi16(w, l.low * p),
                         _mm256_set1_epi16((short)((1 << l.low) - 1)));
    if (l.high) {
        __m256i h = load256(groups + 64 * l.low + (l.high == 2 ? g / 2 * 64 : 0) + 32 * v);
        /* see format.h: the bit at which the pair's lie, and where they are to go */
        const int from = l.low == 2    ? (2 * (p % 4) + 2 + 8 * g + p / 4) % 16
                         : l.high == 2 ? (p == 3 ? 0 : 4 * p + 4) + g % 2 * 2
                                       : (p == 3 ? 0 : 4 * p + 4) + g;
        h = from > l.low ? _mm256_srli_epi16(h, from - l.low) : _mm256_slli_epi16(h, l.low - from);
        h = _mm256_and_si256(h, _mm256_set1_epi16((short)(((1 << l.high) - 1) << l.low)));
        q = _mm256_or_si256(q, h);
    }
    return l.offset ? _mm256_sub_epi16(q, _mm256_set1_epi16(l.offset)) : q;
}

TSR_INLINE void unpack(const enum tsr_format format, struct chunk *c, const uint8_t *panel,
                       uint32_t n)
{
    const struct tsr_layout l = tsr_layouts[format];
    const uint32_t steps = tsr_layout_steps(&l), subs = 32 / l.sub;
    const int pairs = 16 / l.low;
    for (uint32_t s = 0; s < n / 32; s++) {
        const uint8_t *block = panel + s / steps * tsr_layout_block_bytes(&l);
        const uint8_t *groups =
            block + tsr_layout_groups(&l) + s % steps * tsr_layout_step_bytes(&l);
        for (int v = 0; v < 2; v++) {
            for (uint32_t i = 0; i < subs; i++) {
                uint32_t sub = s % steps * subs + i;
                _mm256_store_ps(c->d[s * subs + i] + 8 * v, block_scale(l, block, sub, v));
                if (l.minima) {
                    _mm256_store_ps(c->m[s * subs + i] + 8 * v, block_minimum(l, block, sub, v));
                }
            }
#pragma GCC unroll 16
            for (int k = 0; k < 16; k++) {
                store_w(c->w, 32 * s + 2 * (uint32_t)k, v,
                        weights(l, groups, k / pairs, k % pairs, v));
            }
        }
    }
}

/* The same pointer, of which gcc 12 no longer knows where it came from: it then addresses the
 * unrolled loop by constant offsets instead of keeping a pointer for every one of them. */
TSR_INLINE const int16_t *fixed(const int16_t *p)
{
    __asm__("" : "+r"(p));
    return p;
}

/* n_rows (1 to 4) rows of activations against a chunk; out [n_rows][16] accumulates. The loop over
 * a block's inputs is unrolled whole: as a loop gcc 12 copies every accumulator once a turn. */
TSR_INLINE void multiply(const struct chunk *restrict c, uint32_t k0, uint32_t n,
                         const struct tsr_acts *acts, uint32_t row, float *restrict out,
                         const int n_rows, const uint32_t sub, const int minima)
{
    size_t stride = acts->cols, blocks = stride / 32;
    const int16_t *restrict a = acts->q + (size_t)row * stride + k0;
    const float *restrict d = acts->d + (size_t)row * blocks + k0 / 32;
    const int32_t *restrict sums = sub == 32 ? acts->sum32 : acts->sum16;
    sums += (size_t)row * (stride / sub) + k0 / sub;
    for (uint32_t s = 0; s < n / sub; s++, a += sub) {
        const int16_t *w = fixed(c->w + (size_t)s * sub * 16);
        const int16_t *x[4];
        __m256i sum[4][2];
        for (int r = 0; r < n_rows; r++) {
            x[r] = fixed(a + (size_t)r * stride);
            _mm_prefetch((const char *)(x[r] + 4 * stride),
                         _MM_HINT_T0); /* the rows that come next */
            sum[r][0] = sum[r][1] = _mm256_setzero_si256();
        }
#pragma GCC unroll 16
        for (uint32_t k = 0; k < sub; k += 2) {
            __m256i w0 = _mm256_load_si256((const __m256i *)(w + k * 16));
            __m256i w1 = _mm256_load_si256((const __m256i *)(w + k * 16 + 16));
            for (int r = 0; r < n_rows; r++) {
                __m256i b = pair(x[r] + k);
                sum[r][0] = _mm256_add_epi32(sum[r][0], _mm256_madd_epi16(w0, b));
                sum[r][1] = _mm256_add_epi32(sum[r][1], _mm256_madd_epi16(w1, b));
            }
        }
        size_t block = (size_t)s * sub / 32;
        for (int r = 0; r < n_rows; r++) {
            float d_row = d[(size_t)r * blocks + block];
            __m256 da = _mm256_set1_ps(d_row);
            __m256 ds = _mm256_set1_ps(d_row * (float)sums[(size_t)r * (stride / sub) + s]);
            for (int v = 0; v < 2; v++) {
                float *o = out + r * 16 + 8 * v;
                __m256 acc = _mm256_load_ps(o);
                acc = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum[r][v]),
                                      _mm256_mul_ps(_mm256_load_ps(c->d[s] + 8 * v), da), acc);
                if (minima) {
                    acc = _mm256_fmadd_ps(_mm256_load_ps(c->m[s] + 8 * v), ds, acc);
                }
                _mm256_store_ps(o, acc);
            }
        }
    }
}

/* All rows against a chunk: one function for all formats of the same arithmetic. */
TSR_INLINE void multiply_all(const struct chunk *c, uint32_t k0, uint32_t n,
                             const struct tsr_acts *acts, uint32_t row, uint32_t rows, float *out,
                             const uint32_t sub, const int minima)
{
    uint32_t r = 0;
    for (; r + 4 <= rows; r += 4) {
        multiply(c, k0, n, acts, row + r, out + (size_t)r * 16, 4, sub, minima);
    }
    for (; r + 2 <= rows; r += 2) {
        multiply(c, k0, n, acts, row + r, out + (size_t)r * 16, 2, sub, minima);
    }
    if (r < rows) {
        multiply(c, k0, n, acts, row + r, out + (size_t)r * 16, 1, sub, minima);
    }
}

#define CHUNK_ARITHMETIC(name, sub, minima)                                                        \
    static void chunk_##name(const struct chunk *c, uint32_t k0, uint32_t n,                       \
                             const struct tsr_acts *acts, uint32_t row, uint32_t rows, float *out) \
    {                                                                                              \
        multiply_all(c, k0, n, acts, row, rows, out, sub, minima);                                 \
    }
CHUNK_ARITHMETIC(sub32, 32, 0)
CHUNK_ARITHMETIC(sub32_minima, 32, 1)
CHUNK_ARITHMETIC(sub16, 16, 0)
CHUNK_ARITHMETIC(sub16_minima, 16, 1)

TSR_INLINE void rows_int(const enum tsr_format format, const uint8_t *panel, uint32_t cols,
                         const struct tsr_acts *acts, uint32_t row, uint32_t rows, float *out)
{
    const struct tsr_layout l = tsr_layouts[format];
    const uint32_t block = 32 * tsr_layout_steps(&l);
    struct chunk c;
    cols = (cols + block - 1) / block * block;
    memset(out, 0, (size_t)rows * 16 * sizeof *out);
    for (uint32_t k0 = 0; k0 < cols; k0 += CHUNK) {
        uint32_t n = cols - k0 < CHUNK ? cols - k0 : CHUNK;
        unpack(format, &c, panel + k0 / block * tsr_layout_block_bytes(&l), n);
        if (l.sub == 16) {
            (l.minima ? chunk_sub16_minima : chunk_sub16)(&c, k0, n, acts, row, rows, out);
        } else {
            (l.minima ? chunk_sub32_minima : chunk_sub32)(&c, k0, n, acts, row, rows, out);
        }
    }
}

#define BLOCK_FORMAT(name, format)                                                                 \
    TSR_ROWS(name)                                                                                 \
    {                                                                                              \
        rows_int(format, panel, cols, acts, row_first, rows, out);                                 \
    }
TSR_BLOCK_FORMATS(BLOCK_FORMAT)
