#include "timer_priv.h"

#include <stdlib.h>

bool tsr_http3_timers_init(struct tsr_http3_timers *timers, uint32_t n_max)
{
    *timers = (struct tsr_http3_timers){.heap = calloc((size_t)n_max + 1, sizeof *timers->heap)};
    return timers->heap;
}

void tsr_http3_timers_fini(struct tsr_http3_timers *timers)
{
    free(timers->heap);
}

static void put(struct tsr_http3_timers *timers, uint32_t at, struct tsr_http3_timer *timer)
{
    timers->heap[at] = timer;
    timer->at = at;
}

static void rise(struct tsr_http3_timers *timers, struct tsr_http3_timer *timer)
{
    uint32_t at = timer->at;
    for (; at > 1 && timers->heap[at / 2]->due_ns > timer->due_ns; at /= 2) {
        put(timers, at, timers->heap[at / 2]);
    }
    put(timers, at, timer);
}

static void sink(struct tsr_http3_timers *timers, struct tsr_http3_timer *timer)
{
    uint32_t at = timer->at;
    for (;;) {
        uint32_t child = 2 * at;
        if (child < timers->n && timers->heap[child + 1]->due_ns < timers->heap[child]->due_ns) {
            child++;
        }
        if (child > timers->n || timers->heap[child]->due_ns >= timer->due_ns) {
            break;
        }
        put(timers, at, timers->heap[child]);
        at = child;
    }
    put(timers, at, timer);
}

static void take_out(struct tsr_http3_timers *timers, struct tsr_http3_timer *timer)
{
    struct tsr_http3_timer *last = timers->heap[timers->n--];
    if (last != timer) {
        put(timers, timer->at, last);
        rise(timers, last);
        sink(timers, last);
    }
    timer->at = 0;
}

void tsr_http3_timers_set(struct tsr_http3_timers *timers, struct tsr_http3_timer *timer,
                          uint64_t due_ns)
{
    timer->due_ns = due_ns;
    if (due_ns == UINT64_MAX) {
        if (timer->at) {
            take_out(timers, timer);
        }
        return;
    }
    if (!timer->at) {
        put(timers, ++timers->n, timer);
    }
    rise(timers, timer);
    sink(timers, timer);
}

struct tsr_http3_timer *tsr_http3_timers_first(const struct tsr_http3_timers *timers)
{
    return timers->n ? timers->heap[1] : NULL;
}
