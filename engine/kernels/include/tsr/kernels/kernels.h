/* The kernels: one table of functions per instruction set, all computing the same operations.
 *
 * The arithmetic of an output is fixed by instruction set and weight format, never by how many rows
 * are computed together: `row1` and `rows` of a table give the same bytes. Float formats accumulate
 * by ascending input in one f32 accumulator an output; block formats multiply 16-bit activations
 * exactly in integers within a scale's inputs, then acc = fma((float)isum, d_weight * d_activation,
 * acc) by ascending input (and with minima acc = fma(m, d_activation * (float)sum, acc) after it,
 * `sum` that of the activations). The `ref` table multiplies
 * f32 activations by the exact f32 weights instead: it is what the others approximate.
 *
 * All functions are pure, thread-safe and allocate nothing. Buffers are 64-byte aligned. */
#ifndef TSR_KERNELS_KERNELS_H
#define TSR_KERNELS_KERNELS_H

#include <stdbool.h>
#include <stdint.h>

#include <tsr/kernels/format.h>

enum {
    TSR_ACT_MAX = 32639, /* |q| of a 16-bit activation: 127 * 257, so that q = 256 h + l with 8-bit
                            signed digits */
    TSR_ACT_BLOCK = 32,  /* inputs that share an activation scale */
    TSR_ACT_COLS_ALIGN = 256, /* columns of activation matrices are padded with zeros to this */
    TSR_ATTEND_QUERIES_MAX = 16,
};

/* A matrix of activations [rows, cols], in f32, as bf16 or as 16-bit integers with a scale per 32.
 * cols is a multiple of 256. */
struct tsr_acts {
    uint32_t cols;
    float *f;       /* [rows, cols] f32; NULL where quantized */
    uint16_t *bf;   /* [rows, cols] bf16: what `to_bf16` of a table made of f32 */
    int16_t *q;     /* [rows, cols]: x ~ d * q, |q| <= TSR_ACT_MAX */
    float *d;       /* [rows, cols / 32] */
    int32_t *sum16; /* [rows, cols / 16]: sum of q over 16 inputs */
    int32_t *sum32; /* [rows, cols / 32] */
};

/* Bytes behind the pointers of all forms of a matrix of [rows, cols]. */
size_t tsr_acts_bytes(uint32_t rows, uint32_t cols);
/* Lays all forms of a [rows, cols] matrix out in memory (tsr_acts_bytes(), 64-byte aligned). */
void tsr_acts_init(struct tsr_acts *acts, void *memory, uint32_t rows, uint32_t cols);

/* Up to TSR_ATTEND_QUERIES_MAX query vectors against one KV head. */
struct tsr_attend {
    uint32_t n; /* queries */
    uint32_t head_dim;
    const float *q[TSR_ATTEND_QUERIES_MAX]; /* [head_dim] each */
    float *out[TSR_ATTEND_QUERIES_MAX];     /* [head_dim] each */
    uint32_t
        position[TSR_ATTEND_QUERIES_MAX]; /* of each query, ascending; sees positions <= its own */
    uint32_t window;                      /* sees positions > position - window only; 0: all */
    float scale, softcap;                /* s = scale * q.k; softcap > 0: s = cap * tanh(s / cap) */
    float slope[TSR_ATTEND_QUERIES_MAX]; /* of each query: s += slope * (key's position - its own);
                                            0: nothing is added */
    /* keys [head_dim][64] and values [64][head_dim] of the 64 positions from 64 * block, in the
     * table's kv_bytes */
    const void *(*keys)(const void *ctx, uint32_t block);
    const void *(*values)(const void *ctx, uint32_t block);
    const void *ctx;
    float *scratch; /* [n * (64 + head_dim rounded up to 16)] f32, aligned */
};

struct tsr_kernels {
    const char *name;
    uint32_t kv_bytes; /* of an element of the KV cache: 2 (f16), or 4 (f32, the reference) */
    bool quantizes;    /* block formats take 16-bit activations; else f32 everywhere */

    /* out [count] = in / sqrt(mean(in^2) + eps) * weight */
    void (*norm)(const float *in, const float *weight, float eps, uint32_t count, float *out);

    /* Row `row` of acts (its 16-bit form) from x [count]; columns beyond count become zero. */
    void (*quantize)(const float *x, uint32_t count, struct tsr_acts *acts, uint32_t row);

    /* Row `row` of acts->bf from x [count], rounded to nearest even; columns beyond count become
     * zero. Where it is not NULL, row1 and rows of bf16 weights read acts->bf; else acts->f. */
    void (*to_bf16)(const float *x, uint32_t count, struct tsr_acts *acts, uint32_t row);

    /* out [n_panels * 16] = the panels' outputs for one row of activations. */
    void (*row1[TSR_FORMAT_COUNT])(const void *panels, uint32_t n_panels, uint32_t cols,
                                   const struct tsr_acts *acts, uint32_t row, float *out);

    /* out [rows][16] = one panel's outputs for `rows` rows of activations from row_first. */
    void (*rows[TSR_FORMAT_COUNT])(const void *panel, uint32_t cols, const struct tsr_acts *acts,
                                   uint32_t row_first, uint32_t rows, float *out);

    /* gate [count] = silu(gate) * up, or gelu_tanh(gate) * up */
    void (*silu_mul)(float *gate, const float *up, uint32_t count);
    void (*gelu_mul)(float *gate, const float *up, uint32_t count);

    /* x [dims]: rotate-half by cos, sin [dims / 2] */
    void (*rope)(float *x, const float *cos, const float *sin, uint32_t dims);

    /* x [count] as elements of the KV cache (f16: clamped to the largest finite one), `stride`
     * elements apart */
    void (*store_kv)(const float *x, uint32_t count, void *out, uint32_t stride);

    /* Softmax attention over all positions that each query sees, blocks of 64 ascending, online. */
    void (*attend)(const struct tsr_attend *args);
};

extern const struct tsr_kernels tsr_kernels_ref;
extern const struct tsr_kernels tsr_kernels_avx2;
extern const struct tsr_kernels tsr_kernels_avx512;

enum tsr_isa { TSR_ISA_BEST, TSR_ISA_REF, TSR_ISA_AVX2, TSR_ISA_AVX512 };

/* What this CPU and operating system can run. */
struct tsr_cpu {
    bool avx2;   /* AVX2, FMA and F16C */
    bool avx512; /* F, BW, VL, DQ, VNNI and BF16 */
};
struct tsr_cpu tsr_cpu_detect(void);

/* The table for isa (BEST: the best that the CPU has); NULL where the CPU lacks it. */
const struct tsr_kernels *tsr_kernels_select(enum tsr_isa isa);

/* For tests: one output of a block format as the quantizing tables must compute it, bit for bit. */
void tsr_ref_rows_q16(enum tsr_format format, const void *panel, uint32_t cols,
                      const struct tsr_acts *acts, uint32_t row, float out[16]);

#endif
