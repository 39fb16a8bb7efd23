#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "frame_priv.h"
#include "packets.h"

/* From memory that ends where the frame does. */
static enum tsr_port_drop read_udp(const struct packet *p, uint32_t size, unsigned good,
                                   struct tsr_datagram *datagram)
{
    static uint8_t kept[2048];
    struct tsr_frame frame;
    uint8_t *exact = malloc(size ? size : 1);
    assert_non_null(exact);
    memcpy(exact, p->bytes, size);
    enum tsr_port_drop drop = tsr_frame_read(&frame, exact, size, good);
    if (drop == TSR_PORT_TAKEN && frame.protocol != TSR_PROTOCOL_UDP) {
        drop = TSR_PORT_DROP_PROTOCOL;
    }
    if (drop == TSR_PORT_TAKEN) {
        drop = tsr_frame_read_udp(&frame, datagram);
    }
    if (drop == TSR_PORT_TAKEN) {
        memcpy(kept, datagram->bytes, datagram->size);
        datagram->bytes = kept;
    }
    free(exact);
    return drop;
}

static enum tsr_port_drop drop_of(const struct packet *p)
{
    struct tsr_datagram datagram;
    return read_udp(p, p->size, 0, &datagram);
}

static void test_frame_reads_datagrams(void **state)
{
    static const uint8_t padding[20] = {0xaa};
    (void)state;
    for (int i = 0; i < 8; i++) {
        struct packet p;
        struct tsr_datagram datagram = {0};
        int family = i & 1 ? 6 : 4;
        udp_packet(&p, family, i & 2 ? 77 : 0);
        if (i & 4) {
            put(&p, padding, sizeof padding);
        }
        assert_int_equal(read_udp(&p, p.size, 0, &datagram), TSR_PORT_TAKEN);
        assert_int_equal(datagram.size, 5);
        assert_memory_equal(datagram.bytes, "hello", 5);
        assert_int_equal(datagram.ecn, 2);
        assert_int_equal(datagram.path.local.port, 443);
        assert_int_equal(datagram.path.remote.port, 5555);
        assert_int_equal(datagram.path.local.family, family);
        assert_memory_equal(datagram.path.local.ip, family == 4 ? our_ipv4 : our_ipv6,
                            family == 4 ? 4 : 16);
        assert_memory_equal(datagram.path.remote.ip, family == 4 ? peer_ipv4 : peer_ipv6,
                            family == 4 ? 4 : 16);
    }
}

static void test_frame_refuses_each_cut(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++) {
        struct packet p;
        struct tsr_datagram datagram;
        udp_packet(&p, i & 1 ? 6 : 4, i & 2 ? 77 : 0);
        for (uint32_t size = 0; size < p.size; size++) {
            assert_int_equal(read_udp(&p, size, 0, &datagram), TSR_PORT_DROP_SHORT);
        }
    }
}

/* Each byte that a checksum covers. */
static void test_frame_refuses_each_flipped_byte(void **state)
{
    (void)state;
    for (int family = 4; family <= 6; family += 2) {
        struct packet whole;
        udp_packet(&whole, family, 0);
        for (uint32_t at = family == 4 ? 14 : 14 + 8; at < whole.size; at++) {
            struct packet p = whole;
            p.bytes[at] ^= 0x10;
            assert_int_not_equal(drop_of(&p), TSR_PORT_TAKEN);
        }
    }
}

