#include "build_priv.h"

int tsr_build_qwen_layers(struct tsr_builder *b, const struct tsr_build_attention *how)
{
    enum { WINDOW = 4096, FIRST = 28 }; /* Qwen2Config's, for what is left out */
    bool stated;
    struct tsr_build_attention attention = *how;
    uint8_t *slides = tsr_build_layer_types(b, &stated);
    const bool has_none = tsr_config_is_null(b->config, "sliding_window");
    const uint32_t first = tsr_build_u32(b, "max_window_layers", FIRST);
    uint32_t window = 0;
    if (tsr_build_bool(b, "use_sliding_window", false) && !has_none) {
        window = tsr_build_u32(b, "sliding_window", WINDOW);
    }
    tsr_build_embed(b, 1.0f);
    for (uint32_t layer = 0; layer < b->h.layers && b->status == 0; layer++) {
        const bool is_upper = window && !stated && layer >= first;
        attention.window = tsr_build_window(b, is_upper || slides[layer], window);
        tsr_build_attention(b, layer, &attention);
        tsr_build_ffn(b, layer, &(struct tsr_build_ffn){.act = TSR_ACT_SILU});
    }
    return tsr_build_end(b, &(struct tsr_build_head){0});
}

/* Qwen 1.5, 2 and 2.5: Llama's shape with biases on q, k and v, and windows in the upper layers
 * where they are asked for. Reference: transformers, models/qwen2/modeling_qwen2.py. llama.cpp's
 * converter keeps the order of rows, and no window. */
int tsr_build_qwen2(struct tsr_builder *b)
{
    tsr_build_begin(b);
    tsr_build_expect_string(b, "hidden_act", "silu");
    const struct tsr_build_rope rope = {.theta = 10000.0};
    const struct tsr_build_attention attention = {
        .rotates = true,
        .rope = tsr_build_rope(b, &rope),
        .qkv_bias = TSR_BIAS_REQUIRED,
    };
    return tsr_build_qwen_layers(b, &attention);
}
