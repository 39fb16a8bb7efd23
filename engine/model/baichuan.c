#include "build_priv.h"

#include <errno.h>
#include <math.h>

/* Baichuan 1 and 2: Llama's shape with q, k and v in one matrix. The 7B models rotate, the 13B
 * models have ALiBi; the head of Baichuan 2 has its rows scaled to length 1. Reference: the models'
 * own modeling_baichuan.py. llama.cpp's converter permutes q and k as Llama's, in both sizes. */

enum { VOCAB_2 = 125696 }; /* Baichuan 2's; Baichuan 1 has 64,000 */
enum { LAYERS_13B = 40 };

/* Press, Smith and Lewis, "Train short, test long" (arXiv:2108.12409), and its authors' code for a
 * number of heads that is no power of two: the slopes of the next lower power, then every second
 * one of the next higher. */
static const float *alibi_slopes(struct tsr_builder *b)
{
    const uint32_t heads = b->h.heads;
    float *slopes = b->status < 0 ? NULL : tsr_program_alloc(b->program, heads * sizeof *slopes);
    if (!slopes) {
        b->status = b->status < 0 ? b->status : tsr_err_set(b->err, -ENOMEM, "no memory");
        return NULL;
    }
    uint32_t power = 1;
    while (2 * power <= heads) {
        power *= 2;
    }
    for (uint32_t h = 0; h < heads; h++) {
        double at = h < power ? h + 1.0 : h - power + 0.5;
        slopes[h] = (float)exp2(-8.0 * at / power);
    }
    return slopes;
}

int tsr_build_baichuan(struct tsr_builder *b)
{
    /* The configuration of the 13B models knows no max_position_embeddings: nothing is limited by
     * positions there. model_max_length says what they were trained with. */
    const bool has_alibi = !b->gguf && !tsr_config_has(b->config, "max_position_embeddings");
    if (has_alibi) {
        static const uint32_t context = 4096;
        b->status = tsr_config_u32(b->config, "model_max_length", 1, INT32_MAX, &context,
                                   &b->h.context, b->err);
    }
    tsr_build_begin(b);
    tsr_build_expect_string(b, "hidden_act", "silu");
    struct tsr_build_attention attention = {.packing = TSR_PACKING_PARTS, .pairs = b->gguf};
    b->names = TSR_NAMES_BAICHUAN;
    attention.rotates = b->gguf ? b->h.layers != LAYERS_13B : !has_alibi;
    if (attention.rotates) {
        attention.rope = tsr_build_rope(b, &(struct tsr_build_rope){.theta = 10000.0});
    } else {
        attention.slopes = alibi_slopes(b);
        tsr_build_u32(b, "rope_dims", 0); /* a GGUF states them all the same */
    }
    tsr_build_embed(b, 1.0f);
    for (uint32_t layer = 0; layer < b->h.layers && b->status == 0; layer++) {
        tsr_build_attention(b, layer, &attention);
        tsr_build_ffn(b, layer, &(struct tsr_build_ffn){.act = TSR_ACT_SILU});
    }
    const bool is_2 = b->h.vocab == VOCAB_2 || tsr_config_has(b->config, "z_loss_weight");
    return tsr_build_end(b, &(struct tsr_build_head){.unit = is_2});
}
