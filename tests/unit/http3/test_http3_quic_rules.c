/* What RFC 9000 and 9001 forbid closes the connection with the code that they name, or, where they
 * allow it (9000, 11), with PROTOCOL_VIOLATION, or does nothing at all. The handshake and the
 * packets are in the clear (bare.h), so that a client can be made to say anything. */
#include "bare.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static struct bare bare;

static struct bare_client *begin(void)
{
    struct tsr_http3_options o;
    bare_options(&o);
    bare_open(&bare, &o);
    return &bare.clients[0];
}

static struct bare_client *begin_connected(void)
{
    struct bare_client *c = begin();
    assert_true(bare_connect(c));
    return c;
}

/* Whether it has been closed with this code; the server is ready for the next one. */
static bool closes(const char *name, const struct bare_client *c, uint64_t code)
{
    bare_turn(&bare);
    bool right = c->closed && !c->close_is_http && c->close_code == code &&
                 tsr_http3_counts(bare.server)->closed_transport == 1;
    if (!right) {
        print_message("%s: %s, %s 0x%llx, not 0x%llx\n", name, c->closed ? "closed" : "open",
                      c->close_is_http ? "HTTP/3" : "QUIC", (unsigned long long)c->close_code,
                      (unsigned long long)code);
    }
    bare_close(&bare);
    return right;
}

#define BYTES(text) text, sizeof text - 1
#define NOTHING     NULL, 0
#define ZEROS(n)    (const char[n]){0}, n
#define FRAME       NGTCP2_FRAME_ENCODING_ERROR
#define VIOLATION   NGTCP2_PROTOCOL_VIOLATION
#define STATE       NGTCP2_STREAM_STATE_ERROR
#define RESET_TOKEN "0123456789abcdef"
#define NEW_ID(n, old)                                                                             \
    "\x18" n old "\x05"                                                                            \
    "id  " n RESET_TOKEN

/* ---- Frames of 1-RTT packets ---- */

struct rule {
    const char *name; /* begins with the section of RFC 9000 */
    const char *bytes;
    size_t size;
    uint64_t code;
    const char *before; /* a packet that is right, and comes first */
    size_t before_size;
};

