/* Requests, right and wrong: what the API is asked, what is answered, and that neither depends on
 * how the bytes are cut. */
#include "fake_door.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define HOST "Host: h\r\n"

struct good {
    const char *request;
    const char *said;
};

static const struct good goods[] = {
    {"GET /echo HTTP/1.1\r\n" HOST "\r\n", "GET /echo ? @h 0 [host=h]\nwhole \n"},
    {"\r\nGET /echo HTTP/1.1\r\n" HOST "\r\n", "GET /echo ? @h 0 [host=h]\nwhole \n"},
    {"GET /e?a=b?c HTTP/1.1\r\nhOsT:h:80\r\n\r\n", "GET /e ?a=b?c @h:80 0 [host=h:80]\nwhole \n"},
    {"GET http://other:8/e?q HTTP/1.1\r\n" HOST "\r\n", "GET /e ?q @other:8 0 [host=h]\nwhole \n"},
    {"GET HTTPS://[::1] HTTP/1.1\r\nHost:\r\n\r\n", "GET / ? @[::1] 0 [host=]\nwhole \n"},
    {"GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", "GET / ? @[::1]:80 0 [host=[::1]:80]\nwhole \n"},
    {"GET / HTTP/1.1\r\nHost: h:\r\n\r\n", "GET / ? @h: 0 [host=h:]\nwhole \n"},
    {"GET http://o?q HTTP/1.1\r\n" HOST "\r\n", "GET / ?q @o 0 [host=h]\nwhole \n"},
    {"OPTIONS * HTTP/1.1\r\n" HOST "\r\n", "OPTIONS * ? @h 0 [host=h]\nwhole \n"},
    {"BREW /echo HTTP/1.1\r\n" HOST "\r\n", "BREW /echo ? @h 0 [host=h]\nwhole \n"},
    {"GET /echo HTTP/1.0\r\n\r\n", "GET /echo ? @ 0\nwhole \n"},
    {"GET /echo HTTP/1.7\r\n" HOST "\r\n", "GET /echo ? @h 0 [host=h]\nwhole \n"},
    {"GET /echo HTTP/1.1\r\nX-A: \t b \xc3\xa4  c\t \r\nx-b:\r\n" HOST "\r\n",
     "GET /echo ? @h 0 [x-a=b \xc3\xa4  c] [x-b=] [host=h]\nwhole \n"},
    {"GET /echo HTTP/1.1\r\n" HOST "Upgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
     "GET /echo ? @h 0 [host=h] [upgrade=h2c] [connection=Upgrade]\nwhole \n"},
    {"POST /echo HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nhello",
     "POST /echo ? @h 5 [host=h] [content-length=5]\nwhole hello\n"},
    {"POST /echo HTTP/1.1\r\n" HOST "Content-Length: 0\r\n\r\n",
     "POST /echo ? @h 0 [host=h] [content-length=0]\nwhole \n"},
    {"POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: Chunked\r\n\r\n"
     "5\r\nhello\r\n0A\r\n, world! 1\r\n0\r\n\r\n",
     "POST /echo ? @h -1 [host=h] [transfer-encoding=Chunked]\nwhole hello, world! 1\n"},
    {"POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: , chunked ,\r\n\r\n"
     "1;a=\"b;c\"\r\nx\r\n1 \t;a\r\ny\r\n000\r\nTrailer: 1\r\nOther:\r\n\r\n",
     "POST /echo ? @h -1 [host=h] [transfer-encoding=, chunked ,]\nwhole xy\n"},
    {"POST /full HTTP/1.1\r\n" HOST "Content-Length: 15\r\n\r\n012345678901234",
     "POST /full ? @h 15 [host=h] [content-length=15]\nfull\n"},
    {"POST /refuse HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nhello"
     "GET /echo HTTP/1.1\r\n" HOST "\r\n",
     "POST /refuse ? @h 5 [host=h] [content-length=5]\n"
     "GET /echo ? @h 0 [host=h]\nwhole \n"},
    {"POST /echo HTTP/1.1\r\n" HOST "Content-Length: 2\r\n\r\nhi"
     "GET /stream HTTP/1.1\r\n" HOST "\r\n"
     "GET /none HTTP/1.1\r\n" HOST "\r\n",
     "POST /echo ? @h 2 [host=h] [content-length=2]\nwhole hi\n"
     "GET /stream ? @h 0 [host=h]\nwhole \n"
     "GET /none ? @h 0 [host=h]\nwhole \n"},
    {"GET /echo HTTP/1.1\r\n" HOST "Connection: x, Close\r\n\r\n"
     "GET /echo HTTP/1.1\r\n" HOST "\r\n",
     "GET /echo ? @h 0 [host=h] [connection=x, Close]\nwhole \n"},
    {"GET /abort HTTP/1.1\r\n" HOST "\r\nGET /echo HTTP/1.1\r\n" HOST "\r\n",
     "GET /abort ? @h 0 [host=h]\nwhole \n"},
};

