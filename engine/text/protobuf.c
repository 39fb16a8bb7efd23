#include <string.h>

#include "protobuf_priv.h"

struct tsr_protobuf tsr_protobuf_message(const void *data, size_t len)
{
    const uint8_t *at = data;
    return (struct tsr_protobuf){.at = at, .end = len ? at + len : at};
}

static bool read_varint(struct tsr_protobuf *message, uint64_t *value)
{
    *value = 0;
    for (unsigned shift = 0; shift < 64 && message->at < message->end; shift += 7) {
        uint8_t byte = *message->at++;
        *value |= (uint64_t)(byte & 0x7F) << shift;
        if (byte < 0x80)
            return true;
    }
    return false;
}

static bool read_fixed(struct tsr_protobuf *message, unsigned bytes, uint64_t *value)
{
    if ((size_t)(message->end - message->at) < bytes)
        return false;
    *value = 0;
    for (unsigned i = 0; i < bytes; i++)
        *value |= (uint64_t)*message->at++ << (8 * i);
    return true;
}

static bool read_bytes(struct tsr_protobuf *message, struct tsr_protobuf_field *field)
{
    uint64_t len;
    if (!read_varint(message, &len) || len > (uint64_t)(message->end - message->at))
        return false;
    field->data = message->at;
    field->len = (size_t)len;
    message->at += len;
    return true;
}

int tsr_protobuf_next(struct tsr_protobuf *message, struct tsr_protobuf_field *field)
{
    uint64_t tag;
    if (message->at == message->end)
        return 0;
    if (!read_varint(message, &tag) || tag >> 3 == 0 || tag >> 3 > UINT32_MAX)
        return -1;
    *field = (struct tsr_protobuf_field){.number = (uint32_t)(tag >> 3),
                                         .wire = (enum tsr_protobuf_wire)(tag & 7)};
    bool read = false;
    if (field->wire == TSR_PROTOBUF_VARINT)
        read = read_varint(message, &field->value);
    else if (field->wire == TSR_PROTOBUF_BYTES)
        read = read_bytes(message, field);
    else if (field->wire == TSR_PROTOBUF_FIXED32 || field->wire == TSR_PROTOBUF_FIXED64)
        read = read_fixed(message, field->wire == TSR_PROTOBUF_FIXED32 ? 4 : 8, &field->value);
    return read ? 1 : -1;
}

float tsr_protobuf_float(const struct tsr_protobuf_field *field)
{
    uint32_t bits = (uint32_t)field->value;
    float value;
    memcpy(&value, &bits, sizeof(value));
    return value;
}
