#include "http3_priv.h"

#include <string.h>

enum {
    LAST_STALL_S = 3,        /* how long who does not move is waited for once the door is closing */
    KEEP_ALIVE_MS_MIN = 250, /* between signs of life, however soon a client says that it is idle */
};

/* ---- Their beginning and end ---- */

void tsr_http3_stream_moves(struct tsr_http3_stream *stream)
{
    struct tsr_http3 *http3 = stream->conn->http3;
    TAILQ_REMOVE(&http3->moving, stream, moving_at);
    TAILQ_INSERT_TAIL(&http3->moving, stream, moving_at);
    stream->since_ns = http3->now_ns;
    stream->moved = 0;
}

static struct tsr_http3_stream *open_stream(struct tsr_http3_conn *conn, int64_t id)
{
    struct tsr_http3_stream *stream = tsr_http3_calloc(1, sizeof *stream, &conn->account);
    if (!stream) {
        return NULL;
    }
    stream->conn = conn;
    stream->id = id;
    stream->since_ns = conn->http3->now_ns;
    TAILQ_INSERT_TAIL(&conn->streams, stream, conn_at);
    TAILQ_INSERT_TAIL(&conn->http3->moving, stream, moving_at);
    return stream;
}

static void free_fields(struct tsr_http3_stream *stream)
{
    for (uint32_t i = 0; i < stream->n_fields; i++) {
        nghttp3_rcbuf_decref(stream->fields[i].name);
        nghttp3_rcbuf_decref(stream->fields[i].value);
    }
    tsr_http3_free(stream->fields, &stream->conn->account);
    stream->fields = NULL;
    stream->n_fields = 0;
}

void tsr_http3_stream_cancel(struct tsr_http3_stream *stream)
{
    struct tsr_api_exchange *exchange = stream->exchange;
    stream->exchange = NULL;
    stream->answer = TSR_HTTP3_ANSWERED;
    if (exchange) {
        stream->conn->http3->counts.cancelled++;
        tsr_api_cancel(exchange);
    }
}

/* While the engine works nothing need come or go, and silence would end the connection (RFC 9000,
 * 10.1.2): so it is asked for a sign of life in time. */
static void count_asked(struct tsr_http3_conn *conn, int more)
{
    if (!conn->asked) {
        TAILQ_INSERT_TAIL(&conn->http3->serving, conn, serving_at);
    }
    conn->asked += (uint32_t)more;
    if (!conn->asked) {
        TAILQ_REMOVE(&conn->http3->serving, conn, serving_at);
    }
    conn->http3->of_peers[conn->peer].requests += (uint32_t)more;
    const ngtcp2_transport_params *peer = ngtcp2_conn_get_remote_transport_params(conn->quic);
    uint64_t idle_ns = conn->http3->options.idle_s * tsr_http3_second;
    if (peer && peer->max_idle_timeout && peer->max_idle_timeout < idle_ns) {
        idle_ns = peer->max_idle_timeout;
    }
    const uint64_t least_ns = KEEP_ALIVE_MS_MIN * tsr_http3_second / 1000;
    uint64_t every_ns = idle_ns / 2 > least_ns ? idle_ns / 2 : least_ns;
    ngtcp2_conn_set_keep_alive_timeout(conn->quic, conn->asked ? every_ns : UINT64_MAX);
}

static void free_stream(struct tsr_http3_stream *stream)
{
    struct tsr_http3_conn *conn = stream->conn;
    tsr_http3_stream_cancel(stream);
    if (stream->is_asked) {
        count_asked(conn, -1);
    }
    free_fields(stream);
    tsr_http3_queue_drop(&stream->out, &conn->answers, stream->out.held);
    TAILQ_REMOVE(&conn->streams, stream, conn_at);
    TAILQ_REMOVE(&conn->http3->moving, stream, moving_at);
    tsr_http3_free(stream, &conn->account);
}

void tsr_http3_streams_close(struct tsr_http3_conn *conn)
{
    while (!TAILQ_EMPTY(&conn->streams)) {
        free_stream(TAILQ_FIRST(&conn->streams));
    }
    if (conn->http) {
        nghttp3_conn_del(conn->http);
        conn->http = NULL;
    }
}

/* ---- Requests ---- */

