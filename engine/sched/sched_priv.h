/* What the files of this folder share: sequences, and the lists that they stand in. */
#ifndef TSR_SCHED_PRIV_H
#define TSR_SCHED_PRIV_H

#include <tsr/sched/sched.h>

struct tsr_sched_seq {
    enum tsr_sched_state state;
    uint32_t prev, next; /* in the list of its state */
    bool admitted;       /* holds KV and a page table */
    bool pending;        /* has logits in the committed step: token() or end() is due; or is all
                            pooled: end() is */
    bool held;
    uint32_t table; /* index of its page table while admitted */

    uint32_t priority;
    uint32_t credit;
    uint32_t prompt_tokens, max_tokens;
    uint32_t position; /* rows in the cache; prompt_tokens <= position while it decodes */
    uint32_t rows;     /* in the composed step */
    uint32_t token;    /* the row to decode next */
    const uint32_t *prompt;
    double *pooled;
    enum tsr_pooling pooling;
    struct tsr_kv_seq kv;

    uint64_t key; /* order in the queue, smallest first: arrival, less what its priority is worth */
    uint64_t deadline_ns;
    uint64_t parked_ns;    /* since when, while parked */
    uint64_t park_left_ns; /* how long it may yet be parked, <= park_ns */
    uint64_t user;
    uint64_t cookie;
};

/* Doubly linked by index; n is the length. */
struct tsr_sched_list {
    uint32_t head, tail, n;
};

enum { TSR_SCHED_STATES = TSR_SCHED_PARKED + 1 };

struct tsr_sched {
    struct tsr_sched_options options;
    struct tsr_sched_kv kv;
    uint32_t n_seqs; /* sequences_max + queue_max */
    struct tsr_sched_seq *seqs;
    struct tsr_sched_list lists[TSR_SCHED_STATES];

    uint32_t pages_each; /* entries of a page table */
    uint32_t *pages;     /* [sequences_max][pages_each] */
    uint32_t n_tables_free;
    uint32_t *tables_free; /* [sequences_max] */
    uint32_t pages_held;

    uint64_t expiry_ns; /* nothing expires before; a lower bound */
    uint64_t ended_ns;  /* when something last ended, 0: never */
    uint64_t mean_ns;   /* between ends, exponential mean; 0: unknown */

    bool composed; /* between compose and commit */
    struct tsr_sched_step step;
};

void tsr_sched_list_push(struct tsr_sched *sched, enum tsr_sched_state state, uint32_t id);
void tsr_sched_list_insert(struct tsr_sched *sched, enum tsr_sched_state state, uint32_t before,
                           uint32_t id); /* before == TSR_SCHED_NONE: at the end */
void tsr_sched_list_remove(struct tsr_sched *sched, uint32_t id);

/* Admits from the head of the queue while slots and KV last. */
void tsr_sched_admit(struct tsr_sched *sched, uint64_t now_ns);

#endif
