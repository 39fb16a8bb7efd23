/* Float formats: one accumulator an output, inputs ascending. f32 and f16 weights are widened as
 * they come and multiplied with f32 activations; bf16 weights meet bf16 activations two inputs at a
 * time (vdpbf16ps). Four panels go side by side for one row, so that four chains hide the latency;
 * tiles of up to sixteen rows meet one panel, whose chunk stays in the first-level cache. */
#include "avx512_priv.h"

#include <string.h>

enum { SIDE = 4, TILE = 16, CHUNK_BYTES = 16384 };

/* Bytes of a panel's 16 rows by one unit: an input, or for bf16 a pair. */
TSR_INLINE size_t unit_bytes(enum tsr_format format)
{
    return format == TSR_FORMAT_F16 ? 32 : 64;
}

TSR_INLINE uint32_t units_of(enum tsr_format format, uint32_t cols)
{
    return format == TSR_FORMAT_BF16 ? (cols + 1) / 2 : cols;
}

/* Activations of a row, 4 bytes a unit. */
TSR_INLINE const char *acts_row(enum tsr_format format, const struct tsr_acts *acts, uint32_t row)
{
    size_t at = (size_t)row * acts->cols;
    return format == TSR_FORMAT_BF16 ? (const char *)(acts->bf + at) : (const char *)(acts->f + at);
}

TSR_INLINE __m512 widened(enum tsr_format format, const uint8_t *w)
{
    return format == TSR_FORMAT_F16 ? halves(w) : _mm512_loadu_ps(w);
}

TSR_INLINE void row1_side(enum tsr_format format, const uint8_t *panel, size_t panel_bytes,
                          uint32_t units, const char *a, float *out, const int side)
{
    __m512 acc[SIDE];
    for (int i = 0; i < side; i++) {
        acc[i] = _mm512_setzero_ps();
    }
    const size_t step = unit_bytes(format);
    for (uint32_t k = 0; k < units; k++, panel += step, a += 4) {
        __m512i x = pair(a);
        for (int i = 0; i < side; i++) {
            const uint8_t *p = panel + (size_t)i * panel_bytes;
            if (step == 64 || k % 2 == 0) {
                _mm_prefetch((const char *)p + 1024, _MM_HINT_T0);
            }
            if (format == TSR_FORMAT_BF16) {
                acc[i] = _mm512_dpbf16_ps(acc[i], (__m512bh)load512(p), (__m512bh)x);
            } else {
                acc[i] = _mm512_fmadd_ps(widened(format, p), _mm512_castsi512_ps(x), acc[i]);
            }
        }
    }
    for (int i = 0; i < side; i++) {
        _mm512_storeu_ps(out + 16 * i, acc[i]);
    }
}

TSR_INLINE void row1_float(enum tsr_format format, const uint8_t *panels, uint32_t n_panels,
                           uint32_t cols, const struct tsr_acts *acts, uint32_t row, float *out)
{
    const uint32_t units = units_of(format, cols);
    const size_t bytes = units * unit_bytes(format);
    const char *a = acts_row(format, acts, row);
    uint32_t p = 0;
    for (; p + SIDE <= n_panels; p += SIDE) {
        row1_side(format, panels + p * bytes, bytes, units, a, out + (size_t)p * 16, SIDE);
    }
    for (; p + 2 <= n_panels; p += 2) {
        row1_side(format, panels + p * bytes, bytes, units, a, out + (size_t)p * 16, 2);
    }
    if (p < n_panels) {
        row1_side(format, panels + p * bytes, bytes, units, a, out + (size_t)p * 16, 1);
    }
}

/* n_rows rows, the first at a, against `units` units of a panel; out [n_rows][16] accumulates. */
TSR_INLINE void tile(enum tsr_format format, const uint8_t *w, uint32_t units, const char *a,
                     size_t stride, float *out, const int n_rows)
{
    struct tile_rows t = tile_rows(a, stride, n_rows);
    __m512 acc[TILE];
    for (int r = 0; r < n_rows; r++) {
        acc[r] = _mm512_loadu_ps(out + 16 * r);
    }
    for (uint32_t k = 0; k < units; k++, w += unit_bytes(format)) {
        tile_rows_hide(&t);
        if (format == TSR_FORMAT_BF16) {
            __m512i x = load512(w);
            for (int r = 0; r < n_rows; r++) {
                acc[r] = dot_bf16(acc[r], x, tile_row(&t, r));
            }
        } else {
            __m512 x = widened(format, w);
            for (int r = 0; r < n_rows; r++) {
                float b;
                memcpy(&b, tile_row(&t, r), 4);
                acc[r] = _mm512_fmadd_ps(x, _mm512_set1_ps(b), acc[r]);
            }
        }
        tile_rows_advance(&t, n_rows, 4);
    }
    for (int r = 0; r < n_rows; r++) {
        _mm512_storeu_ps(out + 16 * r, acc[r]);
    }
}

TSR_INLINE void rows_float(enum tsr_format format, const uint8_t *panel, uint32_t cols,
                           const struct tsr_acts *acts, uint32_t row, uint32_t rows, float *out)
{
    const uint32_t units = units_of(format, cols);
    const uint32_t chunk = (uint32_t)(CHUNK_BYTES / unit_bytes(format));
    const size_t stride = (size_t)acts->cols * (format == TSR_FORMAT_BF16 ? 2 : 4);
    const uint32_t tiles = (rows + TILE - 1) / TILE;
    memset(out, 0, (size_t)rows * 16 * sizeof *out);
    for (uint32_t k = 0; k < units; k += chunk) {
        uint32_t n = units - k < chunk ? units - k : chunk;
        const uint8_t *w = panel + k * unit_bytes(format);
        for (uint32_t i = 0, r = 0; i < tiles; i++) { /* as equal as can be */
            uint32_t n_rows = (rows - r + tiles - i - 1) / (tiles - i);
            const char *a = acts_row(format, acts, row + r) + (size_t)k * 4;
            float *o = out + (size_t)r * 16;
            switch (n_rows) {
#define CALL(constant)                                                                             \
    case constant:                                                                                 \
        tile(format, w, n, a, stride, o, constant);                                                \
        break;
                CALL(1)
                TSR_CASES_2_5(CALL)
                TSR_CASES_6_12(CALL)
                TSR_CASES_13_16(CALL)
#undef CALL
            default:
                break;
            }
            r += n_rows;
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
