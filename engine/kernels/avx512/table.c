/* Operations without a kernel of their own here run AVX2's: every CPU with AVX-512 has AVX2. */
#include "../avx2/avx2_priv.h"

const struct tsr_kernels tsr_kernels_avx512 = {
    .name = "avx512",
    .quantizes = true,
    .norm = tsr_avx2_norm,
    .quantize = tsr_avx2_quantize,
    .row1 = {tsr_avx2_row1_f32, tsr_avx2_row1_f16, tsr_avx2_row1_bf16, tsr_avx2_row1_q8_0,
             tsr_avx2_row1_q4_0, tsr_avx2_row1_q4_1, tsr_avx2_row1_q6_k},
    .rows = {tsr_avx2_rows_f32, tsr_avx2_rows_f16, tsr_avx2_rows_bf16, tsr_avx2_rows_q8_0,
             tsr_avx2_rows_q4_0, tsr_avx2_rows_q4_1, tsr_avx2_rows_q6_k},
    .silu_mul = tsr_avx2_silu_mul,
    .gelu_mul = tsr_avx2_gelu_mul,
    .rope = tsr_avx2_rope,
    .store_f16 = tsr_avx2_store_f16,
    .attend = tsr_avx2_attend,
};
