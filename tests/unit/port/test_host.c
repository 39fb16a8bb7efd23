#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "host_priv.h"
#include "packets.h"

static struct tsr_host *host;
static const struct tsr_path path4 = {{{10, 0, 0, 1}, 443, 4, 0}, {{10, 0, 0, 2}, 5555, 4, 0}};
static const struct tsr_path path6 = {{{0xfd, [15] = 1}, 443, 6, 0},
                                      {{0xfd, [15] = 2}, 5555, 6, 0}};

static int set_up(void **state)
{
    (void)state;
    host = calloc(1, sizeof *host);
    assert_non_null(host);
    host->listen[0] = (struct tsr_port_listen){
        .address = path4.local, .prefix = 24, .has_gateway = true, .gateway = {10, 0, 0, 254}};
    host->listen[1] = (struct tsr_port_listen){.address = path6.local, .prefix = 64};
    host->n_listen = 2;
    host->mtu = 1500;
    host->is_alone = true;
    host->now_ns = 5000000000u;
    memcpy(host->mac, our_mac, sizeof our_mac);
    return tsr_host_init(host, NULL);
}

static int tear_down(void **state)
{
    (void)state;
    free(host);
    return 0;
}

/* The answer, if any, takes the packet's place. */
static struct tsr_host_result take(struct packet *p)
{
    struct tsr_host_result result;
    tsr_host_take(host, &result, p->bytes, p->size, sizeof p->bytes, 0);
    if (result.answer_bytes) {
        p->size = result.answer_bytes;
    }
    return result;
}

static void arp(struct packet *p, unsigned operation, const uint8_t *sender, const uint8_t *target)
{
    static const uint8_t all[6] = {255, 255, 255, 255, 255, 255}, head[6] = {0, 1, 8, 0, 6, 4};
    static const uint8_t nobody[6];
    ethernet(p, operation == 1 ? all : our_mac, peer_mac, host->vlan, 0x0806);
    put(p, head, 6);
    put16(p, operation);
    put(p, peer_mac, 6);
    put(p, sender, 4);
    put(p, nobody, 6);
    put(p, target, 4);
}

static void neighbour(struct packet *p, uint8_t type, const uint8_t *from, const uint8_t *target,
                      bool with_mac)
{
    static const uint8_t group[6] = {0x33, 0x33, 0xff, 0, 0, 1};
    static const uint8_t group_ip[16] = {0xff, 2, [11] = 1, 0xff, 0, 0, 1};
    const uint8_t head[8] = {type, 0, 0, 0, type == 136 ? 0x60 : 0};
    const uint8_t option[2] = {type == 135 ? 1 : 2, 1};
    ipv6(p, 0, 58);
    memcpy(p->bytes + p->ip + 8, from, 16);
    if (type == 135) {
        memcpy(p->bytes, group, 6);
        memcpy(p->bytes + p->ip + 24, group_ip, 16);
    }
    put(p, head, 8);
    put(p, target, 16);
    if (with_mac) {
        put(p, option, 2);
        put(p, peer_mac, 6);
    }
    finish(p);
}

static void test_host_answers_arp(void **state)
{
    static const uint8_t other[4] = {10, 0, 0, 9}, nobody[4];
    struct packet p;
    (void)state;
    for (unsigned vlan = 0; vlan <= 7; vlan += 7) {
        host->vlan = (uint16_t)vlan;
        arp(&p, 1, peer_ipv4, our_ipv4);
        assert_int_equal(take(&p).answer_bytes, vlan ? 46 : 42);
        assert_memory_equal(p.bytes, peer_mac, 6);
        assert_memory_equal(p.bytes + 6, our_mac, 6);
        assert_int_equal(p.bytes[p.ip + 7], 2);
        assert_memory_equal(p.bytes + p.ip + 8, our_mac, 6);
        assert_memory_equal(p.bytes + p.ip + 14, our_ipv4, 4);
        assert_memory_equal(p.bytes + p.ip + 18, peer_mac, 6);
        assert_memory_equal(p.bytes + p.ip + 24, peer_ipv4, 4);
    }
    host->vlan = 0;
    arp(&p, 1, peer_ipv4, other);
    assert_int_equal(take(&p).drop, TSR_PORT_DROP_ADDRESS);
    arp(&p, 1, our_ipv4, our_ipv4);
    assert_int_equal(take(&p).drop, TSR_PORT_DROP_SOURCE);
    arp(&p, 1, nobody, our_ipv4); /* looks whether the address is free: it is not */
    assert_int_equal(take(&p).answer_bytes, 42);
    arp(&p, 1, peer_ipv4, our_ipv4);
    p.bytes[p.ip + 4] = 8;
    assert_int_equal(take(&p).drop, TSR_PORT_DROP_HEADER);
    for (uint32_t size = 0; size < 42; size++) {
        arp(&p, 1, peer_ipv4, our_ipv4);
        p.size = size;
        assert_int_equal(take(&p).drop, TSR_PORT_DROP_SHORT);
    }
}

