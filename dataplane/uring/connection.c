#include <tsr/uring/connection.h>

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <tsr/shm/log.h>

enum { PLAIN_BYTES = 16 << 10 }; /* of one record */

static uint32_t index_of(const struct tsr_conns *conns, const struct tsr_conn *conn)
{
    return (uint32_t)(conn - conns->all);
}

/* ---- Lists ---- */

static void leave(struct tsr_conns *conns, struct tsr_conn *conn)
{
    if (!conn->listed) {
        return;
    }
    struct tsr_conn_list *list = conn->greeted ? &conns->resting : &conns->greeting;
    *(conn->before ? &conn->before->next : &list->first) = conn->next;
    *(conn->next ? &conn->next->before : &list->last) = conn->before;
    conn->listed = false;
}

static void join(struct tsr_conn_list *list, struct tsr_conn *conn, uint64_t due_ns)
{
    conn->due_ns = due_ns;
    conn->before = list->last;
    conn->next = NULL;
    *(list->last ? &list->last->next : &list->first) = conn;
    list->last = conn;
    conn->listed = true;
}

/* ---- Operations ---- */

static struct io_uring_sqe *next_op(struct tsr_conns *conns, struct tsr_conn *conn,
                                    enum tsr_uring_kind kind)
{
    conn->ops++;
    return tsr_uring_next(conns->uring, kind, index_of(conns, conn));
}

static void receive(struct tsr_conns *conns, struct tsr_conn *conn)
{
    if (!conn->receiving) {
        struct io_uring_sqe *sqe = next_op(conns, conn, TSR_URING_RECV);
        io_uring_prep_recv_multishot(sqe, conn->fd, NULL, 0, 0);
        sqe->flags = IOSQE_BUFFER_SELECT;
        conn->receiving = true;
    }
}

/* What has come already is still delivered. Meanwhile only the client's end is looked for. */
static void stop_receiving(struct tsr_conns *conns, struct tsr_conn *conn)
{
    if (conn->receiving && !conn->stopping) {
        io_uring_prep_cancel64(next_op(conns, conn, TSR_URING_STOP),
                               tsr_uring_tag(TSR_URING_RECV, index_of(conns, conn)), 0);
        conn->stopping = true;
    }
    if (!conn->watching) {
        io_uring_prep_poll_add(next_op(conns, conn, TSR_URING_HANGUP), conn->fd, POLLRDHUP);
        conn->watching = true;
    }
}

/* ---- The end ---- */

static void free_slot(struct tsr_conns *conns, struct tsr_conn *conn)
{
    io_uring_prep_close(tsr_uring_next(conns->uring, TSR_URING_NONE, 0), conn->fd);
    if (conn->http1) {
        tsr_http1_close(conn->http1);
    }
    if (conn->tls) {
        tsr_tls_close(conn->tls);
    }
    conns->held_bytes -= conn->held_bytes;
    free(conn->held);
    tsr_peers_leave(conns->peers, conn->peer);
    memset(conn, 0, sizeof *conn);
    conn->next = conns->free;
    conns->free = conn;
    conns->figures.open--;
}

/* Nothing is sent or taken any more, and what is under way is made to complete. serve(), which
 * comes after everything, frees the slot when it has. */
static void end(struct tsr_conns *conns, struct tsr_conn *conn)
{
    if (conn->closing) {
        return;
    }
    conn->closing = true;
    leave(conns, conn);
    if (conn->http1) {
        tsr_http1_fail(conn->http1);
    }
    if (conn->ops) {
        shutdown(conn->fd, SHUT_RDWR);
    }
}

/* The client has closed, or its sending side. */
static void ended(struct tsr_conns *conns, struct tsr_conn *conn)
{
    if (conn->eof || conn->closing) {
        return;
    }
    conn->eof = true;
    if (conn->http1) {
        tsr_http1_eof(conn->http1);
    } else {
        end(conns, conn);
    }
}

/* ---- What comes ---- */

/* Keeps what HTTP/1.1 does not take yet: the requests behind the one that is answered. */
static void hold(struct tsr_conns *conns, struct tsr_conn *conn, const uint8_t *bytes, size_t size)
{
    bool may = conn->held_bytes + size <= TSR_CONN_HELD_BYTES_MAX &&
               conns->held_bytes + size <= TSR_CONNS_HELD_BYTES_MAX;
    uint8_t *held = may ? realloc(conn->held, conn->held_bytes + size) : NULL;
    if (!held) {
        end(conns, conn);
        return;
    }
    memcpy(held + conn->held_bytes, bytes, size);
    conn->held = held;
    conn->held_bytes += (uint32_t)size;
    conns->held_bytes += size;
    stop_receiving(conns, conn);
}