static void test_frame_names_the_cause(void **state)
{
    /* clang-format off */
    static const struct { uint8_t family; uint32_t at; uint8_t value; bool sums; enum tsr_port_drop drop; } cases[] = {
        {4, 12, 0x09, false, TSR_PORT_DROP_PROTOCOL}, /* ethertype */
        {4, 14, 0x55, false, TSR_PORT_DROP_HEADER},   /* version 5 */
        {4, 14, 0x44, false, TSR_PORT_DROP_HEADER},   /* header of 16 bytes */
        {4, 14, 0x4f, false, TSR_PORT_DROP_HEADER},   /* header of 60 bytes in 33 */
        {4, 17, 19, false, TSR_PORT_DROP_HEADER},     /* total below the header */
        {4, 16, 1, false, TSR_PORT_DROP_SHORT},       /* total beyond the frame */
        {4, 20, 0x60, true, TSR_PORT_DROP_FRAGMENT},  /* more fragments */
        {4, 21, 1, true, TSR_PORT_DROP_FRAGMENT},     /* an offset */
        {4, 20, 0xc0, true, TSR_PORT_DROP_FRAGMENT},  /* the reserved bit */
        {4, 23, 6, true, TSR_PORT_DROP_PROTOCOL},     /* TCP */
        {4, 24, 1, false, TSR_PORT_DROP_CHECKSUM},    /* the header's checksum */
        {4, 40, 1, false, TSR_PORT_DROP_CHECKSUM},    /* UDP's */
        {4, 26, 127, true, TSR_PORT_DROP_SOURCE},     /* loopback */
        {4, 26, 0, true, TSR_PORT_DROP_SOURCE},
        {4, 26, 224, true, TSR_PORT_DROP_SOURCE},     /* a group */
        {4, 26, 255, true, TSR_PORT_DROP_SOURCE},
        {6, 14, 0x40, false, TSR_PORT_DROP_HEADER},
        {6, 18, 1, false, TSR_PORT_DROP_SHORT},
        {6, 20, 44, false, TSR_PORT_DROP_FRAGMENT},
        {6, 20, 59, false, TSR_PORT_DROP_PROTOCOL},   /* nothing follows */
        {6, 22, 0xff, true, TSR_PORT_DROP_SOURCE},
    };
    /* clang-format on */
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct packet p;
        udp_packet(&p, cases[i].family, 0);
        p.bytes[cases[i].at] = cases[i].value;
        if (cases[i].sums) {
            finish(&p);
        }
        if (drop_of(&p) != cases[i].drop) {
            fail_msg("case %zu: %s instead of %s", i, tsr_port_drop_name(drop_of(&p)),
                     tsr_port_drop_name(cases[i].drop));
        }
    }
}

static void test_frame_checks_udp_lengths(void **state)
{
    struct packet p;
    (void)state;
    udp_packet(&p, 4, 0);
    set16(&p, p.body + 4, 7);
    assert_int_equal(drop_of(&p), TSR_PORT_DROP_HEADER);
    set16(&p, p.body + 4, 14);
    assert_int_equal(drop_of(&p), TSR_PORT_DROP_SHORT);
    ipv4(&p, 0, 17);
    udp(&p, 0, 443, "x", 1);
    assert_int_equal(drop_of(&p), TSR_PORT_DROP_SOURCE);
    ipv4(&p, 0, 17);
    udp(&p, 1, 443, "", 0);
    assert_int_equal(drop_of(&p), TSR_PORT_TAKEN);
}

/* A sum of 0 says that there is none: IPv4 alone may. */
static void test_frame_without_udp_sum(void **state)
{
    struct packet p;
    (void)state;
    udp_packet(&p, 4, 0);
    set16(&p, p.body + 6, 0);
    assert_int_equal(drop_of(&p), TSR_PORT_TAKEN);
    udp_packet(&p, 6, 0);
    set16(&p, p.body + 6, 0);
    assert_int_equal(drop_of(&p), TSR_PORT_DROP_CHECKSUM);
}

static void test_frame_believes_the_device(void **state)
{
    struct tsr_datagram datagram;
    struct packet p;
    (void)state;
    udp_packet(&p, 4, 0);
    p.bytes[24] ^= 1;
    p.bytes[p.body + 6] ^= 1;
    assert_int_equal(read_udp(&p, p.size, TSR_FRAME_UDP_GOOD, &datagram), TSR_PORT_DROP_CHECKSUM);
    assert_int_equal(read_udp(&p, p.size, TSR_FRAME_IP_GOOD, &datagram), TSR_PORT_DROP_CHECKSUM);
    assert_int_equal(read_udp(&p, p.size, TSR_FRAME_IP_GOOD | TSR_FRAME_UDP_GOOD, &datagram),
                     TSR_PORT_TAKEN);
}

