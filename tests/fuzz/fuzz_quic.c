/* QUIC behind its encryption (bare.h): whatever a client may send, in packets that decrypt, and
 * datagrams that are no packets at all.
 *
 * The first byte says what the server is like and how the client begins; then steps: a byte of what
 * (low half) and how (high half), for most a byte of length, and as many bytes. */
#include "steps.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Bits of the first byte. */
enum {
    CONNECTED = 1,
    RETRIES = 2,
    VERSION_2 = 4,
    BOTH = 8,
    PARAMS = 16,
    NARROW = 32,
    SCARCE = 64,
    LONG_FLIGHT = 128
};

enum step {
    STEP_SAY,     /* 1-RTT frames */
    STEP_SAY_ODD, /* ... of a packet that is not as it should be: three bytes of how, then frames */
    STEP_HANDSHAKE, /* frames of a Handshake packet */
    STEP_INITIAL,   /* ... of an Initial packet */
    STEP_ZERO_RTT,  /* ... of a 0-RTT packet */
    STEP_RAW,       /* a datagram as it is */
    STEP_MOVE,      /* the client has another address */
    STEP_WAIT_FOR,  /* time goes by */
    STEP_ANSWER,    /* of the API, and other events of the door */
    STEP_ACK,       /* all that came is acknowledged */
    STEP_STREAM,    /* the next bytes of a stream */
    STEP_ROOM,      /* the port has little room in the next turn */
    STEP_CHALLENGE, /* is answered */
    STEP_AGAIN,     /* a new connection from the same address, with the token that was given */
    STEP_KEY,       /* the next packets say that they have a new key, or another version */
    STEP_FINISH,    /* the handshake's end */
};

static void event(struct bare *b, unsigned how)
{
    if (how == 0) {
        tsr_http3_drain(b->server);
    } else {
        answer(how);
    }
}

static void say_odd(struct bare_client *c, struct input part, unsigned how)
{
    struct bare_odd odd = {.first = next(&part), .id = how >> 1, .skip = next(&part)};
    odd.skip <<= how & 1 ? 20 : 0;
    odd.spoiled = next(&part) & 1;
    bare_packet(c, BARE_ONE_RTT, &odd, part.bytes, part.size);
    bare_send(c);
}

/* A packet of its own, or before the next one in the same datagram. */
static void say(struct bare_client *c, enum bare_type type, struct input part, unsigned how)
{
    bare_packet(c, type, NULL, part.bytes, part.size);
    if (how & 4) {
        bare_send_filled(c);
    } else if (!(how & 2)) {
        bare_send(c);
    }
}

static void raw(struct bare_client *c, struct input part, bool fill)
{
    uint8_t bytes[TSR_HTTP3_INITIAL_MIN] = {0};
    if (part.size) {
        memcpy(bytes, part.bytes, part.size);
    }
    c->validated = true;
    bare_datagram(c, bytes, fill ? sizeof bytes : part.size);
}

/* To another port, another host, or IPv6. */
static void move(struct bare_client *c, unsigned how)
{
    struct tsr_address *local = &c->path.local, *remote = &c->path.remote;
    c->validated = true;
    remote->port = (uint16_t)(remote->port + 2 * (how & 3));
    remote->ip[3] ^= how & 1;
    local->family = remote->family = how & 4 ? 6 : 4;
}

static void acknowledge(struct bare_client *c, unsigned how)
{
    static const enum bare_type types[] = {BARE_ONE_RTT, BARE_HANDSHAKE, BARE_INITIAL,
                                           BARE_ONE_RTT};
    struct bare_bytes f = {.size = 0};
    enum bare_type type = types[how & 3];
    bare_put_ack(&f, &c->spaces[bare_space_of(type)]);
    bare_packet(c, type, NULL, f.bytes, f.size);
    bare_send(c);
}

static void again(struct bare *b, uint32_t n)
{
    struct bare_client old = b->clients[n];
    for (uint32_t i = 0; i < BARE_STREAMS; i++) {
        free(old.streams[i].body.bytes);
    }
    bare_client_init(b, n);
    struct bare_client *c = &b->clients[n];
    memcpy(c->token, old.token, old.token_bytes);
    c->token_bytes = old.token_bytes;
    c->path = old.path;
    c->validated = old.token_bytes || old.validated;
    memcpy(c->ids[0], "next id", 7);
    bare_connect(c);
}