static void feed(struct tsr_conns *conns, struct tsr_conn *conn, uint8_t *bytes, size_t size)
{
    size_t taken = conn->held_bytes ? 0 : tsr_http1_feed(conn->http1, bytes, size);
    if (taken < size) {
        hold(conns, conn, bytes + taken, size - taken);
    }
}

static bool feed_held(struct tsr_conns *conns, struct tsr_conn *conn)
{
    if (!conn->held_bytes) {
        return false;
    }
    size_t taken = tsr_http1_feed(conn->http1, conn->held, conn->held_bytes);
    conns->held_bytes -= taken;
    conn->held_bytes -= (uint32_t)taken;
    if (conn->held_bytes) {
        memmove(conn->held, conn->held + taken, conn->held_bytes);
    } else {
        free(conn->held);
        conn->held = NULL;
    }
    return taken > 0;
}

static bool open_http1(struct tsr_conns *conns, struct tsr_conn *conn)
{
    conn->http1 = tsr_http1_open(conns->http1, conn);
    if (!conn->http1) {
        end(conns, conn);
    } else if (conn->tls) {
        tsr_http1_secured(conn->http1);
    }
    return conn->http1;
}

static bool shake_hands(struct tsr_conns *conns, struct tsr_conn *conn)
{
    struct tsr_err err = {0};
    int rc = tsr_tls_handshake(conn->tls, &err);
    if (rc == 0) {
        return false;
    }
    if (rc < 0) {
        tsr_log(TSR_LOG_DEBUG, "%s", err.text);
        conns->figures.handshakes_failed++;
        conn->refused = true;
        return false;
    }
    leave(conns, conn);
    conn->greeted = true;
    conns->figures.handshakes++;
    return open_http1(conns, conn);
}

static void feed_tls(struct tsr_conns *conns, struct tsr_conn *conn, const uint8_t *bytes,
                     size_t size)
{
    uint8_t plain[PLAIN_BYTES];
    int64_t got;
    tsr_tls_feed(conn->tls, bytes, size);
    if (!conn->greeted && !shake_hands(conns, conn)) {
        return;
    }
    while (!conn->closing && (got = tsr_tls_read(conn->tls, plain, sizeof plain)) != 0) {
        if (got == -EPIPE) {
            ended(conns, conn);
            break;
        }
        if (got < 0) {
            end(conns, conn);
            break;
        }
        feed(conns, conn, plain, (size_t)got);
    }
}

static void take(struct tsr_conns *conns, struct tsr_conn *conn, int result, uint32_t cqe_flags)
{
    uint8_t *bytes = tsr_uring_buffer(conns->uring, cqe_flags);
    if (result > 0 && !conn->closing && !conn->eof && !conn->refused) {
        conns->figures.received_bytes += (uint32_t)result;
        if (conn->tls) {
            feed_tls(conns, conn, bytes, (size_t)result);
        } else {
            feed(conns, conn, bytes, (size_t)result);
        }
    }
    tsr_uring_give(conns->uring, cqe_flags);
}

static void on_received(struct tsr_conns *conns, struct tsr_conn *conn, int result,
                        uint32_t cqe_flags)
{
    conn->receiving = cqe_flags & IORING_CQE_F_MORE;
    if (cqe_flags & IORING_CQE_F_BUFFER) {
        take(conns, conn, result, cqe_flags);
    }
    if (result == 0) {
        ended(conns, conn);
    } else if (result == -ENOBUFS) {
        conns->figures.no_buffer++;
    } else if (result < 0 && result != -ECANCELED) {
        end(conns, conn);
    }
}

/* ---- What goes ---- */

static void note_token(struct tsr_conns *conns, uint64_t token_ns)
{
    if (token_ns) {
        conns->stamps[conns->n_stamps++] = token_ns;
    }
}

static void send_plain(struct tsr_conns *conns, struct tsr_conn *conn)
{
    uint64_t token_ns;
    uint32_t n = tsr_http1_out(conn->http1, conn->parts, TSR_CONN_PARTS, &token_ns);
    struct io_uring_sqe *sqe = next_op(conns, conn, TSR_URING_SEND);
    note_token(conns, token_ns);
    if (n == 1) {
        io_uring_prep_send(sqe, conn->fd, conn->parts[0].iov_base, conn->parts[0].iov_len,
                           MSG_NOSIGNAL);
    } else {
        conn->message = (struct msghdr){.msg_iov = conn->parts, .msg_iovlen = n};
        io_uring_prep_sendmsg(sqe, conn->fd, &conn->message, MSG_NOSIGNAL);
    }
    conn->sending = true;
}

