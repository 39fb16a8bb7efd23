/* Reading messages of Protocol Buffers, as far as SentencePiece's models need it
 * (protobuf.dev/programming-guides/encoding). Nothing is copied and nothing outside the message is
 * read. */
#ifndef TSR_TEXT_PROTOBUF_PRIV_H
#define TSR_TEXT_PROTOBUF_PRIV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum tsr_protobuf_wire {
    TSR_PROTOBUF_VARINT = 0,
    TSR_PROTOBUF_FIXED64 = 1,
    TSR_PROTOBUF_BYTES = 2,
    TSR_PROTOBUF_FIXED32 = 5,
};

struct tsr_protobuf {
    const uint8_t *at, *end;
};

struct tsr_protobuf_field {
    uint32_t number;
    enum tsr_protobuf_wire wire;
    uint64_t value;      /* of the numbers, as they are written */
    const uint8_t *data; /* of TSR_PROTOBUF_BYTES */
    size_t len;
};

struct tsr_protobuf tsr_protobuf_message(const void *data, size_t len);

/* The next field. 1: read; 0: the end; -1: this is no message. */
int tsr_protobuf_next(struct tsr_protobuf *message, struct tsr_protobuf_field *field);

/* The number of a FIXED32 field that is a float. */
float tsr_protobuf_float(const struct tsr_protobuf_field *field);

#endif
