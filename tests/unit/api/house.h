/* A house for tests of the API: an engine without a model behind a real channel, a tsr_api, and a
 * door that writes down what it is told. All in one thread (but for the connector), so that what an
 * engine says, and when, is the test's to decide. */
#ifndef TSR_TESTS_HOUSE_H
#define TSR_TESTS_HOUSE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <tsr/api/api.h>
#include <tsr/api/figures.h>
#include <tsr/api/keys.h>
#include <tsr/shm/bell.h>
#include <tsr/shm/door.h>
#include <tsr/shm/log.h>

enum { HOUSE_ASKS_MAX = 128, HOUSE_TOLD_BYTES = 1 << 20, HOUSE_TURNS = 20000 };

/* What an engine was asked. */
struct asked {
    uint64_t id; /* 0: ended */
    struct tsr_wire_submit submit;
    struct tsr_wire_bias biases[8];
    char stops[512];
    char *payload; /* NUL-terminated */
    uint32_t got;
    uint32_t credit, said;
    bool cancelled;
};

struct house_engine {
    char directory[64], path[96];
    struct tsr_door *door;
    struct tsr_channel *channel; /* NULL: nobody */
    struct asked asked[HOUSE_ASKS_MAX];
    uint32_t n_asked;
    uint32_t statuses; /* asked for */
    bool mute;         /* gives no STATUS */
};

struct house {
    struct house_engine engines[2];
    uint32_t n_engines;
    struct tsr_api_options options;
    struct tsr_api *api;
    uint64_t now_ns;
};

/* What a door was told of one exchange. */
struct told {
    struct tsr_api_exchange *exchange;
    unsigned status; /* 0: not yet */
    char type[80];
    char headers[1024]; /* "name: value\n" */
    uint64_t body_bytes;
    char body[HOUSE_TOLD_BYTES + 1];
    size_t size;
    uint32_t pieces;
    bool ended, aborted;
};

/* ---- The door ---- */

static inline void told_head(void *stream, const struct tsr_api_answer *answer)
{
    struct told *told = stream;
    assert_int_equal(told->status, 0);
    told->status = answer->status;
    told->body_bytes = answer->body_bytes;
    snprintf(told->type, sizeof told->type, "%s", answer->content_type ? answer->content_type : "");
    size_t at = 0;
    for (uint32_t i = 0; i < answer->n_headers; i++) {
        const struct tsr_api_header *h = &answer->headers[i];
        at +=
            (size_t)snprintf(told->headers + at, sizeof told->headers - at, "%.*s: %.*s\n",
                             (int)h->name.size, h->name.bytes, (int)h->value.size, h->value.bytes);
        assert_true(at < sizeof told->headers);
    }
}

static inline void told_body(void *stream, const void *bytes, size_t size, uint64_t token_ns)
{
    (void)token_ns;
    struct told *told = stream;
    assert_true(told->status && !told->ended && !told->aborted);
    assert_true(told->size + size <= HOUSE_TOLD_BYTES);
    memcpy(told->body + told->size, bytes, size);
    told->size += size;
    told->body[told->size] = '\0';
    told->pieces++;
}

static inline void told_end(void *stream)
{
    struct told *told = stream;
    assert_true(told->status && !told->ended && !told->aborted);
    if (told->body_bytes != TSR_API_UNKNOWN) {
        assert_int_equal(told->body_bytes, told->size);
    }
    told->ended = true;
}

static inline void told_abort(void *stream)
{
    struct told *told = stream;
    assert_true(told->status && !told->ended && !told->aborted);
    told->aborted = true;
}

static const struct tsr_api_door house_door = {
    .head = told_head, .body = told_body, .end = told_end, .abort = told_abort};

/* ---- The engine ---- */

