#include "fake.h"

enum { SECOND = 1000000000 };

static const struct tsr_sched_options plain = {
    .sequences_max = 4,
    .queue_max = 3,
    .rows_max = 128,
    .chunk_rows = 32,
    .logit_rows_max = 4,
    .context = 1024,
    .park_ns = 30ull * SECOND,
    .age_ns = 10ull * SECOND,
};

static uint32_t prompt[1024];

struct bench {
    struct fake_kv kv;
    struct tsr_sched_options options;
    struct tsr_sched *sched;
};

/* A scheduler over a pool of so many pages; the pool lies in the bench, which must not move. */
#define MAKE(name, n_pages, chosen)                                                                \
    struct bench name = {.kv = {n_pages, n_pages}, .options = chosen};                             \
    struct tsr_sched_kv name##_kv = fake_table(&name.kv);                                          \
    assert_int_equal(tsr_sched_create(&name.sched, &name.options, &name##_kv, NULL), 0)

static uint32_t submit(struct bench *b, uint32_t tokens, uint32_t max, uint32_t credit,
                       uint32_t priority, uint64_t now)
{
    uint32_t id = TSR_SCHED_NONE;
    struct tsr_sched_submit s = {.prompt = prompt,
                                 .prompt_tokens = tokens,
                                 .max_tokens = max,
                                 .credit = credit,
                                 .priority = priority,
                                 .cookie = tokens};
    assert_int_equal(tsr_sched_submit(b->sched, &s, now, &id), 0);
    return id;
}

/* One step in which every row with logits goes on. */
static const struct tsr_sched_step *step(struct bench *b, uint64_t now)
{
    const struct tsr_sched_step *s = tsr_sched_compose(b->sched, now);
    fake_exec_check(s, &b->options);
    if (s->n_spans > 0) {
        tsr_sched_commit(b->sched);
        for (uint32_t i = 0; i < s->n_logits; i++) {
            tsr_sched_token(b->sched, s->logit_ids[i], 7, now);
        }
    }
    assert_true(tsr_sched_is_valid(b->sched));
    return s;
}

static void finish(struct bench *b)
{
    tsr_sched_destroy(b->sched);
    assert_int_equal(b->kv.free, b->kv.total);
}

/* The rows of a prompt that each pooling takes, whatever its chunks, beside sequences that decode.
 */
static void test_sched_pools_hidden_states(void **state)
{
    (void)state;
    static const enum tsr_pooling poolings[] = {TSR_POOLING_MEAN, TSR_POOLING_CLS,
                                                TSR_POOLING_LAST};
    enum { TOKENS = 1024 }; /* all of the context: nothing is left for an answer */
    for (size_t p = 0; p < sizeof poolings / sizeof *poolings; p++) {
        MAKE(b, 40, plain);
        double sum;
        uint32_t id, taken = 0, steps = 0;
        bool seen[TOKENS] = {false}, done = false;
        submit(&b, 5, 60, 100, 128, SECOND);
        step(&b, SECOND);
        const struct tsr_sched_submit s = {.prompt = prompt,
                                           .prompt_tokens = TOKENS,
                                           .pooled = &sum,
                                           .pooling = poolings[p],
                                           .credit = 1};
        assert_int_equal(tsr_sched_submit(b.sched, &s, SECOND, &id), 0);
        while (!done) {
            const struct tsr_sched_step *now = step(&b, SECOND);
            for (uint32_t i = 0; i < now->n_spans; i++) {
                const struct tsr_span *span = &now->spans[i];
                assert_true(now->span_ids[i] == id || span->pool_rows == 0);
                assert_true(now->span_ids[i] != id || span->logit_rows == 0);
                for (uint32_t r = 0; r < span->pool_rows; r++, taken++) {
                    assert_ptr_equal(span->pooled, &sum);
                    seen[span->position + span->pool_first + r] = true;
                }
            }
            if (now->n_pooled > 0) {
                assert_int_equal(now->n_pooled, 1);
                assert_int_equal(now->pooled_ids[0], id);
                tsr_sched_end(b.sched, id, SECOND);
                assert_true(tsr_sched_is_valid(b.sched));
                done = true;
            }
            assert_true(++steps < 100);
        }
        assert_int_equal(taken, poolings[p] == TSR_POOLING_MEAN ? TOKENS : 1);
        assert_true(poolings[p] == TSR_POOLING_LAST || seen[0]);
        assert_true(poolings[p] == TSR_POOLING_CLS || seen[TOKENS - 1]);
        finish(&b);
    }
}

static void test_sched_refuses_options(void **state)
{
    (void)state;
    struct fake_kv pool = {4, 4};
    struct tsr_sched_kv kv = fake_table(&pool);
    struct tsr_sched_options bad[8];
    for (size_t i = 0; i < 8; i++) {
        bad[i] = plain;
    }
    bad[0].sequences_max = 0;
    bad[1].queue_max = 0;
    bad[2].rows_max = 1;
    bad[3].chunk_rows = 0;
    bad[4].chunk_rows = plain.rows_max;
    bad[5].logit_rows_max = 1;
    bad[6].context = 1;
    bad[7].sequences_max = UINT32_MAX;
    for (size_t i = 0; i < 8; i++) {
        struct tsr_sched *sched = NULL;
        struct tsr_err err = {0};
        assert_int_equal(tsr_sched_create(&sched, &bad[i], &kv, &err), -EINVAL);
        assert_null(sched);
        assert_true(strlen(err.text) > 20);
    }
}

static void test_sched_refuses_requests(void **state)
{
    (void)state;
    MAKE(b, 4, plain);
    const struct {
        struct tsr_sched_submit s;
        int rc;
    } cases[] = {
        {{.prompt = prompt, .prompt_tokens = 0, .max_tokens = 1}, -EINVAL},
        {{.prompt = prompt, .prompt_tokens = 1, .max_tokens = 0}, -EINVAL},
        {{.prompt = prompt, .prompt_tokens = 1, .max_tokens = 1, .priority = 256}, -EINVAL},
        {{.prompt = prompt, .prompt_tokens = 1025, .max_tokens = 1}, -E2BIG},
        {{.prompt = prompt, .prompt_tokens = 1, .max_tokens = UINT32_MAX}, -E2BIG},
        {{.prompt = prompt, .prompt_tokens = 1000, .max_tokens = 25}, -E2BIG},
        {{.prompt = prompt, .prompt_tokens = 200, .max_tokens = 57}, -E2BIG}, /* 5 pages of 4 */
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint32_t id = 99;
        assert_int_equal(tsr_sched_submit(b.sched, &cases[i].s, 1, &id), cases[i].rc);
        assert_int_equal(id, 99);
    }
    uint32_t whole = submit(&b, 200, 56, 1, 0, 1); /* the whole pool fits */
    assert_int_equal(tsr_sched_state(b.sched, whole), TSR_SCHED_PREFILL);
    assert_int_equal(tsr_sched_queue_position(b.sched, whole), 0);
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(tsr_sched_queue_position(b.sched, submit(&b, 1, 1, 1, 0, 1)), i + 1);
    }
    struct tsr_sched_submit s = {.prompt = prompt, .prompt_tokens = 1, .max_tokens = 1};
    uint32_t id;
    assert_int_equal(tsr_sched_submit(b.sched, &s, 1, &id), -EAGAIN);
    assert_int_equal(tsr_sched_retry_ns(b.sched), SECOND);
    finish(&b);
}

static void test_sched_composes_nothing_of_nothing(void **state)
{
    (void)state;
    MAKE(b, 4, plain);
    assert_int_equal(step(&b, 1)->n_spans, 0);
    assert_int_equal(tsr_sched_next_expiry(b.sched), UINT64_MAX);
    finish(&b);
}

static void test_sched_runs_a_prompt_then_decodes(void **state)
{
    (void)state;
    MAKE(b, 64, plain);
    uint32_t id = submit(&b, 300, 10, 10, 0, 1);
    const uint32_t rows[] = {128, 128, 44, 1, 1};
    uint32_t position = 0;
    for (uint32_t i = 0; i < 5; i++) {
        const struct tsr_sched_step *s = step(&b, 2);
        assert_int_equal(s->n_spans, 1);
        assert_int_equal(s->spans[0].rows, rows[i]);
        assert_int_equal(s->spans[0].position, position);
        assert_int_equal(s->n_logits, i >= 2);
        if (i < 3) {
            assert_ptr_equal(s->spans[0].tokens, prompt + position);
        } else {
            assert_int_equal(s->spans[0].tokens[0], 7);
        }
        position += rows[i];
        assert_int_equal(tsr_sched_position(b.sched, id), position);
    }
    assert_int_equal(tsr_sched_credit_left(b.sched, id), 7);
    tsr_sched_end(b.sched, id, 3);
    assert_int_equal(b.kv.free, 64);
    finish(&b);
}

static void test_sched_does_not_make_the_second_wait(void **state)
{
    (void)state;
    MAKE(b, 64, plain);
    uint32_t first = submit(&b, 4, 100, 100, 0, 1);
    step(&b, 1);
    uint32_t second = submit(&b, 40, 100, 100, 0, 2);

    /* A chunk of 32, then the rest: the first decodes in both. */
    const struct tsr_sched_step *s = step(&b, 2);
    assert_int_equal(s->decode_rows, 1);
    assert_int_equal(s->rows, 33);
    s = step(&b, 3);
    assert_int_equal(s->decode_rows, 1);
    assert_int_equal(s->rows, 9);
    assert_int_equal(s->n_logits, 2);
    assert_int_equal(s->logit_ids[0], first);
    assert_int_equal(s->logit_ids[1], second);
    finish(&b);
}

static void test_sched_shares_prefill(void **state)
{
    (void)state;
    MAKE(b, 64, plain);
    uint32_t a = submit(&b, 900, 8, 8, 0, 1);
    uint32_t c = submit(&b, 900, 8, 8, 0, 1);
    uint32_t d = submit(&b, 20, 8, 8, 0, 1);
    const struct tsr_sched_step *s = step(&b, 1);
    /* 128 / 3 = 42 each; the short one needs 20, what is left over goes to the first. */
    assert_int_equal(s->rows, 128);
    assert_int_equal(tsr_sched_position(b.sched, a), 66);
    assert_int_equal(tsr_sched_position(b.sched, c), 42);
    assert_int_equal(tsr_sched_position(b.sched, d), 20);
    assert_int_equal(s->n_logits, 1);
    /* The leftover goes round. */
    for (uint32_t i = 0; i < 10; i++) {
        step(&b, 1);
    }
    uint32_t pa = tsr_sched_position(b.sched, a), pc = tsr_sched_position(b.sched, c);
    assert_true(pa > pc ? pa - pc < 64 : pc - pa < 64);
    finish(&b);
}

static void test_sched_takes_turns_where_rows_are_few(void **state)
{
    (void)state;
    struct tsr_sched_options o = plain;
    o.sequences_max = 8;
    o.queue_max = 8;
    MAKE(b, 64, o);
    uint32_t ids[8];
    for (uint32_t i = 0; i < 8; i++) {
        ids[i] = submit(&b, 4, 100, 1000, 0, 1);
    }
    for (uint32_t i = 0; i < 40; i++) {
        step(&b, 1);
    }
    uint32_t low = UINT32_MAX, high = 0;
    for (uint32_t i = 0; i < 8; i++) {
        uint32_t p = tsr_sched_position(b.sched, ids[i]);
        low = p < low ? p : low;
        high = p > high ? p : high;
    }
    assert_true(low > 15);
    assert_true(high - low <= 3);
    finish(&b);
}

static void test_sched_admits_by_priority_then_arrival(void **state)
{
    (void)state;
    struct tsr_sched_options o = plain;
    o.sequences_max = 1;
    MAKE(b, 64, o);
    uint32_t running = submit(&b, 1, 8, 8, 0, 1);
    step(&b, 1);
    uint32_t low = submit(&b, 1, 8, 8, 0, 2);
    uint32_t high = submit(&b, 1, 8, 8, 1, 3);
    /* Priority 1 is worth 10 seconds: this one comes too late to overtake. */
    uint32_t late = submit(&b, 1, 8, 8, 1, 11ull * SECOND);
    const uint32_t order[] = {running, high, low, late};
    for (uint32_t i = 0; i < 4; i++) {
        const struct tsr_sched_step *s = step(&b, 12ull * SECOND);
        assert_int_equal(s->n_spans, 1);
        assert_int_equal(s->logit_ids[0], order[i]);
        tsr_sched_end(b.sched, order[i], 12ull * SECOND);
    }
    finish(&b);
}

static void test_sched_waits_for_kv_in_order(void **state)
{
    (void)state;
    MAKE(b, 4, plain);
    uint32_t first = submit(&b, 100, 50, 50, 0, 1); /* 3 pages */
    uint32_t second = submit(&b, 100, 50, 50, 0, 1);
    uint32_t third = submit(&b, 1, 1, 50, 0, 1); /* 1 page would fit, but is not its turn */
    step(&b, 1);
    assert_int_equal(tsr_sched_state(b.sched, second), TSR_SCHED_WAITING);
    assert_int_equal(tsr_sched_state(b.sched, third), TSR_SCHED_WAITING);
    assert_int_equal(tsr_sched_counts(b.sched).pages_held, 3);
    tsr_sched_end(b.sched, first, 2);
    step(&b, 2);
    assert_int_equal(tsr_sched_state(b.sched, second), TSR_SCHED_DECODE);
    assert_int_equal(tsr_sched_state(b.sched, third), TSR_SCHED_DECODE);
    finish(&b);
}

static void test_sched_parks_alone_without_credit(void **state)
{
    (void)state;
    MAKE(b, 64, plain);
    uint32_t poor = submit(&b, 4, 100, 2, 0, 1);
    uint32_t rich = submit(&b, 4, 100, 100, 0, 1);
    step(&b, 1);
    step(&b, 2);
    assert_int_equal(tsr_sched_state(b.sched, poor), TSR_SCHED_PARKED);
    assert_int_equal(tsr_sched_counts(b.sched).pages_held, 4);
    const struct tsr_sched_step *s = step(&b, 3);
    assert_int_equal(s->n_spans, 1);
    assert_int_equal(s->logit_ids[0], rich);

    tsr_sched_credit(b.sched, poor, 1, 4);
    assert_int_equal(step(&b, 4)->n_spans, 2);
    assert_int_equal(tsr_sched_state(b.sched, poor), TSR_SCHED_PARKED);

    /* 30 seconds later it is ended, the other goes on. */
    struct tsr_sched_ended ended[4];
    assert_int_equal(tsr_sched_next_expiry(b.sched) <= 4 + plain.park_ns, true);
    assert_int_equal(tsr_sched_expire(b.sched, 3 + plain.park_ns, ended, 4), 0);
    assert_int_equal(tsr_sched_expire(b.sched, 4 + plain.park_ns, ended, 4), 1);
    assert_int_equal(ended[0].id, poor);
    assert_int_equal(ended[0].reason, TSR_SCHED_STARVED);
    assert_int_equal(tsr_sched_counts(b.sched).pages_held, 2);
    assert_int_equal(step(&b, 5 + plain.park_ns)->n_spans, 1);
    finish(&b);
}

static void test_sched_without_credit_from_the_start_holds_no_kv(void **state)
{
    (void)state;
    MAKE(b, 4, plain);
    uint32_t id = submit(&b, 200, 56, 0, 0, 1);
    assert_int_equal(step(&b, 1)->n_spans, 0);
    assert_int_equal(b.kv.free, 4);
    uint32_t other = submit(&b, 200, 56, 9, 0, 2);
    assert_int_equal(step(&b, 2)->n_spans, 1);
    tsr_sched_credit(b.sched, id, 9, 3);
    assert_int_equal(tsr_sched_state(b.sched, id), TSR_SCHED_WAITING);
    tsr_sched_end(b.sched, other, 3);
    assert_int_equal(step(&b, 3)->n_spans, 1);
    tsr_sched_end(b.sched, id, 3);
    assert_int_equal(b.kv.free, 4);
    finish(&b);
}

/* Credit in drops: what a client may hold KV for is earned by tokens. */
static void test_sched_adds_up_parks(void **state)
{
    (void)state;
    MAKE(b, 64, plain);
    struct tsr_sched_ended ended[4];
    uint32_t reader = submit(&b, 4, 1000, 1, 0, 1);
    uint32_t miser = submit(&b, 4, 1000, 1, 0, 1);
    uint64_t now = 1, ended_s = 0;
    step(&b, now);
    for (uint32_t s = 1; s < 300; s++, now += SECOND) {
        tsr_sched_credit(b.sched, reader, 1, now);
        if (s % 30 == 0 && !ended_s) {
            tsr_sched_credit(b.sched, miser, 1, now);
        }
        step(&b, now);
        if (tsr_sched_expire(b.sched, now, ended, 4) > 0) {
            assert_int_equal(ended[0].id, miser);
            assert_int_equal(ended[0].reason, TSR_SCHED_STARVED);
            assert_int_equal(ended_s, 0);
            ended_s = s;
        }
    }
    assert_in_range(ended_s, 31, 45);
    assert_int_equal(tsr_sched_state(b.sched, reader), TSR_SCHED_PARKED);
    finish(&b);
}

static void test_sched_leaves_a_quarter_of_the_queue_to_others(void **state)
{
    (void)state;
    struct tsr_sched_options o = plain;
    o.queue_max = 8;
    MAKE(b, 64, o);
    struct tsr_sched_submit s = {.prompt = prompt, .prompt_tokens = 4, .max_tokens = 4, .user = 1};
    uint32_t id, first = TSR_SCHED_NONE;
    for (uint32_t i = 0; i < 6; i++) { /* without credit: none is admitted */
        assert_int_equal(tsr_sched_submit(b.sched, &s, 1, i ? &id : &first), 0);
    }
    assert_int_equal(tsr_sched_submit(b.sched, &s, 1, &id), -EBUSY);
    s.user = 2;
    assert_int_equal(tsr_sched_submit(b.sched, &s, 1, &id), 0);
    s.user = 1;
    tsr_sched_credit(b.sched, first, 1, 2); /* one is admitted and leaves its place */
    step(&b, 2);
    assert_int_equal(tsr_sched_submit(b.sched, &s, 3, &id), 0);
    assert_int_equal(tsr_sched_submit(b.sched, &s, 3, &id), -EBUSY);
    s.user = 2;
    assert_int_equal(tsr_sched_submit(b.sched, &s, 3, &id), 0);
    assert_int_equal(tsr_sched_submit(b.sched, &s, 3, &id), -EAGAIN);
    finish(&b);
}

static void test_sched_holds(void **state)
{
    (void)state;
    MAKE(b, 64, plain);
    uint32_t id = submit(&b, 300, 8, 8, 0, 1);
    step(&b, 1);
    tsr_sched_hold(b.sched, id, true, 2);
    tsr_sched_hold(b.sched, id, true, 2);
    assert_int_equal(step(&b, 2)->n_spans, 0);
    tsr_sched_credit(b.sched, id, 5, 2); /* credit does not undo a hold */
    assert_int_equal(step(&b, 2)->n_spans, 0);
    tsr_sched_hold(b.sched, id, false, 3);
    assert_int_equal(step(&b, 3)->spans[0].position, 128);
    finish(&b);
}

static void test_sched_credit_saturates(void **state)
{
    (void)state;
    MAKE(b, 64, plain);
    uint32_t id = submit(&b, 4, 8, 8, 0, 1);
    tsr_sched_credit(b.sched, id, UINT32_MAX, 1);
    assert_int_equal(tsr_sched_credit_left(b.sched, id), UINT32_MAX);
    finish(&b);
}

static void test_sched_ends_at_the_deadline(void **state)
{
    (void)state;
    MAKE(b, 64, plain);
    struct tsr_sched_submit s = {.prompt = prompt,
                                 .prompt_tokens = 4,
                                 .max_tokens = 8,
                                 .credit = 8,
                                 .deadline_ns = 100,
                                 .cookie = 42};
    uint32_t ids[3];
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(tsr_sched_submit(b.sched, &s, 1, &ids[i]), 0);
    }
    struct tsr_sched_ended ended[2];
    assert_int_equal(tsr_sched_expire(b.sched, 99, ended, 2), 0);
    step(&b, 99);
    /* More than the caller's room: the rest at the next call. */
    assert_int_equal(tsr_sched_expire(b.sched, 100, ended, 2), 2);
    assert_int_equal(ended[0].reason, TSR_SCHED_DEADLINE);
    assert_int_equal(ended[0].cookie, 42);
    assert_int_equal(tsr_sched_expire(b.sched, 100, ended, 2), 1);
    assert_int_equal(tsr_sched_expire(b.sched, 100, ended, 2), 0);
    assert_int_equal(b.kv.free, 64);
    finish(&b);
}

