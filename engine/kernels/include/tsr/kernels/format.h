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
 *   q8_0   block 32:  d f16 [16]; 8 groups; lane r of group g: bytes k = 4g, 4g + 2, 4g + 1, 4g +
 * 3, so that the even bytes are the pair (4g, 4g + 1) and the odd bytes the next pair, in 16-bit
 * lanes q4_0   block 32:  d f16 [16]; 4 groups; lane r of group g: nibble p of 16-bit half h is k =
 * 8g + 2p + h q4_1   block 32:  d f16 [16], m f16 [16]; groups as q4_0 q6_k   block 256: d f16
 * [16]; scales i8 [16 sub-blocks of 16 inputs][16]; then 8 times, for 32 inputs each, 4 groups L as
 * q4_0 and 2 groups H: the two high bits of pair p of group L[2j] lie in H[j] at bit 4p + 4 (p = 3:
 * bit 0) of the same half, those of L[2j + 1] two bits higher
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
    TSR_FORMAT_Q6_K,
    TSR_FORMAT_COUNT
};

struct tsr_format_info {
    const char *name;
    uint32_t block;        /* inputs a block */
    uint32_t block_bytes;  /* bytes of 16 rows by one block */
    uint32_t scale_inputs; /* inputs that share a scale; 0: a float format (activations stay f32) */
};

const struct tsr_format_info *tsr_format_info(enum tsr_format format);

/* The format that keeps a file's own precision; f32 becomes bf16. */
enum tsr_format tsr_format_of(enum tsr_dtype dtype);

/* Bytes of one panel with cols inputs. */
static inline size_t tsr_panel_bytes(enum tsr_format format, uint32_t cols)
{
    const struct tsr_format_info *info = tsr_format_info(format);
    return (size_t)((cols + info->block - 1) / info->block) * info->block_bytes;
}

/* Packs 16 rows of cols elements of dtype (NULL: a zero row) into one panel. Where dtype is not the
 * format's own, values are converted: to f32, f16 and bf16 by rounding to nearest even, to q8_0 by
 * absmax. Other conversions are not made: false. scratch: [cols rounded up to 256] f32 of the
 * caller's. */
bool tsr_panel_pack(enum tsr_format format, enum tsr_dtype dtype, const void *const rows[16],
                    uint32_t cols, void *panel, float *scratch);

/* The exact values of inputs [k0, k0 + n) of a panel's 16 rows: out [n][16] f32. k0 and n are
 * multiples of the block. */
void tsr_panel_to_f32(enum tsr_format format, const void *panel, uint32_t k0, uint32_t n,
                      float *out);

/* For block formats: 32 inputs from k0 (a multiple of 32) as integers q [32][16], scales d [2][16]
 * (of each 16 inputs) and minima m [16]: value = d * q + m. */
void tsr_panel_to_int(enum tsr_format format, const void *panel, uint32_t k0, int16_t q[32][16],
                      float d[2][16], float m[16]);

/* The exact values of one row of a panel: out [cols] f32. */
void tsr_panel_row(enum tsr_format format, const void *panel, uint32_t row, uint32_t cols,
                   float *out);

#endif
