/* When what is due: a binary heap, room for all of it reserved at the start. */
#ifndef TSR_HTTP3_TIMER_PRIV_H
#define TSR_HTTP3_TIMER_PRIV_H

#include <stdbool.h>
#include <stdint.h>

struct tsr_http3_timer {
    uint64_t due_ns;
    uint32_t at; /* in the heap, from 1; 0: not set */
};

struct tsr_http3_timers {
    struct tsr_http3_timer **heap; /* [1 .. n], heap[i]->due_ns >= heap[i / 2]->due_ns */
    uint32_t n;
};

bool tsr_http3_timers_init(struct tsr_http3_timers *timers, uint32_t n_max); /* false: -ENOMEM */
void tsr_http3_timers_fini(struct tsr_http3_timers *timers);

/* UINT64_MAX: never, it is taken out. */
void tsr_http3_timers_set(struct tsr_http3_timers *timers, struct tsr_http3_timer *timer,
                          uint64_t due_ns);

/* The earliest; NULL: none. */
struct tsr_http3_timer *tsr_http3_timers_first(const struct tsr_http3_timers *timers);

#endif
