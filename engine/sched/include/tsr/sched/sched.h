/* The scheduler: continuous batching as pure logic. It knows sequences, rows, KV pages and time; it
 * knows nothing of text, sockets or kernels, and never looks at a clock: `now_ns` is passed in and
 * never goes backwards.
 *
 * One thread (the frontend) owns a scheduler and calls everything here. Its loop, once a step:
 *
 *     while ((n = tsr_sched_expire(sched, now, ended, ENDED)) > 0) ... tell the owners of ended[0
 * .. n) step = tsr_sched_compose(sched, now); tsr_exec_step(exec, step->spans, step->n_spans);
 *     tsr_sched_commit(sched);
 *     for (i = 0; i < step->n_logits; i++) ... sample row i for step->logit_ids[i], then exactly
 * one of tsr_sched_token(sched, id, token, now)  the sequence goes on with this token
 *         tsr_sched_end(sched, id, now)           it is finished
 *     for (i = 0; i < step->n_pooled; i++) ... tsr_sched_end(sched, step->pooled_ids[i], now)
 *
 * Everything is allocated by tsr_sched_create(); nothing else here allocates. */
#ifndef TSR_SCHED_SCHED_H
#define TSR_SCHED_SCHED_H

#include <stdbool.h>
#include <stdint.h>

#include <tsr/exec/exec.h>
#include <tsr/kv/kv.h>
#include <tsr/shm/err.h>
#include <tsr/shm/wire.h>

enum {
    TSR_SCHED_ROWS_DEFAULT = 512,   /* rows a step when nothing decodes */
    TSR_SCHED_CHUNK_DEFAULT = 64,   /* rows of prompts in a step that also decodes */
    TSR_SCHED_PRIORITY_MAX = 255,   /* 0 is the lowest priority */
    TSR_SCHED_AGE_MS = 500,         /* one level of priority is worth this long a wait */
    TSR_SCHED_PARK_SECONDS = 30,    /* without credit for this long: ended */
    TSR_SCHED_PARK_TOKENS = 30,     /* so many tokens earn that time anew */
    TSR_SCHED_TOKENS_DEFAULT = 512, /* max tokens where a request names none */
};

#define TSR_SCHED_NONE UINT32_MAX

/* Where KV comes from: the pool's functions in the engine (tsr_sched_kv_pool()), a fake in tests.
 */
struct tsr_sched_kv {
    void *ctx;
    int (*reserve)(void *ctx, struct tsr_kv_seq *seq, uint32_t positions); /* as tsr_kv_reserve() */
    void (*release)(void *ctx, struct tsr_kv_seq *seq);                    /* as tsr_kv_release() */
    uint32_t pages_total;
};

struct tsr_sched_options {
    uint32_t sequences_max;  /* admitted at a time, parked ones included; >= 1 */
    uint32_t queue_max;      /* waiting at a time; >= 1; three quarters of them of one user */
    uint32_t rows_max;       /* rows a step, >= 2; tsr_exec_options.rows_max */
    uint32_t chunk_rows;     /* rows of prompts in a step that also decodes, 1 .. rows_max - 1 */
    uint32_t logit_rows_max; /* rows with logits a step, >= 2; tsr_exec_options.logit_rows_max */
    uint32_t context;        /* positions that a sequence may have */
    uint64_t park_ns;        /* without credit for this long, in sum while it holds KV: ended */
    uint64_t age_ns; /* a level of priority overtakes what arrived up to this much earlier */
};

enum tsr_sched_state {
    TSR_SCHED_FREE,
    TSR_SCHED_WAITING, /* in the queue, holds no KV */
    TSR_SCHED_PREFILL, /* admitted; its prompt is not all in the cache */
    TSR_SCHED_DECODE,  /* its last token is to be run */
    TSR_SCHED_PARKED,  /* admitted, KV kept, in no step: without credit, or held */
};

enum tsr_sched_reason {
    TSR_SCHED_DEADLINE, /* its deadline has passed */
    TSR_SCHED_STARVED,  /* parked for park_ns, or for more than its tokens have earned */
};

/* What a request asks. prompt is not copied: it must stay until the sequence has ended. With
 * `pooled` it asks for no answer, but for the hidden states of its prompt: max_tokens may be 0, and
 * credit needs to be 1. */
struct tsr_sched_submit {
    const uint32_t *prompt; /* [prompt_tokens] */
    uint32_t prompt_tokens; /* >= 1 */
    uint32_t max_tokens;    /* >= 1; prompt_tokens + max_tokens <= context */
    double *pooled; /* as in struct tsr_span; stays as the prompt does; NULL: it generates */
    enum tsr_pooling pooling; /* with pooled: which of the rows */
    uint32_t credit;          /* tokens that may be produced before tsr_sched_credit() adds to it */
    uint32_t priority;        /* 0 .. TSR_SCHED_PRIORITY_MAX */
    uint64_t deadline_ns;     /* 0: none */
    uint64_t user;            /* whose share of the queue it takes */
    uint64_t cookie;          /* the caller's */
};

struct tsr_sched_ended {
    uint64_t cookie;
    uint32_t id; /* already free; named for the caller's books */
    enum tsr_sched_reason reason;
};

