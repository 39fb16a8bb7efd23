#include "host_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

enum {
    ARP_BYTES = 28,
    ARP_REQUEST = 1,
    ARP_REPLY = 2,

    ICMP_ECHO_REPLY = 0,
    ICMP_UNREACHABLE = 3,
    ICMP_FRAGMENTATION_NEEDED = 4, /* its code */
    ICMP_ECHO = 8,

    ICMPV6_TOO_BIG = 2,
    ICMPV6_ECHO = 128,
    ICMPV6_ECHO_REPLY = 129,
    ICMPV6_SOLICITATION = 135,
    ICMPV6_ADVERTISEMENT = 136,
    ND_BYTES = 24,       /* a solicitation or an advertisement, without options */
    ND_OPTION_BYTES = 8, /* an Ethernet address */
    ND_SOURCE = 1,       /* the option's types */
    ND_TARGET = 2,
    ND_HOPS = 255, /* not forwarded by any router: RFC 4861, 7.1 */
    ND_SOLICITED_OVERRIDE = 0x60,

    ICMP_BYTES = 8,
    QUIC_PAYLOAD_MIN =
        1200, /* a smaller MTU is no use to QUIC (RFC 9000, 14), and nobody can talk us into one */
};

static const uint8_t broadcast[TSR_MAC_BYTES] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};

int tsr_host_init(struct tsr_host *host, struct tsr_err *err)
{
    if (getrandom(host->neighbours.key, sizeof host->neighbours.key, 0) < 0) {
        return tsr_err_set(err, -errno, "The kernel gives no random numbers: %s.", strerror(errno));
    }
    return 0;
}

/* --- what is ours --- */

static const struct tsr_port_listen *ours(const struct tsr_host *host, uint8_t family,
                                          const uint8_t *ip)
{
    for (uint32_t i = 0; i < host->n_listen; i++) {
        const struct tsr_address *address = &host->listen[i].address;
        if (address->family == family && memcmp(address->ip, ip, tsr_ip_bytes(family)) == 0) {
            return &host->listen[i];
        }
    }
    return NULL;
}

static bool listens(const struct tsr_host *host, const struct tsr_address *local)
{
    for (uint32_t i = 0; i < host->n_listen; i++) {
        if (memcmp(&host->listen[i].address, local, sizeof *local) == 0) {
            return true;
        }
    }
    return false;
}

static bool is_group(const uint8_t *mac)
{
    return mac[0] & 1;
}

/* One of so many a second. */
static bool allow(struct tsr_host *host, uint32_t *count, uint32_t most)
{
    uint64_t second = host->now_ns / 1000000000u;
    if (second != host->second) {
        host->second = second;
        host->answers = host->echoes = host->asks = 0;
    }
    return (*count)++ < most;
}

static bool is_on_link(const struct tsr_port_listen *listen, const uint8_t *ip)
{
    uint32_t whole = listen->prefix / 8u, rest = listen->prefix % 8u;
    if (memcmp(listen->address.ip, ip, whole) != 0) {
        return false;
    }
    return rest == 0 || (listen->address.ip[whole] ^ ip[whole]) >> (8 - rest) == 0;
}

void tsr_host_hear(struct tsr_host *host, uint8_t family, const uint8_t *target,
                   const uint8_t *source, const uint8_t *mac)
{
    const struct tsr_port_listen *listen = ours(host, family, target);
    if (host->is_alone && listen && listen->prefix && listen->has_gateway &&
        is_on_link(listen, source) && memcmp(source, listen->gateway, tsr_ip_bytes(family)) != 0) {
        const struct tsr_neighbour *gateway =
            tsr_neighbour_find(&host->neighbours, family, listen->gateway);
        if (gateway && memcmp(gateway->mac, mac, TSR_MAC_BYTES) == 0) {
            return;
        }
    }
    tsr_neighbour_hear(&host->neighbours, family, source, mac);
}

static void hear(struct tsr_host *host, const struct tsr_frame *frame)
{
    tsr_host_hear(host, frame->family, tsr_frame_target(frame), tsr_frame_source(frame),
                  frame->bytes + TSR_MAC_BYTES);
}

/* --- answers, in the frame that asked --- */

static void write_back(struct tsr_host *host, const struct tsr_frame *frame)
{
    memcpy(frame->bytes, frame->bytes + TSR_MAC_BYTES, TSR_MAC_BYTES);
    memcpy(frame->bytes + TSR_MAC_BYTES, host->mac, TSR_MAC_BYTES);
}

