#include "api_priv.h"
#include "route_priv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { HEADERS_MAX = 8, READER_KEPT_BYTES = 1 << 20, WHOLE_KEPT_BYTES = 1 << 20 };

struct tsr_api_exchange *api_exchange_take(struct tsr_api *api, const struct tsr_api_door *door,
                                           void *stream, uint64_t now_ns)
{
    struct tsr_api_exchange *x = api->free_exchanges;
    if (!x) {
        return NULL;
    }
    api->free_exchanges = x->next;
    api->open++;
    *x = (struct tsr_api_exchange){
        .api = api,
        .door = door,
        .stream = stream,
        .in_use = true,
        .serial = ++api->serials,
        .begun_ns = now_ns,
        .created_s = (int64_t)time(NULL),
        .priority = 128,
        .priority_max = 255,
    };
    x->asks_end = &x->asks;
    tsr_out_init_growing(&x->submit, API_ANSWER_BYTES_MAX);
    tsr_out_init_growing(&x->payload, API_ANSWER_BYTES_MAX);
    tsr_out_init_growing(&x->extra, API_ANSWER_BYTES_MAX);
    tsr_out_init_growing(&x->inputs, API_ANSWER_BYTES_MAX);
    tsr_out_init_growing(&x->echo, API_ANSWER_BYTES_MAX);
    return x;
}

void api_exchange_due(struct tsr_api_exchange *x)
{
    struct tsr_api *api = x->api;
    if (!x->deadline_ms) {
        return;
    }
    x->due_ns = x->begun_ns + x->deadline_ms * UINT64_C(1000000);
    x->due_at = &api->due;
    x->due_next = api->due;
    if (x->due_next) {
        x->due_next->due_at = &x->due_next;
    }
    api->due = x;
    if (x->due_ns < api->due_ns) {
        api->due_ns = x->due_ns;
    }
}

static void leave_due(struct tsr_api_exchange *x)
{
    if (x->due_at) {
        *x->due_at = x->due_next;
        if (x->due_next) {
            x->due_next->due_at = x->due_at;
        }
        x->due_at = NULL;
    }
}

/* ---- Memory ---- */

static size_t held(const struct tsr_api_exchange *x)
{
    size_t bytes = x->submit.capacity + x->payload.capacity + x->extra.capacity +
                   x->inputs.capacity + x->echo.capacity;
    for (const struct api_ask *ask = x->asks; ask; ask = ask->next) {
        for (int i = 0; i < API_OUTS; i++) {
            bytes += ask->outs[i].capacity;
        }
    }
    return bytes + (x->json ? tsr_json_held(x->json) : 0);
}

bool api_account(struct tsr_api_exchange *x, struct api_problem *problem)
{
    struct tsr_api *api = x->api;
    size_t bytes = held(x);
    api->bodies_bytes = api->bodies_bytes - x->memory_bytes + bytes;
    x->memory_bytes = bytes;
    if (api->bodies_bytes > api->options.bodies_bytes_max) {
        api_problem_set(problem, 503, "server_error", "overloaded", NULL,
                        "the requests at hand take %llu bytes, and %llu is all that they may: try "
                        "again",
                        (unsigned long long)api->bodies_bytes,
                        (unsigned long long)api->options.bodies_bytes_max);
        problem->retry_s = 1;
        return false;
    }
    return true;
}

static void give_reader_back(struct tsr_api *api, struct tsr_json *json)
{
    tsr_json_reset(json);
    if (api->n_readers < sizeof api->readers / sizeof api->readers[0] &&
        tsr_json_held(json) <= READER_KEPT_BYTES) {
        api->readers[api->n_readers++] = json;
    } else {
        tsr_json_destroy(json);
    }
}

void api_read_end(struct tsr_api_exchange *x)
{
    if (x->json) {
        give_reader_back(x->api, x->json);
        x->json = NULL;
    }
}

static void release(struct tsr_api_exchange *x)
{
    struct tsr_api *api = x->api;
    while (x->asks) {
        struct api_ask *ask = x->asks;
        x->asks = ask->next;
        api_ask_release(ask);
    }
    for (struct tsr_api_exchange **at = &api->waiting; *at; at = &(*at)->next) {
        if (*at == x) {
            *at = x->next;
            break;
        }
    }
    leave_due(x);
    if (x->key) {
        tsr_keys_release(x->key);
    }
    api_read_end(x);
    tsr_out_fini(&x->submit);
    tsr_out_fini(&x->payload);
    tsr_out_fini(&x->extra);
    tsr_out_fini(&x->inputs);
    tsr_out_fini(&x->echo);
    api->bodies_bytes -= x->memory_bytes;
    x->in_use = false;
    x->next = api->free_exchanges;
    api->free_exchanges = x;
    api->open--;
}

struct tsr_out *api_whole(struct tsr_api *api)
{
    if (api->whole.capacity > WHOLE_KEPT_BYTES) {
        tsr_out_fini(&api->whole);
        tsr_out_init_growing(&api->whole, API_ANSWER_BYTES_MAX);
    }
    tsr_out_clear(&api->whole);
    return &api->whole;
}

/* ---- Saying ---- */