static void test_host_leaves_the_rest_to_the_kernel(void **state)
{
    static const uint8_t echo[8] = {8, 0, 0, 0, 1, 2, 3, 4};
    struct packet p;
    (void)state;
    host->is_alone = false;
    arp(&p, 1, peer_ipv4, our_ipv4);
    assert_int_equal(take(&p).drop, TSR_PORT_DROP_PROTOCOL);
    neighbour(&p, 135, peer_ipv6, our_ipv6, true);
    assert_int_equal(take(&p).answer_bytes, 0);
    ipv4(&p, 0, 1);
    put(&p, echo, 8);
    finish(&p);
    assert_int_equal(take(&p).answer_bytes, 0);
    udp_packet(&p, 4, 0);
    assert_true(take(&p).is_datagram);
}

static void test_host_answers_solicitations(void **state)
{
    static const uint8_t nobody[16], all[6] = {0x33, 0x33, 0, 0, 0, 1};
    struct packet p;
    (void)state;
    for (int with_mac = 0; with_mac < 2; with_mac++) {
        neighbour(&p, 135, peer_ipv6, our_ipv6, with_mac);
        assert_int_equal(take(&p).answer_bytes, 86);
        assert_memory_equal(p.bytes, peer_mac, 6);
        assert_int_equal(p.bytes[21], 255); /* hops */
        assert_memory_equal(p.bytes + 22, our_ipv6, 16);
        assert_memory_equal(p.bytes + 38, peer_ipv6, 16);
        assert_int_equal(p.bytes[54], 136);
        assert_int_equal(p.bytes[58], 0x60);
        assert_memory_equal(p.bytes + 62, our_ipv6, 16);
        assert_int_equal(p.bytes[78], 2);
        assert_memory_equal(p.bytes + 80, our_mac, 6);
        assert_int_equal(complement(words(p.bytes + 22, 32) + 32 + 58 + words(p.bytes + 54, 32)),
                         0);
    }
    neighbour(&p, 135, nobody, our_ipv6, false); /* is about to take our address */
    assert_int_equal(take(&p).answer_bytes, 86);
    assert_memory_equal(p.bytes, all, 6);
    assert_int_equal(p.bytes[58], 0x20);
    neighbour(&p, 135, nobody, our_ipv6, true);
    assert_int_equal(take(&p).drop, TSR_PORT_DROP_HEADER);
}

