/* Attention over f16 KV pages, sixteen positions or dimensions a register. Scores and the weighted
 * sum of values are the same product C = A B with B in f16: scores: A the queries [n][head_dim], B
 * the transposed keys [head_dim][64]; values: A the weights [n][64], B [64][head_dim]. Each C
 * accumulates by ascending k in one accumulator, so a query's bytes do not depend on its
 * neighbours. */
#include "avx512_priv.h"

#include <math.h>

enum { TILE = 6, VECS = 4 };

/* c [n][16 * vecs] (+)= a [n][k] * b [k][16 * vecs], b's rows ldb apart, c's ldc; the last vector
 * of b has the columns of mask, where `masked`. Columns of c beyond it are written as well. ahead:
 * NULL, or the like of b that is needed next, asked for row by row. */
TSR_INLINE void product_tile(const float *const a[], const uint16_t *b, size_t ldb, uint32_t k_from,
                             uint32_t k_to, float *c, size_t ldc, const uint16_t *ahead,
                             const bool add, const int n, const int vecs, const bool masked,
                             __mmask16 mask)
{
    __m512 acc[TILE][VECS];
    const float *ai[TILE];
    for (int i = 0; i < n; i++) {
        ai[i] = a[i];
        for (int v = 0; v < vecs; v++) {
            acc[i][v] = add ? _mm512_loadu_ps(c + (size_t)i * ldc + 16 * v) : _mm512_setzero_ps();
        }
    }
    for (uint32_t k = k_from; k < k_to; k++) {
        const uint16_t *bk = b + k * ldb;
        __m512 w[VECS];
        if (ahead) {
            for (int v = 0; v < vecs; v += 2) {
                _mm_prefetch((const char *)(ahead + k * ldb + 16 * v), _MM_HINT_T0);
            }
        }
        for (int v = 0; v < vecs; v++) {
            w[v] = masked && v == vecs - 1
                       ? _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(mask, bk + 16 * v))
                       : halves(bk + 16 * v);
        }
        for (int i = 0; i < n; i++) {
            __m512 x = _mm512_set1_ps(ai[i][k]);
            for (int v = 0; v < vecs; v++) {
                acc[i][v] = _mm512_fmadd_ps(w[v], x, acc[i][v]);
            }
        }
    }
    for (int i = 0; i < n; i++) {
        for (int v = 0; v < vecs; v++) {
            _mm512_storeu_ps(c + (size_t)i * ldc + 16 * v, acc[i][v]);
        }
    }
}

TSR_INLINE const uint16_t *column(const uint16_t *b, uint32_t j)
{
    return b ? b + j : NULL;
}

/* All columns of n rows, four vectors at a time. */
TSR_INLINE void product_rows(const float *const a[], const uint16_t *b, size_t ldb, uint32_t k_from,
                             uint32_t k_to, float *c, size_t ldc, uint32_t cols,
                             const uint16_t *ahead, const bool add, const int n)
{
    uint32_t j = 0;
    for (; j + 16 * VECS <= cols; j += 16 * VECS) {
        product_tile(a, b + j, ldb, k_from, k_to, c + j, ldc, column(ahead, j), add, n, VECS, false,
                     0);
    }
    const __mmask16 mask = lanes(cols % 16 ? cols % 16 : 16);
    switch ((cols - j + 15) / 16) {
    case 1:
        product_tile(a, b + j, ldb, k_from, k_to, c + j, ldc, column(ahead, j), add, n, 1, true,
                     mask);
        break;
    case 2:
        product_tile(a, b + j, ldb, k_from, k_to, c + j, ldc, column(ahead, j), add, n, 2, true,
                     mask);
        break;
    case 3:
        product_tile(a, b + j, ldb, k_from, k_to, c + j, ldc, column(ahead, j), add, n, 3, true,
                     mask);
        break;
    case 4:
        product_tile(a, b + j, ldb, k_from, k_to, c + j, ldc, column(ahead, j), add, n, 4, true,
                     mask);
        break;
    default:
        break;
    }
}

/* Tiles of up to six rows, as equal as can be. */
static void product(const float *const a[], const uint16_t *b, size_t ldb, uint32_t k_from,
                    uint32_t k_to, float *c, size_t ldc, uint32_t n, uint32_t cols,
                    const uint16_t *ahead, const bool add)
{
    uint32_t tiles = (n + TILE - 1) / TILE;
    for (uint32_t t = 0, i = 0; t < tiles; t++) {
        uint32_t rows = (n - i + tiles - t - 1) / (tiles - t);
        switch (rows) {
#define CALL(constant)                                                                             \
    case constant:                                                                                 \
        product_rows(a + i, b, ldb, k_from, k_to, c + i * ldc, ldc, cols, i == 0 ? ahead : NULL,   \
                     add, constant);                                                               \
        break;
            CALL(1)
            TSR_CASES_2_5(CALL)
            CALL(6)
#undef CALL
        default:
            break;
        }
        i += rows;
    }
}

/* Scale, softcap, lower by distance and mask query i's scores of a block: positions outside
 * [from, to) become -infinity. Their maximum. */
