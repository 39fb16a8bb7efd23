#include "http1_priv.h"

#include <stdlib.h>
#include <string.h>

enum {
    PIECES_BYTES_MIN = 2 << 10,
    LINGER_BYTES_MAX = 64 << 20, /* dropped after the last answer */
};

/* ---- The head ---- */

static void drop_pieces(struct tsr_http1_conn *conn)
{
    if (conn->pieces) {
        conn->http1->counts.heads_bytes -= sizeof *conn->pieces + conn->pieces->capacity;
        free(conn->pieces);
        conn->pieces = NULL;
    }
}

/* Makes room for a head of so many bytes. False: there is none. */
static bool reserve_pieces(struct tsr_http1_conn *conn, size_t size)
{
    struct tsr_http1 *http1 = conn->http1;
    size_t old = conn->pieces ? conn->pieces->capacity : 0;
    if (conn->pieces && size <= old) {
        return true;
    }
    size_t capacity = old ? 2 * old : PIECES_BYTES_MIN;
    while (capacity < size) {
        capacity *= 2;
    }
    size_t more = capacity - old + (conn->pieces ? 0 : sizeof *conn->pieces);
    if (http1->counts.heads_bytes + more > http1->options.heads_bytes_max) {
        return false;
    }
    struct tsr_http1_pieces *pieces = realloc(conn->pieces, sizeof *pieces + capacity);
    if (!pieces) {
        return false;
    }
    if (!conn->pieces) {
        pieces->size = 0;
    }
    pieces->capacity = capacity;
    http1->counts.heads_bytes += more;
    conn->pieces = pieces;
    return true;
}

static bool append_piece(struct tsr_http1_conn *conn, const uint8_t *bytes, size_t size)
{
    size_t before = conn->pieces ? conn->pieces->size : 0;
    if (!reserve_pieces(conn, before + size)) {
        drop_pieces(conn);
        tsr_http1_refuse(conn, (struct tsr_http1_refusal){
                                   503, "Too many requests are half sent: try again later."});
        return false;
    }
    memcpy(conn->pieces->bytes + before, bytes, size);
    conn->pieces->size = before + size;
    return true;
}

static void begin(struct tsr_http1_conn *conn, const struct tsr_http1_head *head,
                  const uint8_t *bytes, const struct tsr_http1_asked *asked)
{
    struct tsr_http1 *http1 = conn->http1;
    for (uint32_t i = 0; i < head->n_fields; i++) {
        const struct tsr_http1_field *f = &head->fields[i];
        http1->headers[i] = (struct tsr_api_header){
            {(const char *)bytes + f->name, f->name_size},
            {(const char *)bytes + f->value, f->value_size},
        };
    }
    struct tsr_api_request request = {
        .method = asked->method,
        .path = asked->path,
        .query = asked->query,
        .host = asked->host,
        .headers = http1->headers,
        .n_headers = head->n_fields,
        .body_bytes = asked->body_bytes,
    };
    http1->counts.requests++;
    struct tsr_api_exchange *exchange =
        tsr_api_begin(http1->api, &tsr_http1_door, conn, &request, http1->now_ns);
    if (!exchange) {
        return; /* answered already; the next request may have its turn */
    }
    conn->exchange = exchange;
    if (conn->in == TSR_HTTP1_IN_WHOLE) {
        http1->counts.whole++;
        tsr_api_body_end(exchange, http1->now_ns);
    } else if (conn->expects && conn->answer == TSR_HTTP1_UNANSWERED) {
        tsr_http1_continue(conn);
    }
}

static void take_whole_head(struct tsr_http1_conn *conn, struct tsr_http1_head *head,
                            const uint8_t *bytes)
{
    struct tsr_http1_asked asked;
    bool right = tsr_http1_head_understand(head, bytes, &asked);
    conn->is_head = asked.method.size == 4 && memcmp(asked.method.bytes, "HEAD", 4) == 0;
    conn->http10 = asked.http10;
    if (!right) {
        tsr_http1_refuse(conn, head->refusal);
        return;
    }
    conn->keep = asked.keep;
    conn->expects = asked.expects && asked.body_bytes;
    conn->body_bytes = conn->body_left = asked.body_bytes;
    conn->chunked = (struct tsr_http1_chunked){.left = 0};
    conn->in = asked.body_bytes == TSR_API_UNKNOWN ? TSR_HTTP1_IN_CHUNKED
               : asked.body_bytes                  ? TSR_HTTP1_IN_SIZED
                                                   : TSR_HTTP1_IN_WHOLE;
    begin(conn, head, bytes, &asked);
}