static void test_host_refuses_solicitations(void **state)
{
    struct tsr_host_result result;
    struct packet p;
    (void)state;
    neighbour(&p, 135, peer_ipv6, peer_ipv6, true);
    assert_int_equal(take(&p).drop, TSR_PORT_DROP_ADDRESS);
    neighbour(&p, 135, peer_ipv6, our_ipv6, true);
    p.bytes[21] = 254; /* came through a router */
    assert_int_equal(take(&p).drop, TSR_PORT_DROP_ICMP);
    neighbour(&p, 135, peer_ipv6, our_ipv6, true);
    p.bytes[79] = 0; /* an option of no length */
    finish(&p);
    assert_int_equal(take(&p).drop, TSR_PORT_DROP_HEADER);
    neighbour(&p, 135, peer_ipv6, our_ipv6, true);
    p.bytes[60] ^= 1;
    assert_int_equal(take(&p).drop, TSR_PORT_DROP_CHECKSUM);
    neighbour(&p, 135, peer_ipv6, our_ipv6, false);
    tsr_host_take(host, &result, p.bytes, p.size, 85, 0); /* no room for the answer */
    assert_int_equal(result.drop, TSR_PORT_DROP_BIG);
    for (uint32_t size = 0; size < 86; size++) {
        neighbour(&p, 135, peer_ipv6, our_ipv6, true);
        p.size = size;
        assert_int_equal(take(&p).drop, TSR_PORT_DROP_SHORT);
    }
}

static void test_host_answers_echoes(void **state)
{
    (void)state;
    for (int family = 4; family <= 6; family += 2) {
        for (uint32_t more = 0; more < 600; more += 37) {
            uint8_t echo[608] = {family == 4 ? 8 : 128, 0, 0, 0, 1, 2, 3, 4, 5};
            struct packet p;
            family == 4 ? ipv4(&p, 0, 1) : ipv6(&p, 0, 58);
            put(&p, echo, 8 + more);
            finish(&p);
            uint32_t size = p.size;
            assert_int_equal(take(&p).answer_bytes, size);
            assert_int_equal(p.bytes[p.body], family == 4 ? 0 : 129);
            assert_memory_equal(p.bytes + p.body + 4, echo + 4, 4 + more);
            assert_memory_equal(p.bytes, peer_mac, 6);
            struct packet same = p;
            finish(&same); /* sums */
            assert_memory_equal(same.bytes, p.bytes, size);
        }
    }
}

static void test_host_limits_answers(void **state)
{
    uint32_t answers = 0;
    (void)state;
    for (int second = 0; second < 2; second++) {
        for (int i = 0; i < 5000; i++) {
            struct packet p;
            arp(&p, 1, peer_ipv4, our_ipv4);
            answers += take(&p).answer_bytes != 0;
        }
        assert_int_equal(answers, (second + 1) * TSR_HOST_ANSWERS_PER_SECOND);
        host->now_ns += 1000000000u;
    }
}

/* A flood of echoes, from anywhere, does not take us off the link. */
static void test_host_answers_neighbours_beside_echoes(void **state)
{
    const uint8_t echo[8] = {8};
    (void)state;
    struct packet p;
    for (int i = 0; i < 5000; i++) {
        ipv4(&p, 0, 1);
        put(&p, echo, sizeof echo);
        finish(&p);
        take(&p);
    }
    arp(&p, 1, peer_ipv4, our_ipv4);
    assert_true(take(&p).answer_bytes);
    neighbour(&p, 135, peer_ipv6, our_ipv6, true);
    assert_true(take(&p).answer_bytes);
}

/* Somebody far away writes a neighbour's address as his own: his packets come by the gateway. */
static void test_host_keeps_neighbours_from_afar(void **state)
{
    static const uint8_t gateway_mac[6] = {2, 0, 0, 0, 0, 9};
    static const uint8_t gateway_ip[4] = {10, 0, 0, 254};
    (void)state;
    struct packet p;
    arp(&p, 2, gateway_ip, our_ipv4);
    memcpy(p.bytes + p.ip + 8, gateway_mac, 6);
    take(&p);
    udp_packet(&p, 4, 0);
    assert_true(take(&p).is_datagram);
    udp_packet(&p, 4, 0);
    memcpy(p.bytes + 6, gateway_mac, 6);
    assert_true(take(&p).is_datagram);
    uint8_t payload[128];
    const uint8_t *frame = tsr_host_write(host, &path4, payload + 64, 64, 0);
    assert_memory_equal(frame, peer_mac, 6);
}

