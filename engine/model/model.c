#include <tsr/model/model.h>

#include "eos_priv.h"
#include "sampling_priv.h"

#include <tsr/model/source.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A GGUF's vocabulary may be shorter than the embedding (padding), never longer. */
static int check_vocabulary(const struct tsr_model *model, struct tsr_err *err)
{
    const struct tsr_gguf_array *tokens =
        model->gguf ? tsr_gguf_array(model->gguf, "tokenizer.ggml.tokens") : NULL;
    if (tokens && tsr_gguf_array_count(tokens) > model->program.vocab) {
        return tsr_err_set(err, -EINVAL,
                           "tokenizer.ggml.tokens lists %llu tokens, where the embedding has %u "
                           "rows",
                           (unsigned long long)tsr_gguf_array_count(tokens), model->program.vocab);
    }
    return 0;
}

static void set_name(struct tsr_model *model, const struct tsr_source *source, const char *path)
{
    const char *name = NULL;
    if (source->gguf && tsr_config_has(source->config, "name") &&
        tsr_config_string(source->config, "name", NULL, &name, NULL) == 0) {
        snprintf(model->name, sizeof model->name, "%s", name);
        return;
    }
    char *real = realpath(path, NULL);
    const char *last = strrchr(real ? real : path, '/');
    snprintf(model->name, sizeof model->name, "%s", last ? last + 1 : path);
    free(real);
}

int tsr_model_open(struct tsr_model *model, const char *path, struct tsr_err *err)
{
    memset(model, 0, sizeof *model);
    struct tsr_source *source = calloc(1, sizeof *source);
    model->path = strdup(path);
    model->priv = source;
    if (!source || !model->path) {
        tsr_model_close(model);
        return tsr_err_set(err, -ENOMEM, "%s: no memory", path);
    }
    int rc = tsr_source_open(source, path, err);
    if (rc < 0) {
        tsr_model_close(model);
        return rc;
    }
    model->gguf = source->gguf;
    model->file_bytes = source->file_bytes;
    rc = tsr_source_build(source, &model->program, err);
    if (rc == 0) {
        rc = check_vocabulary(model, err);
    }
    if (rc == 0) {
        rc = tsr_eos_read(model, source, err);
    }
    if (rc < 0) {
        tsr_err_prefix(err, "%s", path);
        tsr_model_close(model);
        return rc;
    }
    set_name(model, source, path);
    tsr_sampling_read(model, source);
    model->pooling = source->pooling;
    memcpy(model->pooling_refusal, source->pooling_refusal, sizeof model->pooling_refusal);
    return 0;
}

void tsr_model_drop_tensors(struct tsr_model *model)
{
    tsr_source_drop(model->priv);
}

void tsr_model_close(struct tsr_model *model)
{
    tsr_program_fini(&model->program);
    if (model->priv) {
        tsr_source_close(model->priv);
        free(model->priv);
    }
    free(model->path);
    memset(model, 0, sizeof *model);
}
