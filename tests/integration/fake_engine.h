/* An engine without a model, for tests of the channel and of libtessera: it answers a text with its
 * own bytes, a token each, keeping every rule of wire.h that an engine has to keep (credit, room,
 * continuations, finals). It runs on a thread or in a process of its own. */
#ifndef TSR_TESTS_FAKE_ENGINE_H
#define TSR_TESTS_FAKE_ENGINE_H

#include <tsr/shm/bell.h>
#include <tsr/shm/door.h>

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { FAKE_SESSIONS_MAX = 256, FAKE_PAYLOAD_MAX = 4 << 20 };

struct fake_request {
    uint64_t id; /* 0: free */
    uint16_t flags;
    uint8_t kind;
    uint8_t top_logprobs;
    uint32_t payload_bytes, got_bytes, sent;
    uint32_t credit, tokens_max;
    bool cancelled, accepted;
    uint8_t *payload;
};

struct fake_session {
    struct tsr_channel *channel;
    struct fake_request requests[64];
    bool gone;
};

struct fake_engine {
    char directory[64], path[96];
    struct tsr_door *door;
    struct tsr_door_class class;
    struct tsr_wire_hello hello;
    bool loads; /* never says hello */
    struct fake_session *sessions[FAKE_SESSIONS_MAX];
    _Atomic int stop;
    _Atomic uint64_t broken;     /* channels that broke the contract */
    _Atomic uint64_t sleeps;     /* times it slept */
    bool spins;                  /* never sleeps */
    bool silent;                 /* accepts requests and never answers them */
    uint64_t token_pause_ns;     /* between steps with tokens */
    struct tsr_door_stats stats; /* at the end, all channels closed */
    pthread_t thread;
    pid_t pid;
};

static inline struct fake_request *fake_find(struct fake_session *session, uint64_t id)
{
    for (int i = 0; i < 64; i++) {
        if (session->requests[i].id == id) {
            return &session->requests[i];
        }
    }
    return NULL;
}

static inline void fake_finish(struct fake_session *session, struct fake_request *r, int reason)
{
    struct tsr_wire_done done = {.request = r->id,
                                 .reason = (uint8_t)reason,
                                 .prompt_tokens = r->payload_bytes,
                                 .completion_tokens = r->sent,
                                 .decode_ns = 1000};
    tsr_channel_done(session->channel, &done, reason == TSR_REASON_ERROR ? "as asked" : NULL);
    free(r->payload);
    *r = (struct fake_request){0};
}

static inline void fake_submit(struct fake_session *session, const struct tsr_wire_request *request)
{
    const struct tsr_wire_submit *s = request->submit.fixed;
    struct tsr_channel *channel = session->channel;
    if (fake_find(session, s->request)) {
        tsr_channel_error(channel, false, s->request, TSR_CODE_DUPLICATE, 0, "that id is live");
        return;
    }
    int begun = s->payload_bytes > FAKE_PAYLOAD_MAX ? -E2BIG : tsr_channel_begin(channel);
    if (begun) {
        tsr_channel_error(channel, false, s->request, TSR_CODE_BUSY, 7, "not now: %d", begun);
        return;
    }
    struct fake_request *r = fake_find(session, 0);
    *r = (struct fake_request){
        .id = s->request,
        .flags = s->flags,
        .kind = s->kind,
        .top_logprobs = s->top_logprobs,
        .payload_bytes = s->payload_bytes,
        .got_bytes = s->chunk_bytes,
        .credit = s->credit,
        .tokens_max = s->tokens_max ? s->tokens_max : UINT32_MAX,
        .payload = malloc(s->payload_bytes),
    };
    memcpy(r->payload, request->submit.chunk, s->chunk_bytes);
}

