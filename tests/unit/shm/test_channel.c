#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "pair.h"

#include <errno.h>
#include <linux/futex.h>
#include <sys/syscall.h>

static _Alignas(64) uint8_t copy[TSR_WIRE_RECORD_BYTES_MAX];

static int setup(void **state)
{
    struct pair *pair = malloc(sizeof *pair);
    *state = pair;
    return pair_open(pair, NULL);
}

static int teardown(void **state)
{
    pair_close(*state);
    free(*state);
    return 0;
}

/* A request that passes the check. */
static void send_cancel(struct tsr_link *link, uint64_t id)
{
    struct tsr_wire_plain *cancel;
    assert_int_equal(tsr_link_reserve(link, sizeof *cancel, (void **)&cancel), 1);
    cancel->request = id;
    cancel->reserved = 0;
    tsr_link_commit(link, TSR_REQ_CANCEL, sizeof *cancel);
    tsr_link_flush(link);
}

/* Sends a record of any type and content. */
static void send_raw(struct tsr_link *link, unsigned type, const void *body, uint32_t body_bytes)
{
    uint8_t *record;
    assert_int_equal(tsr_link_reserve(link, 16 + body_bytes, (void **)&record), 1);
    memcpy(record + 16, body, body_bytes);
    tsr_link_commit(link, (enum tsr_wire_type)type, 16 + body_bytes);
    tsr_link_flush(link);
}

static void test_channel_refuses_an_unknown_type(void **state)
{
    struct pair *pair = *state;
    uint64_t body[2] = {1, 0};
    send_raw(&pair->link, 99, body, sizeof body);
    struct tsr_wire_request request;
    struct tsr_err err;
    assert_int_equal(tsr_channel_read(pair->channel, copy, &request, &err), -EPROTO);
    assert_true(tsr_channel_is_broken(pair->channel));
    assert_non_null(strstr(tsr_channel_why(pair->channel), "type 99"));
    /* For good. */
    send_cancel(&pair->link, 1);
    assert_int_equal(tsr_channel_read(pair->channel, copy, &request, &err), -EPROTO);
    assert_null(tsr_channel_reserve(pair->channel, 64));
    assert_int_equal(tsr_channel_begin(pair->channel), -EPROTO);
    assert_false(tsr_channel_error(pair->channel, false, 1, TSR_CODE_INVALID, 0, "no"));
}

static void test_channel_answers_a_wrong_request(void **state)
{
    struct pair *pair = *state;
    uint64_t body[2] = {7, 1}; /* a reserved field is set */
    send_raw(&pair->link, TSR_REQ_CANCEL, body, sizeof body);
    struct tsr_wire_request request;
    struct tsr_err err;
    assert_int_equal(tsr_channel_read(pair->channel, copy, &request, &err), -EINVAL);
    assert_int_equal(request.request, 7);
    assert_false(tsr_channel_is_broken(pair->channel));
    assert_true(tsr_channel_error(pair->channel, false, 7, TSR_CODE_INVALID, 0, "%s", err.text));
    tsr_channel_flush(pair->channel);
    const struct tsr_wire_error *error;
    struct tsr_record_info info;
    assert_int_equal(tsr_link_peek(&pair->link, (const void **)&error, &info), 1);
    assert_int_equal(info.type, TSR_EV_ERROR);
    assert_int_equal(error->request, 7);
    assert_int_equal(error->text_bytes, strlen(err.text));
    assert_memory_equal(error->text, err.text, error->text_bytes);
    tsr_link_next(&pair->link);
}

static void lie_about_the_consumer_index(struct pair *pair, uint64_t lie)
{
    atomic_store(&pair->link.ctl->event_head, lie);
    for (int i = 0; i < 1000 && !tsr_channel_is_broken(pair->channel); i++) {
        if (tsr_channel_reserve(pair->channel, 4096)) {
            tsr_channel_commit(pair->channel, TSR_EV_TOKEN, 4096);
            tsr_channel_flush(pair->channel);
        }
    }
    assert_true(tsr_channel_is_broken(pair->channel));
    assert_non_null(strstr(tsr_channel_why(pair->channel), "consumer index"));
    struct tsr_wire_request request;
    send_cancel(&pair->link, 1);
    assert_int_equal(tsr_channel_read(pair->channel, copy, &request, NULL), -EPROTO);
}

