#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <poll.h>

#include <tsr/bypass/hand.h>
#include <tsr/http3/http3.h>

static struct tsr_hand *hand;
static struct tsr_err err;

static int set_up(void **state)
{
    (void)state;
    return tsr_hand_create(&hand, 3, &err);
}

static int tear_down(void **state)
{
    (void)state;
    tsr_hand_destroy(hand);
    return 0;
}

/* ---- One thread ---- */

struct taken {
    uint32_t n;
    struct tsr_datagram last;
    uint8_t bytes[TSR_HAND_BYTES_MAX];
};

static void take(void *ctx, const struct tsr_datagram *datagram)
{
    struct taken *taken = ctx;
    taken->n++;
    taken->last = *datagram;
    memcpy(taken->bytes, datagram->bytes, datagram->size);
}

static void test_hand_keeps_what_a_datagram_says(void **state)
{
    (void)state;
    static struct taken taken;
    uint8_t bytes[TSR_HAND_BYTES_MAX + 1];
    memset(bytes, 7, sizeof bytes);
    struct tsr_datagram d = {
        .path = {.local = {.port = 443, .family = 6}, .remote = {.port = 9, .family = 6}},
        .bytes = bytes,
        .size = TSR_HAND_BYTES_MAX,
        .ecn = 3,
        .hop = {1, 2, 3, 4, 5, 6},
    };
    assert_true(tsr_hand_put(hand, 2, 0, &d));
    d.size++;
    assert_false(tsr_hand_put(hand, 2, 0, &d));
    assert_int_equal(tsr_hand_take(hand, 1, take, &taken), 0);
    memset(bytes, 8, sizeof bytes); /* its buffer is used again */
    assert_int_equal(tsr_hand_take(hand, 0, take, &taken), 1);
    assert_memory_equal(&taken.last.path, &d.path, sizeof d.path);
    assert_memory_equal(taken.last.hop, d.hop, sizeof d.hop);
    assert_int_equal(taken.last.ecn, 3);
    assert_int_equal(taken.last.size, TSR_HAND_BYTES_MAX);
    assert_int_equal(taken.bytes[0], 7);
    assert_int_equal(taken.bytes[TSR_HAND_BYTES_MAX - 1], 7);
    assert_int_equal(tsr_hand_take(hand, 0, take, &taken), 0);
}

static void test_hand_refuses_what_finds_no_room(void **state)
{
    (void)state;
    static struct taken taken;
    const uint8_t byte = 1;
    const struct tsr_datagram d = {.bytes = &byte, .size = 1};
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < TSR_HAND_SLOTS; i++) {
            assert_true(tsr_hand_put(hand, 0, 1, &d));
        }
        assert_false(tsr_hand_put(hand, 0, 1, &d));
        assert_true(tsr_hand_put(hand, 2, 1, &d)); /* another ring */
        taken.n = 0;
        while (tsr_hand_take(hand, 1, take, &taken)) {
        }
        assert_int_equal(taken.n, TSR_HAND_SLOTS + 1);
    }
}

static bool is_readable(int fd)
{
    struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
    return poll(&poll_fd, 1, 0) == 1;
}

static void test_hand_wakes_who_sleeps(void **state)
{
    (void)state;
    static struct taken taken;
    const uint8_t byte = 1;
    const struct tsr_datagram d = {.bytes = &byte, .size = 1};
    int fd = tsr_hand_fd(hand, 1);
    assert_true(tsr_hand_put(hand, 0, 1, &d));
    assert_false(is_readable(fd)); /* nobody sleeps: no call of the kernel */
    assert_false(tsr_hand_arm(hand, 1));
    tsr_hand_disarm(hand, 1);
    assert_int_equal(tsr_hand_take(hand, 1, take, &taken), 1);
    assert_true(tsr_hand_arm(hand, 1));
    assert_false(is_readable(fd));
    assert_true(tsr_hand_put(hand, 0, 1, &d));
    assert_true(is_readable(fd));
    tsr_hand_disarm(hand, 1);
    assert_false(is_readable(fd));
    assert_int_equal(tsr_hand_take(hand, 1, take, &taken), 1);
    assert_true(tsr_hand_arm(hand, 1));
    tsr_hand_wake_all(hand);
    assert_true(is_readable(fd));
    assert_false(is_readable(tsr_hand_fd(hand, 0)));
    tsr_hand_disarm(hand, 1);
}

/* ---- Two threads ---- */

enum { DATAGRAMS = 20000 };

static void *puts_many(void *unused)
{
    (void)unused;
    for (uint64_t i = 0; i < DATAGRAMS;) {
        uint64_t bytes[4] = {i, i, i, i};
        const struct tsr_datagram d = {.bytes = (uint8_t *)bytes, .size = sizeof bytes};
        i += tsr_hand_put(hand, 0, 1, &d);
    }
    return NULL;
}

static void take_in_order(void *ctx, const struct tsr_datagram *datagram)
{
    uint64_t *next = ctx, bytes[4];
    memcpy(bytes, datagram->bytes, sizeof bytes);
    *next = bytes[0] == *next && bytes[3] == *next ? *next + 1 : UINT64_MAX;
}

static void test_hand_loses_no_wake_up(void **state)
{
    (void)state;
    pthread_t thread;
    uint64_t next = 0;
    int late = 0;
    assert_int_equal(pthread_create(&thread, NULL, puts_many, NULL), 0);
    while (next < DATAGRAMS && !late) {
        if (tsr_hand_take(hand, 1, take_in_order, &next) == 0) {
            struct pollfd fd = {.fd = tsr_hand_fd(hand, 1), .events = POLLIN};
            late = tsr_hand_arm(hand, 1) && poll(&fd, 1, 60000) == 0;
            tsr_hand_disarm(hand, 1);
        }
    }
    pthread_join(thread, NULL);
    assert_false(late);
    assert_int_equal(next, DATAGRAMS);
}

/* ---- Whose a datagram is ---- */

static void test_queue_of_a_datagram(void **state)
{
    (void)state;
    static const struct {
        uint8_t bytes[8];
        uint32_t size, queue;
    } cases[] = {
        {{0x40, 5}, 100, 5},                              /* short: the id's first byte */
        {{0x40, 5}, 21, 2},                               /* too short for anything of ours */
        {{0xc0, 0, 0, 0, 1, 16, 5}, 1200, 2},             /* Initial: the client's own id */
        {{0xd0, 0, 0, 0, 1, 16, 5}, 1200, 2},             /* 0-RTT */
        {{0xe0, 0, 0, 0, 1, 16, 5}, 1200, 5},             /* Handshake: ours */
        {{0xe0, 0, 0, 0, 1, 8, 5}, 1200, 2},              /* not as long as ours */
        {{0xf0, 0x6b, 0x33, 0x43, 0xcf, 16, 5}, 1200, 5}, /* Handshake of version 2 */
        {{0xe0, 0x6b, 0x33, 0x43, 0xcf, 16, 5}, 1200, 2}, /* 0-RTT of version 2 */
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint8_t bytes[1200] = {0};
        memcpy(bytes, cases[i].bytes, sizeof cases[i].bytes);
        const struct tsr_datagram d = {.bytes = bytes, .size = cases[i].size};
        if (tsr_http3_queue_of(&d, 2) != cases[i].queue) {
            fail_msg("case %zu: queue %u", i, tsr_http3_queue_of(&d, 2));
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_hand_keeps_what_a_datagram_says, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_hand_refuses_what_finds_no_room, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_hand_wakes_who_sleeps, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_hand_loses_no_wake_up, set_up, tear_down),
        cmocka_unit_test(test_queue_of_a_datagram),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
