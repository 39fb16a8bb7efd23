#include "build_priv.h"

/* Mistral 7B, Nemo, Small and the like: Llama's shape, all layers with the same sliding window, or
 * without one; Small 3.1 and later are the text part of a model with images ("mistral3").
 * Reference: transformers, models/mistral/modeling_mistral.py. In a GGUF they are "llama", or
 * "mistral3", and carry no window; q and k are permuted as Llama's. */
int tsr_build_mistral(struct tsr_builder *b)
{
    static const uint32_t kv_heads = 8, window = 4096; /* MistralConfig's, for what is left out */
    b->h.kv_heads = kv_heads;
    b->has_images = tsr_config_has(b->config, "text_config");
    tsr_build_begin(b);
    if (b->has_images) {
        tsr_build_expect_string(b, "text_config.model_type", "mistral");
    }
    tsr_build_expect_string(b, "hidden_act", "silu");
    const struct tsr_build_rope rope = {.theta = 10000.0};
    const bool has_none = b->gguf || tsr_config_is_null(b->config, "sliding_window");
    const struct tsr_build_attention attention = {
        .rotates = true,
        .rope = tsr_build_rope(b, &rope),
        .pairs = b->gguf,
        .window = tsr_build_u32(b, "sliding_window", has_none ? 0 : window),
    };
    tsr_build_embed(b, 1.0f);
    for (uint32_t layer = 0; layer < b->h.layers && b->status == 0; layer++) {
        tsr_build_attention(b, layer, &attention);
        tsr_build_ffn(b, layer, &(struct tsr_build_ffn){.act = TSR_ACT_SILU});
    }
    return tsr_build_end(b, &(struct tsr_build_head){0});
}
