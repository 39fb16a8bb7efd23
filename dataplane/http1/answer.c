#include "http1_priv.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { SMALL_BYTES = 16 << 10 };

/* Bytes that may wait for a connection. The last quarter of the room is for small answers, so that
 * some who do not read large ones cannot take it from all others. */
static size_t held_max(const struct tsr_http1 *http1)
{
    return http1->blocks.used < http1->blocks.n / 4 * 3 ? http1->options.answer_bytes_max
                                                        : SMALL_BYTES;
}

static void put(struct tsr_http1_conn *conn, const void *bytes, size_t size)
{
    struct tsr_http1 *http1 = conn->http1;
    conn->broken = conn->broken || conn->out.held + size > held_max(http1) ||
                   !tsr_http1_queue_put(&http1->blocks, &conn->out, bytes, size);
}

static void put_text(struct tsr_http1_conn *conn, const char *text)
{
    put(conn, text, strlen(text));
}

static void put_number(struct tsr_http1_conn *conn, uint64_t number, unsigned base)
{
    char text[20];
    size_t at = sizeof text;
    do {
        text[--at] = "0123456789abcdef"[number % base];
        number /= base;
    } while (number);
    put(conn, text + at, sizeof text - at);
}

static const char *reason(unsigned status)
{
    static const struct {
        unsigned status;
        const char *phrase;
    } reasons[] = {
        {200, "OK"},
        {204, "No Content"},
        {304, "Not Modified"},
        {400, "Bad Request"},
        {401, "Unauthorized"},
        {403, "Forbidden"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {408, "Request Timeout"},
        {409, "Conflict"},
        {413, "Content Too Large"},
        {414, "URI Too Long"},
        {415, "Unsupported Media Type"},
        {417, "Expectation Failed"},
        {422, "Unprocessable Content"},
        {429, "Too Many Requests"},
        {431, "Request Header Fields Too Large"},
        {500, "Internal Server Error"},
        {501, "Not Implemented"},
        {502, "Bad Gateway"},
        {503, "Service Unavailable"},
        {504, "Gateway Timeout"},
        {505, "HTTP Version Not Supported"},
    };
    for (size_t i = 0; i < sizeof reasons / sizeof *reasons; i++) {
        if (reasons[i].status == status) {
            return reasons[i].phrase;
        }
    }
    return "";
}

void tsr_http1_write_preamble(struct tsr_http1 *http1)
{
    static const char days[7][4] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
    static const char months[12][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                       "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    time_t seconds = (time_t)http1->unix_s;
    struct tm tm = {.tm_year = 0};
    gmtime_r(&seconds, &tm);
    int n = snprintf(http1->preamble, sizeof http1->preamble,
                     "\r\nServer: tessera\r\nDate: %s, %02d %s %04d %02d:%02d:%02d GMT\r\n",
                     days[tm.tm_wday], tm.tm_mday, months[tm.tm_mon], tm.tm_year + 1900, tm.tm_hour,
                     tm.tm_min, tm.tm_sec);
    http1->preamble_size = (size_t)n;
}

void tsr_http1_continue(struct tsr_http1_conn *conn)
{
    put_text(conn, "HTTP/1.1 100 Continue\r\n\r\n");
}

/* May the connection live on after this answer? Only where the next request's beginning is sure:
 * the rest of a body that is still to come must be known, short, and sure to come (who expects 100
 * may leave it out). */
static bool may_keep(const struct tsr_http1_conn *conn)
{
    if (!conn->keep || conn->http1->draining || conn->framing == TSR_HTTP1_BY_CLOSE) {
        return false;
    }
    return conn->in == TSR_HTTP1_IN_WHOLE || (conn->in == TSR_HTTP1_IN_SIZED && !conn->expects &&
                                              conn->body_bytes <= TSR_HTTP1_DRAINED_MAX);
}

static enum tsr_http1_framing frame(const struct tsr_http1_conn *conn,
                                    const struct tsr_api_answer *answer)
{
    if (answer->status == 204 || answer->status == 304) {
        return TSR_HTTP1_BY_NONE;
    }
    if (!answer->content_type || answer->body_bytes != TSR_API_UNKNOWN) {
        return TSR_HTTP1_BY_LENGTH;
    }
    return conn->http10 ? TSR_HTTP1_BY_CLOSE : TSR_HTTP1_BY_CHUNKS;
}

static void put_framing(struct tsr_http1_conn *conn)
{
    if (conn->framing == TSR_HTTP1_BY_LENGTH) {
        put_text(conn, "Content-Length: ");
        put_number(conn, conn->answer_left, 10);
        put_text(conn, "\r\n");
    } else if (conn->framing == TSR_HTTP1_BY_CHUNKS) {
        put_text(conn, "Transfer-Encoding: chunked\r\n");
    }
}

static void put_head(struct tsr_http1_conn *conn, const struct tsr_api_answer *answer)
{
    struct tsr_http1 *http1 = conn->http1;
    put_text(conn, "HTTP/1.1 ");
    put_number(conn, answer->status, 10);
    put_text(conn, " ");
    put_text(conn, reason(answer->status));
    put(conn, http1->preamble, http1->preamble_size);
    if (answer->content_type) {
        put_text(conn, "Content-Type: ");
        put_text(conn, answer->content_type);
        put_text(conn, "\r\n");
    }
    put_framing(conn);
    if (conn->secure && http1->options.alt_svc) {
        put_text(conn, "Alt-Svc: ");
        put_text(conn, http1->options.alt_svc);
        put_text(conn, "\r\n");
    }
    for (uint32_t i = 0; i < answer->n_headers; i++) {
        put(conn, answer->headers[i].name.bytes, answer->headers[i].name.size);
        put_text(conn, ": ");
        put(conn, answer->headers[i].value.bytes, answer->headers[i].value.size);
        put_text(conn, "\r\n");
    }
    if (!conn->keep) {
        put_text(conn, "Connection: close\r\n");
    } else if (conn->http10) {
        put_text(conn, "Connection: keep-alive\r\n");
    }
    put_text(conn, "\r\n");
}

static void on_head(void *stream, const struct tsr_api_answer *answer)
{
    struct tsr_http1_conn *conn = stream;
    conn->answer = TSR_HTTP1_ANSWERING;
    conn->framing = frame(conn, answer);
    conn->answer_left = answer->content_type ? answer->body_bytes : 0;
    conn->keep = may_keep(conn);
    put_head(conn, answer);
    if (conn->is_head) {
        conn->framing = TSR_HTTP1_BY_NONE;
    }
    tsr_http1_settle(conn);
}

static void on_body(void *stream, const void *bytes, size_t size, uint64_t token_ns)
{
    struct tsr_http1_conn *conn = stream;
    if (!size || conn->framing == TSR_HTTP1_BY_NONE) {
        return;
    }
    if (conn->framing == TSR_HTTP1_BY_LENGTH) {
        assert(size <= conn->answer_left);
        conn->answer_left -= size;
    }
    if (conn->framing == TSR_HTTP1_BY_CHUNKS) {
        put_number(conn, size, 16);
        put_text(conn, "\r\n");
        put(conn, bytes, size);
        put_text(conn, "\r\n");
    } else {
        put(conn, bytes, size);
    }
    if (token_ns) {
        conn->token_ns = token_ns;
    }
    tsr_http1_settle(conn);
}

static void on_end(void *stream)
{
    struct tsr_http1_conn *conn = stream;
    assert(conn->framing != TSR_HTTP1_BY_LENGTH || !conn->answer_left);
    if (conn->framing == TSR_HTTP1_BY_CHUNKS) {
        put_text(conn, "0\r\n\r\n");
    }
    conn->exchange = NULL;
    conn->answer = TSR_HTTP1_ANSWERED;
    tsr_http1_turn_over(conn);
    tsr_http1_settle(conn);
}

static void on_abort(void *stream)
{
    struct tsr_http1_conn *conn = stream;
    conn->exchange = NULL;
    tsr_http1_cut(conn);
    tsr_http1_settle(conn);
}

const struct tsr_api_door tsr_http1_door = {
    .head = on_head,
    .body = on_body,
    .end = on_end,
    .abort = on_abort,
};

void tsr_http1_refuse(struct tsr_http1_conn *conn, struct tsr_http1_refusal refusal)
{
    conn->http1->counts.refused++;
    bool begun = conn->answer != TSR_HTTP1_UNANSWERED;
    tsr_http1_cut(conn);
    if (begun) {
        return;
    }
    char body[512];
    int size =
        snprintf(body, sizeof body,
                 "{\"error\":{\"message\":\"%s\",\"type\":\"%s\",\"param\":null,"
                 "\"code\":null}}\n",
                 refusal.why, refusal.status == 503 ? "server_error" : "invalid_request_error");
    on_head(conn, &(struct tsr_api_answer){.status = refusal.status,
                                           .content_type = "application/json",
                                           .body_bytes = (uint64_t)size});
    on_body(conn, body, (size_t)size, 0);
    conn->answer = TSR_HTTP1_ANSWERED;
}
