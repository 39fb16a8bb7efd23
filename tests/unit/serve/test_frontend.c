#include "bench_of_one.h"

#include <math.h>

static union {
    uint8_t bytes[TSR_WIRE_RECORD_BYTES_MAX];
    struct tsr_wire_accepted accepted;
    struct tsr_wire_token token;
    struct tsr_wire_done done;
    struct tsr_wire_error error;
    struct tsr_wire_status status;
    struct tsr_wire_tokens tokens;
    struct tsr_wire_text text;
    struct tsr_wire_embedding embedding;
} ev;

/* Turns until the link has an event. */
static uint16_t wait_event(struct bench *b, struct tsr_link *link)
{
    for (uint32_t i = 0; i < 2000; i++) {
        uint16_t type = take_event(link, ev.bytes);
        if (type) {
            return type;
        }
        bench_turn(b);
    }
    return 0;
}

static void want_error(struct bench *b, struct tsr_link *link, uint64_t id, enum tsr_code code,
                       const char *names)
{
    uint16_t type = wait_event(b, link);
    assert_int_equal(type, TSR_EV_ERROR);
    ev.error.text[TSR_WIRE_SENTENCE_MAX - 1] = '\0';
    if (ev.error.request != id || ev.error.code != code || !strstr(ev.error.text, names)) {
        fail_msg("ERROR of %llu, code %u: '%s', not '%s'", (unsigned long long)ev.error.request,
                 ev.error.code, ev.error.text, names);
    }
}

static void want_done(struct bench *b, struct tsr_link *link, uint64_t id, enum tsr_reason reason)
{
    uint16_t type;
    do {
        type = wait_event(b, link);
    } while (type == TSR_EV_TOKEN || type == TSR_EV_ACCEPTED);
    assert_int_equal(type, TSR_EV_DONE);
    assert_int_equal(ev.done.request, id);
    assert_int_equal(ev.done.reason, reason);
    const uint64_t minute_ns = 60000ull * MS; /* none is below zero */
    assert_true(ev.done.queue_ns < minute_ns && ev.done.prefill_ns < minute_ns &&
                ev.done.decode_ns < minute_ns);
}

/* The whole answer to a prompt of tokens, as the made-up logits have it. */
static void want_answer(struct bench *b, struct tsr_link *link, uint64_t id, const uint32_t *prompt,
                        uint32_t n, uint32_t answer)
{
    assert_int_equal(wait_event(b, link), TSR_EV_ACCEPTED);
    assert_int_equal(ev.accepted.request, id);
    assert_int_equal(ev.accepted.prompt_tokens, n);
    uint32_t last = prompt[n - 1];
    for (uint32_t i = 0; i < answer; i++) {
        assert_int_equal(wait_event(b, link), TSR_EV_TOKEN);
        last = fake_next(last, n - 1 + i);
        assert_int_equal(ev.token.token, last);
        assert_int_equal(ev.token.index, i);
    }
    want_done(b, link, id, TSR_REASON_LENGTH);
    assert_int_equal(ev.done.completion_tokens, answer);
}

static uint32_t prompt[2 * CONTEXT];

static int set_up(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 2 * CONTEXT; i++) {
        prompt[i] = 100 + i;
    }
    return 0;
}

static void test_frontend_drops_who_breaks_the_order(void **state)
{
    (void)state;
    struct bench b;
    struct tsr_link good, bad;
    bench_open(&b, NULL, 1000, 1 << 20);
    bench_connect(&b, &good);
    for (uint32_t kind = 0; kind < 4; kind++) {
        bench_connect(&b, &bad);
        struct tsr_wire_submit submit = plain_submit(7);
        if (kind == 0) { /* a part of nothing */
            send_continue(&bad, 7, prompt, 0, 64);
        } else {
            send_submit(&bad, submit, prompt, 512, 128);
            if (kind == 1) { /* a hole */
                send_continue(&bad, 7, prompt, 192, 64);
            } else if (kind == 2) { /* more than there is */
                send_continue(&bad, 7, prompt, 128, 448);
            } else { /* another in between */
                submit.request = 8;
                send_submit(&bad, submit, prompt, 64, 64);
            }
        }
        bench_turns(&b, 5);
        assert_int_equal(b.f->sessions_open, 1);
        assert_int_equal(b.f->blocks.free, b.f->blocks.total);
        tsr_link_close(&bad);

        send_submit(&good, plain_submit(1), prompt, 40, 40);
        want_answer(&b, &good, 1, prompt, 10, 8);
    }
    tsr_link_close(&good);
    bench_close(&b);
}

