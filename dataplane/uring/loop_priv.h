/* What the files of the loop share. */
#ifndef TSR_URING_LOOP_PRIV_H
#define TSR_URING_LOOP_PRIV_H

#include <tsr/api/figures.h>
#include <tsr/uring/connection.h>
#include <tsr/uring/loop.h>

struct tsr_loop_figures {
    struct tsr_histogram token_work[2], token[2]; /* [1]: the turn began with a wake-up */
    struct tsr_histogram request, bell;
    uint64_t enters;
    uint64_t accept_pauses, idle_closed, refused;
    uint64_t malformed; /* requests, of HTTP/1.1 */
    uint64_t heads_bytes, answers_bytes;
};

/* An engine's descriptor, or the API's own, that is polled for. The tag holds both indices, so that
 * a completion of a descriptor that was there before is known. */
struct tsr_loop_engine {
    int fd; /* -1: none */
    uint32_t generation;
    bool polling;
};

/* A connection that was accepted while no slot was free: one accept takes all that wait. */
struct tsr_loop_waiting {
    int fd;
    uint32_t socket; /* that it came by */
};

enum { TSR_LOOP_WAITING_MAX = 1024 };

enum tsr_loop_phase { TSR_LOOP_SERVING, TSR_LOOP_DRAINING, TSR_LOOP_ENDING };

struct tsr_loop {
    struct tsr_loop_options o;
    struct tsr_conns *conns;
    struct tsr_loop_figures figures;
    uint64_t now_ns; /* when this turn began */
    enum tsr_loop_phase phase;
    bool spins;     /* never sleeps */
    bool slept;     /* before this turn */
    bool signalled; /* the signals' descriptor is polled */
    bool called;    /* an engine's descriptor has become readable */
    uint64_t drain_until_ns;

    bool accepting[TSR_SOCKETS_MAX], stopping[TSR_SOCKETS_MAX];
    struct tsr_loop_waiting waiting[TSR_LOOP_WAITING_MAX]; /* a queue, [n % MAX] */
    uint32_t waiting_first, waiting_end;
    uint64_t accept_again_ns; /* after a lack of descriptors; 0: at once */
    uint64_t said_ns;         /* when that was last logged */
    struct tsr_loop_engine engines[TSR_API_FDS_MAX];

    uint64_t watchdog_ns, files_ns; /* when next: to be told; to be looked at */
    uint64_t whole;                 /* requests that were whole at the end of the last turn */
};

/* figures.c */
int tsr_loop_show_figures(struct tsr_loop *loop, struct tsr_err *err);

#endif
