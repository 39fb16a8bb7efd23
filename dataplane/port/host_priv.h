/* A host on a link, without the link: what a frame that came means, what is answered to it, and
 * what stands in front of a datagram that goes. One thread. */
#ifndef TSR_PORT_HOST_PRIV_H
#define TSR_PORT_HOST_PRIV_H

#include "frame_priv.h"
#include "neighbour_priv.h"

enum {
    TSR_HOST_ANSWERS_PER_SECOND = 1000, /* to neighbours' questions, and as many echoes, so that a
                                           flood of them costs little */
    TSR_HOST_ASKS_PER_SECOND = 100,
    TSR_HOST_ASK_BYTES = TSR_ETHERNET_BYTES + TSR_VLAN_BYTES + TSR_IPV6_BYTES + 32,
};

struct tsr_host {
    struct tsr_port_listen listen[TSR_PORT_LISTEN_MAX];
    uint32_t n_listen;
    uint16_t vlan;
    uint16_t mtu;
    bool is_alone; /* the kernel has no part in these addresses: ARP, ND and ICMP are ours */
    bool device_sums;
    uint8_t mac[TSR_MAC_BYTES];
    uint64_t now_ns;
    uint64_t second; /* of now_ns; what the counts below belong to */
    uint32_t answers, echoes, asks;
    struct tsr_neighbours neighbours;
};

/* What a frame came to. */
struct tsr_host_result {
    enum tsr_port_drop drop;
    bool is_datagram;
    uint32_t
        answer_bytes; /* not 0: the frame's buffer holds an answer of so many bytes, to be sent */
    struct tsr_datagram datagram;
};

/* The neighbours' key is drawn; everything else is the caller's to fill in before. */
int tsr_host_init(struct tsr_host *host, struct tsr_err *err);

/* One frame. bytes has room for `capacity`: an answer may be longer than its question. */
void tsr_host_take(struct tsr_host *host, struct tsr_host_result *result, uint8_t *bytes,
                   uint32_t size, uint32_t capacity, unsigned good);

/* Who sent an IP packet to target is behind the Ethernet address that it came from. But what a
 * gateway has forwarded says nothing of who is on the link: else anyone far away could turn the
 * packets for a neighbour away from it, by its address. Done by tsr_host_take(). */
void tsr_host_hear(struct tsr_host *host, uint8_t family, const uint8_t *target,
                   const uint8_t *source, const uint8_t *mac);

/* Largest UDP payload to there; 0: the next hop is not known. */
uint32_t tsr_host_reach(struct tsr_host *host, const struct tsr_path *path);

/* Headers in front of a payload to where tsr_host_reach() just said that it goes. Returns the
 * frame's first byte. */
uint8_t *tsr_host_write(struct tsr_host *host, const struct tsr_path *path, uint8_t *payload,
                        uint32_t size, uint8_t ecn);

/* Where tsr_host_reach() said 0 and the host is alone: the question for the next hop (ARP, or
 * neighbour solicitation), of at most TSR_HOST_ASK_BYTES. 0: not now. */
uint32_t tsr_host_ask(struct tsr_host *host, const struct tsr_path *path, uint8_t *bytes);

#endif
