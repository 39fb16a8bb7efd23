/* Answers: their bytes, who may go on after them, slow readers, and what takes too long. */
#include "fake_door.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define HOST   "Host: h\r\n"
#define COMMON "Server: tessera\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
#define PLAIN  COMMON "Content-Type: text/plain\r\n"
#define SECOND 1000000000ull

static void feed(struct door *door, const char *text)
{
    door_feed(door, text, strlen(text));
}

static void assert_answer(const char *request, const char *answer, bool shuts)
{
    struct door door;
    door_open(&door, NULL);
    feed(&door, request);
    assert_string_equal(door.out.bytes, answer);
    assert_int_equal(door.shut, shuts);
    door_close(&door);
}

static void test_answers_byte_for_byte(void **state)
{
    (void)state;
    assert_answer("POST /echo HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nhello",
                  "HTTP/1.1 200 OK\r\n" PLAIN "Content-Length: 5\r\n\r\nhello", false);
    assert_answer("GET /echo HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n",
                  "HTTP/1.1 200 OK\r\n" PLAIN "Content-Length: 0\r\nConnection: close\r\n\r\n",
                  true);
    assert_answer("GET /stream HTTP/1.1\r\n" HOST "\r\n",
                  "HTTP/1.1 200 OK\r\n" PLAIN "Transfer-Encoding: chunked\r\n\r\n"
                  "9\r\ndata: 1\n\n\r\nb\r\ndata: two\n\n\r\ne\r\ndata: [DONE]\n\n\r\n0\r\n\r\n",
                  false);
    assert_answer("GET /none HTTP/1.1\r\n" HOST "\r\n", "HTTP/1.1 204 No Content\r\n" COMMON "\r\n",
                  false);
    assert_answer("GET /refuse HTTP/1.1\r\n" HOST "\r\n",
                  "HTTP/1.1 401 Unauthorized\r\n" PLAIN "Content-Length: 2\r\nx-extra: 1\r\n\r\nno",
                  false);
    /* Cut off: no last chunk, and the connection ends. */
    assert_answer("GET /abort HTTP/1.1\r\n" HOST "\r\n",
                  "HTTP/1.1 200 OK\r\n" PLAIN "Transfer-Encoding: chunked\r\n\r\n"
                  "4\r\nhalf\r\n",
                  true);
}

static void test_head_gets_no_body(void **state)
{
    (void)state;
    assert_answer("HEAD /refuse HTTP/1.1\r\n" HOST "\r\nGET /none HTTP/1.1\r\n" HOST "\r\n",
                  "HTTP/1.1 401 Unauthorized\r\n" PLAIN "Content-Length: 2\r\nx-extra: 1\r\n\r\n"
                  "HTTP/1.1 204 No Content\r\n" COMMON "\r\n",
                  false);
    assert_answer("HEAD /stream HTTP/1.1\r\n" HOST "\r\n",
                  "HTTP/1.1 200 OK\r\n" PLAIN "Transfer-Encoding: chunked\r\n\r\n", false);
}

static void test_http10_gets_no_chunks(void **state)
{
    (void)state;
    assert_answer("GET /stream HTTP/1.0\r\n\r\n",
                  "HTTP/1.1 200 OK\r\n" PLAIN "Connection: close\r\n\r\n"
                  "data: 1\n\ndata: two\n\ndata: [DONE]\n\n",
                  true);
    assert_answer("GET /echo HTTP/1.0\r\n\r\n",
                  "HTTP/1.1 200 OK\r\n" PLAIN "Content-Length: 0\r\nConnection: close\r\n\r\n",
                  true);
    assert_answer("GET /echo HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n",
                  "HTTP/1.1 200 OK\r\n" PLAIN "Content-Length: 0\r\nConnection: keep-alive\r\n\r\n",
                  false);
    /* The next request is not taken for another of HTTP/1.0. */
    assert_answer("GET /echo HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
                  "GET /none HTTP/1.1\r\n" HOST "\r\n",
                  "HTTP/1.1 200 OK\r\n" PLAIN "Content-Length: 0\r\nConnection: keep-alive\r\n\r\n"
                  "HTTP/1.1 204 No Content\r\n" COMMON "\r\n",
                  false);
}

