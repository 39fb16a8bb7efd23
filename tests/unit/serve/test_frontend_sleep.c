/* How long the frontend sleeps: the call that it sleeps in is the test's. */
#include "bench_of_one.h"

#include <linux/futex.h>
#include <sys/syscall.h>

long __real_syscall(long number, ...);
long __wrap_syscall(long number, uint32_t *word, int op, uint32_t value,
                    const struct timespec *timeout, uint32_t *word2, uint32_t value3);

static struct bench *sleeping; /* whose sleeps are looked at */
static uint64_t asked_ns;      /* for how long it wanted to, UINT64_MAX: until it is woken */
static uint32_t sleeps;

/* Ends the frontend's run instead of sleeping. */
long __wrap_syscall(long number, uint32_t *word, int op, uint32_t value,
                    const struct timespec *timeout, uint32_t *word2, uint32_t value3)
{
    if (number != SYS_futex || op != FUTEX_WAIT_PRIVATE || !sleeping) {
        return __real_syscall(number, word, op, value, timeout, word2, value3);
    }
    if (sleeps++ == 0) {
        asked_ns = timeout ? (uint64_t)timeout->tv_sec * 1000000000u + (uint64_t)timeout->tv_nsec
                           : UINT64_MAX;
        tsr_lane_push(&sleeping->f->from_control, (struct tsr_lane_item){.kind = TSR_ITEM_STOP});
        for (uint32_t i = 0; i < SLOTS; i++) {
            if (sleeping->slots[i]) {
                bench_gone(sleeping, i);
            }
        }
    }
    return 0;
}

/* Runs until it sleeps; for how long it would. */
static uint64_t sleep_of(struct bench *b)
{
    b->f->options.spin = false;
    sleeping = b;
    sleeps = 0;
    tsr_frontend_run(b->f);
    sleeping = NULL;
    assert_true(sleeps > 0);
    return asked_ns;
}

static void test_frontend_sleeps_shortly_while_a_ring_is_full(void **state)
{
    (void)state;
    struct bench b;
    struct tsr_link link;
    struct tsr_door_policy policy;
    uint32_t prompt[2] = {100, 101};
    tsr_door_policy_init(&policy);
    for (uint32_t i = 0; i < policy.rule_count; i++) {
        policy.rules[i].class.event_ring_bytes = 65536;
    }
    for (int full = 0; full < 2; full++) {
        bench_open(&b, &policy, 60000, 1 << 20);
        bench_connect(&b, &link);
        struct tsr_wire_submit submit = plain_submit(1);
        submit.tokens_max = 400;
        submit.credit = full ? 400 : 3;
        submit.flags = TSR_SUBMIT_LOGPROBS; /* long events fill the ring soon */
        submit.top_logprobs = 20;
        send_submit(&link, submit, prompt, sizeof prompt, sizeof prompt);
        bench_turns(&b, 300);
        assert_int_equal(b.f->owing != NULL, full);
        uint64_t ns = sleep_of(&b);
        if (full) {
            assert_true(ns <= 20 * MS); /* channel.h */
        } else {
            assert_true(ns > 1000ull * MS); /* parked for want of credit: until that ends */
        }
        tsr_link_close(&link);
        bench_close(&b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_frontend_sleeps_shortly_while_a_ring_is_full),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
