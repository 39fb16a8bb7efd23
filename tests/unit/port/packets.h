/* Frames for tests, made without what is tested: checksums by the textbook, one 16-bit word at a
 * time. */
#ifndef TSR_TEST_PACKETS_H
#define TSR_TEST_PACKETS_H

#include <stdint.h>
#include <string.h>

static const uint8_t our_mac[6] = {2, 0, 0, 0, 0, 1};
static const uint8_t peer_mac[6] = {2, 0, 0, 0, 0, 2};
static const uint8_t our_ipv4[4] = {10, 0, 0, 1};
static const uint8_t peer_ipv4[4] = {10, 0, 0, 2};
static const uint8_t our_ipv6[16] = {0xfd, [15] = 1};
static const uint8_t peer_ipv6[16] = {0xfd, [15] = 2};

struct packet {
    uint8_t bytes[2048];
    uint32_t size;
    uint32_t ip;   /* where it begins */
    uint32_t body; /* what it carries */
};

static inline void put(struct packet *p, const void *bytes, uint32_t size)
{
    memcpy(p->bytes + p->size, bytes, size);
    p->size += size;
}

static inline void put16(struct packet *p, unsigned value)
{
    const uint8_t bytes[2] = {(uint8_t)(value >> 8), (uint8_t)value};
    put(p, bytes, 2);
}

static inline void set16(struct packet *p, uint32_t at, unsigned value)
{
    p->bytes[at] = (uint8_t)(value >> 8);
    p->bytes[at + 1] = (uint8_t)value;
}

static inline uint32_t words(const uint8_t *bytes, uint32_t size)
{
    uint32_t sum = 0;
    for (uint32_t i = 0; i < size; i++) {
        sum += i % 2 ? bytes[i] : (uint32_t)bytes[i] << 8;
    }
    return sum;
}

static inline uint16_t complement(uint32_t sum)
{
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)~sum;
}

static inline void ethernet(struct packet *p, const uint8_t *to, const uint8_t *from, unsigned vlan,
                            unsigned type)
{
    p->size = 0;
    put(p, to, 6);
    put(p, from, 6);
    if (vlan) {
        put16(p, 0x8100);
        put16(p, vlan);
    }
    put16(p, type);
    p->ip = p->size;
}

/* Fills in both lengths and both checksums once all bytes are there. */
static inline void finish(struct packet *p)
{
    uint8_t *ip = p->bytes + p->ip;
    int is_ipv4 = ip[0] >> 4 == 4;
    uint32_t length = p->size - p->body;
    uint8_t protocol = is_ipv4                 ? ip[9]
                       : p->body == p->ip + 40 ? ip[6]
                                               : p->bytes[p->ip + 40]; /* one extension */
    uint32_t pseudo = words(ip + (is_ipv4 ? 12 : 8), is_ipv4 ? 8 : 32) + length + protocol;
    if (is_ipv4) {
        set16(p, p->ip + 2, p->size - p->ip);
        set16(p, p->ip + 10, 0);
        set16(p, p->ip + 10, complement(words(ip, (ip[0] & 15u) * 4)));
    } else {
        set16(p, p->ip + 4, p->size - p->ip - 40);
    }
    uint32_t at = p->body + (protocol == 17 ? 6u : 2u);
    if (protocol == 17) {
        set16(p, p->body + 4, length);
    }
    set16(p, at, 0);
    uint16_t sum = complement((protocol == 1 ? 0 : pseudo) + words(p->bytes + p->body, length));
    set16(p, at, protocol == 17 && sum == 0 ? 0xffff : sum);
}

static inline void ipv4(struct packet *p, unsigned vlan, uint8_t protocol)
{
    const uint8_t head[12] = {0x45, 2, 0, 0, 0, 0, 0x40, 0, 64, protocol};
    ethernet(p, our_mac, peer_mac, vlan, 0x0800);
    put(p, head, 12);
    put(p, peer_ipv4, 4);
    put(p, our_ipv4, 4);
    p->body = p->size;
}

static inline void ipv6(struct packet *p, unsigned vlan, uint8_t protocol)
{
    const uint8_t head[8] = {0x60, 0x20, 0, 0, 0, 0, protocol, 255};
    ethernet(p, our_mac, peer_mac, vlan, 0x86dd);
    put(p, head, 8);
    put(p, peer_ipv6, 16);
    put(p, our_ipv6, 16);
    p->body = p->size;
}

static inline void udp(struct packet *p, unsigned from, unsigned to, const void *payload,
                       uint32_t size)
{
    put16(p, from);
    put16(p, to);
    put16(p, 0);
    put16(p, 0);
    put(p, payload, size);
    finish(p);
}

static inline void udp_packet(struct packet *p, int family, unsigned vlan)
{
    family == 4 ? ipv4(p, vlan, 17) : ipv6(p, vlan, 17);
    udp(p, 5555, 443, "hello", 5);
}

#endif
