/* Datagrams that came to one queue of a door and belong to another: after a client has changed its
 * address, the network card may bring its packets elsewhere than before. From each queue to each
 * other one there is a ring of fixed size with one writer and one reader; nothing waits, and what
 * finds no room is lost, as any datagram may be.
 *
 * A thread that sleeps is woken by a descriptor, also for other news. */
#ifndef TSR_BYPASS_HAND_H
#define TSR_BYPASS_HAND_H

#include <stdbool.h>
#include <stdint.h>

#include <tsr/port/port.h>
#include <tsr/shm/err.h>

enum {
    TSR_HAND_SLOTS = 64,       /* of each ring */
    TSR_HAND_BYTES_MAX = 9000, /* of a payload; longer: no room */
};

struct tsr_hand;

/* -ENOMEM, or what eventfd() said. Memory is touched as it is used. */
int tsr_hand_create(struct tsr_hand **hand, uint32_t queues, struct tsr_err *err);
void tsr_hand_destroy(struct tsr_hand *hand); /* NULL is allowed */

/* By the thread of `from`; from != to. Copied. false: no room. */
bool tsr_hand_put(struct tsr_hand *hand, uint32_t from, uint32_t to,
                  const struct tsr_datagram *datagram);

/* By the thread of `to`: calls take() with what is there, a burst of each ring at most. The number
 * of datagrams. */
uint32_t tsr_hand_take(struct tsr_hand *hand, uint32_t to,
                       void (*take)(void *ctx, const struct tsr_datagram *datagram), void *ctx);

/* Before the thread of `queue` sleeps: from now on tsr_hand_fd() becomes readable when something
 * comes. false: something is there. Afterwards disarm. */
bool tsr_hand_arm(struct tsr_hand *hand, uint32_t queue);
void tsr_hand_disarm(struct tsr_hand *hand, uint32_t queue);
int tsr_hand_fd(const struct tsr_hand *hand, uint32_t queue);

/* Wakes all that sleep, so that they look at what has been written before the call. */
void tsr_hand_wake_all(struct tsr_hand *hand);

#endif
