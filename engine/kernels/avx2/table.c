#include "avx2_priv.h"

const struct tsr_kernels tsr_kernels_avx2 = {
    .name = "avx2",
    .kv_bytes = 2,
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
    .store_kv = tsr_avx2_store_kv,
    .attend = tsr_avx2_attend,
};