static inline void fake_status(struct tsr_channel *channel, uint64_t id)
{
    uint32_t bytes = sizeof(struct tsr_wire_status) + sizeof(struct tsr_wire_status_node) +
                     2 * sizeof(struct tsr_wire_status_thread) +
                     sizeof(struct tsr_wire_status_counters);
    struct tsr_wire_status *s = tsr_channel_reserve(channel, bytes);
    if (!s) {
        tsr_channel_error(channel, false, id, TSR_CODE_BUSY, 1, "no room for a status");
        return;
    }
    memset((uint8_t *)s + sizeof(struct tsr_record), 0, bytes - sizeof(struct tsr_record));
    s->request = id;
    s->weights_bytes = 1234;
    s->node_count = 1;
    s->thread_count = 2;
    s->requests_running = tsr_channel_live(channel);
    strcpy(s->model, "echo");
    struct tsr_wire_status_node *node = (void *)(s + 1);
    node->bytes_2m = 4096;
    struct tsr_wire_status_thread *threads = (void *)(node + 1);
    strcpy(threads[0].name, "worker 0");
    threads[1].cpu = -1;
    struct tsr_wire_status_counters *counters = (void *)(threads + 2);
    s->counters_bytes = sizeof *counters;
    counters->requests_ended[TSR_REASON_STOP] = 7;
    counters->decode_ns = 9;
    tsr_channel_commit(channel, TSR_EV_STATUS, bytes);
}

static inline void fake_take(struct fake_engine *engine, struct fake_session *session)
{
    static _Thread_local _Alignas(64) uint8_t copy[TSR_WIRE_RECORD_BYTES_MAX];
    struct tsr_wire_request request;
    struct tsr_err err;
    int got;
    while ((got = tsr_channel_read(session->channel, copy, &request, &err)) != 0) {
        if (got == -EPROTO) {
            atomic_fetch_add(&engine->broken, 1);
            session->gone = true;
            return;
        }
        if (got == -EINVAL) {
            tsr_channel_error(session->channel, false, request.request, TSR_CODE_INVALID, 0, "%s",
                              err.text);
            continue;
        }
        struct fake_request *r = fake_find(session, request.request);
        switch (request.type) {
        case TSR_REQ_SUBMIT:
            fake_submit(session, &request);
            break;
        case TSR_REQ_CONTINUE:
            if (r && request.cont.fixed->payload_off == r->got_bytes &&
                request.cont.fixed->chunk_bytes <= r->payload_bytes - r->got_bytes) {
                memcpy(r->payload + r->got_bytes, request.cont.chunk,
                       request.cont.fixed->chunk_bytes);
                r->got_bytes += request.cont.fixed->chunk_bytes;
            } else if (r) {
                tsr_channel_break(session->channel, "a continuation out of order");
                session->gone = true;
                return;
            }
            break;
        case TSR_REQ_CREDIT:
            if (r) {
                r->credit = r->credit > UINT32_MAX - request.credit->credit
                                ? UINT32_MAX
                                : r->credit + request.credit->credit;
            }
            break;
        case TSR_REQ_CANCEL:
            if (r) {
                fake_finish(session, r, TSR_REASON_CANCELLED);
            }
            break;
        default:
            fake_status(session->channel, request.request);
        }
    }
}

static inline void fake_accept(struct fake_session *session, struct fake_request *r)
{
    struct tsr_wire_accepted *accepted = tsr_channel_reserve(session->channel, sizeof *accepted);
    if (accepted) {
        memset((uint8_t *)accepted + sizeof(struct tsr_record), 0,
               sizeof *accepted - sizeof(struct tsr_record));
        accepted->request = r->id;
        accepted->prompt_tokens = r->payload_bytes;
        accepted->tokens_max = r->tokens_max;
        accepted->seed = 42;
        tsr_channel_commit(session->channel, TSR_EV_ACCEPTED, sizeof *accepted);
        r->accepted = true;
    }
}

