/* Prompts of completions and inputs of embeddings: a string, an array of strings, ids, or an array
 * of arrays of ids. */
#ifndef TSR_API_PROMPTS_PRIV_H
#define TSR_API_PROMPTS_PRIV_H

#include "sampling_priv.h"

/* Reads the field into x->payload and x->inputs, and says its kind in x->submit. At most `max`
 * prompts. */
void api_prompts_read(struct tsr_api_exchange *x, const struct api_fields *fields, const char *name,
                      uint32_t max);

/* Ids of an array as the payload of one prompt. */
void api_ids_read(struct tsr_api_exchange *x, const struct api_fields *fields, const char *name,
                  const struct tsr_json_value *array);

const struct api_input *api_input_at(const struct tsr_api_exchange *x, uint32_t i);

#endif