static const struct rule frames[] = {
    {"12.4 a packet without frames", BYTES(""), VIOLATION, NOTHING},
    {"12.4 an unknown frame", BYTES("\x21"), FRAME, NOTHING},
    {"12.4 an unknown frame in two bytes", BYTES("\x7f\xff"), FRAME, NOTHING},
    {"12.4 the type of a frame in more bytes than it needs", BYTES("\x40\x01"), FRAME, NOTHING},
    {"19.20 HANDSHAKE_DONE of a client", BYTES("\x1e"), VIOLATION, NOTHING},
    {"19.7 NEW_TOKEN of a client", BYTES("\x07\x03xyz"), VIOLATION, NOTHING},

    {"13.1 ACK of what was not sent", BYTES("\x02\x43\xe8\x00\x00\x00"), VIOLATION, NOTHING},
    {"19.3.1 ACK below zero", BYTES("\x02\x00\x00\x00\x01"), FRAME, NOTHING},
    {"19.3.1 ACK with a range below zero", BYTES("\x02\x01\x00\x01\x00\x05\x00"), FRAME, NOTHING},
    {"19.3 ACK that is cut", BYTES("\x02\x00\x00\x05\x00"), FRAME, NOTHING},
    {"19.3.2 ACK with counts of ECN that are cut", BYTES("\x03\x00\x00\x00\x00\x00"), FRAME,
     NOTHING},

    {"19.4 RESET_STREAM of a stream that only the server sends on (STREAM_STATE_ERROR; 11)",
     BYTES("\x04\x03\x00\x00"), VIOLATION, NOTHING},
    {"19.4 RESET_STREAM of a stream that the server has not opened", BYTES("\x04\x01\x00\x00"),
     STATE, NOTHING},
    {"19.4 RESET_STREAM that is cut", BYTES("\x04\x00\x00"), FRAME, NOTHING},
    {"19.5 STOP_SENDING of a stream that only the client sends on", BYTES("\x05\x02\x00"), STATE,
     NOTHING},
    {"19.5 STOP_SENDING of a stream that the server has not opened", BYTES("\x05\x01\x00"), STATE,
     NOTHING},
    {"19.8 STREAM of a stream that only the server sends on", BYTES("\x08\x03x"), STATE, NOTHING},
    {"19.8 STREAM of a stream that the server has not opened", BYTES("\x08\x01x"), STATE, NOTHING},
    {"19.8 STREAM that is longer than its packet", BYTES("\x0a\x00\x05x"), FRAME, NOTHING},
    {"19.8 STREAM beyond 2^62 - 1", BYTES("\x0e\x00\xff\xff\xff\xff\xff\xff\xff\xff\x01x"),
     NGTCP2_FLOW_CONTROL_ERROR, NOTHING},
    {"19.10 MAX_STREAM_DATA of a stream that only the client sends on", BYTES("\x11\x02\x3f"),
     STATE, NOTHING},
    {"19.10 MAX_STREAM_DATA of a stream that the server has not opened", BYTES("\x11\x01\x3f"),
     STATE, NOTHING},
    {"19.13 STREAM_DATA_BLOCKED of a stream that only the server sends on", BYTES("\x15\x03\x3f"),
     STATE, NOTHING},
    {"19.11 MAX_STREAMS beyond 2^60", BYTES("\x12\xd0\x00\x00\x00\x00\x00\x00\x01"), FRAME,
     NOTHING},
    {"19.11 MAX_STREAMS of one direction beyond 2^60",
     BYTES("\x13\xd0\x00\x00\x00\x00\x00\x00\x01"), FRAME, NOTHING},
    {"19.14 STREAMS_BLOCKED beyond 2^60", BYTES("\x16\xd0\x00\x00\x00\x00\x00\x00\x01"), FRAME,
     NOTHING},

    {"4.1 more than a stream may carry", BYTES("\x0e\x00\x80\x04\x00\x00\x01x"),
     NGTCP2_FLOW_CONTROL_ERROR, NOTHING},
    {"4.1 more than a stream of one direction may carry", BYTES("\x0e\x02\x80\x04\x00\x00\x01x"),
     NGTCP2_FLOW_CONTROL_ERROR, NOTHING},
    {"4.1 more than a connection may carry",
     BYTES("\x0e\x08\x80\x03\xff\xff\x01x\x0e\x0c\x80\x03\xff\xff\x01x"), NGTCP2_FLOW_CONTROL_ERROR,
     BYTES("\x0e\x04\x80\x03\xff\xff\x01x")},
    {"4.5 RESET_STREAM with more than a stream may carry", BYTES("\x04\x00\x00\x80\x04\x00\x01"),
     NGTCP2_FLOW_CONTROL_ERROR, NOTHING},
    {"4.5 more bytes behind a stream's end", BYTES("\x0e\x00\x05\x01x"), NGTCP2_FINAL_SIZE_ERROR,
     BYTES("\x0f\x00\x03\x01x")},
    {"4.5 another end of a stream", BYTES("\x0f\x00\x05\x01x"), NGTCP2_FINAL_SIZE_ERROR,
     BYTES("\x0f\x00\x03\x01x")},
    {"4.5 a stream that ends before what has come", BYTES("\x0f\x00\x01\x01x"),
     NGTCP2_FINAL_SIZE_ERROR, BYTES("\x0e\x00\x05\x01x")},
    {"4.5 RESET_STREAM with another end", BYTES("\x04\x00\x00\x07"), NGTCP2_FINAL_SIZE_ERROR,
     BYTES("\x0f\x00\x03\x01x")},
    {"4.5 RESET_STREAM before what has come", BYTES("\x04\x00\x00\x03"), NGTCP2_FINAL_SIZE_ERROR,
     BYTES("\x0e\x00\x05\x01x")},
    {"4.6 a stream too many", BYTES("\x08\x41\x90"), NGTCP2_STREAM_LIMIT_ERROR, NOTHING},
    {"4.6 a stream of one direction too many", BYTES("\x08\x22"), NGTCP2_STREAM_LIMIT_ERROR,
     NOTHING},
    {"4.6 RESET_STREAM of a stream too many", BYTES("\x04\x41\x90\x00\x00"),
     NGTCP2_STREAM_LIMIT_ERROR, NOTHING},
    {"4.6 STOP_SENDING of a stream too many", BYTES("\x05\x41\x90\x00"), NGTCP2_STREAM_LIMIT_ERROR,
     NOTHING},

    {"7.5 CRYPTO beyond what is kept", BYTES("\x06\x80\x10\x00\x00\x01x"),
     NGTCP2_CRYPTO_BUFFER_EXCEEDED, NOTHING},
    {"19.6 CRYPTO beyond 2^62 - 1", BYTES("\x06\xff\xff\xff\xff\xff\xff\xff\xff\x01x"), FRAME,
     NOTHING},
    {"19.15 an id of no bytes", BYTES("\x18\x01\x00\x00" RESET_TOKEN), FRAME, NOTHING},
    {"19.15 an id of 21 bytes",
     BYTES("\x18\x01\x00\x15"
           "123456789012345678901" RESET_TOKEN),
     FRAME, NOTHING},
    {"19.15 more ids retired than there are", BYTES(NEW_ID("\x01", "\x02")), FRAME, NOTHING},
    {"19.15 two ids with one number",
     BYTES("\x18\x01\x00\x05"
           "other" RESET_TOKEN),
     VIOLATION, BYTES(NEW_ID("\x01", "\x00"))},
    {"19.15 one id with two numbers",
     BYTES("\x18\x02\x01\x05"
           "id  \x01" RESET_TOKEN),
     VIOLATION, BYTES(NEW_ID("\x01", "\x00"))},
    {"5.1.1 more ids than there may be", BYTES(NEW_ID("\x02", "\x00")),
     NGTCP2_CONNECTION_ID_LIMIT_ERROR, BYTES(NEW_ID("\x01", "\x00"))},
    {"19.16 an id retired that was not given out", BYTES("\x19\x09"), VIOLATION, NOTHING},
    {"19.17 PATH_CHALLENGE that is cut",
     BYTES("\x1a"
           "1234567"),
     FRAME, NOTHING},
    {"19.18 PATH_RESPONSE that is cut",
     BYTES("\x1b"
           "1234567"),
     FRAME, NOTHING},
    {"19.19 CONNECTION_CLOSE that is cut", BYTES("\x1c\x00\x00\x05x"), FRAME, NOTHING},
    {"RFC 9221, 3 DATAGRAM that was not agreed on", BYTES("\x30x"), VIOLATION, NOTHING},
};

