/* HTTP/1.1 (RFC 9110, 9112) between a door's bytes and the exchanges of api.h.
 *
 * No sockets, no TLS and no clock: the door says what came, what has left and what time it is. One
 * thread owns a tsr_http1 and its connections, the same one that owns the tsr_api.
 *
 * A turn of a door's loop:
 *   tsr_http1_step(), then for what came tsr_http1_feed(), _sent(), _eof(), then tsr_api_step() and
 *   tsr_api_flush(), then for each tsr_http1_ready(): what tsr_http1_wants() says. That may make
 *   connections ready again (held bytes that are fed): so until none is.
 *
 * Memory: a connection is a few hundred bytes; buffers exist only while a head comes in pieces, and
 * while an answer waits to be sent. All of it is bounded by the options. */
#ifndef TSR_HTTP1_HTTP1_H
#define TSR_HTTP1_HTTP1_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include <tsr/shm/err.h>

struct tsr_api;
struct tsr_http1;
struct tsr_http1_conn;

enum {
    TSR_HTTP1_LINE_MAX = 8 << 10,  /* bytes of a request line; more: 414 */
    TSR_HTTP1_HEAD_MAX = 32 << 10, /* bytes of a head; more: 431 */
    TSR_HTTP1_HEADERS_MAX = 100,   /* headers; more: 431 */
};

struct tsr_http1_options {
    uint32_t conns_max;       /* connections at once [16384] */
    uint32_t head_s;          /* seconds from a head's first byte until it is whole [10] */
    uint32_t idle_s;          /* seconds without a request [75] */
    uint32_t stall_s;         /* a body that comes and an answer that goes, each must ... [30] */
    uint32_t stall_bytes;     /* ... move as many bytes in that time, or all that there is [4096] */
    size_t heads_bytes_max;   /* of all heads that come in pieces; more: 503 [64 MiB] */
    size_t answer_bytes_max;  /* queued for one connection; more: it is aborted [16 MiB] */
    size_t answers_bytes_max; /* queued for all; the last quarter: 16 KiB for each [256 MiB] */
    const char *alt_svc;      /* value of the Alt-Svc header (RFC 7838) of answers over TLS; NULL:
                                 none. The caller's, unchanged [NULL] */
};

/* The defaults in brackets above. */
void tsr_http1_options_init(struct tsr_http1_options *options);

/* -EINVAL, -ENOMEM with a sentence. The api must outlive it. */
int tsr_http1_create(struct tsr_http1 **http1, struct tsr_api *api,
                     const struct tsr_http1_options *options, struct tsr_err *err);
void tsr_http1_destroy(struct tsr_http1 *http1); /* no connection may be open */

/* What time it is, at the start of each turn: CLOCK_MONOTONIC, and seconds since 1970 for the Date
 * header. Ends what has taken too long. */
void tsr_http1_step(struct tsr_http1 *http1, uint64_t now_ns, uint64_t unix_s);

/* When it wants to be called again at the latest; UINT64_MAX: no matter when. */
uint64_t tsr_http1_wake_ns(const struct tsr_http1 *http1);

/* The next connection of which something may be wanted that was not wanted when it was last
 * returned; NULL: none. */
struct tsr_http1_conn *tsr_http1_ready(struct tsr_http1 *http1);

/* The connection that has been without a request for the longest time, NULL: none. Where the door
 * needs room, it may end it: tsr_http1_fail(). */
struct tsr_http1_conn *tsr_http1_idlest(const struct tsr_http1 *http1);

/* The door is closing: connections without a request, or with half a head, want to be closed,
 * others after their answer. */
void tsr_http1_drain(struct tsr_http1 *http1);

/* ---- One connection ---- */

/* A connection has been accepted. owner: the door's, given back by tsr_http1_owner(). NULL where
 * conns_max are open. (A TLS handshake's time is the door's to bound.) */
struct tsr_http1_conn *tsr_http1_open(struct tsr_http1 *http1, void *owner);

/* It is under TLS: said once, before the first feed(). */
void tsr_http1_secured(struct tsr_http1_conn *conn);
void *tsr_http1_owner(const struct tsr_http1_conn *conn);

/* What it wants now; changes only inside the calls of this header and of api.h. */
enum tsr_http1_wants {
    TSR_HTTP1_READ = 1,  /* feed() takes bytes. Where it is not wanted the door still watches for
                            the end of the stream: a client that goes is seen by that alone */
    TSR_HTTP1_WRITE = 2, /* out() has bytes */
    TSR_HTTP1_SHUT = 4,  /* all is sent: say so (FIN, close_notify); what comes is still fed, and
                            discarded, until eof or CLOSE: closing over unread bytes would reset the
                            connection and might destroy the answer at the client */
    TSR_HTTP1_CLOSE = 8, /* alone: nothing is left to be done, close */
};
unsigned tsr_http1_wants(const struct tsr_http1_conn *conn);

/* Bytes that came. Returns how many of them were taken: fewer where the next request has to wait
 * for the answer before it. The door keeps the others, reads no more, and feeds them again when
 * READ is wanted. Nothing points into bytes afterwards; header names in it are turned to lower case
 * in place. */
size_t tsr_http1_feed(struct tsr_http1_conn *conn, void *bytes, size_t size);

/* Nothing will come any more: the client has closed, or its sending side. A request whose answer is
 * not whole is cancelled; what is queued otherwise is still to be sent. Bytes not yet fed are lost.
 */
void tsr_http1_eof(struct tsr_http1_conn *conn);

/* The bytes to be sent, from the oldest: fills up to n_max parts of iov, returns how many. They
 * stay where they are until tsr_http1_sent() or tsr_http1_close(), whatever else is called: so a
 * send may be under way. One at a time: the next call gives the same bytes again, and those that
 * came since. token_ns (may be NULL): when the newest token of the queue was published, where that
 * is new since the last call; otherwise 0. */
uint32_t tsr_http1_out(struct tsr_http1_conn *conn, struct iovec *iov, uint32_t n_max,
                       uint64_t *token_ns);

/* So many of these bytes have been taken by the kernel. (With TLS: when their records have. Called
 * earlier, a slow reader would not hold back its request.) */
void tsr_http1_sent(struct tsr_http1_conn *conn, size_t bytes);

/* The connection is broken: its request is cancelled now, and CLOSE is wanted. For a door that has
 * still to wait for its operations before it may close. */
void tsr_http1_fail(struct tsr_http1_conn *conn);

/* The end, at any time: as tsr_http1_fail(), and conn is gone. No send may be under way. */
void tsr_http1_close(struct tsr_http1_conn *conn);

/* ---- Figures ---- */

struct tsr_http1_counts {
    uint32_t conns;       /* open */
    uint64_t requests;    /* heads that were whole and right */
    uint64_t whole;       /* requests that have come to their last byte, and had no answer before */
    uint64_t refused;     /* answered by HTTP/1 itself: malformed, too large, too late */
    size_t heads_bytes;   /* held now */
    size_t answers_bytes; /* held now, whole blocks */
};
void tsr_http1_counts(const struct tsr_http1 *http1, struct tsr_http1_counts *counts);

#endif
