/* What RFC 9114 and 9204 forbid closes the connection with the code that they name. */
#include "world.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

/* Frames: type, length, payload. Streams: what comes first on a unidirectional one is its type. */
#define SETTINGS "\x00\x04\x00" /* the control stream with empty settings */

/* GET https://a/echo */
#define HEAD                                                                                       \
    "\x01\x0e\x00\x00\xd1\xd7\x50\x01"                                                             \
    "a\x51\x05/echo"

struct rule {
    const char *name;
    const char *first; /* on a first stream; NULL: none */
    size_t first_size;
    const char *bytes;
    size_t size;
    bool first_uni, uni, fin;
    uint64_t code;
};

#define BYTES(text) text, sizeof text - 1
#define CONTROL     SETTINGS, sizeof SETTINGS - 1
#define NONE        NULL, 0

static const struct rule rules[] = {
    {"no settings first", NONE, BYTES("\x00\x0d\x01\x00"), false, true, false,
     NGHTTP3_H3_MISSING_SETTINGS},
    {"settings twice", NONE, BYTES(SETTINGS "\x04\x00"), false, true, false,
     NGHTTP3_H3_FRAME_UNEXPECTED},
    {"a setting of HTTP/2", NONE, BYTES("\x00\x04\x02\x02\x00"), false, true, false,
     NGHTTP3_H3_SETTINGS_ERROR},
    {"two control streams", CONTROL, BYTES(SETTINGS), true, true, false,
     NGHTTP3_H3_STREAM_CREATION_ERROR},
    {"the control stream ends", NONE, BYTES(SETTINGS), false, true, true,
     NGHTTP3_H3_CLOSED_CRITICAL_STREAM},
    {"data on the control stream", NONE, BYTES(SETTINGS "\x00\x01x"), false, true, false,
     NGHTTP3_H3_FRAME_UNEXPECTED},
    {"headers on the control stream", NONE, BYTES(SETTINGS "\x01\x01x"), false, true, false,
     NGHTTP3_H3_FRAME_UNEXPECTED},
    {"a frame of HTTP/2 on the control stream", NONE, BYTES(SETTINGS "\x06\x01x"), false, true,
     false, NGHTTP3_H3_FRAME_UNEXPECTED},
    {"a push stream from a client", NONE, BYTES("\x01\x00"), false, true, false,
     NGHTTP3_H3_STREAM_CREATION_ERROR},
    {"two encoder streams", BYTES("\x02"), BYTES("\x02"), true, true, false,
     NGHTTP3_H3_STREAM_CREATION_ERROR},
    {"two decoder streams", BYTES("\x03"), BYTES("\x03"), true, true, false,
     NGHTTP3_H3_STREAM_CREATION_ERROR},
    {"the encoder stream ends", NONE, BYTES("\x02"), false, true, true,
     NGHTTP3_H3_CLOSED_CRITICAL_STREAM},
    {"data before headers", CONTROL, BYTES("\x00\x01x"), true, false, false,
     NGHTTP3_H3_FRAME_UNEXPECTED},
    {"settings on a request", CONTROL, BYTES("\x04\x00"), true, false, false,
     NGHTTP3_H3_FRAME_UNEXPECTED},
    {"goaway on a request", CONTROL, BYTES("\x07\x01\x00"), true, false, false,
     NGHTTP3_H3_FRAME_UNEXPECTED},
    {"cancel push on a request", CONTROL, BYTES("\x03\x01\x00"), true, false, false,
     NGHTTP3_H3_FRAME_UNEXPECTED},
    {"push promise from a client", CONTROL, BYTES("\x05\x03\x00\x00\x00"), true, false, false,
     NGHTTP3_H3_FRAME_UNEXPECTED},
    {"a frame of HTTP/2 on a request", CONTROL, BYTES("\x08\x00"), true, false, false,
     NGHTTP3_H3_FRAME_UNEXPECTED},
    {"a frame that is cut", CONTROL, BYTES("\x01\x05\x00\x00"), true, false, true,
     NGHTTP3_H3_FRAME_ERROR},
    /* Both should be H3_ID_ERROR (RFC 9114, 7.2.3 and 7.2.7); nghttp3 says it otherwise. */
    {"max push id that shrinks", NONE, BYTES(SETTINGS "\x0d\x01\x05\x0d\x01\x04"), false, true,
     false, NGHTTP3_H3_FRAME_ERROR},
    {"cancel of a push that was not promised", NONE, BYTES(SETTINGS "\x03\x01\x07"), false, true,
     false, NGHTTP3_H3_FRAME_UNEXPECTED},
    {"an unknown static entry", CONTROL, BYTES("\x01\x05\x00\x00\xff\x80\x01"), true, false, true,
     NGHTTP3_QPACK_DECOMPRESSION_FAILED},
    {"an unknown dynamic entry", CONTROL, BYTES("\x01\x03\x00\x00\x80"), true, false, true,
     NGHTTP3_QPACK_DECOMPRESSION_FAILED},
    {"a table above its limit", NONE, BYTES("\x02\x3f\xe1\xff\x7f"), false, true, false,
     NGHTTP3_QPACK_ENCODER_STREAM_ERROR},
    {"acknowledged what was not sent", NONE, BYTES("\x03\x80"), false, true, false,
     NGHTTP3_QPACK_DECODER_STREAM_ERROR},
    /* RFC 9114, 5.2, 7.1, 7.2.4, 7.2.8, 4.1 */
    {"goaway that grows", NONE, BYTES(SETTINGS "\x07\x01\x04\x07\x01\x08"), false, true, false,
     NGHTTP3_H3_ID_ERROR},
    {"goaway of nothing", NONE, BYTES(SETTINGS "\x07\x00"), false, true, false,
     NGHTTP3_H3_FRAME_ERROR},
    {"more behind the number of goaway", NONE, BYTES(SETTINGS "\x07\x02\x04\x21"), false, true,
     false, NGHTTP3_H3_FRAME_ERROR},
    {"more behind the number of max push id", NONE, BYTES(SETTINGS "\x0d\x02\x04\x21"), false, true,
     false, NGHTTP3_H3_FRAME_ERROR},
    {"settings that are cut", NONE, BYTES("\x00\x04\x01\x06"), false, true, false,
     NGHTTP3_H3_FRAME_ERROR},
    {"a setting of HTTP/2: 3", NONE, BYTES("\x00\x04\x02\x03\x00"), false, true, false,
     NGHTTP3_H3_SETTINGS_ERROR},
    {"a setting of HTTP/2: 4", NONE, BYTES("\x00\x04\x02\x04\x00"), false, true, false,
     NGHTTP3_H3_SETTINGS_ERROR},
    {"a setting of HTTP/2: 5", NONE, BYTES("\x00\x04\x02\x05\x00"), false, true, false,
     NGHTTP3_H3_SETTINGS_ERROR},
    {"a frame of HTTP/2 on the control stream: 2", NONE, BYTES(SETTINGS "\x02\x01x"), false, true,
     false, NGHTTP3_H3_FRAME_UNEXPECTED},
    {"a frame of HTTP/2 on the control stream: 8", NONE, BYTES(SETTINGS "\x08\x01x"), false, true,
     false, NGHTTP3_H3_FRAME_UNEXPECTED},
    {"a frame of HTTP/2 on the control stream: 9", NONE, BYTES(SETTINGS "\x09\x01x"), false, true,
     false, NGHTTP3_H3_FRAME_UNEXPECTED},
    {"push promise on the control stream", NONE, BYTES(SETTINGS "\x05\x01\x00"), false, true, false,
     NGHTTP3_H3_FRAME_UNEXPECTED},
    {"a frame of HTTP/2 on a request: 2", CONTROL, BYTES("\x02\x00"), true, false, false,
     NGHTTP3_H3_FRAME_UNEXPECTED},
    {"a frame of HTTP/2 on a request: 6", CONTROL, BYTES("\x06\x00"), true, false, false,
     NGHTTP3_H3_FRAME_UNEXPECTED},
    {"a frame of HTTP/2 on a request: 9", CONTROL, BYTES("\x09\x00"), true, false, false,
     NGHTTP3_H3_FRAME_UNEXPECTED},
    {"max push id on a request", CONTROL, BYTES("\x0d\x01\x00"), true, false, false,
     NGHTTP3_H3_FRAME_UNEXPECTED},
    {"data behind trailers", CONTROL, BYTES(HEAD "\x00\x01x\x01\x02\x00\x00\x00\x01y"), true, false,
     false, NGHTTP3_H3_FRAME_UNEXPECTED},
    {"the decoder stream ends", NONE, BYTES("\x03"), false, true, true,
     NGHTTP3_H3_CLOSED_CRITICAL_STREAM},
    /* RFC 9204, 2.1.2, 2.2.3, 3.2.2, 4.3, 4.5.1 */
    {"a head that waits for the table", CONTROL, BYTES("\x01\x03\x02\x00\x80"), true, false, false,
     NGHTTP3_QPACK_DECOMPRESSION_FAILED},
    {"an insert count that cannot be", CONTROL, BYTES("\x01\x04\xff\x80\x02\x00"), true, false,
     true, NGHTTP3_QPACK_DECOMPRESSION_FAILED},
    {"a new entry by the name of one that is not there", NONE, BYTES("\x02\x3f\xe1\x1f\x80\x01x"),
     false, true, false, NGHTTP3_QPACK_ENCODER_STREAM_ERROR},
    {"a new entry by an unknown static name", NONE, BYTES("\x02\x3f\xe1\x1f\xff\x80\x01\x01x"),
     false, true, false, NGHTTP3_QPACK_ENCODER_STREAM_ERROR},
    {"a copy of an entry that is not there", NONE, BYTES("\x02\x3f\xe1\x1f\x00"), false, true,
     false, NGHTTP3_QPACK_ENCODER_STREAM_ERROR},
    {"an entry larger than its table", NONE,
     BYTES("\x02\x3f\x01\x41"
           "a\x01"
           "b"),
     false, true, false, NGHTTP3_QPACK_ENCODER_STREAM_ERROR},
    {"an increment beyond what was sent", NONE, BYTES("\x03\x05"), false, true, false,
     NGHTTP3_QPACK_DECODER_STREAM_ERROR},
    {"an increment of zero", NONE, BYTES("\x03\x00"), false, true, false,
     NGHTTP3_QPACK_DECODER_STREAM_ERROR},
};

