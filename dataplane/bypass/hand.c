#include <tsr/bypass/hand.h>

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

enum { LINE = 64, BURST = 32 };

struct slot {
    struct tsr_datagram datagram; /* its bytes are those below */
    uint8_t bytes[TSR_HAND_BYTES_MAX];
};

/* head <= tail <= head + SLOTS; slots [head, tail) are full. */
struct ring {
    _Alignas(LINE) _Atomic uint64_t tail; /* the writer's */
    _Alignas(LINE) _Atomic uint64_t head; /* the reader's */
    struct slot slots[TSR_HAND_SLOTS];
};

struct sleeper {
    _Alignas(LINE) atomic_bool sleeps; /* set by its own thread, taken back by who wakes it */
    int fd;
};

struct tsr_hand {
    uint32_t queues;
    struct sleeper sleepers[TSR_PORT_QUEUES_MAX];
    struct ring *rings; /* [from * queues + to] */
};

static size_t rings_bytes(const struct tsr_hand *hand)
{
    return (size_t)hand->queues * hand->queues * sizeof(struct ring);
}

static struct ring *ring_of(struct tsr_hand *hand, uint32_t from, uint32_t to)
{
    return &hand->rings[from * hand->queues + to];
}

int tsr_hand_create(struct tsr_hand **out, uint32_t queues, struct tsr_err *err)
{
    struct tsr_hand *hand = aligned_alloc(LINE, sizeof *hand);
    *out = NULL;
    if (!hand) {
        return tsr_err_set(err, -ENOMEM, "no memory for what %u queues share", queues);
    }
    memset(hand, 0, sizeof *hand);
    hand->queues = queues;
    int rc = 0;
    for (uint32_t i = 0; i < queues; i++) {
        hand->sleepers[i].fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        rc = hand->sleepers[i].fd < 0 ? -errno : rc;
    }
    hand->rings = mmap(NULL, rings_bytes(hand), PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    rc = hand->rings == MAP_FAILED ? -ENOMEM : rc;
    if (rc < 0) {
        tsr_hand_destroy(hand);
        return tsr_err_set(err, rc, "rings and descriptors for %u queues: %s", queues,
                           strerror(-rc));
    }
    *out = hand;
    return 0;
}

void tsr_hand_destroy(struct tsr_hand *hand)
{
    if (!hand) {
        return;
    }
    for (uint32_t i = 0; i < hand->queues; i++) {
        if (hand->sleepers[i].fd >= 0) {
            close(hand->sleepers[i].fd);
        }
    }
    if (hand->rings != MAP_FAILED) {
        munmap(hand->rings, rings_bytes(hand));
    }
    free(hand);
}

/* ---- Sleeping ---- */

static void wake(struct sleeper *sleeper)
{
    const uint64_t one = 1;
    /* S0: read after the news were written (the caller's sequentially consistent store); pairs with
     * S1, which is written before they are looked at: one of the two sees the other. */
    if (atomic_load_explicit(&sleeper->sleeps, memory_order_seq_cst) &&
        atomic_exchange_explicit(&sleeper->sleeps, false, memory_order_seq_cst)) {
        (void)!write(sleeper->fd, &one, sizeof one);
    }
}

void tsr_hand_wake_all(struct tsr_hand *hand)
{
    for (uint32_t i = 0; i < hand->queues; i++) {
        wake(&hand->sleepers[i]);
    }
}

bool tsr_hand_arm(struct tsr_hand *hand, uint32_t queue)
{
    bool is_empty = true;
    atomic_store_explicit(&hand->sleepers[queue].sleeps, true, memory_order_seq_cst); /* S1 */
    for (uint32_t from = 0; from < hand->queues; from++) {
        const struct ring *ring = ring_of(hand, from, queue);
        is_empty &= atomic_load_explicit(&ring->tail, memory_order_seq_cst) ==
                    atomic_load_explicit(&ring->head, memory_order_relaxed);
    }
    return is_empty;
}

void tsr_hand_disarm(struct tsr_hand *hand, uint32_t queue)
{
    struct sleeper *sleeper = &hand->sleepers[queue];
    uint64_t n;
    if (!atomic_exchange_explicit(&sleeper->sleeps, false, memory_order_seq_cst)) {
        (void)!read(sleeper->fd, &n,
                    sizeof n); /* who woke it writes soon, if not yet: then once more */
    }
}

int tsr_hand_fd(const struct tsr_hand *hand, uint32_t queue)
{
    return hand->sleepers[queue].fd;
}

/* ---- Datagrams ---- */

bool tsr_hand_put(struct tsr_hand *hand, uint32_t from, uint32_t to,
                  const struct tsr_datagram *datagram)
{
    struct ring *ring = ring_of(hand, from, to);
    uint64_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);
    /* A1: the slot has been read; pairs with R1. */
    uint64_t head = atomic_load_explicit(&ring->head, memory_order_acquire);
    if (tail - head == TSR_HAND_SLOTS || datagram->size > TSR_HAND_BYTES_MAX) {
        return false;
    }
    struct slot *slot = &ring->slots[tail % TSR_HAND_SLOTS];
    slot->datagram = *datagram;
    slot->datagram.bytes = slot->bytes;
    memcpy(slot->bytes, datagram->bytes, datagram->size);
    /* R0: publishes the slot; pairs with A0. Sequentially consistent for S0. */
    atomic_store_explicit(&ring->tail, tail + 1, memory_order_seq_cst);
    wake(&hand->sleepers[to]);
    return true;
}

uint32_t tsr_hand_take(struct tsr_hand *hand, uint32_t to,
                       void (*take)(void *ctx, const struct tsr_datagram *datagram), void *ctx)
{
    uint32_t taken = 0;
    for (uint32_t from = 0; from < hand->queues; from++) {
        struct ring *ring = ring_of(hand, from, to);
        uint64_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);
        uint64_t tail = atomic_load_explicit(&ring->tail, memory_order_acquire); /* A0 */
        for (uint32_t n = 0; head != tail && n < BURST; n++, taken++) {
            take(ctx, &ring->slots[head++ % TSR_HAND_SLOTS].datagram);
            atomic_store_explicit(&ring->head, head, memory_order_release); /* R1 */
        }
    }
    return taken;
}