static void test_frontend_refuses_but_goes_on(void **state)
{
    (void)state;
    struct bench b;
    struct tsr_link link;
    bench_open(&b, NULL, 1000, 1 << 20);
    bench_connect(&b, &link);
    struct tsr_wire_submit submit = plain_submit(5);
    uint32_t bad[2] = {5, VOCAB};

    send_submit(&link, submit, bad, 8, 8);
    want_error(&b, &link, 5, TSR_CODE_INVALID, "4096");
    /* The rest of a refused prompt still comes, and is passed over. */
    send_submit(&link, submit, bad, 1024, 8);
    send_continue(&link, 5, prompt, 8, 256);
    send_continue(&link, 5, prompt, 264, 256);
    want_error(&b, &link, 5, TSR_CODE_INVALID, "4096");
    submit.tenant = 99;
    if (getuid() != 99) {
        send_submit(&link, submit, prompt, 8, 8);
        want_error(&b, &link, 5, TSR_CODE_FORBIDDEN, "99");
    }
    submit = plain_submit(5);
    submit.temperature = -1; /* the record itself is refused */
    send_submit(&link, submit, prompt, 8, 8);
    want_error(&b, &link, 5, TSR_CODE_INVALID, "temperature");
    submit = plain_submit(5);
    send_submit(&link, submit, prompt, (CONTEXT + 9) * 4, (CONTEXT + 9) * 4);
    want_error(&b, &link, 5, TSR_CODE_TOO_LARGE, "512");
    bench_turns(&b, 3);
    assert_int_equal(take_event(&link, ev.bytes), 0);

    submit = plain_submit(9);
    submit.tokens_max = 100;
    send_submit(&link, submit, prompt, 8, 8);
    assert_int_equal(wait_event(&b, &link), TSR_EV_ACCEPTED);
    send_submit(&link, submit, prompt, 8, 8);
    uint16_t type;
    do {
        type = wait_event(&b, &link);
    } while (type == TSR_EV_TOKEN);
    assert_int_equal(type, TSR_EV_ERROR);
    assert_int_equal(ev.error.code, TSR_CODE_DUPLICATE);
    want_done(&b, &link, 9, TSR_REASON_LENGTH);

    send_submit(&link, plain_submit(1), prompt, 40, 40);
    want_answer(&b, &link, 1, prompt, 10, 8);
    tsr_link_close(&link);
    bench_close(&b);
}

static void test_frontend_ends_a_live_request_for_a_malformed_record(void **state)
{
    (void)state;
    struct bench b;
    struct tsr_link link;
    bench_open(&b, NULL, 1000, 1 << 20);
    bench_connect(&b, &link);
    struct tsr_wire_submit submit = plain_submit(3);
    submit.tokens_max = 200;
    send_submit(&link, submit, prompt, 8, 8);
    assert_int_equal(wait_event(&b, &link), TSR_EV_ACCEPTED);
    send_plain(&link, TSR_REQ_CANCEL, 3, 77); /* a reserved field that is not zero */
    want_done(&b, &link, 3, TSR_REASON_ERROR);
    assert_int_equal(ev.done.code, TSR_CODE_INVALID);
    assert_true(ev.done.text_bytes > 10);
    send_plain(&link, TSR_REQ_CANCEL, 3, 0);
    send_plain(&link, TSR_REQ_CREDIT, 3, 5);
    bench_turns(&b, 3);
    assert_int_equal(take_event(&link, ev.bytes), 0);
    tsr_link_close(&link);
    bench_close(&b);
}

