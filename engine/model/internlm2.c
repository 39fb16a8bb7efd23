#include "build_priv.h"

/* InternLM 2 and 2.5: Llama's shape; q, k and v lie in one matrix by KV head. Reference: the
 * model's own modeling_internlm2.py (InternLM2Attention), which transformers runs. llama.cpp's
 * converter takes them apart and permutes q and k as Llama's. */
int tsr_build_internlm2(struct tsr_builder *b)
{
    b->names = TSR_NAMES_INTERNLM2;
    tsr_build_begin(b);
    tsr_build_expect_string(b, "hidden_act", "silu");
    const struct tsr_build_rope rope = {.theta = 10000.0};
    const enum tsr_bias bias = tsr_build_bias(b, "bias");
    const struct tsr_build_attention attention = {
        .rotates = true,
        .rope = tsr_build_rope(b, &rope),
        .packing = TSR_PACKING_GROUPS,
        .pairs = b->gguf,
        .qkv_bias = bias,
        .o_bias = bias,
    };
    tsr_build_embed(b, 1.0f);
    for (uint32_t layer = 0; layer < b->h.layers && b->status == 0; layer++) {
        tsr_build_attention(b, layer, &attention);
        tsr_build_ffn(b, layer, &(struct tsr_build_ffn){.act = TSR_ACT_SILU});
    }
    return tsr_build_end(b, &(struct tsr_build_head){0});
}
