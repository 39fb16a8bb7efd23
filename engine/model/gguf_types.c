#include "gguf_types_priv.h"

#include <stddef.h>

/* Numbers and block sizes: ggml.h (enum ggml_type) and ggml-common.h of github.com/ggml-org/ggml.
 * Missing numbers were retired there. To support a type: a row in dtype.h, its name here. */
#define NONE TSR_DTYPE_COUNT

/* clang-format off */
static const struct tsr_ggml_type types[] = {
    [0]  = {"F32",       1,   4, TSR_DTYPE_F32},
    [1]  = {"F16",       1,   2, TSR_DTYPE_F16},
    [2]  = {"Q4_0",     32,  18, TSR_DTYPE_Q4_0},
    [3]  = {"Q4_1",     32,  20, TSR_DTYPE_Q4_1},
    [6]  = {"Q5_0",     32,  22, NONE},
    [7]  = {"Q5_1",     32,  24, NONE},
    [8]  = {"Q8_0",     32,  34, TSR_DTYPE_Q8_0},
    [9]  = {"Q8_1",     32,  36, NONE},
    [10] = {"Q2_K",    256,  84, NONE},
    [11] = {"Q3_K",    256, 110, NONE},
    [12] = {"Q4_K",    256, 144, NONE},
    [13] = {"Q5_K",    256, 176, NONE},
    [14] = {"Q6_K",    256, 210, TSR_DTYPE_Q6_K},
    [15] = {"Q8_K",    256, 292, NONE},
    [16] = {"IQ2_XXS", 256,  66, NONE},
    [17] = {"IQ2_XS",  256,  74, NONE},
    [18] = {"IQ3_XXS", 256,  98, NONE},
    [19] = {"IQ1_S",   256,  50, NONE},
    [20] = {"IQ4_NL",   32,  18, NONE},
    [21] = {"IQ3_S",   256, 110, NONE},
    [22] = {"IQ2_S",   256,  82, NONE},
    [23] = {"IQ4_XS",  256, 136, NONE},
    [24] = {"I8",        1,   1, NONE},
    [25] = {"I16",       1,   2, NONE},
    [26] = {"I32",       1,   4, NONE},
    [27] = {"I64",       1,   8, NONE},
    [28] = {"F64",       1,   8, NONE},
    [29] = {"IQ1_M",   256,  56, NONE},
    [30] = {"BF16",      1,   2, TSR_DTYPE_BF16},
    [34] = {"TQ1_0",   256,  54, NONE},
    [35] = {"TQ2_0",   256,  66, NONE},
    [39] = {"MXFP4",    32,  17, NONE},
};
/* clang-format on */

const struct tsr_ggml_type *tsr_ggml_type(uint32_t number)
{
    if (number >= sizeof types / sizeof *types || !types[number].name) {
        return NULL;
    }
    return &types[number];
}
