#include "queue_priv.h"

#include <assert.h>
#include <string.h>
#include <sys/mman.h>

static_assert(sizeof(struct tsr_http1_block) == TSR_HTTP1_BLOCK_BYTES, "blocks fill pages");

/* As much of an idle region stays in memory: what a burst needed beyond that is given back. */
enum { KEPT_BLOCKS = 1024 };

bool tsr_http1_blocks_init(struct tsr_http1_blocks *blocks, size_t bytes)
{
    *blocks = (struct tsr_http1_blocks){.n = bytes / TSR_HTTP1_BLOCK_BYTES};
    void *region = mmap(NULL, blocks->n * TSR_HTTP1_BLOCK_BYTES, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    blocks->region = region == MAP_FAILED ? NULL : region;
    return blocks->region;
}

void tsr_http1_blocks_fini(struct tsr_http1_blocks *blocks)
{
    if (blocks->region) {
        munmap(blocks->region, blocks->n * TSR_HTTP1_BLOCK_BYTES);
    }
}

static struct tsr_http1_block *take(struct tsr_http1_blocks *blocks)
{
    struct tsr_http1_block *block = blocks->free;
    if (block) {
        blocks->free = block->next;
    } else if (blocks->touched < blocks->n) {
        block = &blocks->region[blocks->touched++];
    } else {
        return NULL;
    }
    blocks->used++;
    block->next = NULL;
    block->begin = block->end = 0;
    return block;
}

static void give(struct tsr_http1_blocks *blocks, struct tsr_http1_block *block)
{
    block->next = blocks->free;
    blocks->free = block;
    if (--blocks->used == 0 && blocks->touched > KEPT_BLOCKS) {
        madvise(&blocks->region[KEPT_BLOCKS],
                (blocks->touched - KEPT_BLOCKS) * TSR_HTTP1_BLOCK_BYTES, MADV_DONTNEED);
        blocks->touched = 0;
        blocks->free = NULL;
    }
}

bool tsr_http1_queue_put(struct tsr_http1_blocks *blocks, struct tsr_http1_queue *queue,
                         const void *bytes, size_t size)
{
    const uint8_t *from = bytes;
    while (size) {
        struct tsr_http1_block *last = queue->last;
        if (!last || last->end == sizeof last->bytes) {
            struct tsr_http1_block *block = take(blocks);
            if (!block) {
                return false;
            }
            *(last ? &last->next : &queue->first) = block;
            queue->last = last = block;
        }
        size_t room = sizeof last->bytes - last->end;
        size_t n = size < room ? size : room;
        memcpy(last->bytes + last->end, from, n);
        last->end += (uint32_t)n;
        queue->held += n;
        from += n;
        size -= n;
    }
    return true;
}

uint32_t tsr_http1_queue_iov(const struct tsr_http1_queue *queue, struct iovec *iov, uint32_t n_max)
{
    uint32_t n = 0;
    for (struct tsr_http1_block *b = queue->first; b && n < n_max; b = b->next) {
        iov[n++] = (struct iovec){b->bytes + b->begin, b->end - b->begin};
    }
    return n;
}

void tsr_http1_queue_drop(struct tsr_http1_blocks *blocks, struct tsr_http1_queue *queue,
                          size_t size)
{
    assert(size <= queue->held);
    queue->held -= size;
    while (size) {
        struct tsr_http1_block *first = queue->first;
        size_t n = first->end - first->begin;
        n = size < n ? size : n;
        first->begin += (uint32_t)n;
        size -= n;
        if (first->begin < first->end) {
            return;
        }
        queue->first = first->next;
        if (!queue->first) {
            queue->last = NULL;
        }
        give(blocks, first);
    }
}