static inline void house_hello(struct tsr_wire_hello *hello)
{
    *hello = (struct tsr_wire_hello){
        .flags = TSR_HELLO_CHAT | TSR_HELLO_TOOLS,
        .tools = TSR_TOOLS_HERMES,
        .context_tokens = 4096,
        .request_tokens_max = 4096,
        .sequences_max = 8,
        .payload_bytes_max = 1 << 20,
        .vocabulary = 1000,
        .park_seconds = 30,
        .tokens_max_default = 16,
        .top_logprobs_max = 20,
        .embedding_width = 3,
        .pooling = TSR_POOLING_MEAN,
        .parameters = 1000,
    };
    strcpy(hello->model, "echo");
    strcpy(hello->architecture, "llama");
}

static inline void house_take(struct house_engine *engine)
{
    static _Alignas(64) uint8_t copy[TSR_WIRE_RECORD_BYTES_MAX];
    struct tsr_wire_request request;
    struct tsr_err err;
    int got;
    while (engine->channel &&
           (got = tsr_channel_read(engine->channel, copy, &request, &err)) != 0) {
        if (got < 0) {
            fail_msg("the API wrote what no engine takes: %s", err.text);
        }
        struct asked *asked = NULL;
        for (uint32_t i = 0; i < engine->n_asked; i++) {
            if (engine->asked[i].id == request.request) {
                asked = &engine->asked[i];
            }
        }
        switch (request.type) {
        case TSR_REQ_SUBMIT:
            assert_null(asked);
            assert_true(engine->n_asked < HOUSE_ASKS_MAX);
            assert_int_equal(tsr_channel_begin(engine->channel), 0);
            asked = &engine->asked[engine->n_asked++];
            asked->id = request.request;
            asked->submit = *request.submit.fixed;
            asked->credit = asked->submit.credit;
            asked->payload = calloc(1, asked->submit.payload_bytes + 1);
            for (uint32_t i = 0; i < asked->submit.bias_count && i < 8; i++) {
                asked->biases[i] = request.submit.bias[i];
            }
            uint32_t at = 0, bytes;
            const char *text;
            while (tsr_wire_stop_next(&request, &at, &text, &bytes)) {
                snprintf(asked->stops + strlen(asked->stops),
                         sizeof asked->stops - strlen(asked->stops), "%.*s|", (int)bytes, text);
            }
            asked->got = asked->submit.chunk_bytes;
            memcpy(asked->payload, request.submit.chunk, asked->got);
            break;
        case TSR_REQ_CONTINUE:
            if (asked) {
                assert_int_equal(request.cont.fixed->payload_off, asked->got);
                memcpy(asked->payload + asked->got, request.cont.chunk,
                       request.cont.fixed->chunk_bytes);
                asked->got += request.cont.fixed->chunk_bytes;
            }
            break;
        case TSR_REQ_CREDIT:
            if (asked) {
                asked->credit += request.credit->credit;
            }
            break;
        case TSR_REQ_CANCEL:
            if (asked) {
                struct tsr_wire_done done = {.request = asked->id, .reason = TSR_REASON_CANCELLED};
                asked->cancelled = true;
                asked->id = 0;
                tsr_channel_done(engine->channel, &done, NULL);
            }
            break;
        default:
            engine->statuses++;
            if (!engine->mute) {
                uint32_t size = sizeof(struct tsr_wire_status) +
                                sizeof(struct tsr_wire_status_node) +
                                sizeof(struct tsr_wire_status_counters);
                struct tsr_wire_status *s = tsr_channel_reserve(engine->channel, size);
                memset((uint8_t *)s + sizeof s->record, 0, size - sizeof s->record);
                s->request = request.request;
                s->prompt_tokens = 11;
                s->completion_tokens = 22;
                s->kv_bytes = 100;
                s->kv_used_bytes = 25;
                s->node_count = 1;
                s->requests_running = 1;
                s->counters_bytes = sizeof(struct tsr_wire_status_counters);
                strcpy(s->kernels, "ref");
                struct tsr_wire_status_node *node = (void *)(s + 1);
                node->bytes_2m = 4096;
                struct tsr_wire_status_counters *counters = (void *)(node + 1);
                counters->requests_ended[TSR_REASON_STOP] = 5;
                tsr_channel_commit(engine->channel, TSR_EV_STATUS, size);
            }
        }
    }
}

