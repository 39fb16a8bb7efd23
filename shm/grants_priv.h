/* Grants: what each user has taken from the door, and whether it may take more. One thread. */
#ifndef TSR_SHM_GRANTS_PRIV_H
#define TSR_SHM_GRANTS_PRIV_H

#include <tsr/shm/door.h>

enum { GRANTS_USERS_MAX = 512, GRANTS_HANDSHAKES_MAX = 8 };

struct grants_user {
    uint32_t uid;
    uint32_t channels;   /* granted, open or in their handshake */
    uint32_t handshakes; /* connections that were not opened yet */
    uint64_t bytes;      /* of their regions */
    uint64_t drained_ns; /* a leaky bucket of grants: it would be empty then */
    bool used;
};

struct grants {
    struct grants_user users[GRANTS_USERS_MAX];
    uint32_t channels;
    uint64_t bytes;
};

/* A connection of `uid` before its grant: at most GRANTS_HANDSHAKES_MAX at a time. -EAGAIN with a
 * sentence. */
int grants_knock(struct grants *grants, uint32_t uid, uint64_t now_ns, struct tsr_err *err);

/* The connection ended, or its channel opened. */
void grants_knock_end(struct grants *grants, uint32_t uid);

/* One channel with `bytes` of regions for a uid that has knocked. -EAGAIN with a sentence and
 * *retry_ms. */
int grants_take(struct grants *grants, uint32_t uid, const struct tsr_door_class *class,
                uint32_t channels_max, uint64_t bytes, uint64_t now_ns, uint32_t *retry_ms,
                struct tsr_err *err);

/* The channel was closed. */
void grants_give(struct grants *grants, uint32_t uid, uint64_t bytes);

#endif