static void take_end_of_head(struct tsr_http1_conn *conn, enum tsr_http1_read read,
                             struct tsr_http1_head *head, const uint8_t *bytes)
{
    if (read == TSR_HTTP1_WHOLE) {
        take_whole_head(conn, head, bytes);
    } else {
        tsr_http1_refuse(conn, head->refusal);
    }
}

/* Most heads come whole, and are read where they lie. */
static size_t take_first_piece(struct tsr_http1_conn *conn, uint8_t *bytes, size_t size)
{
    struct tsr_http1_head *head = &conn->http1->head;
    memset(head, 0, offsetof(struct tsr_http1_head, fields));
    enum tsr_http1_read read = tsr_http1_head_read(head, bytes, size);
    if (read == TSR_HTTP1_MORE) {
        if (append_piece(conn, bytes, size)) {
            conn->pieces->head = *head;
        }
        return size;
    }
    take_end_of_head(conn, read, head, bytes);
    return head->at;
}

static size_t take_next_piece(struct tsr_http1_conn *conn, const uint8_t *bytes, size_t size)
{
    size_t before = conn->pieces->size;
    size_t room = TSR_HTTP1_HEAD_MAX + 1 - before; /* one more, to be seen as too long */
    size = size < room ? size : room;
    if (!append_piece(conn, bytes, size)) {
        return size;
    }
    struct tsr_http1_pieces *pieces = conn->pieces;
    enum tsr_http1_read read = tsr_http1_head_read(&pieces->head, pieces->bytes, pieces->size);
    if (read == TSR_HTTP1_MORE) {
        return size;
    }
    take_end_of_head(conn, read, &pieces->head, pieces->bytes);
    size_t taken = pieces->head.at - before;
    drop_pieces(conn);
    return read == TSR_HTTP1_WHOLE ? taken : size;
}

/* ---- The body ---- */

static void end_body(struct tsr_http1_conn *conn)
{
    conn->in = TSR_HTTP1_IN_WHOLE;
    if (conn->exchange) {
        conn->http1->counts.whole++;
        tsr_api_body_end(conn->exchange, conn->http1->now_ns);
    }
    tsr_http1_turn_over(conn);
}

static void take_data(struct tsr_http1_conn *conn, const uint8_t *bytes, size_t size)
{
    if (conn->exchange && size) {
        tsr_api_body(conn->exchange, bytes, size, conn->http1->now_ns);
    }
}

static size_t take_sized(struct tsr_http1_conn *conn, const uint8_t *bytes, size_t size)
{
    size_t n = size < conn->body_left ? size : (size_t)conn->body_left;
    conn->body_left -= n;
    conn->moved += n;
    take_data(conn, bytes, n);
    if (!conn->body_left && conn->in == TSR_HTTP1_IN_SIZED) {
        end_body(conn);
    }
    return n;
}

static size_t take_chunked(struct tsr_http1_conn *conn, const uint8_t *bytes, size_t size)
{
    size_t data_size;
    size_t n = tsr_http1_chunked_read(&conn->chunked, bytes, size, &data_size);
    conn->moved += n;
    take_data(conn, bytes + n - data_size, data_size);
    if (conn->in == TSR_HTTP1_IN_CHUNKED) {
        if (conn->chunked.refusal.status) {
            tsr_http1_refuse(conn, conn->chunked.refusal);
        } else if (conn->chunked.ended) {
            end_body(conn);
        }
    }
    return n;
}

static size_t drop(struct tsr_http1_conn *conn, size_t size)
{
    conn->moved += size;
    if (conn->moved > LINGER_BYTES_MAX) {
        conn->broken = true;
    }
    return size;
}

/* ---- The connection ---- */

static bool takes(const struct tsr_http1_conn *conn)
{
    if (conn->broken || conn->eof) {
        return false;
    }
    return conn->in == TSR_HTTP1_IN_HEAD ? conn->out.held < TSR_HTTP1_PIPELINED_MAX
                                         : conn->in != TSR_HTTP1_IN_WHOLE;
}

static size_t take(struct tsr_http1_conn *conn, uint8_t *bytes, size_t size)
{
    switch (conn->in) {
    case TSR_HTTP1_IN_HEAD:
        return conn->pieces ? take_next_piece(conn, bytes, size)
                            : take_first_piece(conn, bytes, size);
    case TSR_HTTP1_IN_SIZED:
        return take_sized(conn, bytes, size);
    case TSR_HTTP1_IN_CHUNKED:
        return take_chunked(conn, bytes, size);
    default:
        return drop(conn, size);
    }
}

