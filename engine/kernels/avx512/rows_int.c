/* Several rows against one panel of a block format, in tiles of up to twelve rows: an integer and a
 * float accumulator a row stay in registers, a pair of weights meets twelve broadcast pairs of
 * activations. The order of every float operation is that of row1_int.c, so that the bytes are the
 * same.
 *
 * One tile's worth of rows unpacks weights in registers as it goes; more rows share a chunk that
 * was unpacked into the first-level cache. */
#include "avx512_priv.h"

#include <string.h>

enum { TILE = 12, STEP = 32, CHUNK_STEPS = 8, CHUNK = STEP * CHUNK_STEPS };

/* A chunk of a panel: w [CHUNK / 2][16 rows][2 inputs], scales and minima of each 32 inputs, or of
 * each 16. */
struct chunk {
    _Alignas(64) int16_t w[CHUNK * 16];
    _Alignas(64) float d[CHUNK / 16][16];
    _Alignas(64) float m[CHUNK / 16][16];
};

/* The packed block that holds a step, and the step's groups. */
TSR_INLINE const uint8_t *step_block(const struct tsr_layout l, const uint8_t *panel, uint32_t step)
{
    return panel + step / tsr_layout_steps(&l) * tsr_layout_block_bytes(&l);
}

TSR_INLINE const uint8_t *step_groups(const struct tsr_layout l, const uint8_t *panel,
                                      uint32_t step)
{
    return step_block(l, panel, step) + tsr_layout_groups(&l) +
           step % tsr_layout_steps(&l) * tsr_layout_step_bytes(&l);
}

/* Scales and minima of the sub-block that step and half lie in. */
TSR_INLINE uint32_t step_sub(const struct tsr_layout l, uint32_t step, int half)
{
    return step % tsr_layout_steps(&l) * (32u / l.sub) + (l.sub == 16 ? (uint32_t)half : 0);
}

TSR_INLINE __m512 step_scales(const struct tsr_layout l, const uint8_t *panel, uint32_t step,
                              int half)
{
    return block_scale(l, step_block(l, panel, step), step_sub(l, step, half));
}

TSR_INLINE __m512 step_minima(const struct tsr_layout l, const uint8_t *panel, uint32_t step,
                              int half)
{
    return block_minimum(l, step_block(l, panel, step), step_sub(l, step, half));
}

/* Pair p of group g of a step as 16-bit integers: lane r belongs to row r. */
TSR_INLINE __m512i weights(const struct tsr_layout l, const uint8_t *groups, const int g,
                           const int p)
{
    __m512i w = load512(groups + 64 * g);
    if (l.table) {
        w = _mm512_and_si512(_mm512_srli_epi16(w, (shift_count)(p % 2 * 4)), _mm512_set1_epi8(15));
        w = _mm512_shuffle_epi8(iq4_table(), w);
    }
    if (l.table || l.low == 8) {
        const int upper = l.table ? p / 2 : p;
        return _mm512_srai_epi16(upper ? w : _mm512_slli_epi16(w, 8), 8);
    }
    w = _mm512_srli_epi16(w, (shift_count)(l.low * p));
    if (l.low * (p + 1) < 16) {
        w = _mm512_and_si512(w, _mm512_set1_epi16((short)((1 << l.low) - 1)));
    }
    if (l.high) {
        __m512i h = load512(groups + 64 * l.low + (l.high == 2 ? g / 2 * 64 : 0));
        /* see format.h: the bit at which the pair's lie, and where they are to go */
        const int from = l.low == 2    ? (2 * (p % 4) + 2 + 8 * g + p / 4) % 16
                         : l.high == 2 ? (p == 3 ? 0 : 4 * p + 4) + g % 2 * 2
                                       : (p == 3 ? 0 : 4 * p + 4) + g;
        h = from > l.low ? _mm512_srli_epi16(h, (shift_count)(from - l.low))
                         : _mm512_slli_epi16(h, (shift_count)(l.low - from));
        /* 0xf8: a | (b & c) */
        w = _mm512_ternarylogic_epi32(
            w, h, _mm512_set1_epi16((short)(((1 << l.high) - 1) << l.low)), 0xf8);
    }
    return l.offset ? _mm512_sub_epi16(w, _mm512_set1_epi16(l.offset)) : w;
}

/* Pair k of the 16 of a step. */
TSR_INLINE __m512i step_weights(const struct tsr_layout l, const uint8_t *groups, const int k)
{
    const int pairs = 16 / l.low;
    return weights(l, groups, k / pairs, k % pairs);
}

TSR_INLINE void unpack_chunk(const struct tsr_layout l, const uint8_t *panel, uint32_t steps,
                             struct chunk *c)
{
    const uint32_t subs = 32u / l.sub;
    for (uint32_t s = 0; s < steps; s++) {
        const uint8_t *groups = step_groups(l, panel, s);
#pragma GCC unroll 16
        for (int k = 0; k < 16; k++) {
            _mm512_store_si512(c->w + s * STEP * 16 + k * 32, step_weights(l, groups, k));
        }
        for (uint32_t i = 0; i < subs; i++) {
            _mm512_store_ps(c->d[s * subs + i], step_scales(l, panel, s, (int)i));
            if (l.minima) {
                _mm512_store_ps(c->m[s * subs + i], step_minima(l, panel, s, (int)i));
            }
        }
    }
}

