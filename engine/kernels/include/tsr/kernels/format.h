/* Packed weight formats: how a matrix lies in memory for the kernels.
 *
 * A matrix of [rows, cols] is cut into panels of 16 rows, the last one padded with zero rows; a
 * panel is a run of blocks of `block` inputs, the last one padded with zero inputs, so that a
 * kernel streams it strictly forwards. A 32-bit lane belongs to one row: a 64-byte group holds a
 * few inputs of all 16. With r the row in the panel, k the input in the block:
 *
 *   f32    block 1:   f32 [16]
 *   f16    block 1:   f16 [16]
 *   bf16   block 2:   lane r: k = 0 in the low half, 1 in the high half (what vdpbf16ps wants)
 *
 * The formats of ggml's blocks are of one kind (layout_priv.h has their figures): d f16 [16]; with
 * minima m f16 [16]; with blocks of 256 also scales i8 [256 / sub][16], and minima u8 likewise
 * (q2_k: 4 bits each in one byte); then for each 32 inputs (a step) groups L and groups H. A weight
 * is d * scale * q + m * minimum; the m of K types is minus the file's dmin.
 *
 * A group has in lane r, in its 16-bit half k % 2, inputs of row r from the lowest bits on: of 8
 * bits 2 each half, of 4 bits 4, of 2 bits 8. Further bits lie in H where a shift brings them next
 * to the lower ones. Of 4 + 2 bits: those of pair p of group L[2j] in H[j] at bit 4p + 4 (p = 3:
 * bit 0), those of L[2j + 1] two bits higher. Of 4 + 1: those of L[j] at bit 4p + 4 (p = 3: 0) + j.
 * Of 2 + 1: those of pair p of L[j] at bit (2 (p % 4) + 2 + 8j + p / 4) % 16.
 *
 * Values are those of enum tsr_dtype: repacking is exact. `int8` is q8_0, made with d = absmax /
 * 127. */
#ifndef TSR_KERNELS_FORMAT_H
#define TSR_KERNELS_FORMAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <tsr/kernels/dtype.h>

enum { TSR_PANEL_ROWS = 16 };

enum tsr_format {
    TSR_FORMAT_F32,
    TSR_FORMAT_F16,
    TSR_FORMAT_BF16,
    TSR_FORMAT_Q8_0,
    TSR_FORMAT_Q4_0,
    TSR_FORMAT_Q4_1,
    TSR_FORMAT_Q5_0,
    TSR_FORMAT_Q5_1,
    TSR_FORMAT_IQ4_NL,
    TSR_FORMAT_Q2_K,
    TSR_FORMAT_Q3_K,
    TSR_FORMAT_Q4_K,
    TSR_FORMAT_Q5_K,
    TSR_FORMAT_Q6_K,
    TSR_FORMAT_IQ4_XS,
    TSR_FORMAT_COUNT
};

/* Does X(name, format) for every format. */
#define TSR_FORMATS(X)                                                                             \
    X(f32, TSR_FORMAT_F32)                                                                         \
    X(f16, TSR_FORMAT_F16)                                                                         \
    X(bf16, TSR_FORMAT_BF16)                                                                       \
    TSR_BLOCK_FORMATS(X)
#define TSR_BLOCK_FORMATS(X)                                                                       \
    X(q8_0, TSR_FORMAT_Q8_0)                                                                       \
    X(q4_0, TSR_FORMAT_Q4_0)                                                                       \
    X(q4_1, TSR_FORMAT_Q4_1)                                                                       \
    X(q5_0, TSR_FORMAT_Q5_0)                                                                       \
    X(q5_1, TSR_FORMAT_Q5_1)                                                                       \
    X(iq4_nl, TSR_FORMAT_IQ4_NL)                                                                   \
    X(q2_k, TSR_FORMAT_Q2_K)                                                                       \
    X(q3_k, TSR_FORMAT_Q3_K)                                                                       \
    X(q4_k, TSR_FORMAT_Q4_K)                                                                       \
    X(q5_k, TSR_FORMAT_Q5_K)                                                                       \
    X(q6_k, TSR_FORMAT_Q6_K)                                                                       \
    X(iq4_xs, TSR_FORMAT_IQ4_XS)

struct tsr_format_info {
    const char *name;
    uint32_t block;        /* inputs a block */
    uint32_t block_bytes;  /* bytes of 16 rows by one block */
    uint32_t scale_inputs; /* inputs that share a scale; 0: a float format (activations stay f32) */
};

const struct tsr_format_info *tsr_format_info(enum tsr_format format);

/* The format that dtype's weights are held in where nothing else is asked for: its own; where it
 * has none, the smallest whose rounding is that of f16 or bf16 at most. f32 becomes bf16. */
enum tsr_format tsr_format_of(enum tsr_dtype dtype);

/* The format that holds dtype's values exactly: tsr_format_of(), or f32. */
enum tsr_format tsr_format_exact(enum tsr_dtype dtype);

/* Bytes of one panel with cols inputs. */
static inline size_t tsr_panel_bytes(enum tsr_format format, uint32_t cols)
{
    const struct tsr_format_info *info = tsr_format_info(format);
    return (size_t)((cols + info->block - 1) / info->block) * info->block_bytes;
}

/* Packs 16 rows of cols elements of dtype (NULL: a zero row) into one panel. Where format is not
 * tsr_format_of(dtype), values are converted: to f32, f16 and bf16 by rounding to nearest even, to
 * q8_0 by absmax. Other conversions are not made: false. scratch: [cols rounded up to 256] f32 of
 * the caller's. */
bool tsr_panel_pack(enum tsr_format format, enum tsr_dtype dtype, const void *const rows[16],
                    uint32_t cols, void *panel, float *scratch);

/* Writes the values x [cols rounded up to the block, zeros beyond cols] into lane `row` of a panel
 * that was zero: as tsr_panel_pack() converts. format is f32, f16, bf16 or q8_0. */
void tsr_panel_put_row(enum tsr_format format, const float *x, uint32_t cols, uint32_t row,
                       void *panel);

/* The exact values of inputs [k0, k0 + n) of a panel's 16 rows: out [n][16] f32. k0 and n are
 * multiples of the block. */
void tsr_panel_to_f32(enum tsr_format format, const void *panel, uint32_t k0, uint32_t n,
                      float *out);

/* For block formats: 32 inputs from k0 (a multiple of 32) as integers q [32][16], scales d and
 * minima m [2][16] (of each 16 inputs): value = d * q + m. */
void tsr_panel_to_int(enum tsr_format format, const void *panel, uint32_t k0, int16_t q[32][16],
                      float d[2][16], float m[2][16]);

/* The exact values of one row of a panel: out [cols] f32. */
void tsr_panel_row(enum tsr_format format, const void *panel, uint32_t row, uint32_t cols,
                   float *out);

#endif
