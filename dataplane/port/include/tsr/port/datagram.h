/* Datagrams, as a port gives them and takes them: what port/ and http3/ know of each other. No DPDK
 * and no QUIC in it. */
#ifndef TSR_PORT_DATAGRAM_H
#define TSR_PORT_DATAGRAM_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* An IP address with a UDP port. */
struct tsr_address {
    uint8_t ip[16]; /* IPv4: the first four, the rest zero. Network order */
    uint16_t port;  /* host order */
    uint8_t family; /* 4 or 6 */
    uint8_t reserved;
};

static_assert(sizeof(struct tsr_address) == 20, "compared and hashed as bytes");

/* Between two addresses, as seen from here. */
struct tsr_path {
    struct tsr_address local;
    struct tsr_address remote;
};

/* One datagram that came. */
struct tsr_datagram {
    struct tsr_path path;
    const uint8_t *bytes; /* UDP payload; valid during the call, and may be written to */
    uint32_t size;
    uint8_t ecn;    /* the two bits of the IP header */
    uint8_t hop[6]; /* the Ethernet address that it came from; zero where the port has none */
};

/* Where datagrams go. room() gives memory for one UDP payload, straight in what will be sent; every
 * room is followed by send() or left alone before the next. Nothing waits: what cannot be sent now
 * is not asked for, or lost as any datagram may be. */
struct tsr_datagram_way {
    /* *capacity: largest payload that this path's link carries. NULL: no room until the next turn;
     * with a capacity of 0 for this path alone, whose neighbour is not known (counted by the port).
     */
    uint8_t *(*room)(void *port, const struct tsr_path *path, size_t *capacity);
    void (*send)(void *port, const struct tsr_path *path, size_t size, uint8_t ecn);
};

#endif
