#include "cid_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include <tsr/http3/http3.h>

struct tsr_http3_cid {
    struct tsr_http3_cid *next; /* of its bucket; of those that are free */
    struct tsr_http3_cid *next_of_owner;
    struct tsr_http3_owner *owner;
    uint8_t size;
    uint8_t id[NGTCP2_MAX_CIDLEN];
};

/* SipHash-2-4 (Aumasson and Bernstein, 2012). */
static uint64_t rotate(uint64_t x, unsigned n)
{
    return x << n | x >> (64 - n);
}

static void sip_round(uint64_t v[4])
{
    v[0] += v[1];
    v[2] += v[3];
    v[1] = rotate(v[1], 13) ^ v[0];
    v[3] = rotate(v[3], 16) ^ v[2];
    v[0] = rotate(v[0], 32);
    v[2] += v[1];
    v[0] += v[3];
    v[1] = rotate(v[1], 17) ^ v[2];
    v[3] = rotate(v[3], 21) ^ v[0];
    v[2] = rotate(v[2], 32);
}

static uint64_t sip_hash(const uint64_t secret[2], const uint8_t *bytes, size_t size)
{
    uint64_t v[4] = {
        secret[0] ^ 0x736f6d6570736575u,
        secret[1] ^ 0x646f72616e646f6du,
        secret[0] ^ 0x6c7967656e657261u,
        secret[1] ^ 0x7465646279746573u,
    };
    for (size_t at = 0; at <= size; at += 8) {
        uint64_t word = 0;
        size_t n = size - at < 8 ? size - at : 8;
        memcpy(&word, bytes + at, n);
        word |= n < 8 ? (uint64_t)size << 56 : 0;
        v[3] ^= word;
        sip_round(v);
        sip_round(v);
        v[0] ^= word;
    }
    v[2] ^= 0xff;
    for (int i = 0; i < 4; i++) {
        sip_round(v);
    }
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

int tsr_http3_cids_init(struct tsr_http3_cids *cids, uint32_t owners, struct tsr_err *err)
{
    size_t n = (size_t)owners * TSR_HTTP3_CIDS_EACH;
    size_t buckets = 64;
    while (buckets < n) {
        buckets *= 2;
    }
    *cids = (struct tsr_http3_cids){
        .mask = (uint32_t)(buckets - 1),
        .buckets = calloc(buckets, sizeof *cids->buckets),
        .entries = calloc(n, sizeof *cids->entries),
    };
    if (!cids->buckets || !cids->entries ||
        getrandom(cids->secret, sizeof cids->secret, 0) != sizeof cids->secret) {
        return tsr_err_set(err, -ENOMEM, "http3: no memory for %zu connection ids", n);
    }
    for (size_t i = 0; i < n; i++) {
        cids->entries[i].next = i + 1 < n ? &cids->entries[i + 1] : NULL;
    }
    cids->free = cids->entries;
    return 0;
}

void tsr_http3_cids_fini(struct tsr_http3_cids *cids)
{
    free(cids->buckets);
    free(cids->entries);
}

static struct tsr_http3_cid **place_of(const struct tsr_http3_cids *cids, const uint8_t *id,
                                       size_t size)
{
    struct tsr_http3_cid **at = &cids->buckets[sip_hash(cids->secret, id, size) & cids->mask];
    while (*at && !((*at)->size == size && memcmp((*at)->id, id, size) == 0)) {
        at = &(*at)->next;
    }
    return at;
}

struct tsr_http3_owner *tsr_http3_cids_find(const struct tsr_http3_cids *cids, const uint8_t *id,
                                            size_t size)
{
    const struct tsr_http3_cid *cid = size <= NGTCP2_MAX_CIDLEN ? *place_of(cids, id, size) : NULL;
    return cid ? cid->owner : NULL;
}

bool tsr_http3_cids_add(struct tsr_http3_cids *cids, struct tsr_http3_owner *owner,
                        const uint8_t *id, size_t size)
{
    struct tsr_http3_cid *cid = cids->free;
    struct tsr_http3_cid **at = place_of(cids, id, size);
    if (!cid || *at) {
        return false;
    }
    cids->free = cid->next;
    *cid = (struct tsr_http3_cid){
        .next_of_owner = owner->cids,
        .owner = owner,
        .size = (uint8_t)size,
    };
    memcpy(cid->id, id, size);
    owner->cids = cid;
    *at = cid;
    return true;
}

static void remove_at(struct tsr_http3_cids *cids, struct tsr_http3_cid **of_owner)
{
    struct tsr_http3_cid *cid = *of_owner;
    *of_owner = cid->next_of_owner;
    *place_of(cids, cid->id, cid->size) = cid->next;
    cid->next = cids->free;
    cids->free = cid;
}

void tsr_http3_cids_remove(struct tsr_http3_cids *cids, struct tsr_http3_owner *owner,
                           const uint8_t *id, size_t size)
{
    for (struct tsr_http3_cid **at = &owner->cids; *at; at = &(*at)->next_of_owner) {
        if ((*at)->size == size && memcmp((*at)->id, id, size) == 0) {
            remove_at(cids, at);
            return;
        }
    }
}

void tsr_http3_cids_remove_all(struct tsr_http3_cids *cids, struct tsr_http3_owner *owner)
{
    while (owner->cids) {
        remove_at(cids, &owner->cids);
    }
}

void tsr_http3_cids_hand_over(struct tsr_http3_owner *from, struct tsr_http3_owner *to)
{
    to->cids = from->cids;
    from->cids = NULL;
    for (struct tsr_http3_cid *cid = to->cids; cid; cid = cid->next_of_owner) {
        cid->owner = to;
    }
}

/* ---- Queues ---- */

/* RFC 9000, 17.2.4; RFC 9369, 3.2. A client names in it what it was given, unlike in an Initial. */
static bool is_handshake(const uint8_t *bytes)
{
    static const uint8_t v2[4] = {0x6b, 0x33, 0x43, 0xcf};
    return (bytes[0] >> 4 & 3) == (memcmp(bytes + 1, v2, sizeof v2) == 0 ? 3 : 2);
}

uint32_t tsr_http3_queue_of(const struct tsr_datagram *datagram, uint32_t here)
{
    const uint8_t *bytes = datagram->bytes;
    enum { LONG_BYTES = 6 + TSR_HTTP3_CID_BYTES };
    if (datagram->size < LONG_BYTES) { /* as short as no packet is */
        return here;
    }
    if (!(bytes[0] & 0x80)) {
        return bytes[1];
    }
    return bytes[5] == TSR_HTTP3_CID_BYTES && is_handshake(bytes) ? bytes[6] : here;
}
