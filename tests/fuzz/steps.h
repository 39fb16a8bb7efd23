/* What fuzz_quic.c and fuzz_http3.c have in common: an input that is taken apart, and the API's
 * answers. */
#ifndef TSR_TEST_STEPS_H
#define TSR_TEST_STEPS_H

#define FAKE_LONG_BYTES 50000
#include "bare.h"

struct input {
    const uint8_t *bytes;
    size_t size;
};

static uint8_t next(struct input *in)
{
    return (uint8_t)(in->size ? in->size--, *in->bytes++ : 0);
}

static struct input next_bytes(struct input *in)
{
    size_t size = next(in);
    struct input part = {in->bytes, size < in->size ? size : in->size};
    in->bytes += part.size;
    in->size -= part.size;
    return part;
}

/* The request that waits gets a part of its answer, loses it, or gets all of it. Its kind says
 * whether it has a head. */
static void answer(unsigned how)
{
    struct tsr_api_exchange *waits = fake.waits;
    if (!waits) {
        return;
    }
    if (how >= 4 && how < 6) {
        waits->door->abort(waits->stream);
        fake_free(waits);
        return;
    }
    if (waits->kind == WAIT) {
        waits->kind = STREAM;
        fake_head(waits, how ? 200 : 204, how ? TSR_API_UNKNOWN : 0);
    }
    fake_body(waits, how ? "a part of it" : "", 0);
    if (how >= 6) {
        fake_end(waits);
    }
}

#endif