static enum tsr_port_drop take_arp(struct tsr_host *host, struct tsr_host_result *result,
                                   const struct tsr_frame *frame)
{
    static const uint8_t ethernet_ipv4[6] = {0, 1, 8, 0, TSR_MAC_BYTES, 4};
    uint8_t *arp = frame->bytes + frame->ip, sender[10], target[4];
    if (frame->end - frame->ip < ARP_BYTES) {
        return TSR_PORT_DROP_SHORT;
    }
    memcpy(sender, arp + 8, sizeof sender);
    memcpy(target, arp + 24, sizeof target);
    if (memcmp(arp, ethernet_ipv4, sizeof ethernet_ipv4) != 0 || is_group(sender)) {
        return TSR_PORT_DROP_HEADER;
    }
    if (!ours(host, 4, target)) {
        return TSR_PORT_DROP_ADDRESS;
    }
    if (ours(host, 4, sender + 6)) {
        return TSR_PORT_DROP_SOURCE; /* our address, from another host */
    }
    uint16_t operation = tsr_get16(arp + 6);
    if (sender[6] != 0) { /* 0: looks whether an address is free (RFC 5227) */
        tsr_neighbour_hear(&host->neighbours, 4, sender + 6, sender);
    }
    if (operation != ARP_REQUEST) {
        return operation == ARP_REPLY ? TSR_PORT_TAKEN : TSR_PORT_DROP_HEADER;
    }
    if (!allow(host, &host->answers, TSR_HOST_ANSWERS_PER_SECOND)) {
        return TSR_PORT_DROP_ICMP;
    }
    write_back(host, frame);
    memcpy(frame->bytes, sender, TSR_MAC_BYTES);
    tsr_put16(arp + 6, ARP_REPLY);
    memcpy(arp + 8, host->mac, TSR_MAC_BYTES);
    memcpy(arp + 14, target, sizeof target);
    memcpy(arp + 18, sender, sizeof sender);
    result->answer_bytes = frame->ip + ARP_BYTES;
    return TSR_PORT_TAKEN;
}

static void swap_addresses(const struct tsr_frame *frame)
{
    uint8_t *source = frame->bytes + frame->ip + (frame->family == 4 ? 12 : 8), held[16];
    uint32_t bytes = tsr_ip_bytes(frame->family);
    memcpy(held, source, bytes);
    memcpy(source, source + bytes, bytes);
    memcpy(source + bytes, held, bytes);
}

static void sum_icmp(const struct tsr_frame *frame, uint32_t size)
{
    uint8_t *icmp = frame->bytes + frame->body;
    tsr_put16(icmp + 2, 0);
    uint16_t sum = frame->family == 4
                       ? tsr_sum(icmp, size)
                       : tsr_sum_ipv6(frame->bytes + frame->ip, TSR_PROTOCOL_ICMPV6, icmp, size);
    memcpy(icmp + 2, &sum, sizeof sum);
}

/* An echo goes back as it came. IPv4's options stay: the kernel's answers carry them too. */
static enum tsr_port_drop answer_echo(struct tsr_host *host, struct tsr_host_result *result,
                                      const struct tsr_frame *frame)
{
    uint8_t *icmp = frame->bytes + frame->body;
    if (is_group(frame->bytes) || !allow(host, &host->echoes, TSR_HOST_ANSWERS_PER_SECOND)) {
        return TSR_PORT_DROP_ICMP;
    }
    hear(host, frame);
    write_back(host, frame);
    swap_addresses(frame);
    icmp[0] = frame->family == 4 ? ICMP_ECHO_REPLY : ICMPV6_ECHO_REPLY;
    sum_icmp(frame, frame->end - frame->body);
    result->answer_bytes = frame->end;
    return TSR_PORT_TAKEN;
}

/* --- path MTU --- */

/* A router says that a packet was too big, and quotes it. Only one that we may have sent counts,
 * and none makes the payload smaller than QUIC needs: who forges such a message gains little. */
