/* Float formats: weights widened to f32 as they come, one accumulator an output, inputs ascending.
 * Four panels go side by side for one row (eight accumulators hide the latency of a fused
 * multiply-add), or six rows against one panel that was widened into the first-level cache. */
#include "avx2_priv.h"

#include <string.h>

enum { CHUNK = 256, SIDE = 4 };

/* The 16 rows of inputs k and k + 1 (k even). */
struct two {
    __m256 w[2][2]; /* [input][rows 0-7, 8-15] */
};

TSR_INLINE struct two widen(enum tsr_format format, const uint8_t *p)
{
    struct two t;
    for (int v = 0; v < 2; v++) {
        if (format == TSR_FORMAT_BF16) {
            __m256i x = load256(p + 32 * v);
            t.w[0][v] = _mm256_castsi256_ps(_mm256_slli_epi32(x, 16));
            t.w[1][v] =
                _mm256_castsi256_ps(_mm256_and_si256(x, _mm256_set1_epi32((int)0xffff0000)));
        } else if (format == TSR_FORMAT_F16) {
            t.w[0][v] = halves(p + 16 * v);
            t.w[1][v] = halves(p + 32 + 16 * v);
        } else {
            t.w[0][v] = _mm256_loadu_ps((const float *)(p + 32 * v));
            t.w[1][v] = _mm256_loadu_ps((const float *)(p + 64 + 32 * v));
        }
    }
    return t;
}

TSR_INLINE void row1_side(enum tsr_format format, const uint8_t *panel, size_t panel_bytes,
                          uint32_t cols, const float *a, float *out, const int side)
{
    const size_t two_bytes = format == TSR_FORMAT_F32 ? 128 : 64;
    __m256 acc[SIDE][2];
    for (int i = 0; i < side; i++) {
        acc[i][0] = acc[i][1] = _mm256_setzero_ps();
    }
    for (uint32_t k = 0; k < cols; k += 2, panel += two_bytes) {
        __m256 a0 = _mm256_broadcast_ss(a + k), a1 = _mm256_broadcast_ss(a + k + 1);
        for (int i = 0; i < side; i++) {
            const uint8_t *p = panel + (size_t)i * panel_bytes;
            _mm_prefetch((const char *)p + 1024, _MM_HINT_T0);
            struct two t = widen(format, p);
            for (int v = 0; v < 2; v++) {
                acc[i][v] = _mm256_fmadd_ps(t.w[0][v], a0, acc[i][v]);
                acc[i][v] = _mm256_fmadd_ps(t.w[1][v], a1, acc[i][v]);
            }
        }
    }
    for (int i = 0; i < side; i++) {
        _mm256_storeu_ps(out + 16 * i, acc[i][0]);
        _mm256_storeu_ps(out + 16 * i + 8, acc[i][1]);
    }
}

/* The last input of an odd number of columns, for formats whose block is 1. */
TSR_INLINE void row1_last(enum tsr_format format, const uint8_t *p, float a, float *out)
{
    for (int v = 0; v < 2; v++) {
        __m256 w = format == TSR_FORMAT_F16 ? halves(p + 16 * v)
                                            : _mm256_loadu_ps((const float *)(p + 32 * v));
        _mm256_storeu_ps(out + 8 * v,
                         _mm256_fmadd_ps(w, _mm256_set1_ps(a), _mm256_loadu_ps(out + 8 * v)));
    }
}

TSR_INLINE void row1_float(enum tsr_format format, const uint8_t *panels, uint32_t n_panels,
                           uint32_t cols, const struct tsr_acts *acts, uint32_t row, float *out)
{
    size_t bytes = format == TSR_FORMAT_F32   ? (size_t)cols * 64
                   : format == TSR_FORMAT_F16 ? (size_t)cols * 32
                                              : (size_t)((cols + 1) / 2) * 64;
    const float *a = acts->f + (size_t)row * acts->cols;
    uint32_t odd = format == TSR_FORMAT_BF16 ? 0 : cols % 2;
    uint32_t even = cols - odd;
    uint32_t p = 0;
    for (; p + SIDE <= n_panels; p += SIDE) {
        row1_side(format, panels + p * bytes, bytes, even, a, out + (size_t)p * 16, SIDE);
    }
    for (; p < n_panels; p++) {
        row1_side(format, panels + p * bytes, bytes, even, a, out + (size_t)p * 16, 1);
    }
    for (p = 0; odd && p < n_panels; p++) {
        row1_last(format, panels + p * bytes + bytes - (format == TSR_FORMAT_F16 ? 32 : 64),
                  a[even], out + (size_t)p * 16);
    }
}

