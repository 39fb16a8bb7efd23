/* The options of a generation: from a request's fields to the fixed part of its SUBMIT. */
#ifndef TSR_API_SAMPLING_PRIV_H
#define TSR_API_SAMPLING_PRIV_H

#include "fields_priv.h"

/* Starts x->submit: priority, deadline, tenant, credit and neutral options. The SUBMIT is a record
 * under construction: tsr_wire_submit, then biases and stop strings, padded to 8. */
void api_submit_begin(struct tsr_api_exchange *x, enum tsr_payload_kind kind, uint16_t flags,
                      struct api_problem *problem);

/* The fixed part, until something is appended. */
struct tsr_wire_submit *api_submit_of(struct tsr_api_exchange *x);

/* Reads what all generations have in common: temperature, top_p, top_k, min_p, penalties, seed,
 * stop, logit_bias, ignore_eos, priority; stream and stream_options; n. Appends biases and stop
 * strings, so the payload's kind and flags are set before. */
void api_sampling_read(struct tsr_api_exchange *x, const struct api_fields *fields);

/* The model named by the request: x->engine, and the id and reader's room that go with it. NULL
 * with a problem. */
bool api_model_read(struct tsr_api_exchange *x, const struct api_fields *fields);

/* The payload of one ask begins: 8-aligned. Returns its offset. */
size_t api_payload_begin(struct tsr_api_exchange *x);

/* It ends there: *input is where. Refuses what is longer than the engine takes: false. */
bool api_payload_end(struct tsr_api_exchange *x, size_t off, struct api_input *input,
                     struct api_problem *problem);

/* n asks of that payload: choices from the next index on. */
bool api_choices_add(struct tsr_api_exchange *x, const struct api_input *input,
                     struct api_problem *problem);

#endif
