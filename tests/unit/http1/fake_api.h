/* An API for tests of HTTP/1.1: what it does is said by the path, what it was asked is written
 * down.
 *
 *   /echo    the body, when it is whole        /stream  three events, of unknown length
 *   /wait    nothing, until the test answers   /none    204
 *   /refuse  401 from the head alone           /full    413 when more than ten bytes of body came
 *   /abort   half an answer, then no more      /long    FAKE_LONG_BYTES, of known length
 *
 * One file includes it: it defines the functions of api.h that a door calls. */
#ifndef TSR_TEST_FAKE_API_H
#define TSR_TEST_FAKE_API_H

#include <tsr/api/api.h>
#include <tsr/http1/http1.h>

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef FAKE_LONG_BYTES
#define FAKE_LONG_BYTES 1000000
#endif

struct text {
    char *bytes;
    size_t size, capacity;
};

static void text_put(struct text *text, const void *bytes, size_t size)
{
    while (text->capacity - text->size < size + 1) {
        text->capacity = text->capacity ? 2 * text->capacity : 4096;
        text->bytes = realloc(text->bytes, text->capacity);
        if (!text->bytes) {
            abort();
        }
    }
    memcpy(text->bytes + text->size, bytes, size);
    text->size += size;
    text->bytes[text->size] = '\0';
}

__attribute__((format(printf, 2, 3))) static void text_format(struct text *text, const char *format,
                                                              ...)
{
    va_list args;
    va_start(args, format);
    char *line;
    int n = vasprintf(&line, format, args);
    va_end(args);
    if (n < 0) {
        abort();
    }
    text_put(text, line, (size_t)n);
    free(line);
}

static void text_clear(struct text *text)
{
    text->size = 0;
    text_put(text, "", 0);
}

enum fake_kind { ECHO, STREAM, WAIT, NONE, REFUSE, FULL, ABORT, LONG, N_KINDS };

static const char *const fake_paths[N_KINDS] = {
    [ECHO] = "/echo",     [STREAM] = "/stream", [WAIT] = "/wait",   [NONE] = "/none",
    [REFUSE] = "/refuse", [FULL] = "/full",     [ABORT] = "/abort", [LONG] = "/long",
};

struct tsr_api_exchange {
    const struct tsr_api_door *door;
    void *stream;
    enum fake_kind kind;
    struct text body;
};

static struct {
    struct text said;               /* what was asked of it, a line a call */
    struct tsr_api_exchange *waits; /* the last one of /wait whose body is whole */
    uint32_t open;
    uint64_t held; /* as the door said last */
} fake;

static void fake_free(struct tsr_api_exchange *exchange)
{
    if (fake.waits == exchange) {
        fake.waits = NULL;
    }
    fake.open--;
    free(exchange->body.bytes);
    free(exchange);
}

static void fake_reset(void)
{
    if (fake.open) {
        abort(); /* an exchange was neither answered nor cancelled */
    }
    fake.waits = NULL;
    fake.held = 0;
    text_clear(&fake.said);
}

static void fake_head(struct tsr_api_exchange *exchange, unsigned status, uint64_t body_bytes)
{
    static const struct tsr_api_header extra = {{"x-extra", 7}, {"1", 1}};
    struct tsr_api_answer answer = {
        .status = status,
        .content_type = status == 204 ? NULL : "text/plain",
        .body_bytes = body_bytes,
        .headers = &extra,
        .n_headers = status == 401,
    };
    exchange->door->head(exchange->stream, &answer);
}

static void fake_body(struct tsr_api_exchange *exchange, const char *text, uint64_t token_ns)
{
    exchange->door->body(exchange->stream, text, strlen(text), token_ns);
}

static void fake_end(struct tsr_api_exchange *exchange)
{
    exchange->door->end(exchange->stream);
    fake_free(exchange);
}

static void fake_answer(struct tsr_api_exchange *exchange, unsigned status, const char *text)
{
    fake_head(exchange, status, strlen(text));
    fake_body(exchange, text, 0);
    fake_end(exchange);
}

