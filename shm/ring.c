#include <tsr/shm/ring.h>

#include <errno.h>
#include <string.h>
#include <sys/random.h>

static uint64_t shape_pack(uint32_t bytes, uint16_t type, uint16_t flags)
{
    return bytes | (uint64_t)type << 32 | (uint64_t)flags << 48;
}

static struct tsr_record *record_at(uint8_t *data, uint64_t ring_bytes, uint64_t position)
{
    return (struct tsr_record *)(void *)(data + (position & (ring_bytes - 1)));
}

static const struct tsr_record *const_record_at(const uint8_t *data, uint64_t ring_bytes,
                                                uint64_t position)
{
    return (const struct tsr_record *)(const void *)(data + (position & (ring_bytes - 1)));
}

static bool ring_bytes_ok(uint64_t bytes)
{
    return bytes >= TSR_RING_BYTES_MIN && bytes <= TSR_RING_BYTES_MAX && !(bytes & (bytes - 1));
}

uint64_t tsr_ring_key(void)
{
    /* Positions stay far below 2^62, so key + position keeps the top bit and is never 0. */
    uint64_t key = 0;
    while (getrandom(&key, sizeof key, 0) != (ssize_t)sizeof key) {
    }
    return key >> 2 | UINT64_C(1) << 63;
}

/* ---- Producer ---- */

void tsr_ring_producer_init(struct tsr_ring_producer *ring, void *data, uint64_t ring_bytes,
                            const _Atomic uint64_t *head, uint64_t key)
{
    assert(ring_bytes_ok(ring_bytes) && (uintptr_t)data % TSR_RING_ALIGN == 0);
    *ring = (struct tsr_ring_producer){.data = data, .head = head, .bytes = ring_bytes, .key = key};
}

bool tsr_ring_producer_is_valid(const struct tsr_ring_producer *ring)
{
    return ring_bytes_ok(ring->bytes) && ring->head_seen <= ring->tail &&
           ring->tail <= ring->written && ring->written - ring->head_seen <= ring->bytes &&
           (ring->head_seen | ring->tail | ring->written) % TSR_RING_ALIGN == 0;
}

static uint64_t free_as_seen(const struct tsr_ring_producer *ring)
{
    return ring->bytes - (ring->written - ring->head_seen);
}

int64_t tsr_ring_room(struct tsr_ring_producer *ring)
{
    if (ring->lied) {
        return -EPROTO;
    }
    /* A1: takes the space that the consumer gave back; pairs with R1 in tsr_ring_show(). */
    uint64_t head = atomic_load_explicit(ring->head, memory_order_acquire);
    if (head - ring->head_seen > ring->tail - ring->head_seen || head % TSR_RING_ALIGN) {
        ring->lied = true;
        return -EPROTO;
    }
    ring->head_seen = head;
    return (int64_t)free_as_seen(ring);
}

static uint64_t padding_before(const struct tsr_ring_producer *ring, uint64_t stride)
{
    uint64_t to_end = ring->bytes - (ring->written & (ring->bytes - 1));
    return stride > to_end ? to_end : 0;
}

uint64_t tsr_ring_cost(const struct tsr_ring_producer *ring, uint32_t record_bytes)
{
    uint64_t stride = tsr_ring_stride(record_bytes);
    return stride + padding_before(ring, stride);
}

/* Completes the header of the record at `written`. The seq of a batch's first record is what
 * tsr_ring_publish() stores; nobody looks at the others before that. */
static void append(struct tsr_ring_producer *ring, uint64_t shape, uint64_t stride)
{
    struct tsr_record *record = record_at(ring->data, ring->bytes, ring->written);
    atomic_store_explicit(&record->shape, shape, memory_order_relaxed);
    if (ring->written != ring->tail) {
        atomic_store_explicit(&record->seq, ring->key + ring->written, memory_order_relaxed);
    }
    ring->written += stride;
}

int tsr_ring_reserve(struct tsr_ring_producer *ring, uint32_t record_bytes, uint64_t keep,
                     void **out)
{
    if (ring->lied) {
        return -EPROTO;
    }
    if (record_bytes < TSR_RECORD_HEADER_BYTES || record_bytes > tsr_ring_record_max(ring->bytes)) {
        return -EMSGSIZE;
    }
    uint64_t stride = tsr_ring_stride(record_bytes);
    uint64_t padding = padding_before(ring, stride);
    uint64_t need = padding + stride + keep;
    if (free_as_seen(ring) < need) {
        int64_t room = tsr_ring_room(ring);
        if (room < 0) {
            return (int)room;
        }
        if ((uint64_t)room < need) {
            return 0;
        }
    }
    if (padding) {
        append(ring, shape_pack((uint32_t)padding, TSR_RECORD_PAD, 0), padding);
    }
    ring->reserved = stride;
    *out = record_at(ring->data, ring->bytes, ring->written);
    return 1;
}

