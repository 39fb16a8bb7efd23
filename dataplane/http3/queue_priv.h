/* An answer's bytes, from when the API gives them until the client has acknowledged them: blocks of
 * a connection's account. They stay where they are, since QUIC may have to send them again. */
#ifndef TSR_HTTP3_QUEUE_PRIV_H
#define TSR_HTTP3_QUEUE_PRIV_H

#include "memory_priv.h"

#include <nghttp3/nghttp3.h>

struct tsr_http3_piece;

/* first .. last in order; `unsent` is the first piece of which something was not taken. */
struct tsr_http3_queue {
    struct tsr_http3_piece *first, *unsent, *last;
    size_t held;    /* bytes not acknowledged */
    size_t waiting; /* of these, not taken */
};

/* False: the account has no more, and a part of the bytes is queued. */
bool tsr_http3_queue_put(struct tsr_http3_queue *queue, struct tsr_http3_account *account,
                         const void *bytes, size_t size);

/* The same of bytes that stay where they are, and are not copied. False: nothing is queued. */
bool tsr_http3_queue_lend(struct tsr_http3_queue *queue, struct tsr_http3_account *account,
                          const void *bytes, size_t size);

/* Fills up to n_max parts with bytes that were not taken, which are taken by this. Returns how
 * many. */
size_t tsr_http3_queue_take(struct tsr_http3_queue *queue, nghttp3_vec *parts, size_t n_max);

/* The oldest have been acknowledged; size <= held. */
void tsr_http3_queue_drop(struct tsr_http3_queue *queue, struct tsr_http3_account *account,
                          size_t size);

#endif