struct tsr_api_exchange *tsr_api_begin(struct tsr_api *api, const struct tsr_api_door *door,
                                       void *stream, const struct tsr_api_request *request,
                                       uint64_t now_ns)
{
    (void)api;
    (void)now_ns;
    text_format(&fake.said, "%.*s %.*s ?%.*s @%.*s %lld", (int)request->method.size,
                request->method.bytes, (int)request->path.size, request->path.bytes,
                (int)request->query.size, request->query.bytes, (int)request->host.size,
                request->host.bytes, (long long)request->body_bytes);
    for (uint32_t i = 0; i < request->n_headers; i++) {
        const struct tsr_api_header *h = &request->headers[i];
        text_format(&fake.said, " [%.*s=%.*s]", (int)h->name.size, h->name.bytes,
                    (int)h->value.size, h->value.bytes);
    }
    text_put(&fake.said, "\n", 1);
    struct tsr_api_exchange *exchange = calloc(1, sizeof *exchange);
    if (!exchange) {
        abort();
    }
    fake.open++;
    *exchange = (struct tsr_api_exchange){.door = door, .stream = stream, .kind = ECHO};
    for (unsigned i = 0; i < N_KINDS; i++) {
        if (request->path.size == strlen(fake_paths[i]) &&
            memcmp(request->path.bytes, fake_paths[i], request->path.size) == 0) {
            exchange->kind = (enum fake_kind)i;
        }
    }
    if (exchange->kind == REFUSE) {
        fake_answer(exchange, 401, "no");
        return NULL;
    }
    return exchange;
}

bool tsr_api_body(struct tsr_api_exchange *exchange, const void *bytes, size_t size,
                  uint64_t now_ns)
{
    (void)now_ns;
    text_put(&exchange->body, bytes, size);
    if (exchange->kind == FULL && exchange->body.size > 10) {
        text_format(&fake.said, "full\n");
        fake_answer(exchange, 413, "full");
        return false;
    }
    return true;
}

bool tsr_api_body_end(struct tsr_api_exchange *exchange, uint64_t now_ns)
{
    (void)now_ns;
    text_put(&exchange->body, "", 0);
    text_format(&fake.said, "whole ");
    text_put(&fake.said, exchange->body.bytes, exchange->body.size);
    text_put(&fake.said, "\n", 1);
    switch (exchange->kind) {
    case WAIT:
        fake.waits = exchange;
        return true;
    case STREAM:
        fake_head(exchange, 200, TSR_API_UNKNOWN);
        fake_body(exchange, "data: 1\n\n", 0);
        fake_body(exchange, "data: two\n\n", 0);
        fake_body(exchange, "data: [DONE]\n\n", 0);
        fake_end(exchange);
        return false;
    case NONE:
        fake_head(exchange, 204, 0);
        fake_end(exchange);
        return false;
    case ABORT:
        fake_head(exchange, 200, TSR_API_UNKNOWN);
        fake_body(exchange, "half", 0);
        exchange->door->abort(exchange->stream);
        fake_free(exchange);
        return false;
    case LONG:
        fake_head(exchange, 200, FAKE_LONG_BYTES);
        for (unsigned i = 0; i < FAKE_LONG_BYTES / 50; i++) {
            fake_body(exchange, "0123456789012345678901234567890123456789012345678\n", 0);
        }
        fake_end(exchange);
        return false;
    default:
        fake_head(exchange, 200, exchange->body.size);
        exchange->door->body(exchange->stream, exchange->body.bytes, exchange->body.size, 0);
        fake_end(exchange);
        return false;
    }
}

void tsr_api_sent(struct tsr_api_exchange *exchange, uint64_t held_bytes, uint64_t now_ns)
{
    (void)exchange;
    (void)now_ns;
    fake.held = held_bytes;
}

void tsr_api_cancel(struct tsr_api_exchange *exchange)
{
    text_format(&fake.said, "cancel\n");
    fake_free(exchange);
}

/* ---- A door without sockets, for one connection ---- */

enum { FAKE_UNIX_S = 784111777 }; /* Sun, 06 Nov 1994 08:49:37 GMT */

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
static void door_accept(struct door *door, struct tsr_http1 *http1)
{
    fake_reset();
    *door = (struct door){
        .http1 = http1,
        .now_ns = 1000000000,
        .in = door->in,
        .out = door->out,
        .sends = SIZE_MAX,
    };
    tsr_http1_step(http1, door->now_ns, FAKE_UNIX_S);
    door->conn = tsr_http1_open(http1, door);
    text_clear(&door->in);
    text_clear(&door->out);
}

static void door_leave(struct door *door)
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

static void door_send(struct door *door)
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
static void door_take(struct door *door)
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
static void door_turn(struct door *door)
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

static void door_feed(struct door *door, const void *bytes, size_t size)
{
    text_put(&door->in, bytes, size);
    if (door->conn) {
        door_take(door);
    }
    door_turn(door);
}

#endif
