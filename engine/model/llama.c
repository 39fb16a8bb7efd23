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
    enum tsr_bias attention = TSR_BIAS_OPTIONAL, ffn = TSR_BIAS_OPTIONAL;
    if (!b->gguf) {
        attention = tsr_build_bool(b, "attention_bias", false) ? TSR_BIAS_REQUIRED : TSR_BIAS_NONE;
        ffn = tsr_build_bool(b, "mlp_bias", false) ? TSR_BIAS_REQUIRED : TSR_BIAS_NONE;
    }
    const struct tsr_build_attention how = {
        .rope = tsr_build_rope(b),
        .qkv_bias = attention,
        .o_bias = attention,
        .head_order = b->gguf ? b->h.head_dim : 0,
    };
    tsr_build_embed(b, 1.0f);
    for (uint32_t layer = 0; layer < b->h.layers && b->status == 0; layer++) {
        tsr_build_attention(b, layer, &how);
        tsr_build_ffn(b, layer, ffn);
    }
    return tsr_build_end(b);
}
