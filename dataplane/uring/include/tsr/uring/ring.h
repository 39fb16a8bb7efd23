/* The io_uring of the door: one ring, one thread, and the buffers that receives fill.
 *
 * Every operation is tagged with what it is and whose it is. The ring starts disabled and is
 * restricted to the operations below before it is enabled: what is done through a ring passes by
 * seccomp. */
#ifndef TSR_URING_RING_H
#define TSR_URING_RING_H

#include <liburing.h>
#include <stdbool.h>
#include <stdint.h>

#include <tsr/shm/err.h>

enum {
    TSR_URING_ENTRIES = 4096,
    TSR_URING_COMPLETIONS = 4 * TSR_URING_ENTRIES,
    TSR_URING_BUFFERS = 1024, /* for receiving, a power of two */
    TSR_URING_BUFFER_BYTES = 4096,
};

enum tsr_uring_kind {
    TSR_URING_NONE, /* nobody waits for it */
    TSR_URING_ACCEPT,
    TSR_URING_ENGINE,
    TSR_URING_SIGNAL,
    TSR_URING_RECV, /* from here on of a connection */
    TSR_URING_SEND,
    TSR_URING_STOP,
    TSR_URING_HANGUP,
};

struct tsr_uring {
    struct io_uring ring;
    struct io_uring_buf_ring *buffers;
    uint8_t *bytes;  /* [TSR_URING_BUFFERS][TSR_URING_BUFFER_BYTES] */
    uint32_t given;  /* buffers given back, not shown to the kernel yet */
    uint64_t enters; /* system calls made */
};

/* -EPERM, -ENOSYS, -EINVAL, -ENOMEM with a sentence that says what to do. */
int tsr_uring_open(struct tsr_uring *uring, struct tsr_err *err);
void tsr_uring_close(struct tsr_uring *uring);

/* From now on it works, for the calling thread only, and does nothing but what a door does. */
int tsr_uring_enable(struct tsr_uring *uring, struct tsr_err *err);

/* The next operation, tagged, to be filled in by io_uring_prep_...(). Where there is no room it
 * submits first. */
struct io_uring_sqe *tsr_uring_next(struct tsr_uring *uring, enum tsr_uring_kind kind,
                                    uint32_t owner);
static inline uint64_t tsr_uring_tag(enum tsr_uring_kind kind, uint32_t owner)
{
    return (uint64_t)kind << 32 | owner;
}
static inline enum tsr_uring_kind tsr_uring_kind_of(uint64_t tag)
{
    return (enum tsr_uring_kind)(tag >> 32);
}
static inline uint32_t tsr_uring_owner_of(uint64_t tag)
{
    return (uint32_t)tag;
}

/* A completion's buffer; giving it back. */
uint8_t *tsr_uring_buffer(const struct tsr_uring *uring, uint32_t cqe_flags);
void tsr_uring_give(struct tsr_uring *uring, uint32_t cqe_flags);

/* Submits, and lets the kernel complete what it has. sleep_ns: waits that long for a completion;
 * 0: makes no system call where there is nothing to do. A negative errno is a bug or a system
 * without memory. */
int tsr_uring_enter(struct tsr_uring *uring, uint64_t sleep_ns);

#endif
