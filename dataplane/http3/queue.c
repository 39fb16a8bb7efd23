#include "queue_priv.h"

#include <assert.h>
#include <string.h>

struct tsr_http3_piece {
    struct tsr_http3_piece *next;
    const uint8_t *at;          /* its own bytes, or lent ones */
    uint32_t begin, taken, end; /* not acknowledged from begin, not taken from taken */
    uint8_t bytes[];
};

enum { OWN_BYTES = 992 - sizeof(struct tsr_http3_piece) }; /* with its block's header 1 KiB */

static struct tsr_http3_piece *append(struct tsr_http3_queue *queue,
                                      struct tsr_http3_account *account, const uint8_t *lent)
{
    size_t own = lent ? 0 : OWN_BYTES;
    struct tsr_http3_piece *piece = tsr_http3_malloc(sizeof *piece + own, account);
    if (!piece) {
        return NULL;
    }
    *piece = (struct tsr_http3_piece){.at = lent ? lent : piece->bytes};
    *(queue->last ? &queue->last->next : &queue->first) = piece;
    queue->last = piece;
    return piece;
}

static void extend(struct tsr_http3_queue *queue, struct tsr_http3_piece *piece, size_t size)
{
    if (!queue->unsent) {
        queue->unsent = piece;
    }
    piece->end += (uint32_t)size;
    queue->held += size;
    queue->waiting += size;
}

bool tsr_http3_queue_put(struct tsr_http3_queue *queue, struct tsr_http3_account *account,
                         const void *bytes, size_t size)
{
    const uint8_t *from = bytes;
    while (size) {
        struct tsr_http3_piece *last = queue->last;
        if (!last || last->at != last->bytes || last->end == OWN_BYTES) {
            last = append(queue, account, NULL);
            if (!last) {
                return false;
            }
        }
        size_t room = OWN_BYTES - last->end;
        size_t n = size < room ? size : room;
        memcpy(last->bytes + last->end, from, n);
        extend(queue, last, n);
        from += n;
        size -= n;
    }
    return true;
}

bool tsr_http3_queue_lend(struct tsr_http3_queue *queue, struct tsr_http3_account *account,
                          const void *bytes, size_t size)
{
    struct tsr_http3_piece *piece = size <= UINT32_MAX ? append(queue, account, bytes) : NULL;
    if (piece) {
        extend(queue, piece, size);
    }
    return piece;
}

size_t tsr_http3_queue_take(struct tsr_http3_queue *queue, nghttp3_vec *parts, size_t n_max)
{
    size_t n = 0;
    while (n < n_max && queue->unsent) {
        struct tsr_http3_piece *piece = queue->unsent;
        size_t size = (size_t)(piece->end - piece->taken);
        parts[n++] = (nghttp3_vec){(uint8_t *)piece->at + piece->taken, size};
        piece->taken = piece->end;
        queue->waiting -= size;
        queue->unsent = piece->next;
    }
    return n;
}

void tsr_http3_queue_drop(struct tsr_http3_queue *queue, struct tsr_http3_account *account,
                          size_t size)
{
    assert(size <= queue->held);
    queue->held -= size;
    while (size) {
        struct tsr_http3_piece *first = queue->first;
        size_t n = (size_t)(first->end - first->begin);
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
        if (queue->unsent == first) { /* dropped before it was taken: the answer is given up */
            queue->unsent = first->next;
        }
        tsr_http3_free(first, account);
    }
}