static enum tsr_port_drop take_too_big(struct tsr_host *host, const struct tsr_frame *frame,
                                       uint32_t mtu)
{
    const uint8_t *quoted = frame->bytes + frame->body + ICMP_BYTES;
    uint32_t size = frame->end - frame->body - ICMP_BYTES;
    uint32_t ip_bytes = frame->family == 4 ? TSR_IPV4_BYTES : TSR_IPV6_BYTES;
    uint32_t at = frame->family == 4 ? 12 : 8, wide = tsr_ip_bytes(frame->family);
    if (size < ip_bytes + 4) {
        return TSR_PORT_DROP_SHORT;
    }
    if (quoted[frame->family == 4 ? 9 : 6] != TSR_PROTOCOL_UDP ||
        (frame->family == 4 && quoted[0] != 0x45)) {
        return TSR_PORT_DROP_ICMP;
    }
    struct tsr_address local = {.port = tsr_get16(quoted + ip_bytes), .family = frame->family};
    memcpy(local.ip, quoted + at, wide);
    struct tsr_neighbour *peer =
        tsr_neighbour_find(&host->neighbours, frame->family, quoted + at + wide);
    if (!listens(host, &local) || !peer || mtu >= host->mtu) {
        return TSR_PORT_DROP_ICMP;
    }
    uint32_t least = QUIC_PAYLOAD_MIN + TSR_UDP_BYTES + ip_bytes;
    peer->mtu = (uint16_t)(mtu > least ? mtu : least);
    peer->mtu_until_s = (uint32_t)(host->now_ns / 1000000000u) + TSR_NEIGHBOUR_MTU_SECONDS;
    return TSR_PORT_TAKEN;
}

/* --- ICMP --- */

static enum tsr_port_drop take_icmp(struct tsr_host *host, struct tsr_host_result *result,
                                    const struct tsr_frame *frame)
{
    const uint8_t *icmp = frame->bytes + frame->body;
    uint32_t size = frame->end - frame->body;
    if (size < ICMP_BYTES) {
        return TSR_PORT_DROP_SHORT;
    }
    if (tsr_sum(icmp, size)) {
        return TSR_PORT_DROP_CHECKSUM;
    }
    if (icmp[0] == ICMP_ECHO && icmp[1] == 0) {
        return answer_echo(host, result, frame);
    }
    if (icmp[0] == ICMP_UNREACHABLE && icmp[1] == ICMP_FRAGMENTATION_NEEDED) {
        return take_too_big(host, frame, tsr_get16(icmp + 6));
    }
    return TSR_PORT_DROP_ICMP;
}

/* The Ethernet address among a neighbour message's options, NULL where there is none. */
static enum tsr_port_drop find_option(const uint8_t *options, uint32_t size, uint8_t type,
                                      const uint8_t **mac)
{
    *mac = NULL;
    while (size) {
        if (size < ND_OPTION_BYTES || options[1] == 0 || size < options[1] * 8u) {
            return TSR_PORT_DROP_HEADER;
        }
        if (options[0] == type && options[1] == 1) {
            *mac = options + 2;
        }
        size -= options[1] * 8u;
        options += options[1] * 8u;
    }
    return *mac && is_group(*mac) ? TSR_PORT_DROP_HEADER : TSR_PORT_TAKEN;
}

/* RFC 4861, 7.2.4. Whoever asks from no address is about to take ours: all are told whose it is. */
static void write_advertisement(struct tsr_host *host, struct tsr_frame *frame, const uint8_t *to)
{
    static const uint8_t all_nodes[16] = {0xff, 2, [15] = 1};
    static const uint8_t all_nodes_mac[TSR_MAC_BYTES] = {0x33, 0x33, 0, 0, 0, 1};
    static const uint8_t nobody[16];
    uint8_t *ip = frame->bytes + frame->ip, *nd = ip + TSR_IPV6_BYTES, target[16], asker[16];
    bool is_known = memcmp(ip + 8, nobody, sizeof nobody) != 0;
    memcpy(target, frame->bytes + frame->body + 8, sizeof target);
    memcpy(asker, is_known ? ip + 8 : all_nodes, sizeof asker);
    uint8_t mac[TSR_MAC_BYTES];
    memcpy(mac, is_known ? to : all_nodes_mac, sizeof mac);
    write_back(host, frame);
    memcpy(frame->bytes, mac, sizeof mac);
    memset(ip, 0, 8);
    ip[0] = 0x60;
    tsr_put16(ip + 4, ND_BYTES + ND_OPTION_BYTES);
    ip[6] = TSR_PROTOCOL_ICMPV6;
    ip[7] = ND_HOPS;
    memcpy(ip + 8, target, sizeof target);
    memcpy(ip + 24, asker, sizeof asker);
    memset(nd, 0, 8);
    nd[0] = ICMPV6_ADVERTISEMENT;
    nd[4] = is_known ? ND_SOLICITED_OVERRIDE : ND_SOLICITED_OVERRIDE & 0x20;
    memcpy(nd + 8, target, sizeof target);
    nd[ND_BYTES] = ND_TARGET;
    nd[ND_BYTES + 1] = 1;
    memcpy(nd + ND_BYTES + 2, host->mac, TSR_MAC_BYTES);
    frame->body = frame->ip + TSR_IPV6_BYTES;
    frame->end = frame->body + ND_BYTES + ND_OPTION_BYTES;
    sum_icmp(frame, ND_BYTES + ND_OPTION_BYTES);
}

