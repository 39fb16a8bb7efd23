#include "frame_priv.h"

#include <string.h>

enum {
    IPV6_HOP_BY_HOP = 0,
    IPV6_ROUTING = 43,
    IPV6_FRAGMENT = 44,
    IPV6_DESTINATION = 60,
    IPV6_EXTENSIONS_MAX = 4,
    IPV4_DONT_FRAGMENT = 0x4000,
    HOPS = 64,
};

/* --- checksums --- */

/* Sums of one's complement do not depend on byte order if they are loaded and stored alike. */
static uint64_t add(uint64_t total, const uint8_t *bytes, uint32_t size)
{
    uint32_t word;
    for (; size >= sizeof word; size -= (uint32_t)sizeof word, bytes += sizeof word) {
        memcpy(&word, bytes, sizeof word);
        total += word;
    }
    word = 0;
    memcpy(&word, bytes, size);
    return total + word;
}

static uint16_t fold(uint64_t total)
{
    while (total >> 16) {
        total = (total & 0xffff) + (total >> 16);
    }
    return (uint16_t)total;
}

uint16_t tsr_sum(const uint8_t *bytes, uint32_t size)
{
    return (uint16_t)~fold(add(0, bytes, size));
}

static uint64_t add_pseudo(const uint8_t *addresses, uint32_t bytes, uint8_t protocol,
                           uint32_t size)
{
    const uint8_t tail[8] = {(uint8_t)(size >> 24),
                             (uint8_t)(size >> 16),
                             (uint8_t)(size >> 8),
                             (uint8_t)size,
                             0,
                             0,
                             0,
                             protocol};
    return add(add(0, addresses, bytes), tail, sizeof tail);
}

uint16_t tsr_sum_ipv6(const uint8_t *ip, uint8_t protocol, const uint8_t *body, uint32_t size)
{
    return (uint16_t)~fold(add(add_pseudo(ip + 8, 32, protocol, size), body, size));
}

/* --- reading --- */

const uint8_t *tsr_frame_source(const struct tsr_frame *frame)
{
    return frame->bytes + frame->ip + (frame->family == 4 ? 12 : 8);
}

const uint8_t *tsr_frame_target(const struct tsr_frame *frame)
{
    return tsr_frame_source(frame) + tsr_ip_bytes(frame->family);
}

/* No host sends from these: RFC 1122, 3.2.1.3; RFC 4291, 2.5 and 2.7. Only a neighbour that looks
 * for its own address sends from none. */
static bool is_source(const struct tsr_frame *frame)
{
    static const uint8_t zeros[16];
    const uint8_t *ip = tsr_frame_source(frame);
    if (frame->family == 4) {
        return ip[0] != 0 && ip[0] != 127 && ip[0] < 224;
    }
    if (memcmp(ip, zeros, 15) == 0 && ip[15] <= 1) {
        return ip[15] == 0 && frame->protocol == TSR_PROTOCOL_ICMPV6;
    }
    return ip[0] != 0xff;
}

static enum tsr_port_drop read_ipv4(struct tsr_frame *frame)
{
    const uint8_t *ip = frame->bytes + frame->ip;
    uint32_t room = frame->end - frame->ip;
    if (room < TSR_IPV4_BYTES) {
        return TSR_PORT_DROP_SHORT;
    }
    uint32_t head = (ip[0] & 0xfu) * 4, total = tsr_get16(ip + 2);
    if (ip[0] >> 4 != 4 || head < TSR_IPV4_BYTES || total < head) {
        return TSR_PORT_DROP_HEADER;
    }
    if (total > room) {
        return TSR_PORT_DROP_SHORT;
    }
    if (!(frame->good & TSR_FRAME_IP_GOOD) && tsr_sum(ip, head)) {
        return TSR_PORT_DROP_CHECKSUM;
    }
    if (tsr_get16(ip + 6) & ~(uint32_t)IPV4_DONT_FRAGMENT) {
        return TSR_PORT_DROP_FRAGMENT; /* more to come, an offset, or the bit that is zero */
    }
    frame->end = frame->ip + total;
    frame->body = frame->ip + head;
    frame->ecn = ip[1] & 3;
    frame->hops = ip[8];
    frame->protocol = ip[9];
    return is_source(frame) ? TSR_PORT_TAKEN : TSR_PORT_DROP_SOURCE;
}

