/* Bytes that wait to be sent: queues of blocks of 4 KiB out of one region, which is reserved at the
 * start and touched as it is needed. Bytes stay where they are until they have left. */
#ifndef TSR_HTTP1_QUEUE_PRIV_H
#define TSR_HTTP1_QUEUE_PRIV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

enum { TSR_HTTP1_BLOCK_BYTES = 4096 };

struct tsr_http1_block {
    struct tsr_http1_block *next;
    uint32_t begin, end; /* of the bytes that wait; begin < end */
    uint8_t bytes[TSR_HTTP1_BLOCK_BYTES - 16];
};

struct tsr_http1_blocks {
    struct tsr_http1_block *region;
    size_t n;       /* blocks of the region */
    size_t touched; /* the first so many have been used since the region was last given back */
    size_t used;    /* in queues */
    struct tsr_http1_block *free; /* touched - used of them */
};

struct tsr_http1_queue {
    struct tsr_http1_block *first, *last;
    size_t held; /* bytes */
};

/* False: -ENOMEM. */
bool tsr_http1_blocks_init(struct tsr_http1_blocks *blocks, size_t bytes);
void tsr_http1_blocks_fini(struct tsr_http1_blocks *blocks);

/* False: no block is left, and a part of the bytes is queued. */
bool tsr_http1_queue_put(struct tsr_http1_blocks *blocks, struct tsr_http1_queue *queue,
                         const void *bytes, size_t size);

uint32_t tsr_http1_queue_iov(const struct tsr_http1_queue *queue, struct iovec *iov,
                             uint32_t n_max);

/* Drops the oldest bytes; size <= held. */
void tsr_http1_queue_drop(struct tsr_http1_blocks *blocks, struct tsr_http1_queue *queue,
                          size_t size);

#endif