static void check(const struct rule *rule)
{
    struct world *w = world_make(NULL);
    struct client *c = world_connect(w, &(struct client_options){.raw = true});
    assert_true(c->established);
    if (rule->first) {
        client_say(c, rule->first_uni, rule->first, rule->first_size, false);
        world_run(w, 100 * ms, NULL);
    }
    client_say(c, rule->uni, rule->bytes, rule->size, rule->fin);
    world_run(w, 500 * ms, NULL);
    if (!c->gone || c->error.type != NGTCP2_CCERR_TYPE_APPLICATION ||
        c->error.error_code != rule->code) {
        print_message("%s: %s, 0x%llx, not 0x%llx\n", rule->name, c->gone ? "closed" : "open",
                      (unsigned long long)c->error.error_code, (unsigned long long)rule->code);
        fail();
    }
    assert_int_equal(world_counts(w)->closed_http, 1);
    world_free(w);
    fake_reset();
}

static void test_rules_http(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++) {
        check(&rules[i]);
    }
}

/* What must be ignored (RFC 9114, 9): reserved and unknown frames, settings and streams. */
static void test_rules_greasing(void **state)
{
    static const char control[] = "\x00\x04\x02\x21\x05\x21\x03xyz";
    static const char stream[] = "\x21more that means nothing";
    static const char request[] = "\x21\x02zz"
                                  "\x01\x13\x00\x00\xd1\xd7\x50\x01"
                                  "a\x51\x05/echo\x21\x01y";
    (void)state;
    struct world *w = world_make(NULL);
    fake_reset();
    struct client *c = world_connect(w, &(struct client_options){.raw = true});
    client_say(c, true, control, sizeof control - 1, false);
    client_say(c, true, stream, sizeof stream - 1, false);
    char bytes[sizeof request];
    memcpy(bytes, request, sizeof request);
    bytes[5] = 2 + 2 + 3 + 7; /* the size of the head */
    client_say(c, false, bytes, sizeof request - 1, true);
    world_run(w, second, NULL);
    assert_false(c->gone);
    assert_string_equal(fake.said.bytes, "GET /echo ? @a -1\nwhole \n");
    world_free(w);
    fake_reset();
}