/* Headers between IPv6's own and what it carries. */
static enum tsr_port_drop skip_extensions(struct tsr_frame *frame)
{
    for (int n = 0; n <= IPV6_EXTENSIONS_MAX; n++) {
        const uint8_t *next = frame->bytes + frame->body;
        switch (frame->protocol) {
        case IPV6_FRAGMENT:
            return TSR_PORT_DROP_FRAGMENT;
        case IPV6_HOP_BY_HOP:
            if (n > 0) { /* only the first may be one: RFC 8200, 4.1 */
                return TSR_PORT_DROP_HEADER;
            }
            break;
        case IPV6_ROUTING:
        case IPV6_DESTINATION:
            break;
        default:
            return TSR_PORT_TAKEN;
        }
        if (frame->end - frame->body < 8 || frame->end - frame->body < 8 + next[1] * 8u) {
            return TSR_PORT_DROP_SHORT;
        }
        if (frame->protocol == IPV6_ROUTING && next[3] != 0) {
            return TSR_PORT_DROP_HEADER; /* segments left: we are not a router */
        }
        frame->protocol = next[0];
        frame->body += 8 + next[1] * 8u;
    }
    return TSR_PORT_DROP_HEADER;
}

static enum tsr_port_drop read_ipv6(struct tsr_frame *frame)
{
    const uint8_t *ip = frame->bytes + frame->ip;
    uint32_t room = frame->end - frame->ip;
    if (room < TSR_IPV6_BYTES) {
        return TSR_PORT_DROP_SHORT;
    }
    uint32_t total = TSR_IPV6_BYTES + tsr_get16(ip + 4);
    if (ip[0] >> 4 != 6) {
        return TSR_PORT_DROP_HEADER;
    }
    if (total > room) {
        return TSR_PORT_DROP_SHORT;
    }
    frame->end = frame->ip + total;
    frame->body = frame->ip + TSR_IPV6_BYTES;
    frame->ecn = ip[1] >> 4 & 3;
    frame->protocol = ip[6];
    frame->hops = ip[7];
    enum tsr_port_drop drop = skip_extensions(frame);
    if (drop == TSR_PORT_TAKEN && !is_source(frame)) {
        drop = TSR_PORT_DROP_SOURCE;
    }
    return drop;
}

enum tsr_port_drop tsr_frame_read(struct tsr_frame *frame, uint8_t *bytes, uint32_t size,
                                  unsigned good)
{
    *frame =
        (struct tsr_frame){.bytes = bytes, .end = size, .ip = TSR_ETHERNET_BYTES, .good = good};
    if (size < TSR_ETHERNET_BYTES) {
        return TSR_PORT_DROP_SHORT;
    }
    frame->ethertype = tsr_get16(bytes + 12);
    if (frame->ethertype == TSR_ETHERTYPE_VLAN) {
        frame->ip += TSR_VLAN_BYTES;
        if (size < frame->ip) {
            return TSR_PORT_DROP_SHORT;
        }
        frame->vlan = tsr_get16(bytes + 14) & 0xfff; /* number 0: a priority alone */
        frame->ethertype = tsr_get16(bytes + 16);
    }
    switch (frame->ethertype) {
    case TSR_ETHERTYPE_IPV4:
        frame->family = 4;
        return read_ipv4(frame);
    case TSR_ETHERTYPE_IPV6:
        frame->family = 6;
        return read_ipv6(frame);
    case TSR_ETHERTYPE_ARP:
        return TSR_PORT_TAKEN;
    default:
        return TSR_PORT_DROP_PROTOCOL;
    }
}

static bool is_sum_right(const struct tsr_frame *frame, uint32_t size)
{
    const uint8_t *udp = frame->bytes + frame->body;
    if (udp[6] == 0 && udp[7] == 0) { /* none: IPv4 allows it, IPv6 does not (RFC 8200, 8.1) */
        return frame->family == 4;
    }
    if (frame->good & TSR_FRAME_UDP_GOOD) {
        return true;
    }
    uint64_t pseudo = add_pseudo(tsr_frame_source(frame), 2 * tsr_ip_bytes(frame->family),
                                 TSR_PROTOCOL_UDP, size);
    return fold(add(pseudo, udp, size)) == 0xffff;
}

enum tsr_port_drop tsr_frame_read_udp(const struct tsr_frame *frame, struct tsr_datagram *datagram)
{
    const uint8_t *udp = frame->bytes + frame->body;
    uint32_t room = frame->end - frame->body, ip_bytes = tsr_ip_bytes(frame->family);
    if (room < TSR_UDP_BYTES) {
        return TSR_PORT_DROP_SHORT;
    }
    uint32_t size = tsr_get16(udp + 4);
    if (size < TSR_UDP_BYTES) {
        return TSR_PORT_DROP_HEADER;
    }
    if (size > room) {
        return TSR_PORT_DROP_SHORT;
    }
    if (!is_sum_right(frame, size)) {
        return TSR_PORT_DROP_CHECKSUM;
    }
    *datagram = (struct tsr_datagram){
        .path = {.local = {.port = tsr_get16(udp + 2), .family = frame->family},
                 .remote = {.port = tsr_get16(udp), .family = frame->family}},
        .bytes = udp + TSR_UDP_BYTES,
        .size = size - TSR_UDP_BYTES,
        .ecn = frame->ecn,
    };
    memcpy(datagram->path.local.ip, tsr_frame_target(frame), ip_bytes);
    memcpy(datagram->path.remote.ip, tsr_frame_source(frame), ip_bytes);
    memcpy(datagram->hop, frame->bytes + TSR_MAC_BYTES, sizeof datagram->hop);
    return datagram->path.remote.port ? TSR_PORT_TAKEN : TSR_PORT_DROP_SOURCE;
}

