#include "build_priv.h"

/* Llama 1 to 3.x and what shares its shape (SmolLM2, TinyLlama, Yi ...): pre-norm, rotary attention
 * with grouped queries, gated SiLU feed-forward. Reference: transformers,
 * models/llama/modeling_llama.py.
 *
 * llama.cpp's converter permutes the rows of q and k, and their biases, into rotary pairs; a GGUF
 * does not say whether there are biases, the tensors do. */
int tsr_build_llama(struct tsr_builder *b)
{
    tsr_build_begin(b);
    tsr_build_expect_string(b, "hidden_act", "silu");
    tsr_build_expect_absent(b, "num_local_experts");
    const struct tsr_build_rope rope = {.theta = 10000.0};
    const enum tsr_bias bias = tsr_build_bias(b, "attention_bias");
    const struct tsr_build_attention attention = {
        .rotates = true,
        .rope = tsr_build_rope(b, &rope),
        .qkv_bias = bias,
        .o_bias = bias,
        .pairs = b->gguf,
    };
    const struct tsr_build_ffn ffn = {.bias = tsr_build_bias(b, "mlp_bias"), .act = TSR_ACT_SILU};
    tsr_build_embed(b, 1.0f);
    for (uint32_t layer = 0; layer < b->h.layers && b->status == 0; layer++) {
        tsr_build_attention(b, layer, &attention);
        tsr_build_ffn(b, layer, &ffn);
    }
    return tsr_build_end(b, &(struct tsr_build_head){0});
}