static inline void house_engine_step(struct house_engine *engine)
{
    struct tsr_door_event events[16];
    if (!engine->door) {
        return;
    }
    int n = tsr_door_step(engine->door, events, 16);
    for (int i = 0; i < n; i++) {
        if (events[i].kind == TSR_DOOR_OPENED) {
            assert_null(engine->channel);
            engine->channel = events[i].channel;
        } else if (events[i].kind == TSR_DOOR_GONE) {
            tsr_door_close(engine->door, events[i].channel, NULL);
            engine->channel = NULL;
        }
    }
    house_take(engine);
    if (engine->channel) {
        tsr_channel_flush(engine->channel);
    }
}

static inline void house_engine_open(struct house_engine *engine,
                                     const struct tsr_wire_hello *hello, uint32_t requests_max)
{
    struct tsr_door_class class;
    struct tsr_door_policy policy = {.channels_max = 64};
    struct tsr_err err;
    tsr_door_class_init(&class);
    class.grants_per_minute = 1000000;
    if (requests_max) {
        class.requests_max = requests_max;
    }
    tsr_door_policy_add(&policy, TSR_DOOR_UID, geteuid(), &class);
    if (!engine->path[0]) {
        strcpy(engine->directory, "/tmp/tessera-test-XXXXXX");
        assert_non_null(mkdtemp(engine->directory));
        snprintf(engine->path, sizeof engine->path, "%s/engine.sock", engine->directory);
    }
    if (tsr_door_open(&engine->door, engine->path, &policy, &err) != 0) {
        fail_msg("%s", err.text);
    }
    tsr_door_set_hello(engine->door, hello);
}

/* It dies. */
static inline void house_engine_close(struct house_engine *engine)
{
    if (engine->channel) {
        tsr_door_close(engine->door, engine->channel, "the test said so");
        engine->channel = NULL;
    }
    if (engine->door) {
        tsr_door_destroy(engine->door, NULL);
        engine->door = NULL;
    }
    for (uint32_t i = 0; i < engine->n_asked; i++) {
        free(engine->asked[i].payload);
    }
    memset(engine->asked, 0, sizeof engine->asked);
    engine->n_asked = 0;
}

/* ---- The house ---- */

static inline void house_turn(struct house *house)
{
    house->now_ns = tsr_clock_ns();
    for (uint32_t i = 0; i < house->n_engines; i++) {
        house_engine_step(&house->engines[i]);
    }
    tsr_api_step(house->api, house->now_ns);
    tsr_api_flush(house->api);
    for (uint32_t i = 0; i < house->n_engines; i++) {
        house_engine_step(&house->engines[i]);
    }
    tsr_api_step(house->api, house->now_ns);
}

static inline bool house_connected(struct house *house)
{
    int fds[TSR_API_FDS_MAX];
    uint32_t n = tsr_api_fds(house->api, fds);
    for (uint32_t i = 0; i + 1 < n; i++) {
        if (fds[i] < 0) {
            return false;
        }
    }
    return true;
}

static inline void house_await(struct house *house)
{
    for (int i = 0; i < HOUSE_TURNS && !house_connected(house); i++) {
        house_turn(house);
        usleep(500);
    }
    assert_true(house_connected(house));
}

static inline void house_quiet(void *ctx, enum tsr_log_level level, const char *text)
{
    (void)ctx;
    (void)level;
    (void)text;
}

/* Engines are opened with hellos[i]; then the API, until it is connected with all. options may be
 * NULL. */
static inline void house_open(struct house *house, const struct tsr_wire_hello *hellos, uint32_t n,
                              const struct tsr_api_options *options)
{
    struct tsr_err err = {0};
    memset(house, 0, sizeof *house);
    tsr_log_set(house_quiet, NULL, TSR_LOG_ERROR);
    house->n_engines = n;
    if (options) {
        house->options = *options;
    } else {
        tsr_api_options_init(&house->options);
        house->options.exchanges_max = 64;
    }
    house->options.n_engines = n;
    for (uint32_t i = 0; i < n; i++) {
        house_engine_open(&house->engines[i], &hellos[i], 0);
        house->options.engines[i] = house->engines[i].path;
    }
    if (tsr_api_create(&house->api, &house->options, &err) != 0) {
        fail_msg("%s", err.text);
    }
    house_await(house);
}

