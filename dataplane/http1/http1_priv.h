/* What the files of this folder share: the connections of a door and their states. */
#ifndef TSR_HTTP1_PRIV_H
#define TSR_HTTP1_PRIV_H

#include "chunked_priv.h"
#include "head_priv.h"
#include "queue_priv.h"

#include <sys/queue.h>

enum {
    TSR_HTTP1_PIPELINED_MAX = 8 << 10, /* bytes of answers that wait before a request does */
    TSR_HTTP1_DRAINED_MAX = 256 << 10, /* a body after its answer: up to so long it is read and
                                          dropped, and the connection lives on */
};

/* Which part of a request comes next. */
enum tsr_http1_in {
    TSR_HTTP1_IN_HEAD,
    TSR_HTTP1_IN_SIZED,   /* body_left bytes of a body */
    TSR_HTTP1_IN_CHUNKED, /* a body in chunks */
    TSR_HTTP1_IN_WHOLE,   /* none before the answer is whole */
    TSR_HTTP1_IN_LAST,    /* none at all: what comes is dropped */
};

/* How far the answer is. */
enum tsr_http1_answer { TSR_HTTP1_UNANSWERED, TSR_HTTP1_ANSWERING, TSR_HTTP1_ANSWERED };

/* How the client sees where the answer's body ends. */
enum tsr_http1_framing {
    TSR_HTTP1_BY_NONE, /* it has no body */
    TSR_HTTP1_BY_LENGTH,
    TSR_HTTP1_BY_CHUNKS,
    TSR_HTTP1_BY_CLOSE,
};

/* What a connection is given time for. Each kind has one duration, so a list of those that wait,
 * oldest first, is in the order of their ends. */
enum tsr_http1_timer {
    TSR_HTTP1_IDLE,
    TSR_HTTP1_HEAD,
    TSR_HTTP1_BODY,
    TSR_HTTP1_SEND,
    TSR_HTTP1_LINGER,
    TSR_HTTP1_TIMERS,
    TSR_HTTP1_UNTIMED = TSR_HTTP1_TIMERS,
};

/* A head that came in pieces, from its first byte. */
struct tsr_http1_pieces {
    struct tsr_http1_head head;
    size_t size, capacity;
    uint8_t bytes[];
};

TAILQ_HEAD(tsr_http1_conns, tsr_http1_conn);

struct tsr_http1_conn {
    struct tsr_http1 *http1;
    void *owner;
    TAILQ_ENTRY(tsr_http1_conn) ready_at; /* while is_ready; of a closed one: in `closed` */
    TAILQ_ENTRY(tsr_http1_conn) timer_at; /* while timed */

    struct tsr_api_exchange *exchange; /* NULL: none is open */
    struct tsr_http1_pieces *pieces;   /* NULL: no head came in pieces */
    struct tsr_http1_queue out;
    struct tsr_http1_chunked chunked;
    uint64_t body_bytes;  /* of the request */
    uint64_t body_left;   /* IN_SIZED */
    uint64_t answer_left; /* BY_LENGTH */
    uint64_t token_ns;    /* of the newest token that tsr_http1_out() has not told; 0: none */
    uint64_t since_ns;    /* when its timer was set */
    uint64_t moved;       /* body bytes that came or bytes that left since then */

    enum tsr_http1_in in;
    enum tsr_http1_answer answer;
    enum tsr_http1_framing framing;
    enum tsr_http1_timer timer;
    unsigned wanted; /* when it was last made ready */
    bool is_ready;
    bool http10, keep, expects, is_head; /* of the request */
    bool secure;                         /* under TLS */
    bool eof;
    bool broken; /* nothing more is sent or taken */
};

struct tsr_http1 {
    struct tsr_api *api;
    struct tsr_http1_options options;
    uint64_t now_ns;
    uint64_t unix_s;
    char preamble[128]; /* the headers that every answer begins with, of this second */
    size_t preamble_size;
    bool draining;

    struct tsr_http1_blocks blocks;
    struct tsr_http1_conn *conns; /* [conns_max] */
    uint32_t n_used;              /* the first so many have been open */
    struct tsr_http1_conns closed;
    struct tsr_http1_conns ready;
    struct tsr_http1_conns timed[TSR_HTTP1_TIMERS];
    uint64_t timeout_ns[TSR_HTTP1_TIMERS];
    struct tsr_http1_counts counts;

    struct tsr_http1_head head; /* that came whole */
    struct tsr_api_header headers[TSR_HTTP1_HEADERS_MAX];
};

/* To be called after whatever may have changed what a connection waits for or wants. */
void tsr_http1_settle(struct tsr_http1_conn *conn);

/* Gives back the room of a connection that has nothing left. */
void tsr_http1_forget(struct tsr_http1_conn *conn);

/* ---- answer.c ---- */

extern const struct tsr_api_door tsr_http1_door; /* stream: the connection */

void tsr_http1_write_preamble(struct tsr_http1 *http1);
void tsr_http1_continue(struct tsr_http1_conn *conn); /* 100 */

/* Answers for the API, and closes after that; cancels what the API may have of the request. */
void tsr_http1_refuse(struct tsr_http1_conn *conn, struct tsr_http1_refusal refusal);

/* ---- conn.c ---- */

/* Ends the exchange where it stands; what is queued is still sent, then the connection closes. */
void tsr_http1_cut(struct tsr_http1_conn *conn);

/* Goes on to the next request, if this one and its answer are whole. */
void tsr_http1_turn_over(struct tsr_http1_conn *conn);

/* Its timer has run out. False: enough has moved meanwhile, so it starts again. */
bool tsr_http1_expire(struct tsr_http1_conn *conn);

#endif
