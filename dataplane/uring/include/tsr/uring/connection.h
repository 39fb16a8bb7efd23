/* The door's connections: what the ring has done for each is passed to TLS and HTTP/1.1, and what
 * these want is asked of the ring.
 *
 * A connection's slot is free again only when all its operations have completed (`ops` counts
 * them), so no completion ever meets a stranger. One thread. */
#ifndef TSR_URING_CONNECTION_H
#define TSR_URING_CONNECTION_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <tsr/api/figures.h>
#include <tsr/api/peers.h>
#include <tsr/http1/http1.h>
#include <tsr/shm/err.h>
#include <tsr/uring/ring.h>
#include <tsr/uring/tls.h>

enum {
    TSR_CONN_PARTS = 4,                /* of an answer, sent at once */
    TSR_CONN_HELD_BYTES_MAX = 1 << 20, /* see `held` */
    TSR_CONNS_HELD_BYTES_MAX = 64 << 20,
    TSR_CONNS_REST_MS = 1000, /* after that long TLS gives its buffers back */
};

struct tsr_conn {
    struct tsr_http1_conn *http1; /* NULL during the handshake */
    struct tsr_tls_conn *tls;     /* NULL: plain */
    int fd;
    uint32_t peer;
    uint32_t ops; /* operations whose last completion is still to come */
    bool receiving, stopping, sending, watching;
    bool greeted;   /* the TLS handshake is done */
    bool refused;   /* it has failed: ends when the alert has left */
    bool eof;       /* the client has said that nothing more comes */
    bool shut, fin; /* we have: within TLS, and to the kernel */
    bool closing;

    uint8_t *held; /* came while the answer before was under way: malloc'ed, to be fed later */
    uint32_t held_bytes;
    uint32_t plain;        /* bytes of the answer that the TLS records under way hold */
    struct msghdr message; /* of the send that is under way */
    struct iovec parts[TSR_CONN_PARTS];

    struct tsr_conn *next, *before; /* on the list of those that shake hands, or rest; free: next */
    uint64_t due_ns;
    bool listed;
};

struct tsr_conn_list {
    struct tsr_conn *first, *last; /* due in this order */
};

struct tsr_conns_figures {
    uint64_t open;
    uint64_t accepted;
    uint64_t received_bytes, sent_bytes;
    uint64_t handshakes, handshakes_failed, handshakes_late;
    uint64_t refused_address;
    uint64_t no_buffer; /* receives that had to wait for a buffer */
};

struct tsr_conns {
    struct tsr_uring *uring;
    struct tsr_http1 *http1;
    struct tsr_peers *peers;
    uint32_t max;
    uint64_t handshake_ns;
    uint64_t now_ns; /* of this turn */

    struct tsr_conn *all; /* [max] */
    struct tsr_conn *free;
    struct tsr_conn_list greeting, resting;
    uint64_t held_bytes;
    uint64_t *stamps; /* [max] publication of the tokens that this turn sends */
    uint32_t n_stamps;
    struct tsr_conns_figures figures;
};

/* uring, http1 and peers stay the caller's. -ENOMEM. */
int tsr_conns_create(struct tsr_conns **conns, struct tsr_uring *uring, struct tsr_http1 *http1,
                     struct tsr_peers *peers, uint32_t max, uint32_t handshake_s,
                     struct tsr_err *err);
void tsr_conns_destroy(struct tsr_conns *conns); /* none may be open */

static inline bool tsr_conns_full(const struct tsr_conns *conns)
{
    return !conns->free;
}

/* A socket has been accepted, and a slot is free: it is theirs. tls: NULL for a plain one. */
void tsr_conns_add(struct tsr_conns *conns, int fd, struct tsr_tls *tls);

/* A completion from TSR_URING_RECV on. */
void tsr_conns_complete(struct tsr_conns *conns, enum tsr_uring_kind kind, uint32_t owner,
                        int result, uint32_t cqe_flags);

/* Does what connections want since the last time; true: requests may have been asked. */
bool tsr_conns_serve(struct tsr_conns *conns);

/* Ends handshakes that take too long; when it wants to be called again. */
void tsr_conns_step(struct tsr_conns *conns, uint64_t now_ns);
uint64_t tsr_conns_wake_ns(const struct tsr_conns *conns);

/* Ends them all, now. */
void tsr_conns_fail(struct tsr_conns *conns);

#endif
