#include "queue_priv.h"

#include <assert.h>
#include <string.h>

struct tsr_http3_piece {
    struct tsr_http3_piece *next;
    uint16_t begin, taken, end; /* not acknowledged from begin, not taken from taken */
    uint8_t bytes[992 - 14];    /* with its block's header 1 KiB */
};

static struct tsr_http3_piece *append(struct tsr_http3_queue *queue,
                                      struct tsr_http3_account *account)
{
    struct tsr_http3_piece *piece = tsr_http3_malloc(sizeof *piece, account);
    if (!piece) {
        return NULL;
    }
    piece->next = NULL;
    piece->begin = piece->taken = piece->end = 0;
    *(queue->last ? &queue->last->next : &queue->first) = piece;
    queue->last = piece;
    return piece;
}

bool tsr_http3_queue_put(struct tsr_http3_queue *queue, struct tsr_http3_account *account,
                         const void *bytes, size_t size)
{
    const uint8_t *from = bytes;
    while (size) {
        struct tsr_http3_piece *last = queue->last;
        if (!last || last->end == sizeof last->bytes) {
            last = append(queue, account);
            if (!last) {
                return false;
            }
        }
        if (!queue->unsent) {
            queue->unsent = last;
        }
        size_t room = sizeof last->bytes - last->end;
        size_t n = size < room ? size : room;
        memcpy(last->bytes + last->end, from, n);
        last->end = (uint16_t)(last->end + n);
        queue->held += n;
        queue->waiting += n;
        from += n;
        size -= n;
    }
    return true;
}

size_t tsr_http3_queue_take(struct tsr_http3_queue *queue, nghttp3_vec *parts, size_t n_max)
{
    size_t n = 0;
    while (n < n_max && queue->unsent) {
        struct tsr_http3_piece *piece = queue->unsent;
        size_t size = (size_t)(piece->end - piece->taken);
        parts[n++] = (nghttp3_vec){piece->bytes + piece->taken, size};
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
        first->begin = (uint16_t)(first->begin + n);
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
