#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/un.h>

#include <cmocka.h>

#include <tsr/api/peers.h>

static int enter(struct tsr_peers *peers, const char *text, uint32_t *peer)
{
    struct sockaddr_storage address = {0};
    struct sockaddr_in *in = (struct sockaddr_in *)&address;
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&address;
    if (inet_pton(AF_INET, text, &in->sin_addr) == 1) {
        in->sin_family = AF_INET;
    } else {
        assert_int_equal(inet_pton(AF_INET6, text, &in6->sin6_addr), 1);
        in6->sin6_family = AF_INET6;
    }
    return tsr_peers_enter(peers, (struct sockaddr *)&address, peer);
}

static void test_peers_limit_each_address(void **state)
{
    (void)state;
    struct tsr_peers *peers;
    uint32_t a, b, c, other;
    assert_int_equal(tsr_peers_create(&peers, 16, 2, NULL), 0);
    assert_int_equal(enter(peers, "10.0.0.1", &a), 0);
    assert_int_equal(enter(peers, "10.0.0.1", &b), 0);
    assert_int_equal(enter(peers, "10.0.0.1", &c), -EUSERS);
    assert_int_equal(c, TSR_PEERS_NONE);
    assert_int_equal(enter(peers, "10.0.0.2", &other), 0);
    tsr_peers_leave(peers, a);
    assert_int_equal(enter(peers, "10.0.0.1", &c), 0);
    assert_int_equal(enter(peers, "10.0.0.1", &a), -EUSERS);
    tsr_peers_destroy(peers);
}

static void test_peers_take_64_bits_of_ipv6(void **state)
{
    (void)state;
    struct tsr_peers *peers;
    uint32_t peer;
    assert_int_equal(tsr_peers_create(&peers, 16, 1, NULL), 0);
    assert_int_equal(enter(peers, "2001:db8:0:1::1", &peer), 0);
    assert_int_equal(enter(peers, "2001:db8:0:1::2", &peer), -EUSERS);
    assert_int_equal(enter(peers, "2001:db8:0:2::1", &peer), 0);
    tsr_peers_destroy(peers);
}

static void test_peers_without_limit_or_address(void **state)
{
    (void)state;
    struct tsr_peers *peers;
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    uint32_t peer;
    assert_int_equal(tsr_peers_create(&peers, 16, 1, NULL), 0);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(tsr_peers_enter(peers, (struct sockaddr *)&un, &peer), 0);
        assert_int_equal(peer, TSR_PEERS_NONE);
    }
    tsr_peers_leave(peers, TSR_PEERS_NONE);
    tsr_peers_destroy(peers);
    assert_int_equal(tsr_peers_create(&peers, 16, 0, NULL), 0);
    for (int i = 0; i < 99; i++) {
        assert_int_equal(enter(peers, "10.0.0.1", &peer), 0);
    }
    tsr_peers_destroy(peers);
}

/* Against a plain count, with more addresses than buckets. */
static void test_peers_random(void **state)
{
    (void)state;
    enum { CONNS = 500, ADDRESSES = 300, LIMIT = 3 };
    struct tsr_peers *peers;
    uint32_t open[CONNS], of[CONNS], n = 0, counts[ADDRESSES] = {0}, seed = 1;
    assert_int_equal(tsr_peers_create(&peers, CONNS, LIMIT, NULL), 0);
    for (int i = 0; i < 200000; i++) {
        seed = seed * 1664525 + 1013904223;
        uint32_t r = seed >> 8;
        if (n < CONNS && (r & 1)) {
            uint32_t who = (r >> 1) % ADDRESSES;
            struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr = {htonl(who)}};
            int rc = tsr_peers_enter(peers, (struct sockaddr *)&in, &open[n]);
            assert_int_equal(rc, counts[who] < LIMIT ? 0 : -EUSERS);
            if (rc == 0) {
                of[n++] = who;
                counts[who]++;
            }
        } else if (n) {
            uint32_t which = (r >> 1) % n;
            tsr_peers_leave(peers, open[which]);
            counts[of[which]]--;
            n--;
            open[which] = open[n];
            of[which] = of[n];
        }
    }
    tsr_peers_destroy(peers);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_peers_limit_each_address),
        cmocka_unit_test(test_peers_take_64_bits_of_ipv6),
        cmocka_unit_test(test_peers_without_limit_or_address),
        cmocka_unit_test(test_peers_random),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