struct bad {
    unsigned status;
    const char *request;
};

#define CHUNKED "POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n"

/* Refused before the API hears of them, but for a chunked body that goes wrong. Each is followed by
 * a whole request, which must not be taken for one. */
static const struct bad bads[] = {
    /* the request line */
    {400, "\r\n\r\n"},
    {400, "\n"},
    {400, " GET / HTTP/1.1\r\n" HOST "\r\n"},
    {400, "GET  / HTTP/1.1\r\n" HOST "\r\n"},
    {400, "GET /  HTTP/1.1\r\n" HOST "\r\n"},
    {400, "GET / HTTP/1.1 \r\n" HOST "\r\n"},
    {400, "GET\t/ HTTP/1.1\r\n" HOST "\r\n"},
    {400, "GET /\r\n\r\n"},
    {400, "GET\r\n\r\n"},
    {400, "G(T / HTTP/1.1\r\n" HOST "\r\n"},
    {400, "GET / http/1.1\r\n" HOST "\r\n"},
    {400, "GET / HTTP/1.11\r\n" HOST "\r\n"},
    {400, "GET / HTTP/11\r\n" HOST "\r\n"},
    {505, "GET / HTTP/2.0\r\n" HOST "\r\n"},
    {505, "PRI * HTTP/2.0\r\n\r\n"},
    {400, "GET a HTTP/1.1\r\n" HOST "\r\n"},
    {400, "GET * HTTP/1.1\r\n" HOST "\r\n"},
    {400, "GET ftp://h/ HTTP/1.1\r\n" HOST "\r\n"},
    {400, "GET http:/// HTTP/1.1\r\n" HOST "\r\n"},
    {400, "GET http://user@h/ HTTP/1.1\r\n" HOST "\r\n"},
    {400, "GET /#a HTTP/1.1\r\n" HOST "\r\n"},
    {400, "GET /\xc3\xa4 HTTP/1.1\r\n" HOST "\r\n"},
    {400, "GET /\x7f HTTP/1.1\r\n" HOST "\r\n"},
    {501, "CONNECT h:443 HTTP/1.1\r\n" HOST "\r\n"},
    {400, "GET / HTTP/1.1\n" HOST "\r\n"},
    {400, "GET / HTTP/1.1\r" HOST "\r\n"},
    {400, "\x16\x03\x01\x02"},
    /* header lines */
    {400, "GET / HTTP/1.1\r\n Host: h\r\n\r\n"},
    {400, "GET / HTTP/1.1\r\n" HOST "X: a\r\n b\r\n\r\n"},
    {400, "GET / HTTP/1.1\r\n" HOST "X: a\r\n\tb\r\n\r\n"},
    {400, "GET / HTTP/1.1\r\n" HOST "X : a\r\n\r\n"},
    {400, "GET / HTTP/1.1\r\n" HOST "X\r\n\r\n"},
    {400, "GET / HTTP/1.1\r\n" HOST ": a\r\n\r\n"},
    {400, "GET / HTTP/1.1\r\n" HOST "X\xc3\xa4: a\r\n\r\n"},
    {400, "GET / HTTP/1.1\r\n" HOST "X: a\n\r\n"},
    {400, "GET / HTTP/1.1\r\n" HOST "X: a\rb\r\n\r\n"},
    {400, "GET / HTTP/1.1\r\n" HOST "X: a\x01\r\n\r\n"},
    {400, "GET / HTTP/1.1\r\n" HOST "X: a\x7f\r\n\r\n"},
    {400, "GET / HTTP/1.1\r\n" HOST "\n"},
    {400, "GET / HTTP/1.1\r\n" HOST "\rX"},
    /* Host */
    {400, "GET / HTTP/1.1\r\n\r\n"},
    {400, "GET / HTTP/1.1\r\n" HOST HOST "\r\n"},
    {400, "GET / HTTP/1.0\r\n" HOST HOST "\r\n"},
    {400, "GET / HTTP/1.1\r\nHost: a b\r\n\r\n"},
    {400, "GET / HTTP/1.1\r\nHost: u@h\r\n\r\n"},
    {400, "GET / HTTP/1.1\r\nHost: h:80,i\r\n\r\n"},
    {400, "GET / HTTP/1.1\r\nHost: h:80:80\r\n\r\n"},
    {400, "GET / HTTP/1.1\r\nHost: h:+8\r\n\r\n"},
    {400, "GET / HTTP/1.1\r\nHost: ::1\r\n\r\n"},
    {400, "GET / HTTP/1.1\r\nHost: [::1\r\n\r\n"},
    {400, "GET / HTTP/1.1\r\nHost: [\r\n\r\n"},
    {400, "GET / HTTP/1.1\r\nHost: []:80\r\n\r\n"},
    {400, "GET / HTTP/1.1\r\nHost: [::1]80\r\n\r\n"},
    {400, "GET / HTTP/1.1\r\nHost: [::1]:x\r\n\r\n"},
    {400, "GET / HTTP/1.1\r\nHost: h[::1]\r\n\r\n"},
    {400, "GET / HTTP/1.1\r\nHost: h/\r\n\r\n"},
    /* how long the body is */
    {400, "POST / HTTP/1.1\r\n" HOST "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"},
    {400, "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n"},
    {400, "POST / HTTP/1.1\r\n" HOST "Content-Length: 5\r\nContent-Length: 6\r\n\r\n"},
    {400, "POST / HTTP/1.1\r\n" HOST "Content-Length: 5\r\nContent-Length: 5\r\n\r\n"},
    {400, "POST / HTTP/1.1\r\n" HOST "Content-Length: 5, 5\r\n\r\n"},
    {400, "POST / HTTP/1.1\r\n" HOST "Content-Length: +5\r\n\r\n"},
    {400, "POST / HTTP/1.1\r\n" HOST "Content-Length: -5\r\n\r\n"},
    {400, "POST / HTTP/1.1\r\n" HOST "Content-Length: 0x5\r\n\r\n"},
    {400, "POST / HTTP/1.1\r\n" HOST "Content-Length: 5 5\r\n\r\n"},
    {400, "POST / HTTP/1.1\r\n" HOST "Content-Length:\r\n\r\n"},
    {400, "POST / HTTP/1.1\r\n" HOST "Content-Length: 18446744073709551621\r\n\r\n"},
    {400, "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"},
    {400, "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked, gzip\r\n\r\n"},
    {400, "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked, chunked\r\n\r\n"},
    {400,
     "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"},
    {400, "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding:\r\n\r\n"},
    {400, "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: \x0b"
          "chunked\r\n\r\n"},
    {501, "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: gzip, chunked\r\n\r\n"},
    {501, "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: xchunked\r\n\r\n"},
    {501, "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: identity\r\n\r\n"},
    {417, "POST / HTTP/1.1\r\n" HOST "Content-Length: 1\r\nExpect: 200-ok\r\n\r\n"},
    /* chunks */
    {400, CHUNKED "\r\n"},
    {400, CHUNKED "g\r\n"},
    {400, CHUNKED "0x1\r\nx\r\n0\r\n\r\n"},
    {400, CHUNKED "+1\r\nx\r\n0\r\n\r\n"},
    {400, CHUNKED "-1\r\nx\r\n0\r\n\r\n"},
    {400, CHUNKED " 1\r\nx\r\n0\r\n\r\n"},
    {400, CHUNKED "1 \r\nx\r\n0\r\n\r\n"},
    {400, CHUNKED "1\nx\r\n0\r\n\r\n"},
    {400, CHUNKED "1\rx\r\n0\r\n\r\n"},
    {400, CHUNKED "1\r\nxy\r\n0\r\n\r\n"},
    {400, CHUNKED "1\r\nx\n0\r\n\r\n"},
    {400, CHUNKED "1\r\nx0\r\n\r\n"},
    {400, CHUNKED "1;a\nb\r\nx\r\n0\r\n\r\n"},
    {400, CHUNKED "1;a\x01\r\nx\r\n0\r\n\r\n"},
    {400, CHUNKED "ffffffffffffffff\r\n"},
    {400, CHUNKED "10000000000000001\r\nx\r\n0\r\n\r\n"},
    {400, CHUNKED "0\r\nno colon\r\n\r\n"},
    {400, CHUNKED "0\r\nT: a\n\r\n"},
    {400, CHUNKED "0\r\n T: a\r\n\r\n"},
    {400, CHUNKED "0\r\n: a\r\n\r\n"},
    {400, CHUNKED "0\r\n\n"},
};

