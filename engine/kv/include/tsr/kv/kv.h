/* The KV cache: pages of 64 positions from one pool, a page table per sequence.
 *
 * A page holds the keys and values of 64 consecutive positions for every layer and KV head, f16
 * (f32 for the reference kernels). Layout of a page: [layer][kv_head] of { keys [head_dim][64],
 * values [64][head_dim] }: keys transposed, so that a vector register holds one dimension of
 * consecutive positions. */
#ifndef TSR_KV_KV_H
#define TSR_KV_KV_H

#include <stdint.h>

#include <tsr/memory/arena.h>
#include <tsr/shm/err.h>

enum { TSR_KV_PAGE_POSITIONS = 64 };

struct tsr_kv_pool;

/* A sequence's table, embedded in its owner; zero it before first use. */
struct tsr_kv_seq {
    uint32_t n_pages;
    uint32_t pages_max; /* capacity of `pages` */
    uint32_t length;    /* positions of its first reservation; 0 before it */
    uint32_t *pages;    /* page indices by position / 64 */
};

struct tsr_kv_shape {
    uint32_t layers, kv_heads, head_dim;
    uint32_t element_bytes; /* 2: f16, 4: f32 (the reference) */
};

/* Bytes of one page of this shape. */
uint64_t tsr_kv_page_bytes(const struct tsr_kv_shape *shape);

/* A pool of as many pages as fit into `bytes` (at least one). -ENOMEM as tsr_arena_create(). */
int tsr_kv_create(struct tsr_kv_pool **pool, const struct tsr_kv_shape *shape, uint64_t bytes,
                  int node, struct tsr_err *err);
void tsr_kv_destroy(struct tsr_kv_pool *pool);

/* Binds seq to caller-owned storage for pages_max indices. */
void tsr_kv_seq_init(struct tsr_kv_seq *seq, uint32_t *pages, uint32_t pages_max);

/* Grows seq to hold `positions` positions; the first call says the sequence's length, by which
 * models whose rotary frequencies depend on it choose them. 0; -ENOSPC where the pool has too few
 * pages free (nothing taken); -E2BIG where seq's table is too small. No allocation. One thread (the
 * frontend) calls this. */
int tsr_kv_reserve(struct tsr_kv_pool *pool, struct tsr_kv_seq *seq, uint32_t positions);

/* Gives all pages back. */
void tsr_kv_release(struct tsr_kv_pool *pool, struct tsr_kv_seq *seq);

uint32_t tsr_kv_pages_total(const struct tsr_kv_pool *pool);
uint32_t tsr_kv_pages_free(const struct tsr_kv_pool *pool);

/* Where the pool's memory is: for status. */
const struct tsr_arena *tsr_kv_arena(const struct tsr_kv_pool *pool);

/* Keys [head_dim][64] and values [64][head_dim] of a page. */
void *tsr_kv_keys(const struct tsr_kv_pool *pool, uint32_t page, uint32_t layer, uint32_t kv_head);
void *tsr_kv_values(const struct tsr_kv_pool *pool, uint32_t page, uint32_t layer,
                    uint32_t kv_head);

#endif