static inline void house_close(struct house *house)
{
    assert_int_equal(tsr_api_open(house->api), 0);
    tsr_api_destroy(house->api);
    for (uint32_t i = 0; i < house->n_engines; i++) {
        house_engine_close(&house->engines[i]);
        rmdir(house->engines[i].directory);
    }
}

/* ---- Asking ---- */

static inline struct tsr_api_text text_of(const char *text)
{
    return (struct tsr_api_text){text, strlen(text)};
}

/* headers: name, value, ..., NULL; may be NULL. The body may be NULL. */
static inline void house_ask(struct house *house, struct told *told, const char *method,
                             const char *path, const char *const *headers, const char *body)
{
    struct tsr_api_header list[16];
    struct tsr_api_request request = {
        .method = text_of(method),
        .path = text_of(path),
        .host = text_of("localhost:8000"),
        .headers = list,
        .body_bytes = body ? strlen(body) : 0,
    };
    memset(told, 0, offsetof(struct told, body));
    told->size = 0;
    told->pieces = 0;
    told->ended = told->aborted = false;
    for (uint32_t i = 0; headers && headers[2 * i]; i++) {
        if (strcmp(headers[2 * i], "host") == 0) {
            request.host = text_of(headers[2 * i + 1]);
            continue;
        }
        list[request.n_headers++] =
            (struct tsr_api_header){text_of(headers[2 * i]), text_of(headers[2 * i + 1])};
    }
    house->now_ns = tsr_clock_ns();
    told->exchange = tsr_api_begin(house->api, &house_door, told, &request, house->now_ns);
    if (told->exchange && body) {
        size_t half = strlen(body) / 2;
        if (!tsr_api_body(told->exchange, body, half, house->now_ns) ||
            !tsr_api_body(told->exchange, body + half, strlen(body) - half, house->now_ns)) {
            told->exchange = NULL;
        }
    }
    if (told->exchange && !tsr_api_body_end(told->exchange, house->now_ns)) {
        told->exchange = NULL;
    }
    house_turn(house);
}

static inline void house_post(struct house *house, struct told *told, const char *path,
                              const char *body)
{
    house_ask(house, told, "POST", path, NULL, body);
}

static inline void house_get(struct house *house, struct told *told, const char *path)
{
    house_ask(house, told, "GET", path, NULL, NULL);
}

/* ---- Saying ---- */

static inline struct asked *house_asked(struct house *house, uint32_t i)
{
    assert_true(i < house->engines[0].n_asked);
    return &house->engines[0].asked[i];
}

/* Forgets what was asked and has ended. */
static inline void house_forget(struct house *house)
{
    struct house_engine *engine = &house->engines[0];
    for (uint32_t i = 0; i < engine->n_asked; i++) {
        free(engine->asked[i].payload);
    }
    memset(engine->asked, 0, sizeof engine->asked);
    engine->n_asked = 0;
}

static inline void say_accepted(struct house *house, uint32_t i, uint32_t flags)
{
    struct tsr_wire_accepted *accepted =
        tsr_channel_reserve(house->engines[0].channel, sizeof *accepted);
    assert_non_null(accepted);
    memset((uint8_t *)accepted + sizeof accepted->record, 0,
           sizeof *accepted - sizeof accepted->record);
    accepted->request = house_asked(house, i)->id;
    accepted->prompt_tokens = 7;
    accepted->cached_tokens = 2;
    accepted->flags = flags;
    accepted->time_ns = tsr_clock_ns();
    tsr_channel_commit(house->engines[0].channel, TSR_EV_ACCEPTED, sizeof *accepted);
    house_turn(house);
}