static int on_begin(nghttp3_conn *http, int64_t id, void *user, void *stream_user)
{
    struct tsr_http3_conn *conn = user;
    (void)stream_user;
    struct tsr_http3_stream *stream = open_stream(conn, id);
    return stream && nghttp3_conn_set_stream_user_data(http, id, stream) == 0
               ? 0
               : NGHTTP3_ERR_CALLBACK_FAILURE;
}

/* More than may come is counted, not kept: it is refused when the head is whole. */
static int on_field(nghttp3_conn *http, int64_t id, int32_t token, nghttp3_rcbuf *name,
                    nghttp3_rcbuf *value, uint8_t flags, void *user, void *stream_user)
{
    enum { OVERHEAD = 32 }; /* RFC 9114, 4.2.2 */
    struct tsr_http3_stream *stream = stream_user;
    struct tsr_http3_conn *conn = user;
    (void)http, (void)id, (void)flags;
    const nghttp3_vec says = nghttp3_rcbuf_get_buf(value);
    size_t bytes = nghttp3_rcbuf_get_buf(name).len + says.len + OVERHEAD;
    if (token == NGHTTP3_QPACK_TOKEN__METHOD) {
        stream->is_head = says.len == 4 && memcmp(says.base, "HEAD", 4) == 0;
    }
    if (!stream->fields) {
        stream->fields =
            tsr_http3_malloc(TSR_HTTP3_HEADERS_MAX * sizeof *stream->fields, &conn->account);
        if (!stream->fields) {
            return NGHTTP3_ERR_CALLBACK_FAILURE;
        }
    }
    if (stream->n_fields == TSR_HTTP3_HEADERS_MAX ||
        stream->head_bytes + bytes > TSR_HTTP3_HEAD_MAX) {
        stream->head_bytes = TSR_HTTP3_HEAD_MAX + 1;
        return 0;
    }
    stream->head_bytes += (uint32_t)bytes;
    nghttp3_rcbuf_incref(name);
    nghttp3_rcbuf_incref(value);
    stream->fields[stream->n_fields++] = (struct tsr_http3_field){name, value};
    return 0;
}

static void begin(struct tsr_http3_stream *stream, const struct tsr_api_request *request)
{
    struct tsr_http3 *http3 = stream->conn->http3;
    const struct tsr_http3_peer *peer = &http3->of_peers[stream->conn->peer];
    if (peer->requests >= http3->options.address.requests) {
        tsr_http3_refuse(stream, 429, "As many requests of this address are under way as may be.");
        return;
    }
    stream->is_asked = true;
    count_asked(stream->conn, 1);
    http3->counts.requests++;
    struct tsr_api_exchange *exchange =
        tsr_api_begin(http3->api, &tsr_http3_door, stream, request, http3->now_ns);
    if (exchange) {
        stream->exchange = exchange;
    }
}

/* Ends both halves of a stream at once. */
static void give_up(struct tsr_http3_stream *stream, uint64_t code)
{
    struct tsr_http3_conn *conn = stream->conn;
    tsr_http3_stream_cancel(stream);
    if (!stream->given_up) {
        stream->given_up = true;
        nghttp3_conn_shutdown_stream_write(conn->http, stream->id);
        ngtcp2_conn_shutdown_stream(conn->quic, 0, stream->id, code);
        tsr_http3_conn_ready(conn);
    }
}

static int on_head(nghttp3_conn *http, int64_t id, int fin, void *user, void *stream_user)
{
    struct tsr_http3_stream *stream = stream_user;
    struct tsr_http3_conn *conn = user;
    struct tsr_http3_asked asked;
    const char *why;
    (void)http, (void)id;
    stream->in = TSR_HTTP3_IN_BODY;
    tsr_http3_stream_moves(stream);
    if (stream->head_bytes > TSR_HTTP3_HEAD_MAX) {
        free_fields(stream);
        tsr_http3_refuse(stream, 431,
                         "The head is larger than 32 KiB, or has more than 100 fields.");
        return 0;
    }
    int status = tsr_http3_head_understand(stream, fin, &asked, &why);
    if (status < 0) {
        conn->http3->counts.bad_requests++;
        give_up(stream, NGHTTP3_H3_MESSAGE_ERROR);
    } else if (status > 0) {
        tsr_http3_refuse(stream, (unsigned)status, why);
    } else {
        begin(stream, &asked.request);
    }
    free_fields(stream);
    return 0;
}

