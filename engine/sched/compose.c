/* What a step is made of. */
#include "sched_priv.h"

#include <assert.h>

/* Least rows of a prompt in a step, where it has so many: below it, spans cost more than they
 * bring. */
enum { SHARE_MIN = 16 };

static uint32_t min(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

/* Moves the first n of a list behind the others. */
static void rotate(struct tsr_sched *s, enum tsr_sched_state state, uint32_t n)
{
    for (; n > 0; n--) {
        uint32_t id = s->lists[state].head;
        tsr_sched_list_remove(s, id);
        tsr_sched_list_push(s, state, id);
    }
}

/* Which of the span's rows belong to the embedding. */
static void pool(const struct tsr_sched_seq *seq, struct tsr_span *span)
{
    bool is_last = span->position + span->rows == seq->prompt_tokens;
    span->pooled = seq->pooled;
    switch (seq->pooling) {
    case TSR_POOLING_MEAN:
        span->pool_rows = span->rows;
        break;
    case TSR_POOLING_CLS:
        span->pool_rows = span->position == 0;
        break;
    default:
        span->pool_first = span->rows - 1;
        span->pool_rows = is_last;
    }
}

static void add_span(struct tsr_sched *s, uint32_t id, const uint32_t *tokens, uint32_t rows,
                     bool logits)
{
    struct tsr_sched_seq *seq = &s->seqs[id];
    struct tsr_sched_step *step = &s->step;
    struct tsr_span *span = &step->spans[step->n_spans];

    s->step.span_ids[step->n_spans++] = id;
    *span = (struct tsr_span){
        .kv = &seq->kv,
        .tokens = tokens,
        .rows = rows,
        .position = seq->position,
        .logit_rows = logits,
    };
    seq->rows = rows;
    step->rows += rows;
    if (seq->pooled) {
        pool(seq, span);
    }
    if (logits) {
        step->logit_ids[step->n_logits++] = id;
    }
}

static void add_decode(struct tsr_sched *s)
{
    const struct tsr_sched_options *o = &s->options;
    const struct tsr_sched_list *list = &s->lists[TSR_SCHED_DECODE];
    uint32_t room = min(o->rows_max, o->logit_rows_max);

    /* Prompts always get on: a chunk's worth of rows, and logits for one that ends. */
    if (s->lists[TSR_SCHED_PREFILL].n > 0) {
        room = min(o->rows_max - o->chunk_rows, o->logit_rows_max - 1);
    }
    uint32_t n = min(list->n, room);
    uint32_t id = list->head;
    for (uint32_t i = 0; i < n; i++) {
        add_span(s, id, &s->seqs[id].token, 1, true);
        id = s->seqs[id].next;
    }
    s->step.decode_rows = n;
    if (n < list->n) {
        rotate(s, TSR_SCHED_DECODE, n);
    }
}

static void add_prefill(struct tsr_sched *s)
{
    const struct tsr_sched_options *o = &s->options;
    const struct tsr_sched_list *list = &s->lists[TSR_SCHED_PREFILL];
    struct tsr_sched_step *step = &s->step;
    if (list->n == 0) {
        return;
    }
    uint32_t budget = step->decode_rows ? o->chunk_rows : o->rows_max;
    uint32_t share = budget / list->n;
    share = share > SHARE_MIN ? share : min(SHARE_MIN, budget);

    /* First the shares, then what is left over to the first in turn. */
    uint32_t served = 0;
    uint32_t left = budget;
    for (uint32_t id = list->head; id != TSR_SCHED_NONE && left > 0; id = s->seqs[id].next) {
        struct tsr_sched_seq *seq = &s->seqs[id];
        seq->rows = min(min(seq->prompt_tokens - seq->position, share), left);
        left -= seq->rows;
        served++;
    }
    uint32_t id = list->head;
    for (uint32_t i = 0; i < served; i++, id = s->seqs[id].next) {
        struct tsr_sched_seq *seq = &s->seqs[id];
        uint32_t remaining = seq->prompt_tokens - seq->position;
        uint32_t more = min(remaining - seq->rows, left);
        uint32_t rows = seq->rows + more;
        left -= more;

        bool logits = rows == remaining && !seq->pooled;
        if (logits && step->n_logits == o->logit_rows_max) {
            logits = false; /* none left in this step: its last row waits */
            rows--;
        }
        seq->rows = 0;
        if (rows > 0) {
            add_span(s, id, seq->prompt + seq->position, rows, logits);
        }
    }
    rotate(s, TSR_SCHED_PREFILL, served < list->n ? served : 1);
}

const struct tsr_sched_step *tsr_sched_compose(struct tsr_sched *s, uint64_t now_ns)
{
    assert(!s->composed);
    tsr_sched_admit(s, now_ns);
    s->step.n_spans = 0;
    s->step.rows = 0;
    s->step.n_logits = 0;
    s->step.n_pooled = 0;
    s->step.decode_rows = 0;
    add_decode(s);
    add_prefill(s);
    s->composed = s->step.n_spans > 0;
    return &s->step;
}

void tsr_sched_commit(struct tsr_sched *s)
{
    assert(s->composed);
    s->composed = false;
    for (uint32_t i = 0; i < s->step.n_spans; i++) {
        uint32_t id = s->step.span_ids[i];
        struct tsr_sched_seq *seq = &s->seqs[id];
        seq->position += seq->rows;
        seq->rows = 0;
        if (seq->pooled && seq->position == seq->prompt_tokens) {
            seq->pending = true;
            s->step.pooled_ids[s->step.n_pooled++] = id;
        }
        if (s->step.spans[i].logit_rows == 0) {
            continue;
        }
        seq->pending = true;
        if (seq->state == TSR_SCHED_PREFILL) {
            tsr_sched_list_remove(s, id);
            tsr_sched_list_push(s, TSR_SCHED_DECODE, id);
        }
    }
}
