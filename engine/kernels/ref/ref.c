/* The reference: plain C, f32 activations against the exact f32 values of the weights. */
#include <tsr/kernels/kernels.h>

#include "layout_priv.h"

#include <math.h>
#include <string.h>

enum { ROWS = TSR_PANEL_ROWS, CHUNK = 256 };

static void ref_norm(const float *in, const float *weight, float eps, uint32_t count, float *out)
{
    double sum = 0;
    for (uint32_t i = 0; i < count; i++) {
        sum += (double)in[i] * (double)in[i];
    }
    float r = (float)(1.0 / sqrt(sum / count + (double)eps));
    for (uint32_t i = 0; i < count; i++) {
        out[i] = in[i] * r * weight[i];
    }
}

static void ref_quantize(const float *x, uint32_t count, struct tsr_acts *acts, uint32_t row)
{
    uint32_t cols = acts->cols;
    for (uint32_t b = 0; b < cols / 32; b++) {
        float v[32] = {0}, most = 0;
        for (uint32_t i = 0; i < 32 && b * 32 + i < count; i++) {
            v[i] = x[b * 32 + i];
            most = fmaxf(most, fabsf(v[i]));
        }
        float d = most / TSR_ACT_MAX, inverse = most > 0 ? TSR_ACT_MAX / most : 0;
        int32_t sums[2] = {0, 0};
        for (uint32_t i = 0; i < 32; i++) {
            int32_t q = (int32_t)rintf(v[i] * inverse);
            q = q > TSR_ACT_MAX ? TSR_ACT_MAX : q < -TSR_ACT_MAX ? -TSR_ACT_MAX : q;
            acts->q[(size_t)row * cols + b * 32 + i] = (int16_t)q;
            sums[i / 16] += q;
        }
        size_t at = (size_t)row * (cols / 32) + b;
        acts->d[at] = d;
        acts->sum16[2 * at] = sums[0];
        acts->sum16[2 * at + 1] = sums[1];
        acts->sum32[at] = sums[0] + sums[1];
    }
}

static void panel_rows(enum tsr_format format, const void *panel, uint32_t cols,
                       const struct tsr_acts *acts, uint32_t row_first, uint32_t rows, float *out)
{
    float w[CHUNK * ROWS];
    uint32_t block = tsr_format_info(format)->block;
    uint32_t padded = (cols + block - 1) / block * block;
    memset(out, 0, (size_t)rows * ROWS * sizeof *out);
    for (uint32_t k0 = 0; k0 < padded; k0 += CHUNK) {
        uint32_t n = padded - k0 < CHUNK ? padded - k0 : CHUNK;
        tsr_panel_to_f32(format, panel, k0, n, w);
        for (uint32_t m = 0; m < rows; m++) {
            const float *a = acts->f + (size_t)(row_first + m) * acts->cols + k0;
            float *acc = out + (size_t)m * ROWS;
            for (uint32_t k = 0; k < n; k++) {
                for (uint32_t r = 0; r < ROWS; r++) {
                    acc[r] += w[k * ROWS + r] * a[k];
                }
            }
        }
    }
}

#define REF_FORMAT(name, format)                                                                   \
    static void ref_rows_##name(const void *panel, uint32_t cols, const struct tsr_acts *acts,     \
                                uint32_t row_first, uint32_t rows, float *out)                     \
    {                                                                                              \
        panel_rows(format, panel, cols, acts, row_first, rows, out);                               \
    }                                                                                              \
    static void ref_row1_##name(const void *panels, uint32_t n_panels, uint32_t cols,              \
                                const struct tsr_acts *acts, uint32_t row, float *out)             \
    {                                                                                              \
        for (uint32_t p = 0; p < n_panels; p++) {                                                  \
            panel_rows(format, (const uint8_t *)panels + p * tsr_panel_bytes(format, cols), cols,  \
                       acts, row, 1, out + (size_t)p * ROWS);                                      \
        }                                                                                          \
    }
TSR_FORMATS(REF_FORMAT)

static void ref_silu_mul(float *gate, const float *up, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        gate[i] = gate[i] / (1.0f + expf(-gate[i])) * up[i];
    }
}

static void ref_gelu_mul(float *gate, const float *up, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        float x = gate[i]; /* Hendrycks and Gimpel, "Gaussian error linear units", the tanh form */
        float t = tanhf(0.7978845608f * (x + 0.044715f * x * x * x));
        gate[i] = 0.5f * x * (1.0f + t) * up[i];
    }
}