enum { N_GOODS = sizeof goods / sizeof *goods, N_BADS = sizeof bads / sizeof *bads };

/* What the API was asked and what was answered, of bytes that come in three pieces. */
static void talk(const char *bytes, size_t size, size_t first, size_t second, struct text *result)
{
    struct door door;
    door_open(&door, NULL);
    door_feed(&door, bytes, first);
    door_feed(&door, bytes + first, second - first);
    door_feed(&door, bytes + second, size - second);
    text_clear(result);
    text_put(result, fake.said.bytes, fake.said.size);
    text_put(result, door.out.bytes, door.out.size);
    text_format(result, "%s", door.shut ? "shut" : "");
    door_close(&door);
}

static void assert_indifferent_to_cuts(const char *bytes, size_t size)
{
    struct text whole = {.bytes = NULL}, cut = {.bytes = NULL};
    talk(bytes, size, size, size, &whole);
    for (size_t at = 0; at < size; at++) {
        talk(bytes, size, at, at + 1, &cut);
        if (strcmp(whole.bytes, cut.bytes) != 0) {
            fail_msg("cut at %zu of:\n%s\ngives:\n%s\ninstead of:\n%s", at, bytes, cut.bytes,
                     whole.bytes);
        }
    }
    free(whole.bytes);
    free(cut.bytes);
}