static enum tsr_port_drop take_solicitation(struct tsr_host *host, struct tsr_host_result *result,
                                            struct tsr_frame *frame, uint32_t capacity)
{
    static const uint8_t nobody[16];
    const uint8_t *nd = frame->bytes + frame->body, *mac;
    enum tsr_port_drop drop =
        find_option(nd + ND_BYTES, frame->end - frame->body - ND_BYTES, ND_SOURCE, &mac);
    if (drop != TSR_PORT_TAKEN) {
        return drop;
    }
    if (!ours(host, 6, nd + 8)) {
        return TSR_PORT_DROP_ADDRESS;
    }
    if (ours(host, 6, tsr_frame_source(frame))) {
        return TSR_PORT_DROP_SOURCE;
    }
    if (frame->ip + TSR_IPV6_BYTES + ND_BYTES + ND_OPTION_BYTES > capacity) {
        return TSR_PORT_DROP_BIG;
    }
    if (!allow(host, &host->answers, TSR_HOST_ANSWERS_PER_SECOND)) {
        return TSR_PORT_DROP_ICMP;
    }
    bool is_known = memcmp(tsr_frame_source(frame), nobody, sizeof nobody) != 0;
    if (!is_known && mac) {
        return TSR_PORT_DROP_HEADER; /* RFC 4861, 7.1.1 */
    }
    uint8_t to[TSR_MAC_BYTES];
    memcpy(to, mac ? mac : frame->bytes + TSR_MAC_BYTES, sizeof to);
    if (is_known) {
        tsr_neighbour_hear(&host->neighbours, 6, tsr_frame_source(frame), to);
    }
    write_advertisement(host, frame, to);
    result->answer_bytes = frame->end;
    return TSR_PORT_TAKEN;
}

static enum tsr_port_drop take_advertisement(struct tsr_host *host, const struct tsr_frame *frame)
{
    const uint8_t *nd = frame->bytes + frame->body, *mac;
    enum tsr_port_drop drop =
        find_option(nd + ND_BYTES, frame->end - frame->body - ND_BYTES, ND_TARGET, &mac);
    if (drop == TSR_PORT_TAKEN && ours(host, 6, nd + 8)) {
        drop = TSR_PORT_DROP_SOURCE;
    }
    if (drop == TSR_PORT_TAKEN && mac && nd[8] != 0xff && ours(host, 6, tsr_frame_target(frame))) {
        tsr_neighbour_hear(&host->neighbours, 6, nd + 8, mac); /* to us alone: we asked */
    }
    return drop;
}

static enum tsr_port_drop take_icmpv6(struct tsr_host *host, struct tsr_host_result *result,
                                      struct tsr_frame *frame, uint32_t capacity)
{
    const uint8_t *icmp = frame->bytes + frame->body;
    uint32_t size = frame->end - frame->body;
    if (size < ICMP_BYTES) {
        return TSR_PORT_DROP_SHORT;
    }
    if (tsr_sum_ipv6(frame->bytes + frame->ip, TSR_PROTOCOL_ICMPV6, icmp, size)) {
        return TSR_PORT_DROP_CHECKSUM;
    }
    bool is_neighbours = icmp[0] == ICMPV6_SOLICITATION || icmp[0] == ICMPV6_ADVERTISEMENT;
    if (is_neighbours) {
        if (frame->hops != ND_HOPS || icmp[1] != 0) {
            return TSR_PORT_DROP_ICMP;
        }
        if (size < ND_BYTES) {
            return TSR_PORT_DROP_SHORT;
        }
        return icmp[0] == ICMPV6_SOLICITATION ? take_solicitation(host, result, frame, capacity)
                                              : take_advertisement(host, frame);
    }
    if (!ours(host, 6, tsr_frame_target(frame))) {
        return TSR_PORT_DROP_ADDRESS;
    }
    if (icmp[0] == ICMPV6_ECHO && icmp[1] == 0 && tsr_frame_source(frame)[0] != 0) {
        return answer_echo(host, result, frame);
    }
    if (icmp[0] == ICMPV6_TOO_BIG && icmp[4] == 0 && icmp[5] == 0) {
        return take_too_big(host, frame, tsr_get16(icmp + 6));
    }
    return TSR_PORT_DROP_ICMP;
}

