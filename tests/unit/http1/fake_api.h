/* An API for tests of doors: what it does is said by the path, what it was asked is written
 * down.
 *
 *   /echo    the body, when it is whole        /stream  three events, of unknown length
 *   /wait    nothing, until the test answers   /none    204
 *   /refuse  401 from the head alone           /full    413 when more than ten bytes of body came
 *   /abort   half an answer, then no more      /long    FAKE_LONG_BYTES, of known length
 *   /lent    fake_lent, which stays
 *
 * One file includes it: it defines the functions of api.h that a door calls. */
#ifndef TSR_TEST_FAKE_API_H
#define TSR_TEST_FAKE_API_H

#include <tsr/api/api.h>

#include "text.h"

#ifndef FAKE_LONG_BYTES
#define FAKE_LONG_BYTES 1000000
#endif

enum fake_kind { ECHO, STREAM, WAIT, NONE, REFUSE, FULL, ABORT, LONG, LENT, N_KINDS };

static const char *const fake_paths[N_KINDS] = {
    [ECHO] = "/echo",   [STREAM] = "/stream", [WAIT] = "/wait",
    [NONE] = "/none",   [REFUSE] = "/refuse", [FULL] = "/full",
    [ABORT] = "/abort", [LONG] = "/long",     [LENT] = "/lent",
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

static char fake_lent[100000];

static void fake_lend(struct tsr_api_exchange *exchange)
{
    memset(fake_lent, 'x', sizeof fake_lent);
    if (exchange->door->lend) {
        exchange->door->lend(exchange->stream, fake_lent, sizeof fake_lent);
    } else {
        exchange->door->body(exchange->stream, fake_lent, sizeof fake_lent, 0);
    }
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
    case LENT:
        fake_head(exchange, 200, sizeof fake_lent);
        fake_lend(exchange);
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

#endif
