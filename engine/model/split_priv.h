/* A GGUF in several files. */
#ifndef TSR_MODEL_SPLIT_PRIV_H
#define TSR_MODEL_SPLIT_PRIV_H

#include <tsr/model/source.h>

/* Where source->gguf, opened from path, is a part of a model: opens the others beside it and puts
 * all tensors into source->own; source->gguf becomes the first part, which has the metadata.
 * -EINVAL where parts do not belong together, -ENOENT where one is missing, -E2BIG, -ENOMEM; source
 * is to be closed then. */
int tsr_split_open(struct tsr_source *source, const char *path, struct tsr_err *err);

#endif
