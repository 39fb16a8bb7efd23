/* Answers: from logits to events, and how a request ends.
 *
 * Everything here is for the frontend's thread; nothing allocates or makes a system call. */
#ifndef TSR_SERVE_ANSWER_H
#define TSR_SERVE_ANSWER_H

#include <stdbool.h>
#include <stdint.h>

#include <tsr/serve/request.h>

struct tsr_frontend;

/* The prompt is there, as tokens: admits the request (ACCEPTED), lists its ids, or refuses it
 * (ERROR). */
void tsr_answer_begin(struct tsr_frontend *frontend, struct tsr_request *request, uint64_t now_ns);

/* The request's row of logits: chooses its next token, says it, and ends the request or lets it go
 * on. */
void tsr_answer_row(struct tsr_frontend *frontend, struct tsr_request *request, const float *logits,
                    uint64_t now_ns);

/* The request's hidden states are all pooled: says its embedding. */
void tsr_answer_pooled(struct tsr_frontend *frontend, struct tsr_request *request, uint64_t now_ns);

/* Tries again to say what waited for room, for every request that owes; ends those that wait too
 * long. */
void tsr_answer_retry(struct tsr_frontend *frontend, uint64_t now_ns);

/* Ends a request now, with DONE and what it still owed left unsaid. sentence: with
 * TSR_REASON_ERROR, may be NULL. The request is gone afterwards. */
void tsr_answer_done(struct tsr_frontend *frontend, struct tsr_request *request,
                     enum tsr_reason reason, enum tsr_code code, const char *sentence,
                     uint64_t now_ns);

/* Ends a request that was not accepted, with ERROR. The request is gone afterwards. */
__attribute__((format(printf, 6, 7))) void
tsr_answer_error(struct tsr_frontend *frontend, struct tsr_request *request, enum tsr_code code,
                 uint32_t retry_ms, uint64_t now_ns, const char *format, ...);

/* Gives back all that a request holds, without a word, and forgets it. */
void tsr_answer_drop(struct tsr_frontend *frontend, struct tsr_request *request, uint64_t now_ns);

#endif