static void test_frontend_answers_prompts_in_parts(void **state)
{
    (void)state;
    struct bench b;
    struct tsr_link link;
    bench_open(&b, NULL, 1000, 1 << 20);
    bench_connect(&b, &link);
    send_submit(&link, plain_submit(4), prompt, 1200, 100);
    for (uint32_t at = 100; at < 1200; at += 50) {
        bench_turn(&b);
        assert_true(send_continue(&link, 4, prompt, at, 50));
    }
    want_answer(&b, &link, 4, prompt, 300, 8);
    tsr_link_close(&link);
    bench_close(&b);
}

static void test_frontend_cancels_in_every_stage(void **state)
{
    (void)state;
    struct bench b;
    struct tsr_link link;
    bench_open(&b, NULL, 1000, 1 << 20);
    bench_connect(&b, &link);

    /* Arriving; what still comes of it is passed over. */
    send_submit(&link, plain_submit(1), prompt, 512, 128);
    bench_turns(&b, 2);
    send_plain(&link, TSR_REQ_CANCEL, 1, 0);
    send_continue(&link, 1, prompt, 128, 384);
    want_done(&b, &link, 1, TSR_REASON_CANCELLED);

    /* With the text thread; the slot is kept until it comes back. */
    b.text_stops = true;
    struct tsr_wire_submit submit = plain_submit(2);
    submit.kind = TSR_PAYLOAD_TEXT;
    send_submit(&link, submit, "list files", 10, 10);
    bench_turns(&b, 2);
    send_plain(&link, TSR_REQ_CANCEL, 2, 0);
    want_done(&b, &link, 2, TSR_REASON_CANCELLED);
    assert_int_equal(b.f->requests.n_free, b.f->requests.n - 1);
    /* The id is free again at once. */
    send_submit(&link, plain_submit(2), prompt, 40, 40);
    want_answer(&b, &link, 2, prompt, 10, 8);
    b.text_stops = false;
    bench_turns(&b, 3);
    bench_is_empty(&b);

    /* Waiting, parked, running. */
    for (uint32_t kind = 0; kind < 3; kind++) {
        for (uint64_t id = 10; id < 18; id++) { /* fills the sequences */
            submit = plain_submit(id);
            submit.tokens_max = 400;
            if (kind == 0) {
                send_submit(&link, submit, prompt, 8, 8);
            }
        }
        submit = plain_submit(20);
        submit.tokens_max = 400;
        submit.credit = kind == 1 ? 2 : 1000;
        send_submit(&link, submit, prompt, 8, 8);
        bench_turns(&b, 6);
        send_plain(&link, TSR_REQ_CANCEL, 20, 0);
        for (uint64_t id = 10; id < 18 && kind == 0; id++) {
            send_plain(&link, TSR_REQ_CANCEL, id, 0);
        }
        for (uint32_t n = kind == 0 ? 9 : 1; n > 0;) {
            uint16_t type = wait_event(&b, &link);
            assert_true(type != 0);
            if (type == TSR_EV_DONE) {
                assert_int_equal(ev.done.reason, TSR_REASON_CANCELLED);
                n--;
            }
        }
        bench_is_empty(&b);
    }
    tsr_link_close(&link);
    bench_close(&b);
}

