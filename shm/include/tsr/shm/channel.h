/* Channels, the engine's end: reads requests, writes events, keeps room for what must come.
 *
 * A channel is made by the door (door.h) on the control thread and then belongs to one other thread
 * at a time (the frontend): every function below is for that thread. Reading and writing make no
 * system call; tsr_channel_flush() makes one where the client sleeps.
 *
 * The client is hostile. What it can do wrong ends in -EPROTO and a sentence from
 * tsr_channel_why(), for good: the channel reads and writes nothing from then on, and the owner
 * hands it back to the door (tsr_door_close). Nothing that a client does or leaves undone blocks or
 * delays a call.
 *
 * Room: the event ring is shared by all requests of the channel. Of its bytes
 *
 *     reserve = (live + TSR_CHANNEL_SPARE) * TSR_WIRE_FINAL_BYTES_MAX + one padding
 *
 * are only for final events, so that each live request can be ended whatever the client has left
 * unread; and no request record is read unless its refusal could be written. So:
 * tsr_channel_begin() for each request that becomes live, then ordinary events as far as
 * tsr_channel_reserve() gives room, then exactly one tsr_channel_reserve_final() ...
 * tsr_channel_commit(), which ends it. */
#ifndef TSR_SHM_CHANNEL_H
#define TSR_SHM_CHANNEL_H

#include <tsr/shm/err.h>
#include <tsr/shm/ring.h>
#include <tsr/shm/wire.h>

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct tsr_channel;

enum { TSR_CHANNEL_SPARE = 4 };

/* Who is on the other side, as the kernel said (SO_PEERCRED) and the policy decided. */
struct tsr_channel_peer {
    pid_t pid;
    uid_t uid;
    gid_t gid;
    bool tenants;          /* may speak for other tenants */
    uint8_t priority_max;  /* clamp of a request's priority */
    uint32_t requests_max; /* live requests on this channel */
    uint64_t id;           /* of the channel, unique in this engine's life; for logs */
    char name[64];         /* as the client calls itself; printable ASCII, not to be believed */
};

const struct tsr_channel_peer *tsr_channel_peer(const struct tsr_channel *channel);

/* A word for the owner's session; NULL at first. */
void tsr_channel_set_owner(struct tsr_channel *channel, void *owner);
void *tsr_channel_owner(const struct tsr_channel *channel);

/* ---- Requests ---- */

/* Copies the next request record into `out` (64-aligned, TSR_WIRE_RECORD_BYTES_MAX bytes) and
 * checks it (tsr_wire_check). Returns 1        *request points into `out`; 0        nothing waits,
 * or there is no room for the final event that it might need: look again later; -EINVAL  the
 * request is wrong: err says why, request->request names it (0: none); the record is consumed;
 * answer with an ERROR, go on; -EPROTO  the peer broke the contract: tsr_channel_why(). */
int tsr_channel_read(struct tsr_channel *channel, void *out, struct tsr_wire_request *request,
                     struct tsr_err *err);

/* Whether a request record waits. One look at one cache line. */
bool tsr_channel_has_request(const struct tsr_channel *channel);

/* ---- Events ---- */

/* Counts one more live request and sets the room of its final event aside. -EBUSY when
 * peer->requests_max are live; -EAGAIN when the client has left too much unread for another
 * reserve; -EPROTO. */
int tsr_channel_begin(struct tsr_channel *channel);

/* Live requests. */
uint32_t tsr_channel_live(const struct tsr_channel *channel);

/* Space for an ordinary event of `bytes` (its struct tsr_record included), outside the reserve.
 * Returns it (8-aligned; fill everything after the struct tsr_record), or NULL when there is no
 * room now, or the channel is broken. */
void *tsr_channel_reserve(struct tsr_channel *channel, uint32_t bytes);

/* Space for the final event of a live request (`live`), or for an ERROR to a request that never
 * became live, out of the spare. For a live request never NULL unless the channel is broken; for
 * others NULL means that nothing can be said (cannot happen right after tsr_channel_read() gave the
 * request). `bytes` at most TSR_WIRE_FINAL_BYTES_MAX. With `live`, tsr_channel_commit() ends the
 * request. */
void *tsr_channel_reserve_final(struct tsr_channel *channel, bool live, uint32_t bytes);

/* Adds the event last reserved to the batch; `bytes` <= what was reserved. */
void tsr_channel_commit(struct tsr_channel *channel, enum tsr_wire_type type, uint32_t bytes);

/* Shows the batch to a client that polls. One that sleeps waits for tsr_channel_flush(). */
void tsr_channel_show(struct tsr_channel *channel);

/* Shows the batch to the client and wakes it if it sleeps: once a step for each channel written to.
 * At most one system call, none when the client polls. Returns the number of system calls made. */
int tsr_channel_flush(struct tsr_channel *channel);

/* Shorthands over the above: an ERROR for a request that is not live (request 0: about the channel)
 * or for a live one. False when it could not be said. Not flushed. `format` makes the sentence. */
__attribute__((format(printf, 6, 7))) bool tsr_channel_error(struct tsr_channel *channel, bool live,
                                                             uint64_t request, enum tsr_code code,
                                                             uint32_t retry_ms, const char *format,
                                                             ...);

/* The DONE of a live request. `done`: everything but record, text_bytes and text; text may be NULL.
 * False only when the channel is broken. Not flushed. */
bool tsr_channel_done(struct tsr_channel *channel, const struct tsr_wire_done *done,
                      const char *text);

/* ---- Sleeping ---- */

/* The engine wants to sleep: from now on the client rings. Returns true when it may sleep as far as
 * this channel goes; false when there is something to do (and takes the flag back): a request
 * waits, or an event that found no room has room now. */
bool tsr_channel_arm(struct tsr_channel *channel);

/* Whether an attempt to read or reserve found the event ring too full, since it was last found to
 * have room by tsr_channel_arm(). A client rings when it has read events and the engine sleeps
 * starved, but nothing makes it: while any channel is starved, sleep for a bounded time (20 ms,
 * say) and look again. */
bool tsr_channel_is_starved(const struct tsr_channel *channel);

/* The engine is awake. */
void tsr_channel_disarm(struct tsr_channel *channel);

/* ---- Health ---- */

/* Whether the peer broke the contract, and the sentence for it ("" when it did not). */
bool tsr_channel_is_broken(const struct tsr_channel *channel);
const char *tsr_channel_why(const struct tsr_channel *channel);

/* Breaks the channel from the owner's side with a sentence (a session that finds a lie in the order
 * of records). The first sentence stays. */
__attribute__((format(printf, 2, 3))) void tsr_channel_break(struct tsr_channel *channel,
                                                             const char *format, ...);

#endif