/* --- frames --- */

static enum tsr_port_drop take_udp(struct tsr_host *host, struct tsr_host_result *result,
                                   const struct tsr_frame *frame)
{
    enum tsr_port_drop drop = tsr_frame_read_udp(frame, &result->datagram);
    if (drop != TSR_PORT_TAKEN) {
        return drop;
    }
    if (!listens(host, &result->datagram.path.local)) {
        return TSR_PORT_DROP_UDP_PORT;
    }
    hear(host, frame);
    result->is_datagram = true;
    return TSR_PORT_TAKEN;
}

static enum tsr_port_drop take(struct tsr_host *host, struct tsr_host_result *result,
                               struct tsr_frame *frame, uint32_t capacity)
{
    if (frame->ethertype == TSR_ETHERTYPE_ARP) {
        return host->is_alone ? take_arp(host, result, frame) : TSR_PORT_DROP_PROTOCOL;
    }
    if (frame->protocol == TSR_PROTOCOL_ICMPV6 && frame->family == 6 && host->is_alone) {
        return take_icmpv6(host, result, frame, capacity); /* to groups as well */
    }
    if (!ours(host, frame->family, tsr_frame_target(frame))) {
        return TSR_PORT_DROP_ADDRESS;
    }
    if (ours(host, frame->family, tsr_frame_source(frame))) {
        return TSR_PORT_DROP_SOURCE;
    }
    if (frame->protocol == TSR_PROTOCOL_UDP) {
        return is_group(frame->bytes) ? TSR_PORT_DROP_MAC : take_udp(host, result, frame);
    }
    if (frame->protocol == TSR_PROTOCOL_ICMP && frame->family == 4 && host->is_alone) {
        return take_icmp(host, result, frame);
    }
    return TSR_PORT_DROP_PROTOCOL;
}

void tsr_host_take(struct tsr_host *host, struct tsr_host_result *result, uint8_t *bytes,
                   uint32_t size, uint32_t capacity, unsigned good)
{
    struct tsr_frame frame;
    *result = (struct tsr_host_result){.drop = TSR_PORT_DROP_SHORT};
    if (size < TSR_ETHERNET_BYTES) {
        return;
    }
    result->drop = TSR_PORT_DROP_MAC;
    if ((!is_group(bytes) && memcmp(bytes, host->mac, TSR_MAC_BYTES) != 0) ||
        is_group(bytes + TSR_MAC_BYTES)) {
        return;
    }
    result->drop = tsr_frame_read(&frame, bytes, size, good);
    if (result->drop == TSR_PORT_TAKEN && frame.vlan != host->vlan) {
        result->drop = TSR_PORT_DROP_VLAN;
    }
    if (result->drop == TSR_PORT_TAKEN) {
        result->drop = take(host, result, &frame, capacity);
    }
}

/* --- sending --- */

static const uint8_t *next_hop(const struct tsr_host *host, const struct tsr_path *path)
{
    const struct tsr_port_listen *listen = ours(host, path->local.family, path->local.ip);
    if (!listen) {
        return NULL;
    }
    if (listen->prefix && is_on_link(listen, path->remote.ip)) {
        return path->remote.ip;
    }
    return listen->has_gateway ? listen->gateway : NULL;
}

static struct tsr_neighbour *find_hop(struct tsr_host *host, const struct tsr_path *path)
{
    struct tsr_neighbour *peer =
        tsr_neighbour_find(&host->neighbours, path->remote.family, path->remote.ip);
    const uint8_t *hop = peer ? NULL : next_hop(host, path);
    return hop ? tsr_neighbour_find(&host->neighbours, path->remote.family, hop) : peer;
}