static void count(const struct tsr_api_exchange *x, unsigned status)
{
    uint64_t *counter = api_route_counter(x->api, x->route, status);
    if (counter) {
        ++*counter;
    }
}

static struct tsr_api_header header(const char *name, const char *value)
{
    return (struct tsr_api_header){.name = {name, strlen(name)}, .value = {value, strlen(value)}};
}

void api_head(struct tsr_api_exchange *x, unsigned status, const char *content_type,
              uint64_t body_bytes, const struct tsr_api_header *headers, uint32_t n_headers)
{
    struct tsr_api_header all[HEADERS_MAX];
    uint32_t n = 0;
    if (x->id[0]) {
        all[n++] = header("x-request-id", x->id);
    }
    if (x->origin) {
        all[n++] = header("access-control-allow-origin", x->origin);
        all[n++] = header("vary", "Origin");
        all[n++] = header("access-control-expose-headers", "retry-after, x-request-id");
    }
    for (uint32_t i = 0; i < n_headers && n < HEADERS_MAX; i++) {
        all[n++] = headers[i];
    }
    const struct tsr_api_answer answer = {
        .status = status,
        .content_type = content_type,
        .body_bytes = body_bytes,
        .headers = all,
        .n_headers = n,
    };
    count(x, status);
    x->said_head = true;
    x->door->head(x->stream, &answer);
}

void api_stream_head(struct tsr_api_exchange *x)
{
    const struct tsr_api_header headers[] = {
        header("cache-control", "no-cache"),
        header("x-accel-buffering", "no"), /* nginx: pass on as it comes */
    };
    api_head(x, 200, "text/event-stream; charset=utf-8", TSR_API_UNKNOWN, headers, 2);
}

void api_body(struct tsr_api_exchange *x, const void *bytes, size_t size, uint64_t token_ns)
{
    x->held_bytes += size;
    x->door->body(x->stream, bytes, size, token_ns);
}

void api_lend(struct tsr_api_exchange *x, const void *bytes, size_t size)
{
    if (!x->door->lend) {
        api_body(x, bytes, size, 0);
        return;
    }
    x->held_bytes += size;
    x->door->lend(x->stream, bytes, size);
}

void api_end(struct tsr_api_exchange *x)
{
    const struct tsr_api_door *door = x->door;
    void *stream = x->stream;
    release(x);
    door->end(stream);
}

void api_abort(struct tsr_api_exchange *x)
{
    const struct tsr_api_door *door = x->door;
    void *stream = x->stream;
    release(x);
    door->abort(stream);
}

void api_forget(struct tsr_api_exchange *x)
{
    release(x);
}

void api_answer(struct tsr_api_exchange *x, unsigned status, const char *content_type,
                const void *bytes, size_t size)
{
    api_head(x, status, content_type, size, NULL, 0);
    if (size) {
        api_body(x, bytes, size, 0);
    }
    api_end(x);
}

void api_answer_json(struct tsr_api_exchange *x, const struct tsr_out *out)
{
    if (out->full) {
        struct api_problem problem = {0};
        api_problem_set(&problem, 500, "server_error", "answer_too_large", NULL,
                        "the answer has more than %zu bytes: ask for less, or for a stream",
                        out->grows_to ? out->grows_to : out->capacity);
        api_refuse(x, &problem);
        return;
    }
    api_answer(x, 200, "application/json", out->bytes, out->size);
}

void api_refuse(struct tsr_api_exchange *x, const struct api_problem *problem)
{
    struct tsr_out *out = &x->api->scratch;
    struct tsr_api_header headers[3];
    uint32_t n = 0;
    char retry[16];
    tsr_out_clear(out);
    api_problem_write(problem, out);
    if (problem->retry_s) {
        (void)snprintf(retry, sizeof retry, "%u", problem->retry_s);
        headers[n++] = header("retry-after", retry);
    }
    if (problem->allow) {
        headers[n++] = header("allow", problem->allow);
    }
    if (problem->status == 401) {
        headers[n++] = header("www-authenticate", "Bearer");
    }
    api_head(x, problem->status, "application/json", out->size, headers, n);
    api_body(x, out->bytes, out->size, 0);
    api_end(x);
}

void api_fail(struct tsr_api_exchange *x, const struct api_problem *problem)
{
    if (!x->said_head) {
        api_refuse(x, problem);
        return;
    }
    if (x->style && x->style->fail) {
        x->style->fail(x, problem);
        return;
    }
    struct tsr_out *out = &x->api->scratch;
    tsr_out_clear(out);
    tsr_out_text(out, "data: ");
    api_problem_write(problem, out);
    tsr_out_text(out, "\n\n");
    api_body(x, out->bytes, out->size, 0);
    api_end(x);
}

void api_make_id(struct tsr_api *api, const char *prefix, char out[API_ID_MAX])
{
    /* xorshift128+: ids differ, they are no secret */
    uint64_t a = api->random[0], b = api->random[1];
    a ^= a << 23;
    a ^= a >> 17 ^ b ^ b >> 26;
    api->random[0] = b;
    api->random[1] = a;
    (void)snprintf(out, API_ID_MAX, "%s%016llx%08x", prefix, (unsigned long long)(a + b),
                   (unsigned)(a >> 32));
}