static void run_step(struct bare *b, struct input *in)
{
    static const int64_t streams[] = {0, 4, 8, 12, 2, 6, 10, 14};
    uint8_t first = next(in);
    unsigned how = first >> 4;
    uint32_t n = how & 1;
    struct bare_client *c = &b->clients[n];
    switch ((enum step)(first & 15)) {
    case STEP_SAY:
        say(c, BARE_ONE_RTT, next_bytes(in), how & 2);
        break;
    case STEP_SAY_ODD:
        say_odd(&b->clients[0], next_bytes(in), how);
        break;
    case STEP_HANDSHAKE:
        say(c, BARE_HANDSHAKE, next_bytes(in), how);
        break;
    case STEP_INITIAL:
        say(c, BARE_INITIAL, next_bytes(in), how);
        break;
    case STEP_ZERO_RTT:
        say(c, BARE_ZERO_RTT, next_bytes(in), how);
        break;
    case STEP_RAW:
        raw(c, next_bytes(in), how & 2);
        break;
    case STEP_MOVE:
        move(c, how >> 1);
        break;
    case STEP_WAIT_FOR:
        b->now_ns += UINT64_C(100000) << 2 * how; /* up to 107,000 seconds */
        break;
    case STEP_ANSWER:
        event(b, how);
        break;
    case STEP_ACK:
        acknowledge(c, how >> 1);
        break;
    case STEP_STREAM: {
        struct input part = next_bytes(in);
        bare_say_stream(&b->clients[0], streams[how & 7], part.bytes, part.size, how & 8);
        break;
    }
    case STEP_ROOM:
        b->room = how & 3;
        break;
    case STEP_CHALLENGE: {
        uint8_t frame[9] = {0x1b};
        memcpy(frame + 1, c->challenge, sizeof c->challenge);
        bare_say(c, frame, sizeof frame);
        break;
    }
    case STEP_AGAIN:
        again(b, n);
        break;
    case STEP_KEY:
        c->key_phase = c->key_phase != !(how & 2);
        c->version ^= how & 2 ? NGTCP2_PROTO_VER_V1 ^ NGTCP2_PROTO_VER_V2 : 0;
        break;
    case STEP_FINISH:
        bare_finish(c);
        break;
    }
    bare_turn(b);
}

static void begin(struct bare *b, uint8_t choice, struct input *in)
{
    struct tsr_http3_options o;
    bare_options(&o);
    o.retry_from = choice & RETRIES ? 0 : 4;
    if (choice & SCARCE) {
        o.streams_max = 2;
        o.resets_max = 1;
        o.stateless_max = 2;
        o.conn_bytes_max = 64 << 10;
        o.address.bytes = 120 << 10;
        o.answer_bytes_max = 20000;
        o.handshakes_max = 1;
    }
    bare_flight = choice & LONG_FLIGHT ? BARE_FLIGHT : 100;
    bare_open(b, &o);
    b->capacity = choice & NARROW ? 1252 : BARE_PAYLOAD;
    for (uint32_t i = 0; i < BARE_CLIENTS; i++) {
        b->clients[i].version = choice & VERSION_2 ? NGTCP2_PROTO_VER_V2 : NGTCP2_PROTO_VER_V1;
    }
    if (choice & PARAMS) {
        struct bare_bytes params = {.size = 0};
        struct input part = next_bytes(in);
        bare_put(&params,
                 "\x0f\x05"
                 "cli 0",
                 7);
        bare_put(&params, part.bytes, part.size);
        bare_hello(&b->clients[0], params.bytes, params.size);
    } else if (choice & CONNECTED) {
        bare_connect(&b->clients[0]);
    }
    if (choice & BOTH) {
        bare_connect(&b->clients[1]);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct bare b;
    struct input in = {data, size};
    begin(&b, next(&in), &in);
    while (in.size) {
        run_step(&b, &in);
    }
    bare_close(&b);
    return 0;
}