/* n_rows (1 to 6) rows against a widened chunk w [n][16]; out [n_rows][16] accumulates. */
TSR_INLINE void multiply(const float *w, uint32_t n, const float *a, size_t stride, float *out,
                         const int n_rows)
{
    __m256 acc[6][2];
    for (int r = 0; r < n_rows; r++) {
        acc[r][0] = _mm256_load_ps(out + r * 16);
        acc[r][1] = _mm256_load_ps(out + r * 16 + 8);
    }
    for (uint32_t k = 0; k < n; k++) {
        __m256 w0 = _mm256_load_ps(w + k * 16), w1 = _mm256_load_ps(w + k * 16 + 8);
        for (int r = 0; r < n_rows; r++) {
            __m256 b = _mm256_broadcast_ss(a + (size_t)r * stride + k);
            acc[r][0] = _mm256_fmadd_ps(w0, b, acc[r][0]);
            acc[r][1] = _mm256_fmadd_ps(w1, b, acc[r][1]);
        }
    }
    for (int r = 0; r < n_rows; r++) {
        _mm256_store_ps(out + r * 16, acc[r][0]);
        _mm256_store_ps(out + r * 16 + 8, acc[r][1]);
    }
}

TSR_INLINE void rows_float(enum tsr_format format, const uint8_t *panel, uint32_t cols,
                           const struct tsr_acts *acts, uint32_t row, uint32_t rows, float *out)
{
    _Alignas(64) float w[CHUNK * 16];
    const size_t two_bytes = format == TSR_FORMAT_F32 ? 128 : 64;
    size_t stride = acts->cols;
    memset(out, 0, (size_t)rows * 16 * sizeof *out);
    for (uint32_t k0 = 0; k0 < cols; k0 += CHUNK) {
        uint32_t n = cols - k0 < CHUNK ? cols - k0 : CHUNK;
        const uint8_t *first = panel + k0 / 2 * two_bytes;
        for (uint32_t k = 0; k + 2 <= n; k += 2) {
            struct two t = widen(format, first + k / 2 * two_bytes);
            for (int v = 0; v < 2; v++) {
                _mm256_store_ps(w + k * 16 + 8 * v, t.w[0][v]);
                _mm256_store_ps(w + k * 16 + 16 + 8 * v, t.w[1][v]);
            }
        }
        if (n % 2) {
            tsr_panel_to_f32(format, panel, k0 + n - 1, format == TSR_FORMAT_BF16 ? 2 : 1,
                             w + (n - 1) * 16);
        }
        const float *a = acts->f + (size_t)row * stride + k0;
        uint32_t r = 0;
        for (; r + 6 <= rows; r += 6) {
            multiply(w, n, a + r * stride, stride, out + (size_t)r * 16, 6);
        }
        for (; r + 2 <= rows; r += 2) {
            multiply(w, n, a + r * stride, stride, out + (size_t)r * 16, 2);
        }
        if (r < rows) {
            multiply(w, n, a + r * stride, stride, out + (size_t)r * 16, 1);
        }
    }
}

#define FLOAT_FORMAT(name, format)                                                                 \
    TSR_ROW1(name)                                                                                 \
    {                                                                                              \
        row1_float(format, panels, n_panels, cols, acts, row, out);                                \
    }                                                                                              \
    TSR_ROWS(name)                                                                                 \
    {                                                                                              \
        rows_float(format, panel, cols, acts, row_first, rows, out);                               \
    }

FLOAT_FORMAT(f32, TSR_FORMAT_F32)
FLOAT_FORMAT(f16, TSR_FORMAT_F16)
FLOAT_FORMAT(bf16, TSR_FORMAT_BF16)