static void test_frontend_parks_a_client_that_does_not_read(void **state)
{
    (void)state;
    struct bench b;
    struct tsr_link deaf, good;
    struct tsr_door_policy policy;
    tsr_door_policy_init(&policy);
    for (uint32_t i = 0; i < policy.rule_count; i++) {
        policy.rules[i].class.event_ring_bytes = 65536;
        policy.rules[i].class.requests_max = 8;
    }
    bench_open(&b, &policy, 60, 1 << 20);
    bench_connect(&b, &deaf);
    bench_connect(&b, &good);
    struct tsr_wire_submit submit = plain_submit(0);
    submit.tokens_max = 400;
    submit.credit = UINT32_MAX;
    submit.flags = TSR_SUBMIT_LOGPROBS; /* long events fill the ring soon */
    submit.top_logprobs = 20;
    for (uint64_t id = 1; id <= 4; id++) {
        submit.request = id;
        send_submit(&deaf, submit, prompt, 8, 8);
    }
    bench_turns(&b, 300);
    struct tsr_sched_counts counts = tsr_sched_counts(b.f->sched);
    assert_int_equal(counts.parked, 4);
    assert_int_equal(counts.decode, 0);
    assert_non_null(b.f->owing);

    send_submit(&good, plain_submit(1), prompt, 40, 40);
    want_answer(&b, &good, 1, prompt, 10, 8);

    /* It reads two answers' worth: they go on from where they were, nothing is lost. */
    uint32_t next[5] = {0}, ended = 0;
    for (uint32_t i = 0; i < 60; i++) {
        uint16_t type = take_event(&deaf, ev.bytes);
        if (type == TSR_EV_TOKEN) {
            assert_int_equal(ev.token.index, next[ev.token.request]++);
        }
    }
    uint32_t steps = b.steps;
    bench_turns(&b, 50);
    assert_true(b.steps > steps);

    /* Then nothing for longer than it may: each ends, with its final event. */
    nanosleep(&(struct timespec){.tv_nsec = 90 * MS}, NULL);
    bench_turns(&b, 10);
    counts = tsr_sched_counts(b.f->sched);
    assert_int_equal(counts.parked, 0);
    assert_int_equal(b.kv.free, b.kv.total);
    for (uint16_t type; (type = take_event(&deaf, ev.bytes)) != 0;) {
        if (type == TSR_EV_TOKEN) {
            assert_int_equal(ev.token.index, next[ev.token.request]++);
            assert_int_equal(ev.token.top_count, 20);
        } else if (type == TSR_EV_DONE) {
            assert_int_equal(ev.done.reason, TSR_REASON_PARKED);
            ended++;
        }
    }
    assert_int_equal(ended, 4);
    tsr_link_close(&deaf);
    tsr_link_close(&good);
    bench_close(&b);
}

static void test_frontend_ends_payloads_that_do_not_arrive(void **state)
{
    (void)state;
    struct bench b;
    struct tsr_link link;
    bench_open(&b, NULL, 20, 1 << 20);
    bench_connect(&b, &link);
    send_submit(&link, plain_submit(1), prompt, 512, 128);
    bench_turns(&b, 3);
    assert_int_equal(b.f->arriving, 1);
    nanosleep(&(struct timespec){.tv_sec = 1, .tv_nsec = 50 * MS}, NULL);
    want_error(&b, &link, 1, TSR_CODE_INVALID, "128 of 512");
    assert_int_equal(b.f->arriving, 0);
    tsr_link_close(&link);
    bench_close(&b);
}

static void test_frontend_bounds_what_one_user_takes(void **state)
{
    (void)state;
    struct bench b;
    struct tsr_link link;
    bench_open(&b, NULL, 1000, 64 << 10); /* sixteen blocks */
    bench_connect(&b, &link);
    struct tsr_wire_submit submit = plain_submit(0);
    submit.credit = 0;
    uint32_t busy = 0;
    for (uint64_t id = 1; id <= 20; id++) {
        submit.request = id;
        send_submit(&link, submit, prompt, 8, 8);
        bench_turn(&b);
    }
    for (uint16_t type; (type = take_event(&link, ev.bytes)) != 0;) {
        busy += type == TSR_EV_ERROR && ev.error.code == TSR_CODE_BUSY && ev.error.retry_ms > 0;
    }
    assert_true(busy >= 11);
    assert_true(b.f->blocks.free >= b.f->blocks.total / 2 - 1);
    tsr_link_close(&link);
    bench_close(&b);
}

