/* What a queue of the door counts and times, for /metrics. Written by the queue's thread. */
#ifndef TSR_BYPASS_FIGURES_PRIV_H
#define TSR_BYPASS_FIGURES_PRIV_H

#include <stdbool.h>
#include <stdint.h>

#include <tsr/api/figures.h>
#include <tsr/http3/http3.h>
#include <tsr/port/port.h>
#include <tsr/shm/err.h>

struct tsr_bypass_figures {
    const struct tsr_http3_counts *http3;
    struct tsr_port_counts port;                  /* as they were when it was last asked */
    struct tsr_histogram token_work[2], token[2]; /* [1]: the turn began with a wake-up */
    struct tsr_histogram request, bell;
    uint64_t handed_over, not_handed_over; /* datagrams from other queues, and to them */
    uint64_t whole;                        /* requests of http3 that have been timed */
};

void tsr_bypass_figures_init(struct tsr_bypass_figures *figures, const struct tsr_http3 *http3);

/* Shows them under the /metrics of one tsr_api; they stay where they are as long as it lives. */
int tsr_bypass_figures_show(const struct tsr_bypass_figures *figures, struct tsr_api *api,
                            struct tsr_err *err);

/* The tokens that the last step of http3 has sent, up to now. */
void tsr_bypass_figures_tokens(const struct tsr_http3 *http3, struct tsr_histogram *histogram);

/* The requests that have become whole since the last time, and came by came_ns: their records are
 * there for the engine now. */
void tsr_bypass_figures_requests(struct tsr_bypass_figures *figures, uint64_t came_ns);

#endif
