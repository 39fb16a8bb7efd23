/* Attention over f16 KV pages. Scores and the weighted sum of values are the same product C = A B
 * with B in f16: scores: A the queries [n][head_dim], B the transposed keys [head_dim][64]; values:
 * A the weights [n][64], B [64][head_dim]. Each C accumulates by ascending k in one accumulator, so
 * a query's bytes do not depend on its neighbours. */
#include "avx2_priv.h"

#include <math.h>

/* c [n][8 * vecs] (rows ldc apart) = (accumulate ? c : 0) + a [n][k] (rows lda apart) * b [k][8 *
 * vecs] (rows ldb apart). ahead: NULL, or the like of b that is needed next, whose rows are asked
 * for. */
TSR_INLINE void product_tile(const float *a, size_t lda, const uint16_t *b, size_t ldb,
                             uint32_t k_from, uint32_t k_to, float *c, size_t ldc,
                             const uint16_t *ahead, const int n, const int vecs,
                             const int accumulate)
{
    __m256 acc[4][8];
    for (int i = 0; i < n; i++) {
        for (int v = 0; v < vecs; v++) {
            acc[i][v] =
                accumulate ? _mm256_loadu_ps(c + (size_t)i * ldc + 8 * v) : _mm256_setzero_ps();
        }
    }
    for (uint32_t k = k_from; k < k_to; k++) {
        __m256 w[8];
        if (ahead) {
            for (size_t j = 0; j < ldb; j += 32) {
                _mm_prefetch((const char *)(ahead + k * ldb + j), _MM_HINT_T0);
            }
        }
        for (int v = 0; v < vecs; v++) {
            w[v] = halves(b + k * ldb + 8 * v);
        }
        for (int i = 0; i < n; i++) {
            __m256 x = _mm256_broadcast_ss(a + (size_t)i * lda + k);
            for (int v = 0; v < vecs; v++) {
                acc[i][v] = _mm256_fmadd_ps(w[v], x, acc[i][v]);
            }
        }
    }
    for (int i = 0; i < n; i++) {
        for (int v = 0; v < vecs; v++) {
            _mm256_storeu_ps(c + (size_t)i * ldc + 8 * v, acc[i][v]);
        }
    }
}

/* n queries (1 to 4) by all columns, `vecs` vectors at a time. */
TSR_INLINE void product_rows(const float *a, size_t lda, const uint16_t *b, size_t ldb,
                             uint32_t k_from, uint32_t k_to, float *c, size_t ldc, uint32_t cols,
                             const uint16_t *ahead, const int n, const int vecs,
                             const int accumulate)
{
    uint32_t j = 0;
    for (; j + 8 * (uint32_t)vecs <= cols; j += 8 * (uint32_t)vecs) {
        product_tile(a, lda, b + j, ldb, k_from, k_to, c + j, ldc, j == 0 ? ahead : NULL, n, vecs,
                     accumulate);
    }
    for (; j < cols; j += 8) {
        product_tile(a, lda, b + j, ldb, k_from, k_to, c + j, ldc, NULL, n, 1, accumulate);
    }
}

/* One query keeps eight vectors going, four queries two each: enough chains to hide the latency in
 * both. */
TSR_INLINE void product(const float *a, size_t lda, const uint16_t *b, size_t ldb, uint32_t k_from,
                        uint32_t k_to, float *c, size_t ldc, uint32_t n, uint32_t cols,
                        const uint16_t *ahead, const int accumulate)
{
    for (; n >= 4; n -= 4, a += 4 * lda, c += 4 * ldc, ahead = NULL) {
        product_rows(a, lda, b, ldb, k_from, k_to, c, ldc, cols, ahead, 4, 2, accumulate);
    }
    if (n == 3) {
        product_rows(a, lda, b, ldb, k_from, k_to, c, ldc, cols, ahead, 3, 2, accumulate);
    } else if (n == 2) {
        product_rows(a, lda, b, ldb, k_from, k_to, c, ldc, cols, ahead, 2, 4, accumulate);
    } else if (n == 1) {
        product_rows(a, lda, b, ldb, k_from, k_to, c, ldc, cols, ahead, 1, 8, accumulate);
    }
}

/* The columns that do not fill a vector (head_dim 20): plain C with the same order and fused
 * operations. */
static void product_rest(const float *a, size_t lda, const uint16_t *b, size_t ldb, uint32_t k_from,
                         uint32_t k_to, float *c, size_t ldc, uint32_t n, uint32_t from,
                         uint32_t to)
{
    for (uint32_t i = 0; i < n; i++) {
        for (uint32_t j = from; j < to; j++) {
            float acc = c[i * ldc + j];
            for (uint32_t k = k_from; k < k_to; k++) {
                acc = fmaf(a[i * lda + k], _cvtsh_ss(b[k * ldb + j]), acc);
            }
            c[i * ldc + j] = acc;
        }
    }
}

static float max64(const float *s)
{
    __m256 m = _mm256_load_ps(s);
    for (int v = 1; v < 8; v++) {
        m = _mm256_max_ps(m, _mm256_load_ps(s + 8 * v));
    }
    __m128 x = _mm_max_ps(_mm256_castps256_ps128(m), _mm256_extractf128_ps(m, 1));
    x = _mm_max_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_max_ss(x, _mm_movehdup_ps(x)));
}