/* What is cancelled while the text thread has it is held until that gives it back. */
static void test_frontend_counts_what_was_cancelled(void **state)
{
    (void)state;
    struct bench b;
    struct tsr_link link;
    bench_open(&b, NULL, 1000, 64 << 10);
    bench_connect(&b, &link);
    b.text_stops = true;
    struct tsr_wire_submit submit = plain_submit(0);
    submit.kind = TSR_PAYLOAD_TEXT;
    uint32_t busy = 0;
    for (uint64_t id = 1; id <= 20; id++) {
        submit.request = id;
        send_submit(&link, submit, "list files", 10, 10);
        send_plain(&link, TSR_REQ_CANCEL, id, 0);
        bench_turns(&b, 2);
        for (uint16_t type; (type = take_event(&link, ev.bytes)) != 0;) {
            busy += type == TSR_EV_ERROR && ev.error.code == TSR_CODE_BUSY &&
                    strstr(ev.error.text, "as many as one may");
        }
    }
    assert_true(busy >= 11);
    assert_true(b.f->blocks.free >= b.f->blocks.total / 2 - 1);
    b.text_stops = false;
    bench_turns(&b, 20);
    bench_is_empty(&b);
    send_submit(&link, plain_submit(1), prompt, 40, 40);
    want_answer(&b, &link, 1, prompt, 10, 8);
    tsr_link_close(&link);
    bench_close(&b);
}

static void test_frontend_lists_tokens(void **state)
{
    (void)state;
    struct bench b;
    struct tsr_link link;
    bench_open(&b, NULL, 1000, 1 << 20);
    bench_connect(&b, &link);
    struct tsr_wire_submit submit = plain_submit(6);
    submit.kind = TSR_PAYLOAD_TEXT;
    submit.flags = TSR_SUBMIT_TOKENIZE | TSR_SUBMIT_PIECES;
    const char *text = "List all files in a directory";
    send_submit(&link, submit, text, (uint32_t)strlen(text), (uint32_t)strlen(text));
    assert_int_equal(wait_event(&b, &link), TSR_EV_TOKENS);
    assert_int_equal(ev.tokens.total, ev.tokens.count);
    assert_int_equal(ev.tokens.text_bytes, strlen(text));
    const struct tsr_wire_piece *pieces = (const void *)(&ev.tokens + 1);
    assert_memory_equal(pieces + ev.tokens.count, text, strlen(text));
    want_done(&b, &link, 6, TSR_REASON_TOKENIZED);
    tsr_link_close(&link);
    bench_close(&b);
}

static void send_embed(struct tsr_link *link, uint64_t id, uint32_t tokens)
{
    struct tsr_wire_submit submit = plain_submit(id);
    submit.flags = TSR_SUBMIT_EMBED;
    submit.credit = 0; /* it needs none */
    submit.tokens_max = 0;
    assert_true(send_submit(link, submit, prompt, 4 * tokens, 4 * tokens));
}

/* The mean of the made-up hidden states, divided by its length, in as many events as it takes. */
static void want_embedding(struct bench *b, struct tsr_link *link, uint64_t id, uint32_t tokens)
{
    static double want[WIDTH];
    double squares = 0;
    for (uint32_t c = 0; c < WIDTH; c++) {
        want[c] = 0;
        for (uint32_t t = 0; t < tokens; t++) {
            want[c] += fake_hidden(prompt[t], t, c);
        }
        squares += want[c] * want[c];
    }
    uint32_t seen = 0;
    uint16_t type;
    while ((type = wait_event(b, link)) == TSR_EV_EMBEDDING) {
        assert_int_equal(ev.embedding.request, id);
        assert_int_equal(ev.embedding.first, seen);
        assert_int_equal(ev.embedding.total, WIDTH);
        for (uint32_t i = 0; i < ev.embedding.count; i++, seen++) {
            assert_true(fabs((double)ev.embedding.values[i] - want[seen] / sqrt(squares)) < 1e-7);
        }
    }
    assert_int_equal(seen, WIDTH);
    assert_int_equal(type, TSR_EV_DONE);
    assert_int_equal(ev.done.request, id);
    assert_int_equal(ev.done.reason, TSR_REASON_EMBEDDED);
    assert_int_equal(ev.done.prompt_tokens, tokens);
    assert_int_equal(ev.done.completion_tokens, 0);
}

