/* How the model's files advise to sample. */
#ifndef TSR_MODEL_SAMPLING_PRIV_H
#define TSR_MODEL_SAMPLING_PRIV_H

#include <tsr/model/model.h>
#include <tsr/model/source.h>

/* Fills model->sampling. Advice out of range is left out, with a warning: the model runs without.
 */
void tsr_sampling_read(struct tsr_model *model, const struct tsr_source *source);

#endif
