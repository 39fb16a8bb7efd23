/* A door without sockets, for one connection: what a client sends is fed, what it is sent is kept.
 */
#ifndef TSR_TEST_PAPER_DOOR_H
#define TSR_TEST_PAPER_DOOR_H

#include <tsr/http1/http1.h>

#include "text.h"

enum { DOOR_UNIX_S = 784111777 }; /* Sun, 06 Nov 1994 08:49:37 GMT */

struct door {
    struct tsr_http1 *http1;
    struct tsr_http1_conn *conn;
    uint64_t now_ns;
    struct text in;    /* that has come and was not taken */
    struct text out;   /* that has left */
    size_t sends;      /* bytes that the socket still takes; SIZE_MAX: all */
    bool shut, closed; /* what the connection wanted in the end */
};

/* A client connects; the one before it, if any, has left. */
static inline void door_accept(struct door *door, struct tsr_http1 *http1, uint64_t now_ns)
{
    *door = (struct door){
        .http1 = http1,
        .now_ns = now_ns,
        .in = door->in,
        .out = door->out,
        .sends = SIZE_MAX,
    };
    tsr_http1_step(http1, door->now_ns, DOOR_UNIX_S);
    door->conn = tsr_http1_open(http1, door);
    text_clear(&door->in);
    text_clear(&door->out);
}

static inline void door_leave(struct door *door)
{
    if (door->conn) {
        tsr_http1_close(door->conn);
    }
    struct tsr_http1_counts counts;
    tsr_http1_counts(door->http1, &counts);
    if (counts.conns || counts.heads_bytes || counts.answers_bytes) {
        abort();
    }
}

static inline void door_send(struct door *door)
{
    struct iovec iov[4];
    uint32_t n = tsr_http1_out(door->conn, iov, 4, NULL);
    size_t sent = 0;
    for (uint32_t i = 0; i < n && sent < door->sends; i++) {
        size_t left = door->sends - sent;
        size_t size = iov[i].iov_len < left ? iov[i].iov_len : left;
        text_put(&door->out, iov[i].iov_base, size);
        sent += size;
    }
    door->sends -= door->sends == SIZE_MAX ? 0 : sent;
    if (sent) {
        tsr_http1_sent(door->conn, sent);
    }
}

/* Feeds what has come, in memory of exactly its size, so that a sanitizer sees what is read beyond
 * it. */
static inline void door_take(struct door *door)
{
    if (!door->in.size || !(tsr_http1_wants(door->conn) & TSR_HTTP1_READ)) {
        return;
    }
    void *exact = malloc(door->in.size);
    if (!exact) {
        abort();
    }
    memcpy(exact, door->in.bytes, door->in.size);
    size_t taken = tsr_http1_feed(door->conn, exact, door->in.size);
    free(exact);
    memmove(door->in.bytes, door->in.bytes + taken, door->in.size - taken);
    door->in.size -= taken;
}

/* What a door does at the end of a turn. */
static inline void door_turn(struct door *door)
{
    while (door->conn && tsr_http1_ready(door->http1)) {
        unsigned wants = tsr_http1_wants(door->conn);
        if (wants & TSR_HTTP1_WRITE) {
            door_send(door);
        }
        door_take(door);
        door->shut = door->shut || (wants & TSR_HTTP1_SHUT);
        if (wants & TSR_HTTP1_CLOSE) {
            door->closed = true;
            tsr_http1_close(door->conn);
            door->conn = NULL;
        }
    }
}

static inline void door_feed(struct door *door, const void *bytes, size_t size)
{
    text_put(&door->in, bytes, size);
    if (door->conn) {
        door_take(door);
    }
    door_turn(door);
}

#endif