static float finish_scores(const struct tsr_attend *t, uint32_t i, uint32_t block, uint32_t from,
                           uint32_t to, float *s)
{
    float scale = t->scale;
    if (t->softcap > 0) {
        for (uint32_t p = from; p < to; p++) {
            s[p] = t->softcap * tanhf(s[p] * scale / t->softcap);
        }
        scale = 1;
    }
    const __m512 slope = _mm512_set1_ps(t->slope[i]);
    const __m512i order = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    __m512i distance = /* negative, or 0 */
        _mm512_add_epi32(_mm512_set1_epi32((int32_t)(block * 64 - t->position[i])), order);
    __m512 most = _mm512_set1_ps(-INFINITY);
    for (uint32_t v = 0; v < 4; v++) {
        uint32_t at = 16 * v;
        __mmask16 sees =
            lanes(to > at ? to - at : 0) & (__mmask16)~lanes(from > at ? from - at : 0);
        __m512 x = _mm512_mul_ps(_mm512_loadu_ps(s + at), _mm512_set1_ps(scale));
        if (t->slope[i] != 0) {
            x = _mm512_fmadd_ps(_mm512_cvtepi32_ps(distance), slope, x);
            distance = _mm512_add_epi32(distance, _mm512_set1_epi32(16));
        }
        x = _mm512_mask_blend_ps(sees, _mm512_set1_ps(-INFINITY), x);
        _mm512_storeu_ps(s + at, x);
        most = _mm512_max_ps(most, x);
    }
    return _mm512_reduce_max_ps(most);
}

/* s = e^(s - most) in place; their sum. */
static float exp64(float *s, float most)
{
    __m512 total = _mm512_setzero_ps();
    for (int v = 0; v < 4; v++) {
        __m512 e = exp512(_mm512_sub_ps(_mm512_loadu_ps(s + 16 * v), _mm512_set1_ps(most)));
        _mm512_storeu_ps(s + 16 * v, e);
        total = _mm512_add_ps(total, e);
    }
    return _mm512_reduce_add_ps(total);
}

/* The first position that a query sees. */
static uint32_t sees_from(const struct tsr_attend *t, uint32_t i)
{
    return t->window && t->position[i] >= t->window ? t->position[i] - t->window + 1 : 0;
}

void tsr_avx512_attend(const struct tsr_attend *t)
{
    const uint32_t n = t->n, dim = t->head_dim, ld = (dim + 15) & ~15u;
    float *scores = t->scratch, *acc = t->scratch + (size_t)n * 64;
    float most[TSR_ATTEND_QUERIES_MAX], total[TSR_ATTEND_QUERIES_MAX];
    const float *weights[TSR_ATTEND_QUERIES_MAX];
    uint32_t first = UINT32_MAX;
    for (uint32_t i = 0; i < n; i++) {
        most[i] = -INFINITY;
        total[i] = 0;
        weights[i] = scores + (size_t)i * 64;
        for (uint32_t d = 0; d < ld; d += 16) {
            _mm512_storeu_ps(acc + i * ld + d, _mm512_setzero_ps());
        }
        uint32_t sees = sees_from(t, i);
        first = sees < first ? sees : first;
    }
    uint32_t last = t->position[n - 1];
    for (uint32_t block = first / 64; block <= last / 64; block++) {
        /* 8 KiB is too short a run for the hardware's prefetcher to get going, and all the weights
         * have passed since a page was last read. */
        const bool more = block < last / 64;
        const uint16_t *keys = t->keys(t->ctx, block), *values = t->values(t->ctx, block);
        const uint16_t *next_keys = more ? t->keys(t->ctx, block + 1) : NULL;
        const uint16_t *next_values = more ? t->values(t->ctx, block + 1) : NULL;
        uint32_t skip = 0; /* queries before this block see nothing of it */
        while (t->position[skip] < block * 64) {
            skip++;
        }
        product(t->q + skip, keys, 64, 0, dim, scores + skip * 64, 64, n - skip, 64, next_keys,
                false);
        uint32_t from_least = 64, to_most = 0;
        for (uint32_t i = skip; i < n; i++) {
            uint32_t sees = sees_from(t, i), position = t->position[i];
            uint32_t from = sees > block * 64 ? sees - block * 64 : 0;
            uint32_t to = position - block * 64 < 64 ? position - block * 64 + 1 : 64;
            float *s = scores + i * 64, *c = acc + i * ld;
            if (from >= to) { /* all of the block lies before its window */
                for (uint32_t p = 0; p < 64; p += 16) {
                    _mm512_storeu_ps(s + p, _mm512_setzero_ps());
                }
                continue;
            }
            from_least = from < from_least ? from : from_least;
            to_most = to > to_most ? to : to_most;
            float block_most = finish_scores(t, i, block, from, to, s);
            if (block_most > most[i]) {
                __m512 alpha = exp512(_mm512_set1_ps(most[i] - block_most));
                total[i] *= _mm512_cvtss_f32(alpha);
                for (uint32_t d = 0; d < ld; d += 16) {
                    _mm512_storeu_ps(c + d, _mm512_mul_ps(_mm512_loadu_ps(c + d), alpha));
                }
                most[i] = block_most;
            }
            total[i] += exp64(s, most[i]);
        }
        product(weights + skip, values, dim, from_least, to_most, acc + skip * ld, ld, n - skip,
                dim, next_values, true);
    }
    for (uint32_t i = 0; i < n; i++) {
        for (uint32_t d = 0; d < dim; d += 16) {
            __m512 x = _mm512_div_ps(_mm512_loadu_ps(acc + i * ld + d), _mm512_set1_ps(total[i]));
            _mm512_mask_storeu_ps(t->out[i] + d, lanes(dim - d), x);
        }
    }
}