static void test_requests_reach_the_api(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_GOODS; i++) {
        struct door door;
        door_open(&door, NULL);
        door_feed(&door, goods[i].request, strlen(goods[i].request));
        assert_string_equal(fake.said.bytes, goods[i].said);
        door_close(&door);
    }
}

static void refused(const char *bytes, size_t size, unsigned status)
{
    struct door door;
    char expected[32];
    door_open(&door, NULL);
    door_feed(&door, bytes, size);
    door_feed(&door, "GET /echo HTTP/1.1\r\n" HOST "\r\n", 31);
    snprintf(expected, sizeof expected, "HTTP/1.1 %u ", status);
    if (strncmp(door.out.bytes, expected, strlen(expected)) != 0) {
        fail_msg("%.300s\ngives:\n%s\ninstead of %u", bytes, door.out.bytes, status);
    }
    assert_non_null(strstr(door.out.bytes, "\r\nConnection: close\r\n"));
    assert_non_null(strstr(door.out.bytes, "\r\n\r\n{\"error\":{\"message\":\""));
    assert_null(strstr(door.out.bytes + 1, "HTTP/1.1 2"));
    assert_null(strstr(fake.said.bytes, "GET /echo"));
    assert_true(door.shut);
    assert_int_equal(fake.open, 0);
    door_close(&door);
}

