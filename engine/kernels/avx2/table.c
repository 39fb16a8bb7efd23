#include "avx2_priv.h"

#define ROW1(name, format) [format] = tsr_avx2_row1_##name,
#define ROWS(name, format) [format] = tsr_avx2_rows_##name,

const struct tsr_kernels tsr_kernels_avx2 = {
    .name = "avx2",
    .kv_bytes = 2,
    .quantizes = true,
    .norm = tsr_avx2_norm,
    .quantize = tsr_avx2_quantize,
    .row1 = {TSR_FORMATS(ROW1)},
    .rows = {TSR_FORMATS(ROWS)},
    .silu_mul = tsr_avx2_silu_mul,
    .gelu_mul = tsr_avx2_gelu_mul,
    .rope = tsr_avx2_rope,
    .store_kv = tsr_avx2_store_kv,
    .attend = tsr_avx2_attend,
};
