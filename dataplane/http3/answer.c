#include "http3_priv.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

enum { FIELDS_MAX = 24 }; /* of an answer */

static nghttp3_nv field(const char *name, const char *value)
{
    return (nghttp3_nv){(const uint8_t *)name, (const uint8_t *)value, strlen(name), strlen(value),
                        NGHTTP3_NV_FLAG_NONE};
}

/* The next bytes of an answer's body, for nghttp3. */
static nghttp3_ssize read_body(nghttp3_conn *http, int64_t id, nghttp3_vec *parts, size_t n_max,
                               uint32_t *flags, void *user, void *stream_user)
{
    struct tsr_http3_stream *stream = stream_user;
    (void)http, (void)id, (void)user;
    size_t n = tsr_http3_queue_take(&stream->out, parts, n_max);
    if (stream->answer == TSR_HTTP3_ANSWERED && !stream->out.waiting) {
        *flags |= NGHTTP3_DATA_FLAG_EOF;
    } else if (n == 0) {
        return NGHTTP3_ERR_WOULDBLOCK;
    }
    return (nghttp3_ssize)n;
}

/* Resets the answer: the client sees that it is not whole. */
static void break_off(struct tsr_http3_stream *stream)
{
    struct tsr_http3_conn *conn = stream->conn;
    if (!stream->given_up) {
        stream->given_up = true;
        nghttp3_conn_shutdown_stream_write(conn->http, stream->id);
        ngtcp2_conn_shutdown_stream_write(conn->quic, 0, stream->id, NGHTTP3_H3_INTERNAL_ERROR);
        tsr_http3_conn_ready(conn);
    }
}

static void on_head(void *user, const struct tsr_api_answer *answer)
{
    static const nghttp3_data_reader reader = {read_body};
    struct tsr_http3_stream *stream = user;
    struct tsr_http3_conn *conn = stream->conn;
    char status[4], length[24];
    nghttp3_nv fields[FIELDS_MAX];
    size_t n = 0;
    snprintf(status, sizeof status, "%u", answer->status % 1000);
    fields[n++] = field(":status", status);
    fields[n++] = field("server", "tessera");
    fields[n++] = field("date", conn->http3->date);
    if (answer->content_type) {
        fields[n++] = field("content-type", answer->content_type);
    }
    bool bodiless = answer->status == 204 || answer->status == 304;
    uint64_t bytes = answer->content_type ? answer->body_bytes : 0;
    if (!bodiless && bytes != TSR_API_UNKNOWN) {
        snprintf(length, sizeof length, "%llu", (unsigned long long)bytes);
        fields[n++] = field("content-length", length);
    }
    for (uint32_t i = 0; i < answer->n_headers && n < FIELDS_MAX; i++) {
        const struct tsr_api_header *h = &answer->headers[i];
        fields[n++] = (nghttp3_nv){(const uint8_t *)h->name.bytes, (const uint8_t *)h->value.bytes,
                                   h->name.size, h->value.size, NGHTTP3_NV_FLAG_NONE};
    }
    stream->answer = TSR_HTTP3_ANSWERING;
    stream->is_head = stream->is_head || bodiless || bytes == 0;
    if (nghttp3_conn_submit_response(conn->http, stream->id, fields, n,
                                     stream->is_head ? NULL : &reader) != 0) {
        break_off(stream);
    }
    tsr_http3_conn_ready(conn);
}

typedef bool put_fn(struct tsr_http3_queue *queue, struct tsr_http3_account *account,
                    const void *bytes, size_t size);

static bool put_body(struct tsr_http3_stream *stream, put_fn *put, const void *bytes, size_t size)
{
    struct tsr_http3_conn *conn = stream->conn;
    if (stream->is_head || stream->given_up || !size) {
        return false;
    }
    if (!stream->out.held) {
        tsr_http3_stream_moves(stream);
    }
    if (!put(&stream->out, &conn->answers, bytes, size)) {
        break_off(stream);
        return false;
    }
    nghttp3_conn_resume_stream(conn->http, stream->id);
    tsr_http3_conn_ready(conn);
    return true;
}

static void on_body(void *user, const void *bytes, size_t size, uint64_t token_ns)
{
    struct tsr_http3_stream *stream = user;
    if (put_body(stream, tsr_http3_queue_put, bytes, size) && token_ns) {
        stream->token_ns = token_ns;
        tsr_http3_conn_first(stream->conn);
    }
}

static void on_lend(void *user, const void *bytes, size_t size)
{
    put_body(user, tsr_http3_queue_lend, bytes, size);
}

/* What still comes of the request is of no use (RFC 9114, 4.1.1). */
static void on_end(void *user)
{
    struct tsr_http3_stream *stream = user;
    stream->exchange = NULL;
    stream->answer = TSR_HTTP3_ANSWERED;
    stream->shut_read = stream->in != TSR_HTTP3_IN_WHOLE;
    if (!stream->is_head && !stream->given_up) {
        nghttp3_conn_resume_stream(stream->conn->http, stream->id);
    }
    tsr_http3_conn_ready(stream->conn);
}

static void on_abort(void *user)
{
    struct tsr_http3_stream *stream = user;
    stream->exchange = NULL;
    stream->answer = TSR_HTTP3_ANSWERED;
    break_off(stream);
}

const struct tsr_api_door tsr_http3_door = {
    .head = on_head,
    .body = on_body,
    .lend = on_lend,
    .end = on_end,
    .abort = on_abort,
};

void tsr_http3_refuse(struct tsr_http3_stream *stream, unsigned status, const char *why)
{
    char body[512];
    int size = snprintf(body, sizeof body,
                        "{\"error\":{\"message\":\"%s\",\"type\":\"invalid_request_error\","
                        "\"param\":null,\"code\":null}}\n",
                        why);
    stream->conn->http3->counts.bad_requests++;
    on_head(stream, &(struct tsr_api_answer){.status = status,
                                             .content_type = "application/json",
                                             .body_bytes = (uint64_t)size});
    on_body(stream, body, (size_t)size, 0);
    on_end(stream);
}
