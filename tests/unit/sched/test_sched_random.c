/* Random mixes of requests, credits, holds and cancels against a model of what must come out. */
#include "fake.h"

enum { WANTS_MAX = 64, CONTEXT = 512, STEPS = 3000, MS = 1000000 };

struct want {
    bool live;
    uint32_t id;
    uint32_t prompt_tokens, max_tokens;
    uint32_t produced, fed; /* tokens sampled, rows seen */
    uint32_t last;          /* token sampled last */
    uint32_t credit;
    bool held;
    uint64_t deadline_ns;
    uint32_t steps_ready; /* steps in a row in which it was ready and not served */
};

static uint64_t rng;

static uint32_t draw(uint32_t n)
{
    rng += 0x9e3779b97f4a7c15u;
    uint64_t z = rng;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return (uint32_t)((z ^ (z >> 31)) % n);
}

/* Each request has a prompt of its own, so that a span's tokens name their owner. */
static uint32_t prompts[WANTS_MAX][CONTEXT];

static void check_spans(const struct tsr_sched *sched, const struct tsr_sched_step *step,
                        const struct want *wants)
{
    uint32_t logit = 0;
    for (uint32_t i = 0; i < step->n_spans; i++) {
        const struct tsr_span *span = &step->spans[i];
        uint64_t w = span->logit_rows ? tsr_sched_cookie(sched, step->logit_ids[logit++])
                                      : (uint64_t)(span->tokens - prompts[0]) / CONTEXT;
        assert_true(w < WANTS_MAX);
        const struct want *want = &wants[w];
        assert_true(want->live && want->credit > 0 && !want->held);
        assert_int_equal(span->position, want->fed);
        if (want->fed < want->prompt_tokens) {
            assert_ptr_equal(span->tokens, prompts[w] + want->fed);
            assert_true(span->rows <= want->prompt_tokens - want->fed);
            assert_int_equal(span->logit_rows, want->fed + span->rows == want->prompt_tokens);
        } else {
            assert_int_equal(span->rows, 1);
            assert_int_equal(span->logit_rows, 1);
            assert_int_equal(span->tokens[0], want->last);
        }
    }
    assert_int_equal(logit, step->n_logits);
}

