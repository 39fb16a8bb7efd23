/* The way of an answer's text: from tokens through the splitter to the style's sink. */
#ifndef TSR_API_ANSWER_PRIV_H
#define TSR_API_ANSWER_PRIV_H

#include "api_priv.h"

/* At ACCEPTED: prepares the splitter where the answer may hold calls or reasoning, and feeds what
 * the answer was made to begin with. */
void api_split_begin(struct api_ask *ask, const struct tsr_split_sink *sink);

void api_split_text(struct api_ask *ask, const char *text, size_t size,
                    const struct tsr_split_sink *sink);

/* At the end: what was held back; whether it was calls shows in ask->finish. */
void api_split_end(struct api_ask *ask, const struct tsr_split_sink *sink);

/* For the sink's functions: notes what comes. False: it is to be dropped. */
bool api_split_is_reasoning(struct api_ask *ask);
bool api_split_is_content(struct api_ask *ask, const char *text, size_t size);
bool api_split_is_call(struct api_ask *ask, uint32_t index);
void api_split_call_ended(struct api_ask *ask);

/* A call's id, as the family's template wants it. */
void api_call_id(struct tsr_api_exchange *x, char out[API_ID_MAX]);

#endif
