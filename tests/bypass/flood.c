/* An attacker on a link, by a packet socket: any source addresses, any bytes.
 *
 *     flood --device v1 --macs 24HEX --server ADDRESS:PORT --from PREFIX [OPTION]... KIND
 *
 *   --macs      the server's Ethernet address and ours
 *   --from      the first two bytes (IPv4: 10.99) or eight bytes (IPv6: fd99::) of all addresses
 * that it takes; the server's answers to them must come back over the device
 *   --seconds N [2]  --rate N packets a second, 0: as many as it can [20000]
 *   --addresses N    of its own [1000]  --connections N, of kinds that shake hands [50]
 *   --closed         nobody listens there: connections are made up
 *   --busy           keeps its CPU busy while it waits to send
 *
 * Prints one line of name=value: kind, packets sent, connections that were established. The kinds
 * are at the end of this file. */
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <stdio.h>
#include <sys/socket.h>
#include <time.h>

#include "client.h"
#include "frame_priv.h"
#include "initial.h"

enum {
    FRAME_MAX = 1514,
    HEADROOM = 64, /* of the headers in front of a payload */
    BATCH = 64,
    POOL = 8192,            /* packets made in advance */
    PLANT_BYTES = 1100,     /* of frames in a packet of a connection */
    CLIENT_PACKETS = 3000,  /* after which a connection is thrown away */
    NUMBER_FIRST = 1 << 20, /* of the packets by hand: above the library's own */
};

static struct {
    const char *device, *kind;
    uint8_t to[TSR_MAC_BYTES], from[TSR_MAC_BYTES];
    struct tsr_address server;
    uint8_t prefix[8];
    uint32_t seconds, rate, addresses, connections;
    bool closed, busy;
} o = {.seconds = 2, .rate = 20000, .addresses = 1000, .connections = 50};

static uint64_t now_ns;

static uint64_t clock_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static uint32_t draw(void)
{
    static uint64_t seed = 88172645463325252u; /* xorshift64 (Marsaglia, 2003) */
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (uint32_t)(seed >> 16);
}

static void draw_bytes(uint8_t *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        bytes[i] = (uint8_t)draw();
    }
}

/* ---- The link ---- */

static struct {
    int fd;
    uint8_t bytes[BATCH][HEADROOM + FRAME_MAX];
    struct iovec parts[BATCH];
    uint32_t n;
    uint64_t sent, due_ns;
} out;

static int open_link(void)
{
    out.fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK, htons(0x0003));
    struct sockaddr_ll at = {
        .sll_family = AF_PACKET,
        .sll_protocol = htons(0x0003),
        .sll_ifindex = (int)if_nametoindex(o.device),
    };
    return out.fd < 0 || bind(out.fd, (struct sockaddr *)&at, sizeof at) < 0 ? -errno : 0;
}

/* What the device does not take is lost. */
static void flush(void)
{
    struct mmsghdr messages[BATCH] = {0};
    for (uint32_t i = 0; i < out.n; i++) {
        messages[i].msg_hdr = (struct msghdr){.msg_iov = &out.parts[i], .msg_iovlen = 1};
    }
    for (uint32_t done = 0; done < out.n;) {
        int n = sendmmsg(out.fd, messages + done, out.n - done, 0);
        out.sent += n > 0 ? (uint32_t)n : 0;
        done += n > 0 ? (uint32_t)n : 1;
    }
    out.n = 0;
}

/* So many a second. */
static void pace(void)
{
    if (!o.rate) {
        return;
    }
    out.due_ns += 1000000000u / o.rate;
    uint64_t at_ns = clock_ns();
    if (out.due_ns + 100000000u < at_ns) {
        out.due_ns = at_ns; /* it was held up: that is not made up for */
    } else if (out.due_ns > at_ns + 1000000u) {
        flush();
        const struct timespec rest = {0, (long)(out.due_ns - at_ns)};
        while (o.busy && clock_ns() < out.due_ns) {
        }
        if (!o.busy) {
            nanosleep(&rest, NULL);
        }
    }
}

