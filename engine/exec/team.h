/* The worker team: pinned threads that run one function together and meet in barriers.
 *
 * The caller of tsr_team_run() is worker 0. Waiting is spinning for a bounded time, then a futex;
 * with `spin` it is spinning only. With one worker there is neither thread nor atomic. */
#ifndef TSR_EXEC_TEAM_H
#define TSR_EXEC_TEAM_H

#include <stdbool.h>
#include <stdint.h>

#include <tsr/shm/err.h>

struct tsr_team;

typedef void tsr_team_fn(void *arg, uint32_t worker);

/* Starts workers 1 .. n-1. cpus [n] (NULL: not pinned) are the CPUs of workers 1 .. n-1 and, as
 * cpus[0], of the calling thread. */
int tsr_team_create(struct tsr_team **team, uint32_t n, const uint32_t *cpus, bool spin,
                    struct tsr_err *err);
void tsr_team_destroy(struct tsr_team *team);

/* Runs fn(arg, worker) on all workers; returns when all calls have returned. Only one thread at a
 * time may call it. */
void tsr_team_run(struct tsr_team *team, tsr_team_fn *fn, void *arg);

/* Waits until all workers are here; what they wrote before is visible after. */
void tsr_team_barrier(struct tsr_team *team);

/* Waiting workers sleep now rather than at the end of their spin. */
void tsr_team_rest(struct tsr_team *team);

#endif
