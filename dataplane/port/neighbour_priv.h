/* Which Ethernet address an IP address is behind, and how large packets to it may be. Learnt from
 * the packets that come: a server needs no more than the way back.
 *
 * A fixed number of entries in sets of a few. Who is heard of often stays: a new address takes the
 * place of the one in its set that is heard of least, so a flood from forged addresses competes
 * with itself. Where an address falls is keyed by a random number. */
#ifndef TSR_PORT_NEIGHBOUR_PRIV_H
#define TSR_PORT_NEIGHBOUR_PRIV_H

#include "frame_priv.h"

enum {
    TSR_NEIGHBOUR_WAYS = 8,
    TSR_NEIGHBOUR_SETS = 2048,
    TSR_NEIGHBOUR_MTU_SECONDS = 600, /* how long a path's smaller MTU is believed (RFC 8201, 4) */
};

struct tsr_neighbour {
    uint8_t ip[16];
    uint8_t mac[TSR_MAC_BYTES];
    uint8_t family; /* 0: free */
    uint8_t heard;  /* how often, up to 255, fading as others want its place */
    uint16_t mtu;   /* 0: the link's */
    uint16_t reserved;
    uint32_t mtu_until_s;
};

struct tsr_neighbours {
    uint64_t key[2];
    uint32_t turn; /* whose count fades next */
    struct tsr_neighbour entries[TSR_NEIGHBOUR_SETS][TSR_NEIGHBOUR_WAYS];
};

/* Only a neighbour that is known; NULL otherwise. ip: 4 or 16 bytes, by family. */
struct tsr_neighbour *tsr_neighbour_find(struct tsr_neighbours *neighbours, uint8_t family,
                                         const uint8_t *ip);

/* A packet of ip's came from mac. */
void tsr_neighbour_hear(struct tsr_neighbours *neighbours, uint8_t family, const uint8_t *ip,
                        const uint8_t *mac);

#endif
