/* The door's one thread: a turn takes what the ring has completed and what the engines have said,
 * and ends with one system call, or none where it polls and nothing has happened. */
#ifndef TSR_URING_LOOP_H
#define TSR_URING_LOOP_H

#include <stdbool.h>
#include <stdint.h>

#include <tsr/api/api.h>
#include <tsr/api/peers.h>
#include <tsr/daemon/notify.h>
#include <tsr/http1/http1.h>
#include <tsr/shm/err.h>
#include <tsr/uring/ring.h>
#include <tsr/uring/sockets.h>
#include <tsr/uring/tls.h>

struct tsr_loop;

/* All of it stays the caller's, and outlives the loop. */
struct tsr_loop_options {
    struct tsr_uring *uring; /* enabled */
    struct tsr_api *api;
    struct tsr_http1 *http1;
    struct tsr_sockets *sockets;
    struct tsr_peers *peers;
    struct tsr_tls *tls; /* NULL: no socket is for TLS */
    const struct tsr_notify *notify;
    int signals; /* signalfd: SIGTERM and SIGINT end, SIGHUP reloads */
    uint32_t conns_max;
    uint32_t handshake_s;
    uint32_t drain_s; /* given to answers under way at the end */
    bool spin;        /* never sleep: the CPU is the door's own */
};

/* Registers the door's figures. -ENOMEM. */
int tsr_loop_create(struct tsr_loop **loop, const struct tsr_loop_options *options,
                    struct tsr_err *err);

/* Serves until a signal ends it; then nothing listens and no connection is open. A negative errno
 * with a sentence where the ring fails. */
int tsr_loop_run(struct tsr_loop *loop, struct tsr_err *err);

void tsr_loop_destroy(struct tsr_loop *loop);

#endif