/* What the API does not take is refused by it (413): so all is consumed here. */
static int on_data(nghttp3_conn *http, int64_t id, const uint8_t *data, size_t size, void *user,
                   void *stream_user)
{
    struct tsr_http3_conn *conn = user;
    struct tsr_http3_stream *stream = stream_user;
    (void)http;
    ngtcp2_conn_extend_max_stream_offset(conn->quic, id, size);
    ngtcp2_conn_extend_max_offset(conn->quic, size);
    stream->moved += size;
    if (stream->exchange && size) {
        tsr_api_body(stream->exchange, data, size, conn->http3->now_ns);
    }
    return 0;
}

static int on_consumed(nghttp3_conn *http, int64_t id, size_t size, void *user, void *stream_user)
{
    struct tsr_http3_conn *conn = user;
    (void)http, (void)stream_user;
    ngtcp2_conn_extend_max_stream_offset(conn->quic, id, size);
    ngtcp2_conn_extend_max_offset(conn->quic, size);
    return 0;
}

static int on_request_end(nghttp3_conn *http, int64_t id, void *user, void *stream_user)
{
    struct tsr_http3_stream *stream = stream_user;
    struct tsr_http3_conn *conn = user;
    (void)http, (void)id;
    stream->in = TSR_HTTP3_IN_WHOLE;
    if (stream->exchange) {
        tsr_http3_stream_moves(stream);
        conn->http3->counts.whole++;
        tsr_api_body_end(stream->exchange, conn->http3->now_ns);
    }
    return 0;
}

/* ---- Answers ---- */

/* To be said to the API when nghttp3 has returned. */
static int on_acked(nghttp3_conn *http, int64_t id, uint64_t size, void *user, void *stream_user)
{
    struct tsr_http3_stream *stream = stream_user;
    struct tsr_http3_conn *conn = user;
    (void)http, (void)id;
    if (stream) {
        tsr_http3_queue_drop(&stream->out, &conn->answers, size);
        stream->moved += size;
        stream->acked = true;
    }
    return 0;
}

void tsr_http3_stream_sent(struct tsr_http3_stream *stream)
{
    struct tsr_http3 *http3 = stream->conn->http3;
    if (stream->token_ns && !stream->out.waiting && http3->n_tokens < TSR_HTTP3_TOKENS_MAX) {
        http3->tokens_ns[http3->n_tokens++] = stream->token_ns;
        stream->token_ns = 0;
    }
}

static int on_close(nghttp3_conn *http, int64_t id, uint64_t code, void *user, void *stream_user)
{
    (void)http, (void)id, (void)code, (void)user;
    if (stream_user) {
        free_stream(stream_user);
    }
    return 0;
}

static int on_stop_sending(nghttp3_conn *http, int64_t id, uint64_t code, void *user,
                           void *stream_user)
{
    struct tsr_http3_conn *conn = user;
    (void)http, (void)stream_user;
    return ngtcp2_conn_shutdown_stream_read(conn->quic, 0, id, code) ? NGHTTP3_ERR_CALLBACK_FAILURE
                                                                     : 0;
}

static int on_reset(nghttp3_conn *http, int64_t id, uint64_t code, void *user, void *stream_user)
{
    struct tsr_http3_conn *conn = user;
    (void)http;
    if (stream_user) {
        conn->http3->counts.bad_requests++;
        tsr_http3_stream_cancel(stream_user);
    }
    return ngtcp2_conn_shutdown_stream_write(conn->quic, 0, id, code) ? NGHTTP3_ERR_CALLBACK_FAILURE
                                                                      : 0;
}

static const nghttp3_callbacks callbacks = {
    .acked_stream_data = on_acked,
    .stream_close = on_close,
    .recv_data = on_data,
    .deferred_consume = on_consumed,
    .begin_headers = on_begin,
    .recv_header = on_field,
    .end_headers = on_head,
    .stop_sending = on_stop_sending,
    .end_stream = on_request_end,
    .reset_stream = on_reset,
};

