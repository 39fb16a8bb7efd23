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

/* A chunk of a panel: w [CHUNK / 2][16 rows][2 inputs], scales of each 32 inputs (q6_k: 16) and
 * minima. */
struct chunk {
    _Alignas(64) int16_t w[CHUNK * 16];
    _Alignas(64) float d[CHUNK / 16][16];
    _Alignas(64) float m[CHUNK / 32][16];
};

TSR_INLINE uint32_t block_steps(enum tsr_format format)
{
    return format == TSR_FORMAT_Q6_K ? 8 : 1;
}

TSR_INLINE size_t block_bytes(enum tsr_format format)
{
    return format == TSR_FORMAT_Q8_0   ? 544
           : format == TSR_FORMAT_Q4_0 ? 288
           : format == TSR_FORMAT_Q4_1 ? 320
                                       : 3360;
}

/* The packed weights of a step of 32 inputs. */
TSR_INLINE const uint8_t *step_groups(enum tsr_format format, const uint8_t *panel, uint32_t step)
{
    if (format == TSR_FORMAT_Q6_K) {
        return panel + step / 8 * block_bytes(format) + 288 + (size_t)(step % 8) * 384;
    }
    return panel + step * block_bytes(format) + (format == TSR_FORMAT_Q4_1 ? 64 : 32);
}

/* Scales of a step, for q6_k of its half. */
TSR_INLINE __m512 step_scales(enum tsr_format format, const uint8_t *panel, uint32_t step, int half)
{
    if (format == TSR_FORMAT_Q6_K) {
        const uint8_t *block = panel + step / 8 * block_bytes(format);
        const uint8_t *scales = block + 32 + 32 * (step % 8) + 16 * half;
        __m512i s = _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)scales));
        return _mm512_mul_ps(halves(block), _mm512_cvtepi32_ps(s));
    }
    return halves(panel + step * block_bytes(format));
}

/* Eight inputs from 16 part + 8g of a step as 16-bit integers: lane r of w[i] is a pair of row r.
 */
TSR_INLINE void unpack(enum tsr_format format, const uint8_t *groups, int part, const int g,
                       __m512i w[4])
{
    const __m512i low = _mm512_set1_epi16(15);
    if (format == TSR_FORMAT_Q8_0) {
        for (int i = 0; i < 2; i++) {
            __m512i x = load512(groups + 256 * part + 128 * g + 64 * i);
            w[2 * i] = _mm512_srai_epi16(_mm512_slli_epi16(x, 8), 8);
            w[2 * i + 1] = _mm512_srai_epi16(x, 8);
        }
        return;
    }
    __m512i x = load512(groups + 128 * part + 64 * g);
    w[0] = _mm512_and_si512(x, low);
    w[1] = _mm512_and_si512(_mm512_srli_epi16(x, 4), low);
    w[2] = _mm512_and_si512(_mm512_srli_epi16(x, 8), low);
    w[3] = _mm512_srli_epi16(x, 12);
    if (format == TSR_FORMAT_Q6_K) {
        const __m512i two = _mm512_set1_epi16(0x30);
        __m512i h = load512(groups + 256 + 64 * part);
        h = g ? _mm512_srli_epi16(h, 2) : h;
        /* 0xf8: a | (b & c) */
        w[0] = _mm512_ternarylogic_epi32(w[0], h, two, 0xf8);
        w[1] = _mm512_ternarylogic_epi32(w[1], _mm512_srli_epi16(h, 4), two, 0xf8);
        w[2] = _mm512_ternarylogic_epi32(w[2], _mm512_srli_epi16(h, 8), two, 0xf8);
        w[3] = _mm512_ternarylogic_epi32(w[3], _mm512_slli_epi16(h, 4), two, 0xf8);
    }
    if (format != TSR_FORMAT_Q4_1) {
        const __m512i offset = _mm512_set1_epi16(format == TSR_FORMAT_Q6_K ? 32 : 8);
        for (int i = 0; i < 4; i++) {
            w[i] = _mm512_sub_epi16(w[i], offset);
        }
    }
}