static void test_quic_rules_frames(void **state)
{
    unsigned wrong = 0;
    (void)state;
    for (size_t i = 0; i < sizeof frames / sizeof *frames; i++) {
        const struct rule *r = &frames[i];
        struct bare_client *c = begin_connected();
        if (r->before) {
            bare_say(c, r->before, r->before_size);
            bare_turn(&bare);
            assert_false(c->closed);
        }
        bare_say(c, r->bytes, r->size);
        wrong += !closes(r->name, c, r->code);
    }
    assert_int_equal(wrong, 0);
}

/* ---- Frames of other packets (12.5) ---- */

static const struct {
    const char *name;
    const char *bytes;
    size_t size;
} misplaced[] = {
    {"12.4 no frame", BYTES("")},
    {"12.4 an unknown frame", BYTES("\x21")},
    {"12.5 RESET_STREAM", BYTES("\x04\x00\x00\x00")},
    {"12.5 STOP_SENDING", BYTES("\x05\x00\x00")},
    {"12.5 NEW_TOKEN", BYTES("\x07\x01x")},
    {"12.5 STREAM", BYTES("\x08\x00x")},
    {"12.5 MAX_DATA", BYTES("\x10\x3f")},
    {"12.5 MAX_STREAM_DATA", BYTES("\x11\x00\x3f")},
    {"12.5 MAX_STREAMS", BYTES("\x12\x3f")},
    {"12.5 DATA_BLOCKED", BYTES("\x14\x3f")},
    {"12.5 STREAM_DATA_BLOCKED", BYTES("\x15\x00\x3f")},
    {"12.5 STREAMS_BLOCKED", BYTES("\x16\x3f")},
    {"12.5 NEW_CONNECTION_ID", BYTES(NEW_ID("\x01", "\x00"))},
    {"12.5 RETIRE_CONNECTION_ID", BYTES("\x19\x00")},
    {"12.5 PATH_CHALLENGE", BYTES("\x1a"
                                  "12345678")},
    {"12.5 PATH_RESPONSE", BYTES("\x1b"
                                 "12345678")},
    {"12.5 CONNECTION_CLOSE of HTTP/3", BYTES("\x1d\x00\x00")},
    {"12.5 HANDSHAKE_DONE", BYTES("\x1e")},
};

