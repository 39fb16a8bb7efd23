#include "build_priv.h"

#include <math.h>
#include <string.h>

/* Gemma: Llama's shape with scaled embeddings, norms by 1 + w, and GELU. Gemma 2 and 3 also norm
 * what a block adds, and have layers with a window between full ones. Reference: transformers,
 * models/gemma/modeling_gemma.py and so on. llama.cpp's converter adds the 1 and keeps the order of
 * rows. */

/* What a config.json may leave out: the values of Gemma2Config and Gemma3TextConfig. */
static const struct tsr_hparams common = {.hidden = 2304,
                                          .layers = 26,
                                          .ffn = 9216,
                                          .heads = 8,
                                          .kv_heads = 4,
                                          .head_dim = 256,
                                          .eps = 1e-6f};
enum { WINDOW = 4096, VOCAB_2 = 256000, VOCAB_3 = 262208, CONTEXT_2 = 8192, CONTEXT_3 = 131072 };
enum { PATTERN_2 = 2, PATTERN_3 = 6 }; /* every such layer is full */

struct gemma {
    const uint8_t *slides;
    uint32_t window;
    float scale, logit_cap;
};

static void begin(struct tsr_builder *b)
{
    b->tied = true;
    b->norm_offset = b->gguf ? 0.0f : 1.0f;
    tsr_build_begin(b);
    tsr_build_expect_string(b, "hidden_activation", "gelu_pytorch_tanh");
    tsr_build_expect_bool(b, "use_bidirectional_attention", false);
}

/* Layers that layer_types does not name slide but for each `pattern`th. */
static const uint8_t *sliding_layers(struct tsr_builder *b, uint32_t pattern)
{
    bool stated;
    uint8_t *slides = tsr_build_layer_types(b, &stated);
    if (b->status < 0 || stated) {
        return slides;
    }
    if (b->gguf) { /* a number, or a list of flags */
        int rc = tsr_config_choices(b->config, "sliding_window_pattern", NULL, 2, slides,
                                    b->h.layers, NULL);
        if (rc > 0) {
            return slides;
        }
    }
    pattern = tsr_build_u32(b, "sliding_window_pattern", pattern);
    for (uint32_t layer = 0; layer < b->h.layers; layer++) {
        slides[layer] = pattern == 0 || (layer + 1) % pattern != 0;
    }
    return slides;
}

/* 1 / sqrt(query_pre_attn_scalar). A GGUF need not carry the scale; as llama.cpp we know that the
 * scalar is the head's dimension but in the largest model, which its number of layers tells. */
static float attention_scale(struct tsr_builder *b, uint32_t layers_27b)
{
    if (!b->gguf) {
        return 1.0f / sqrtf(tsr_build_float(b, "query_pre_attn_scalar", 256.0));
    }
    if (tsr_config_has(b->config, "attention_multiplier")) {
        return tsr_build_float(b, "attention_multiplier", 1.0);
    }
    uint32_t scalar = b->h.layers == layers_27b ? b->h.hidden / b->h.heads : b->h.head_dim;
    return 1.0f / sqrtf((float)scalar);
}

static uint32_t window(struct tsr_builder *b)
{
    const bool has_none = tsr_config_is_null(b->config, "sliding_window");
    return tsr_build_u32(b, "sliding_window", has_none ? 0 : WINDOW);
}

static void layers(struct tsr_builder *b, const struct gemma *g,
                   struct tsr_build_attention *attention, const uint32_t ropes[2])
{
    const enum tsr_bias bias = tsr_build_bias(b, "attention_bias");
    attention->rotates = true;
    attention->qkv_bias = bias;
    attention->o_bias = bias;
    attention->scale = g->scale;
    tsr_build_embed(b, sqrtf((float)b->h.hidden));
    for (uint32_t layer = 0; layer < b->h.layers && b->status == 0; layer++) {
        attention->window = tsr_build_window(b, g->slides[layer], g->window);
        attention->rope = ropes[g->slides[layer]];
        tsr_build_attention(b, layer, attention);
        tsr_build_ffn(b, layer, &(struct tsr_build_ffn){.act = TSR_ACT_GELU_TANH});
    }
}

int tsr_build_gemma(struct tsr_builder *b)
{
    bool stated;
    const char *act = "gelu"; /* of early files; it means the other, for transformers too */
    b->h = (struct tsr_hparams){.head_dim = 256, .eps = 1e-6f}; /* GemmaConfig's */
    begin(b);
    const struct gemma g = {.slides = tsr_build_layer_types(b, &stated)};
    if (b->status == 0) {
        b->status = tsr_config_string(b->config, "hidden_act", act, &act, b->err);
    }
    if (b->status == 0 && strcmp(act, "gelu") != 0) {
        tsr_build_expect_string(b, "hidden_act", "gelu_pytorch_tanh");
    }
    struct tsr_build_attention attention = {0};
    const uint32_t rope = tsr_build_rope(b, &(struct tsr_build_rope){.theta = 10000.0});
    layers(b, &g, &attention, (const uint32_t[]){rope, rope});
    return tsr_build_end(b, &(struct tsr_build_head){0});
}

int tsr_build_gemma2(struct tsr_builder *b)
{
    enum { LAYERS_27B = 46 };
    b->post_norm = true;
    b->h = common;
    b->h.vocab = VOCAB_2;
    b->h.context = CONTEXT_2;
    begin(b);
    const struct gemma g = {.slides = sliding_layers(b, PATTERN_2),
                            .window = window(b),
                            .scale = attention_scale(b, LAYERS_27B),
                            .logit_cap = tsr_build_cap(b, "final_logit_softcapping", 30.0)};
    struct tsr_build_attention attention = {.softcap =
                                                tsr_build_cap(b, "attn_logit_softcapping", 50.0)};
    const uint32_t rope = tsr_build_rope(b, &(struct tsr_build_rope){.theta = 10000.0});
    layers(b, &g, &attention, (const uint32_t[]){rope, rope});
    return tsr_build_end(b, &(struct tsr_build_head){.softcap = g.logit_cap});
}

int tsr_build_gemma3(struct tsr_builder *b)
{
    enum { LAYERS_27B = 62 };
    b->has_images = tsr_config_has(b->config, "text_config");
    b->post_norm = true;
    b->h = common;
    b->h.vocab = VOCAB_3;
    b->h.context = CONTEXT_3;
    begin(b);
    /* a GGUF without a window has no layer that slides */
    const bool slides = !b->gguf || tsr_config_has(b->config, "sliding_window");
    const struct gemma g = {.slides = sliding_layers(b, slides ? PATTERN_3 : 1),
                            .window = window(b),
                            .scale = attention_scale(b, LAYERS_27B),
                            .logit_cap = tsr_build_cap(b, "final_logit_softcapping", 0.0)};
    struct tsr_build_attention attention = {.qk_norm = TSR_QK_NORM_HEAD};
    const struct tsr_build_rope full = {.theta = 1000000.0, .layer_type = "full_attention"};
    const struct tsr_build_rope sliding = {.theta = 10000.0,
                                           .theta_key = "rope_local_base_freq",
                                           .layer_type = "sliding_attention",
                                           .unscaled = true};
    const uint32_t ropes[] = {tsr_build_rope(b, &full), tsr_build_rope(b, &sliding)};
    layers(b, &g, &attention, ropes);
    return tsr_build_end(b, &(struct tsr_build_head){.softcap = g.logit_cap});
}