TSR_INLINE void unpack_chunk(enum tsr_format format, const uint8_t *panel, uint32_t steps,
                             struct chunk *c)
{
    for (uint32_t s = 0; s < steps; s++) {
        const uint8_t *groups = step_groups(format, panel, s);
        for (int part = 0; part < 2; part++) {
            for (int g = 0; g < 2; g++) {
                __m512i w[4];
                unpack(format, groups, part, g, w);
                for (int i = 0; i < 4; i++) {
                    _mm512_store_si512(c->w + s * STEP * 16 + (8 * part + 4 * g + i) * 32, w[i]);
                }
            }
        }
        if (format == TSR_FORMAT_Q6_K) {
            _mm512_store_ps(c->d[2 * s], step_scales(format, panel, s, 0));
            _mm512_store_ps(c->d[2 * s + 1], step_scales(format, panel, s, 1));
        } else {
            _mm512_store_ps(c->d[s], step_scales(format, panel, s, 0));
        }
        if (format == TSR_FORMAT_Q4_1) {
            _mm512_store_ps(c->m[s], halves(panel + s * block_bytes(format) + 32));
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
TSR_INLINE void add_products(enum tsr_format format, const bool unpacked, const uint8_t *groups,
                             int part, struct work *k, const int n_rows)
{
    for (int g = 0; g < 2; g++) {
        __m512i w[4];
        if (!unpacked) {
            unpack(format, groups, part, g, w);
        }
        for (int i = 0; i < 4; i++) {
            __m512i x = unpacked ? load512(k->w + (4 * g + i) * 32) : w[i];
            tile_rows_hide(&k->a);
            for (int r = 0; r < n_rows; r++) {
                k->sum[r] = dot_i16(k->sum[r], x, tile_row(&k->a, r) + 16 * g + 4 * i);
            }
        }
    }
    k->w += unpacked ? 16 * 16 : 0;
    tile_rows_advance(&k->a, n_rows, 16 * sizeof(int16_t));
}

/* n_rows rows of activations from `row` against `steps` (1 to CHUNK_STEPS) steps of a panel, the
 * first being step `first` of the row; out [n_rows][16] accumulates. c: the steps unpacked, or
 * NULL. */
TSR_INLINE void tile(enum tsr_format format, const struct chunk *c, const uint8_t *panel,
                     uint32_t first, uint32_t steps, const struct tsr_acts *acts, uint32_t row,
                     float *out, const int n_rows)
{
    const size_t blocks = acts->cols / STEP;
    /* a row's scales are copied so that they have one base, the stack */
    _Alignas(64) float d[TILE][CHUNK_STEPS], ds[TILE][CHUNK_STEPS];
    __m512 acc[TILE];
    for (int r = 0; r < n_rows; r++) {
        size_t at = (size_t)(row + (uint32_t)r) * blocks + first;
        _mm256_store_ps(d[r], _mm256_loadu_ps(acts->d + at));
        if (format == TSR_FORMAT_Q4_1) {
            _mm256_store_ps(ds[r], _mm256_loadu_ps(acts->ds + at));
        }
        acc[r] = _mm512_loadu_ps(out + 16 * r);
    }
    struct work k = {.w = c ? c->w : NULL};
    k.a = tile_rows(acts->q + (size_t)row * acts->cols + (size_t)first * STEP,
                    (size_t)acts->cols * sizeof *acts->q, n_rows);
    for (uint32_t s = 0; s < steps; s++) {
        const uint8_t *groups = c ? NULL : step_groups(format, panel, s);
        if (format == TSR_FORMAT_Q6_K) {
            for (int half = 0; half < 2; half++) {
                start_sums(&k, n_rows);
                add_products(format, c, groups, half, &k, n_rows);
                __m512 dw = c ? _mm512_load_ps(c->d[2 * s + (uint32_t)half])
                              : step_scales(format, panel, s, half);
                for (int r = 0; r < n_rows; r++) {
                    __m512 scale = _mm512_mul_ps(dw, _mm512_set1_ps(d[r][s]));
                    acc[r] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(k.sum[r]), scale, acc[r]);
                }
            }
            continue;
        }
        start_sums(&k, n_rows);
        for (int part = 0; part < 2; part++) {
            add_products(format, c, groups, part, &k, n_rows);
        }
        __m512 dw = c ? _mm512_load_ps(c->d[s]) : step_scales(format, panel, s, 0);
        for (int r = 0; r < n_rows; r++) {
            __m512 scale = _mm512_mul_ps(dw, _mm512_set1_ps(d[r][s]));
            acc[r] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(k.sum[r]), scale, acc[r]);
        }
        if (format == TSR_FORMAT_Q4_1) {
            __m512 m = c ? _mm512_load_ps(c->m[s]) : halves(panel + s * block_bytes(format) + 32);
            for (int r = 0; r < n_rows; r++) {
                acc[r] = _mm512_fmadd_ps(m, _mm512_set1_ps(ds[r][s]), acc[r]);
            }
        }
    }
    for (int r = 0; r < n_rows; r++) {
        _mm512_storeu_ps(out + 16 * r, acc[r]);
    }
}

/* Few rows: weights are unpacked where they are used. */
TSR_INLINE void rows_few(enum tsr_format format, const uint8_t *panel, uint32_t steps,
                         const struct tsr_acts *acts, uint32_t row, uint32_t rows, float *out)
{
    for (uint32_t s = 0; s < steps; s += CHUNK_STEPS) {
        uint32_t n = steps - s < CHUNK_STEPS ? steps - s : CHUNK_STEPS;
        const uint8_t *from = panel + s / block_steps(format) * block_bytes(format);
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
TSR_INLINE void rows_chunk(enum tsr_format arithmetic, const struct chunk *c, uint32_t first,
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

TSR_INLINE void rows_many(enum tsr_format format, const uint8_t *panel, uint32_t steps,
                          const struct tsr_acts *acts, uint32_t row, uint32_t rows, float *out)
{
    struct chunk c;
    for (uint32_t s = 0; s < steps; s += CHUNK_STEPS) {
        uint32_t n = steps - s < CHUNK_STEPS ? steps - s : CHUNK_STEPS;
        unpack_chunk(format, panel + s / block_steps(format) * block_bytes(format), n, &c);
        if (format == TSR_FORMAT_Q6_K) {
            chunk_sub16(&c, s, n, acts, row, rows, out);
        } else if (format == TSR_FORMAT_Q4_1) {
            chunk_sub32_minima(&c, s, n, acts, row, rows, out);
        } else {
            chunk_sub32(&c, s, n, acts, row, rows, out);
        }
    }
}

#define BLOCK_FORMAT(name, format)                                                                 \
    TSR_ROWS(name)                                                                                 \
    {                                                                                              \
        const uint32_t block = block_steps(format) * STEP;                                         \
        const uint32_t steps = (cols + block - 1) / block * block_steps(format);                   \
        if (rows == 1) {                                                                           \
            tsr_avx512_row1_##name(panel, 1, cols, acts, row_first, out);                          \
            return;                                                                                \
        }                                                                                          \
        memset(out, 0, (size_t)rows * 16 * sizeof *out);                                           \
        if (rows <= TILE) {                                                                        \
            rows_few(format, panel, steps, acts, row_first, rows, out);                            \
        } else {                                                                                   \
            rows_many(format, panel, steps, acts, row_first, rows, out);                           \
        }                                                                                          \
    }
BLOCK_FORMAT(q8_0, TSR_FORMAT_Q8_0)
BLOCK_FORMAT(q4_0, TSR_FORMAT_Q4_0)
BLOCK_FORMAT(q4_1, TSR_FORMAT_Q4_1)
BLOCK_FORMAT(q6_k, TSR_FORMAT_Q6_K)
