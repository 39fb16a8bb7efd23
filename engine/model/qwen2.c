#include "build_priv.h"

/* Qwen 1.5, 2 and 2.5: Llama's shape with biases on q, k and v. Reference: transformers,
 * models/qwen2/modeling_qwen2.py. llama.cpp's converter keeps the order of rows. */
int tsr_build_qwen2(struct tsr_builder *b)
{
    tsr_build_begin(b);
    tsr_build_expect_string(b, "hidden_act", "silu");
    tsr_build_expect_bool(b, "use_sliding_window", false); /* sliding_window is unused without it */
    const struct tsr_build_attention how = {
        .rope = tsr_build_rope(b),
        .qkv_bias = TSR_BIAS_REQUIRED,
        .o_bias = TSR_BIAS_NONE,
    };
    tsr_build_embed(b, 1.0f);
    for (uint32_t layer = 0; layer < b->h.layers && b->status == 0; layer++) {
        tsr_build_attention(b, layer, &how);
        tsr_build_ffn(b, layer, TSR_BIAS_NONE);
    }
    return tsr_build_end(b);
}
