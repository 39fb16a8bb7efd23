#include "gguf_types_priv.h"

/* Numbers: ggml.h (enum ggml_type) of github.com/ggml-org/llama.cpp. Those left out were retired
 * there. */
/* clang-format off */
static const struct {
    uint8_t number;
    uint8_t dtype;
} types[] = {
    {0,  TSR_DTYPE_F32},     {1,  TSR_DTYPE_F16},    {2,  TSR_DTYPE_Q4_0},    {3,  TSR_DTYPE_Q4_1},
    {6,  TSR_DTYPE_Q5_0},    {7,  TSR_DTYPE_Q5_1},   {8,  TSR_DTYPE_Q8_0},    {9,  TSR_DTYPE_Q8_1},
    {10, TSR_DTYPE_Q2_K},    {11, TSR_DTYPE_Q3_K},   {12, TSR_DTYPE_Q4_K},    {13, TSR_DTYPE_Q5_K},
    {14, TSR_DTYPE_Q6_K},    {15, TSR_DTYPE_Q8_K},   {16, TSR_DTYPE_IQ2_XXS}, {17, TSR_DTYPE_IQ2_XS},
    {18, TSR_DTYPE_IQ3_XXS}, {19, TSR_DTYPE_IQ1_S},  {20, TSR_DTYPE_IQ4_NL},  {21, TSR_DTYPE_IQ3_S},
    {22, TSR_DTYPE_IQ2_S},   {23, TSR_DTYPE_IQ4_XS}, {24, TSR_DTYPE_I8},      {25, TSR_DTYPE_I16},
    {26, TSR_DTYPE_I32},     {27, TSR_DTYPE_I64},    {28, TSR_DTYPE_F64},     {29, TSR_DTYPE_IQ1_M},
    {30, TSR_DTYPE_BF16},    {34, TSR_DTYPE_TQ1_0},  {35, TSR_DTYPE_TQ2_0},   {39, TSR_DTYPE_MXFP4},
    {40, TSR_DTYPE_NVFP4},   {41, TSR_DTYPE_Q1_0},
};
/* clang-format on */

enum tsr_dtype tsr_ggml_dtype(uint32_t number)
{
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        if (types[i].number == number) {
            return (enum tsr_dtype)types[i].dtype;
        }
    }
    return TSR_DTYPE_COUNT;
}