/* An embedding: a payload byte each; or the payload itself as text. By records of up to 100. */
static inline bool fake_part(struct fake_session *session, struct fake_request *r)
{
    bool embeds = r->flags & TSR_SUBMIT_EMBED;
    uint32_t count = r->payload_bytes - r->sent < 100 ? r->payload_bytes - r->sent : 100;
    uint32_t bytes = embeds ? (uint32_t)(sizeof(struct tsr_wire_embedding) + count * sizeof(float))
                            : (uint32_t)sizeof(struct tsr_wire_text) + count;
    void *event = tsr_channel_reserve(session->channel, bytes);
    if (!event) {
        return false;
    }
    if (embeds) {
        struct tsr_wire_embedding *embedding = event;
        embedding->request = r->id;
        embedding->first = r->sent;
        embedding->count = count;
        embedding->total = r->payload_bytes;
        embedding->reserved = 0;
        for (uint32_t i = 0; i < count; i++) {
            embedding->values[i] = r->payload[r->sent + i];
        }
    } else {
        struct tsr_wire_text *text = event;
        text->request = r->id;
        text->offset = r->sent;
        text->text_bytes = count;
        text->total = r->payload_bytes;
        text->reserved = 0;
        memcpy(text->text, r->payload + r->sent, count);
    }
    tsr_channel_commit(session->channel, embeds ? TSR_EV_EMBEDDING : TSR_EV_TEXT, bytes);
    r->sent += count;
    return true;
}

static inline int fake_reason(const struct fake_request *r)
{
    return r->flags & TSR_SUBMIT_TOKENIZE  ? TSR_REASON_TOKENIZED
           : r->flags & TSR_SUBMIT_EMBED   ? TSR_REASON_EMBEDDED
           : r->flags & TSR_SUBMIT_ANSWERS ? TSR_REASON_WRITTEN
                                           : TSR_REASON_END;
}

/* One token, or a record of tokens. False: no room or credit, or nothing to send. */
static inline bool fake_token(struct fake_session *session, struct fake_request *r)
{
    if (r->sent == r->payload_bytes || r->sent >= r->tokens_max) {
        fake_finish(session, r, fake_reason(r));
        return true;
    }
    if (r->flags & (TSR_SUBMIT_ANSWERS & ~TSR_SUBMIT_TOKENIZE)) {
        return fake_part(session, r);
    }
    if (r->flags & TSR_SUBMIT_TOKENIZE) {
        uint32_t count = r->payload_bytes - r->sent < 100 ? r->payload_bytes - r->sent : 100;
        uint32_t bytes =
            (uint32_t)(sizeof(struct tsr_wire_tokens) + count * sizeof(struct tsr_wire_piece)) +
            count;
        struct tsr_wire_tokens *tokens = tsr_channel_reserve(session->channel, bytes);
        if (!tokens) {
            return false;
        }
        tokens->request = r->id;
        tokens->first = r->sent;
        tokens->count = count;
        tokens->total = r->payload_bytes;
        tokens->text_bytes = count;
        struct tsr_wire_piece *pieces = (void *)(tokens + 1);
        for (uint32_t i = 0; i < count; i++) {
            pieces[i] = (struct tsr_wire_piece){r->payload[r->sent + i], 1};
        }
        memcpy(pieces + count, r->payload + r->sent, count);
        tsr_channel_commit(session->channel, TSR_EV_TOKENS, bytes);
        r->sent += count;
        return true;
    }
    if (r->credit == 0) {
        return false;
    }
    uint32_t tops = r->flags & TSR_SUBMIT_LOGPROBS ? r->top_logprobs : 0;
    uint32_t bytes = (uint32_t)sizeof(struct tsr_wire_token) + 4 + tops * 16;
    struct tsr_wire_token *token = tsr_channel_reserve(session->channel, bytes);
    if (!token) {
        return false;
    }
    token->request = r->id;
    token->time_ns = tsr_clock_ns();
    token->token = r->payload[r->sent];
    token->logprob = -0.5f;
    token->index = r->sent;
    token->text_bytes = 1;
    token->top_count = (uint8_t)tops;
    token->flags = r->flags & TSR_SUBMIT_LOGPROBS ? TSR_WIRE_TOKEN_LOGPROB : 0;
    token->text[0] = r->payload[r->sent];
    for (uint32_t i = 0; i < tops; i++) {
        uint8_t *top = (uint8_t *)token + sizeof *token + 4 + i * 16;
        struct tsr_wire_top fixed = {.token = i, .logprob = -(float)i, .text_bytes = 2};
        memcpy(top, &fixed, sizeof fixed);
        memcpy(top + sizeof fixed, "ab", 2);
    }
    tsr_channel_commit(session->channel, TSR_EV_TOKEN, bytes);
    r->credit--;
    r->sent++;
    return true;
}

