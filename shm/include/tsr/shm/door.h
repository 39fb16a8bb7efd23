/* The door: the engine's one entrance. A Unix seqpacket socket that checks who knocks, hands out
 * channels, sees clients die, and limits what one user can take.
 *
 * The door has no thread: the control thread waits on tsr_door_fd() (an epoll descriptor, readable
 * when there is something to do) and calls tsr_door_step(). All functions here are for that thread.
 * None blocks.
 *
 * A client that connects greets (wire.h), is granted two fresh regions, faults them in, and says it
 * is ready; the door then looks whether every page is there, and whether the client made them (the
 * engine has touched none). The engine receives without a control buffer: descriptors sent to it
 * are dropped by the kernel. A client has TSR_DOOR_HANDSHAKE_MS for all that.
 *
 * Limits are per uid: open channels, grants in the last minute, bytes of regions in open channels.
 * They count a channel from its grant to its close. */
#ifndef TSR_SHM_DOOR_H
#define TSR_SHM_DOOR_H

#include <tsr/shm/channel.h>
#include <tsr/shm/err.h>
#include <tsr/shm/wire.h>

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct tsr_door;

enum {
    TSR_DOOR_HANDSHAKE_MS = 5000,
    TSR_DOOR_PENDING_MAX =
        64, /* connections in their handshake; more wait in the kernel's backlog */
    TSR_DOOR_RULES_MAX = 16,
    TSR_DOOR_BELLS_PER_SECOND = 20000, /* a client that rings more often is dropped */
    TSR_DOOR_AUDIT_MS = 1000,          /* how often open channels are looked at for punched holes */
};

/* What a peer that a rule lets in may have. tsr_door_class_init() gives the defaults in brackets.
 */
struct tsr_door_class {
    uint32_t request_ring_bytes; /* power of two, 64 KiB .. 16 MiB [64 KiB] */
    uint32_t event_ring_bytes;   /* power of two, 64 KiB .. 64 MiB [128 KiB] */
    uint32_t requests_max; /* live per channel [64]; their reserve must fit half the event ring */
    uint32_t channels_max; /* per uid [32] */
    uint32_t grants_per_minute; /* per uid [600] */
    uint64_t bytes_max;         /* of regions, per uid [64 MiB] */
    uint8_t priority_max;       /* [255] */
    bool tenants;               /* may speak for other tenants [false] */
};

enum tsr_door_match { TSR_DOOR_UID, TSR_DOOR_GID };

struct tsr_door_rule {
    enum tsr_door_match match; /* GID: the peer's group or one of its supplementary groups */
    uint32_t id;
    struct tsr_door_class class;
};

/* The first rule that matches counts; a peer that none matches is refused. */
struct tsr_door_policy {
    struct tsr_door_rule rules[TSR_DOOR_RULES_MAX];
    uint32_t rule_count;
    uint32_t channels_max; /* in all [1024] */
};

void tsr_door_class_init(struct tsr_door_class *class);

/* The default policy: root, the caller's effective uid, and group `tessera` where the system has
 * one, each with the default class. */
void tsr_door_policy_init(struct tsr_door_policy *policy);

/* Adds a rule in front of the others. -ENOSPC. */
int tsr_door_policy_add(struct tsr_door_policy *policy, enum tsr_door_match match, uint32_t id,
                        const struct tsr_door_class *class);

/* Opens the door at `path` (e.g. /run/tessera/engine.sock). Its directory is created where it is
 * missing (one level): 0750 with group `tessera` where the system has one and the caller may, 0755
 * where the policy names anyone beyond the default; a directory that is there stays as it is, with
 * a warning where others may write to it. A dead socket file at the path is replaced; a live one is
 * -EADDRINUSE. The socket itself is 0666: the directory and the policy decide. Installs the SIGBUS
 * guard. Copies policy. `policy` NULL: the default. Errors carry the path and what to do. */
int tsr_door_open(struct tsr_door **door, const char *path, const struct tsr_door_policy *policy,
                  struct tsr_err *err);

/* Closes all, telling each client `why`; unlinks the path if it is still ours. Channels that were
 * handed out must have been closed before. NULL is ignored. */
void tsr_door_destroy(struct tsr_door *door, const char *why);

/* Until the first tsr_door_set_hello(), clients that greet get TSR_LOADING with this. permille 0 ..
 * 1000. */
void tsr_door_set_loading(struct tsr_door *door, uint32_t permille, const char *text);

/* What channels opened from now on are told first; copied. The door fills in what is the channel's
 * own. */
void tsr_door_set_hello(struct tsr_door *door, const struct tsr_wire_hello *hello);

/* No new channels from now on; who knocks is refused with this sentence. NULL: open again. */
void tsr_door_set_refusing(struct tsr_door *door, const char *why);

/* Readable when tsr_door_step() has something to do. */
int tsr_door_fd(const struct tsr_door *door);

/* Milliseconds until tsr_door_step() should be called even if the descriptor stays quiet; -1:
 * never. */
int tsr_door_timeout_ms(const struct tsr_door *door);

enum tsr_door_event_kind {
    TSR_DOOR_OPENED, /* a channel is ready: its HELLO is written and shown */
    TSR_DOOR_BELL,   /* its client rang: the engine was armed and a request waits */
    TSR_DOOR_GONE,   /* its client hung up or broke the contract: stop using the channel, then
                        tsr_door_close */
};

struct tsr_door_event {
    enum tsr_door_event_kind kind;
    struct tsr_channel *channel;
    char why[128]; /* GONE: a sentence */
};

/* Does what is to be done now: accepts, shakes hands, hears bells, sees deaths, audits. Returns the
 * number of events, at most `max`; call again while it returns `max`. A channel reports GONE once;
 * it stays valid until tsr_door_close(). Failures that concern one client are logged (log.h), with
 * their reason. */
int tsr_door_step(struct tsr_door *door, struct tsr_door_event *events, int max);

/* Closes a channel: tells the client `why` (NULL: the channel's own reason, or nothing), hangs up,
 * gives the memory back. The thread that used the channel must be done with it. */
void tsr_door_close(struct tsr_door *door, struct tsr_channel *channel, const char *why);

/* For status and tests. */
struct tsr_door_stats {
    uint32_t channels; /* open */
    uint32_t pending;  /* in their handshake */
    uint64_t opened;   /* since the start */
    uint64_t refused;  /* by policy, limit or version */
    uint64_t dropped;  /* broke the contract */
    uint64_t bytes;    /* of regions now */
};

void tsr_door_stats(const struct tsr_door *door, struct tsr_door_stats *stats);

#endif
