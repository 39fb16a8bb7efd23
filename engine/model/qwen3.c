#include "build_priv.h"

/* Qwen 3, dense: Qwen 2's shape with a norm on each head of q and k in place of the biases.
 * Reference: transformers, models/qwen3/modeling_qwen3.py. */
int tsr_build_qwen3(struct tsr_builder *b)
{
    static const uint32_t head_dim = 128; /* Qwen3Config's, where it is left out */
    b->h.head_dim = head_dim;
    tsr_build_begin(b);
    tsr_build_expect_string(b, "hidden_act", "silu");
    const struct tsr_build_rope rope = {.theta = 10000.0};
    const enum tsr_bias bias = tsr_build_bias(b, "attention_bias");
    const struct tsr_build_attention attention = {
        .rotates = true,
        .rope = tsr_build_rope(b, &rope),
        .qkv_bias = bias,
        .o_bias = bias,
        .qk_norm = TSR_QK_NORM_HEAD,
    };
    return tsr_build_qwen_layers(b, &attention);
}