static void run(uint64_t seed)
{
    rng = seed;
    const struct tsr_sched_options o = {
        .sequences_max = 1 + draw(12),
        .queue_max = 1 + draw(20),
        .rows_max = 64 + draw(200),
        .chunk_rows = 1 + draw(60),
        .logit_rows_max = 2 + draw(10),
        .context = CONTEXT,
        .park_ns = 50ull * MS,
        .age_ns = 10ull * MS,
    };
    struct fake_kv pool = {8 + draw(40), 0};
    pool.free = pool.total;
    struct tsr_sched_kv kv = fake_table(&pool);
    struct tsr_sched *sched;
    assert_int_equal(tsr_sched_create(&sched, &o, &kv, NULL), 0);

    struct want wants[WANTS_MAX] = {0};
    uint64_t now = MS;
    uint32_t submitted = 0, finished = 0, expired = 0, cancelled = 0, refused = 0;

    for (uint32_t t = 0; t < STEPS; t++) {
        now += draw(3) * MS;
        bool draining = t > STEPS * 2 / 3;

        /* Clients. */
        for (uint32_t n = draining ? 0 : draw(3); n > 0; n--) {
            uint32_t w = 0;
            while (wants[w].live) {
                w++;
            }
            struct tsr_sched_submit s = {
                .prompt = prompts[w],
                .prompt_tokens = 1 + draw(draw(4) ? 40 : 400),
                .max_tokens = 1 + draw(60),
                .credit = draw(3) ? 100 : draw(4),
                .priority = draw(4),
                .deadline_ns = draw(10) ? 0 : now + draw(100) * MS,
                .user = w % 3,
                .cookie = w,
            };
            uint32_t id;
            int rc = tsr_sched_submit(sched, &s, now, &id);
            if (rc < 0) {
                assert_true(rc == -EAGAIN || rc == -EBUSY || rc == -E2BIG);
                refused++;
                continue;
            }
            assert_true(id < o.sequences_max + o.queue_max);
            assert_int_equal(tsr_sched_cookie(sched, id), w);
            wants[w] = (struct want){.live = true,
                                     .id = id,
                                     .prompt_tokens = s.prompt_tokens,
                                     .max_tokens = s.max_tokens,
                                     .credit = s.credit,
                                     .deadline_ns = s.deadline_ns};
            submitted++;
        }
        struct want *one = &wants[draw(o.sequences_max + o.queue_max)];
        if (one->live) {
            switch (draw(8)) {
            case 0:
                tsr_sched_end(sched, one->id, now);
                one->live = false;
                cancelled++;
                break;
            case 1:
            case 2:
                tsr_sched_credit(sched, one->id, 5, now);
                one->credit += 5;
                break;
            case 3:
                one->held = !draining && draw(2);
                tsr_sched_hold(sched, one->id, one->held, now);
                break;
            default:
                break;
            }
        }
        for (uint32_t w = 0; w < WANTS_MAX; w++) {
            struct want *want = &wants[w];
            if (draining && want->live && (want->held || want->credit == 0)) {
                want->held = false;
                want->credit += 100;
                tsr_sched_hold(sched, want->id, false, now);
                tsr_sched_credit(sched, want->id, 100, now);
            }
        }

        /* The loop of the frontend. */
        struct tsr_sched_ended ended[4];
        for (uint32_t n; (n = tsr_sched_expire(sched, now, ended, 4)) > 0;) {
            for (uint32_t i = 0; i < n; i++) {
                struct want *want = &wants[ended[i].cookie];
                assert_true(want->live && want->id == ended[i].id);
                if (ended[i].reason == TSR_SCHED_DEADLINE) {
                    assert_true(want->deadline_ns && want->deadline_ns <= now);
                } else {
                    assert_true(want->held || want->credit == 0);
                }
                want->live = false;
                expired++;
            }
        }
        for (uint32_t i = 0; i < WANTS_MAX; i++) {
            assert_true(!wants[i].live || !wants[i].deadline_ns || wants[i].deadline_ns > now);
        }
        const struct tsr_sched_step *step = tsr_sched_compose(sched, now);
        fake_exec_check(step, &o);
        check_spans(sched, step, wants);
        struct tsr_sched_counts counts = tsr_sched_counts(sched);
        if (step->n_spans == 0) {
            assert_int_equal(counts.prefill + counts.decode, 0);
            continue;
        }
        uint32_t before[WANTS_MAX];
        for (uint32_t i = 0; i < WANTS_MAX; i++) {
            before[i] = wants[i].fed;
        }
        tsr_sched_commit(sched);
        for (uint32_t i = 0; i < WANTS_MAX; i++) {
            struct want *want = &wants[i];
            if (!want->live) {
                continue;
            }
            want->fed = tsr_sched_position(sched, want->id);
            enum tsr_sched_state state = tsr_sched_state(sched, want->id);
            bool ready = state == TSR_SCHED_PREFILL || state == TSR_SCHED_DECODE;
            want->steps_ready = ready && want->fed == before[i] ? want->steps_ready + 1 : 0;
            /* Nobody who is ready is passed over longer than a full turn. */
            assert_true(want->steps_ready <= 2 * o.sequences_max);
        }
        for (uint32_t i = 0; i < step->n_logits; i++) {
            uint32_t seq = step->logit_ids[i];
            struct want *want = &wants[tsr_sched_cookie(sched, seq)];
            want->produced++;
            want->credit--;
            if (want->produced == want->max_tokens || draw(50) == 0) {
                tsr_sched_end(sched, seq, now);
                want->live = false;
                finished++;
            } else {
                want->last = 100000 + seq;
                tsr_sched_token(sched, seq, want->last, now);
            }
        }
        assert_true(tsr_sched_is_valid(sched));
        assert_int_equal(pool.total - pool.free, tsr_sched_counts(sched).pages_held);
    }

    /* Nothing lost, everything given back. */
    assert_int_equal(submitted, finished + expired + cancelled);
    assert_true(submitted > 50 && finished > 20 && refused + expired + cancelled > 0);
    struct tsr_sched_counts counts = tsr_sched_counts(sched);
    assert_int_equal(counts.waiting + counts.prefill + counts.decode + counts.parked, 0);
    assert_int_equal(pool.free, pool.total);
    tsr_sched_destroy(sched);
}

static void test_sched_random_mixes_lose_nothing(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 60; seed++) {
        run(seed);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sched_random_mixes_lose_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