static struct bare_client *begin_half(void)
{
    struct bare_client *c = begin();
    struct bare_bytes params = {.size = 0};
    bare_put_params(&params, c);
    bare_hello(c, params.bytes, params.size);
    assert_true(c->n_crypto);
    return c;
}

static void test_quic_rules_handshake_packets(void **state)
{
    unsigned wrong = 0;
    (void)state;
    for (size_t i = 0; i < sizeof misplaced / sizeof *misplaced; i++) {
        struct bare_client *c = begin_half();
        bare_packet(c, BARE_HANDSHAKE, NULL, misplaced[i].bytes, misplaced[i].size);
        bare_send(c);
        wrong += !closes(misplaced[i].name, c, i == 1 ? FRAME : VIOLATION);
    }
    assert_int_equal(wrong, 0);
}

/* Anyone can write an Initial packet: so they are dropped where they are wrong (5.2), and the
 * connection goes on. */
static void test_quic_rules_initial_packets(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof misplaced / sizeof *misplaced; i++) {
        struct bare_client *c = begin_half();
        bare_packet(c, BARE_INITIAL, NULL, misplaced[i].bytes, misplaced[i].size);
        bare_send_filled(c);
        bare_turn(&bare);
        bare_finish(c);
        if (!c->established || c->closed) {
            print_message("%s in an Initial packet\n", misplaced[i].name);
            fail();
        }
        bare_close(&bare);
    }
}

/* 17.2 and 17.3.1: bits that must be zero. */
static void test_quic_rules_reserved_bits(void **state)
{
    static const struct bare_odd odd[] = {{.first = 0x18}, {.first = 0x08}, {.first = 0x0c}};
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct bare_client *c = begin_connected();
        bare_packet(c, BARE_ONE_RTT, &odd[i], "\x01", 1);
        bare_send(c);
        assert_true(closes("17.3.1 reserved bits", c, VIOLATION));
    }
    struct bare_client *c = begin_half();
    bare_packet(c, BARE_HANDSHAKE, &odd[2], "\x01", 1);
    bare_send(c);
    assert_true(closes("17.2 reserved bits", c, VIOLATION));
}

/* ---- Transport parameters (7.4, 18.2) ---- */

#define OWN_ID                                                                                     \
    "\x0f\x05"                                                                                     \
    "cli 0"
#define PARAM NGTCP2_TRANSPORT_PARAMETER_ERROR

