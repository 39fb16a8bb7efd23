#include "team.h"

#include <errno.h>
#include <immintrin.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* About 0.2 ms: longer than what worker 0 does between two steps, shorter than what an idle machine
 * would notice. Where workers share CPUs, spinning only keeps away the one that is waited for. */
enum { SPINS = 8000, SPINS_SHARED = 20 };

/* A word that is waited on: `value` has one writer at a time, `sleepers` counts who may be in the
 * kernel. */
struct gate {
    _Alignas(64) _Atomic uint32_t value;
    _Atomic uint32_t sleepers;
};

struct tsr_team {
    uint32_t n;
    bool spin;
    uint32_t spins;
    pthread_t *threads;
    struct gate start;  /* counts runs; worker 0 writes */
    struct gate passed; /* counts barriers; the last to arrive writes */
    _Alignas(64) _Atomic uint32_t arrived;
    _Alignas(64) _Atomic bool rest; /* written by worker 0 */
    tsr_team_fn *fn;                /* published by start */
    void *arg;
    bool stop;
};

struct birth {
    struct tsr_team *team;
    uint32_t worker;
};

static void gate_open(struct gate *gate, uint32_t value)
{
    /* R0: publishes everything before the gate; pairs with A0. Sequentially consistent together
     * with the sleepers: either we see a sleeper, or it sees the new value before it sleeps. */
    atomic_store_explicit(&gate->value, value, memory_order_seq_cst);
    if (atomic_load_explicit(&gate->sleepers, memory_order_seq_cst)) {
        syscall(SYS_futex, &gate->value, FUTEX_WAKE_PRIVATE, INT32_MAX, NULL, NULL, 0);
    }
}

/* Waits until the gate's value is no longer `old`. */
static void gate_wait(struct tsr_team *team, struct gate *gate, uint32_t old, bool resting)
{
    for (uint32_t i = 0; team->spin || i < team->spins; i++) {
        /* A0: pairs with R0. */
        if (atomic_load_explicit(&gate->value, memory_order_acquire) != old) {
            return;
        }
        if (resting && !team->spin && atomic_load_explicit(&team->rest, memory_order_relaxed)) {
            break;
        }
        _mm_pause();
    }
    atomic_fetch_add_explicit(&gate->sleepers, 1, memory_order_seq_cst);
    while (atomic_load_explicit(&gate->value, memory_order_seq_cst) == old) {
        syscall(SYS_futex, &gate->value, FUTEX_WAIT_PRIVATE, old, NULL, NULL, 0);
    }
    atomic_fetch_sub_explicit(&gate->sleepers, 1, memory_order_relaxed);
}

static void *worker_main(void *arg)
{
    struct birth birth = *(struct birth *)arg;
    struct tsr_team *team = birth.team;
    free(arg);
    pthread_setname_np(pthread_self(), "tsr-worker");
    for (uint32_t run = 0;; run++) {
        gate_wait(team, &team->start, run, true);
        if (team->stop) {
            return NULL;
        }
        team->fn(team->arg, birth.worker);
        tsr_team_barrier(team); /* nobody is in fn when the next run is set up */
    }
}

static void pin(pthread_t thread, uint32_t cpu)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    pthread_setaffinity_np(thread, sizeof set, &set); /* the CPU came from our own mask */
}

int tsr_team_create(struct tsr_team **out, uint32_t n, const uint32_t *cpus, bool spin,
                    struct tsr_err *err)
{
    struct tsr_team *team = aligned_alloc(64, sizeof *team);
    pthread_t *threads = calloc(n, sizeof *threads);
    if (!team || !threads) {
        free(team);
        free(threads);
        return tsr_err_set(err, -ENOMEM, "no memory for a team of %u workers", n);
    }
    memset(team, 0, sizeof *team);
    team->spin = spin;
    cpu_set_t mine;
    bool shared = sched_getaffinity(0, sizeof mine, &mine) == 0 && n > (uint32_t)CPU_COUNT(&mine);
    team->spins = shared ? SPINS_SHARED : SPINS;
    team->threads = threads;
    team->n = 1;
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old); /* signals are the control thread's */
    int rc = 0;
    for (uint32_t i = 1; i < n && rc == 0; i++) {
        struct birth *birth = malloc(sizeof *birth);
        if (!birth) {
            rc = -ENOMEM;
            break;
        }
        *birth = (struct birth){team, i};
        rc = -pthread_create(&threads[i], NULL, worker_main, birth);
        if (rc < 0) {
            free(birth);
            break;
        }
        team->n++;
        if (cpus) {
            pin(threads[i], cpus[i]);
        }
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (rc < 0) {
        tsr_err_set(err, rc, "worker %u of %u cannot be started: %s; use fewer --threads", team->n,
                    n, strerror(-rc));
        tsr_team_destroy(team);
        return rc;
    }
    if (cpus) {
        pin(pthread_self(), cpus[0]);
    }
    *out = team;
    return 0;
}

void tsr_team_destroy(struct tsr_team *team)
{
    if (!team) {
        return;
    }
    team->stop = true;
    gate_open(&team->start, atomic_load_explicit(&team->start.value, memory_order_relaxed) + 1);
    for (uint32_t i = 1; i < team->n; i++) {
        pthread_join(team->threads[i], NULL);
    }
    free(team->threads);
    free(team);
}

void tsr_team_run(struct tsr_team *team, tsr_team_fn *fn, void *arg)
{
    if (team->n == 1) {
        fn(arg, 0);
        return;
    }
    team->fn = fn;
    team->arg = arg;
    atomic_store_explicit(&team->rest, false, memory_order_relaxed);
    gate_open(&team->start, atomic_load_explicit(&team->start.value, memory_order_relaxed) + 1);
    fn(arg, 0);
    tsr_team_barrier(team);
}

void tsr_team_barrier(struct tsr_team *team)
{
    if (team->n == 1) {
        return;
    }
    uint32_t round = atomic_load_explicit(&team->passed.value, memory_order_relaxed);
    /* The last to arrive has seen what the others wrote before they arrived. */
    if (atomic_fetch_add_explicit(&team->arrived, 1, memory_order_acq_rel) + 1 == team->n) {
        atomic_store_explicit(&team->arrived, 0, memory_order_relaxed);
        gate_open(&team->passed, round + 1);
    } else {
        gate_wait(team, &team->passed, round, false);
    }
}

void tsr_team_rest(struct tsr_team *team)
{
    atomic_store_explicit(&team->rest, true, memory_order_relaxed);
}
