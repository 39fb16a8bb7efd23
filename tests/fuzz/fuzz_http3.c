/* HTTP/3 and QPACK on the streams of a connection that stands (bare.h), from their first byte to
 * the API's answers and back.
 *
 * The first byte says how the connection begins; then steps: a byte of which stream and of what,
 * for most a byte of length, and as many bytes. */
#include "steps.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Bits of the first byte. */
enum { CONTROLLED = 1, SCARCE = 2, READS = 4, TABLE = 8 };

/* A step's byte: three bits of a stream, three of what, and HELD: the packet is not full yet. */
enum { STEP_DATA, STEP_END, STEP_RESET, STEP_STOP, STEP_ANSWER, STEP_ACK, STEP_TIME, STEP_SAME };
enum { HELD = 0x40 };

static const int64_t stream_ids[] = {0, 4, 8, 12, 2, 6, 10, 14};

static void flush(struct bare_client *c, struct bare_bytes *frames)
{
    if (frames->size) {
        bare_say(c, frames->bytes, frames->size);
        frames->size = 0;
    }
    bare_turn(c->bare);
}

/* RESET_STREAM at what was sent, or STOP_SENDING. */
static void put_end(struct bare_bytes *f, struct bare_client *c, int64_t id, bool reset)
{
    const struct bare_stream *s = bare_stream(c, id);
    bare_put_varint(f, reset ? 4 : 5);
    bare_put_varint(f, (uint64_t)id);
    bare_put_varint(f, NGHTTP3_H3_REQUEST_CANCELLED);
    if (reset) {
        bare_put_varint(f, s->sent);
    }
}

static void run_step(struct bare *b, struct bare_bytes *f, struct input *in, bool reads)
{
    struct bare_client *c = &b->clients[0];
    uint8_t first = next(in);
    int64_t id = stream_ids[first & 7];
    unsigned what = first >> 3 & 7;
    struct input part = {NULL, 0};
    if (what == STEP_DATA || what == STEP_END || what == STEP_SAME) {
        part = next_bytes(in);
    }
    if (f->size + part.size + 32 > 1300) {
        flush(c, f);
    }
    switch (what) {
    case STEP_DATA:
    case STEP_END:
        bare_put_stream(f, c, id, part.bytes, part.size, what == STEP_END);
        break;
    case STEP_SAME: /* byte by byte */
        for (size_t i = 0; i < part.size && i < 64; i++) {
            bare_put_stream(f, c, id, part.bytes + i, 1, false);
        }
        break;
    case STEP_RESET:
    case STEP_STOP:
        put_end(f, c, id, what == STEP_RESET);
        break;
    case STEP_ANSWER:
        flush(c, f);
        answer(first & 7);
        break;
    case STEP_ACK:
        bare_put_ack(f, &c->spaces[2]);
        break;
    case STEP_TIME:
        flush(c, f);
        b->now_ns += UINT64_C(1000000) << 2 * (first & 7);
        break;
    }
    if (!(first & HELD)) {
        if (reads) {
            bare_put_ack(f, &c->spaces[2]);
        }
        flush(c, f);
    }
}

static void begin(struct bare *b, uint8_t choice)
{
    struct tsr_http3_options o;
    bare_options(&o);
    if (choice & SCARCE) {
        o.streams_max = 2;
        o.resets_max = 1;
        o.conn_bytes_max = 128 << 10;
        o.answer_bytes_max = 20000;
    }
    bare_flight = 100;
    bare_open(b, &o);
    if (!bare_connect(&b->clients[0])) {
        abort();
    }
    if (choice & CONTROLLED) {
        static const char plain[] = "\x00\x04\x00",
                          table[] = "\x00\x04\x06\x01\x50\x00\x07\x40\x64";
        bare_say_stream(&b->clients[0], 2, choice & TABLE ? table : plain,
                        (choice & TABLE ? sizeof table : sizeof plain) - 1, false);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct bare b;
    struct bare_bytes frames = {.size = 0};
    struct input in = {data, size};
    uint8_t choice = next(&in);
    begin(&b, choice);
    while (in.size && !b.clients[0].closed) {
        run_step(&b, &frames, &in, choice & READS);
    }
    flush(&b.clients[0], &frames);
    bare_close(&b);
    return 0;
}