static void test_sched_cancels_in_every_state(void **state)
{
    (void)state;
    MAKE(b, 6, plain);
    uint32_t decode = submit(&b, 4, 8, 9, 0, 1);
    step(&b, 1);
    uint32_t prefill = submit(&b, 250, 6, 9, 0, 1); /* 4 pages */
    uint32_t waiting = submit(&b, 64, 64, 9, 0, 1);
    uint32_t parked = submit(&b, 4, 8, 0, 0, 1);
    step(&b, 1);
    assert_int_equal(tsr_sched_state(b.sched, decode), TSR_SCHED_DECODE);
    assert_int_equal(tsr_sched_state(b.sched, prefill), TSR_SCHED_PREFILL);
    assert_int_equal(tsr_sched_state(b.sched, waiting), TSR_SCHED_WAITING);
    assert_int_equal(tsr_sched_state(b.sched, parked), TSR_SCHED_PARKED);
    const uint32_t ids[] = {waiting, parked, prefill, decode};
    for (uint32_t i = 0; i < 4; i++) {
        tsr_sched_end(b.sched, ids[i], 2);
        assert_int_equal(tsr_sched_state(b.sched, ids[i]), TSR_SCHED_FREE);
        assert_true(tsr_sched_is_valid(b.sched));
    }
    assert_int_equal(b.kv.free, 6);
    finish(&b);
}

