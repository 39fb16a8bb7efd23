/* The loops of the bypass door, one a queue, each in a thread of its own: it polls a port and the
 * engines, runs each event to its end, and sleeps, where it may, when there are none.
 *
 * Queue 0 is the door's first thread: signals come there, and it speaks to the service manager. */
#ifndef TSR_BYPASS_LOOP_H
#define TSR_BYPASS_LOOP_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <tsr/bypass/hand.h>
#include <tsr/daemon/watch.h>
#include <tsr/shm/err.h>

struct tsr_api;
struct tsr_bypass_loop;
struct tsr_http3;
struct tsr_notify;
struct tsr_port;

/* What a loop does when nothing is to be done. */
enum tsr_bypass_idle {
    TSR_BYPASS_SLEEP, /* in the kernel, until something comes; for short times where the port has no
                         descriptor */
    TSR_BYPASS_PAUSE, /* polls on, less and less often: up to some 10 microseconds between */
    TSR_BYPASS_SPIN,  /* polls on */
};

/* Between the threads of a door: what queue 0 asks of all, and what each says of itself. */
struct tsr_bypass_shared {
    uint32_t queues;
    struct tsr_port *const *ports; /* [queues] */
    struct tsr_hand *hand;
    atomic_uint reloads;                            /* times that files are to be read again */
    _Atomic uint64_t drain_until_ns;                /* 0: serving */
    atomic_bool failed;                             /* a thread has: all end */
    atomic_uint ended;                              /* threads, but the first */
    _Atomic uint64_t beats_ns[TSR_PORT_QUEUES_MAX]; /* when each was last seen */
};

struct tsr_bypass_loop_options {
    uint32_t queue;
    struct tsr_bypass_shared *shared;
    struct tsr_api *api;
    struct tsr_http3 *http3;
    struct tsr_port *port;
    struct tsr_notify *notify;
    int signals; /* a signalfd, for queue 0: SIGHUP reloads, SIGUSR1 captures, others end */
    int capture; /* where the dropped packets go at SIGUSR1; -1: nowhere */
    struct tsr_watch files; /* of http3: noted before they were read */
    uint32_t drain_s;
    enum tsr_bypass_idle idle; /* PAUSE and SPIN only while no engine's CPU is taken by it */
};

/* Opens the file that dropped packets go to. Its descriptor, or a negative errno with a sentence.
 */
int tsr_bypass_capture_open(const char *path, struct tsr_err *err);

/* Shows the figures of HTTP/3 and of the port under /metrics. -ENOMEM, or what that said. */
int tsr_bypass_loop_create(struct tsr_bypass_loop **loop,
                           const struct tsr_bypass_loop_options *options, struct tsr_err *err);
void tsr_bypass_loop_destroy(struct tsr_bypass_loop *loop); /* before its api; NULL is allowed */

/* Returns when a signal has ended the door and its answers are whole, or drain_s are over: 0; or a
 * negative errno with a sentence. */
int tsr_bypass_loop_run(struct tsr_bypass_loop *loop, struct tsr_err *err);

#endif