/* --- writing --- */

uint32_t tsr_frame_head_bytes(uint8_t family, uint16_t vlan)
{
    return (uint32_t)TSR_ETHERNET_BYTES + (vlan ? TSR_VLAN_BYTES : 0) +
           (family == 4 ? TSR_IPV4_BYTES : TSR_IPV6_BYTES) + TSR_UDP_BYTES;
}

uint8_t *tsr_frame_write_ethernet(uint8_t *bytes, const uint8_t *to, const uint8_t *from,
                                  uint16_t vlan, uint16_t ethertype)
{
    memcpy(bytes, to, TSR_MAC_BYTES);
    memcpy(bytes + 6, from, TSR_MAC_BYTES);
    bytes += 12;
    if (vlan) {
        tsr_put16(bytes, TSR_ETHERTYPE_VLAN);
        tsr_put16(bytes + 2, vlan);
        bytes += TSR_VLAN_BYTES;
    }
    tsr_put16(bytes, ethertype);
    return bytes + 2;
}

static void write_ipv4(uint8_t *ip, uint32_t total, const struct tsr_frame_head *head)
{
    memset(ip, 0, TSR_IPV4_BYTES); /* identification 0: never fragmented (RFC 6864, 4.1) */
    ip[0] = 0x45;
    ip[1] = head->ecn;
    tsr_put16(ip + 2, total);
    tsr_put16(ip + 6, IPV4_DONT_FRAGMENT);
    ip[8] = HOPS;
    ip[9] = TSR_PROTOCOL_UDP;
    memcpy(ip + 12, head->path->local.ip, 4);
    memcpy(ip + 16, head->path->remote.ip, 4);
    if (!head->device_sums) {
        uint16_t sum = tsr_sum(ip, TSR_IPV4_BYTES);
        memcpy(ip + 10, &sum, sizeof sum);
    }
}

static void write_ipv6(uint8_t *ip, uint32_t size, const struct tsr_frame_head *head)
{
    memset(ip, 0, 8);
    ip[0] = 0x60;
    ip[1] = (uint8_t)(head->ecn << 4);
    tsr_put16(ip + 4, size);
    ip[6] = TSR_PROTOCOL_UDP;
    ip[7] = HOPS;
    memcpy(ip + 8, head->path->local.ip, 16);
    memcpy(ip + 24, head->path->remote.ip, 16);
}

static void write_udp(uint8_t *udp, uint32_t size, const struct tsr_frame_head *head)
{
    const struct tsr_path *path = head->path;
    uint32_t ip_bytes = tsr_ip_bytes(path->remote.family);
    uint8_t addresses[32];
    tsr_put16(udp, path->local.port);
    tsr_put16(udp + 2, path->remote.port);
    tsr_put16(udp + 4, size);
    tsr_put16(udp + 6, 0);
    memcpy(addresses, path->local.ip, ip_bytes);
    memcpy(addresses + ip_bytes, path->remote.ip, ip_bytes);
    uint64_t total = add_pseudo(addresses, 2 * ip_bytes, TSR_PROTOCOL_UDP, size);
    uint16_t sum;
    if (head->device_sums) {
        sum = fold(total); /* the device adds the rest to it */
    } else {
        sum = (uint16_t)~fold(add(total, udp, size));
        sum = sum ? sum : 0xffff; /* 0 would say that there is none */
    }
    memcpy(udp + 6, &sum, sizeof sum);
}

uint8_t *tsr_frame_write(uint8_t *payload, uint32_t size, const struct tsr_frame_head *head)
{
    uint8_t family = head->path->remote.family, *udp = payload - TSR_UDP_BYTES;
    uint8_t *first = payload - tsr_frame_head_bytes(family, head->vlan);
    uint8_t *ip = tsr_frame_write_ethernet(first, head->to, head->from, head->vlan,
                                           family == 4 ? TSR_ETHERTYPE_IPV4 : TSR_ETHERTYPE_IPV6);
    size += TSR_UDP_BYTES;
    if (family == 4) {
        write_ipv4(ip, TSR_IPV4_BYTES + size, head);
    } else {
        write_ipv6(ip, size, head);
    }
    write_udp(udp, size, head);
    return first;
}
