/* The loop of the bypass door: one thread polls a port and the engines, runs each event to its end,
 * and sleeps, where it may, when there are none. */
#ifndef TSR_BYPASS_LOOP_H
#define TSR_BYPASS_LOOP_H

#include <stdbool.h>
#include <stdint.h>

#include <tsr/daemon/watch.h>
#include <tsr/shm/err.h>

struct tsr_api;
struct tsr_http3;
struct tsr_notify;
struct tsr_port;

struct tsr_bypass_loop_options {
    struct tsr_api *api;
    struct tsr_http3 *http3;
    struct tsr_port *port;
    struct tsr_notify *notify;
    int signals;            /* a signalfd: SIGHUP reloads, SIGUSR1 captures, others end */
    int capture;            /* a file for dropped packets; -1: none */
    struct tsr_watch files; /* of http3: noted before they were read */
    uint32_t drain_s;
    bool spin; /* never sleeps, where no engine's CPU is taken by it */
};

/* A file for options.capture, now empty: a descriptor, or what open() gave, with a sentence. */
int tsr_bypass_capture_open(const char *path, struct tsr_err *err);

/* Shows the figures of HTTP/3 and of the port under /metrics. Returns when a signal has ended it
 * and its answers are whole, or drain_s are over: 0; or a negative errno with a sentence. */
int tsr_bypass_loop_run(const struct tsr_bypass_loop_options *options, struct tsr_err *err);

#endif