static void test_channel_refuses_an_impossible_consumer_index(void **state)
{
    struct pair *pair = *state;
    /* Misaligned, beyond what was written. */
    const uint64_t lies[] = {513, 1 << 20, UINT64_MAX - 63, UINT64_MAX};
    for (size_t i = 0; i < sizeof lies / sizeof lies[0]; i++) {
        lie_about_the_consumer_index(pair, lies[i]);
        tsr_door_close(pair->door, pair->channel, NULL);
        tsr_link_close(&pair->link);
        assert_int_equal(pair_knock(pair, &pair->link, &pair->channel, NULL), 0);
    }
}

static void test_channel_says_hello(void **state)
{
    struct pair *pair = *state;
    assert_string_equal(pair->link.hello.model, "a test");
    assert_int_equal(pair->link.hello.context_tokens, 2048);
    assert_int_equal(pair->link.hello.requests_max, 64);
    assert_int_equal(pair->link.hello.request_ring_bytes, 64 << 10);
    assert_int_equal(pair->link.hello.flags & TSR_HELLO_TENANTS, 0);
    assert_int_equal(tsr_channel_peer(pair->channel)->uid, getuid());
    assert_int_equal(tsr_channel_peer(pair->channel)->pid, getpid());
    assert_string_equal(tsr_channel_peer(pair->channel)->name, "test");
}

static void test_channel_carries_requests_and_events(void **state)
{
    struct pair *pair = *state;
    for (uint64_t i = 1; i <= 5000; i++) {
        send_cancel(&pair->link, i);
        struct tsr_wire_request request;
        struct tsr_err err;
        assert_true(tsr_channel_has_request(pair->channel));
        assert_int_equal(tsr_channel_read(pair->channel, copy, &request, &err), 1);
        assert_int_equal(request.type, TSR_REQ_CANCEL);
        assert_int_equal(request.request, i);
        uint32_t text = (uint32_t)(i % 700);
        struct tsr_wire_token *token = tsr_channel_reserve(pair->channel, 48 + text);
        assert_non_null(token);
        token->request = i;
        token->text_bytes = (uint16_t)text;
        memset(token->text, (int)(i & 0xff), text);
        tsr_channel_commit(pair->channel, TSR_EV_TOKEN, 48 + text);
        assert_int_equal(tsr_channel_flush(pair->channel), 0);
        struct tsr_record_info info;
        const struct tsr_wire_token *got;
        assert_int_equal(tsr_link_peek(&pair->link, (const void **)&got, &info), 1);
        assert_int_equal(info.type, TSR_EV_TOKEN);
        assert_int_equal(got->request, i);
        for (uint32_t k = 0; k < text; k++) {
            assert_int_equal(got->text[k], i & 0xff);
        }
        tsr_link_next(&pair->link);
        assert_int_equal(tsr_link_peek(&pair->link, (const void **)&got, &info), 0);
    }
}

/* A client that reads nothing: tokens stop, finals do not, refusals go on for a while, then
 * requests wait. */
