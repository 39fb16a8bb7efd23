/* Frames as bytes: Ethernet with at most one VLAN tag, IPv4, IPv6, UDP. Nothing here keeps state.
 */
#ifndef TSR_PORT_FRAME_PRIV_H
#define TSR_PORT_FRAME_PRIV_H

#include <tsr/port/port.h>

enum {
    TSR_MAC_BYTES = 6,
    TSR_ETHERNET_BYTES = 14,
    TSR_VLAN_BYTES = 4,
    TSR_IPV4_BYTES = 20,
    TSR_IPV6_BYTES = 40,
    TSR_UDP_BYTES = 8,
    TSR_FRAME_MIN = 60, /* shorter ones are filled up with zeros */

    TSR_ETHERTYPE_IPV4 = 0x0800,
    TSR_ETHERTYPE_ARP = 0x0806,
    TSR_ETHERTYPE_VLAN = 0x8100,
    TSR_ETHERTYPE_IPV6 = 0x86dd,

    TSR_PROTOCOL_ICMP = 1,
    TSR_PROTOCOL_UDP = 17,
    TSR_PROTOCOL_ICMPV6 = 58,
};

/* What the device has already checked. */
enum { TSR_FRAME_IP_GOOD = 1, TSR_FRAME_UDP_GOOD = 2 };

/* A frame that was read. Offsets count from its first byte; all lie within `end`. */
struct tsr_frame {
    uint8_t *bytes;
    uint32_t end;  /* of the IP or ARP packet; what Ethernet filled up behind it is not counted */
    uint32_t ip;   /* where the IP or ARP packet begins */
    uint32_t body; /* where what IP carries begins */
    uint16_t ethertype;
    uint16_t vlan; /* 0: none */
    uint8_t protocol;
    uint8_t family; /* 4, 6; 0: ARP */
    uint8_t hops;   /* time to live, hop limit */
    uint8_t ecn;
    unsigned good;
};

/* Ethernet, VLAN, and IP with all that it says of lengths, checksum, fragments and sources. */
enum tsr_port_drop tsr_frame_read(struct tsr_frame *frame, uint8_t *bytes, uint32_t size,
                                  unsigned good);

/* A frame whose protocol is UDP; datagram's bytes then lie in the frame. */
enum tsr_port_drop tsr_frame_read_udp(const struct tsr_frame *frame, struct tsr_datagram *datagram);

/* The frame's IP addresses, 4 or 16 bytes. */
const uint8_t *tsr_frame_source(const struct tsr_frame *frame);
const uint8_t *tsr_frame_target(const struct tsr_frame *frame);

/* What goes in front of a UDP payload. */
struct tsr_frame_head {
    const struct tsr_path *path;
    const uint8_t *to, *from; /* MAC */
    uint16_t vlan;
    uint8_t ecn;
    bool device_sums; /* the device fills in both checksums: only UDP's pseudo header is summed */
};

/* Bytes of headers in front of a payload. */
uint32_t tsr_frame_head_bytes(uint8_t family, uint16_t vlan);

/* Writes the headers in front of the `size` bytes of payload; returns the frame's first byte. */
uint8_t *tsr_frame_write(uint8_t *payload, uint32_t size, const struct tsr_frame_head *head);

/* Ethernet and its tag; returns what follows them. */
uint8_t *tsr_frame_write_ethernet(uint8_t *bytes, const uint8_t *to, const uint8_t *from,
                                  uint16_t vlan, uint16_t ethertype);

/* The Internet checksum (RFC 1071), to be stored as it is: 0 where the bytes with their checksum
 * are right. */
uint16_t tsr_sum(const uint8_t *bytes, uint32_t size);
/* With IPv6's pseudo header, addresses at ip[8..39]. */
uint16_t tsr_sum_ipv6(const uint8_t *ip, uint8_t protocol, const uint8_t *body, uint32_t size);

static inline uint32_t tsr_ip_bytes(uint8_t family)
{
    return family == 4 ? 4 : 16;
}

static inline uint16_t tsr_get16(const uint8_t *bytes)
{
    return (uint16_t)(bytes[0] << 8 | bytes[1]);
}

static inline void tsr_put16(uint8_t *bytes, uint32_t value)
{
    bytes[0] = (uint8_t)(value >> 8);
    bytes[1] = (uint8_t)value;
}

#endif