/* A step to run. Valid until the next tsr_sched_compose(). */
struct tsr_sched_step {
    uint32_t n_spans;
    struct tsr_span *spans;
    uint32_t *span_ids; /* [n_spans] the sequence of each */
    uint32_t rows;
    uint32_t decode_rows; /* of these, the first decode_rows are decode rows */
    uint32_t n_logits;
    uint32_t *logit_ids; /* [n_logits] the sequence that logits row i belongs to */
    uint32_t n_pooled;
    uint32_t *pooled_ids; /* [n_pooled] after commit: those whose hidden states are all pooled */
};

struct tsr_sched_counts {
    uint32_t waiting, prefill, decode, parked;
    uint32_t pages_held; /* by admitted sequences */
};

struct tsr_sched;

/* kv is copied. -EINVAL where an option is out of its range; -ENOMEM. */
int tsr_sched_create(struct tsr_sched **sched, const struct tsr_sched_options *options,
                     const struct tsr_sched_kv *kv, struct tsr_err *err);
/* Gives all KV back. */
void tsr_sched_destroy(struct tsr_sched *sched);

/* The table of functions of a real pool, which must outlive the scheduler. */
struct tsr_sched_kv tsr_sched_kv_pool(struct tsr_kv_pool *pool);

/* Max tokens of a request that names none: min(limit, context - prompt), at least 1. */
uint32_t tsr_sched_tokens_default(const struct tsr_sched *sched, uint32_t prompt_tokens,
                                  uint32_t limit);

/* Queues a request; *id names its sequence (an index below sequences_max + queue_max) until it has
 * ended. Order of admission: priority, then arrival; a level of priority is worth age_ns of
 * waiting, so that nothing starves. The first of the queue is never overtaken by one that needs
 * less. -EINVAL: an empty prompt, no max tokens, priority too high. -E2BIG: more positions than
 * context or the whole pool. -EAGAIN: the queue is full; see tsr_sched_retry_ns(). -EBUSY: the
 * user's share of it is (tsr_sched_user_max()). */
int tsr_sched_submit(struct tsr_sched *sched, const struct tsr_sched_submit *submit,
                     uint64_t now_ns, uint32_t *id);

/* How many requests one user may have that are not admitted. */
uint32_t tsr_sched_user_max(const struct tsr_sched *sched);

/* Takes a live sequence out at once, whatever its state, and gives its KV back. Not between compose
 * and commit. */
void tsr_sched_end(struct tsr_sched *sched, uint32_t id, uint64_t now_ns);

/* Adds credit (saturating). A parked sequence that is not held goes on. */
void tsr_sched_credit(struct tsr_sched *sched, uint32_t id, uint32_t tokens, uint64_t now_ns);

/* Holds a sequence as if it had no credit (there is no room for what it says), or lets it go on.
 * Idempotent. */
void tsr_sched_hold(struct tsr_sched *sched, uint32_t id, bool held, uint64_t now_ns);

/* Ends sequences that are past their deadline or were parked too long; at most max of them, the
 * rest at the next call. Returns how many. */
uint32_t tsr_sched_expire(struct tsr_sched *sched, uint64_t now_ns, struct tsr_sched_ended *ended,
                          uint32_t max);

/* When tsr_sched_expire() next has something to do; UINT64_MAX: not by time alone. */
uint64_t tsr_sched_next_expiry(const struct tsr_sched *sched);

/* Admits from the queue while KV and slots last, then composes a step: decode rows first (by turns
 * where there are more than fit), then chunks of prompts, in equal shares and by turns, up to
 * rows_max rows, or chunk_rows of them where something decodes. n_spans == 0: nothing to run. */
const struct tsr_sched_step *tsr_sched_compose(struct tsr_sched *sched, uint64_t now_ns);

/* The composed step was run: its rows are in the cache. */
void tsr_sched_commit(struct tsr_sched *sched);

/* The sequence, one of the last step's logit_ids, goes on with `token`. Costs one credit; without
 * more it parks. The caller ends a sequence that has produced max_tokens: it has no KV for another.
 */
void tsr_sched_token(struct tsr_sched *sched, uint32_t id, uint32_t token, uint64_t now_ns);

/* How many stand before it in the queue, itself counted; 0: it is not in the queue. O(queue). */
uint32_t tsr_sched_queue_position(const struct tsr_sched *sched, uint32_t id);

uint64_t tsr_sched_cookie(const struct tsr_sched *sched, uint32_t id);
enum tsr_sched_state tsr_sched_state(const struct tsr_sched *sched, uint32_t id);
/* Prompt and produced tokens that are in the cache. */
uint32_t tsr_sched_position(const struct tsr_sched *sched, uint32_t id);
uint32_t tsr_sched_credit_left(const struct tsr_sched *sched, uint32_t id);
struct tsr_sched_counts tsr_sched_counts(const struct tsr_sched *sched);

/* When one refused with -EAGAIN might try again: the mean time between ends of late, 1 ms .. 60 s.
 */
uint64_t tsr_sched_retry_ns(const struct tsr_sched *sched);

/* Everything the lists and counts promise; for tests and debug builds, O(sequences). */
bool tsr_sched_is_valid(const struct tsr_sched *sched);

#endif