static void test_frame_skips_ipv4_options(void **state)
{
    static const uint8_t head[12] = {0x46, 1, 0, 0, 0, 0, 0x40, 0, 64, 17};
    static const uint8_t options[4] = {1, 1, 1, 0};
    struct packet p;
    struct tsr_datagram datagram;
    (void)state;
    ethernet(&p, our_mac, peer_mac, 0, 0x0800);
    put(&p, head, sizeof head);
    put(&p, peer_ipv4, 4);
    put(&p, our_ipv4, 4);
    put(&p, options, 4);
    p.body = p.size;
    udp(&p, 5555, 443, "hello", 5);
    assert_int_equal(read_udp(&p, p.size, 0, &datagram), TSR_PORT_TAKEN);
    assert_int_equal(datagram.size, 5);
    for (uint32_t size = 0; size < p.size; size++) {
        assert_int_equal(read_udp(&p, size, 0, &datagram), TSR_PORT_DROP_SHORT);
    }
}

static void with_extension(struct packet *p, uint8_t type, const uint8_t extension[8])
{
    ipv6(p, 0, type);
    put(p, extension, 8);
    p->body = p->size;
    udp(p, 5555, 443, "hello", 5);
}

static void test_frame_skips_ipv6_extensions(void **state)
{
    /* clang-format off */
    static const struct { uint8_t type; uint8_t bytes[8]; enum tsr_port_drop drop; } cases[] = {
        {0, {17, 0, 1, 4}, TSR_PORT_TAKEN},            /* hop by hop */
        {60, {17, 0, 1, 4}, TSR_PORT_TAKEN},           /* destination options */
        {43, {17, 0, 0, 0}, TSR_PORT_TAKEN},           /* routing, at its end */
        {43, {17, 0, 0, 1}, TSR_PORT_DROP_HEADER},     /* routing, one segment left */
        {60, {17, 2, 1, 4}, TSR_PORT_DROP_SHORT},      /* longer than the packet */
        {60, {0, 0, 1, 4}, TSR_PORT_DROP_HEADER},      /* hop by hop not first */
        {60, {44, 0, 1, 4}, TSR_PORT_DROP_FRAGMENT},
        {44, {17, 0, 0, 0}, TSR_PORT_DROP_FRAGMENT},
        {51, {17, 0, 0, 0}, TSR_PORT_DROP_PROTOCOL},   /* authentication: not ours */
    };
    /* clang-format on */
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct packet p;
        with_extension(&p, cases[i].type, cases[i].bytes);
        if (drop_of(&p) != cases[i].drop) {
            fail_msg("case %zu: %s", i, tsr_port_drop_name(drop_of(&p)));
        }
    }
}

/* A chain of empty extensions does not go on for ever. */
static void test_frame_bounds_ipv6_extensions(void **state)
{
    static const uint8_t again[8] = {60, 0, 1, 4}, last[8] = {17, 0, 1, 4};
    (void)state;
    for (int n = 0; n < 12; n++) {
        struct packet p;
        ipv6(&p, 0, 60);
        for (int i = 0; i < n; i++) {
            put(&p, again, 8);
        }
        put(&p, last, 8);
        uint32_t body = p.size;
        p.body = body;
        put16(&p, 5555);
        put16(&p, 443);
        put16(&p, 8);
        put16(&p, 0);
        set16(&p, p.ip + 4, p.size - p.ip - 40);
        set16(&p, body + 6,
              complement(words(p.bytes + p.ip + 8, 32) + 8 + 17 + words(p.bytes + body, 8)));
        assert_int_equal(drop_of(&p), n < 4 ? TSR_PORT_TAKEN : TSR_PORT_DROP_HEADER);
    }
}

