#include "sched_priv.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const uint64_t ms = 1000000;

static uint32_t pages_of(uint32_t positions)
{
    return positions / TSR_KV_PAGE_POSITIONS + (positions % TSR_KV_PAGE_POSITIONS != 0);
}

static int pool_reserve(void *ctx, struct tsr_kv_seq *seq, uint32_t positions)
{
    return tsr_kv_reserve(ctx, seq, positions);
}

static void pool_release(void *ctx, struct tsr_kv_seq *seq)
{
    tsr_kv_release(ctx, seq);
}

struct tsr_sched_kv tsr_sched_kv_pool(struct tsr_kv_pool *pool)
{
    return (struct tsr_sched_kv){.ctx = pool,
                                 .reserve = pool_reserve,
                                 .release = pool_release,
                                 .pages_total = tsr_kv_pages_total(pool)};
}

static int options_check(const struct tsr_sched_options *o, struct tsr_err *err)
{
    if (o->sequences_max < 1 || o->sequences_max > 1u << 20 || o->queue_max < 1 ||
        o->queue_max > 1u << 20) {
        return tsr_err_set(err, -EINVAL,
                           "scheduler: %u sequences and a queue of %u: each must be 1 to %u",
                           o->sequences_max, o->queue_max, 1u << 20);
    }
    if (o->rows_max < 2 || o->chunk_rows < 1 || o->chunk_rows >= o->rows_max) {
        return tsr_err_set(err, -EINVAL,
                           "scheduler: %u rows a step and chunks of %u: a step needs at least 2 "
                           "rows, a chunk 1 and fewer than the step",
                           o->rows_max, o->chunk_rows);
    }
    if (o->logit_rows_max < 2) {
        return tsr_err_set(err, -EINVAL,
                           "scheduler: %u rows with logits a step: at least 2 are needed",
                           o->logit_rows_max);
    }
    if (o->context < 2 || o->context > 1u << 30) {
        return tsr_err_set(err, -EINVAL,
                           "scheduler: a context of %u positions: 2 to %u are possible", o->context,
                           1u << 30);
    }
    return 0;
}

int tsr_sched_create(struct tsr_sched **out, const struct tsr_sched_options *options,
                     const struct tsr_sched_kv *kv, struct tsr_err *err)
{
    *out = NULL;
    int rc = options_check(options, err);
    if (rc < 0) {
        return rc;
    }
    struct tsr_sched *s = calloc(1, sizeof *s);
    if (!s) {
        goto fail;
    }
    s->options = *options;
    s->kv = *kv;
    s->n_seqs = options->sequences_max + options->queue_max;
    s->pages_each = pages_of(options->context);
    s->n_tables_free = options->sequences_max;
    s->expiry_ns = UINT64_MAX;

    /* A span has at least one row and one admitted sequence. */
    uint32_t spans =
        options->rows_max < options->sequences_max ? options->rows_max : options->sequences_max;
    s->seqs = calloc(s->n_seqs, sizeof *s->seqs);
    s->pages = calloc((size_t)options->sequences_max * s->pages_each, sizeof *s->pages);
    s->tables_free = calloc(options->sequences_max, sizeof *s->tables_free);
    s->step.spans = calloc(spans, sizeof *s->step.spans);
    s->step.logit_ids = calloc(options->logit_rows_max, sizeof *s->step.logit_ids);
    s->step.span_ids = calloc(spans, sizeof *s->step.span_ids);
    s->step.pooled_ids = calloc(spans, sizeof *s->step.pooled_ids);
    if (!s->seqs || !s->pages || !s->tables_free || !s->step.spans || !s->step.logit_ids ||
        !s->step.span_ids || !s->step.pooled_ids) {
        goto fail;
    }
    for (uint32_t i = 0; i < options->sequences_max; i++) {
        s->tables_free[i] = options->sequences_max - 1 - i;
    }
    for (uint32_t i = 0; i < TSR_SCHED_STATES; i++) {
        s->lists[i] = (struct tsr_sched_list){TSR_SCHED_NONE, TSR_SCHED_NONE, 0};
    }
    for (uint32_t i = 0; i < s->n_seqs; i++) {
        tsr_sched_list_push(s, TSR_SCHED_FREE, i);
    }
    *out = s;
    return 0;

fail:
    tsr_sched_destroy(s);
    return tsr_err_set(err, -ENOMEM, "scheduler: no memory for %u sequences and a queue of %u",
                       options->sequences_max, options->queue_max);
}

