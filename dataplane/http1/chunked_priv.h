/* A body in chunks (RFC 9112, 7.1): its data without the framing. Extensions and trailers are
 * checked, bounded, and dropped. */
#ifndef TSR_HTTP1_CHUNKED_PRIV_H
#define TSR_HTTP1_CHUNKED_PRIV_H

#include "head_priv.h"

/* All zero before its first byte. */
struct tsr_http1_chunked {
    uint64_t left;     /* data bytes of this chunk that are to come */
    uint32_t overhead; /* bytes of extensions and trailers so far */
    uint8_t state;
    uint8_t digits; /* of the chunk's size */
    bool ended;     /* the body is whole */
    struct tsr_http1_refusal refusal;
};

/* Reads from bytes until there is data, until the body ends, until bytes end or something is wrong
 * (refusal). Returns how many bytes were read; the last *data_size of them are data. */
size_t tsr_http1_chunked_read(struct tsr_http1_chunked *chunked, const uint8_t *bytes, size_t size,
                              size_t *data_size);

#endif
