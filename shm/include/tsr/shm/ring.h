/* Rings: single-producer single-consumer byte rings of variable-length records in shared memory.
 *
 * A ring is `bytes` (a power of two) of shared data and one shared index, `head`, which only the
 * consumer writes. Positions are counts of bytes since the ring was formatted; position p lies at
 * offset p mod bytes. A record starts at a multiple of 64, is contiguous, and begins with a header
 * of 16 bytes whose first word tells whether the record is there:
 *
 *     seq == key + p    <=>    the producer has published the record at position p
 *
 * `key` is random for every ring and has its top bit set, so that neither zeroed memory nor the
 * leftovers of an earlier lap (whatever a stranger got written into a payload) are taken for a
 * header. There is no shared tail: a consumer polls the very cache line that carries the record,
 * and a record of 64 bytes costs one line transfer. A record that does not fit before the end of
 * the data is preceded by a padding record, which the consumer skips.
 *
 * Edges: R0 publishes a record's bytes through its seq (tsr_ring_publish), paired with A0
 * (tsr_ring_peek). R1 gives space back through head (tsr_ring_advance), paired with A1
 * (tsr_ring_reserve). R0 and the look at a sleeper's flag that follows are sequentially consistent,
 * as are the sleeper's flag and its last look at the ring (channel.h): one of the two sees the
 * other.
 *
 * Neither side trusts the other: head is checked against the private tail, a record's length
 * against the ring, before they are used. A side that lied makes the handle stay in error (-EPROTO)
 * for good.
 *
 * A handle belongs to one thread at a time. Nothing here makes a system call or allocates. */
#ifndef TSR_SHM_RING_H
#define TSR_SHM_RING_H

#include <assert.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    TSR_RING_ALIGN = 64,
    TSR_RING_BYTES_MIN = 1 << 12,
    TSR_RING_BYTES_MAX = 1 << 27,
    TSR_RECORD_HEADER_BYTES = 16,
    TSR_RECORD_PAD = 0xffff, /* the type of padding; no other record may use it */
};

/* Shared: the first 16 bytes of every record. Writer: the ring's producer. */
struct tsr_record {
    _Atomic uint64_t seq;   /* key + position once published */
    _Atomic uint64_t shape; /* bytes | type << 32 | flags << 48; read once by the consumer */
};

static_assert(sizeof(struct tsr_record) == TSR_RECORD_HEADER_BYTES, "record header layout");

/* A shape, taken apart. */
struct tsr_record_info {
    uint32_t bytes; /* header and payload, >= TSR_RECORD_HEADER_BYTES, without the padding to 64 */
    uint16_t type;
    uint16_t flags;
};

/* Private. Invariants: head_seen <= tail <= written; written - head_seen <= bytes; all multiples
 * of 64. */
struct tsr_ring_producer {
    uint8_t *data;
    const _Atomic uint64_t *head; /* the consumer's, foreign */
    uint64_t bytes;
    uint64_t key;
    uint64_t head_seen; /* last accepted value of *head */
    uint64_t tail;      /* published up to here */
    uint64_t written;   /* committed up to here; the batch is [tail, written) */
    uint64_t reserved;  /* stride of the record handed out by tsr_ring_reserve, 0 when none */
    bool lied;
};

/* Private. Invariants: head_shown <= head; all multiples of 64. */
struct tsr_ring_consumer {
    const uint8_t *data;
    _Atomic uint64_t *head_out; /* ours, in shared memory */
    uint64_t bytes;
    uint64_t key;
    uint64_t head;       /* the next record to look at */
    uint64_t head_shown; /* last value stored to *head_out */
    uint64_t stride;     /* of the record last peeked, 0 when none */
    bool lied;
};

/* A record's share of the ring: its bytes rounded up to 64. */
static inline uint64_t tsr_ring_stride(uint64_t record_bytes)
{
    return (record_bytes + TSR_RING_ALIGN - 1) & ~(uint64_t)(TSR_RING_ALIGN - 1);
}

