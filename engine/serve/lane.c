#include <tsr/serve/lane.h>

#include <errno.h>
#include <linux/futex.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int tsr_lane_create(struct tsr_lane *lane, uint32_t capacity, struct tsr_err *err)
{
    uint32_t size = 1;
    while (size < capacity) {
        size *= 2;
    }
    *lane = (struct tsr_lane){.mask = size - 1};
    lane->items = calloc(size, sizeof *lane->items);
    if (!lane->items) {
        return tsr_err_set(err, -ENOMEM, "no memory for a queue of %u between threads", size);
    }
    return 0;
}

void tsr_lane_destroy(struct tsr_lane *lane)
{
    free(lane->items);
    lane->items = NULL;
}

bool tsr_lane_push(struct tsr_lane *lane, struct tsr_lane_item item)
{
    uint32_t tail = atomic_load_explicit(&lane->tail, memory_order_relaxed);
    /* A1: pairs with R1 in tsr_lane_pop(). */
    if (tail - atomic_load_explicit(&lane->head, memory_order_acquire) > lane->mask) {
        return false;
    }
    lane->items[tail & lane->mask] = item;
    /* L1, and R0: publishes the item; pairs with A0 in tsr_lane_pop() and L0 in
     * tsr_lane_has_item(). */
    atomic_store_explicit(&lane->tail, tail + 1, memory_order_seq_cst);
    return true;
}

bool tsr_lane_pop(struct tsr_lane *lane, struct tsr_lane_item *item)
{
    uint32_t head = atomic_load_explicit(&lane->head, memory_order_relaxed);
    /* A0: pairs with R0 in tsr_lane_push(). */
    if (atomic_load_explicit(&lane->tail, memory_order_acquire) == head) {
        return false;
    }
    *item = lane->items[head & lane->mask];
    /* R1: gives the slot back; pairs with A1 in tsr_lane_push(). */
    atomic_store_explicit(&lane->head, head + 1, memory_order_release);
    return true;
}

bool tsr_lane_has_item(const struct tsr_lane *lane)
{
    /* L0 */
    return atomic_load_explicit(&lane->tail, memory_order_seq_cst) !=
           atomic_load_explicit(&lane->head, memory_order_relaxed);
}

uint32_t tsr_sleeper_arm(struct tsr_sleeper *sleeper)
{
    uint32_t armed = atomic_load_explicit(&sleeper->wakes, memory_order_relaxed);
    /* W0 */
    atomic_store_explicit(&sleeper->asleep, 1, memory_order_seq_cst);
    return armed;
}

void tsr_sleeper_wait(struct tsr_sleeper *sleeper, uint32_t armed, uint64_t timeout_ns)
{
    struct timespec timeout = {
        .tv_sec = (time_t)(timeout_ns / 1000000000u),
        .tv_nsec = (long)(timeout_ns % 1000000000u),
    };
    syscall(SYS_futex, &sleeper->wakes, FUTEX_WAIT_PRIVATE, armed,
            timeout_ns == UINT64_MAX ? NULL : &timeout, NULL, 0);
    tsr_sleeper_awake(sleeper);
}

void tsr_sleeper_awake(struct tsr_sleeper *sleeper)
{
    atomic_store_explicit(&sleeper->asleep, 0, memory_order_relaxed);
}

int tsr_sleeper_wake(struct tsr_sleeper *sleeper)
{
    /* W1 */
    if (!atomic_load_explicit(&sleeper->asleep, memory_order_seq_cst)) {
        return 0;
    }
    atomic_fetch_add_explicit(&sleeper->wakes, 1, memory_order_release);
    syscall(SYS_futex, &sleeper->wakes, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
    return 1;
}