static int open_own_streams(struct tsr_http3_conn *conn)
{
    int64_t control, encoder, decoder;
    if (ngtcp2_conn_get_streams_uni_left(conn->quic) < 3) { /* RFC 9114, 6.2 */
        return tsr_http3_conn_fail(conn, NGHTTP3_H3_GENERAL_PROTOCOL_ERROR);
    }
    if (ngtcp2_conn_open_uni_stream(conn->quic, &control, NULL) != 0 ||
        ngtcp2_conn_open_uni_stream(conn->quic, &encoder, NULL) != 0 ||
        ngtcp2_conn_open_uni_stream(conn->quic, &decoder, NULL) != 0 ||
        nghttp3_conn_bind_control_stream(conn->http, control) != 0 ||
        nghttp3_conn_bind_qpack_streams(conn->http, encoder, decoder) != 0) {
        return tsr_http3_conn_fail(conn, NGHTTP3_H3_INTERNAL_ERROR);
    }
    return 0;
}

int tsr_http3_streams_open(struct tsr_http3_conn *conn)
{
    enum { TABLE_BYTES = 4096 };
    nghttp3_settings settings;
    nghttp3_settings_default(&settings);
    settings.max_field_section_size = TSR_HTTP3_HEAD_MAX;
    settings.qpack_max_dtable_capacity = TABLE_BYTES;
    settings.qpack_encoder_max_dtable_capacity = TABLE_BYTES;
    settings.qpack_blocked_streams =
        0; /* nghttp3 before 1.12 uses freed ones, and memory is saved */
    conn->http_mem = (nghttp3_mem){&conn->account, tsr_http3_malloc, tsr_http3_free,
                                   tsr_http3_calloc, tsr_http3_realloc};
    if (nghttp3_conn_server_new(&conn->http, &callbacks, &settings, &conn->http_mem, conn) != 0) {
        conn->http = NULL;
        return NGTCP2_ERR_CALLBACK_FAILURE;
    }
    nghttp3_conn_set_max_client_streams_bidi(conn->http, conn->http3->options.streams_max);
    return open_own_streams(conn);
}

/* ---- What is due ---- */

void tsr_http3_streams_settle(struct tsr_http3_conn *conn)
{
    struct tsr_http3_stream *stream, *next;
    for (stream = TAILQ_FIRST(&conn->streams); stream; stream = next) {
        next = TAILQ_NEXT(stream, conn_at);
        if (stream->acked) {
            stream->acked = false;
            if (stream->exchange && stream->answer == TSR_HTTP3_ANSWERING) {
                tsr_api_sent(stream->exchange, stream->out.held, conn->http3->now_ns);
            }
        }
        if (stream->shut_read) {
            stream->shut_read = false;
            if (stream->in != TSR_HTTP3_IN_WHOLE) {
                ngtcp2_conn_shutdown_stream_read(conn->quic, 0, stream->id, NGHTTP3_H3_NO_ERROR);
            }
        }
    }
}

/* Waiting for the engine is no stall. */
static bool is_moving(const struct tsr_http3_stream *stream)
{
    return stream->in != TSR_HTTP3_IN_WHOLE || stream->out.held;
}

/* None waits for the engine, none moves: as it seems, the client is gone. */
static bool all_given_up(const struct tsr_http3_conn *conn)
{
    const struct tsr_http3_stream *stream;
    TAILQ_FOREACH(stream, &conn->streams, conn_at)
    {
        if (!stream->given_up) {
            return false;
        }
    }
    return true;
}

uint64_t tsr_http3_stall_ns(const struct tsr_http3 *http3)
{
    uint64_t stall_ns = http3->options.stall_s * tsr_http3_second;
    bool is_less = http3->draining && stall_ns > LAST_STALL_S * tsr_http3_second;
    return is_less ? LAST_STALL_S * tsr_http3_second : stall_ns;
}

void tsr_http3_streams_expire(struct tsr_http3 *http3)
{
    const uint64_t stall_ns = tsr_http3_stall_ns(http3);
    const uint64_t enough = http3->draining ? 1 : http3->options.stall_bytes;
    struct tsr_http3_stream *stream;
    for (int n = 0; n < TSR_HTTP3_TURN_STALLS && (stream = TAILQ_FIRST(&http3->moving)) &&
                    stream->since_ns + stall_ns <= http3->now_ns;
         n++) {
        bool stalled = is_moving(stream) && stream->moved < enough;
        tsr_http3_stream_moves(stream);
        if (stalled) {
            http3->counts.bad_requests++;
            give_up(stream, NGHTTP3_H3_REQUEST_CANCELLED);
        }
        if (stalled && http3->draining && all_given_up(stream->conn)) {
            tsr_http3_conn_fail(stream->conn, NGHTTP3_H3_NO_ERROR);
        }
    }
}