static void test_channel_keeps_room_for_finals(void **state)
{
    struct pair *pair = *state;
    struct tsr_wire_request request;
    struct tsr_err err;
    uint32_t live = 0;
    for (uint64_t id = 1; id <= 64; id++) {
        send_cancel(&pair->link, id);
        assert_int_equal(tsr_channel_read(pair->channel, copy, &request, &err), 1);
        assert_int_equal(tsr_channel_begin(pair->channel), 0);
        live++;
    }
    assert_int_equal(tsr_channel_begin(pair->channel), -EBUSY);
    assert_int_equal(tsr_channel_live(pair->channel), live);
    uint32_t tokens = 0;
    while (tsr_channel_reserve(pair->channel, 48 + 100)) {
        tsr_channel_commit(pair->channel, TSR_EV_TOKEN, 48 + 100);
        tokens++;
    }
    assert_true(tokens > 100);
    assert_true(tsr_channel_is_starved(pair->channel));
    uint32_t refused = 0;
    send_cancel(&pair->link, 1000);
    while (tsr_channel_read(pair->channel, copy, &request, &err) == 1) {
        assert_true(
            tsr_channel_error(pair->channel, false, request.request, TSR_CODE_BUSY, 10, "not now"));
        refused++;
        send_cancel(&pair->link, 1000 + refused);
    }
    assert_in_range(refused, TSR_CHANNEL_SPARE - 1, TSR_CHANNEL_SPARE + 2);
    assert_false(tsr_channel_is_broken(pair->channel));
    assert_true(tsr_channel_arm(
        pair->channel)); /* a request waits that cannot be read: the engine may sleep */
    struct tsr_wire_done done = {.reason = TSR_REASON_PARKED};
    for (uint64_t id = 1; id <= live; id++) {
        done.request = id;
        assert_true(tsr_channel_done(pair->channel, &done, "nobody reads"));
    }
    assert_int_equal(tsr_channel_live(pair->channel), 0);
    tsr_channel_flush(pair->channel);
    /* Now it reads: everything is there, in order. */
    const void *event;
    struct tsr_record_info info;
    uint32_t seen[32] = {0};
    while (tsr_link_peek(&pair->link, &event, &info) == 1) {
        seen[info.type]++;
        tsr_link_next(&pair->link);
    }
    assert_int_equal(seen[TSR_EV_TOKEN], tokens);
    assert_int_equal(seen[TSR_EV_ERROR], refused);
    assert_int_equal(seen[TSR_EV_DONE], live);
    /* The engine slept starved, so the client rang; and now the request is read. */
    struct tsr_door_event rang;
    assert_int_equal(pair_wait(pair, TSR_DOOR_BELL, &rang), 1);
    assert_false(tsr_channel_arm(pair->channel));
    assert_int_equal(tsr_channel_read(pair->channel, copy, &request, &err), 1);
    assert_int_equal(request.request, 1000 + refused);
}

/* The reserve holds whatever the position of the ring's end. */
static void test_channel_keeps_room_at_every_position(void **state)
{
    struct pair *pair = *state;
    uint32_t random = 12345;
    for (int round = 0; round < 400; round++) {
        uint32_t live = 0;
        while (live < 20 && tsr_channel_begin(pair->channel) == 0) {
            live++;
        }
        for (;;) {
            random = random * 1664525u + 1013904223u;
            uint32_t bytes = 48 + (random >> 16) % 3000;
            if (!tsr_channel_reserve(pair->channel, bytes)) {
                break;
            }
            tsr_channel_commit(pair->channel, TSR_EV_TOKEN, bytes);
        }
        struct tsr_wire_done done = {.reason = TSR_REASON_END, .request = 1};
        while (live) {
            assert_true(tsr_channel_done(pair->channel, &done, "end"));
            live--;
        }
        tsr_channel_flush(pair->channel);
        const void *event;
        struct tsr_record_info info;
        while (tsr_link_peek(&pair->link, &event, &info) == 1) {
            tsr_link_next(&pair->link);
        }
        assert_false(tsr_channel_is_broken(pair->channel));
    }
}

static void test_channel_rings_the_sleeping_engine_once(void **state)
{
    struct pair *pair = *state;
    struct tsr_door_event event;
    struct tsr_wire_request request;
    struct tsr_err err;
    assert_true(tsr_channel_arm(pair->channel));
    send_cancel(&pair->link, 1);
    send_cancel(&pair->link, 2);
    assert_int_equal(pair_wait(pair, TSR_DOOR_BELL, &event), 1);
    assert_ptr_equal(event.channel, pair->channel);
    assert_int_equal(tsr_door_step(pair->door, &event, 1), 0);
    assert_false(tsr_channel_arm(pair->channel));
    assert_int_equal(tsr_channel_read(pair->channel, copy, &request, &err), 1);
    assert_int_equal(tsr_channel_read(pair->channel, copy, &request, &err), 1);
    send_cancel(&pair->link, 3); /* awake: no bell */
    assert_int_equal(tsr_door_step(pair->door, &event, 1), 0);
    assert_int_equal(tsr_channel_read(pair->channel, copy, &request, &err), 1);
    assert_true(tsr_channel_arm(pair->channel));
    send_cancel(&pair->link, 4);
    assert_int_equal(pair_wait(pair, TSR_DOOR_BELL, &event), 1);
    tsr_channel_disarm(pair->channel);
}

