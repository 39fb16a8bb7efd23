#include "avx512_priv.h"

#define ROW1(name, format) [format] = tsr_avx512_row1_##name,
#define ROWS(name, format) [format] = tsr_avx512_rows_##name,

const struct tsr_kernels tsr_kernels_avx512 = {
    .name = "avx512",
    .kv_bytes = 2,
    .quantizes = true,
    .norm = tsr_avx512_norm,
    .quantize = tsr_avx512_quantize,
    .to_bf16 = tsr_avx512_to_bf16,
    .row1 = {TSR_FORMATS(ROW1)},
    .rows = {TSR_FORMATS(ROWS)},
    .silu_mul = tsr_avx512_silu_mul,
    .gelu_mul = tsr_avx512_gelu_mul,
    .rope = tsr_avx512_rope,
    .store_kv = tsr_avx512_store_kv,
    .attend = tsr_avx512_attend,
};