static void put(uint8_t *frame, size_t size)
{
    out.parts[out.n] = (struct iovec){frame, size < TSR_FRAME_MIN ? TSR_FRAME_MIN : size};
    out.n++;
    pace();
    if (out.n == BATCH) {
        flush();
    }
}

/* For the next frame. */
static uint8_t *frame_room(void)
{
    return out.bytes[out.n] + HEADROOM;
}

/* The n-th address of its own. */
static struct tsr_address address_of(uint32_t n)
{
    struct tsr_address a = {.family = o.server.family, .port = (uint16_t)(10000 + n % 50000)};
    n = n % o.addresses + 1;
    if (a.family == 4) {
        memcpy(a.ip, o.prefix, 2);
        tsr_put16(a.ip + 2, n);
    } else {
        memcpy(a.ip, o.prefix, 8);
        tsr_put16(a.ip + 14, n);
        tsr_put16(a.ip + 12, n >> 16);
    }
    return a;
}

/* A payload that lies in frame_room(). */
static void put_udp(const struct tsr_address *from, const uint8_t *mac, uint8_t *payload,
                    uint32_t size)
{
    const struct tsr_path path = {.local = *from, .remote = o.server};
    const struct tsr_frame_head head = {.path = &path, .to = o.to, .from = mac};
    uint8_t *frame = tsr_frame_write(payload, size, &head);
    put(frame, (size_t)(payload + size - frame));
}

/* ---- Kinds without connections: payloads from any address ---- */

static uint32_t make_garbage(uint8_t *bytes)
{
    uint32_t size = 1 + draw() % 1400;
    draw_bytes(bytes, size);
    return size;
}

static uint32_t make_short(uint8_t *bytes)
{
    draw_bytes(bytes, 100);
    bytes[0] = 0x40 | (bytes[0] & 0x3f);
    bytes[1] = 0; /* the queue: might be an id of ours */
    return 100;
}

static uint32_t make_version(uint8_t *bytes)
{
    draw_bytes(bytes, INITIAL_BYTES);
    memcpy(bytes, "\xc0\x0a\x0a\x0a\x0a\x08", 6);
    bytes[14] = 8;
    return INITIAL_BYTES;
}

static uint32_t make_hello(uint8_t *bytes)
{
    initial_make(bytes);
    return INITIAL_BYTES;
}

static uint32_t make_broken(uint8_t *bytes)
{
    initial_make(bytes);
    bytes[INITIAL_BYTES - 1] ^= 1;
    return INITIAL_BYTES;
}

/* With a token that is none: it has to be tried. */
static uint32_t make_token(uint8_t *bytes)
{
    uint8_t frame[INITIAL_HELLO_MAX], token[70];
    struct initial initial = {
        .dcid_bytes = 16, .frames = frame, .token = token, .token_bytes = sizeof token};
    initial_random(initial.dcid, initial.dcid_bytes);
    initial_random(initial.scid, sizeof initial.scid);
    draw_bytes(token, sizeof token);
    token[0] = NGTCP2_CRYPTO_TOKEN_MAGIC_RETRY;
    initial.frames_bytes = initial_hello(initial.scid, frame);
    initial_write(&initial, bytes);
    return INITIAL_BYTES;
}

/* A hello that is never whole. */
static uint32_t make_half(uint8_t *bytes)
{
    uint8_t frame[INITIAL_HELLO_MAX];
    struct initial initial = {.dcid_bytes = 16, .frames = frame, .frames_bytes = 100};
    initial_random(initial.dcid, initial.dcid_bytes);
    initial_random(initial.scid, sizeof initial.scid);
    initial_hello(initial.scid, frame);
    frame[2] = 0x40;
    frame[3] = 96;
    initial_write(&initial, bytes);
    return INITIAL_BYTES;
}