/* RFC 9114, 6.2: three unidirectional streams at least. */
static void test_rules_few_streams(void **state)
{
    (void)state;
    struct world *w = world_make(NULL);
    struct client *c = client_make(w, &(struct client_options){.raw = true, .uni_streams = 2});
    world_run(w, 2 * second, NULL);
    assert_true(c->gone);
    assert_int_equal(world_counts(w)->closed_http, 1);
    world_free(w);
}

/* TLS's messages behind the handshake (RFC 9001, 4.4, 6, 8.3): none of a client's has a meaning,
 * nor is one kept that never ends. */
static void test_rules_tls_messages(void **state)
{
    static uint8_t endless[256 << 10] = {0x0b, 0xff, 0xff, 0xff};
    static const uint8_t key_update[] = {0x18, 0, 0, 1, 0}, early_data_end[] = {5, 0, 0, 0},
                         hello[] = {1, 0, 0, 2, 3, 3};
    static const struct {
        const char *name;
        const uint8_t *bytes;
        size_t size;
    } messages[] = {{"KeyUpdate", key_update, sizeof key_update},
                    {"EndOfEarlyData", early_data_end, sizeof early_data_end},
                    {"ClientHello", hello, sizeof hello},
                    {"an endless one", endless, sizeof endless}};
    (void)state;
    for (size_t i = 0; i < sizeof messages / sizeof *messages; i++) {
        struct world *w = world_make(NULL);
        struct client *c = world_connect(w, &(struct client_options){.raw = true});
        assert_true(c->established);
        for (size_t at = 0; at < messages[i].size; at += 1000) {
            size_t left = messages[i].size - at;
            assert_int_equal(ngtcp2_conn_submit_crypto_data(c->quic, NGTCP2_ENCRYPTION_LEVEL_1RTT,
                                                            messages[i].bytes + at,
                                                            left < 1000 ? left : 1000),
                             0);
        }
        world_run(w, second, NULL);
        if (!c->gone || c->error.type != NGTCP2_CCERR_TYPE_TRANSPORT ||
            c->error.error_code != (NGTCP2_CRYPTO_ERROR | GNUTLS_A_UNEXPECTED_MESSAGE)) {
            print_message("%s: %s, 0x%llx\n", messages[i].name, c->gone ? "closed" : "open",
                          (unsigned long long)c->error.error_code);
            fail();
        }
        world_free(w);
        fake_reset();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rules_http),
        cmocka_unit_test(test_rules_greasing),
        cmocka_unit_test(test_rules_few_streams),
        cmocka_unit_test(test_rules_tls_messages),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    certificate_remove(&world_certificate);
    return failed;
}