static void test_continue_where_the_body_is_wanted(void **state)
{
    (void)state;
    struct door door;
    door_open(&door, NULL);
    feed(&door, "POST /echo HTTP/1.1\r\n" HOST "Expect: 100-Continue\r\nContent-Length: 2\r\n\r\n");
    assert_string_equal(door.out.bytes, "HTTP/1.1 100 Continue\r\n\r\n");
    feed(&door, "hi");
    assert_non_null(strstr(door.out.bytes, "\r\n\r\nHTTP/1.1 200 OK\r\n"));
    assert_false(door.shut);
    door_close(&door);

    /* Refused: whether the body comes is not known, so the connection ends. */
    assert_answer("POST /refuse HTTP/1.1\r\n" HOST
                  "Expect: 100-continue\r\nContent-Length: 2\r\n\r\n",
                  "HTTP/1.1 401 Unauthorized\r\n" PLAIN
                  "Content-Length: 2\r\nx-extra: 1\r\nConnection: close\r\n\r\nno",
                  true);
    /* No body to wait for; HTTP/1.0 does not know it. */
    assert_answer("GET /none HTTP/1.1\r\n" HOST "Expect: 100-continue\r\n\r\n",
                  "HTTP/1.1 204 No Content\r\n" COMMON "\r\n", false);
    assert_answer("POST /echo HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n", "",
                  false);
}

/* An early answer: a short rest of the body is dropped and the connection lives on; a long one or
 * one in chunks ends it, after the client has had time to read. */
static void test_early_answers(void **state)
{
    (void)state;
    struct door door;
    static char zeros[100000];
    door_open(&door, NULL);
    feed(&door, "POST /full HTTP/1.1\r\n" HOST "Content-Length: 100000\r\n\r\n");
    door_feed(&door, zeros, 11);
    assert_memory_equal(door.out.bytes, "HTTP/1.1 413 Content Too Large\r\n", 32);
    door_feed(&door, zeros, sizeof zeros - 11);
    feed(&door, "GET /none HTTP/1.1\r\n" HOST "\r\n");
    assert_non_null(strstr(door.out.bytes, "HTTP/1.1 204"));
    door_close(&door);

    door_open(&door, NULL);
    feed(&door, "POST /refuse HTTP/1.1\r\n" HOST "Content-Length: 100000000\r\n\r\n");
    assert_non_null(strstr(door.out.bytes, "\r\nConnection: close\r\n"));
    assert_int_equal(tsr_http1_wants(door.conn), TSR_HTTP1_SHUT | TSR_HTTP1_READ);
    door_feed(&door, zeros, sizeof zeros);
    tsr_http1_eof(door.conn);
    assert_int_equal(tsr_http1_wants(door.conn), TSR_HTTP1_CLOSE);
    door_close(&door);

    assert_answer("POST /refuse HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n",
                  "HTTP/1.1 401 Unauthorized\r\n" PLAIN
                  "Content-Length: 2\r\nx-extra: 1\r\nConnection: close\r\n\r\nno",
                  true);
}

static void test_next_request_waits_for_the_answer(void **state)
{
    (void)state;
    struct door door;
    door_open(&door, NULL);
    feed(&door, "GET /wait HTTP/1.1\r\n" HOST "\r\nGET /none HTTP/1.1\r\n" HOST "\r\n");
    assert_int_equal(tsr_http1_wants(door.conn), 0);
    assert_int_equal(door.in.size, strlen("GET /none HTTP/1.1\r\n" HOST "\r\n"));
    assert_int_equal(tsr_http1_wake_ns(door.http1), UINT64_MAX); /* the engine may take its time */
    fake_answer(fake.waits, 200, "first");
    door_turn(&door);
    assert_int_equal(door.in.size, 0);
    assert_non_null(strstr(door.out.bytes, "firstHTTP/1.1 204"));
    door_close(&door);
}

