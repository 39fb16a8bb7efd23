#include "build_priv.h"

#include <errno.h>

/* SmolLM 3: Llama's shape; some layers are not rotated, and those have the window where there is
 * one. Reference: transformers, models/smollm3/modeling_smollm3.py. llama.cpp's converter permutes
 * q and k as Llama's and does not carry which layers rotate: every fourth does not. */

enum { INTERVAL = 4, KV_HEADS = 4 }; /* SmolLM3Config's, for what is left out */

/* Whether each layer is rotated; NULL after a failure. */
static const uint8_t *rotating_layers(struct tsr_builder *b)
{
    uint8_t *rotates = b->status < 0 ? NULL : tsr_program_alloc(b->program, b->h.layers);
    if (!rotates) {
        b->status = b->status < 0 ? b->status : tsr_err_set(b->err, -ENOMEM, "no memory");
        return NULL;
    }
    int rc = tsr_config_choices(b->config, "no_rope_layers", NULL, 2, rotates, b->h.layers, b->err);
    b->status = rc < 0 ? rc : 0;
    const uint32_t interval = tsr_build_u32(b, "no_rope_layer_interval", INTERVAL);
    if (rc == 0 && interval == 0) {
        b->status = tsr_err_set(b->err, -EINVAL, "no_rope_layer_interval is 0");
    }
    for (uint32_t layer = 0; rc == 0 && b->status == 0 && layer < b->h.layers; layer++) {
        rotates[layer] = (layer + 1) % interval != 0;
    }
    return b->status < 0 ? NULL : rotates;
}

int tsr_build_smollm3(struct tsr_builder *b)
{
    b->tied = true;
    b->h.kv_heads = KV_HEADS;
    tsr_build_begin(b);
    tsr_build_expect_string(b, "hidden_act", "silu");
    const struct tsr_build_rope rope = {.theta = 2000000.0};
    const enum tsr_bias bias = tsr_build_bias(b, "attention_bias");
    struct tsr_build_attention attention = {
        .rope = tsr_build_rope(b, &rope),
        .qkv_bias = bias,
        .o_bias = bias,
        .pairs = b->gguf,
    };
    const struct tsr_build_ffn ffn = {.bias = tsr_build_bias(b, "mlp_bias"), .act = TSR_ACT_SILU};
    bool stated;
    const uint8_t *rotates = rotating_layers(b), *slides = tsr_build_layer_types(b, &stated);
    const uint32_t window =
        tsr_build_bool(b, "use_sliding_window", false) ? tsr_build_u32(b, "sliding_window", 0) : 0;
    tsr_build_embed(b, 1.0f);
    for (uint32_t layer = 0; layer < b->h.layers && b->status == 0; layer++) {
        attention.rotates = rotates[layer];
        attention.window = stated           ? tsr_build_window(b, slides[layer], window)
                           : rotates[layer] ? 0
                                            : window;
        tsr_build_attention(b, layer, &attention);
        tsr_build_ffn(b, layer, &ffn);
    }
    return tsr_build_end(b, &(struct tsr_build_head){0});
}
