/* The frontend in one thread with all that surrounds it: a real door and channels, a text worker
 * that runs when told, and an executor that makes up logits. The test is control thread, text
 * thread and clients at once. */
#ifndef BENCH_OF_ONE_H
#define BENCH_OF_ONE_H

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include <tsr/serve/frontend.h>
#include <tsr/serve/textwork.h>
#include <tsr/shm/door.h>
#include <tsr/shm/link.h>
#include <tsr/text/tokenizer.h>

enum { VOCAB = 4096, CONTEXT = 512, PAGES = 64, SLOTS = 8, MS = 1000000, WIDTH = 5000 };

struct fake_kv {
    uint32_t total, free;
};

struct bench {
    struct tsr_tokenizer *tokenizer;
    struct tsr_textwork *text;
    struct tsr_door *door;
    struct tsr_frontend *f;
    struct fake_kv kv;
    float *logits; /* [64][VOCAB] */
    struct tsr_channel *slots[SLOTS];
    bool gone_sent[SLOTS];
    uint32_t steps;
    bool text_stops; /* the text thread does nothing */
    char dir[64], path[96];
};

static int fake_reserve(void *ctx, struct tsr_kv_seq *seq, uint32_t positions)
{
    struct fake_kv *kv = ctx;
    uint32_t need = (positions + TSR_KV_PAGE_POSITIONS - 1) / TSR_KV_PAGE_POSITIONS;
    if (need > kv->free) {
        return -ENOSPC;
    }
    kv->free -= need;
    seq->n_pages = need;
    return 0;
}

static void fake_release(void *ctx, struct tsr_kv_seq *seq)
{
    struct fake_kv *kv = ctx;
    kv->free += seq->n_pages;
    seq->n_pages = 0;
}

/* The token that follows `token` at `position`; never one of the first three, which are marks. */
static inline uint32_t fake_next(uint32_t token, uint32_t position)
{
    uint32_t h = (token * 2654435761u) ^ (position * 40503u);
    return 3 + (h >> 7) % (VOCAB - 3);
}

/* Column i of the hidden state of `token` at `position`. */
static inline double fake_hidden(uint32_t token, uint32_t position, uint32_t i)
{
    return (double)(fake_next(token + i, position) % 100) - 50;
}

static void fake_step(void *ctx, const struct tsr_span *spans, uint32_t n_spans)
{
    struct bench *b = ctx;
    uint32_t row = 0;
    b->steps++;
    for (uint32_t i = 0; i < n_spans; i++) {
        const struct tsr_span *span = &spans[i];
        for (uint32_t r = span->pool_first; r < span->pool_first + span->pool_rows; r++) {
            for (uint32_t c = 0; c < WIDTH; c++) {
                span->pooled[c] += fake_hidden(span->tokens[r], span->position + r, c);
            }
        }
        if (span->logit_rows) {
            uint32_t last = span->tokens[span->rows - 1];
            float *logits = b->logits + (size_t)row++ * VOCAB;
            memset(logits, 0, VOCAB * sizeof *logits);
            logits[fake_next(last, span->position + span->rows - 1)] = 20;
        }
    }
}

static const float *fake_logits(void *ctx, uint32_t i)
{
    struct bench *b = ctx;
    return b->logits + (size_t)i * VOCAB;
}

static void fake_idle(void *ctx)
{
    (void)ctx;
}