static void test_frontend_embeds(void **state)
{
    (void)state;
    struct bench b;
    struct tsr_link link, deaf;
    bench_open(&b, NULL, 1000, 1 << 20);
    bench_connect(&b, &link);
    bench_connect(&b, &deaf);
    for (uint32_t tokens = 1; tokens <= CONTEXT; tokens += CONTEXT - 1) { /* the whole context */
        send_embed(&link, 1, tokens);
        assert_int_equal(wait_event(&b, &link), TSR_EV_ACCEPTED);
        assert_int_equal(ev.accepted.prompt_tokens, tokens);
        assert_int_equal(ev.accepted.tokens_max, 0);
        want_embedding(&b, &link, 1, tokens);
        assert_int_equal(b.kv.free, b.kv.total);
    }
    send_embed(&link, 1, CONTEXT + 1);
    want_error(&b, &link, 1, TSR_CODE_TOO_LARGE, "512");

    /* A client that does not read: its embeddings wait for room and hold no KV meanwhile. */
    for (uint64_t id = 1; id <= 8; id++) {
        send_embed(&deaf, id, 300);
    }
    struct tsr_wire_submit submit = plain_submit(2);
    submit.tokens_max = 40;
    send_submit(&link, submit, prompt, 40, 40);
    want_answer(&b, &link, 2, prompt, 10, 40);
    bench_turns(&b, 200);
    assert_non_null(b.f->owing);
    assert_int_equal(b.kv.free, b.kv.total);
    uint32_t ended = 0, floats = 0;
    while (ended < 8) {
        uint16_t type = wait_event(&b, &deaf);
        assert_int_not_equal(type, 0);
        floats += type == TSR_EV_EMBEDDING ? ev.embedding.count : 0;
        ended += type == TSR_EV_DONE;
        assert_true(type != TSR_EV_DONE || ev.done.reason == TSR_REASON_EMBEDDED);
    }
    assert_int_equal(floats, 8 * WIDTH);

    /* Cancelled in the queue, amid the prompt, and while it waits for room. */
    send_embed(&link, 3, CONTEXT);
    bench_turn(&b);
    send_plain(&link, TSR_REQ_CANCEL, 3, 0);
    want_done(&b, &link, 3, TSR_REASON_CANCELLED);
    bench_is_empty(&b);

    b.f->options.embedding_width = 0; /* as of a model whose pooling is not supported */
    send_embed(&link, 4, 3);
    want_error(&b, &link, 4, TSR_CODE_UNSUPPORTED, "no embeddings here");
    tsr_link_close(&link);
    tsr_link_close(&deaf);
    bench_close(&b);
}

/* Takes the TEXT events of a request, by turns, and returns how many; the text is in `out`. */
static uint32_t take_text(struct bench *b, struct tsr_link *link, uint64_t id, char *out)
{
    uint32_t bytes = 0, events = 0;
    while (wait_event(b, link) == TSR_EV_TEXT) {
        assert_int_equal(ev.text.request, id);
        assert_int_equal(ev.text.offset, bytes);
        assert_int_not_equal(ev.text.text[0] & 0xc0, 0x80); /* whole characters */
        memcpy(out + bytes, ev.text.text, ev.text.text_bytes);
        bytes += ev.text.text_bytes;
        assert_true(bytes <= ev.text.total);
        events++;
    }
    assert_int_equal(ev.done.request, id);
    assert_int_equal(ev.done.reason, TSR_REASON_WRITTEN);
    out[bytes] = '\0';
    return events;
}