static void test_wrong_requests_are_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_BADS; i++) {
        refused(bads[i].request, strlen(bads[i].request), bads[i].status);
    }
    static const char nul[] = "GET / HTTP/1.1\r\n" HOST "X: a\0b\r\n\r\n";
    refused(nul, sizeof nul - 1, 400);
    static const char nul_line[] = "GET /\0 HTTP/1.1\r\n" HOST "\r\n";
    refused(nul_line, sizeof nul_line - 1, 400);
}

static void test_cuts_change_nothing(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_GOODS; i++) {
        assert_indifferent_to_cuts(goods[i].request, strlen(goods[i].request));
    }
    for (size_t i = 0; i < N_BADS; i++) {
        assert_indifferent_to_cuts(bads[i].request, strlen(bads[i].request));
    }
}

/* ---- Limits: what just fits, and one more ---- */

static void fill(struct text *text, const char *piece, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        text_put(text, piece, strlen(piece));
    }
}

static void assert_status(const struct text *request, size_t piece, unsigned status)
{
    struct door door;
    char expected[32];
    door_open(&door, NULL);
    for (size_t at = 0; at < request->size; at += piece) {
        size_t left = request->size - at;
        door_feed(&door, request->bytes + at, left < piece ? left : piece);
    }
    snprintf(expected, sizeof expected, "HTTP/1.1 %u ", status);
    assert_memory_equal(door.out.bytes, expected, strlen(expected));
    door_close(&door);
}

/* Whole, in pieces of a network's size, and byte by byte. */
static void assert_status_however_cut(struct text *request, unsigned status)
{
    assert_status(request, request->size, status);
    assert_status(request, 1448, status);
    assert_status(request, 1, status);
    free(request->bytes);
}

static void long_line(struct text *request, size_t line_bytes)
{
    text_format(request, "GET /");
    fill(request, "a", line_bytes - strlen("GET / HTTP/1.1"));
    text_format(request, " HTTP/1.1\r\n" HOST "\r\n");
}

static void long_head(struct text *request, size_t head_bytes)
{
    text_format(request, "GET /echo HTTP/1.1\r\n" HOST "X: ");
    fill(request, "a", head_bytes - request->size - strlen("\r\n\r\n"));
    text_format(request, "\r\n\r\n");
    assert_int_equal(request->size, head_bytes);
}

static void many_headers(struct text *request, size_t n)
{
    text_format(request, "GET /echo HTTP/1.1\r\n" HOST);
    fill(request, "X: y\r\n", n - 1);
    text_format(request, "\r\n");
}

static void test_limits(void **state)
{
    (void)state;
    struct text request = {.bytes = NULL};
    static void (*const makes[])(struct text *, size_t) = {long_line, long_head, many_headers};
    static const struct {
        size_t limit;
        unsigned status;
    } limits[] = {
        {TSR_HTTP1_LINE_MAX, 414}, {TSR_HTTP1_HEAD_MAX, 431}, {TSR_HTTP1_HEADERS_MAX, 431}};
    for (size_t i = 0; i < 3; i++) {
        makes[i](&request, limits[i].limit);
        assert_status_however_cut(&request, 200);
        request = (struct text){.bytes = NULL};
        makes[i](&request, limits[i].limit + 1);
        assert_status_however_cut(&request, limits[i].status);
        request = (struct text){.bytes = NULL};
    }
    text_format(&request, CHUNKED "1;");
    fill(&request, "a", 16385);
    assert_status_however_cut(&request, 431);
    request = (struct text){.bytes = NULL};
    text_format(&request, CHUNKED "0\r\n");
    fill(&request, "T: trailer\r\n", 2048);
    assert_status_however_cut(&request, 431);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_requests_reach_the_api),
        cmocka_unit_test(test_wrong_requests_are_refused),
        cmocka_unit_test(test_cuts_change_nothing),
        cmocka_unit_test(test_limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
