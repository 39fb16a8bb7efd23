/* The trust boundary of a channel: whatever a client can leave in the request ring.
 *
 * Input: one byte, even for a record, odd for a ring.
 *   record: uint16_t type, uint16_t flags, then the record's bytes, header included.
 *   ring:   headers { uint16_t offset / 64, uint16_t type, uint32_t bytes } to be forged with the
 * right seq, as many as there are; then the consumer reads until it has enough. */
#include <tsr/shm/ring.h>
#include <tsr/shm/wire.h>

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint64_t sum; /* so that no read is optimised away */

static void touch(const void *at, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) {
        sum += ((const uint8_t *)at)[i];
    }
}

static void walk_chat(const uint8_t *payload, uint32_t bytes)
{
    struct tsr_wire_chat chat;
    struct tsr_err err;
    if (tsr_wire_chat_open(&chat, payload, bytes, &err) != 0) {
        touch(err.text, strlen(err.text));
        return;
    }
    struct tsr_wire_message message;
    uint32_t count = 0;
    while (tsr_wire_chat_next(&chat, &message)) {
        touch(message.role, message.role_bytes);
        touch(message.content, message.content_bytes);
        count++;
    }
    if (count != chat.count) {
        abort();
    }
    const char *json;
    uint32_t json_bytes;
    tsr_wire_chat_extra(&chat, &json, &json_bytes);
    touch(json, json_bytes);
}

static void walk_submit(const struct tsr_wire_request *request)
{
    const struct tsr_wire_submit *s = request->submit.fixed;
    for (uint32_t i = 0; i < s->bias_count; i++) {
        sum += request->submit.bias[i].token;
    }
    uint32_t at = 0, bytes, stops = 0;
    const char *text;
    while (tsr_wire_stop_next(request, &at, &text, &bytes)) {
        touch(text, bytes);
        stops++;
    }
    if (stops != s->stop_count) {
        abort();
    }
    touch(request->submit.chunk, s->chunk_bytes);
    if (s->kind == TSR_PAYLOAD_CHAT && s->chunk_bytes == s->payload_bytes) {
        /* An exact copy, so that a read past its end is seen. */
        uint8_t *copy = malloc(s->chunk_bytes);
        memcpy(copy, request->submit.chunk, s->chunk_bytes);
        walk_chat(copy, s->chunk_bytes);
        free(copy);
    }
}

static void check_record(const uint8_t *data, size_t size)
{
    if (size < 4 || size - 4 > TSR_WIRE_RECORD_BYTES_MAX) {
        return;
    }
    struct tsr_record_info info = {.bytes = (uint32_t)(size - 4)};
    memcpy(&info.type, data, 2);
    memcpy(&info.flags, data + 2, 2);
    uint8_t *record = malloc(info.bytes ? info.bytes : 1);
    memcpy(record, data + 4, info.bytes);
    struct tsr_wire_request request;
    struct tsr_err err;
    if (tsr_wire_check(record, &info, &request, &err) != 0) {
        touch(err.text, strlen(err.text));
    } else if (request.type == TSR_REQ_SUBMIT) {
        walk_submit(&request);
    } else if (request.type == TSR_REQ_CONTINUE) {
        touch(request.cont.chunk, request.cont.fixed->chunk_bytes);
    }
    free(record);
}

static void read_ring(const uint8_t *data, size_t size)
{
    enum { BYTES = TSR_RING_BYTES_MIN, READS = 200 };
    const uint64_t key = UINT64_C(1) << 63;
    uint8_t *ring = aligned_alloc(TSR_RING_ALIGN, BYTES);
    memset(ring, 0, BYTES);
    for (; size >= 8; data += 8, size -= 8) {
        uint16_t line, type;
        uint32_t bytes;
        memcpy(&line, data, 2);
        memcpy(&type, data + 2, 2);
        memcpy(&bytes, data + 4, 4);
        struct tsr_record *record = (void *)(ring + line % (BYTES / 64) * 64);
        atomic_store(&record->seq, key + line * UINT64_C(64));
        atomic_store(&record->shape, bytes | (uint64_t)type << 32);
    }
    _Atomic uint64_t head = 0;
    struct tsr_ring_consumer consumer;
    tsr_ring_consumer_init(&consumer, ring, BYTES, &head, key);
    uint8_t *copy = malloc(BYTES / 4);
    struct tsr_record_info info;
    for (int i = 0; i < READS && tsr_ring_read(&consumer, copy, BYTES / 4, &info) == 1; i++) {
        touch(copy, info.bytes);
        if (!tsr_ring_consumer_is_valid(&consumer)) {
            abort();
        }
    }
    free(copy);
    free(ring);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size) {
        if (data[0] % 2) {
            read_ring(data + 1, size - 1);
        } else {
            check_record(data + 1, size - 1);
        }
    }
    return 0;
}
