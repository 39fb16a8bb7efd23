#include "build_priv.h"

/* Phi-3, 3.5 and 4: Llama's shape with q, k, v and gate, up each in one matrix; perhaps only a part
 * of each head is turned, perhaps by longrope. Reference: transformers,
 * models/phi3/modeling_phi3.py. */
int tsr_build_phi3(struct tsr_builder *b)
{
    tsr_build_begin(b);
    tsr_build_expect_string(b, "hidden_act", "silu");
    const struct tsr_build_rope rope = {
        .theta = 10000.0,
        .partial = true,
        .yarn_is_longrope = true,
        .original = 4096.0, /* Phi3Config's, where it is left out */
    };
    const struct tsr_build_attention attention = {
        .rotates = true,
        .rope = tsr_build_rope(b, &rope),
        .packing = TSR_PACKING_PARTS,
        .window = tsr_build_u32(b, "sliding_window", 0),
    };
    const struct tsr_build_ffn ffn = {.packed = true, .act = TSR_ACT_SILU};
    tsr_build_embed(b, 1.0f);
    for (uint32_t layer = 0; layer < b->h.layers && b->status == 0; layer++) {
        tsr_build_attention(b, layer, &attention);
        tsr_build_ffn(b, layer, &ffn);
    }
    return tsr_build_end(b, &(struct tsr_build_head){0});
}