/* A tile at work: the next activations, the next unpacked weights, sums of products. */
struct work {
    struct tile_rows a;
    const int16_t *w;
    __m512i sum[TILE];
};

TSR_INLINE void start_sums(struct work *k, const int n_rows)
{
    for (int r = 0; r < n_rows; r++) {
        k->sum[r] = _mm512_setzero_si512();
    }
}

/* Sixteen inputs: from the chunk, or (unpacked false) from part `part` of a step's groups. */
TSR_INLINE void add_products(const struct tsr_layout l, const bool unpacked, const uint8_t *groups,
                             const int part, struct work *k, const int n_rows)
{
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) {
        __m512i x = unpacked ? load512(k->w + i * 32) : step_weights(l, groups, 8 * part + i);
        tile_rows_hide(&k->a);
        for (int r = 0; r < n_rows; r++) {
            k->sum[r] = dot_i16(k->sum[r], x, tile_row(&k->a, r) + 4 * i);
        }
    }
    k->w += unpacked ? 16 * 16 : 0;
    tile_rows_advance(&k->a, n_rows, 16 * sizeof(int16_t));
}

/* n_rows rows of activations from `row` against `steps` (1 to CHUNK_STEPS) steps of a panel, the
 * first being step `first` of the row; out [n_rows][16] accumulates. c: the steps unpacked, or
 * NULL. */
TSR_INLINE void tile(const enum tsr_format format, const struct chunk *c, const uint8_t *panel,
                     uint32_t first, uint32_t steps, const struct tsr_acts *acts, uint32_t row,
                     float *out, const int n_rows)
{
    const struct tsr_layout l = tsr_layouts[format];
    const uint32_t subs = 32u / l.sub;
    const size_t blocks = acts->cols / STEP;
    /* a row's scales are copied so that they have one base, the stack */
    _Alignas(64) float d[TILE][CHUNK_STEPS], ds[TILE][2 * CHUNK_STEPS];
    __m512 acc[TILE];
    for (int r = 0; r < n_rows; r++) {
        size_t at = (size_t)(row + (uint32_t)r) * blocks + first;
        _mm256_store_ps(d[r], _mm256_loadu_ps(acts->d + at));
        for (uint32_t i = 0; l.minima && i < subs * CHUNK_STEPS; i++) {
            const int32_t *sums = l.sub == 32 ? acts->sum32 : acts->sum16;
            ds[r][i] = d[r][i / subs] * (float)sums[at * subs + i];
        }
        acc[r] = _mm512_loadu_ps(out + 16 * r);
    }
    struct work k = {.w = c ? c->w : NULL};
    k.a = tile_rows(acts->q + (size_t)row * acts->cols + (size_t)first * STEP,
                    (size_t)acts->cols * sizeof *acts->q, n_rows);
    for (uint32_t s = 0; s < steps; s++) {
        const uint8_t *groups = c ? NULL : step_groups(l, panel, s);
#pragma GCC unroll 2 /* so that the shifts of H are constants */
        for (int half = 0; half < 2; half++) {
            if (half == 0 || l.sub == 16) {
                start_sums(&k, n_rows);
            }
            add_products(l, c, groups, half, &k, n_rows);
            if (half == 0 && l.sub == 32) {
                continue;
            }
            uint32_t sub = l.sub == 16 ? 2 * s + (uint32_t)half : s;
            __m512 dw = c ? _mm512_load_ps(c->d[sub]) : step_scales(l, panel, s, half);
            for (int r = 0; r < n_rows; r++) {
                __m512 scale = _mm512_mul_ps(dw, _mm512_set1_ps(d[r][s]));
                acc[r] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(k.sum[r]), scale, acc[r]);
            }
            if (l.minima) {
                __m512 m = c ? _mm512_load_ps(c->m[sub]) : step_minima(l, panel, s, half);
                for (int r = 0; r < n_rows; r++) {
                    acc[r] = _mm512_fmadd_ps(m, _mm512_set1_ps(ds[r][sub]), acc[r]);
                }
            }
        }
    }
    for (int r = 0; r < n_rows; r++) {
        _mm512_storeu_ps(out + 16 * r, acc[r]);
    }
}

/* Few rows: weights are unpacked where they are used. */
TSR_INLINE void rows_few(const enum tsr_format format, const uint8_t *panel, uint32_t steps,
                         const struct tsr_acts *acts, uint32_t row, uint32_t rows, float *out)
{
    for (uint32_t s = 0; s < steps; s += CHUNK_STEPS) {
        uint32_t n = steps - s < CHUNK_STEPS ? steps - s : CHUNK_STEPS;
        const uint8_t *from = step_block(tsr_layouts[format], panel, s);
#define CALL(n_rows)                                                                               \
    case n_rows:                                                                                   \
        tile(format, NULL, from, s, n, acts, row, out, n_rows);                                    \
        break;
        switch (rows) {
            TSR_CASES_2_5(CALL)
            TSR_CASES_6_12(CALL)
        default:
            break;
        }
#undef CALL
    }
}