static void test_frontend_writes_the_text_of_tokens(void **state)
{
    (void)state;
    struct bench b;
    struct tsr_link link;
    static char out[1 << 20];
    enum { MANY = 15000 };
    static uint32_t ids[MANY];
    bench_open(&b, NULL, 1000, 1 << 20);
    bench_connect(&b, &link);
    size_t want = 0;
    for (uint32_t i = 0; i < MANY; i++) {
        size_t len;
        ids[i] = 300 + i % 700;
        tsr_vocab_text(b.f->vocab, ids[i], &len);
        want += len;
    }
    struct tsr_wire_submit submit = plain_submit(6);
    submit.flags = TSR_SUBMIT_DETOKENIZE;
    submit.credit = 0; /* it needs none */
    send_submit(&link, submit, ids, sizeof ids, 8000);
    for (uint32_t at = 8000; at < sizeof ids; at += 8000) {
        uint32_t left = sizeof ids - at;
        while (!send_continue(&link, 6, ids, at, left < 8000 ? left : 8000)) {
            bench_turn(&b);
        }
    }
    assert_true(take_text(&b, &link, 6, out) > 2);
    assert_int_equal(ev.done.prompt_tokens, MANY);
    const char *at = out;
    for (uint32_t i = 0; i < MANY; i++) {
        size_t len;
        const char *piece = tsr_vocab_text(b.f->vocab, ids[i], &len);
        assert_memory_equal(at, piece, len);
        at += len;
    }
    assert_int_equal(strlen(out), want);
    /* Marks alone: no text, and no event of it. */
    const uint32_t marks[2] = {1, 2};
    submit.request = 7;
    send_submit(&link, submit, marks, sizeof marks, sizeof marks);
    assert_int_equal(take_text(&b, &link, 7, out), 0);
    tsr_link_close(&link);
    bench_close(&b);
}

static void test_frontend_writes_a_rendered_chat(void **state)
{
    (void)state;
    struct bench b;
    struct tsr_link link;
    static char content[40001], out[1 << 17];
    static uint8_t payload[50000];
    for (uint32_t i = 0; i < sizeof content / 4; i++) {
        memcpy(content + 4 * i, "a\u20ac", 4);
    }
    bench_open(&b, NULL, 1000, 1 << 20);
    bench_connect(&b, &link);
    const struct tsr_wire_message message = {"user", content, 4, sizeof content - 1};
    uint32_t bytes = tsr_wire_chat_bytes(&message, 1, 0);
    tsr_wire_chat_build(payload, &message, 1, NULL, 0);
    struct tsr_wire_submit submit = plain_submit(9);
    submit.kind = TSR_PAYLOAD_CHAT;
    submit.flags = TSR_SUBMIT_RENDER;
    send_submit(&link, submit, payload, bytes, 8000);
    for (uint32_t at = 8000; at < bytes; at += 8000) {
        while (!send_continue(&link, 9, payload, at, bytes - at < 8000 ? bytes - at : 8000)) {
            bench_turn(&b);
        }
    }
    assert_int_equal(take_text(&b, &link, 9, out), 3);
    assert_non_null(strstr(out, content));
    assert_int_equal(strncmp(out, "<|im_start|>user\n", 17), 0);
    tsr_link_close(&link);
    bench_close(&b);
}