size_t tsr_http1_feed(struct tsr_http1_conn *conn, void *bytes, size_t size)
{
    size_t at = 0;
    while (at < size && takes(conn)) {
        at += take(conn, (uint8_t *)bytes + at, size - at);
    }
    tsr_http1_settle(conn);
    return at;
}

unsigned tsr_http1_wants(const struct tsr_http1_conn *conn)
{
    bool done = conn->in == TSR_HTTP1_IN_LAST && !conn->out.held;
    if (conn->broken || (done && conn->eof)) {
        return TSR_HTTP1_CLOSE;
    }
    return (takes(conn) ? TSR_HTTP1_READ : 0u) | (conn->out.held ? TSR_HTTP1_WRITE : 0u) |
           (done ? TSR_HTTP1_SHUT : 0u);
}

static void cancel(struct tsr_http1_conn *conn)
{
    struct tsr_api_exchange *exchange = conn->exchange;
    conn->exchange = NULL;
    if (exchange) {
        tsr_api_cancel(exchange);
    }
}

void tsr_http1_cut(struct tsr_http1_conn *conn)
{
    cancel(conn);
    conn->keep = false;
    conn->framing = TSR_HTTP1_BY_NONE;
    conn->answer = TSR_HTTP1_ANSWERED;
    conn->in = TSR_HTTP1_IN_LAST;
}

void tsr_http1_turn_over(struct tsr_http1_conn *conn)
{
    if (conn->answer != TSR_HTTP1_ANSWERED) {
        return;
    }
    if (!conn->keep || (conn->in == TSR_HTTP1_IN_WHOLE && conn->http1->draining)) {
        conn->in = TSR_HTTP1_IN_LAST;
    } else if (conn->in == TSR_HTTP1_IN_WHOLE) {
        conn->in = TSR_HTTP1_IN_HEAD;
        conn->answer = TSR_HTTP1_UNANSWERED;
        conn->http10 = conn->is_head = conn->expects = false;
    }
}

void tsr_http1_eof(struct tsr_http1_conn *conn)
{
    conn->eof = true;
    drop_pieces(conn);
    tsr_http1_cut(conn);
    tsr_http1_settle(conn);
}

void tsr_http1_fail(struct tsr_http1_conn *conn)
{
    conn->broken = true;
    cancel(conn);
    tsr_http1_settle(conn);
}

uint32_t tsr_http1_out(struct tsr_http1_conn *conn, struct iovec *iov, uint32_t n_max,
                       uint64_t *token_ns)
{
    if (token_ns) {
        *token_ns = conn->token_ns;
        conn->token_ns = 0;
    }
    return tsr_http1_queue_iov(&conn->out, iov, n_max);
}

void tsr_http1_sent(struct tsr_http1_conn *conn, size_t bytes)
{
    tsr_http1_queue_drop(&conn->http1->blocks, &conn->out, bytes);
    conn->moved += bytes;
    if (conn->exchange && !conn->broken && conn->answer == TSR_HTTP1_ANSWERING) {
        tsr_api_sent(conn->exchange, conn->out.held, conn->http1->now_ns);
    }
    tsr_http1_settle(conn);
}

static void expire_half_sent(struct tsr_http1_conn *conn)
{
    drop_pieces(conn);
    tsr_http1_refuse(
        conn, (struct tsr_http1_refusal){408, "The request did not come in the time that it has."});
}

bool tsr_http1_expire(struct tsr_http1_conn *conn)
{
    bool moves = conn->moved >= conn->http1->options.stall_bytes;
    switch (conn->timer) {
    case TSR_HTTP1_HEAD:
        expire_half_sent(conn);
        return true;
    case TSR_HTTP1_BODY:
        if (!moves) {
            expire_half_sent(conn);
        }
        return !moves;
    case TSR_HTTP1_SEND:
        if (!moves) {
            tsr_http1_fail(conn);
        }
        return !moves;
    default:
        tsr_http1_fail(conn);
        return true;
    }
}

void tsr_http1_close(struct tsr_http1_conn *conn)
{
    drop_pieces(conn);
    tsr_http1_fail(conn);
    tsr_http1_queue_drop(&conn->http1->blocks, &conn->out, conn->out.held);
    tsr_http1_forget(conn);
}