/* Returns whether anything was done. */
static inline bool fake_step(struct fake_engine *engine, struct fake_session *session)
{
    bool worked = false;
    fake_take(engine, session);
    for (int i = 0; i < 64 && !session->gone && !engine->silent; i++) {
        struct fake_request *r = &session->requests[i];
        if (r->id && r->got_bytes == r->payload_bytes) {
            if (!r->accepted) {
                fake_accept(session, r);
            }
            if (r->accepted) {
                worked |= fake_token(session, r);
            }
        }
    }
    tsr_channel_flush(session->channel);
    if (tsr_channel_is_broken(session->channel) && !session->gone) {
        atomic_fetch_add(&engine->broken, 1);
        session->gone = true;
    }
    return worked;
}

static inline void fake_drop(struct fake_engine *engine, int i, const char *why)
{
    struct fake_session *session = engine->sessions[i];
    tsr_door_close(engine->door, session->channel, why);
    for (int k = 0; k < 64; k++) {
        free(session->requests[k].payload);
    }
    free(session);
    engine->sessions[i] = NULL;
}

static inline void fake_door(struct fake_engine *engine)
{
    struct tsr_door_event events[16];
    int count;
    do {
        count = tsr_door_step(engine->door, events, 16);
        for (int e = 0; e < count; e++) {
            if (events[e].kind == TSR_DOOR_OPENED) {
                int slot = 0;
                while (engine->sessions[slot]) {
                    slot++;
                }
                struct fake_session *session = calloc(1, sizeof *session);
                session->channel = events[e].channel;
                engine->sessions[slot] = session;
                tsr_channel_set_owner(events[e].channel, session);
            } else if (events[e].kind == TSR_DOOR_GONE) {
                struct fake_session *session = tsr_channel_owner(events[e].channel);
                session->gone = true;
            }
        }
    } while (count == 16);
    for (int i = 0; i < FAKE_SESSIONS_MAX; i++) {
        if (engine->sessions[i] && engine->sessions[i]->gone) {
            fake_drop(engine, i, NULL);
        }
    }
}

static inline void fake_sleep(struct fake_engine *engine)
{
    bool may = true, starved = false;
    for (int i = 0; i < FAKE_SESSIONS_MAX; i++) {
        if (engine->sessions[i]) {
            may &= tsr_channel_arm(engine->sessions[i]->channel);
            starved |= tsr_channel_is_starved(engine->sessions[i]->channel);
        }
    }
    if (may) {
        int timeout = tsr_door_timeout_ms(engine->door);
        int most = starved ? 20 : 50; /* so that `stop` is seen */
        struct pollfd wait = {.fd = tsr_door_fd(engine->door), .events = POLLIN};
        poll(&wait, 1, timeout < 0 || timeout > most ? most : timeout);
        atomic_fetch_add(&engine->sleeps, 1);
    }
    for (int i = 0; i < FAKE_SESSIONS_MAX; i++) {
        if (engine->sessions[i]) {
            tsr_channel_disarm(engine->sessions[i]->channel);
        }
    }
}

