/* Several rows against one panel of a block format: the panel is unpacked chunk by chunk to 16-bit
 * integers that stay in the first-level cache, then four rows at a time are multiplied with
 * vpmaddwd. The order of every float operation is that of row1_int.c, so that the bytes are the
 * same. */
#include "avx2_priv.h"

#include <string.h>

enum { CHUNK = 512 };

/* A chunk of a panel: w [CHUNK / 2][16 rows][2 inputs], scales of each `sub` inputs and minima of
 * each 32. */
struct chunk {
    _Alignas(64) int16_t w[CHUNK * 16];
    _Alignas(64) float d[CHUNK / 16][16];
    _Alignas(64) float m[CHUNK / 32][16];
};

TSR_INLINE void store_w(int16_t *w, uint32_t k, int v, __m256i x)
{
    _mm256_store_si256((__m256i *)(w + k * 16 + v * 16), x);
}

TSR_INLINE void unpack_q4(struct chunk *c, const uint8_t *block, uint32_t n, int heads)
{
    const __m256i mask = _mm256_set1_epi16(15), eight = _mm256_set1_epi16(heads == 1 ? 8 : 0);
    for (uint32_t b = 0; b < n / 32; b++, block += 256 + 32 * heads) {
        for (int v = 0; v < 2; v++) {
            _mm256_store_ps(c->d[b] + 8 * v, halves(block + 16 * v));
            if (heads == 2) {
                _mm256_store_ps(c->m[b] + 8 * v, halves(block + 32 + 16 * v));
            }
            for (uint32_t g = 0; g < 4; g++) {
                __m256i w = load256(block + 32 * heads + 64 * g + 32 * v);
                uint32_t k = 32 * b + 8 * g;
                store_w(c->w, k, v, _mm256_sub_epi16(_mm256_and_si256(w, mask), eight));
                w = _mm256_srli_epi16(w, 4);
                store_w(c->w, k + 2, v, _mm256_sub_epi16(_mm256_and_si256(w, mask), eight));
                w = _mm256_srli_epi16(w, 4);
                store_w(c->w, k + 4, v, _mm256_sub_epi16(_mm256_and_si256(w, mask), eight));
                w = _mm256_srli_epi16(w, 4);
                store_w(c->w, k + 6, v, _mm256_sub_epi16(w, eight));
            }
        }
    }
}

TSR_INLINE void unpack_q8(struct chunk *c, const uint8_t *block, uint32_t n)
{
    for (uint32_t b = 0; b < n / 32; b++, block += 544) {
        for (int v = 0; v < 2; v++) {
            _mm256_store_ps(c->d[b] + 8 * v, halves(block + 16 * v));
            for (uint32_t g = 0; g < 8; g++) {
                __m256i w = load256(block + 32 + 64 * g + 32 * v);
                uint32_t k = 32 * b + 4 * g;
                store_w(c->w, k, v, _mm256_srai_epi16(_mm256_slli_epi16(w, 8), 8));
                store_w(c->w, k + 2, v, _mm256_srai_epi16(w, 8));
            }
        }
    }
}

TSR_INLINE void unpack_q6(struct chunk *c, const uint8_t *block, uint32_t n)
{
    const __m256i mask = _mm256_set1_epi16(15), two = _mm256_set1_epi16(0x30);
    const __m256i offset = _mm256_set1_epi16(32);
    for (uint32_t b = 0; b < n / 256; b++, block += 3360) {
        for (int v = 0; v < 2; v++) {
            __m256 d = halves(block + 16 * v);
            for (uint32_t s = 0; s < 16; s++) {
                __m128i scales = _mm_loadl_epi64((const __m128i *)(block + 32 + 16 * s + 8 * v));
                _mm256_store_ps(c->d[16 * b + s] + 8 * v,
                                _mm256_mul_ps(d, _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(scales))));
            }
            for (uint32_t g = 0; g < 32; g++) {
                const uint8_t *part = block + 288 + g / 4 * 384;
                __m256i l = load256(part + g % 4 * 64 + 32 * v);
                __m256i h = load256(part + 256 + g % 4 / 2 * 64 + 32 * v);
                h = g % 2 ? _mm256_srli_epi16(h, 2) : h;
                uint32_t k = 256 * b + 8 * g;
                for (uint32_t p = 0; p < 4; p++) {
                    __m256i high = p == 3 ? _mm256_slli_epi16(h, 4)
                                          : _mm256_srl_epi16(h, _mm_cvtsi32_si128((int)(4 * p)));
                    __m256i low = _mm256_srl_epi16(l, _mm_cvtsi32_si128((int)(4 * p)));
                    __m256i q =
                        _mm256_or_si256(_mm256_and_si256(low, mask), _mm256_and_si256(high, two));
                    store_w(c->w, k + 2 * p, v, _mm256_sub_epi16(q, offset));
                }
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
    const float *restrict ds = acts->ds + (size_t)row * blocks + k0 / 32;
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
            __m256 da = _mm256_set1_ps(d[(size_t)r * blocks + block]);
            for (int v = 0; v < 2; v++) {
                float *o = out + r * 16 + 8 * v;
                __m256 acc = _mm256_load_ps(o);
                acc = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum[r][v]),
                                      _mm256_mul_ps(_mm256_load_ps(c->d[s] + 8 * v), da), acc);
                if (minima) {
                    acc = _mm256_fmadd_ps(_mm256_load_ps(c->m[s] + 8 * v),
                                          _mm256_set1_ps(ds[(size_t)r * blocks + block]), acc);
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

TSR_INLINE void rows_int(enum tsr_format format, const uint8_t *panel, uint32_t cols,
                         const struct tsr_acts *acts, uint32_t row, uint32_t rows, float *out,
                         uint32_t block, uint32_t block_bytes)
{
    struct chunk c;
    cols = (cols + block - 1) / block * block;
    memset(out, 0, (size_t)rows * 16 * sizeof *out);
    for (uint32_t k0 = 0; k0 < cols; k0 += CHUNK) {
        uint32_t n = cols - k0 < CHUNK ? cols - k0 : CHUNK;
        const uint8_t *first = panel + (size_t)(k0 / block) * block_bytes;
        if (format == TSR_FORMAT_Q6_K) {
            unpack_q6(&c, first, n);
            chunk_sub16(&c, k0, n, acts, row, rows, out);
        } else if (format == TSR_FORMAT_Q4_1) {
            unpack_q4(&c, first, n, 2);
            chunk_sub32_minima(&c, k0, n, acts, row, rows, out);
        } else {
            if (format == TSR_FORMAT_Q8_0) {
                unpack_q8(&c, first, n);
            } else {
                unpack_q4(&c, first, n, 1);
            }
            chunk_sub32(&c, k0, n, acts, row, rows, out);
        }
    }
}

TSR_ROWS(q8_0)
{
    rows_int(TSR_FORMAT_Q8_0, panel, cols, acts, row_first, rows, out, 32, 544);
}

TSR_ROWS(q4_0)
{
    rows_int(TSR_FORMAT_Q4_0, panel, cols, acts, row_first, rows, out, 32, 288);
}

TSR_ROWS(q4_1)
{
    rows_int(TSR_FORMAT_Q4_1, panel, cols, acts, row_first, rows, out, 32, 320);
}

TSR_ROWS(q6_k)
{
    rows_int(TSR_FORMAT_Q6_K, panel, cols, acts, row_first, rows, out, 256, 3360);
}
