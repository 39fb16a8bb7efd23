#include <tsr/kv/kv.h>

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include <tsr/memory/arena.h>

struct tsr_kv_pool {
    struct tsr_arena arena;
    struct tsr_kv_shape shape;
    uint64_t page_bytes, head_bytes; /* head_bytes: keys and values of one layer and KV head */
    uint32_t total, free;
    uint32_t *stack; /* stack[0 .. free) are the free pages */
};

uint64_t tsr_kv_page_bytes(const struct tsr_kv_shape *shape)
{
    return (uint64_t)shape->layers * shape->kv_heads * shape->head_dim * TSR_KV_PAGE_POSITIONS * 2 *
           shape->element_bytes;
}

int tsr_kv_create(struct tsr_kv_pool **out, const struct tsr_kv_shape *shape, uint64_t bytes,
                  int node, struct tsr_err *err)
{
    uint64_t page_bytes = tsr_kv_page_bytes(shape);
    assert(page_bytes > 0);
    uint64_t total = bytes / page_bytes;
    if (total == 0 || total > UINT32_MAX) {
        return tsr_err_set(
            err, -EINVAL,
            "a KV cache of %llu bytes holds no page of 64 positions (%llu bytes for this "
            "model); raise --kv-bytes",
            (unsigned long long)bytes, (unsigned long long)page_bytes);
    }
    struct tsr_kv_pool *pool = calloc(1, sizeof *pool);
    uint32_t *stack = calloc(total, sizeof *stack);
    if (!pool || !stack) {
        free(pool);
        free(stack);
        return tsr_err_set(err, -ENOMEM, "no memory for a table of %llu KV pages",
                           (unsigned long long)total);
    }
    int rc = tsr_arena_create(&pool->arena, total * page_bytes, node, TSR_PAGES_1G, err);
    if (rc < 0) {
        free(pool);
        free(stack);
        return rc;
    }
    pool->shape = *shape;
    pool->page_bytes = page_bytes;
    pool->head_bytes = page_bytes / shape->layers / shape->kv_heads;
    pool->total = pool->free = (uint32_t)total;
    pool->stack = stack;
    for (uint32_t i = 0; i < pool->total; i++) {
        stack[i] = pool->total - 1 - i; /* the lowest page is handed out first */
    }
    *out = pool;
    return 0;
}

void tsr_kv_destroy(struct tsr_kv_pool *pool)
{
    if (pool) {
        tsr_arena_destroy(&pool->arena);
        free(pool->stack);
        free(pool);
    }
}

void tsr_kv_seq_init(struct tsr_kv_seq *seq, uint32_t *pages, uint32_t pages_max)
{
    seq->n_pages = 0;
    seq->length = 0;
    seq->pages_max = pages_max;
    seq->pages = pages;
}

int tsr_kv_reserve(struct tsr_kv_pool *pool, struct tsr_kv_seq *seq, uint32_t positions)
{
    uint32_t want =
        (uint32_t)(((uint64_t)positions + TSR_KV_PAGE_POSITIONS - 1) / TSR_KV_PAGE_POSITIONS);
    if (want > seq->n_pages && want > seq->pages_max) {
        return -E2BIG;
    }
    if (want > seq->n_pages && want - seq->n_pages > pool->free) {
        return -ENOSPC;
    }
    seq->length = seq->length ? seq->length : positions;
    while (seq->n_pages < want) {
        seq->pages[seq->n_pages++] = pool->stack[--pool->free];
    }
    return 0;
}

void tsr_kv_release(struct tsr_kv_pool *pool, struct tsr_kv_seq *seq)
{
    seq->length = 0;
    while (seq->n_pages) {
        assert(pool->free < pool->total);
        pool->stack[pool->free++] = seq->pages[--seq->n_pages];
    }
}

uint32_t tsr_kv_pages_total(const struct tsr_kv_pool *pool)
{
    return pool->total;
}

const struct tsr_arena *tsr_kv_arena(const struct tsr_kv_pool *pool)
{
    return &pool->arena;
}

uint32_t tsr_kv_pages_free(const struct tsr_kv_pool *pool)
{
    return pool->free;
}

void *tsr_kv_keys(const struct tsr_kv_pool *pool, uint32_t page, uint32_t layer, uint32_t kv_head)
{
    assert(page < pool->total && layer < pool->shape.layers && kv_head < pool->shape.kv_heads);
    return pool->arena.base + page * pool->page_bytes +
           ((uint64_t)layer * pool->shape.kv_heads + kv_head) * pool->head_bytes;
}

void *tsr_kv_values(const struct tsr_kv_pool *pool, uint32_t page, uint32_t layer, uint32_t kv_head)
{
    return (uint8_t *)tsr_kv_keys(pool, page, layer, kv_head) + pool->head_bytes / 2;
}
