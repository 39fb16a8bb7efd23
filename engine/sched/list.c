#include "sched_priv.h"

#include <assert.h>

void tsr_sched_list_insert(struct tsr_sched *sched, enum tsr_sched_state state, uint32_t before,
                           uint32_t id)
{
    struct tsr_sched_list *list = &sched->lists[state];
    struct tsr_sched_seq *seq = &sched->seqs[id];
    uint32_t after = before == TSR_SCHED_NONE ? list->tail : sched->seqs[before].prev;

    seq->state = state;
    seq->prev = after;
    seq->next = before;
    if (after == TSR_SCHED_NONE) {
        list->head = id;
    } else {
        sched->seqs[after].next = id;
    }
    if (before == TSR_SCHED_NONE) {
        list->tail = id;
    } else {
        sched->seqs[before].prev = id;
    }
    list->n++;
}

void tsr_sched_list_push(struct tsr_sched *sched, enum tsr_sched_state state, uint32_t id)
{
    tsr_sched_list_insert(sched, state, TSR_SCHED_NONE, id);
}

void tsr_sched_list_remove(struct tsr_sched *sched, uint32_t id)
{
    struct tsr_sched_seq *seq = &sched->seqs[id];
    struct tsr_sched_list *list = &sched->lists[seq->state];

    assert(list->n > 0);
    if (seq->prev == TSR_SCHED_NONE) {
        list->head = seq->next;
    } else {
        sched->seqs[seq->prev].next = seq->next;
    }
    if (seq->next == TSR_SCHED_NONE) {
        list->tail = seq->prev;
    } else {
        sched->seqs[seq->next].prev = seq->prev;
    }
    list->n--;
}