static void flood_payloads(uint32_t (*make)(uint8_t *bytes), bool forges_macs, uint64_t end_ns)
{
    static uint8_t pool[POOL][FRAME_MAX];
    static uint32_t sizes[POOL];
    for (uint32_t i = 0; i < POOL; i++) {
        sizes[i] = make(pool[i]);
    }
    end_ns += clock_ns() - now_ns; /* making them took its time */
    for (uint32_t i = 0; clock_ns() < end_ns; i++) {
        const struct tsr_address from = address_of(i);
        uint8_t mac[TSR_MAC_BYTES], *payload = frame_room();
        memcpy(mac, o.from, sizeof mac);
        if (forges_macs) {
            draw_bytes(mac, sizeof mac);
            mac[0] &= 0xfe;
        }
        memcpy(payload, pool[i % POOL], sizes[i % POOL]);
        put_udp(&from, mac, payload, sizes[i % POOL]);
    }
}

/* ---- Kinds beneath UDP ---- */

static uint32_t write_arp(uint8_t *bytes, uint32_t n)
{
    const struct tsr_address from = address_of(n);
    uint8_t *arp = tsr_frame_write_ethernet(bytes, o.to, o.from, 0, TSR_ETHERTYPE_ARP);
    memcpy(arp, "\x00\x01\x08\x00\x06\x04\x00\x01", 8);
    arp[7] = (uint8_t)(1 + n % 2); /* a question, or an answer that nobody asked for */
    draw_bytes(arp + 8, TSR_MAC_BYTES);
    arp[8] &= 0xfe;
    memcpy(arp + 14, from.ip, 4);
    memset(arp + 18, 0, TSR_MAC_BYTES);
    memcpy(arp + 24, o.server.ip, 4);
    return TSR_FRAME_MIN;
}

static uint8_t *write_ip6(uint8_t *bytes, uint32_t n, uint32_t size)
{
    const struct tsr_address from = address_of(n);
    uint8_t *ip = tsr_frame_write_ethernet(bytes, o.to, o.from, 0, TSR_ETHERTYPE_IPV6);
    memset(ip, 0, TSR_IPV6_BYTES + size);
    ip[0] = 0x60;
    tsr_put16(ip + 4, size);
    ip[6] = TSR_PROTOCOL_ICMPV6;
    ip[7] = 255;
    memcpy(ip + 8, from.ip, 16);
    memcpy(ip + 24, o.server.ip, 16);
    return ip;
}

/* A solicitation whose source has a forged address. */
static uint32_t write_solicitation(uint8_t *bytes, uint32_t n)
{
    enum { SIZE = 32 };
    uint8_t *ip = write_ip6(bytes, n, SIZE), *nd = ip + TSR_IPV6_BYTES;
    nd[0] = 135;
    memcpy(nd + 8, o.server.ip, 16);
    nd[24] = nd[25] = 1;
    draw_bytes(nd + 26, TSR_MAC_BYTES);
    nd[26] &= 0xfe;
    uint16_t sum = tsr_sum_ipv6(ip, TSR_PROTOCOL_ICMPV6, nd, SIZE);
    memcpy(nd + 2, &sum, sizeof sum);
    return TSR_ETHERNET_BYTES + TSR_IPV6_BYTES + SIZE;
}

static uint32_t write_echo4(uint8_t *bytes, uint32_t n)
{
    enum { SIZE = 64 };
    const struct tsr_address from = address_of(n);
    uint8_t *ip = tsr_frame_write_ethernet(bytes, o.to, o.from, 0, TSR_ETHERTYPE_IPV4);
    uint8_t *icmp = ip + TSR_IPV4_BYTES;
    memset(ip, 0, TSR_IPV4_BYTES + SIZE);
    ip[0] = 0x45;
    tsr_put16(ip + 2, TSR_IPV4_BYTES + SIZE);
    ip[8] = 64;
    ip[9] = TSR_PROTOCOL_ICMP;
    memcpy(ip + 12, from.ip, 4);
    memcpy(ip + 16, o.server.ip, 4);
    uint16_t sum = tsr_sum(ip, TSR_IPV4_BYTES);
    memcpy(ip + 10, &sum, sizeof sum);
    icmp[0] = 8;
    tsr_put16(icmp + 6, n & 0xffff);
    sum = tsr_sum(icmp, SIZE);
    memcpy(icmp + 2, &sum, sizeof sum);
    return TSR_ETHERNET_BYTES + TSR_IPV4_BYTES + SIZE;
}