static inline void *fake_run(void *arg)
{
    struct fake_engine *engine = arg;
    while (!atomic_load(&engine->stop)) {
        fake_door(engine);
        bool worked = false;
        for (int i = 0; i < FAKE_SESSIONS_MAX; i++) {
            if (engine->sessions[i]) {
                worked |= fake_step(engine, engine->sessions[i]);
            }
        }
        if (worked && engine->token_pause_ns) {
            usleep((useconds_t)(engine->token_pause_ns / 1000));
        }
        if (!worked && !engine->spins) {
            fake_sleep(engine);
        }
    }
    for (int i = 0; i < FAKE_SESSIONS_MAX; i++) {
        if (engine->sessions[i]) {
            fake_drop(engine, i, "the engine was stopped");
        }
    }
    tsr_door_stats(engine->door, &engine->stats);
    tsr_door_destroy(engine->door, NULL);
    return NULL;
}

/* Makes the directory. `class` NULL: generous. */
static inline int fake_prepare(struct fake_engine *engine, const struct tsr_door_class *class)
{
    memset(engine, 0, sizeof *engine);
    strcpy(engine->directory, "/tmp/tessera-test-XXXXXX");
    if (!mkdtemp(engine->directory)) {
        return -1;
    }
    snprintf(engine->path, sizeof engine->path, "%s/engine.sock", engine->directory);
    tsr_door_class_init(&engine->class);
    engine->class.grants_per_minute = 10000000;
    engine->class.channels_max = FAKE_SESSIONS_MAX;
    if (class) {
        engine->class = *class;
    }
    engine->hello = (struct tsr_wire_hello){.flags = TSR_HELLO_CHAT,
                                            .context_tokens = 4096,
                                            .request_tokens_max = 4096,
                                            .sequences_max = 8,
                                            .payload_bytes_max = FAKE_PAYLOAD_MAX,
                                            .vocabulary = 256,
                                            .embedding_width = 1234,
                                            .pooling = TSR_POOLING_LAST,
                                            .tools = TSR_TOOLS_HERMES,
                                            .park_seconds = 30,
                                            .tokens_max_default = 16};
    strcpy(engine->hello.model, "echo");
    return 0;
}

static inline int fake_open(struct fake_engine *engine)
{
    struct tsr_door_policy policy = {.channels_max = FAKE_SESSIONS_MAX};
    tsr_door_policy_add(&policy, TSR_DOOR_UID, geteuid(), &engine->class);
    struct tsr_err err;
    int result = tsr_door_open(&engine->door, engine->path, &policy, &err);
    if (result) {
        fprintf(stderr, "%s\n", err.text);
    } else if (!engine->loads) {
        tsr_door_set_hello(engine->door, &engine->hello);
    }
    return result;
}

static inline int fake_start_thread(struct fake_engine *engine)
{
    int result = fake_open(engine);
    return result ? result : pthread_create(&engine->thread, NULL, fake_run, engine);
}

static inline void fake_stop_thread(struct fake_engine *engine)
{
    atomic_store(&engine->stop, 1);
    pthread_join(engine->thread, NULL);
    rmdir(engine->directory);
}

/* In a process of its own; returns when its door is open. */
static inline int fake_start_process(struct fake_engine *engine)
{
    int ready[2];
    if (pipe(ready) != 0) {
        return -1;
    }
    engine->pid = fork();
    if (engine->pid == 0) {
        close(ready[0]);
        char ok = fake_open(engine) == 0;
        if (write(ready[1], &ok, 1) == 1 && ok) {
            close(ready[1]);
            fake_run(engine);
        }
        _exit(0);
    }
    close(ready[1]);
    char ok = 0;
    ssize_t got = read(ready[0], &ok, 1);
    close(ready[0]);
    return engine->pid > 0 && got == 1 && ok ? 0 : -1;
}

static inline void fake_kill_process(struct fake_engine *engine)
{
    kill(engine->pid, SIGKILL);
    waitpid(engine->pid, NULL, 0);
}

static inline void fake_remove(struct fake_engine *engine)
{
    unlink(engine->path);
    rmdir(engine->directory);
}

#endif
