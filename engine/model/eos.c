#include "eos_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { TOKEN_TYPE_CONTROL = 3 }; /* in tokenizer.ggml.token_type */

/* A GGUF has room for one end of text, while chat models end a turn with one token and a document
 * with another: control tokens of these names end a text too, as they do for llama.cpp. */
static const char *const end_names[] = {
    "<|endoftext|>", "<|end_of_text|>", "<|im_end|>",    "<|eot_id|>", "<|eom_id|>",
    "<|end|>",       "<|return|>",      "<end_of_turn>", "<|eot|>",    "<EOT>",
};

static int add(struct tsr_model *model, uint32_t id, const char *from, struct tsr_err *err)
{
    if (id >= model->program.vocab) {
        return tsr_err_set(err, -EINVAL, "%s is %u, beyond the vocabulary of %u", from, id,
                           model->program.vocab);
    }
    for (uint32_t i = 0; i < model->n_eos; i++) {
        if (model->eos[i] == id) {
            return 0;
        }
    }
    if (model->n_eos == TSR_MODEL_EOS_MAX) {
        return tsr_err_set(err, -E2BIG, "more than %d tokens end a text", TSR_MODEL_EOS_MAX);
    }
    model->eos[model->n_eos++] = id;
    return 0;
}

static int add_key(struct tsr_model *model, const struct tsr_config *config, const char *key,
                   struct tsr_err *err)
{
    uint32_t ids[TSR_MODEL_EOS_MAX];
    int count = tsr_config_tokens(config, key, ids, TSR_MODEL_EOS_MAX, err);
    int rc = count < 0 ? count : 0;
    for (int i = 0; i < count && rc == 0; i++) {
        rc = add(model, ids[i], key, err);
    }
    return rc;
}

static int add_named(struct tsr_model *model, struct tsr_err *err)
{
    const struct tsr_gguf_array *tokens = tsr_gguf_array(model->gguf, "tokenizer.ggml.tokens");
    const struct tsr_gguf_array *types = tsr_gguf_array(model->gguf, "tokenizer.ggml.token_type");
    uint64_t count = tokens && types ? tsr_gguf_array_count(tokens) : 0;
    for (uint64_t i = 0; i < count; i++) {
        if (tsr_gguf_array_int(types, i) != TOKEN_TYPE_CONTROL) {
            continue;
        }
        struct tsr_gguf_string token = tsr_gguf_array_string(tokens, i);
        for (size_t j = 0; j < sizeof end_names / sizeof *end_names; j++) {
            if (token.size == strlen(end_names[j]) &&
                memcmp(token.data, end_names[j], token.size) == 0) {
                int rc = add(model, (uint32_t)i, end_names[j], err);
                if (rc < 0) {
                    return rc;
                }
            }
        }
    }
    return 0;
}

static int compare_ids(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

int tsr_eos_read(struct tsr_model *model, const struct tsr_source *source, struct tsr_err *err)
{
    static const char *const keys[] = {"eos_token_id", "eot_token_id", "eom_token_id"};
    int rc = 0;
    for (size_t i = 0; i < sizeof keys / sizeof *keys && rc == 0; i++) {
        rc = add_key(model, source->config, keys[i], err);
    }
    if (rc == 0 && source->generation) {
        rc = add_key(model, source->generation, "eos_token_id", err);
    }
    if (rc == 0 && source->gguf) {
        rc = add_named(model, err);
    }
    if (rc < 0) {
        return rc;
    }
    qsort(model->eos, model->n_eos, sizeof *model->eos, compare_ids);
    uint32_t bos;
    int count = tsr_config_tokens(source->config, "bos_token_id", &bos, 1, err);
    if (count < 0) {
        return count;
    }
    model->bos = count == 1 && bos < model->program.vocab ? bos : TSR_MODEL_NO_TOKEN;
    return 0;
}