static uint32_t write_echo(uint8_t *bytes, uint32_t n)
{
    enum { SIZE = 64 };
    if (o.server.family == 4) {
        return write_echo4(bytes, n);
    }
    uint8_t *ip = write_ip6(bytes, n, SIZE), *icmp = ip + TSR_IPV6_BYTES;
    icmp[0] = 128;
    tsr_put16(icmp + 6, n & 0xffff);
    uint16_t sum = tsr_sum_ipv6(ip, TSR_PROTOCOL_ICMPV6, icmp, SIZE);
    memcpy(icmp + 2, &sum, sizeof sum);
    return TSR_ETHERNET_BYTES + TSR_IPV6_BYTES + SIZE;
}

static uint32_t write_neighbours(uint8_t *bytes, uint32_t n)
{
    return o.server.family == 4 ? write_arp(bytes, n) : write_solicitation(bytes, n);
}

static void flood_frames(uint32_t (*write)(uint8_t *bytes, uint32_t n), uint64_t end_ns)
{
    for (uint32_t i = 0; clock_ns() < end_ns; i++) {
        uint8_t *frame = frame_room();
        put(frame, write(frame, i));
    }
}

/* ---- Connections ---- */

struct attacker {
    struct client *client;
    struct initial_keys keys;
    uint8_t id[20];
    size_t id_bytes;
    uint32_t number; /* of the next packet by hand */
    uint64_t at;     /* how far its frames are, as each kind has it */
    bool has_secret, by_hand;
};

static struct attacker *attackers;
static uint32_t established;

static uint8_t *way_room(void *port, const struct tsr_path *path, size_t *capacity)
{
    (void)port, (void)path;
    *capacity = 1400;
    return frame_room();
}

static void way_send(void *port, const struct tsr_path *path, size_t size, uint8_t ecn)
{
    (void)port, (void)ecn;
    put_udp(&path->local, o.from, frame_room(), (uint32_t)size);
}

/* What programs write for Wireshark: from it the packets by hand have their keys. */
static int on_secret(gnutls_session_t tls, const char *label, const gnutls_datum_t *secret)
{
    const struct client *client =
        ((ngtcp2_crypto_conn_ref *)gnutls_session_get_ptr(tls))->user_data;
    if (strcmp(label, "CLIENT_TRAFFIC_SECRET_0") == 0 && secret->size == 32) {
        struct attacker *a = &attackers[client->place.number];
        initial_keys_of(&a->keys, secret->data);
        a->has_secret = true;
    }
    return 0;
}

static void open_attacker(struct attacker *a, bool raw)
{
    static uint32_t opened;
    uint32_t number = (uint32_t)(a - attackers);
    const struct client_place place = {
        .path = {.local = address_of(opened++), .remote = o.server},
        .way = {way_room, way_send},
        .now_ns = &now_ns,
        .number = number,
    };
    if (a->client) {
        client_free(a->client);
    }
    *a = (struct attacker){.number = NUMBER_FIRST};
    if (o.closed) {
        a->by_hand = true;
        a->id_bytes = 16;
        draw_bytes(a->id, a->id_bytes);
        a->id[0] = 0;
        draw_bytes(a->keys.key, sizeof a->keys.key);
        return;
    }
    a->client = client_create(&place, &(struct client_options){.raw = raw});
    gnutls_session_set_keylog_function(a->client->tls, on_secret);
    client_write(a->client);
}

