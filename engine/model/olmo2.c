#include "build_priv.h"

/* OLMo 2: no norms before the blocks but on what they add, and on all of q and all of k. Reference:
 * transformers, models/olmo2/modeling_olmo2.py. llama.cpp's converter keeps the order of rows. */
int tsr_build_olmo2(struct tsr_builder *b)
{
    b->no_pre_norm = true;
    b->post_norm = true;
    tsr_build_begin(b);
    tsr_build_expect_string(b, "hidden_act", "silu");
    const struct tsr_build_rope rope = {.theta = 10000.0};
    const enum tsr_bias bias = tsr_build_bias(b, "attention_bias");
    const struct tsr_build_attention attention = {
        .rotates = true,
        .rope = tsr_build_rope(b, &rope),
        .qkv_bias = bias,
        .o_bias = bias,
        .qk_norm = TSR_QK_NORM_ALL,
    };
    tsr_build_embed(b, 1.0f);
    for (uint32_t layer = 0; layer < b->h.layers && b->status == 0; layer++) {
        tsr_build_attention(b, layer, &attention);
        tsr_build_ffn(b, layer, &(struct tsr_build_ffn){.act = TSR_ACT_SILU});
    }
    return tsr_build_end(b, &(struct tsr_build_head){0});
}
