/* Lanes and sleepers: how the engine's own threads hand work to each other.
 *
 * A lane is a bounded queue with one producing and one consuming thread, neither of which waits or
 * makes a system call. A sleeper is a thread that may sleep when all its lanes are empty; whoever
 * fills a lane wakes it. Both sides of that meeting are sequentially consistent, so that one of
 * them sees the other:
 *
 *     consumer: W0 asleep = 1, then L0 looks at its lanes     producer: L1 publishes an item, then
 * W1 reads asleep
 */
#ifndef TSR_SERVE_LANE_H
#define TSR_SERVE_LANE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <tsr/shm/err.h>

struct tsr_lane_item {
    uint32_t kind;
    uint32_t index;
    void *pointer;
};

/* Invariant: tail - head <= mask + 1. One cache line per writer. */
struct tsr_lane {
    struct tsr_lane_item *items; /* [mask + 1] */
    uint32_t mask;
    _Alignas(64) _Atomic uint32_t head; /* written by the consumer */
    _Alignas(64) _Atomic uint32_t tail; /* written by the producer */
};

/* capacity: rounded up to a power of two. -ENOMEM. */
int tsr_lane_create(struct tsr_lane *lane, uint32_t capacity, struct tsr_err *err);
void tsr_lane_destroy(struct tsr_lane *lane);

/* Producer: false where the lane is full. */
bool tsr_lane_push(struct tsr_lane *lane, struct tsr_lane_item item);

/* Consumer: false where it is empty. */
bool tsr_lane_pop(struct tsr_lane *lane, struct tsr_lane_item *item);

/* Consumer: whether an item waits, as the last look before sleeping. */
bool tsr_lane_has_item(const struct tsr_lane *lane);

struct tsr_sleeper {
    _Alignas(64) _Atomic uint32_t asleep; /* written by the sleeper */
    _Alignas(64) _Atomic uint32_t wakes;  /* counts wake-ups; what the sleeper waits on */
};

/* Sleeper: says that it is about to sleep. Then look at all lanes once more, and either wait or
 * awake. */
uint32_t tsr_sleeper_arm(struct tsr_sleeper *sleeper);
/* Sleeper: sleeps until woken or for timeout_ns (UINT64_MAX: no limit), then is awake. armed: what
 * arm returned. */
void tsr_sleeper_wait(struct tsr_sleeper *sleeper, uint32_t armed, uint64_t timeout_ns);
void tsr_sleeper_awake(struct tsr_sleeper *sleeper);

/* Anyone: wakes it where it sleeps. Returns the number of system calls made: 0 where it is awake.
 */
int tsr_sleeper_wake(struct tsr_sleeper *sleeper);

#endif
