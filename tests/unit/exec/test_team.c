#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>
#include <time.h>

#include "team.h"

enum { WORKERS = 3, ROUNDS = 50 };

struct shared {
    struct tsr_team *team;
    uint32_t
        cell[WORKERS]; /* each written by its worker, read by all after a barrier: TSan looks on */
    uint32_t wrong[WORKERS];
};

static void rounds(void *arg, uint32_t worker)
{
    struct shared *s = arg;
    for (uint32_t i = 0; i < ROUNDS; i++) {
        s->cell[worker] = i * WORKERS + worker;
        tsr_team_barrier(s->team);
        for (uint32_t w = 0; w < WORKERS; w++) {
            s->wrong[worker] += s->cell[w] != i * WORKERS + w;
        }
        tsr_team_barrier(s->team);
    }
}

static void test_team_barriers_order_memory(void **unused)
{
    (void)unused;
    struct shared s = {0};
    assert_int_equal(tsr_team_create(&s.team, WORKERS, NULL, false, NULL), 0);
    for (int run = 0; run < 20; run++) {
        tsr_team_run(s.team, rounds, &s);
        if (run % 4 == 0) { /* long enough for everyone to fall asleep */
            tsr_team_rest(s.team);
            nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
        }
        for (uint32_t w = 0; w < WORKERS; w++) {
            assert_int_equal(s.cell[w], (ROUNDS - 1) * WORKERS + w);
            assert_int_equal(s.wrong[w], 0);
        }
    }
    tsr_team_destroy(s.team);
}

static void count(void *arg, uint32_t worker)
{
    ((uint32_t *)arg)[worker]++;
}

static void test_team_of_one_runs_here(void **unused)
{
    (void)unused;
    struct tsr_team *team;
    uint32_t calls[1] = {0};
    assert_int_equal(tsr_team_create(&team, 1, NULL, true, NULL), 0);
    tsr_team_run(team, count, calls);
    tsr_team_barrier(team);
    assert_int_equal(calls[0], 1);
    tsr_team_destroy(team);
}

static void test_team_idle_uses_no_cpu(void **unused)
{
    (void)unused;
    struct tsr_team *team;
    uint32_t calls[WORKERS] = {0};
    assert_int_equal(tsr_team_create(&team, WORKERS, NULL, false, NULL), 0);
    tsr_team_run(team, count, calls);
    struct timespec before, after, pause = {.tv_nsec = 20000000};
    nanosleep(&pause, NULL); /* their spinning is over */
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &before);
    nanosleep(&(struct timespec){.tv_nsec = 200000000}, NULL);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &after);
    int64_t used_ns = (after.tv_sec - before.tv_sec) * 1000000000 + after.tv_nsec - before.tv_nsec;
    assert_true(used_ns < 10000000); /* a spinning worker would have used twenty times that */
    tsr_team_destroy(team);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_team_barriers_order_memory),
        cmocka_unit_test(test_team_of_one_runs_here),
        cmocka_unit_test(test_team_idle_uses_no_cpu),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