void tsr_sched_destroy(struct tsr_sched *s)
{
    if (!s) {
        return;
    }
    for (uint32_t i = 0; s->seqs && i < s->n_seqs; i++) {
        if (s->seqs[i].admitted) {
            s->kv.release(s->kv.ctx, &s->seqs[i].kv);
        }
    }
    free(s->step.pooled_ids);
    free(s->step.span_ids);
    free(s->step.logit_ids);
    free(s->step.spans);
    free(s->tables_free);
    free(s->pages);
    free(s->seqs);
    free(s);
}

static struct tsr_sched_seq *live(const struct tsr_sched *s, uint32_t id)
{
    assert(id < s->n_seqs && s->seqs[id].state != TSR_SCHED_FREE);
    return &s->seqs[id];
}

static void expiry_lower(struct tsr_sched *s, uint64_t at_ns)
{
    if (at_ns < s->expiry_ns) {
        s->expiry_ns = at_ns;
    }
}

static uint64_t seq_expiry(const struct tsr_sched_seq *seq)
{
    uint64_t at = seq->deadline_ns ? seq->deadline_ns : UINT64_MAX;
    if (seq->state == TSR_SCHED_PARKED && seq->parked_ns + seq->park_left_ns < at) {
        at = seq->parked_ns + seq->park_left_ns;
    }
    return at;
}

/* Puts a sequence into the list where it belongs by credit, hold and position. A sequence that
 * waits for a sampled token stays where it is until it has it. */
static void settle(struct tsr_sched *s, uint32_t id, uint64_t now_ns)
{
    struct tsr_sched_seq *seq = &s->seqs[id];
    enum tsr_sched_state state;

    if (seq->pending) {
        return;
    }
    if (seq->held || seq->credit == 0) {
        state = TSR_SCHED_PARKED;
    } else if (!seq->admitted) {
        state = TSR_SCHED_WAITING;
    } else {
        state = seq->position < seq->prompt_tokens ? TSR_SCHED_PREFILL : TSR_SCHED_DECODE;
    }
    if (state == seq->state) {
        return;
    }
    if (seq->state == TSR_SCHED_PARKED && seq->admitted) {
        uint64_t parked_ns = now_ns - seq->parked_ns;
        seq->park_left_ns -= parked_ns < seq->park_left_ns ? parked_ns : seq->park_left_ns;
    }
    tsr_sched_list_remove(s, id);
    if (state == TSR_SCHED_WAITING) {
        /* From the back: most arrive in order. */
        uint32_t after = s->lists[state].tail;
        while (after != TSR_SCHED_NONE && s->seqs[after].key > seq->key) {
            after = s->seqs[after].prev;
        }
        uint32_t before = after == TSR_SCHED_NONE ? s->lists[state].head : s->seqs[after].next;
        tsr_sched_list_insert(s, state, before, id);
    } else {
        tsr_sched_list_push(s, state, id);
    }
    if (state == TSR_SCHED_PARKED) {
        seq->parked_ns = now_ns;
        expiry_lower(s, now_ns + seq->park_left_ns);
    }
}

uint32_t tsr_sched_tokens_default(const struct tsr_sched *s, uint32_t prompt_tokens, uint32_t limit)
{
    uint32_t room = prompt_tokens < s->options.context ? s->options.context - prompt_tokens : 1;
    uint32_t tokens = limit < room ? limit : room;
    return tokens > 0 ? tokens : 1;
}

static uint32_t not_admitted(const struct tsr_sched *s)
{
    uint32_t tables_used = s->options.sequences_max - s->n_tables_free;
    return s->n_seqs - s->lists[TSR_SCHED_FREE].n - tables_used;
}

uint32_t tsr_sched_user_max(const struct tsr_sched *s)
{
    return s->options.queue_max - s->options.queue_max / 4;
}

static uint32_t not_admitted_of(const struct tsr_sched *s, uint64_t user)
{
    uint32_t n = 0;
    for (uint32_t id = 0; id < s->n_seqs; id++) {
        const struct tsr_sched_seq *seq = &s->seqs[id];
        n += seq->state != TSR_SCHED_FREE && !seq->admitted && seq->user == user;
    }
    return n;
}