static const struct {
    const char *name;
    const char *bytes;
    size_t size;
    uint64_t code;
} params[] = {
    {"7.3 no initial_source_connection_id", BYTES("\x01\x01\x3f"), PARAM},
    {"7.3 another initial_source_connection_id",
     BYTES("\x0f\x05"
           "other"),
     PARAM},
    {"7.4 a parameter that is cut", BYTES(OWN_ID "\x01\x05\x3f"), PARAM},
    {"7.4 a number that is shorter than its parameter", BYTES(OWN_ID "\x01\x02\x3f\x00"), PARAM},
    {"18.2 original_destination_connection_id of a client",
     BYTES(OWN_ID "\x00\x04"
                  "abcd"),
     PARAM},
    {"18.2 stateless_reset_token of a client", BYTES(OWN_ID "\x02\x10" RESET_TOKEN), PARAM},
    {"18.2 preferred_address of a client",
     BYTES(OWN_ID "\x0d\x2d"
                  "444456666666666666666777\x04"
                  "iden" RESET_TOKEN),
     PARAM},
    {"18.2 retry_source_connection_id of a client",
     BYTES(OWN_ID "\x10\x04"
                  "abcd"),
     PARAM},
    {"18.2 max_udp_payload_size below 1,200", BYTES(OWN_ID "\x03\x02\x44\xaf"), PARAM},
    {"18.2 initial_max_streams_bidi beyond 2^60",
     BYTES(OWN_ID "\x08\x08\xd0\x00\x00\x00\x00\x00\x00\x01"), PARAM},
    {"18.2 initial_max_streams_uni beyond 2^60",
     BYTES(OWN_ID "\x09\x08\xd0\x00\x00\x00\x00\x00\x00\x01"), PARAM},
    {"18.2 ack_delay_exponent above 20", BYTES(OWN_ID "\x0a\x01\x15"), PARAM},
    {"18.2 max_ack_delay of 2^14", BYTES(OWN_ID "\x0b\x04\x80\x00\x40\x00"), PARAM},
    {"18.2 disable_active_migration with a value", BYTES(OWN_ID "\x0c\x01\x00"), PARAM},
    {"18.2 active_connection_id_limit below 2", BYTES(OWN_ID "\x0e\x01\x01"), PARAM},
    {"RFC 9368, 4 a chosen version that is not the packet's",
     BYTES(OWN_ID "\x11\x08\x6b\x33\x43\xcf\x6b\x33\x43\xcf"), NGTCP2_VERSION_NEGOTIATION_ERROR},
    {"RFC 9368, 3 a version of zero", BYTES(OWN_ID "\x11\x08\x00\x00\x00\x01\x00\x00\x00\x00"),
     PARAM},
    {"RFC 9368, 3 versions that are cut", BYTES(OWN_ID "\x11\x05\x00\x00\x00\x01\x00"), PARAM},
};

static void test_quic_rules_parameters(void **state)
{
    unsigned wrong = 0;
    (void)state;
    for (size_t i = 0; i < sizeof params / sizeof *params; i++) {
        struct bare_client *c = begin();
        bare_hello(c, params[i].bytes, params[i].size);
        wrong += !closes(params[i].name, c, params[i].code);
    }
    assert_int_equal(wrong, 0);
}

/* ---- Keys (RFC 9001, 6) ---- */

/* 6.4, 6.5: packets of a second update, before the first one was acknowledged, are dropped: there
 * are no keys for them yet. */
static void test_quic_rules_key_update_early(void **state)
{
    (void)state;
    struct bare_client *c = begin_connected();
    c->key_phase = true;
    bare_say(c, "\x01", 1);
    bare_turn(&bare);
    c->key_phase = false;
    bare_say(c, "\x1e", 1);
    bare_turn(&bare);
    assert_false(c->closed);
    c->key_phase = true;
    bare_say(c, "\x1e", 1);
    assert_true(closes("a packet of the first update", c, VIOLATION));
}

/* 6.6: too many packets that do not decrypt. */
static void test_quic_rules_decryption_failures(void **state)
{
    static const struct bare_odd odd = {.spoiled = true};
    (void)state;
    struct bare_client *c = begin_connected();
    for (int i = 0; i < BARE_DECRYPTION_FAILURES; i++) {
        assert_false(c->closed);
        bare_packet(c, BARE_ONE_RTT, &odd, "\x01", 1);
        bare_send(c);
        bare_turn(&bare);
    }
    assert_true(closes("RFC 9001, 6.6", c, NGTCP2_AEAD_LIMIT_REACHED));
}

/* ---- What must be borne ---- */

