/* Connection ids (RFC 9000, 5.1) and whose they are. Hashed with a secret, since clients choose
 * some of them. */
#ifndef TSR_HTTP3_CID_PRIV_H
#define TSR_HTTP3_CID_PRIV_H

#include "timer_priv.h"

#include <ngtcp2/ngtcp2.h>

#include <tsr/shm/err.h>

enum { TSR_HTTP3_CIDS_EACH = 12 }; /* of a connection: ngtcp2 has up to 8, and those that end */

struct tsr_http3_cid;

/* A connection, or what is left of one: the beginning of both. */
struct tsr_http3_owner {
    struct tsr_http3_timer timer;
    struct tsr_http3_cid *cids;
    bool is_closed; /* struct tsr_http3_closed */
};

struct tsr_http3_cids {
    uint64_t secret[2];
    uint32_t mask;
    struct tsr_http3_cid **buckets;
    struct tsr_http3_cid *entries;
    struct tsr_http3_cid *free;
};

int tsr_http3_cids_init(struct tsr_http3_cids *cids, uint32_t owners, struct tsr_err *err);
void tsr_http3_cids_fini(struct tsr_http3_cids *cids);

/* NULL: nobody's. */
struct tsr_http3_owner *tsr_http3_cids_find(const struct tsr_http3_cids *cids, const uint8_t *id,
                                            size_t size);

/* false: no entry is left, or it is somebody's already. */
bool tsr_http3_cids_add(struct tsr_http3_cids *cids, struct tsr_http3_owner *owner,
                        const uint8_t *id, size_t size);
void tsr_http3_cids_remove(struct tsr_http3_cids *cids, struct tsr_http3_owner *owner,
                           const uint8_t *id, size_t size);
void tsr_http3_cids_remove_all(struct tsr_http3_cids *cids, struct tsr_http3_owner *owner);

/* All that `from` has; `to` has none. */
void tsr_http3_cids_hand_over(struct tsr_http3_owner *from, struct tsr_http3_owner *to);

#endif