/* What has come, each to whose id it has. */
static void receive(void)
{
    uint8_t bytes[2048];
    ssize_t size;
    while ((size = recv(out.fd, bytes, sizeof bytes, 0)) > 0) {
        struct tsr_frame frame;
        struct tsr_datagram datagram;
        uint32_t number, at = 1;
        if (tsr_frame_read(&frame, bytes, (uint32_t)size, 3) != TSR_PORT_TAKEN ||
            frame.protocol != TSR_PROTOCOL_UDP ||
            tsr_frame_read_udp(&frame, &datagram) != TSR_PORT_TAKEN || datagram.size < 24 ||
            memcmp(&datagram.path.remote, &o.server, sizeof o.server) != 0) {
            continue;
        }
        at = datagram.bytes[0] & 0x80 ? 6 : 1;
        memcpy(&number, datagram.bytes + at, sizeof number);
        if (number < o.connections && attackers[number].client && !attackers[number].by_hand &&
            memcmp(&datagram.path.local, &attackers[number].client->place.path.local,
                   sizeof datagram.path.local) == 0) {
            client_read(attackers[number].client, &datagram);
        }
    }
}

/* The time begins when the first one is established, within 20 seconds. */
static bool goes_on(uint64_t *end_ns)
{
    static uint64_t begun_ns;
    now_ns = clock_ns();
    begun_ns = begun_ns ? begun_ns : now_ns;
    if (!established && !o.closed && now_ns < begun_ns + 20000000000u) {
        *end_ns = now_ns + o.seconds * (uint64_t)1000000000u;
    }
    return now_ns < *end_ns;
}

/* Shakes hands with whom it has not; replaces whom the server has thrown out. */
static void tend(bool raw)
{
    receive();
    for (uint32_t i = 0; i < o.connections; i++) {
        struct attacker *a = &attackers[i];
        if (a->by_hand) {
            if (a->number - NUMBER_FIRST >= CLIENT_PACKETS) {
                open_attacker(a, raw);
            }
            continue;
        }
        if (!a->client || a->client->gone) {
            open_attacker(a, raw);
        }
        if (a->client && client_expiry_ns(a->client) <= now_ns) {
            client_expire(a->client);
        }
        if (a->client) {
            client_write(a->client);
        }
    }
}

/* ---- Kinds of packets by hand: frames until PLANT_BYTES are full ---- */

/* An integer of eight bytes (RFC 9000, 16). */
static uint8_t *put_number(uint8_t *at, uint64_t number)
{
    for (int i = 7; i >= 0; i--, number >>= 8) {
        at[i] = (uint8_t)number;
    }
    at[0] |= 0xc0;
    return at + 8;
}

static uint8_t *plant_ping(uint8_t *at, uint64_t n)
{
    (void)n;
    *at++ = 0x01;
    return at;
}

static uint8_t *plant_challenge(uint8_t *at, uint64_t n)
{
    (void)n;
    *at++ = 0x1a;
    draw_bytes(at, 8);
    return at + 8;
}

/* Each puts an end to the one before it. */
static uint8_t *plant_new_id(uint8_t *at, uint64_t n)
{
    *at++ = 0x18;
    at = put_number(at, n + 1);
    at = put_number(at, n + 1);
    *at++ = 8;
    draw_bytes(at, 24);
    return at + 24;
}

static uint8_t *plant_retire_id(uint8_t *at, uint64_t n)
{
    *at++ = 0x19;
    return put_number(at, n + 1);
}

static uint8_t *put_stream(uint8_t *at, uint64_t id, uint64_t offset, const void *bytes,
                           uint8_t size)
{
    *at++ = 0x0e; /* with an offset and a length */
    at = put_number(at, id);
    at = put_number(at, offset);
    *at++ = size;
    memcpy(at, bytes, size);
    return at + size;
}

/* HEADERS: POST https://localhost/ out of QPACK's static table. */
static const uint8_t request[] = {0x01, 16,  0,   0,   0xd4, 0xd7, 0xc1, 0x50, 9,
                                  'l',  'o', 'c', 'a', 'l',  'h',  'o',  's',  't'};

/* A request, then a DATA frame a byte. */
static uint8_t *plant_data(uint8_t *at, uint64_t n)
{
    return n ? put_stream(at, 0, sizeof request + 3 * (n - 1), "\x00\x01x", 3)
             : put_stream(at, 0, 0, request, sizeof request);
}

/* Every other byte of a stream. */
static uint8_t *plant_hole(uint8_t *at, uint64_t n)
{
    return put_stream(at, 0, 1 + 2 * n, "x", 1);
}