static void test_host_drops_what_is_not_for_us(void **state)
{
    /* clang-format off */
    static const struct { int family; unsigned vlan; uint32_t at; uint8_t value; enum tsr_port_drop drop; } cases[] = {
        {4, 0, 0, 4, TSR_PORT_DROP_MAC},
        {4, 0, 6, 3, TSR_PORT_DROP_MAC},      /* from a group */
        {4, 0, 0, 3, TSR_PORT_DROP_MAC},      /* a datagram to a group of hosts */
        {4, 9, 0, 2, TSR_PORT_DROP_VLAN},
        {4, 0, 33, 9, TSR_PORT_DROP_ADDRESS},
        {6, 0, 53, 9, TSR_PORT_DROP_ADDRESS},
        {4, 0, 29, 1, TSR_PORT_DROP_SOURCE},  /* from our own address */
        {6, 0, 37, 1, TSR_PORT_DROP_SOURCE},
        {4, 0, 37, 9, TSR_PORT_DROP_UDP_PORT},
    };
    /* clang-format on */
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct packet p;
        udp_packet(&p, cases[i].family, cases[i].vlan);
        p.bytes[cases[i].at] = cases[i].value;
        finish(&p);
        enum tsr_port_drop drop = take(&p).drop;
        if (drop != cases[i].drop) {
            fail_msg("case %zu: %s", i, tsr_port_drop_name(drop));
        }
    }
}

static void test_host_sends_back(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++) {
        const struct tsr_path *path = i & 1 ? &path6 : &path4;
        struct packet p, out = {0};
        host->vlan = i & 2 ? 12 : 0;
        udp_packet(&p, i & 1 ? 6 : 4, host->vlan);
        struct tsr_host_result result = take(&p);
        assert_true(result.is_datagram);
        assert_memory_equal(&result.datagram.path, path, sizeof *path);
        assert_int_equal(tsr_host_reach(host, path), i & 1 ? 1452 : 1472);
        uint32_t head = tsr_frame_head_bytes(path->remote.family, host->vlan);
        assert_ptr_equal(tsr_host_write(host, path, out.bytes + head, 3, 1), out.bytes);
        assert_memory_equal(out.bytes, peer_mac, 6);
        assert_memory_equal(out.bytes + 6, our_mac, 6);
    }
}

static void test_host_asks_for_who_is_forgotten(void **state)
{
    struct tsr_path far = path4;
    struct packet p;
    (void)state;
    assert_int_equal(tsr_host_reach(host, &path4), 0);
    assert_int_equal(tsr_host_ask(host, &path4, p.bytes), 42);
    assert_memory_equal(p.bytes + 38, peer_ipv4, 4);
    arp(&p, 2, peer_ipv4, our_ipv4);
    assert_int_equal(take(&p).drop, TSR_PORT_TAKEN);
    assert_int_equal(tsr_host_reach(host, &path4), 1472);

    far.remote.ip[0] = 11; /* through the gateway */
    assert_int_equal(tsr_host_reach(host, &far), 0);
    assert_int_equal(tsr_host_ask(host, &far, p.bytes), 42);
    assert_memory_equal(p.bytes + 38, host->listen[0].gateway, 4);
    arp(&p, 2, host->listen[0].gateway, our_ipv4);
    take(&p);
    assert_int_equal(tsr_host_reach(host, &far), 1472);

    assert_int_equal(tsr_host_ask(host, &path6, p.bytes), 86);
    assert_int_equal(complement(words(p.bytes + 22, 32) + 32 + 58 + words(p.bytes + 54, 32)), 0);
    assert_memory_equal(p.bytes + 62, peer_ipv6, 16);
    neighbour(&p, 136, peer_ipv6, peer_ipv6, true);
    assert_int_equal(take(&p).drop, TSR_PORT_TAKEN);
    assert_int_equal(tsr_host_reach(host, &path6), 1452);

    struct tsr_path nowhere = path6;
    nowhere.remote.ip[0] = 0x20; /* another network, and no gateway */
    assert_int_equal(tsr_host_reach(host, &nowhere), 0);
    assert_int_equal(tsr_host_ask(host, &nowhere, p.bytes), 0);
}

