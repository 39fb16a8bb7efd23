/* Status: what the engine says about itself. */
#ifndef TSR_SERVE_STATUS_H
#define TSR_SERVE_STATUS_H

#include <stdbool.h>
#include <stdint.h>

#include <tsr/shm/wire.h>

struct tsr_frontend;
struct tsr_session;

/* Counted by the frontend since the start. */
struct tsr_status_counts {
    uint64_t steps;
    uint64_t prompt_tokens, completion_tokens;
    uint64_t requests_done, requests_refused;
    struct tsr_wire_status_counters sums;
};

/* What does not change while the engine runs; filled before it does. */
struct tsr_status_plate {
    uint64_t started_ns, load_ns;
    uint64_t weights_bytes, kv_bytes;
    char model[128], architecture[32], weights[32], kernels[32];
    uint32_t n_nodes;
    struct tsr_wire_status_node nodes[TSR_WIRE_STATUS_NODES_MAX];
    uint32_t n_threads;
    struct tsr_wire_status_thread
        threads[TSR_WIRE_STATUS_THREADS_MAX]; /* the state is of the moment */
};

/* Answers a STATUS request in one record; false where the ring has no room for it now. */
bool tsr_status_say(struct tsr_frontend *frontend, struct tsr_session *session, uint64_t id,
                    uint64_t now_ns);

#endif
