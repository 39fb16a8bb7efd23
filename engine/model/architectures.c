#include <tsr/model/source.h>

#include "build_priv.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* Every architecture: the name that config.json's model_type and GGUF's general.architecture give
 * it. */
static const struct {
    const char *name;
    int (*build)(struct tsr_builder *b);
} architectures[] = {
    {"llama", tsr_build_llama},
    {"qwen2", tsr_build_qwen2},
};
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
    };
    char known[256] = "";
    if (source->tensors->n == 0) {
        return tsr_err_set(err, -EINVAL, "holds metadata only, no tensors");
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