/* False: no credit. With logprobs: two alternatives, the token first. */
static inline bool say_token(struct house *house, uint32_t i, const char *text, uint8_t flags)
{
    struct asked *asked = house_asked(house, i);
    bool logprobs = asked->submit.flags & TSR_SUBMIT_LOGPROBS;
    uint32_t size = (uint32_t)strlen(text), padded = (size + 3) & ~3u;
    uint32_t tops = logprobs && asked->submit.top_logprobs ? 2 : 0;
    uint32_t bytes =
        (uint32_t)sizeof(struct tsr_wire_token) + padded + (tops ? 16 + padded + 12 : 0);
    if (asked->said == asked->credit) {
        return false;
    }
    struct tsr_wire_token *token = tsr_channel_reserve(house->engines[0].channel, bytes);
    assert_non_null(token);
    memset((uint8_t *)token + sizeof token->record, 0, bytes - sizeof token->record);
    token->request = asked->id;
    token->time_ns = tsr_clock_ns();
    token->token = 5;
    token->index = asked->said++;
    token->logprob = -0.5f;
    token->text_bytes = (uint16_t)size;
    token->flags = (uint8_t)(flags | (logprobs ? TSR_WIRE_TOKEN_LOGPROB : 0));
    memcpy(token->text, text, size);
    if (tops) {
        token->top_count = 2;
        struct tsr_wire_top top = {.token = 5, .logprob = -0.5f, .text_bytes = size};
        uint8_t *at = token->text + padded;
        memcpy(at, &top, sizeof top);
        memcpy(at + sizeof top, text, size);
        at += sizeof top + padded;
        top = (struct tsr_wire_top){.token = 6, .logprob = -1.25f, .text_bytes = 1};
        memcpy(at, &top, sizeof top);
        at[sizeof top] = 'z';
    }
    tsr_channel_commit(house->engines[0].channel, TSR_EV_TOKEN, bytes);
    house_turn(house);
    return true;
}

static inline void say_done(struct house *house, uint32_t i, enum tsr_reason reason)
{
    struct asked *asked = house_asked(house, i);
    struct tsr_wire_done done = {.request = asked->id,
                                 .reason = (uint8_t)reason,
                                 .prompt_tokens = 7,
                                 .cached_tokens = 2,
                                 .completion_tokens = asked->said};
    if (reason == TSR_REASON_ERROR) {
        done.code = TSR_CODE_INTERNAL;
    }
    tsr_channel_done(house->engines[0].channel, &done,
                     reason == TSR_REASON_ERROR ? "it broke" : NULL);
    asked->id = 0;
    house_turn(house);
}

static inline void say_error(struct house *house, uint32_t i, enum tsr_code code,
                             const char *sentence)
{
    tsr_channel_error(house->engines[0].channel, true, house_asked(house, i)->id, code, 1500, "%s",
                      sentence);
    house_asked(house, i)->id = 0;
    house_turn(house);
}

/* Accepted, one token a character, done. */
static inline void say_text(struct house *house, uint32_t i, const char *text,
                            enum tsr_reason reason)
{
    say_accepted(house, i, 0);
    for (char piece[2] = ""; *text; text++) {
        piece[0] = *text;
        assert_true(say_token(house, i, piece, 0));
    }
    say_done(house, i, reason);
}

/* ---- Looking ---- */

static inline void assert_says(const struct told *told, const char *part)
{
    if (!strstr(told->body, part)) {
        fail_msg("'%s' is not in: %s", part, told->body);
    }
}

static inline void assert_refused(const struct told *told, unsigned status, const char *param,
                                  const char *part)
{
    char text[128];
    if (told->status != status) {
        fail_msg("status %u, wanted %u: %s", told->status, status, told->body);
    }
    assert_true(told->ended);
    assert_string_equal(told->type, "application/json");
    assert_says(told, "{\"error\":{\"message\":\"");
    snprintf(text, sizeof text, "\"param\":%s%s%s", param ? "\"" : "", param ? param : "null",
             param ? "\"" : "");
    assert_says(told, text);
    assert_says(told, part);
}

#endif
