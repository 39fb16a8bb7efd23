/* Links, the client's end of a channel: knocks, writes requests, reads events. libtessera is built
 * on it.
 *
 * A link belongs to one thread at a time. Reading and writing make no system call while the engine
 * is awake; tsr_link_flush() makes one where it sleeps. The engine is trusted with the client's
 * answers but not with its memory: what the rings say is checked, and the regions cannot fail
 * (sealed, faulted in). */
#ifndef TSR_SHM_LINK_H
#define TSR_SHM_LINK_H

#include <tsr/shm/bell.h>
#include <tsr/shm/err.h>
#include <tsr/shm/region.h>
#include <tsr/shm/ring.h>
#include <tsr/shm/wire.h>

#include <stdbool.h>
#include <stdint.h>

struct tsr_link {
    int fd; /* the socket; -1 when closed */
    struct tsr_region requests;
    struct tsr_region events;
    struct tsr_ring_producer out;
    struct tsr_ring_consumer in;
    struct tsr_request_ctl *ctl;        /* ours */
    const struct tsr_event_ctl *engine; /* theirs */
    uint32_t rung;                      /* the engine's sleep that was already rung for */
    uint32_t asleep;                    /* enum tsr_sleep, as shown to the engine */
    struct tsr_wire_hello hello;
    struct tsr_err lost; /* why the link is dead; code 0 while it lives */
};

/* What tsr_link_open() learnt beyond its error. */
struct tsr_link_refusal {
    uint32_t code;     /* enum tsr_code; 0: it was no refusal */
    uint32_t retry_ms; /* when to try again; 0: never */
    bool loading;
    uint32_t permille; /* with loading */
};

/* Connects to the engine at `path`, shakes hands, maps both regions, reads HELLO. `name`: how the
 * client calls itself in status and logs (NULL: the program's name). Blocks for at most timeout_ms.
 * Returns 0, or -ENOENT, -ECONNREFUSED, -EACCES ...  from connect(), with what to do; -EAGAIN the
 * model is loading, or a limit that passes: refusal->retry_ms; -EPERM       refused by policy;
 * -EPROTO  not an engine of this version;  -ETIMEDOUT. refusal may be NULL. On failure the link is
 * closed. */
int tsr_link_open(struct tsr_link *link, const char *path, const char *name, int timeout_ms,
                  struct tsr_link_refusal *refusal, struct tsr_err *err);

void tsr_link_close(struct tsr_link *link);

/* Space for a request of `bytes` (see tsr_ring_reserve): 1, 0 no room now, -EMSGSIZE, -EPROTO. */
int tsr_link_reserve(struct tsr_link *link, uint32_t bytes, void **out);

/* Bytes of room in the request ring now; negative errno when the link is dead. */
int64_t tsr_link_room(struct tsr_link *link);

/* Adds the reserved request to the batch. */
void tsr_link_commit(struct tsr_link *link, enum tsr_wire_type type, uint32_t bytes);

/* Shows the batch and rings where the engine sleeps. Returns the number of system calls made (0 or
 * 1). */
int tsr_link_flush(struct tsr_link *link);

/* The next event in place (in shared, read-only memory): 1, 0, -EPROTO. It stays until
 * tsr_link_next(). */
int tsr_link_peek(struct tsr_link *link, const void **event, struct tsr_record_info *info);
void tsr_link_next(struct tsr_link *link);

/* Sleeps until an event may be there, the engine hangs up, or timeout_ms pass (-1: no limit). In
 * bounded waits, so that a dead engine is seen within TSR_LINK_HANGUP_MS. Returns 1 (look again), 0
 * (time is up), or a negative errno: the link is dead, link->lost says why. */
int tsr_link_sleep(struct tsr_link *link, int timeout_ms);

enum { TSR_LINK_HANGUP_MS = 200 };

/* For event loops: asks for a byte on link->fd when an event comes. Returns true when armed, false
 * when an event is there already. tsr_link_disarm() drains the bytes and sees a hang-up: 0, or a
 * negative errno as above. */
bool tsr_link_arm(struct tsr_link *link);
int tsr_link_disarm(struct tsr_link *link);

/* Looks whether the engine is still there. One system call. 0, or a negative errno as above. */
int tsr_link_check(struct tsr_link *link);

/* Whether the calling thread may poll without taking a CPU from the engine: its affinity is
 * disjoint from hello.engine_cpus, and these are known. One system call. */
bool tsr_link_may_poll(const struct tsr_link *link);

#endif