/* A chunk against many rows, in tiles as equal as can be. One function for all formats of the same
 * arithmetic. */
TSR_INLINE void rows_chunk(const enum tsr_format arithmetic, const struct chunk *c, uint32_t first,
                           uint32_t steps, const struct tsr_acts *acts, uint32_t row, uint32_t rows,
                           float *out)
{
    uint32_t tiles = (rows + TILE - 1) / TILE;
    for (uint32_t t = 0, r = 0; t < tiles; t++) {
        uint32_t n = (rows - r + tiles - t - 1) / (tiles - t);
#define CALL(n_rows)                                                                               \
    case n_rows:                                                                                   \
        tile(arithmetic, c, NULL, first, steps, acts, row + r, out + (size_t)r * 16, n_rows);      \
        break;
        switch (n) {
            TSR_CASES_2_5(CALL)
            TSR_CASES_6_12(CALL)
        default:
            break;
        }
#undef CALL
        r += n;
    }
}

#define CHUNK_ARITHMETIC(name, format)                                                             \
    static void chunk_##name(const struct chunk *c, uint32_t first, uint32_t steps,                \
                             const struct tsr_acts *acts, uint32_t row, uint32_t rows, float *out) \
    {                                                                                              \
        rows_chunk(format, c, first, steps, acts, row, rows, out);                                 \
    }
CHUNK_ARITHMETIC(sub32, TSR_FORMAT_Q8_0)
CHUNK_ARITHMETIC(sub32_minima, TSR_FORMAT_Q4_1)
CHUNK_ARITHMETIC(sub16, TSR_FORMAT_Q6_K)
CHUNK_ARITHMETIC(sub16_minima, TSR_FORMAT_Q2_K)

TSR_INLINE void rows_many(const enum tsr_format format, const uint8_t *panel, uint32_t steps,
                          const struct tsr_acts *acts, uint32_t row, uint32_t rows, float *out)
{
    const struct tsr_layout l = tsr_layouts[format];
    struct chunk c;
    for (uint32_t s = 0; s < steps; s += CHUNK_STEPS) {
        uint32_t n = steps - s < CHUNK_STEPS ? steps - s : CHUNK_STEPS;
        unpack_chunk(l, step_block(l, panel, s), n, &c);
        if (l.sub == 16) {
            (l.minima ? chunk_sub16_minima : chunk_sub16)(&c, s, n, acts, row, rows, out);
        } else {
            (l.minima ? chunk_sub32_minima : chunk_sub32)(&c, s, n, acts, row, rows, out);
        }
    }
}

/* Up to `few` rows are not worth a chunk; 1 where a format is rare and its code not worth the
 * space. */
#define BLOCK_FORMAT(name, format, few)                                                            \
    TSR_ROWS(name)                                                                                 \
    {                                                                                              \
        const struct tsr_layout l = tsr_layouts[format];                                           \
        const uint32_t block = tsr_layout_steps(&l) * STEP;                                        \
        const uint32_t steps = (cols + block - 1) / block * tsr_layout_steps(&l);                  \
        if (rows == 1) {                                                                           \
            tsr_avx512_row1_##name(panel, 1, cols, acts, row_first, out);                          \
            return;                                                                                \
        }                                                                                          \
        memset(out, 0, (size_t)rows * 16 * sizeof *out);                                           \
        if (rows <= (few)) {                                                                       \
            rows_few(format, panel, steps, acts, row_first, rows, out);                            \
        } else {                                                                                   \
            rows_many(format, panel, steps, acts, row_first, rows, out);                           \
        }                                                                                          \
    }
BLOCK_FORMAT(q8_0, TSR_FORMAT_Q8_0, TILE)
BLOCK_FORMAT(q4_0, TSR_FORMAT_Q4_0, TILE)
BLOCK_FORMAT(q4_1, TSR_FORMAT_Q4_1, TILE)
BLOCK_FORMAT(q4_k, TSR_FORMAT_Q4_K, TILE)
BLOCK_FORMAT(q5_k, TSR_FORMAT_Q5_K, TILE)
BLOCK_FORMAT(q6_k, TSR_FORMAT_Q6_K, TILE)
BLOCK_FORMAT(q5_0, TSR_FORMAT_Q5_0, 1)
BLOCK_FORMAT(q5_1, TSR_FORMAT_Q5_1, 1)
BLOCK_FORMAT(iq4_nl, TSR_FORMAT_IQ4_NL, 1)
BLOCK_FORMAT(iq4_xs, TSR_FORMAT_IQ4_XS, 1)
BLOCK_FORMAT(q2_k, TSR_FORMAT_Q2_K, 1)
BLOCK_FORMAT(q3_k, TSR_FORMAT_Q3_K, 1)