static void test_answers_that_are_not_read_hold_back_requests(void **state)
{
    (void)state;
    struct door door;
    struct tsr_http1_counts counts;
    door_open(&door, NULL);
    door.sends = 0;
    for (unsigned i = 0; i < 2000; i++) {
        feed(&door, "GET /none HTTP/1.1\r\n" HOST "\r\n");
    }
    tsr_http1_counts(door.http1, &counts);
    assert_in_range(counts.answers_bytes, 8 << 10, 12 << 10);
    assert_true(door.in.size > 0);
    assert_false(tsr_http1_wants(door.conn) & TSR_HTTP1_READ);
    door.sends = SIZE_MAX;
    tsr_http1_sent(door.conn, 0); /* the socket takes bytes again */
    door_turn(&door);
    tsr_http1_counts(door.http1, &counts);
    assert_int_equal(counts.requests, 2000);
    assert_int_equal(door.in.size, 0);
    door_close(&door);
}

static void test_the_api_hears_what_is_held(void **state)
{
    (void)state;
    struct door door;
    struct iovec iov[1];
    uint64_t token_ns;
    door_open(&door, NULL);
    door.sends = 0;
    feed(&door, "GET /wait HTTP/1.1\r\n" HOST "\r\n");
    fake_head(fake.waits, 200, TSR_API_UNKNOWN);
    assert_int_equal(tsr_http1_out(door.conn, iov, 1, &token_ns), 1);
    assert_int_equal(token_ns, 0);
    size_t head_bytes = iov[0].iov_len;
    fake_body(fake.waits, "one", 7);
    fake_body(fake.waits, "two", 8);
    assert_int_equal(tsr_http1_out(door.conn, iov, 1, &token_ns), 1);
    assert_int_equal(token_ns, 8);
    assert_int_equal(iov[0].iov_len, head_bytes + 2 * strlen("3\r\none\r\n"));
    tsr_http1_sent(door.conn, head_bytes);
    assert_int_equal(fake.held, 2 * strlen("3\r\none\r\n"));
    assert_int_equal(tsr_http1_out(door.conn, iov, 1, &token_ns), 1);
    assert_int_equal(token_ns, 0);
    assert_memory_equal(iov[0].iov_base, "3\r\none\r\n3\r\ntwo\r\n", iov[0].iov_len);
    tsr_http1_sent(door.conn, iov[0].iov_len);
    assert_int_equal(fake.held, 0);
    fake_end(fake.waits);
    door_close(&door);
}

static void test_more_than_may_be_held_breaks_the_connection(void **state)
{
    (void)state;
    struct tsr_http1_options options;
    tsr_http1_options_init(&options);
    options.answer_bytes_max = 100000;
    struct door door;
    door_open(&door, &options);
    feed(&door, "GET /long HTTP/1.1\r\n" HOST "\r\n");
    assert_true(door.closed);
    door_close(&door);

    options.answer_bytes_max = 2000000;
    options.answers_bytes_max = 500000; /* of all connections */
    door_open(&door, &options);
    feed(&door, "GET /long HTTP/1.1\r\n" HOST "\r\n");
    assert_true(door.closed);
    door_close(&door);

    options.answers_bytes_max = 2000000;
    door_open(&door, &options);
    feed(&door, "GET /long HTTP/1.1\r\n" HOST "\r\n");
    assert_int_equal(door.out.size, 1000000 + strlen("HTTP/1.1 200 OK\r\n" PLAIN
                                                     "Content-Length: 1000000\r\n\r\n"));
    door_close(&door);
}