/* Makes records of what is to be sent. */
static void encrypt(struct tsr_conns *conns, struct tsr_conn *conn)
{
    uint64_t token_ns;
    uint32_t n = tsr_http1_out(conn->http1, conn->parts, TSR_CONN_PARTS, &token_ns);
    note_token(conns, token_ns);
    for (uint32_t i = 0; i < n; i++) {
        int64_t put = tsr_tls_write(conn->tls, conn->parts[i].iov_base, conn->parts[i].iov_len);
        if (put < 0) {
            end(conns, conn);
            return;
        }
        conn->plain += (uint32_t)put;
        if ((size_t)put < conn->parts[i].iov_len) {
            break;
        }
    }
}

static void send_records(struct tsr_conns *conns, struct tsr_conn *conn)
{
    size_t size;
    const void *records = tsr_tls_records(conn->tls, &size);
    if (size) {
        io_uring_prep_send(next_op(conns, conn, TSR_URING_SEND), conn->fd, records, size,
                           MSG_NOSIGNAL);
        conn->sending = true;
        if (conn->greeted && !conn->listed) {
            join(&conns->resting, conn, conns->now_ns + TSR_CONNS_REST_MS * 1000000ull);
        }
    }
}

static void on_sent(struct tsr_conns *conns, struct tsr_conn *conn, int result)
{
    conn->sending = false;
    if (result < 0) {
        end(conns, conn);
        return;
    }
    conns->figures.sent_bytes += (uint32_t)result;
    if (conn->closing) {
        return;
    }
    if (!conn->tls) {
        tsr_http1_sent(conn->http1, (size_t)result);
        return;
    }
    size_t left;
    tsr_tls_sent(conn->tls, (size_t)result);
    tsr_tls_records(conn->tls, &left);
    if (left == 0 && conn->plain) {
        tsr_http1_sent(conn->http1, conn->plain);
        conn->plain = 0;
    }
}

/* ---- What is wanted ---- */

/* During the handshake, and after one that failed. */
static void serve_greeting(struct tsr_conns *conns, struct tsr_conn *conn)
{
    if (!conn->sending) {
        send_records(conns, conn);
    }
    if (!conn->refused) {
        receive(conns, conn);
    } else if (!conn->sending) {
        end(conns, conn);
    }
}

static void write_out(struct tsr_conns *conns, struct tsr_conn *conn, unsigned wants)
{
    if (!conn->tls) {
        if (wants & TSR_HTTP1_WRITE) {
            send_plain(conns, conn);
        }
        return;
    }
    size_t left;
    tsr_tls_records(conn->tls, &left);
    if (left == 0 && (wants & TSR_HTTP1_WRITE)) {
        encrypt(conns, conn);
    }
    if ((wants & TSR_HTTP1_SHUT) && !conn->shut) {
        conn->shut = true;
        tsr_tls_shut(conn->tls);
    }
    if (!conn->closing) {
        send_records(conns, conn);
    }
}

/* true: bytes that were held have been fed. */
static bool serve_http1(struct tsr_conns *conns, struct tsr_conn *conn)
{
    unsigned wants = tsr_http1_wants(conn->http1);
    bool fed = (wants & TSR_HTTP1_READ) && feed_held(conns, conn);
    wants = tsr_http1_wants(conn->http1);
    if (wants & TSR_HTTP1_CLOSE) {
        end(conns, conn);
        return fed;
    }
    if ((wants & TSR_HTTP1_READ) && !conn->held_bytes && !conn->eof) {
        receive(conns, conn);
    }
    if (!conn->sending) {
        write_out(conns, conn, wants);
    }
    if ((wants & TSR_HTTP1_SHUT) && !conn->sending && !conn->fin) {
        conn->fin = true;
        shutdown(conn->fd, SHUT_WR);
    }
    return fed;
}

/* After anything that has happened to a connection. */
static bool serve(struct tsr_conns *conns, struct tsr_conn *conn)
{
    bool fed = false;
    if (!conn->closing && conn->http1) {
        fed = serve_http1(conns, conn);
    } else if (!conn->closing) {
        serve_greeting(conns, conn);
    }
    if (conn->closing && conn->ops == 0) {
        free_slot(conns, conn);
    }
    return fed;
}

/* ---- For the loop ---- */

