/* Requests: everything the engine knows of one generation, from its SUBMIT to its final event.
 *
 * All slots are made at start. A slot belongs to the frontend, but for the time of TSR_STAGE_TEXT
 * (and _DEAD), when the fields marked "text" belong to the text thread. */
#ifndef TSR_SERVE_REQUEST_H
#define TSR_SERVE_REQUEST_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <tsr/sched/sched.h>
#include <tsr/serve/blocks.h>
#include <tsr/shm/err.h>
#include <tsr/shm/wire.h>
#include <tsr/text/detok.h>
#include <tsr/text/sampler.h>
#include <tsr/text/stop.h>

enum tsr_stage {
    TSR_STAGE_FREE,
    TSR_STAGE_ARRIVES, /* its payload is being copied in */
    TSR_STAGE_TEXT,    /* with the text thread */
    TSR_STAGE_RUNS,    /* in the scheduler */
    TSR_STAGE_SENDS,   /* what it asked for is being sent in parts (TSR_SUBMIT_ANSWERS) */
    TSR_STAGE_ENDS,    /* complete, but its last events wait for room */
    TSR_STAGE_DEAD,    /* over for its client, still with the text thread */
};

/* Events that wait for room in the ring, in the order in which they are sent. */
enum tsr_owes { TSR_OWES_ACCEPTED = 1, TSR_OWES_TOKEN = 2 };

struct tsr_session;

struct tsr_request {
    enum tsr_stage stage;
    uint32_t index; /* of the slot */
    uint64_t id;    /* the client's */
    uint64_t tenant;
    uint32_t uid;                    /* of the channel; what is DEAD still counts for it */
    atomic_bool dead;                /* for the text thread: it need not be done */
    struct tsr_session *session;     /* NULL: DEAD */
    struct tsr_request *next, *prev; /* of the session */
    struct tsr_request *hash_next;   /* of the bucket; of the free list */
    struct tsr_request *owing_next, *owing_prev; /* of those that owe an event */

    /* What it asks; checked. */
    uint8_t kind; /* enum tsr_payload_kind */
    uint8_t priority;
    uint16_t flags; /* enum tsr_submit_flag */
    uint32_t tokens_max;
    uint32_t credit; /* granted before the scheduler has it */
    uint64_t deadline_ns;
    struct tsr_sampling sampling; /* .bias points into run */

    /* Its memory: biases, the sum of hidden states (EMBED), then tokens [tokens_cap], then, until
     * it is tokenized, the payload. A payload of TSR_PAYLOAD_TOKENS is the tokens. */
    struct tsr_run run;
    double *pooled;   /* [embedding_width], EMBED only */
    double pool_unit; /* 1 / its Euclidean length, TSR_STAGE_SENDS */
    uint8_t *payload; /* text: read */
    uint32_t payload_bytes, payload_have;
    uint32_t *tokens; /* text: written */
    uint32_t tokens_cap;
    uint32_t n_tokens; /* text: written */
    bool in_reasoning; /* text: written; CHAT: the prompt ends with <think> */
    bool continued;    /* text: written; CHAT: ... with what the client would have the answer go on
                          from */
    uint32_t text_total; /* text: written; DETOKENIZE, RENDER: bytes of the text. A rendered one
                            lies where the tokens would */
    uint32_t code; /* text: enum tsr_code, TSR_CODE_OK where the tokens or the text are there */

    /* Its answer. */
    uint32_t seq;                    /* in the scheduler; TSR_SCHED_NONE: not there */
    struct tsr_sampler_seq *sampler; /* from the first logits on */
    struct tsr_detok detok;
    uint32_t produced; /* tokens of the answer */
    uint32_t sent;     /* TSR_STAGE_SENDS: ids, floats, bytes of text */
    uint32_t shown;    /* TSR_STAGE_SENDS: ids whose text was sent (DETOKENIZE) */
    unsigned owes;     /* enum tsr_owes; 0: not in the list */
    bool token_only_text;
    uint32_t text_bytes;
    char *text;     /* [text_max] of that token */
    uint8_t reason; /* TSR_STAGE_ENDS: enum tsr_reason */

    uint64_t submitted_ns, started_ns, first_ns, last_ns, accepted_ns;
    uint64_t waits_ns; /* since when an event waits for room, or the payload for its next part */

    /* Large, and not cleared with the rest: what is in it counts once it was set. */
    struct tsr_stop stop;
    struct tsr_sampled sampled;           /* of the token that it owes */
    char sentence[TSR_WIRE_SENTENCE_MAX]; /* text: with code */
};

struct tsr_requests {
    uint32_t n, n_free;
    struct tsr_request *slots;
    struct tsr_request *free;
    struct tsr_request **buckets; /* by session and id */
    uint32_t bucket_mask;
    char *texts;
    uint32_t text_max;
};

/* text_max: room for the text of one token and what is let go with it. -ENOMEM. */
int tsr_requests_create(struct tsr_requests *requests, uint32_t n, uint32_t text_max,
                        struct tsr_err *err);
void tsr_requests_destroy(struct tsr_requests *requests);

/* A slot in stage ARRIVES, zeroed but for what is the slot's own, in the session's list; NULL: none
 * is free. */
struct tsr_request *tsr_requests_take(struct tsr_requests *requests, struct tsr_session *session,
                                      uint64_t id);

/* The session's request with that id, NULL: none. */
struct tsr_request *tsr_requests_find(const struct tsr_requests *requests,
                                      const struct tsr_session *session, uint64_t id);

/* Takes it from its session: its client will hear no more of it. */
void tsr_requests_forget(struct tsr_requests *requests, struct tsr_request *request);

/* Frees the slot of a forgotten request. Its run and sampler must have been given back. */
void tsr_requests_give(struct tsr_requests *requests, struct tsr_request *request);

#endif
