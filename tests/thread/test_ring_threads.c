/* Both ends of rings and channels in one process and over one mapping, so that ThreadSanitizer sees
 * every access (two mappings of the same memory look unrelated to it). Threads record, the main
 * thread asserts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "channel_priv.h"

#include <tsr/shm/link.h>

#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { RING_RECORDS = 100000, ROUND_TRIPS = 20000 };

static uint32_t next_random(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

/* ---- A ring ---- */

struct ring_test {
    _Alignas(64) uint8_t data[TSR_RING_BYTES_MIN];
    _Alignas(64) _Atomic uint64_t head;
    bool in_place; /* the consumer reads records where they are */
    uint64_t received;
    uint64_t wrong;
};

static void *produce(void *arg)
{
    struct ring_test *test = arg;
    struct tsr_ring_producer ring;
    tsr_ring_producer_init(&ring, test->data, sizeof test->data, &test->head, UINT64_C(1) << 63);
    uint32_t random = 1;
    for (uint64_t i = 0; i < RING_RECORDS;) {
        uint32_t bytes = 24 + next_random(&random) % (next_random(&random) % 8 ? 100 : 1000);
        uint8_t *record;
        if (tsr_ring_reserve(&ring, bytes, 0, (void **)&record) != 1) {
            tsr_ring_publish(&ring);
            sched_yield();
            continue;
        }
        memcpy(record + 16, &i, sizeof i);
        memset(record + 24, (int)(i & 0xff), bytes - 24);
        tsr_ring_commit(&ring, (uint16_t)(i & 0xff), 0, bytes);
        i++;
        if (next_random(&random) % 4 == 0) {
            tsr_ring_publish(&ring);
        }
    }
    tsr_ring_publish(&ring);
    return NULL;
}

static void *consume(void *arg)
{
    struct ring_test *test = arg;
    struct tsr_ring_consumer ring;
    tsr_ring_consumer_init(&ring, test->data, sizeof test->data, &test->head, UINT64_C(1) << 63);
    static _Alignas(64) uint8_t copy[TSR_RING_BYTES_MIN];
    while (test->received < RING_RECORDS && !ring.lied) {
        struct tsr_record_info info;
        const void *place = copy;
        int got = test->in_place ? tsr_ring_peek(&ring, &place, &info)
                                 : tsr_ring_read(&ring, copy, sizeof copy, &info);
        if (got != 1) {
            sched_yield();
            continue;
        }
        const uint8_t *record = place;
        uint64_t number;
        memcpy(&number, record + 16, sizeof number);
        bool right = number == test->received && info.type == (number & 0xff);
        for (uint32_t i = 24; i < info.bytes; i++) {
            right &= record[i] == (number & 0xff);
        }
        test->wrong += !right;
        test->received++;
        if (test->in_place) {
            tsr_ring_advance(&ring);
        }
    }
    return NULL;
}

static void run_ring(bool in_place)
{
    struct ring_test *test = aligned_alloc(64, sizeof *test);
    memset(test, 0, sizeof *test);
    test->in_place = in_place;
    pthread_t threads[2];
    assert_int_equal(pthread_create(&threads[0], NULL, produce, test), 0);
    assert_int_equal(pthread_create(&threads[1], NULL, consume, test), 0);
    pthread_join(threads[0], NULL);
    pthread_join(threads[1], NULL);
    assert_int_equal(test->received, RING_RECORDS);
    assert_int_equal(test->wrong, 0);
    free(test);
}

static void test_ring_threads_read_in_place(void **state)
{
    (void)state;
    run_ring(true);
}

static void test_ring_threads_copy(void **state)
{
    (void)state;
    run_ring(false);
}

/* ---- A channel, both sides falling asleep ---- */

struct channel_test {
    struct tsr_channel channel;
    struct tsr_link link;
    bool by_socket; /* the client sleeps on its socket, else on the futex */
    uint64_t answered;
    uint64_t received;
    uint64_t engine_timeouts; /* a wake-up was lost */
    uint64_t client_timeouts;
    uint64_t engine_sleeps;
    uint64_t client_sleeps;
};

static void *be_engine(void *arg)
{
    struct channel_test *test = arg;
    static _Alignas(64) uint8_t copy[TSR_WIRE_RECORD_BYTES_MAX];
    uint32_t random = 7;
    while (test->answered < ROUND_TRIPS && !test->channel.broken && !test->engine_timeouts) {
        struct tsr_wire_request request;
        int got;
        while ((got = tsr_channel_read(&test->channel, copy, &request, NULL)) == 1) {
            tsr_channel_error(&test->channel, false, request.request, TSR_CODE_BUSY, 0, "answer");
            test->answered++;
            if (next_random(&random) % 2) {
                tsr_channel_flush(&test->channel);
            }
        }
        tsr_channel_flush(&test->channel);
        if (test->answered < ROUND_TRIPS && next_random(&random) % 4 == 0 &&
            tsr_channel_arm(&test->channel)) {
            /* Starved: the client may read without ringing. */
            int most = tsr_channel_is_starved(&test->channel) ? 20 : 20000;
            struct pollfd wait = {.fd = test->channel.fd, .events = POLLIN};
            int rang = poll(&wait, 1, most);
            test->engine_timeouts += rang == 0 && most > 20;
            test->engine_sleeps++;
            char bells[16];
            while (recv(test->channel.fd, bells, sizeof bells, MSG_DONTWAIT) > 0) {
            }
            tsr_channel_disarm(&test->channel);
        }
    }
    return NULL;
}