static uint8_t *plant_crypto_hole(uint8_t *at, uint64_t n)
{
    *at++ = 0x06;
    at = put_number(at, 1 + 2 * n);
    *at++ = 1;
    *at++ = 'x';
    return at;
}

static uint8_t *plant_empty(uint8_t *at, uint64_t n)
{
    (void)n;
    return put_stream(at, 0, 0, "", 0);
}

/* The control stream: SETTINGS of 8,000 bytes that mean nothing, then MAX_PUSH_ID without end. */
static uint8_t *plant_settings(uint8_t *at, uint64_t n)
{
    enum { PAIRS = 500, PAIR = 16, HEAD = 4, PUSH = 10 };
    uint8_t piece[PAIR] = {0x00, 0x04, 0x5f, 0x40}; /* the stream's type, SETTINGS, its length */
    if (!n) {
        return put_stream(at, 2, 0, piece, HEAD);
    }
    if (n <= PAIRS) {
        put_number(put_number(piece, 0x1f * n + 0x21), n);
        return put_stream(at, 2, HEAD + PAIR * (n - 1), piece, PAIR);
    }
    piece[0] = 0x0d;
    piece[1] = 8;
    put_number(piece + 2, n);
    return put_stream(at, 2, HEAD + PAIR * PAIRS + PUSH * (n - PAIRS - 1), piece, PUSH);
}

/* A unidirectional stream of no known type that ends at once. */
static uint8_t *plant_stream(uint8_t *at, uint64_t n)
{
    uint8_t *type = at;
    at = put_stream(at, 4 * n + 2, 0, "\x40\x21", 2);
    *type |= 1;
    return at;
}

static void put_by_hand(struct attacker *a, uint8_t *(*plant)(uint8_t *at, uint64_t n), bool moves)
{
    uint8_t *payload = frame_room(), *at = payload;
    struct tsr_address from = a->client ? a->client->place.path.local : address_of(a->number);
    *at++ = 0x43; /* short, a number of four bytes */
    memcpy(at, a->id, a->id_bytes);
    at += a->id_bytes;
    tsr_put16(at, a->number >> 16);
    tsr_put16(at + 2, a->number & 0xffff);
    at += 4;
    size_t head = (size_t)(at - payload);
    while (at < payload + head + PLANT_BYTES - 64) {
        at = plant(at, a->at++);
    }
    size_t frames = (size_t)(at - payload) - head;
    initial_protect(&a->keys, payload, head, a->number++, 4, frames);
    from.port = moves ? (uint16_t)(1024 + draw() % 60000) : from.port;
    put_udp(&from, o.from, payload, (uint32_t)(head + frames + 16));
}

static void flood_by_hand(uint8_t *(*plant)(uint8_t *at, uint64_t n), bool moves, uint64_t end_ns)
{
    while (goes_on(&end_ns)) {
        tend(true);
        for (uint32_t i = 0; i < o.connections; i++) {
            struct attacker *a = &attackers[i];
            if (!a->by_hand && a->client->established && a->has_secret) {
                const ngtcp2_cid *id = ngtcp2_conn_get_dcid(a->client->quic);
                memcpy(a->id, id->data, id->datalen);
                a->id_bytes = id->datalen;
                a->by_hand = true;
                established++;
            }
            if (a->by_hand) {
                put_by_hand(a, plant, moves);
            }
        }
        flush();
    }
}

/* ---- Kinds of clients that behave, and yet ---- */

/* Asks for the page, on as many streams as it may. */
static void ask_page(struct attacker *a)
{
    static const char *const fields[][2] = {
        {":method", "GET"}, {":scheme", "https"}, {":authority", "localhost"}, {":path", "/"}};
    a->at++;
    while (client_try(a->client, fields, 4, NULL, 0)) {
    }
}

static void ask_pages(struct attacker *a)
{
    struct client *c = a->client;
    for (uint32_t i = 0; i < c->n_answers;) {
        if (c->answers[i]->closed) {
            client_forget(c->answers[i]);
        } else {
            i++;
        }
    }
    ask_page(a);
}