static void test_frontend_tells_status(void **state)
{
    (void)state;
    struct bench b;
    struct tsr_link link;
    bench_open(&b, NULL, 1000, 1 << 20);
    bench_connect(&b, &link);
    struct tsr_wire_submit submit = plain_submit(3);
    submit.credit = 1;
    send_submit(&link, submit, prompt, 8, 8);
    bench_turns(&b, 5);
    send_plain(&link, TSR_REQ_STATUS, 77, 0);
    uint16_t type;
    do {
        type = wait_event(&b, &link);
    } while (type == TSR_EV_ACCEPTED || type == TSR_EV_TOKEN);
    assert_int_equal(type, TSR_EV_STATUS);
    assert_int_equal(ev.status.request, 77);
    assert_int_equal(ev.status.requests_parked, 1);
    assert_int_equal(ev.status.request_count, 1);
    const struct tsr_wire_status_request *r = (const void *)(&ev.status + 1);
    assert_int_equal(r->request, 3);
    assert_int_equal(r->state, TSR_REQUEST_PARKED);
    assert_int_equal(r->completion_tokens, 1);
    const struct tsr_wire_status_counters *sums = (const void *)(r + 1);
    assert_int_equal(ev.status.counters_bytes, sizeof *sums);
    assert_int_equal(sums->requests_ended[TSR_REASON_CANCELLED], 0);

    send_plain(&link, TSR_REQ_CANCEL, 3, 0);
    want_done(&b, &link, 3, TSR_REASON_CANCELLED);
    send_submit(&link, plain_submit(4), prompt, 40, 40);
    want_answer(&b, &link, 4, prompt, 10, 8);
    uint64_t decode_ns = ev.done.decode_ns;
    send_plain(&link, TSR_REQ_STATUS, 78, 0);
    assert_int_equal(wait_event(&b, &link), TSR_EV_STATUS);
    assert_int_equal(ev.status.request_count, 0);
    sums = (const void *)(&ev.status + 1);
    assert_int_equal(sums->requests_ended[TSR_REASON_CANCELLED], 1);
    assert_int_equal(sums->requests_ended[TSR_REASON_LENGTH], 1);
    assert_int_equal(sums->requests_ended[TSR_REASON_END], 0);
    assert_true(sums->decode_ns >= decode_ns && sums->queue_ns > 0);
    tsr_link_close(&link);
    bench_close(&b);
}

static void test_frontend_shuts_down_with_a_word(void **state)
{
    (void)state;
    struct bench b;
    struct tsr_link link;
    bench_open(&b, NULL, 1000, 1 << 20);
    bench_connect(&b, &link);
    struct tsr_wire_submit submit = plain_submit(3);
    submit.tokens_max = 400;
    send_submit(&link, submit, prompt, 8, 8);
    bench_turns(&b, 5);
    tsr_lane_push(&b.f->from_control, (struct tsr_lane_item){TSR_ITEM_STOP, 0, NULL});
    want_done(&b, &link, 3, TSR_REASON_SHUTDOWN);
    send_submit(&link, plain_submit(4), prompt, 8, 8);
    want_error(&b, &link, 4, TSR_CODE_SHUTDOWN, "shutting down");
    tsr_link_close(&link);
    bench_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_frontend_drops_who_breaks_the_order),
        cmocka_unit_test(test_frontend_refuses_but_goes_on),
        cmocka_unit_test(test_frontend_ends_a_live_request_for_a_malformed_record),
        cmocka_unit_test(test_frontend_answers_prompts_in_parts),
        cmocka_unit_test(test_frontend_cancels_in_every_stage),
        cmocka_unit_test(test_frontend_parks_a_client_that_does_not_read),
        cmocka_unit_test(test_frontend_ends_payloads_that_do_not_arrive),
        cmocka_unit_test(test_frontend_bounds_what_one_user_takes),
        cmocka_unit_test(test_frontend_counts_what_was_cancelled),
        cmocka_unit_test(test_frontend_lists_tokens),
        cmocka_unit_test(test_frontend_writes_the_text_of_tokens),
        cmocka_unit_test(test_frontend_writes_a_rendered_chat),
        cmocka_unit_test(test_frontend_embeds),
        cmocka_unit_test(test_frontend_tells_status),
        cmocka_unit_test(test_frontend_shuts_down_with_a_word),
    };
    return cmocka_run_group_tests(tests, set_up, NULL);
}