static void *be_client(void *arg)
{
    struct channel_test *test = arg;
    struct tsr_link *link = &test->link;
    uint64_t sent = 0;
    uint32_t random = 3;
    while (test->received < ROUND_TRIPS && !link->lost.code && !test->client_timeouts) {
        uint32_t burst = 1 + next_random(&random) % 3;
        for (uint32_t i = 0; i < burst && sent < ROUND_TRIPS && sent - test->received < 200; i++) {
            struct tsr_wire_plain *record;
            if (tsr_link_reserve(link, sizeof *record, (void **)&record) != 1) {
                break;
            }
            record->request = ++sent;
            record->reserved = 0;
            tsr_link_commit(link, TSR_REQ_CANCEL, sizeof *record);
        }
        tsr_link_flush(link);
        const struct tsr_wire_error *event;
        struct tsr_record_info info;
        while (tsr_link_peek(link, (const void **)&event, &info) == 1) {
            test->received++;
            if (event->request != test->received) {
                link->lost.code = -1;
            }
            tsr_link_next(link);
        }
        if (test->received < sent && next_random(&random) % 4 == 0) {
            test->client_sleeps++;
            if (!test->by_socket) {
                test->client_timeouts += tsr_link_sleep(link, 20000) == 0;
            } else if (tsr_link_arm(link)) {
                struct pollfd wait = {.fd = link->fd, .events = POLLIN};
                test->client_timeouts += poll(&wait, 1, 20000) == 0;
                tsr_link_disarm(link);
            }
        }
    }
    return NULL;
}

static void run_channel(bool by_socket)
{
    enum { REQUEST_BYTES = TSR_CTL_BYTES + (64 << 10), EVENT_BYTES = TSR_CTL_BYTES + (64 << 10) };
    struct channel_test *test = calloc(1, sizeof *test);
    test->by_socket = by_socket;
    uint8_t *requests = aligned_alloc(4096, REQUEST_BYTES);
    uint8_t *events = aligned_alloc(4096, EVENT_BYTES);
    memset(requests, 0, REQUEST_BYTES);
    memset(events, 0, EVENT_BYTES);
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds), 0);
    struct tsr_channel *channel = &test->channel;
    channel->requests =
        (struct tsr_region){.base = requests, .bytes = REQUEST_BYTES, .fd = -1, .guard = -1};
    channel->events =
        (struct tsr_region){.base = events, .bytes = EVENT_BYTES, .fd = -1, .guard = -1};
    channel->fd = fds[0];
    channel->peer.requests_max = 8;
    channel_format(channel);
    struct tsr_link *link = &test->link;
    link->fd = fds[1];
    link->ctl = (void *)requests;
    link->engine = (const void *)events;
    tsr_ring_producer_init(&link->out, requests + TSR_CTL_BYTES, REQUEST_BYTES - TSR_CTL_BYTES,
                           &link->engine->request_head, link->engine->request_key);
    tsr_ring_consumer_init(&link->in, events + TSR_CTL_BYTES, EVENT_BYTES - TSR_CTL_BYTES,
                           &link->ctl->event_head, link->engine->event_key);
    pthread_t threads[2];
    assert_int_equal(pthread_create(&threads[0], NULL, be_engine, test), 0);
    assert_int_equal(pthread_create(&threads[1], NULL, be_client, test), 0);
    pthread_join(threads[0], NULL);
    pthread_join(threads[1], NULL);
    assert_string_equal(channel->why, "");
    assert_int_equal(test->answered, ROUND_TRIPS);
    assert_int_equal(test->received, ROUND_TRIPS);
    assert_int_equal(test->engine_timeouts, 0);
    assert_int_equal(test->client_timeouts, 0);
    assert_true(test->engine_sleeps > 0);
    assert_true(test->client_sleeps > 0);
    close(fds[0]);
    close(fds[1]);
    free(requests);
    free(events);
    free(test);
}

static void test_channel_threads_sleep_on_the_futex(void **state)
{
    (void)state;
    run_channel(false);
}

static void test_channel_threads_sleep_on_the_socket(void **state)
{
    (void)state;
    run_channel(true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ring_threads_read_in_place),
        cmocka_unit_test(test_ring_threads_copy),
        cmocka_unit_test(test_channel_threads_sleep_on_the_futex),
        cmocka_unit_test(test_channel_threads_sleep_on_the_socket),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
