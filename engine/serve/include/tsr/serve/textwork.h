/* The text thread: renders chats, tokenizes, and hands prompts back to the frontend as tokens, or
 * as the text that was asked for.
 *
 * Everything that takes long for a long prompt happens here, so that no decode step waits for it.
 * One thread, one request after the other. */
#ifndef TSR_SERVE_TEXTWORK_H
#define TSR_SERVE_TEXTWORK_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#include <tsr/serve/frontend.h>
#include <tsr/text/template.h>
#include <tsr/text/tokenizer.h>

struct tsr_textwork {
    const struct tsr_tokenizer *tokenizer;
    struct tsr_tokenizer_scratch *scratch;
    struct tsr_template *tmpl; /* NULL: the model has none */
    struct tsr_template_scratch *tmpl_scratch;
    struct tsr_template_message *messages; /* [TSR_WIRE_MESSAGES_MAX] */
    char *piece;                           /* [tsr_detok_out_max] */
    char *bos, *eos;                       /* NUL-terminated, NULL: none */
    uint32_t ids_max;                      /* ids below this have an embedding */

    struct tsr_frontend *frontend;
    struct tsr_sleeper sleeper;
    pthread_t thread;
    bool running;
    atomic_bool stop;
};

/* ids_max: columns of the model's logits; a prompt with another id is refused (files whose
 * tokenizer has more tokens than the model exist). Parses the tokenizer's chat template where it
 * has one (a template that is not supported is logged, and chats are refused) and allocates for
 * prompts of payload_bytes. tokenizer must outlive it. -ENOMEM. */
int tsr_textwork_create(struct tsr_textwork **work, const struct tsr_tokenizer *tokenizer,
                        uint32_t ids_max, size_t payload_bytes, struct tsr_err *err);
void tsr_textwork_destroy(struct tsr_textwork *work);

/* Makes tokens of request->payload: request->tokens and n_tokens, or code and sentence; with RENDER
 * the text instead of the tokens, with DETOKENIZE (of tokens) the length of their text. Nothing
 * where it is dead. Any thread, one at a time. */
void tsr_textwork_do(struct tsr_textwork *work, struct tsr_request *request);

/* Starts the thread, which serves frontend's lanes. */
int tsr_textwork_start(struct tsr_textwork *work, struct tsr_frontend *frontend,
                       struct tsr_err *err);
/* Ends and joins it; what it has not done stays undone. */
void tsr_textwork_stop(struct tsr_textwork *work);

#endif
