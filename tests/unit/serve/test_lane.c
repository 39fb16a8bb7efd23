#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <tsr/serve/lane.h>

static void test_lane_is_bounded_and_in_order(void **state)
{
    (void)state;
    struct tsr_lane lane;
    struct tsr_lane_item item;
    assert_int_equal(tsr_lane_create(&lane, 3, NULL), 0);
    assert_false(tsr_lane_has_item(&lane));
    assert_false(tsr_lane_pop(&lane, &item));
    for (uint32_t lap = 0; lap < 10; lap++) {
        for (uint32_t i = 0; i < 4; i++) { /* 3 was rounded up */
            assert_true(tsr_lane_push(&lane, (struct tsr_lane_item){.index = lap * 4 + i}));
        }
        assert_false(tsr_lane_push(&lane, (struct tsr_lane_item){0}));
        assert_true(tsr_lane_has_item(&lane));
        for (uint32_t i = 0; i < 4; i++) {
            assert_true(tsr_lane_pop(&lane, &item));
            assert_int_equal(item.index, lap * 4 + i);
        }
        assert_false(tsr_lane_pop(&lane, &item));
    }
    tsr_lane_destroy(&lane);
}

enum { ITEMS = 20000 };

struct pair {
    struct tsr_lane there, back;
    struct tsr_sleeper here, yonder;
    uint32_t wrong;
};

static void pop_or_sleep(struct tsr_lane *lane, struct tsr_sleeper *sleeper,
                         struct tsr_lane_item *item)
{
    while (!tsr_lane_pop(lane, item)) {
        uint32_t armed = tsr_sleeper_arm(sleeper);
        if (!tsr_lane_has_item(lane)) {
            tsr_sleeper_wait(sleeper, armed, UINT64_MAX);
        }
        tsr_sleeper_awake(sleeper);
    }
}

static void *echo(void *ctx)
{
    struct pair *pair = ctx;
    for (uint32_t i = 0; i < ITEMS; i++) {
        struct tsr_lane_item item;
        pop_or_sleep(&pair->there, &pair->yonder, &item);
        pair->wrong += item.index != i;
        tsr_lane_push(&pair->back, item);
        tsr_sleeper_wake(&pair->here);
    }
    return NULL;
}

/* A lost wake-up would hang: CTest's limit ends it. */
static void test_lane_never_loses_a_wake_up(void **state)
{
    (void)state;
    static struct pair pair;
    pthread_t thread;
    assert_int_equal(tsr_lane_create(&pair.there, 4, NULL), 0);
    assert_int_equal(tsr_lane_create(&pair.back, 4, NULL), 0);
    assert_int_equal(pthread_create(&thread, NULL, echo, &pair), 0);
    uint32_t wrong = 0;
    for (uint32_t i = 0; i < ITEMS; i++) {
        struct tsr_lane_item item;
        tsr_lane_push(&pair.there, (struct tsr_lane_item){.index = i});
        tsr_sleeper_wake(&pair.yonder);
        pop_or_sleep(&pair.back, &pair.here, &item);
        wrong += item.index != i;
    }
    pthread_join(thread, NULL);
    assert_int_equal(wrong + pair.wrong, 0);
    tsr_lane_destroy(&pair.there);
    tsr_lane_destroy(&pair.back);
}

static void test_sleeper_times_out_and_costs_nothing_awake(void **state)
{
    (void)state;
    struct tsr_sleeper sleeper = {0};
    assert_int_equal(tsr_sleeper_wake(&sleeper), 0);
    uint32_t armed = tsr_sleeper_arm(&sleeper);
    tsr_sleeper_wait(&sleeper, armed, 1000000);
    assert_int_equal(tsr_sleeper_wake(&sleeper), 0);
    /* Woken between arm and wait: does not sleep. */
    armed = tsr_sleeper_arm(&sleeper);
    assert_int_equal(tsr_sleeper_wake(&sleeper), 1);
    tsr_sleeper_wait(&sleeper, armed, UINT64_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lane_is_bounded_and_in_order),
        cmocka_unit_test(test_lane_never_loses_a_wake_up),
        cmocka_unit_test(test_sleeper_times_out_and_costs_nothing_awake),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
