/* The tokens that end a text. */
#ifndef TSR_MODEL_EOS_PRIV_H
#define TSR_MODEL_EOS_PRIV_H

#include <tsr/model/model.h>
#include <tsr/model/source.h>

/* Fills model->eos, n_eos and bos; program and gguf are set. -EINVAL where an id is beyond the
 * vocabulary; -E2BIG. */
int tsr_eos_read(struct tsr_model *model, const struct tsr_source *source, struct tsr_err *err);

#endif
