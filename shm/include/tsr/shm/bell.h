/* Doorbells: how a sleeping side is woken.
 *
 * A client that waits in its library sleeps on a futex word in the event region (the engine's
 * memory, read-only to the client: FUTEX_WAIT needs no more). A client's event loop, and the
 * sleeping engine, are woken by one byte on the channel's socket, sent MSG_DONTWAIT | MSG_NOSIGNAL:
 * nothing that the peer does to its own end of the socket can block the sender or kill it. */
#ifndef TSR_SHM_BELL_H
#define TSR_SHM_BELL_H

#include <stdatomic.h>
#include <stdint.h>

/* What a client's sleep flag says (request region). Anything else reads as AWAKE. */
enum tsr_sleep { TSR_SLEEP_AWAKE = 0, TSR_SLEEP_FUTEX = 1, TSR_SLEEP_SOCKET = 2 };

/* Sleeps while *word == expected, at most timeout_ns. Returns 0 when woken or the word had changed,
 * -ETIMEDOUT, -EINTR. The word may lie in a read-only shared mapping. */
int tsr_bell_wait(const _Atomic uint32_t *word, uint32_t expected, uint64_t timeout_ns);

/* Adds one to the word (release) and wakes one waiter. The caller is its only writer; one thread
 * waits at a time (a link belongs to one), and who lets thousands wait must not make the engine
 * spend its time on them. */
void tsr_bell_wake(_Atomic uint32_t *word);

/* Sends one byte. Returns 0, -EAGAIN when the peer has a full queue (it has plenty to wake up for),
 * or what the kernel said (-EPIPE, -ECONNRESET: the peer is gone). Never blocks, never raises a
 * signal. */
int tsr_bell_ring(int socket_fd);

/* CLOCK_MONOTONIC in nanoseconds; no system call where the vDSO has it. */
uint64_t tsr_clock_ns(void);

#endif
