#include "avx512_priv.h"

const struct tsr_kernels tsr_kernels_avx512 = {
    .name = "avx512",
    .kv_bytes = 2,
    .quantizes = true,
    .norm = tsr_avx512_norm,
    .quantize = tsr_avx512_quantize,
    .to_bf16 = tsr_avx512_to_bf16,
    .row1 = {tsr_avx512_row1_f32, tsr_avx512_row1_f16, tsr_avx512_row1_bf16, tsr_avx512_row1_q8_0,
             tsr_avx512_row1_q4_0, tsr_avx512_row1_q4_1, tsr_avx512_row1_q6_k},
    .rows = {tsr_avx512_rows_f32, tsr_avx512_rows_f16, tsr_avx512_rows_bf16, tsr_avx512_rows_q8_0,
             tsr_avx512_rows_q4_0, tsr_avx512_rows_q4_1, tsr_avx512_rows_q6_k},
    .silu_mul = tsr_avx512_silu_mul,
    .gelu_mul = tsr_avx512_gelu_mul,
    .rope = tsr_avx512_rope,
    .store_kv = tsr_avx512_store_kv,
    .attend = tsr_avx512_attend,
};