static inline void bench_open(struct bench *b, const struct tsr_door_policy *policy,
                              uint32_t park_ms, uint64_t prompt_bytes)
{
    char model[512];
    struct tsr_err err = {0};
    const char *source = getenv("TESSERA_SOURCE");
    snprintf(model, sizeof model, "%s/tests/vectors/shell-5m", source ? source : ".");
    memset(b, 0, sizeof *b);
    b->kv = (struct fake_kv){PAGES, PAGES};
    b->logits = calloc(64, VOCAB * sizeof *b->logits);
    if (tsr_tokenizer_open(&b->tokenizer, model, NULL, &err) < 0) {
        fail_msg("%s", err.text);
    }
    snprintf(b->dir, sizeof b->dir, "/tmp/tessera-unit-XXXXXX");
    assert_non_null(mkdtemp(b->dir));
    snprintf(b->path, sizeof b->path, "%s/e.sock", b->dir);
    assert_int_equal(tsr_textwork_create(&b->text, b->tokenizer, VOCAB, 1 << 16, &err), 0);
    if (tsr_door_open(&b->door, b->path, policy, &err) < 0) {
        fail_msg("%s", err.text);
    }
    const struct tsr_frontend_options options = {
        .sched = {.sequences_max = 8,
                  .queue_max = 8,
                  .rows_max = 64,
                  .chunk_rows = 16,
                  .logit_rows_max = 8,
                  .context = CONTEXT,
                  .park_ns = (uint64_t)park_ms * MS,
                  .age_ns = MS},
        .positions_max = CONTEXT,
        .logits_vocab = VOCAB,
        .channels_max = SLOTS,
        .tokens_default = 32,
        .payload_bytes_max = 1 << 16,
        .prompt_bytes = prompt_bytes,
        .seed = 1,
        .embedding_width = WIDTH,
        .pooling = TSR_POOLING_MEAN,
        .no_embeddings = "no embeddings here",
        .chat = true,
        .spin = true,
    };
    const struct tsr_frontend_exec exec = {b, fake_step, fake_logits, fake_idle};
    const struct tsr_sched_kv kv = {&b->kv, fake_reserve, fake_release, PAGES};
    if (tsr_frontend_create(&b->f, &options, &exec, &kv, tsr_tokenizer_vocab(b->tokenizer), &err) <
        0) {
        fail_msg("%s", err.text);
    }
    struct tsr_wire_hello hello = {.version = TSR_WIRE_VERSION, .vocabulary = VOCAB};
    tsr_door_set_hello(b->door, &hello);
}

static inline uint32_t bench_slot(const struct bench *b, const struct tsr_channel *channel)
{
    for (uint32_t i = 0; i < SLOTS; i++) {
        if (b->slots[i] == channel) {
            return i;
        }
    }
    fail_msg("no slot of that channel");
    return 0;
}

static inline void bench_gone(struct bench *b, uint32_t slot)
{
    if (!b->gone_sent[slot]) {
        b->gone_sent[slot] = true;
        tsr_lane_push(&b->f->from_control, (struct tsr_lane_item){TSR_ITEM_GONE, slot, NULL});
    }
}

/* The control thread's part. */
static inline void bench_control(struct bench *b)
{
    struct tsr_door_event events[8];
    struct tsr_lane_item item;
    while (tsr_lane_pop(&b->f->to_control, &item)) {
        if (item.kind == TSR_ITEM_DROP) {
            bench_gone(b, item.index);
        } else {
            assert_int_equal(item.kind, TSR_ITEM_RELEASED);
            tsr_door_close(b->door, b->slots[item.index], NULL);
            b->slots[item.index] = NULL;
            b->gone_sent[item.index] = false;
        }
    }
    int n = tsr_door_step(b->door, events, 8);
    for (int i = 0; i < n; i++) {
        if (events[i].kind == TSR_DOOR_OPENED) {
            uint32_t slot = bench_slot(b, NULL);
            b->slots[slot] = events[i].channel;
            tsr_lane_push(&b->f->from_control,
                          (struct tsr_lane_item){TSR_ITEM_OPENED, slot, events[i].channel});
        } else if (events[i].kind == TSR_DOOR_GONE) {
            bench_gone(b, bench_slot(b, events[i].channel));
        }
    }
}

/* One round of everybody but the clients. */
static inline void bench_turn(struct bench *b)
{
    struct tsr_lane_item item;
    bench_control(b);
    if (!b->text_stops && tsr_lane_pop(&b->f->to_text, &item)) {
        tsr_textwork_do(b->text, item.pointer);
        tsr_lane_push(&b->f->from_text, item);
    }
    tsr_frontend_turn(b->f);
    assert_true(tsr_sched_is_valid(b->f->sched));
}

static inline void bench_turns(struct bench *b, uint32_t n)
{
    while (n-- > 0) {
        bench_turn(b);
    }
}

struct opener {
    const char *path;
    struct tsr_link *link;
    atomic_int rc; /* 1: not yet */
    struct tsr_err err;
};

static inline void *opener_run(void *ctx)
{
    struct opener *o = ctx;
    atomic_store(&o->rc, tsr_link_open(o->link, o->path, "unit", 5000, NULL, &o->err));
    return NULL;
}

static inline void bench_connect(struct bench *b, struct tsr_link *link)
{
    pthread_t thread;
    struct opener o = {.path = b->path, .link = link, .rc = 1};
    assert_int_equal(pthread_create(&thread, NULL, opener_run, &o), 0);
    while (atomic_load(&o.rc) == 1) {
        bench_turn(b);
    }
    pthread_join(thread, NULL);
    if (o.rc < 0) {
        fail_msg("%s", o.err.text);
    }
    bench_turn(b);
}

