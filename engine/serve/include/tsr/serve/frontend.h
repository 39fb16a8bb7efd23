/* The frontend: the one thread that moves records, schedules, samples and speaks. It is worker 0 of
 * the executor.
 *
 *     control thread ──▶ channels opened, gone; stop          text thread ──▶ prompts as tokens
 *                    ◀── channels to drop, released                       ◀── prompts as text
 *
 * While requests flow from clients that poll, tsr_frontend_turn() makes no system call and
 * allocates nothing (tests count both); in shared mode a submit of text costs one wake-up of the
 * text thread. */
#ifndef TSR_SERVE_FRONTEND_H
#define TSR_SERVE_FRONTEND_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <tsr/sched/sched.h>
#include <tsr/serve/blocks.h>
#include <tsr/serve/lane.h>
#include <tsr/serve/request.h>
#include <tsr/serve/session.h>
#include <tsr/serve/status.h>
#include <tsr/text/vocab.h>

/* What runs a step; the executor's functions, or a test's. */
struct tsr_frontend_exec {
    void *ctx;
    void (*step)(void *ctx, const struct tsr_span *spans, uint32_t n_spans);
    const float *(*logits)(void *ctx, uint32_t i); /* [vocab] */
    void (*idle)(void *ctx);                       /* the frontend is about to sleep */
};

/* Lane items. From control: OPENED and GONE name a channel and its slot. To control: DROP and
 * RELEASED name the slot. A slot goes OPENED, (DROP), GONE, RELEASED, and only then may it be
 * opened again. */
enum tsr_frontend_item {
    TSR_ITEM_OPENED,
    TSR_ITEM_GONE,
    TSR_ITEM_STOP,
    TSR_ITEM_DROP,
    TSR_ITEM_RELEASED,
    TSR_ITEM_PROMPT, /* to and from text: pointer is the request */
};

struct tsr_frontend_options {
    struct tsr_sched_options sched;
    uint32_t positions_max; /* prompt and answer of one request that the KV pool can hold */
    uint32_t logits_vocab;  /* columns of a row of logits, >= vocab->n_tokens */
    uint32_t channels_max;
    uint32_t tokens_default; /* answer length where none is named */
    uint32_t seconds_max;    /* longest that a request may take; 0: no limit */
    uint64_t payload_bytes_max;
    uint64_t prompt_bytes; /* memory for prompts; 0: 16 x the largest payload and context, at least
                              8 MiB */
    uint64_t seed;         /* of the seeds that the engine draws */
    uint32_t embedding_width;  /* floats of an embedding; 0: none are made, and: */
    const char *no_embeddings; /* why not; must outlive the frontend */
    enum tsr_pooling pooling;
    bool chat;        /* the model has a chat template */
    bool spin;        /* never sleep, wake nobody */
    uint32_t spin_us; /* else: how long an idle frontend looks before it sleeps */
};

struct tsr_frontend {
    struct tsr_frontend_options options;
    struct tsr_frontend_exec exec;
    const struct tsr_vocab *vocab;

    struct tsr_sched *sched;
    uint32_t pages_total; /* of the KV pool */
    struct tsr_requests requests;
    uint32_t n_dead;           /* in TSR_STAGE_DEAD */
    struct tsr_request *owing; /* requests that owe an event */
    struct tsr_blocks blocks;
    struct tsr_sampler *sampler;
    uint32_t n_samplers_free;
    struct tsr_sampler_seq **samplers_free; /* [sequences_max] */
    uint32_t n_samplers;
    struct tsr_sampler_seq **samplers;

    struct tsr_session *sessions; /* [channels_max] by slot */
    uint32_t sessions_end;        /* slots from here on were never used */
    uint32_t sessions_open;
    uint32_t n_touched;
    struct tsr_session **touched; /* [channels_max] */
    uint32_t arriving;            /* sessions with a request that is not complete */
    uint32_t next_session;        /* whose records are read first in the next turn */
    uint8_t *record;              /* private copy of a client's record, 64-aligned */
    char *piece;                  /* [tsr_detok_out_max] text of a token */

    struct tsr_lane from_control, to_control, from_text, to_text;
    struct tsr_sleeper sleeper;       /* this thread's */
    struct tsr_sleeper *text_sleeper; /* the text thread's */
    int control_bell;                 /* eventfd that wakes the control thread; -1: none */
    bool stopping;
    _Atomic uint32_t
        turns; /* of tsr_frontend_run(): by them the control thread sees that it lives */

    uint64_t quiet_ns; /* since when there is nothing to do */
    uint64_t tick_ns;  /* next look at payloads that do not arrive */
    uint64_t seeds;    /* drawn so far */
    struct tsr_status_counts counts;
    struct tsr_status_plate plate;
};

/* kv: the executor's pool, or a test's. vocab must outlive the frontend. -ENOMEM, -EINVAL. */
int tsr_frontend_create(struct tsr_frontend **frontend, const struct tsr_frontend_options *options,
                        const struct tsr_frontend_exec *exec, const struct tsr_sched_kv *kv,
                        const struct tsr_vocab *vocab, struct tsr_err *err);
/* All sessions must have been released. */
void tsr_frontend_destroy(struct tsr_frontend *frontend);

/* One turn: reads what has come, runs at most one step, says what there is to say. Returns whether
 * it did anything. */
bool tsr_frontend_turn(struct tsr_frontend *frontend);

/* Turns until TSR_ITEM_STOP has come and every channel is released; sleeps where the options say
 * so. */
void tsr_frontend_run(struct tsr_frontend *frontend);

/* ---- for session.c, answer.c and status.c ---- */

/* Notes that the session's channel is to be flushed at the end of the turn. */
void tsr_frontend_touch(struct tsr_frontend *frontend, struct tsr_session *session);
void tsr_frontend_tell_control(struct tsr_frontend *frontend, enum tsr_frontend_item kind,
                               struct tsr_session *session);
/* Hands a request's text to the text thread. */
void tsr_frontend_tell_text(struct tsr_frontend *frontend, struct tsr_request *request);

#endif