/* s = e^(s - most) in place; their sum. */
static float exp64(float *s, float most)
{
    __m256 m = _mm256_set1_ps(most), total = _mm256_setzero_ps();
    for (int v = 0; v < 8; v++) {
        __m256 e = exp256(_mm256_sub_ps(_mm256_load_ps(s + 8 * v), m));
        _mm256_store_ps(s + 8 * v, e);
        total = _mm256_add_ps(total, e);
    }
    __m128 x = _mm_add_ps(_mm256_castps256_ps128(total), _mm256_extractf128_ps(total, 1));
    x = _mm_add_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)));
}

/* Scale, softcap, lower by distance and mask query i's scores of a block: positions outside
 * [from, to) become -infinity. */
static void finish_scores(const struct tsr_attend *t, uint32_t i, uint32_t block, uint32_t from,
                          uint32_t to, float *s)
{
    for (uint32_t p = 0; p < 64; p++) {
        s[p] *= t->scale;
    }
    if (t->softcap > 0) {
        for (uint32_t p = from; p < to; p++) {
            s[p] = t->softcap * tanhf(s[p] / t->softcap);
        }
    }
    if (t->slope[i] != 0) {
        int32_t first = (int32_t)(block * 64 - t->position[i]);
        for (int32_t p = 0; p < 64; p++) {
            s[p] += t->slope[i] * (float)(first + p);
        }
    }
    for (uint32_t p = 0; p < from; p++) {
        s[p] = -INFINITY;
    }
    for (uint32_t p = to; p < 64; p++) {
        s[p] = -INFINITY;
    }
}

void tsr_avx2_attend(const struct tsr_attend *t)
{
    const uint32_t n = t->n, dim = t->head_dim, whole = dim & ~7u, ld = (dim + 15) & ~15u;
    float *scores = t->scratch, *acc = t->scratch + (size_t)n * 64;
    float most[TSR_ATTEND_QUERIES_MAX], total[TSR_ATTEND_QUERIES_MAX];
    _Alignas(64) float queries[TSR_ATTEND_QUERIES_MAX * 256];
    uint32_t first = UINT32_MAX;
    for (uint32_t i = 0; i < n; i++) {
        most[i] = -INFINITY;
        total[i] = 0;
        for (uint32_t d = 0; d < dim; d++) {
            queries[i * dim + d] = t->q[i][d];
        }
        for (uint32_t d = 0; d < ld; d++) {
            acc[i * ld + d] = 0;
        }
        uint32_t sees =
            t->window && t->position[i] >= t->window ? t->position[i] - t->window + 1 : 0;
        first = sees < first ? sees : first;
    }
    uint32_t last = t->position[n - 1];
    for (uint32_t block = first / 64; block <= last / 64; block++) {
        const uint16_t *values = t->values(t->ctx, block);
        const uint16_t *keys = t->keys(t->ctx, block);
        /* The next page's halves are asked for row by row while this one's are at work: 8 KiB is
         * too short a run for the hardware's prefetcher to get going, and all the weights have
         * passed since they were last read. */
        bool more = block < last / 64;
        const uint16_t *next_keys = more ? t->keys(t->ctx, block + 1) : NULL;
        const uint16_t *next_values = more ? t->values(t->ctx, block + 1) : NULL;
        uint32_t skip = 0; /* queries before this block see nothing of it */
        while (t->position[skip] < block * 64) {
            skip++;
        }
        uint32_t live = n - skip;
        product(queries + skip * dim, dim, keys, 64, 0, dim, scores + skip * 64, 64, live, 64,
                next_keys, 0);
        uint32_t from_least = 64, to_most = 0;
        for (uint32_t i = skip; i < n; i++) {
            uint32_t position = t->position[i];
            uint32_t sees = t->window && position >= t->window ? position - t->window + 1 : 0;
            uint32_t from = sees > block * 64 ? sees - block * 64 : 0;
            uint32_t to = position - block * 64 < 64 ? position - block * 64 + 1 : 64;
            float *s = scores + i * 64;
            from = from < 64 ? from : 64;
            finish_scores(t, i, block, from, to, s);
            from_least = from < from_least ? from : from_least;
            to_most = to > to_most ? to : to_most;
            float block_most = max64(s);
            if (block_most > most[i]) {
                _Alignas(32) float alpha[8];
                _mm256_store_ps(alpha, exp256(_mm256_set1_ps(most[i] - block_most)));
                total[i] *= alpha[0];
                for (uint32_t d = 0; d < ld; d++) {
                    acc[i * ld + d] *= alpha[0];
                }
                most[i] = block_most;
            }
            if (from < to) {
                total[i] += exp64(s, most[i]);
            } else {
                for (uint32_t p = 0; p < 64; p++) {
                    s[p] = 0;
                }
            }
        }
        product(scores + skip * 64, 64, values, dim, from_least, to_most, acc + skip * ld, ld, live,
                whole, next_values, 1);
        product_rest(scores + skip * 64, 64, values, dim, from_least, to_most, acc + skip * ld, ld,
                     live, whole, dim);
    }
    for (uint32_t i = 0; i < n; i++) {
        for (uint32_t d = 0; d < dim; d++) {
            t->out[i][d] = acc[i * ld + d] / total[i];
        }
    }
}