int tsr_sched_submit(struct tsr_sched *s, const struct tsr_sched_submit *submit, uint64_t now_ns,
                     uint32_t *out)
{
    const struct tsr_sched_options *o = &s->options;
    if (submit->prompt_tokens == 0 || (submit->max_tokens == 0 && !submit->pooled) ||
        submit->priority > TSR_SCHED_PRIORITY_MAX) {
        return -EINVAL;
    }
    if (submit->prompt_tokens > o->context ||
        submit->max_tokens > o->context - submit->prompt_tokens ||
        pages_of(submit->prompt_tokens + submit->max_tokens) > s->kv.pages_total) {
        return -E2BIG;
    }
    if (not_admitted(s) >= o->queue_max) {
        return -EAGAIN;
    }
    if (not_admitted_of(s, submit->user) >= tsr_sched_user_max(s)) {
        return -EBUSY;
    }

    uint32_t id = s->lists[TSR_SCHED_FREE].head;
    struct tsr_sched_seq *seq = &s->seqs[id];
    uint64_t worth = submit->priority * o->age_ns;
    *seq = (struct tsr_sched_seq){
        .state = TSR_SCHED_FREE,
        .prev = seq->prev,
        .next = seq->next,
        .priority = submit->priority,
        .credit = submit->credit,
        .prompt_tokens = submit->prompt_tokens,
        .max_tokens = submit->max_tokens,
        .prompt = submit->prompt,
        .pooled = submit->pooled,
        .pooling = submit->pooling,
        /* Times count from an offset, so that early arrivals keep their priority's worth. */
        .key = now_ns + TSR_SCHED_PRIORITY_MAX * o->age_ns - worth,
        .deadline_ns = submit->deadline_ns,
        .park_left_ns = o->park_ns,
        .user = submit->user,
        .cookie = submit->cookie,
    };
    settle(s, id, now_ns);
    if (seq->deadline_ns) {
        expiry_lower(s, seq->deadline_ns);
    }
    *out = id;
    tsr_sched_admit(s, now_ns);
    return 0;
}

void tsr_sched_end(struct tsr_sched *s, uint32_t id, uint64_t now_ns)
{
    struct tsr_sched_seq *seq = live(s, id);
    assert(!s->composed);

    tsr_sched_list_remove(s, id);
    if (seq->admitted) {
        s->pages_held -= seq->kv.n_pages;
        s->kv.release(s->kv.ctx, &seq->kv);
        s->tables_free[s->n_tables_free++] = seq->table;
        seq->admitted = false;

        if (s->ended_ns && now_ns > s->ended_ns) {
            uint64_t gap = now_ns - s->ended_ns;
            s->mean_ns = s->mean_ns ? (7 * s->mean_ns + gap) / 8 : gap;
        }
        s->ended_ns = now_ns;
    }
    seq->pending = false;
    tsr_sched_list_push(s, TSR_SCHED_FREE, id);
}

void tsr_sched_credit(struct tsr_sched *s, uint32_t id, uint32_t tokens, uint64_t now_ns)
{
    struct tsr_sched_seq *seq = live(s, id);
    seq->credit = tokens > UINT32_MAX - seq->credit ? UINT32_MAX : seq->credit + tokens;
    settle(s, id, now_ns);
}

void tsr_sched_hold(struct tsr_sched *s, uint32_t id, bool held, uint64_t now_ns)
{
    live(s, id)->held = held;
    settle(s, id, now_ns);
}

void tsr_sched_token(struct tsr_sched *s, uint32_t id, uint32_t token, uint64_t now_ns)
{
    struct tsr_sched_seq *seq = live(s, id);
    assert(seq->pending);
    seq->pending = false;
    seq->token = token;
    if (seq->credit > 0) {
        seq->credit--;
    }
    uint64_t spent_ns = s->options.park_ns - seq->park_left_ns;
    uint64_t earned_ns = s->options.park_ns / TSR_SCHED_PARK_TOKENS;
    seq->park_left_ns += earned_ns < spent_ns ? earned_ns : spent_ns;
    settle(s, id, now_ns);
}

uint32_t tsr_sched_expire(struct tsr_sched *s, uint64_t now_ns, struct tsr_sched_ended *ended,
                          uint32_t max)
{
    if (now_ns < s->expiry_ns || max == 0) {
        return 0;
    }
    uint32_t n = 0;
    uint64_t next = UINT64_MAX;
    for (uint32_t id = 0; id < s->n_seqs; id++) {
        struct tsr_sched_seq *seq = &s->seqs[id];
        if (seq->state == TSR_SCHED_FREE) {
            continue;
        }
        uint64_t at = seq_expiry(seq);
        if (at > now_ns) {
            next = at < next ? at : next;
            continue;
        }
        if (n == max) {
            next = 0; /* the next call looks again */
            break;
        }
        bool late = seq->deadline_ns && seq->deadline_ns <= now_ns;
        ended[n++] = (struct tsr_sched_ended){
            .id = id,
            .cookie = seq->cookie,
            .reason = late ? TSR_SCHED_DEADLINE : TSR_SCHED_STARVED,
        };
        tsr_sched_end(s, id, now_ns);
    }
    s->expiry_ns = next;
    return n;
}

uint64_t tsr_sched_next_expiry(const struct tsr_sched *s)
{
    return s->expiry_ns;
}

