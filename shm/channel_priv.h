/* What the door and the channel share: the door fills a channel in, the channel's functions use it.
 * Ownership is split: `ring side` belongs to the owner's thread once TSR_DOOR_OPENED was reported,
 * `door side` always to the control thread. The socket is sent to by both, received from by the
 * control thread only. */
#ifndef TSR_SHM_CHANNEL_PRIV_H
#define TSR_SHM_CHANNEL_PRIV_H

#include <tsr/shm/channel.h>
#include <tsr/shm/door.h>
#include <tsr/shm/region.h>

enum channel_state {
    CHANNEL_GREETING, /* connected, has not greeted */
    CHANNEL_GRANTED,  /* has the descriptors, is not ready */
    CHANNEL_OPEN,
    CHANNEL_GONE, /* reported to the owner, who will close it */
    CHANNEL_LEFT, /* over, but the client has not taken the descriptors that were sent to it */
};

struct tsr_channel {
    /* Ring side. */
    struct tsr_ring_consumer in;
    struct tsr_ring_producer out;
    const struct tsr_request_ctl *client; /* foreign: the client writes it */
    struct tsr_event_ctl *ctl;            /* ours */
    int guards[2];                        /* of the regions, for tsr_guard_failed() */
    uint32_t live;
    uint64_t starved_bytes; /* the least room that was not there since it was last found, 0: none */
    bool read_blocked;      /* a request waits whose refusal would find no room */
    bool shown;             /* events that the client has not been woken for */
    bool final_reserved;    /* the reserved event ends a live request */
    bool broken;
    char why[256];
    void *owner;

    /* Set before the channel is handed over, then read-only. */
    int fd;
    struct tsr_channel_peer peer;

    /* Door side. */
    struct tsr_region requests;
    struct tsr_region events;
    enum channel_state state;
    const struct tsr_door_class *class;
    uint64_t deadline_ns; /* of the handshake */
    char offence[128];    /* what the door found the client doing, "" for nothing */
    uint64_t granted_bytes;
    uint64_t bells_since_ns;
    uint32_t bells;
    struct tsr_channel *previous;
    struct tsr_channel *next;
};

/* Room that is set aside for `live` final events, wherever the ring's end lies. */
static inline uint64_t channel_reserve_bytes(uint32_t live)
{
    return (uint64_t)live * TSR_WIRE_FINAL_BYTES_MAX + TSR_WIRE_FINAL_BYTES_MAX - TSR_RING_ALIGN;
}

/* Once both regions are filled by the client: formats the event region's control page, makes the
 * rings. */
void channel_format(struct tsr_channel *channel);

#endif
