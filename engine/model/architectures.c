#include <tsr/model/source.h>

#include "build_priv.h"

#include "fp8_priv.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* Every architecture: the name that config.json's model_type and GGUF's general.architecture give
 * it. */
/* clang-format off */
static const struct {
    const char *name;
    int (*build)(struct tsr_builder *b);
} architectures[] = {
    {"baichuan", tsr_build_baichuan},
    {"gemma", tsr_build_gemma},
    {"gemma2", tsr_build_gemma2},
    {"gemma3", tsr_build_gemma3},
    {"gemma3_text", tsr_build_gemma3},
    {"granite", tsr_build_granite},
    {"internlm2", tsr_build_internlm2},
    {"llama", tsr_build_llama},
    {"mistral", tsr_build_mistral},
    {"mistral3", tsr_build_mistral},
    {"olmo2", tsr_build_olmo2},
    {"phi3", tsr_build_phi3},
    {"qwen2", tsr_build_qwen2},
    {"qwen3", tsr_build_qwen3},
    {"smollm3", tsr_build_smollm3},
};
/* clang-format on */
enum { ARCHITECTURES = sizeof architectures / sizeof *architectures };

int tsr_source_build(const struct tsr_source *source, struct tsr_program *program,
                     struct tsr_err *err)
{
    const char *name = tsr_config_architecture(source->config);
    struct tsr_builder builder = {
        .program = program,
        .config = source->config,
        .tensors = source->tensors,
        .err = err,
        .gguf = tsr_config_is_gguf(source->config),
    };
    char known[256] = "";
    if (source->tensors->n == 0) {
        return tsr_err_set(err, -EINVAL, "holds metadata only, no tensors");
    }
    int rc = tsr_fp8_read(source->config, source->tensors, err);
    if (rc < 0) {
        return rc;
    }
    for (size_t i = 0; i < ARCHITECTURES; i++) {
        if (strcmp(architectures[i].name, name) == 0) {
            return architectures[i].build(&builder);
        }
        size_t at = strlen(known);
        snprintf(known + at, sizeof known - at, "%s%s", i ? ", " : "", architectures[i].name);
    }
    return tsr_err_set(err, -ENOTSUP, "the architecture '%s' is not supported; these are: %s", name,
                       known);
}
