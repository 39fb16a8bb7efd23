/* Parts that several kinds of answers have in common. */
#ifndef TSR_API_PARTS_PRIV_H
#define TSR_API_PARTS_PRIV_H

#include "fields_priv.h"

/* `data: {"id":...,"object":...,"created":...,"model":...,` in api_whole(). */
struct tsr_out *api_event_begin(struct tsr_api_exchange *x, const char *object);

/* Sends what was written there, as what the newest token made. */
void api_event_send(struct tsr_api_exchange *x, struct tsr_out *out);

/* The chunk of usage where it is wanted, `data: [DONE]`, and the end of the exchange. */
void api_stream_end(struct tsr_api_exchange *x, const char *object, bool details);

/* How much of a long text to say in one piece: whole characters. */
size_t api_text_piece(const char *text, size_t size);

/* `{"id":...,"object":...,"created":...,"model":...,` in api_whole(). */
struct tsr_out *api_object_begin(struct tsr_api_exchange *x, const char *object);

/* What was gathered, and whether all of it was. */
void api_append(const struct tsr_out *part, struct tsr_out *out);

/* Escaped text as a JSON string. */
void api_piece_write(const struct tsr_out *escaped, struct tsr_out *out);

/* details: with those of a chat's usage. */
void api_usage_write(const struct api_usage *usage, bool details, struct tsr_out *out);

/* A token's own text: what it stands for where the alternatives say it, else what it added. */
const char *api_token_text(const struct api_token *token, size_t *size);

/* Within what JSON and clients take: -infinity is -9999, as vLLM has it. */
double api_logprob(float logprob);

/* response_format, text.format: text is all that there is. */
void api_format_read(const struct api_fields *fields, const char *name);

/* verbosity, text.verbosity: nothing but the prompt says it here. */
void api_verbosity_read(const struct api_fields *fields);

#endif