void tsr_ring_commit(struct tsr_ring_producer *ring, uint16_t type, uint16_t flags,
                     uint32_t record_bytes)
{
    assert(record_bytes >= TSR_RECORD_HEADER_BYTES && record_bytes <= ring->reserved);
    assert(type != TSR_RECORD_PAD);
    append(ring, shape_pack(record_bytes, type, flags), tsr_ring_stride(record_bytes));
    ring->reserved = 0;
}

bool tsr_ring_publish(struct tsr_ring_producer *ring)
{
    if (ring->written == ring->tail) {
        return false;
    }
    struct tsr_record *first = record_at(ring->data, ring->bytes, ring->tail);
    /* R0: publishes the batch through its first seq; pairs with A0 in tsr_ring_peek(). Sequentially
     * consistent because the caller looks at the sleeper's flag next. */
    atomic_store_explicit(&first->seq, ring->key + ring->tail, memory_order_seq_cst);
    ring->tail = ring->written;
    assert(tsr_ring_producer_is_valid(ring));
    return true;
}

/* ---- Consumer ---- */

void tsr_ring_consumer_init(struct tsr_ring_consumer *ring, const void *data, uint64_t ring_bytes,
                            _Atomic uint64_t *head, uint64_t key)
{
    assert(ring_bytes_ok(ring_bytes) && (uintptr_t)data % TSR_RING_ALIGN == 0);
    *ring =
        (struct tsr_ring_consumer){.data = data, .head_out = head, .bytes = ring_bytes, .key = key};
}

bool tsr_ring_consumer_is_valid(const struct tsr_ring_consumer *ring)
{
    return ring_bytes_ok(ring->bytes) && ring->head_shown <= ring->head &&
           ring->head - ring->head_shown <= ring->bytes &&
           (ring->head | ring->head_shown) % TSR_RING_ALIGN == 0;
}

void tsr_ring_show(struct tsr_ring_consumer *ring)
{
    if (ring->head_shown != ring->head) {
        ring->head_shown = ring->head;
        /* R1: gives back the space before head, no longer read; pairs with A1 in tsr_ring_room().
         */
        atomic_store_explicit(ring->head_out, ring->head, memory_order_release);
    }
}

static void advance_by(struct tsr_ring_consumer *ring, uint64_t stride)
{
    ring->head += stride;
    if (ring->head - ring->head_shown >= ring->bytes / 8) {
        tsr_ring_show(ring);
    }
}

static int lie(struct tsr_ring_consumer *ring)
{
    ring->lied = true;
    return -EPROTO;
}

int tsr_ring_peek(struct tsr_ring_consumer *ring, const void **out, struct tsr_record_info *info)
{
    if (ring->lied) {
        return -EPROTO;
    }
    /* Twice at most: padding is refused at offset 0, where the record after padding starts. */
    for (;;) {
        const struct tsr_record *record = const_record_at(ring->data, ring->bytes, ring->head);
        /* A0: takes the record's bytes; pairs with R0 in tsr_ring_publish(). */
        uint64_t seq = atomic_load_explicit(&record->seq, memory_order_acquire);
        if (seq != ring->key + ring->head) {
            tsr_ring_show(ring);
            return 0;
        }
        uint64_t shape = atomic_load_explicit(&record->shape, memory_order_relaxed);
        uint32_t bytes = (uint32_t)shape;
        uint16_t type = (uint16_t)(shape >> 32);
        uint64_t stride = tsr_ring_stride(bytes);
        uint64_t to_end = ring->bytes - (ring->head & (ring->bytes - 1));
        if (bytes < TSR_RECORD_HEADER_BYTES || bytes > tsr_ring_record_max(ring->bytes) ||
            stride > to_end) {
            return lie(ring);
        }
        if (type != TSR_RECORD_PAD) {
            ring->stride = stride;
            *out = record;
            *info = (struct tsr_record_info){
                .bytes = bytes, .type = type, .flags = (uint16_t)(shape >> 48)};
            return 1;
        }
        if (stride != to_end) {
            return lie(ring);
        }
        advance_by(ring, stride);
    }
}

void tsr_ring_advance(struct tsr_ring_consumer *ring)
{
    assert(ring->stride);
    advance_by(ring, ring->stride);
    ring->stride = 0;
    assert(tsr_ring_consumer_is_valid(ring));
}

int tsr_ring_read(struct tsr_ring_consumer *ring, void *out, size_t capacity,
                  struct tsr_record_info *info)
{
    const void *record;
    int got = tsr_ring_peek(ring, &record, info);
    if (got <= 0) {
        return got;
    }
    if (info->bytes > capacity) {
        return -EMSGSIZE;
    }
    memset(out, 0, TSR_RECORD_HEADER_BYTES);
    memcpy((uint8_t *)out + TSR_RECORD_HEADER_BYTES,
           (const uint8_t *)record + TSR_RECORD_HEADER_BYTES,
           info->bytes - TSR_RECORD_HEADER_BYTES);
    tsr_ring_advance(ring);
    return 1;
}

bool tsr_ring_has_record(const struct tsr_ring_consumer *ring)
{
    const struct tsr_record *record = const_record_at(ring->data, ring->bytes, ring->head);
    return atomic_load_explicit(&record->seq, memory_order_seq_cst) == ring->key + ring->head;
}