/* What a router says of a datagram that we sent, of so many bytes that it quotes. */
static void too_big(struct packet *p, int family, unsigned mtu, unsigned port)
{
    const uint8_t head4[4] = {3, 4}, head6[4] = {2, 0};
    const uint8_t quote4[12] = {0x45, 0, 5, 220, 0, 0, 0x40, 0, 60, 17};
    const uint8_t quote6[8] = {0x60, 0, 0, 0, 5, 220, 17, 60};
    family == 4 ? ipv4(p, 0, 1) : ipv6(p, 0, 58);
    put(p, family == 4 ? head4 : head6, 4);
    put16(p, 0);
    put16(p, mtu);
    if (family == 4) {
        put(p, quote4, 12);
        put(p, our_ipv4, 4);
        put(p, peer_ipv4, 4);
    } else {
        memcpy(p->bytes + p->size, quote6, 8);
        p->bytes[p->size + 6] = 17;
        p->size += 8;
        put(p, our_ipv6, 16);
        put(p, peer_ipv6, 16);
    }
    put16(p, port);
    put16(p, 5555);
    finish(p);
}

static void test_host_believes_routers_a_little(void **state)
{
    struct packet p;
    (void)state;
    for (int family = 4; family <= 6; family += 2) {
        const struct tsr_path *path = family == 4 ? &path4 : &path6;
        uint32_t heads = family == 4 ? 28 : 48;
        too_big(&p, family, 1400, 443);
        assert_int_equal(take(&p).drop, TSR_PORT_DROP_ICMP); /* of nobody known */
        udp_packet(&p, family, 0);
        take(&p);
        too_big(&p, family, 1400, 444);
        assert_int_equal(take(&p).drop, TSR_PORT_DROP_ICMP); /* not sent by us */
        too_big(&p, family, 1500, 443);
        assert_int_equal(take(&p).drop, TSR_PORT_DROP_ICMP); /* no smaller */
        assert_int_equal(tsr_host_reach(host, path), 1500 - heads);
        too_big(&p, family, 1400, 443);
        assert_int_equal(take(&p).drop, TSR_PORT_TAKEN);
        assert_int_equal(tsr_host_reach(host, path), 1400 - heads);
        too_big(&p, family, 68, 443);
        take(&p);
        assert_int_equal(tsr_host_reach(host, path), 1200);
        for (uint32_t size = p.size - 1; size > p.body; size--) {
            too_big(&p, family, 1300, 443);
            p.size = size;
            finish(&p);
            take(&p);
        }
        host->now_ns += 601000000000u;
        assert_int_equal(tsr_host_reach(host, path), 1500 - heads);
    }
}

/* A hundred thousand forged addresses do not push out whom we talk with. */
static void test_host_keeps_friends_in_a_flood(void **state)
{
    struct packet p;
    (void)state;
    for (int i = 0; i < 100000; i++) {
        if (i % 100 == 0) {
            udp_packet(&p, 4, 0);
            take(&p);
        }
        udp_packet(&p, 4, 0);
        p.bytes[p.ip + 12] = 11;
        p.bytes[p.ip + 13] = (uint8_t)(i >> 16);
        p.bytes[p.ip + 14] = (uint8_t)(i >> 8);
        p.bytes[p.ip + 15] = (uint8_t)i;
        finish(&p);
        assert_true(take(&p).is_datagram);
        if (i > 1000) {
            assert_int_equal(tsr_host_reach(host, &path4), 1472);
        }
    }
}

#define with_host(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        with_host(test_host_answers_arp),
        with_host(test_host_leaves_the_rest_to_the_kernel),
        with_host(test_host_answers_solicitations),
        with_host(test_host_refuses_solicitations),
        with_host(test_host_answers_echoes),
        with_host(test_host_limits_answers),
        with_host(test_host_answers_neighbours_beside_echoes),
        with_host(test_host_keeps_neighbours_from_afar),
        with_host(test_host_drops_what_is_not_for_us),
        with_host(test_host_sends_back),
        with_host(test_host_asks_for_who_is_forgotten),
        with_host(test_host_believes_routers_a_little),
        with_host(test_host_keeps_friends_in_a_flood),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