static void test_channel_wakes_an_event_loop(void **state)
{
    struct pair *pair = *state;
    assert_true(tsr_link_arm(&pair->link));
    struct pollfd wait = {.fd = pair->link.fd, .events = POLLIN};
    assert_int_equal(poll(&wait, 1, 0), 0);
    assert_true(tsr_channel_error(pair->channel, false, 0, TSR_CODE_INVALID, 0, "hm"));
    assert_int_equal(tsr_channel_flush(pair->channel), 1);
    assert_int_equal(poll(&wait, 1, 1000), 1);
    assert_int_equal(tsr_link_disarm(&pair->link), 0);
    assert_int_equal(poll(&wait, 1, 0), 0);
    assert_false(tsr_link_arm(&pair->link)); /* unread still */
}

static void test_channel_shows_before_it_wakes(void **state)
{
    struct pair *pair = *state;
    const void *event;
    struct tsr_record_info info;
    assert_true(tsr_link_arm(&pair->link));
    struct pollfd wait = {.fd = pair->link.fd, .events = POLLIN};
    assert_true(tsr_channel_error(pair->channel, false, 0, TSR_CODE_INVALID, 0, "hm"));
    tsr_channel_show(pair->channel);
    assert_int_equal(poll(&wait, 1, 0), 0);
    assert_int_equal(tsr_link_peek(&pair->link, &event, &info), 1);
    assert_int_equal(tsr_channel_flush(pair->channel), 1);
    assert_int_equal(poll(&wait, 1, 1000), 1);
    assert_int_equal(tsr_link_disarm(&pair->link), 0);
    assert_int_equal(tsr_channel_flush(pair->channel), 0); /* said once */
}

static void *waiter(void *arg)
{
    (void)tsr_bell_wait(arg, 0, 2000000000);
    return NULL;
}

/* However many wait: their number must not become the engine's time. */
static void test_channel_wakes_one_waiter(void **state)
{
    (void)state;
    long left = 0;
    for (int i = 0; i < 100 && left == 0; i++) { /* until both slept in time */
        _Atomic uint32_t word = 0;
        pthread_t threads[2];
        assert_int_equal(pthread_create(&threads[0], NULL, waiter, &word), 0);
        assert_int_equal(pthread_create(&threads[1], NULL, waiter, &word), 0);
        usleep(20000);
        tsr_bell_wake(&word);
        left = syscall(SYS_futex, &word, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
        pthread_join(threads[0], NULL);
        pthread_join(threads[1], NULL);
        assert_int_equal(word, 1);
    }
    assert_int_equal(left, 1);
}

static void test_channel_tells_why_it_was_dropped(void **state)
{
    struct pair *pair = *state;
    uint64_t body[2] = {1, 0};
    send_raw(&pair->link, 77, body, sizeof body);
    struct tsr_wire_request request;
    assert_int_equal(tsr_channel_read(pair->channel, copy, &request, NULL), -EPROTO);
    tsr_door_close(pair->door, pair->channel, NULL);
    pair->channel = NULL;
    assert_int_equal(tsr_link_sleep(&pair->link, 5000), -EPIPE);
    assert_non_null(strstr(pair->link.lost.text, "type 77"));
    struct tsr_door_stats stats;
    tsr_door_stats(pair->door, &stats);
    assert_int_equal(stats.dropped, 1);
    assert_int_equal(stats.bytes, 0);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_channel_refuses_an_unknown_type),
        T(test_channel_answers_a_wrong_request),
        T(test_channel_refuses_an_impossible_consumer_index),
        T(test_channel_says_hello),
        T(test_channel_carries_requests_and_events),
        T(test_channel_keeps_room_for_finals),
        T(test_channel_keeps_room_at_every_position),
        T(test_channel_rings_the_sleeping_engine_once),
        T(test_channel_wakes_an_event_loop),
        T(test_channel_shows_before_it_wakes),
        T(test_channel_wakes_one_waiter),
        T(test_channel_tells_why_it_was_dropped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