/* The longest record that a ring takes: a quarter of it. */
static inline uint32_t tsr_ring_record_max(uint64_t ring_bytes)
{
    return (uint32_t)(ring_bytes / 4);
}

/* `data`: ring_bytes of shared memory, 64-aligned, zeroed; ring_bytes a power of two between
 * TSR_RING_BYTES_MIN and _MAX. `head`: a shared word that holds 0. `key`: from tsr_ring_key(), the
 * same on both sides. The handle keeps the pointers; nothing is owned. */
void tsr_ring_producer_init(struct tsr_ring_producer *ring, void *data, uint64_t ring_bytes,
                            const _Atomic uint64_t *head, uint64_t key);
void tsr_ring_consumer_init(struct tsr_ring_consumer *ring, const void *data, uint64_t ring_bytes,
                            _Atomic uint64_t *head, uint64_t key);

/* A fresh random key. One getrandom(). */
uint64_t tsr_ring_key(void);

/* Producer: bytes free for records now, after a fresh look at head. -EPROTO when head is a lie. */
int64_t tsr_ring_room(struct tsr_ring_producer *ring);

/* Producer: what a record of record_bytes would take of the room at this moment: its stride, and
 * the padding where it does not fit before the end of the data. */
uint64_t tsr_ring_cost(const struct tsr_ring_producer *ring, uint32_t record_bytes);

/* Producer: space for one record of record_bytes (16 .. tsr_ring_record_max()) of which `keep`
 * bytes of room must remain after it. Returns 1 and the record in *out (the caller writes from byte
 * 16 on); 0 when there is no room now; -EPROTO when head is a lie; -EMSGSIZE when the record can
 * never fit. A reserved record that is not committed is simply reserved anew. */
int tsr_ring_reserve(struct tsr_ring_producer *ring, uint32_t record_bytes, uint64_t keep,
                     void **out);

/* Producer: adds the reserved record, shortened to record_bytes <= what was reserved, to the batch.
 */
void tsr_ring_commit(struct tsr_ring_producer *ring, uint16_t type, uint16_t flags,
                     uint32_t record_bytes);

/* Producer: makes the batch visible, all at once. Returns whether there was one. */
bool tsr_ring_publish(struct tsr_ring_producer *ring);

/* Consumer: the next record, in place. Returns 1 with *out and *info (the length checked against
 * the ring); 0 when there is none; -EPROTO when the record's header is a lie. The bytes stay until
 * tsr_ring_advance(), but a hostile producer can change them any time: read each once, or use
 * tsr_ring_read(). Peeking again without advancing gives the same record. */
int tsr_ring_peek(struct tsr_ring_consumer *ring, const void **out, struct tsr_record_info *info);

/* Consumer: done with the record last peeked. The space is shown to the producer at once where an
 * eighth of the ring has gathered, else when the ring is next found empty. */
void tsr_ring_advance(struct tsr_ring_consumer *ring);

/* Consumer: shows the producer all space given back so far. */
void tsr_ring_show(struct tsr_ring_consumer *ring);

/* Consumer: copies the next record, header included, into `out` once and moves on. `out` has
 * `capacity` bytes. Returns 1, 0, -EPROTO as tsr_ring_peek(), and -EMSGSIZE (the record stays)
 * where it is longer than `capacity`. The copied header words are zeroed: what they said is in
 * *info. */
int tsr_ring_read(struct tsr_ring_consumer *ring, void *out, size_t capacity,
                  struct tsr_record_info *info);

/* Consumer: whether a record waits, as a sequentially consistent look: the last one before
 * sleeping. */
bool tsr_ring_has_record(const struct tsr_ring_consumer *ring);

bool tsr_ring_producer_is_valid(const struct tsr_ring_producer *ring);
bool tsr_ring_consumer_is_valid(const struct tsr_ring_consumer *ring);

#endif