static void test_sched_says_when_to_try_again(void **state)
{
    (void)state;
    MAKE(b, 64, plain);
    uint64_t now = SECOND;
    for (uint32_t i = 0; i < 50; i++, now += 50000000) {
        uint32_t id = submit(&b, 4, 8, 9, 0, now);
        step(&b, now);
        tsr_sched_end(b.sched, id, now);
    }
    assert_int_equal(tsr_sched_retry_ns(b.sched), 50000000);
    finish(&b);
}

static void test_sched_default_of_max_tokens(void **state)
{
    (void)state;
    MAKE(b, 64, plain);
    assert_int_equal(tsr_sched_tokens_default(b.sched, 10, 512), 512);
    assert_int_equal(tsr_sched_tokens_default(b.sched, 1000, 512), 24);
    assert_int_equal(tsr_sched_tokens_default(b.sched, 1024, 512), 1);
    assert_int_equal(tsr_sched_tokens_default(b.sched, 5000, 512), 1);
    assert_int_equal(tsr_sched_tokens_default(b.sched, 10, 0), 1);
    finish(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sched_refuses_options),
        cmocka_unit_test(test_sched_refuses_requests),
        cmocka_unit_test(test_sched_composes_nothing_of_nothing),
        cmocka_unit_test(test_sched_runs_a_prompt_then_decodes),
        cmocka_unit_test(test_sched_does_not_make_the_second_wait),
        cmocka_unit_test(test_sched_shares_prefill),
        cmocka_unit_test(test_sched_takes_turns_where_rows_are_few),
        cmocka_unit_test(test_sched_admits_by_priority_then_arrival),
        cmocka_unit_test(test_sched_waits_for_kv_in_order),
        cmocka_unit_test(test_sched_parks_alone_without_credit),
        cmocka_unit_test(test_sched_without_credit_from_the_start_holds_no_kv),
        cmocka_unit_test(test_sched_leaves_a_quarter_of_the_queue_to_others),
        cmocka_unit_test(test_sched_adds_up_parks),
        cmocka_unit_test(test_sched_holds),
        cmocka_unit_test(test_sched_credit_saturates),
        cmocka_unit_test(test_sched_ends_at_the_deadline),
        cmocka_unit_test(test_sched_cancels_in_every_state),
        cmocka_unit_test(test_sched_says_when_to_try_again),
        cmocka_unit_test(test_sched_default_of_max_tokens),
        cmocka_unit_test(test_sched_pools_hidden_states),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
