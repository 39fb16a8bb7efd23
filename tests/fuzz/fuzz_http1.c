/* The trust boundary of the kernel's door: whatever a client can send on a connection.
 *
 * Input: a byte that says how the others are cut, and what came. It is talked through twice, at
 * once with a client that reads, and in pieces with one that reads a few bytes at a time. Both must
 * have asked the API the same and been answered the same, byte for byte, so answers keep their
 * order; what waits stays within its bounds, and nothing is left when the client has gone. */
#define FAKE_LONG_BYTES 10000
#include "fake_api.h"
#include "paper_door.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* One for all inputs: whatever a client leaves behind meets the next. */
static struct tsr_http1 *the_http1(void)
{
    static struct tsr_http1 *http1;
    struct tsr_http1_options options;
    tsr_http1_options_init(&options);
    options.conns_max = 1;
    if (!http1 && tsr_http1_create(&http1, NULL, &options, NULL) != 0) {
        abort();
    }
    return http1;
}

static void check_bounds(const struct door *door)
{
    struct tsr_http1_counts counts;
    tsr_http1_counts(door->http1, &counts);
    if (counts.heads_bytes > 2 * TSR_HTTP1_HEAD_MAX + 4096 || counts.answers_bytes > 2 << 20) {
        abort();
    }
}

/* Lets the client read and the engine answer until nothing goes on. */
static void settle(struct door *door, size_t sends)
{
    size_t before;
    bool waited;
    do {
        before = door->out.size;
        waited = fake.waits;
        door->sends = sends;
        if (waited) {
            fake_answer(fake.waits, 200, "waited");
        }
        if (door->conn) {
            tsr_http1_sent(door->conn, 0); /* the socket takes bytes again */
        }
        door_turn(door);
        check_bounds(door);
    } while (door->conn && (door->out.size != before || waited || fake.waits));
}

static void talk(const uint8_t *data, size_t size, size_t piece, size_t sends, struct text *result)
{
    static struct door door;
    text_clear(result);
    fake_reset();
    door_accept(&door, the_http1(), 1000000000);
    for (size_t at = 0; at < size; at += piece) {
        door.sends = sends;
        door_feed(&door, data + at, size - at < piece ? size - at : piece);
        check_bounds(&door);
    }
    settle(&door, sends);
    text_put(result, fake.said.bytes, fake.said.size);
    text_put(result, door.out.bytes, door.out.size);
    text_format(result, "\n%d %d %u", door.shut, door.closed, fake.open);
    if (door.conn) {
        tsr_http1_eof(door.conn);
        settle(&door, SIZE_MAX);
    }
    if (!door.closed || fake.open) {
        abort();
    }
    door_leave(&door);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!size || size > 1 << 17) {
        return 0;
    }
    size_t piece = data[0] < 128 ? data[0] % 16 + 1u : (size_t)data[0] * 16;
    static struct text whole, cut;
    talk(data + 1, size - 1, SIZE_MAX / 2, SIZE_MAX, &whole);
    talk(data + 1, size - 1, piece, piece * 97, &cut);
    if (whole.size != cut.size || memcmp(whole.bytes, cut.bytes, whole.size) != 0) {
        fprintf(stderr, "at once:\n%s\nin pieces of %zu:\n%s\n", whole.bytes, piece, cut.bytes);
        abort();
    }
    return 0;
}