/* Those who do not read leave room for small answers. */
static void test_answers_that_are_not_read_leave_room(void **state)
{
    (void)state;
    enum { GREEDY = 100 };
    struct tsr_http1_conn *greedy[GREEDY];
    struct tsr_http1_options options;
    tsr_http1_options_init(&options);
    options.conns_max = GREEDY + 1;
    options.answers_bytes_max = 10000000;
    struct door door;
    door_open(&door, &options);
    for (unsigned i = 0; i < GREEDY; i++) {
        char wait[] = "GET /wait HTTP/1.1\r\n" HOST "\r\n";
        greedy[i] = tsr_http1_open(door.http1, NULL);
        tsr_http1_feed(greedy[i], wait, strlen(wait));
        fake_head(fake.waits, 200, TSR_API_UNKNOWN);
        while (tsr_http1_wants(greedy[i]) != TSR_HTTP1_CLOSE) {
            fake_body(fake.waits, "as much as it may hold, and a little more", 0);
        }
    }
    feed(&door, "GET /none HTTP/1.1\r\n" HOST "\r\n");
    assert_int_equal(door.out.size, strlen("HTTP/1.1 204 No Content\r\n" COMMON "\r\n"));
    for (unsigned i = 0; i < GREEDY; i++) {
        tsr_http1_close(greedy[i]);
    }
    door_close(&door);
}

static void test_a_client_that_goes_cancels(void **state)
{
    (void)state;
    struct door door;
    door_open(&door, NULL);
    feed(&door, "GET /wait HTTP/1.1\r\n" HOST "\r\n");
    tsr_http1_eof(door.conn);
    assert_int_equal(fake.open, 0);
    door_turn(&door);
    assert_true(door.closed);
    door_close(&door);

    door_open(&door, NULL);
    feed(&door, "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 9\r\n\r\nhal");
    tsr_http1_fail(door.conn);
    assert_int_equal(fake.open, 0);
    assert_int_equal(tsr_http1_wants(door.conn), TSR_HTTP1_CLOSE);
    door_close(&door);

    door_open(&door, NULL); /* one that only closed its sending side still gets its answer */
    door.sends = 0;
    feed(&door, "GET /none HTTP/1.1\r\n" HOST "\r\n");
    tsr_http1_eof(door.conn);
    assert_int_equal(tsr_http1_wants(door.conn), TSR_HTTP1_WRITE);
    door.sends = SIZE_MAX;
    door_turn(&door);
    assert_int_equal(door.out.size, strlen("HTTP/1.1 204 No Content\r\n" COMMON "\r\n"));
    assert_true(door.closed);
    door_close(&door);
}

/* ---- Time ---- */

static void wait_s(struct door *door, unsigned seconds)
{
    door->now_ns += seconds * SECOND;
    tsr_http1_step(door->http1, door->now_ns, DOOR_UNIX_S);
    door_turn(door);
}

static void test_idle_connections_end(void **state)
{
    (void)state;
    struct door door;
    door_open(&door, NULL);
    wait_s(&door, 74);
    assert_int_equal(tsr_http1_wake_ns(door.http1), door.now_ns + SECOND);
    feed(&door, "GET /none HTTP/1.1\r\n" HOST "\r\n");
    wait_s(&door, 74);
    assert_false(door.closed);
    wait_s(&door, 1);
    assert_true(door.closed);
    door_close(&door);
}

static void test_slow_heads_end(void **state)
{
    (void)state;
    struct door door;
    door_open(&door, NULL);
    wait_s(&door, 60);
    for (unsigned i = 0; i < 9; i++) { /* a byte a second */
        door_feed(&door, &"GET /echo"[i], 1);
        wait_s(&door, 1);
    }
    assert_int_equal(door.out.size, 0);
    wait_s(&door, 1);
    assert_memory_equal(door.out.bytes, "HTTP/1.1 408 Request Timeout\r\n", 30);
    assert_true(door.shut);
    assert_false(door.closed);
    wait_s(&door, 5);
    assert_true(door.closed);
    door_close(&door);
}

static void test_slow_bodies_end(void **state)
{
    (void)state;
    static char zeros[100000];
    struct door door;
    door_open(&door, NULL);
    feed(&door, "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 100000\r\n\r\n");
    for (size_t at = 0; at < sizeof zeros; at += 2000) { /* half as fast again as it must be */
        door_feed(&door, zeros, 2000);
        wait_s(&door, 10);
    }
    assert_false(door.shut); /* the whole body came: answered */
    assert_memory_equal(door.out.bytes, "HTTP/1.1 200 OK", 15);
    door_close(&door);

    door_open(&door, NULL);
    feed(&door, "POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\nfff\r\n");
    for (unsigned i = 0; i < 30; i++) {
        door_feed(&door, zeros, 100);
        wait_s(&door, 1);
    }
    assert_memory_equal(door.out.bytes, "HTTP/1.1 408 Request Timeout\r\n", 30);
    assert_int_equal(fake.open, 0);
    door_close(&door);
}