static void write_one(struct packet *p, const struct tsr_path *path, uint16_t vlan,
                      const uint8_t *payload, uint32_t size)
{
    struct tsr_frame_head head = {
        .path = path, .to = our_mac, .from = peer_mac, .vlan = vlan, .ecn = 1};
    uint32_t bytes = tsr_frame_head_bytes(path->remote.family, vlan);
    memset(p->bytes, 0xee, sizeof p->bytes);
    memcpy(p->bytes + bytes, payload, size);
    assert_ptr_equal(tsr_frame_write(p->bytes + bytes, size, &head), p->bytes);
    p->size = bytes + size;
}

/* All lengths and so all endings of a checksum; read back by what the tests above hold. */
static void test_frame_writes_what_it_reads(void **state)
{
    uint8_t payload[1472];
    (void)state;
    for (uint32_t i = 0; i < sizeof payload; i++) {
        payload[i] = (uint8_t)(i * 7 + 255);
    }
    for (uint32_t size = 0; size <= sizeof payload; size += size < 70 ? 1 : 61) {
        for (int i = 0; i < 4; i++) {
            struct packet p;
            struct tsr_datagram datagram;
            uint8_t family = i & 1 ? 6 : 4;
            struct tsr_path path = {.local = {.port = 5555, .family = family},
                                    .remote = {.port = 443, .family = family}};
            memcpy(path.local.ip, family == 4 ? peer_ipv4 : peer_ipv6, family == 4 ? 4 : 16);
            memcpy(path.remote.ip, family == 4 ? our_ipv4 : our_ipv6, family == 4 ? 4 : 16);
            write_one(&p, &path, i & 2 ? 9 : 0, payload, size);
            assert_int_equal(read_udp(&p, p.size, 0, &datagram), TSR_PORT_TAKEN);
            assert_int_equal(datagram.size, size);
            assert_memory_equal(datagram.bytes, payload, size);
            assert_int_equal(datagram.ecn, 1);
            assert_memory_equal(&datagram.path.local, &path.remote, sizeof path.remote);
            assert_memory_equal(&datagram.path.remote, &path.local, sizeof path.local);
        }
    }
}

/* Where the sum is 0 there stands 0xffff: 0 would mean none. */
static void test_frame_writes_no_zero_sum(void **state)
{
    struct tsr_path path = {.local = {.ip = {1}, .port = 1, .family = 4},
                            .remote = {.ip = {2}, .port = 2, .family = 4}};
    bool seen = false;
    (void)state;
    for (unsigned i = 0; i < 65536; i++) {
        const uint8_t payload[2] = {(uint8_t)(i >> 8), (uint8_t)i};
        struct packet p;
        write_one(&p, &path, 0, payload, 2);
        assert_false(p.bytes[40] == 0 && p.bytes[41] == 0);
        seen = seen || (p.bytes[40] == 0xff && p.bytes[41] == 0xff);
    }
    assert_true(seen);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_frame_reads_datagrams),
        cmocka_unit_test(test_frame_refuses_each_cut),
        cmocka_unit_test(test_frame_refuses_each_flipped_byte),
        cmocka_unit_test(test_frame_names_the_cause),
        cmocka_unit_test(test_frame_checks_udp_lengths),
        cmocka_unit_test(test_frame_without_udp_sum),
        cmocka_unit_test(test_frame_believes_the_device),
        cmocka_unit_test(test_frame_skips_ipv4_options),
        cmocka_unit_test(test_frame_skips_ipv6_extensions),
        cmocka_unit_test(test_frame_bounds_ipv6_extensions),
        cmocka_unit_test(test_frame_writes_what_it_reads),
        cmocka_unit_test(test_frame_writes_no_zero_sum),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