void tsr_sched_admit(struct tsr_sched *s, uint64_t now_ns)
{
    while (s->n_tables_free > 0 && s->lists[TSR_SCHED_WAITING].n > 0) {
        uint32_t id = s->lists[TSR_SCHED_WAITING].head;
        struct tsr_sched_seq *seq = &s->seqs[id];
        uint32_t table = s->tables_free[s->n_tables_free - 1];
        uint32_t *pages = s->pages + (size_t)table * s->pages_each;

        tsr_kv_seq_init(&seq->kv, pages, s->pages_each);
        if (s->kv.reserve(s->kv.ctx, &seq->kv, seq->prompt_tokens + seq->max_tokens) < 0) {
            return;
        }
        s->n_tables_free--;
        s->pages_held += seq->kv.n_pages;
        seq->table = table;
        seq->admitted = true;
        settle(s, id, now_ns);
    }
}

uint32_t tsr_sched_queue_position(const struct tsr_sched *s, uint32_t id)
{
    if (live(s, id)->state != TSR_SCHED_WAITING) {
        return 0;
    }
    uint32_t n = 1;
    for (uint32_t at = s->seqs[id].prev; at != TSR_SCHED_NONE; at = s->seqs[at].prev) {
        n++;
    }
    return n;
}

uint64_t tsr_sched_cookie(const struct tsr_sched *s, uint32_t id)
{
    return live(s, id)->cookie;
}

enum tsr_sched_state tsr_sched_state(const struct tsr_sched *s, uint32_t id)
{
    assert(id < s->n_seqs);
    return s->seqs[id].state;
}

uint32_t tsr_sched_position(const struct tsr_sched *s, uint32_t id)
{
    return live(s, id)->position;
}

uint32_t tsr_sched_credit_left(const struct tsr_sched *s, uint32_t id)
{
    return live(s, id)->credit;
}

struct tsr_sched_counts tsr_sched_counts(const struct tsr_sched *s)
{
    return (struct tsr_sched_counts){
        .waiting = s->lists[TSR_SCHED_WAITING].n,
        .prefill = s->lists[TSR_SCHED_PREFILL].n,
        .decode = s->lists[TSR_SCHED_DECODE].n,
        .parked = s->lists[TSR_SCHED_PARKED].n,
        .pages_held = s->pages_held,
    };
}

uint64_t tsr_sched_retry_ns(const struct tsr_sched *s)
{
    if (s->mean_ns == 0) {
        return 1000 * ms;
    }
    if (s->mean_ns < ms) {
        return ms;
    }
    return s->mean_ns > 60000 * ms ? 60000 * ms : s->mean_ns;
}

static bool seq_is_valid(const struct tsr_sched *s, const struct tsr_sched_seq *seq)
{
    bool idle = seq->held || seq->credit == 0;
    switch (seq->state) {
    case TSR_SCHED_FREE:
        return !seq->admitted && !seq->pending;
    case TSR_SCHED_WAITING:
        return !seq->admitted && !idle && seq->position == 0;
    case TSR_SCHED_PREFILL:
        return seq->admitted && !idle && (seq->pending || seq->position < seq->prompt_tokens);
    case TSR_SCHED_DECODE:
        return seq->admitted && (seq->pending || !idle) && seq->position >= seq->prompt_tokens &&
               seq->position < seq->prompt_tokens + seq->max_tokens;
    case TSR_SCHED_PARKED:
        return idle && s->expiry_ns <= seq_expiry(seq) && seq->park_left_ns <= s->options.park_ns;
    }
    return false;
}

bool tsr_sched_is_valid(const struct tsr_sched *s)
{
    uint32_t total = 0, admitted = 0, pages = 0;
    for (uint32_t state = 0; state < TSR_SCHED_STATES; state++) {
        const struct tsr_sched_list *list = &s->lists[state];
        uint32_t n = 0, prev = TSR_SCHED_NONE;
        for (uint32_t id = list->head; id != TSR_SCHED_NONE; id = s->seqs[id].next) {
            const struct tsr_sched_seq *seq = &s->seqs[id];
            if (seq->state != state || seq->prev != prev || n++ > s->n_seqs ||
                !seq_is_valid(s, seq)) {
                return false;
            }
            if (state == TSR_SCHED_WAITING && prev != TSR_SCHED_NONE &&
                s->seqs[prev].key > seq->key) {
                return false;
            }
            if (seq->admitted) {
                admitted++;
                pages += seq->kv.n_pages;
            }
            prev = id;
        }
        if (n != list->n || list->tail != prev) {
            return false;
        }
        total += n;
    }
    return total == s->n_seqs && admitted + s->n_tables_free == s->options.sequences_max &&
           pages == s->pages_held && not_admitted(s) <= s->options.queue_max;
}