/* Everything is as at the start: no slot, block, page, sampler or sequence is held. */
static inline void bench_is_empty(const struct bench *b)
{
    struct tsr_sched_counts counts = tsr_sched_counts(b->f->sched);
    assert_int_equal(counts.waiting + counts.prefill + counts.decode + counts.parked, 0);
    assert_int_equal(b->f->requests.n_free, b->f->requests.n);
    assert_int_equal(b->f->blocks.free, b->f->blocks.total);
    assert_int_equal(b->f->n_samplers_free, b->f->n_samplers);
    assert_int_equal(b->kv.free, b->kv.total);
    assert_int_equal(b->f->arriving, 0);
    assert_null(b->f->owing);
}

static inline void bench_close(struct bench *b)
{
    b->text_stops = false;
    for (uint32_t i = 0; i < 50 && b->f->sessions_open; i++) {
        bench_turn(b);
        nanosleep(&(struct timespec){.tv_nsec = MS}, NULL);
    }
    bench_turns(b, 20);
    assert_int_equal(b->f->sessions_open, 0);
    bench_is_empty(b);
    tsr_textwork_destroy(b->text);
    tsr_frontend_destroy(b->f);
    tsr_door_destroy(b->door, NULL);
    tsr_tokenizer_close(b->tokenizer);
    free(b->logits);
    rmdir(b->dir);
}

/* ---- A client's records ---- */

static inline struct tsr_wire_submit plain_submit(uint64_t id)
{
    return (struct tsr_wire_submit){
        .request = id,
        .kind = TSR_PAYLOAD_TOKENS,
        .priority = 128,
        .credit = 1000,
        .tokens_max = 8,
        .top_p = 1,
        .repetition_penalty = 1,
    };
}

/* Writes a SUBMIT with the first `chunk` bytes of the payload. */
static inline bool send_submit(struct tsr_link *link, struct tsr_wire_submit submit,
                               const void *payload, uint32_t bytes, uint32_t chunk)
{
    void *out;
    submit.payload_bytes = bytes;
    submit.chunk_bytes = chunk;
    uint32_t all = (uint32_t)sizeof submit + chunk;
    if (tsr_link_reserve(link, all, &out) != 1) {
        return false;
    }
    memcpy((uint8_t *)out + 16, (uint8_t *)&submit + 16, sizeof submit - 16);
    memcpy((uint8_t *)out + sizeof submit, payload, chunk);
    tsr_link_commit(link, TSR_REQ_SUBMIT, all);
    tsr_link_flush(link);
    return true;
}

static inline bool send_continue(struct tsr_link *link, uint64_t id, const void *payload,
                                 uint32_t off, uint32_t chunk)
{
    void *out;
    struct tsr_wire_continue cont = {.request = id, .payload_off = off, .chunk_bytes = chunk};
    uint32_t all = (uint32_t)sizeof cont + chunk;
    if (tsr_link_reserve(link, all, &out) != 1) {
        return false;
    }
    memcpy((uint8_t *)out + 16, (uint8_t *)&cont + 16, sizeof cont - 16);
    memcpy((uint8_t *)out + sizeof cont, (const uint8_t *)payload + off, chunk);
    tsr_link_commit(link, TSR_REQ_CONTINUE, all);
    tsr_link_flush(link);
    return true;
}

/* CREDIT (with an amount), CANCEL or STATUS. */
static inline bool send_plain(struct tsr_link *link, enum tsr_wire_type type, uint64_t id,
                              uint64_t amount)
{
    void *out;
    if (tsr_link_reserve(link, sizeof(struct tsr_wire_plain), &out) != 1) {
        return false;
    }
    struct tsr_wire_plain *plain = out;
    plain->request = id;
    plain->reserved = amount;
    tsr_link_commit(link, type, sizeof *plain);
    tsr_link_flush(link);
    return true;
}

/* The next event, copied; 0: none. */
static inline uint16_t take_event(struct tsr_link *link, void *out)
{
    const void *event;
    struct tsr_record_info info;
    int rc = tsr_link_peek(link, &event, &info);
    assert_true(rc >= 0);
    if (rc == 0) {
        return 0;
    }
    memcpy(out, event, info.bytes);
    tsr_link_next(link);
    return info.type;
}

#endif
