#include "build_priv.h"

#include <stdio.h>
#include <string.h>

/* How Hugging Face (transformers' modules) and llama.cpp (gguf-py's constants.py) name the same
 * tensors. */
/* clang-format off */
static const struct {
    const char *hf, *gguf;
    bool in_layer;
} names[TSR_ROLE_COUNT] = {
    [TSR_ROLE_EMBED]      = {"model.embed_tokens",       "token_embd",  false},
    [TSR_ROLE_FINAL_NORM] = {"model.norm",               "output_norm", false},
    [TSR_ROLE_HEAD]       = {"lm_head",                  "output",      false},
    [TSR_ROLE_ATTN_NORM]  = {"input_layernorm",          "attn_norm",   true},
    [TSR_ROLE_Q]          = {"self_attn.q_proj",         "attn_q",      true},
    [TSR_ROLE_K]          = {"self_attn.k_proj",         "attn_k",      true},
    [TSR_ROLE_V]          = {"self_attn.v_proj",         "attn_v",      true},
    [TSR_ROLE_O]          = {"self_attn.o_proj",         "attn_output", true},
    [TSR_ROLE_FFN_NORM]   = {"post_attention_layernorm", "ffn_norm",    true},
    [TSR_ROLE_GATE]       = {"mlp.gate_proj",            "ffn_gate",    true},
    [TSR_ROLE_UP]         = {"mlp.up_proj",              "ffn_up",      true},
    [TSR_ROLE_DOWN]       = {"mlp.down_proj",            "ffn_down",    true},
};
/* clang-format on */

void tsr_role_name(enum tsr_role role, bool gguf, uint32_t layer, const char *suffix,
                   char name[static TSR_TENSOR_NAME_SIZE])
{
    const char *stem = gguf ? names[role].gguf : names[role].hf;
    if (names[role].in_layer) {
        snprintf(name, TSR_TENSOR_NAME_SIZE, "%s.%u.%s%s", gguf ? "blk" : "model.layers", layer,
                 stem, suffix);
    } else {
        snprintf(name, TSR_TENSOR_NAME_SIZE, "%s%s", stem, suffix);
    }
}

bool tsr_name_is_derived(const char *name)
{
    /* Old checkpoints keep the rotary frequencies, which follow from the configuration. */
    static const char inv_freq[] = "rotary_emb.inv_freq";
    size_t size = strlen(name), end = sizeof inv_freq - 1;
    return size >= end && strcmp(name + size - end, inv_freq) == 0;
}