uint32_t tsr_host_reach(struct tsr_host *host, const struct tsr_path *path)
{
    struct tsr_neighbour *hop = find_hop(host, path);
    if (!hop) {
        return 0;
    }
    uint32_t ip_bytes = path->remote.family == 4 ? TSR_IPV4_BYTES : TSR_IPV6_BYTES;
    bool is_smaller = hop->mtu && host->now_ns / 1000000000u < hop->mtu_until_s;
    return (is_smaller ? hop->mtu : host->mtu) - ip_bytes - TSR_UDP_BYTES;
}

uint8_t *tsr_host_write(struct tsr_host *host, const struct tsr_path *path, uint8_t *payload,
                        uint32_t size, uint8_t ecn)
{
    const struct tsr_neighbour *hop = find_hop(host, path);
    struct tsr_frame_head head = {
        .path = path,
        .to = hop ? hop->mac : broadcast,
        .from = host->mac,
        .vlan = host->vlan,
        .ecn = ecn & 3,
        .device_sums = host->device_sums,
    };
    return tsr_frame_write(payload, size, &head);
}

static uint32_t write_arp_request(struct tsr_host *host, const struct tsr_path *path,
                                  const uint8_t *hop, uint8_t *bytes)
{
    uint8_t *arp =
        tsr_frame_write_ethernet(bytes, broadcast, host->mac, host->vlan, TSR_ETHERTYPE_ARP);
    memset(arp, 0, ARP_BYTES);
    arp[1] = 1; /* Ethernet */
    tsr_put16(arp + 2, TSR_ETHERTYPE_IPV4);
    arp[4] = TSR_MAC_BYTES;
    arp[5] = 4;
    arp[7] = ARP_REQUEST;
    memcpy(arp + 8, host->mac, TSR_MAC_BYTES);
    memcpy(arp + 14, path->local.ip, 4);
    memcpy(arp + 24, hop, 4);
    return (uint32_t)(arp - bytes) + ARP_BYTES;
}

/* To the group of those whose address ends like the one sought: RFC 4861, 7.2.2; RFC 2464, 7. */
static uint32_t write_solicitation(struct tsr_host *host, const struct tsr_path *path,
                                   const uint8_t *hop, uint8_t *bytes)
{
    const uint8_t to[TSR_MAC_BYTES] = {0x33, 0x33, 0xff, hop[13], hop[14], hop[15]};
    const uint8_t group[16] = {0xff, 2, [11] = 1, 0xff, hop[13], hop[14], hop[15]};
    uint8_t *ip = tsr_frame_write_ethernet(bytes, to, host->mac, host->vlan, TSR_ETHERTYPE_IPV6);
    uint8_t *nd = ip + TSR_IPV6_BYTES;
    struct tsr_frame frame = {
        .bytes = bytes, .ip = (uint32_t)(ip - bytes), .body = (uint32_t)(nd - bytes), .family = 6};
    memset(ip, 0, TSR_IPV6_BYTES + ND_BYTES);
    ip[0] = 0x60;
    ip[5] = ND_BYTES + ND_OPTION_BYTES;
    ip[6] = TSR_PROTOCOL_ICMPV6;
    ip[7] = ND_HOPS;
    memcpy(ip + 8, path->local.ip, 16);
    memcpy(ip + 24, group, sizeof group);
    nd[0] = ICMPV6_SOLICITATION;
    memcpy(nd + 8, hop, 16);
    nd[ND_BYTES] = ND_SOURCE;
    nd[ND_BYTES + 1] = 1;
    memcpy(nd + ND_BYTES + 2, host->mac, TSR_MAC_BYTES);
    sum_icmp(&frame, ND_BYTES + ND_OPTION_BYTES);
    return frame.body + ND_BYTES + ND_OPTION_BYTES;
}

uint32_t tsr_host_ask(struct tsr_host *host, const struct tsr_path *path, uint8_t *bytes)
{
    const uint8_t *hop = host->is_alone ? next_hop(host, path) : NULL;
    if (!hop || !allow(host, &host->asks, TSR_HOST_ASKS_PER_SECOND)) {
        return 0;
    }
    return path->remote.family == 4 ? write_arp_request(host, path, hop, bytes)
                                    : write_solicitation(host, path, hop, bytes);
}
