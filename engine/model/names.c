#include "build_priv.h"

#include <stdio.h>
#include <string.h>

/* How transformers' modules, InternLM 2's and llama.cpp (gguf-py's constants.py) name the same
 * tensors. */
/* clang-format off */
static const struct {
    const char *hf, *internlm2, *gguf;
    bool in_layer;
} names[TSR_ROLE_COUNT] = {
    [TSR_ROLE_EMBED]         = {"embed_tokens",               "tok_embeddings",  "token_embd",          false},
    [TSR_ROLE_FINAL_NORM]    = {"norm",                       "norm",            "output_norm",         false},
    [TSR_ROLE_HEAD]          = {"lm_head",                    "output",          "output",              false},
    [TSR_ROLE_ATTN_NORM]     = {"input_layernorm",            "attention_norm",  "attn_norm",           true},
    [TSR_ROLE_Q]             = {"self_attn.q_proj",           "",                "attn_q",              true},
    [TSR_ROLE_K]             = {"self_attn.k_proj",           "",                "attn_k",              true},
    [TSR_ROLE_V]             = {"self_attn.v_proj",           "",                "attn_v",              true},
    [TSR_ROLE_QKV]           = {"self_attn.qkv_proj",         "attention.wqkv",  "attn_qkv",            true},
    [TSR_ROLE_Q_NORM]        = {"self_attn.q_norm",           "",                "attn_q_norm",         true},
    [TSR_ROLE_K_NORM]        = {"self_attn.k_norm",           "",                "attn_k_norm",         true},
    [TSR_ROLE_O]             = {"self_attn.o_proj",           "attention.wo",    "attn_output",         true},
    [TSR_ROLE_ATTN_POST]     = {"post_attention_layernorm",   "",                "post_attention_norm", true},
    [TSR_ROLE_FFN_NORM]      = {"post_attention_layernorm",   "ffn_norm",        "ffn_norm",            true},
    [TSR_ROLE_GATE]          = {"mlp.gate_proj",              "feed_forward.w1", "ffn_gate",            true},
    [TSR_ROLE_UP]            = {"mlp.up_proj",                "feed_forward.w3", "ffn_up",              true},
    [TSR_ROLE_GATE_UP]       = {"mlp.gate_up_proj",           "",                "ffn_up",              true},
    [TSR_ROLE_DOWN]          = {"mlp.down_proj",              "feed_forward.w2", "ffn_down",            true},
    [TSR_ROLE_FFN_POST]      = {"post_feedforward_layernorm", "",                "post_ffw_norm",       true},
};
/* clang-format on */

static const char *stem(const struct tsr_builder *b, enum tsr_role role)
{
    if (b->gguf) {
        return names[role].gguf;
    }
    if (b->names == TSR_NAMES_INTERNLM2) {
        return names[role].internlm2;
    }
    if (b->names == TSR_NAMES_BAICHUAN && role == TSR_ROLE_QKV) {
        return "self_attn.W_pack";
    }
    /* with norms before and after it, a block has two names for what is else one */
    return role == TSR_ROLE_FFN_NORM && b->post_norm ? "pre_feedforward_layernorm" : names[role].hf;
}

void tsr_role_name(const struct tsr_builder *b, enum tsr_role role, uint32_t layer,
                   const char *suffix, char name[static TSR_TENSOR_NAME_SIZE])
{
    const char *model = b->gguf ? "" : b->model_prefix;
    if (names[role].in_layer) {
        snprintf(name, TSR_TENSOR_NAME_SIZE, "%s%s.%u.%s%s", model, b->gguf ? "blk" : "layers",
                 layer, stem(b, role), suffix);
    } else if (role == TSR_ROLE_HEAD && !b->gguf) {
        snprintf(name, TSR_TENSOR_NAME_SIZE, "%s%s%s", b->head_prefix, stem(b, role), suffix);
    } else {
        snprintf(name, TSR_TENSOR_NAME_SIZE, "%s%s%s", model, stem(b, role), suffix);
    }
}

static bool begins(const char *name, const char *prefix)
{
    return strncmp(name, prefix, strlen(prefix)) == 0;
}

bool tsr_name_is_spare(const struct tsr_builder *b, const char *name)
{
    /* Old checkpoints keep the rotary frequencies, which follow from the configuration. */
    static const char inv_freq[] = "rotary_emb.inv_freq";
    size_t size = strlen(name), end = sizeof inv_freq - 1;
    if (size >= end && strcmp(name + size - end, inv_freq) == 0) {
        return true;
    }
    return b->has_images &&
           (begins(name, "vision_tower.") || begins(name, "model.vision_tower.") ||
            begins(name, "multi_modal_projector.") || begins(name, "model.multi_modal_projector."));
}