/* Requests, each given up at once. */
static void ask_and_give_up(struct attacker *a)
{
    struct client *c = a->client;
    ask_pages(a);
    client_write(c);
    for (uint32_t i = 0; i < c->n_answers; i++) {
        ngtcp2_conn_shutdown_stream(c->quic, 0, c->answers[i]->id, NGHTTP3_H3_REQUEST_CANCELLED);
    }
}

/* Takes nothing of what it has asked for. */
static void ask_and_not_read(struct attacker *a)
{
    a->client->reads = false;
    if (!a->at) {
        ask_page(a);
    }
}

/* Heads that are never whole; bodies that are promised. */
static void begin_heads(struct attacker *a)
{
    static const uint8_t head[] = {0x01, 0x40, 0xff, 0, 0, 0xd4, 0xd7, 0xc1};
    if (a->at++ < CLIENT_RAW_MAX) {
        client_say(a->client, false, head, sizeof head, false);
    }
}

static void begin_bodies(struct attacker *a)
{
    static const uint8_t begun[] = {0x01, 0x10, 0,   0,   0xd4, 0xd7, 0xc1, 0x50, 9,    'l',  'o',
                                    'c',  'a',  'l', 'h', 'o',  's',  't',  0x00, 0x7f, 0xff, 'x'};
    if (a->at++ < CLIENT_RAW_MAX) {
        client_say(a->client, false, begun, sizeof begun, false);
    }
}

static void flood_clients(void (*act)(struct attacker *a), bool raw, uint64_t end_ns)
{
    while (goes_on(&end_ns)) {
        tend(raw);
        for (uint32_t i = 0; i < o.connections; i++) {
            struct attacker *a = &attackers[i];
            if (!o.closed && a->client->established && !a->client->gone) {
                established += a->at == 0;
                act(a);
                client_write(a->client);
            }
        }
        flush();
        pace();
    }
}

/* ---- All kinds ---- */

static const struct kind {
    const char *name;
    uint32_t (*make)(uint8_t *payload);
    bool forges_macs;
    uint32_t (*write)(uint8_t *frame, uint32_t n);
    uint8_t *(*plant)(uint8_t *at, uint64_t n);
    bool moves;
    void (*act)(struct attacker *attacker);
    bool raw;
} kinds[] = {
    {.name = "garbage", .make = make_garbage},
    {.name = "short", .make = make_short},
    {.name = "versions", .make = make_version},
    {.name = "hellos", .make = make_hello}, /* half-open handshakes */
    {.name = "broken-hellos", .make = make_broken},
    {.name = "half-hellos", .make = make_half},
    {.name = "tokens", .make = make_token},
    {.name = "forged-macs", .make = make_garbage, .forges_macs = true},
    {.name = "neighbours", .write = write_neighbours},
    {.name = "echoes", .write = write_echo},
    {.name = "pings", .plant = plant_ping},
    {.name = "moves", .plant = plant_ping, .moves = true},
    {.name = "challenges", .plant = plant_challenge},
    {.name = "new-ids", .plant = plant_new_id},
    {.name = "retired-ids", .plant = plant_retire_id},
    {.name = "small-data", .plant = plant_data},
    {.name = "empty-frames", .plant = plant_empty},
    {.name = "holes", .plant = plant_hole},
    {.name = "crypto-holes", .plant = plant_crypto_hole},
    {.name = "settings", .plant = plant_settings},
    {.name = "streams", .plant = plant_stream},
    {.name = "pages", .act = ask_pages},
    {.name = "resets", .act = ask_and_give_up},
    {.name = "slow-readers", .act = ask_and_not_read},
    {.name = "slow-heads", .act = begin_heads, .raw = true},
    {.name = "slow-bodies", .act = begin_bodies, .raw = true},
};

static void flood(const struct kind *kind, uint64_t end_ns)
{
    if (kind->make) {
        flood_payloads(kind->make, kind->forges_macs, end_ns);
    } else if (kind->write) {
        flood_frames(kind->write, end_ns);
    } else if (kind->plant || o.closed) {
        flood_by_hand(kind->plant ? kind->plant : plant_ping, kind->moves, end_ns);
    } else {
        flood_clients(kind->act, kind->raw, end_ns);
    }
    flush();
}

