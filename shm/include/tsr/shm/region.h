/* Regions: shared memory that one side creates, sizes for good, and hands over by descriptor.
 *
 * A channel has two. The *request* region is written by the client and read by the engine. The
 * *event* region is written by the engine and sealed against every later writable mapping
 * (F_SEAL_FUTURE_WRITE), so that a client can only read it. Both are sealed against growing and
 * shrinking, and the seals are sealed. Both are memfds on tmpfs pages: nothing has a name, and the
 * last descriptor frees the memory.
 *
 * Who pays: a tmpfs page is charged to the cgroup of whoever touches it first. The engine therefore
 * touches neither region before tsr_region_has_holes() says that the client has filled both. A
 * client can punch holes into the request region later (never into the event region: the seal
 * forbids it); they read as zeros and the reading engine pays for at most the region's size, until
 * tsr_region_release(). */
#ifndef TSR_SHM_REGION_H
#define TSR_SHM_REGION_H

#include <tsr/shm/err.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum tsr_region_kind {
    TSR_REGION_REQUEST, /* client writes, engine reads */
    TSR_REGION_EVENT,   /* engine writes, client reads */
};

/* The private handle. Zero-initialised memory with fd = -1 is a valid empty handle. */
struct tsr_region {
    uint8_t *base;             /* NULL while unmapped */
    size_t bytes;              /* multiple of the page size */
    int fd;                    /* -1 when none is held */
    int guard;                 /* slot in the SIGBUS guard, -1 when not guarded (guard.h) */
    enum tsr_region_kind kind; /* decides seals and protections */
};

enum { TSR_REGION_BYTES_MAX = 1 << 28 };

/* Engine: creates the memfd, maps it (request: read-only, event: writable), seals it, and registers
 * it with the SIGBUS guard. Touches no page. `bytes` is a multiple of the page size, at most
 * TSR_REGION_BYTES_MAX. The descriptor is close-on-exec and, where the kernel knows the flag, not
 * executable. Errors: -EINVAL for a bad size, else what the kernel said. */
int tsr_region_create(struct tsr_region *region, enum tsr_region_kind kind, size_t bytes,
                      struct tsr_err *err);

/* Client: takes ownership of `fd` (closed on failure), checks size and seals (so that nothing can
 * make its own reads fault later), maps it (request: writable, event: read-only) and touches every
 * page, which charges them to the caller. Errors: -EPROTO where size or seals are not as promised,
 * else what the kernel said. */
int tsr_region_attach(struct tsr_region *region, enum tsr_region_kind kind, int fd, size_t bytes,
                      struct tsr_err *err);

/* Whether any page of the file has no memory behind it (it was never touched, or given back). A
 * page that was swapped out is not a hole: it stays charged to whoever touched it first. Returns 0,
 * 1, or a negative errno. One lseek(): not for the token path. */
int tsr_region_has_holes(const struct tsr_region *region);

/* Engine, after tsr_region_has_holes() said 0: fills the page tables of this mapping, so that the
 * token path takes no fault. Best effort. */
void tsr_region_prefault(const struct tsr_region *region);

/* Engine: gives the request region's pages back to the system, whoever still holds descriptors; the
 * event region's cannot be (its seal forbids it), and were paid for by the client. Best effort. */
void tsr_region_release(const struct tsr_region *region);

/* Unmaps, closes, leaves the guard. Safe on an empty handle. */
void tsr_region_close(struct tsr_region *region);

#endif