static void ref_rope(float *x, const float *cos, const float *sin, uint32_t dims)
{
    uint32_t half = dims / 2;
    for (uint32_t i = 0; i < half; i++) {
        float a = x[i], b = x[i + half];
        x[i] = a * cos[i] - b * sin[i];
        x[i + half] = b * cos[i] + a * sin[i];
    }
}

static void ref_store_kv(const float *x, uint32_t count, void *kv, uint32_t stride)
{
    float *out = kv;
    for (uint32_t i = 0; i < count; i++) {
        out[(size_t)i * stride] = x[i];
    }
}

static void ref_attend(const struct tsr_attend *a)
{
    for (uint32_t i = 0; i < a->n; i++) {
        uint32_t position = a->position[i];
        uint32_t first = a->window && position >= a->window ? position - a->window + 1 : 0;
        float most = -INFINITY, total = 0;
        float *acc = a->out[i];
        memset(acc, 0, a->head_dim * sizeof *acc);
        for (uint32_t block = first / 64; block <= position / 64; block++) {
            const float *keys = a->keys(a->ctx, block);
            const float *values = a->values(a->ctx, block);
            uint32_t from = first > block * 64 ? first - block * 64 : 0;
            uint32_t to = position - block * 64 < 63 ? position - block * 64 : 63;
            float s[64], block_most = -INFINITY;
            for (uint32_t p = from; p <= to; p++) {
                float sum = 0;
                for (uint32_t d = 0; d < a->head_dim; d++) {
                    sum += a->q[i][d] * keys[d * 64 + p];
                }
                s[p] = sum * a->scale;
                if (a->softcap > 0) {
                    s[p] = a->softcap * tanhf(s[p] / a->softcap);
                }
                s[p] -= a->slope[i] * (float)(position - block * 64 - p);
                block_most = fmaxf(block_most, s[p]);
            }
            if (block_most > most) {
                float alpha = expf(most - block_most);
                total *= alpha;
                for (uint32_t d = 0; d < a->head_dim; d++) {
                    acc[d] *= alpha;
                }
                most = block_most;
            }
            for (uint32_t p = from; p <= to; p++) {
                float e = expf(s[p] - most);
                total += e;
                for (uint32_t d = 0; d < a->head_dim; d++) {
                    acc[d] += e * values[p * a->head_dim + d];
                }
            }
        }
        for (uint32_t d = 0; d < a->head_dim; d++) {
            acc[d] /= total;
        }
    }
}

#define ROW1(name, format) [format] = ref_row1_##name,
#define MANY(name, format) [format] = ref_rows_##name,

const struct tsr_kernels tsr_kernels_ref = {
    .name = "ref",
    .kv_bytes = 4,
    .quantizes = false,
    .norm = ref_norm,
    .quantize = ref_quantize,
    .row1 = {TSR_FORMATS(ROW1)},
    .rows = {TSR_FORMATS(MANY)},
    .silu_mul = ref_silu_mul,
    .gelu_mul = ref_gelu_mul,
    .rope = ref_rope,
    .store_kv = ref_store_kv,
    .attend = ref_attend,
};

void tsr_ref_rows_q16(enum tsr_format format, const void *panel, uint32_t cols,
                      const struct tsr_acts *acts, uint32_t row, float out[16])
{
    const struct tsr_layout *l = &tsr_layouts[format];
    uint32_t block = tsr_format_info(format)->block;
    const int16_t *a = acts->q + (size_t)row * acts->cols;
    const float *d_act = acts->d + (size_t)row * (acts->cols / 32);
    memset(out, 0, ROWS * sizeof *out);
    for (uint32_t k0 = 0; k0 < (cols + block - 1) / block * block; k0 += 32) {
        int16_t q[32][16];
        float d[2][16], m[2][16], da = d_act[k0 / 32];
        tsr_panel_to_int(format, panel, k0, q, d, m);
        for (uint32_t r = 0; r < ROWS; r++) {
            for (uint32_t s = 0; s < 32; s += l->sub) {
                int32_t isum = 0, asum = 0;
                for (uint32_t k = s; k < s + l->sub; k++) {
                    isum += q[k][r] * a[k0 + k];
                    asum += a[k0 + k];
                }
                out[r] = fmaf((float)isum, d[s / 16][r] * da, out[r]);
                if (l->minima) {
                    out[r] = fmaf(m[s / 16][r], da * (float)asum, out[r]);
                }
            }
        }
    }
}