static void test_slow_readers_end(void **state)
{
    (void)state;
    struct door door;
    door_open(&door, NULL);
    door.sends = 4096;
    feed(&door, "GET /long HTTP/1.1\r\n" HOST "\r\n");
    wait_s(&door, 29);
    door.sends = 2048;
    tsr_http1_sent(door.conn, 0);
    door_turn(&door);
    wait_s(&door, 1); /* 6144 bytes in 30 seconds: enough */
    assert_false(door.closed);
    door.sends = 2048;
    tsr_http1_sent(door.conn, 0);
    door_turn(&door);
    wait_s(&door, 30);
    assert_true(door.closed);
    door_close(&door);
}

static void test_draining(void **state)
{
    (void)state;
    struct door door;
    door_open(&door, NULL);
    tsr_http1_drain(door.http1);
    door_turn(&door);
    assert_true(door.closed);
    door_close(&door);

    door_open(&door, NULL);
    feed(&door, "GET /wait HTTP/1.1\r\n");
    tsr_http1_drain(door.http1);
    door_turn(&door);
    assert_true(door.closed);
    door_close(&door);

    door_open(&door, NULL);
    feed(&door, "GET /wait HTTP/1.1\r\n" HOST "\r\n");
    tsr_http1_drain(door.http1);
    fake_answer(fake.waits, 200, "last");
    door_turn(&door);
    assert_non_null(strstr(door.out.bytes, "\r\nConnection: close\r\n\r\nlast"));
    assert_true(door.shut);
    door_close(&door);
}

/* The connection that waits for a request longest; one that has a request does not wait. */
static void test_idlest(void **state)
{
    (void)state;
    struct door door;
    door_open(&door, NULL);
    struct tsr_http1_conn *other = tsr_http1_open(door.http1, NULL);
    assert_ptr_equal(tsr_http1_idlest(door.http1), door.conn);
    feed(&door, "GET /wait HTTP/1.1\r\n" HOST "\r\n");
    assert_ptr_equal(tsr_http1_idlest(door.http1), other);
    tsr_http1_fail(other);
    assert_int_equal(tsr_http1_wants(other), TSR_HTTP1_CLOSE);
    assert_null(tsr_http1_idlest(door.http1));
    tsr_http1_close(other);
    door_close(&door);
}

/* Requests are whole with their last byte; not those that had their answer before. */
static void test_whole_requests_are_counted(void **state)
{
    (void)state;
    struct door door;
    struct tsr_http1_counts counts;
    door_open(&door, NULL);
    feed(&door, "GET /none HTTP/1.1\r\n" HOST "\r\n");
    feed(&door, "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nhell");
    tsr_http1_counts(door.http1, &counts);
    assert_int_equal(counts.requests, 2);
    uint64_t before = counts.whole;
    feed(&door, "o");
    tsr_http1_counts(door.http1, &counts);
    assert_int_equal(counts.whole, before + 1);
    feed(&door, "GET /refuse HTTP/1.1\r\n" HOST "\r\n");
    tsr_http1_counts(door.http1, &counts);
    assert_int_equal(counts.whole, before + 1);
    door_close(&door);
}

/* Heads in pieces may take only so much memory together; whole ones none. */
static void test_half_heads_are_bounded(void **state)
{
    (void)state;
    struct tsr_http1_options options;
    tsr_http1_options_init(&options);
    options.heads_bytes_max = 4096;
    struct door door;
    door_open(&door, &options);
    feed(&door, "GET /echo HTTP/1.1\r\n" HOST);
    struct tsr_http1_conn *other = tsr_http1_open(door.http1, NULL);
    char half[] = "GET /echo HTTP/1.1\r\n";
    assert_int_equal(tsr_http1_feed(other, half, strlen(half)), strlen(half));
    struct iovec iov[1];
    assert_int_equal(tsr_http1_out(other, iov, 1, NULL), 1);
    assert_memory_equal(iov[0].iov_base, "HTTP/1.1 503 ", 13);
    tsr_http1_close(other);
    feed(&door, "\r\n");
    assert_memory_equal(door.out.bytes, "HTTP/1.1 200 ", 13);
    door_close(&door);
}

