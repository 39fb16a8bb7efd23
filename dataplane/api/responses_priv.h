/* /v1/responses: its request, and its answer as items and events. Stateless: nothing is stored. */
#ifndef TSR_API_RESPONSES_PRIV_H
#define TSR_API_RESPONSES_PRIV_H

#include "messages_priv.h"

/* `instructions` and `input` as the array of a chat's messages. */
void api_items_write(struct tsr_api_exchange *x, const struct api_fields *fields,
                     struct tsr_out *out);

/* What the answer's object says of the request, into x->echo: `"instructions":...,` and so on. */
void api_response_echo(struct tsr_api_exchange *x, const struct api_fields *fields);

extern const struct api_style api_response_style;

#endif
