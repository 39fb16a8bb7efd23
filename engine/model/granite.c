#include "build_priv.h"

/* Granite 3, dense: Llama's shape with four factors, on the embedding, on q.k, on what a block adds
 * and on the logits. Reference: transformers, models/granite/modeling_granite.py. llama.cpp's
 * converter permutes q and k as Llama's, and its key says whether they are rotated at all. */
int tsr_build_granite(struct tsr_builder *b)
{
    tsr_build_begin(b);
    tsr_build_expect_string(b, "hidden_act", "silu");
    tsr_build_expect_absent(b, "num_local_experts");
    if (b->gguf) {
        tsr_build_expect_bool(b, "rope_scaling.finetuned", true);
    }
    const struct tsr_build_rope rope = {.theta = 10000.0};
    const enum tsr_bias bias = tsr_build_bias(b, "attention_bias");
    const float residual = tsr_build_float(b, "residual_multiplier", 1.0);
    /* a GGUF without a scale has the usual one */
    const float scale = b->gguf && !tsr_config_has(b->config, "attention_multiplier")
                            ? 0.0f
                            : tsr_build_float(b, "attention_multiplier", 1.0);
    const struct tsr_build_attention attention = {
        .rotates = true,
        .rope = tsr_build_rope(b, &rope),
        .qkv_bias = bias,
        .o_bias = bias,
        .pairs = b->gguf,
        .scale = scale,
        .residual = residual,
    };
    const struct tsr_build_ffn ffn = {
        .bias = tsr_build_bias(b, "mlp_bias"), .act = TSR_ACT_SILU, .residual = residual};
    tsr_build_embed(b, tsr_build_float(b, "embedding_multiplier", 1.0));
    for (uint32_t layer = 0; layer < b->h.layers && b->status == 0; layer++) {
        tsr_build_attention(b, layer, &attention);
        tsr_build_ffn(b, layer, &ffn);
    }
    const struct tsr_build_head head = {.scale = 1.0f / tsr_build_float(b, "logits_scaling", 1.0)};
    return tsr_build_end(b, &head);
}