__attribute__((noreturn)) static void refuse(const char *what)
{
    fprintf(stderr, "flood: %s; see the head of flood.c\n", what);
    exit(2);
}

static void read_server(char *text)
{
    char *colon = strrchr(text, ':');
    bool v6 = text[0] == '[';
    if (!colon) {
        refuse("--server ADDRESS:PORT");
    }
    colon[v6 ? -1 : 0] = '\0';
    o.server.family = v6 ? 6 : 4;
    o.server.port = (uint16_t)atoi(colon + 1);
    if (inet_pton(v6 ? AF_INET6 : AF_INET, text + v6, o.server.ip) != 1) {
        refuse("--server ADDRESS:PORT");
    }
}

static void read_prefix(const char *text)
{
    unsigned a, b;
    uint8_t ip[16];
    if (sscanf(text, "%u.%u", &a, &b) == 2) {
        o.prefix[0] = (uint8_t)a;
        o.prefix[1] = (uint8_t)b;
    } else if (inet_pton(AF_INET6, text, ip) == 1) {
        memcpy(o.prefix, ip, sizeof o.prefix);
    } else {
        refuse("--from 10.99 or fd99::");
    }
}

static void read_macs(const char *text)
{
    for (int i = 0; i < 2 * TSR_MAC_BYTES; i++) {
        unsigned byte;
        if (sscanf(text + 2 * i, "%2x", &byte) != 1) {
            refuse("--macs 24HEX");
        }
        *(i < TSR_MAC_BYTES ? &o.to[i] : &o.from[i - TSR_MAC_BYTES]) = (uint8_t)byte;
    }
}

static void read_options(int argc, char **argv)
{
    static const struct option names[] = {
        {"device", 1, NULL, 'd'},    {"macs", 1, NULL, 'm'},
        {"server", 1, NULL, 's'},    {"from", 1, NULL, 'f'},
        {"seconds", 1, NULL, 't'},   {"rate", 1, NULL, 'r'},
        {"addresses", 1, NULL, 'a'}, {"connections", 1, NULL, 'c'},
        {"closed", 0, NULL, 'x'},    {"busy", 0, NULL, 'b'},
        {NULL, 0, NULL, 0},
    };
    int option;
    while ((option = getopt_long(argc, argv, "", names, NULL)) != -1) {
        switch (option) {
        case 'd':
            o.device = optarg;
            break;
        case 'm':
            read_macs(optarg);
            break;
        case 's':
            read_server(optarg);
            break;
        case 'f':
            read_prefix(optarg);
            break;
        case 't':
            o.seconds = (uint32_t)atoi(optarg);
            break;
        case 'r':
            o.rate = (uint32_t)atoi(optarg);
            break;
        case 'a':
            o.addresses = (uint32_t)atoi(optarg);
            break;
        case 'c':
            o.connections = (uint32_t)atoi(optarg);
            break;
        case 'x':
            o.closed = true;
            break;
        case 'b':
            o.busy = true;
            break;
        default:
            refuse("an unknown option");
        }
    }
    if (optind + 1 != argc || !o.device || !o.server.family || !o.addresses || !o.connections) {
        refuse("a device, a server and one kind are wanted");
    }
    o.kind = argv[optind];
}

int main(int argc, char **argv)
{
    read_options(argc, argv);
    attackers = calloc(o.connections, sizeof *attackers);
    int rc = open_link();
    if (rc < 0 || !attackers) {
        refuse(rc < 0 ? strerror(-rc) : "no memory");
    }
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (strcmp(kinds[i].name, o.kind) == 0) {
            now_ns = out.due_ns = clock_ns();
            flood(&kinds[i], now_ns + o.seconds * (uint64_t)1000000000u);
            printf("kind=%s sent=%ju established=%u\n", o.kind, (uintmax_t)out.sent, established);
            return 0;
        }
    }
    refuse("no such kind");
}
