#include <tsr/api/peers.h>

#include <errno.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

/* A peer is on the chain of its bucket while conns > 0, else on the list of those that are free. */
struct peer {
    uint64_t key;
    uint32_t conns;
    uint32_t next;
};

struct tsr_peers {
    uint32_t per_address;
    uint32_t mask;
    uint32_t free;
    uint64_t secret; /* so that nobody chooses addresses of one bucket */
    uint32_t *buckets;
    struct peer *peers;
};

int tsr_peers_create(struct tsr_peers **out, uint32_t conns_max, uint32_t per_address,
                     struct tsr_err *err)
{
    struct tsr_peers *peers = calloc(1, sizeof *peers);
    uint32_t buckets = 64;
    while (buckets < conns_max) {
        buckets *= 2;
    }
    if (peers) {
        peers->buckets = malloc(buckets * sizeof *peers->buckets);
        peers->peers = malloc(conns_max * sizeof *peers->peers);
    }
    if (!peers || !peers->buckets || !peers->peers ||
        getrandom(&peers->secret, sizeof peers->secret, 0) != sizeof peers->secret) {
        tsr_peers_destroy(peers);
        return tsr_err_set(err, -ENOMEM, "no memory for the addresses of %u connections",
                           conns_max);
    }
    peers->per_address = per_address;
    peers->mask = buckets - 1;
    memset(peers->buckets, 0xff, buckets * sizeof *peers->buckets);
    for (uint32_t i = 0; i < conns_max; i++) {
        peers->peers[i].next = i + 1 < conns_max ? i + 1 : TSR_PEERS_NONE;
    }
    *out = peers;
    return 0;
}

void tsr_peers_destroy(struct tsr_peers *peers)
{
    if (peers) {
        free(peers->buckets);
        free(peers->peers);
        free(peers);
    }
}

/* The part of an address that counts. false: it has none. */
static bool key_of(const struct sockaddr *address, uint64_t *key)
{
    if (address->sa_family == AF_INET) {
        *key = 0xffff00000000u | ((const struct sockaddr_in *)address)->sin_addr.s_addr;
        return true;
    }
    if (address->sa_family == AF_INET6) {
        memcpy(key, &((const struct sockaddr_in6 *)address)->sin6_addr, sizeof *key);
        return true;
    }
    return false;
}

static uint32_t *bucket_of(struct tsr_peers *peers, uint64_t key)
{
    uint64_t mixed = (key ^ peers->secret) * 0x9e3779b97f4a7c15u;
    mixed = (mixed ^ mixed >> 32 ^ peers->secret << 7) * 0xd6e8feb86659fd93u;
    return &peers->buckets[(mixed >> 32) & peers->mask];
}

int tsr_peers_enter(struct tsr_peers *peers, const struct sockaddr *address, uint32_t *out)
{
    uint64_t key;
    *out = TSR_PEERS_NONE;
    if (!peers->per_address || !key_of(address, &key)) {
        return 0;
    }
    uint32_t *bucket = bucket_of(peers, key);
    uint32_t at = *bucket;
    while (at != TSR_PEERS_NONE && peers->peers[at].key != key) {
        at = peers->peers[at].next;
    }
    if (at == TSR_PEERS_NONE) {
        at = peers->free;
        if (at == TSR_PEERS_NONE) {
            return -EUSERS;
        }
        peers->free = peers->peers[at].next;
        peers->peers[at] = (struct peer){.key = key, .next = *bucket};
        *bucket = at;
    } else if (peers->peers[at].conns >= peers->per_address) {
        return -EUSERS;
    }
    peers->peers[at].conns++;
    *out = at;
    return 0;
}

void tsr_peers_leave(struct tsr_peers *peers, uint32_t peer)
{
    if (peer == TSR_PEERS_NONE || --peers->peers[peer].conns) {
        return;
    }
    uint32_t *at = bucket_of(peers, peers->peers[peer].key);
    while (*at != peer) {
        at = &peers->peers[*at].next;
    }
    *at = peers->peers[peer].next;
    peers->peers[peer].next = peers->free;
    peers->free = peer;
}
