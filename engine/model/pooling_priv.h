/* How a model's embeddings are pooled. */
#ifndef TSR_MODEL_POOLING_PRIV_H
#define TSR_MODEL_POOLING_PRIV_H

#include <tsr/model/source.h>

/* Fills source->pooling and pooling_refusal; the rest of source is there, `path` is what was
 * opened. -EINVAL where a file that states it is broken. */
int tsr_pooling_read(struct tsr_source *source, const char *path, struct tsr_err *err);

#endif