static const struct {
    const char *name;
    const char *bytes;
    size_t size;
} borne[] = {
    {"a PATH_RESPONSE that nobody asked for", BYTES("\x1b"
                                                    "12345678")},
    {"limits that shrink", BYTES("\x10\x3f\x10\x01\x12\x3f\x12\x01")},
    {"BLOCKED frames", BYTES("\x14\x3f\x15\x00\x3f\x16\x05\x17\x05")},
    {"data twice", BYTES("\x0e\x0a\x00\x02!x\x0e\x0a\x01\x01x\x0e\x0a\x00\x02!x")},
    {"an id twice", BYTES(NEW_ID("\x01", "\x00") NEW_ID("\x01", "\x00"))},
    {"RESET_STREAM twice", BYTES("\x04\x00\x00\x00\x04\x00\x00\x00")},
    {"STOP_SENDING of a stream that has not been heard of", BYTES("\x05\x08\x00")},
    {"RETIRE_CONNECTION_ID of another id than this packet's", BYTES("\x19\x01")},
    {"a PING behind PADDING", BYTES("\x00\x00\x00\x01")},
};

static void test_quic_rules_borne(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof borne / sizeof *borne; i++) {
        struct bare_client *c = begin_connected();
        bare_say(c, borne[i].bytes, borne[i].size);
        bare_turn(&bare);
        if (c->closed) {
            print_message("%s: 0x%llx\n", borne[i].name, (unsigned long long)c->close_code);
            fail();
        }
        bare_close(&bare);
    }
}

/* PRIORITY_UPDATE (RFC 9218, 7.2) in any number of pieces: nghttp3 1.8 would end the process where
 * a packet ends behind its element's id. */
static void test_quic_rules_priority_in_pieces(void **state)
{
    static const char control[] =
        "\x00\x04\x00\x80\x0f\x07\x00\x06\x00u=1,i\x80\x0f\x07\x00\x01\x04"
        "\x80\x0f\x07\x00\x00\x21\x03xyz\x80\x0f\x07\x00\x04\x00u=";
    const size_t size = sizeof control - 1;
    (void)state;
    for (size_t cut = 0; cut <= size; cut++) {
        struct bare_client *c = begin_connected();
        bare_say_stream(c, 2, control, cut, false);
        bare_say_stream(c, 2, control + cut, size - cut, false);
        bare_turn(&bare);
        assert_false(c->closed);
        bare_say_stream(c, 2, "3\x0d\x01\x00\x04\x00", 6, false); /* SETTINGS again */
        bare_turn(&bare);
        assert_true(c->closed && c->close_is_http);
        assert_int_equal(c->close_code, NGHTTP3_H3_FRAME_UNEXPECTED);
        bare_close(&bare);
    }
}

/* A connection that gets so many bytes and no more, wherever that stops it: it ends, and all that
 * it had comes back (bare_close() looks). */
static void test_quic_rules_memory_at_its_end(void **state)
{
    static const char request[] = "\x01\x0e\x00\x00\xd1\xd7\x50\x01"
                                  "a\x51\x05/echo";
    struct tsr_http3_options o;
    unsigned established = 0;
    (void)state;
    bare_options(&o);
    for (o.conn_bytes_max = 256; o.conn_bytes_max < 96 << 10; o.conn_bytes_max += 16) {
        bare_open(&bare, &o);
        struct bare_client *c = &bare.clients[0];
        if (bare_connect(c)) {
            established++;
            bare_say_stream(c, 2, "\x00\x04\x00", 3, false);
            bare_say_stream(c, 0, request, sizeof request - 1, true);
            bare_turn(&bare);
        }
        bare_close(&bare);
    }
    assert_true(established > 0 && established < (96 << 10) / 16);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_quic_rules_frames),
        cmocka_unit_test(test_quic_rules_handshake_packets),
        cmocka_unit_test(test_quic_rules_initial_packets),
        cmocka_unit_test(test_quic_rules_reserved_bits),
        cmocka_unit_test(test_quic_rules_parameters),
        cmocka_unit_test(test_quic_rules_key_update_early),
        cmocka_unit_test(test_quic_rules_decryption_failures),
        cmocka_unit_test(test_quic_rules_borne),
        cmocka_unit_test(test_quic_rules_priority_in_pieces),
        cmocka_unit_test(test_quic_rules_memory_at_its_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