void tsr_conns_add(struct tsr_conns *conns, int fd, struct tsr_tls *tls)
{
    struct sockaddr_storage address = {0};
    socklen_t bytes = sizeof address;
    uint32_t peer;
    getpeername(fd, (struct sockaddr *)&address, &bytes);
    if (tsr_peers_enter(conns->peers, (const struct sockaddr *)&address, &peer) < 0) {
        conns->figures.refused_address++;
        close(fd);
        return;
    }
    struct tsr_conn *conn = conns->free;
    conns->free = conn->next;
    *conn = (struct tsr_conn){.fd = fd, .peer = peer};
    conns->figures.open++;
    conns->figures.accepted++;
    if (!tls) {
        open_http1(conns, conn);
    } else if ((conn->tls = tsr_tls_accept(tls)) != NULL) {
        join(&conns->greeting, conn, conns->now_ns + conns->handshake_ns);
    } else {
        end(conns, conn);
    }
    serve(conns, conn);
}

void tsr_conns_complete(struct tsr_conns *conns, enum tsr_uring_kind kind, uint32_t owner,
                        int result, uint32_t cqe_flags)
{
    struct tsr_conn *conn = &conns->all[owner];
    if (!(cqe_flags & IORING_CQE_F_MORE)) {
        conn->ops--;
    }
    switch (kind) {
    case TSR_URING_RECV:
        on_received(conns, conn, result, cqe_flags);
        break;
    case TSR_URING_SEND:
        on_sent(conns, conn, result);
        break;
    case TSR_URING_STOP:
        conn->stopping = false;
        break;
    default:
        conn->watching = false;
        ended(conns, conn);
        break;
    }
    serve(conns, conn);
}

bool tsr_conns_serve(struct tsr_conns *conns)
{
    struct tsr_http1_conn *ready;
    bool fed = false;
    while ((ready = tsr_http1_ready(conns->http1)) != NULL) {
        fed |= serve(conns, tsr_http1_owner(ready));
    }
    return fed;
}

static void end_late_handshakes(struct tsr_conns *conns)
{
    struct tsr_conn *conn;
    while ((conn = conns->greeting.first) != NULL && conn->due_ns <= conns->now_ns) {
        conns->figures.handshakes_late++;
        end(conns, conn);
        serve(conns, conn);
    }
}

static void rest_idle(struct tsr_conns *conns)
{
    struct tsr_conn *conn;
    while ((conn = conns->resting.first) != NULL && conn->due_ns <= conns->now_ns) {
        leave(conns, conn);
        tsr_tls_rest(conn->tls);
    }
}

void tsr_conns_step(struct tsr_conns *conns, uint64_t now_ns)
{
    conns->now_ns = now_ns;
    end_late_handshakes(conns);
    rest_idle(conns);
}

uint64_t tsr_conns_wake_ns(const struct tsr_conns *conns)
{
    uint64_t greeting = conns->greeting.first ? conns->greeting.first->due_ns : UINT64_MAX;
    uint64_t resting = conns->resting.first ? conns->resting.first->due_ns : UINT64_MAX;
    return greeting < resting ? greeting : resting;
}

void tsr_conns_fail(struct tsr_conns *conns)
{
    for (uint32_t i = 0; i < conns->max; i++) {
        struct tsr_conn *conn = &conns->all[i];
        if (conn->tls || conn->http1) {
            end(conns, conn);
            serve(conns, conn);
        }
    }
}

int tsr_conns_create(struct tsr_conns **out, struct tsr_uring *uring, struct tsr_http1 *http1,
                     struct tsr_peers *peers, uint32_t max, uint32_t handshake_s,
                     struct tsr_err *err)
{
    struct tsr_conns *conns = calloc(1, sizeof *conns);
    if (conns) {
        conns->all = calloc(max, sizeof *conns->all);
        conns->stamps = calloc(max, sizeof *conns->stamps);
    }
    if (!conns || !conns->all || !conns->stamps) {
        tsr_conns_destroy(conns);
        return tsr_err_set(err, -ENOMEM, "no memory for %u connections", max);
    }
    conns->uring = uring;
    conns->http1 = http1;
    conns->peers = peers;
    conns->max = max;
    conns->handshake_ns = handshake_s * 1000000000ull;
    for (uint32_t i = max; i-- > 0;) {
        conns->all[i].next = conns->free;
        conns->free = &conns->all[i];
    }
    *out = conns;
    return 0;
}

void tsr_conns_destroy(struct tsr_conns *conns)
{
    if (conns) {
        free(conns->all);
        free(conns->stamps);
        free(conns);
    }
}