static void test_as_many_connections_as_planned(void **state)
{
    (void)state;
    struct door door;
    door_open(&door, NULL);
    struct tsr_http1_conn *conns[3];
    for (unsigned i = 0; i < 3; i++) {
        conns[i] = tsr_http1_open(door.http1, &conns[i]);
        assert_ptr_equal(tsr_http1_owner(conns[i]), &conns[i]);
    }
    assert_null(tsr_http1_open(door.http1, NULL));
    tsr_http1_close(conns[1]);
    conns[1] = tsr_http1_open(door.http1, NULL);
    assert_non_null(conns[1]);
    for (unsigned i = 0; i < 3; i++) {
        tsr_http1_close(conns[i]);
    }
    door_close(&door);
}

static void test_another_door_is_announced_under_tls(void **state)
{
    (void)state;
    struct tsr_http1_options options;
    struct door door;
    tsr_http1_options_init(&options);
    options.alt_svc = "h3=\":443\"; ma=60";
    door_open(&door, &options);
    feed(&door, "GET /none HTTP/1.1\r\n" HOST "\r\n");
    assert_string_equal(door.out.bytes, "HTTP/1.1 204 No Content\r\n" COMMON "\r\n");
    text_clear(&door.out);
    tsr_http1_secured(door.conn);
    feed(&door, "GET /none HTTP/1.1\r\n" HOST "\r\n");
    assert_string_equal(door.out.bytes,
                        "HTTP/1.1 204 No Content\r\n" COMMON "Alt-Svc: h3=\":443\"; ma=60\r\n\r\n");
    door_close(&door);
}

static void test_options_are_checked(void **state)
{
    (void)state;
    struct tsr_http1_options options;
    struct tsr_http1 *http1;
    struct tsr_err err;
    tsr_http1_options_init(&options);
    options.conns_max = 0;
    assert_int_equal(tsr_http1_create(&http1, NULL, &options, &err), -22);
    assert_non_null(strstr(err.text, "conns_max"));
    tsr_http1_options_init(&options);
    options.answers_bytes_max = 100;
    assert_int_equal(tsr_http1_create(&http1, NULL, &options, &err), -22);
    assert_non_null(strstr(err.text, "answers_bytes_max is 100"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_answers_byte_for_byte),
        cmocka_unit_test(test_head_gets_no_body),
        cmocka_unit_test(test_http10_gets_no_chunks),
        cmocka_unit_test(test_continue_where_the_body_is_wanted),
        cmocka_unit_test(test_early_answers),
        cmocka_unit_test(test_next_request_waits_for_the_answer),
        cmocka_unit_test(test_answers_that_are_not_read_hold_back_requests),
        cmocka_unit_test(test_the_api_hears_what_is_held),
        cmocka_unit_test(test_more_than_may_be_held_breaks_the_connection),
        cmocka_unit_test(test_answers_that_are_not_read_leave_room),
        cmocka_unit_test(test_a_client_that_goes_cancels),
        cmocka_unit_test(test_idle_connections_end),
        cmocka_unit_test(test_slow_heads_end),
        cmocka_unit_test(test_slow_bodies_end),
        cmocka_unit_test(test_slow_readers_end),
        cmocka_unit_test(test_draining),
        cmocka_unit_test(test_idlest),
        cmocka_unit_test(test_whole_requests_are_counted),
        cmocka_unit_test(test_half_heads_are_bounded),
        cmocka_unit_test(test_as_many_connections_as_planned),
        cmocka_unit_test(test_another_door_is_announced_under_tls),
        cmocka_unit_test(test_options_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
