#include <tsr/serve/blocks.h>

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static uint64_t blocks_of(uint64_t bytes)
{
    return bytes / TSR_BLOCK_BYTES + (bytes % TSR_BLOCK_BYTES != 0);
}

int tsr_blocks_create(struct tsr_blocks *blocks, uint64_t bytes, struct tsr_err *err)
{
    *blocks = (struct tsr_blocks){0};
    uint64_t n = blocks_of(bytes);
    if (n == 0 || n > 1u << 28) {
        return tsr_err_set(err, -EINVAL,
                           "memory for prompts: %llu bytes; between 4 KiB and 1 TiB are possible",
                           (unsigned long long)bytes);
    }
    int rc = tsr_arena_create(&blocks->arena, n * TSR_BLOCK_BYTES, -1, TSR_PAGES_2M, err);
    if (rc < 0) {
        tsr_err_prefix(err, "memory for prompts");
        return rc;
    }
    blocks->total = blocks->free = (uint32_t)n;
    blocks->taken = malloc(n);
    if (!blocks->taken) {
        tsr_blocks_destroy(blocks);
        return tsr_err_set(err, -ENOMEM, "memory for prompts: no memory for %llu marks",
                           (unsigned long long)n);
    }
    memset(blocks->taken, 0, n);
    return 0;
}

void tsr_blocks_destroy(struct tsr_blocks *blocks)
{
    free(blocks->taken);
    if (blocks->arena.base) {
        tsr_arena_destroy(&blocks->arena);
    }
    *blocks = (struct tsr_blocks){0};
}

/* The first of n free blocks in [from, to), or `to`. */
static uint32_t search(const struct tsr_blocks *blocks, uint32_t from, uint32_t to, uint32_t n)
{
    uint32_t length = 0;
    for (uint32_t i = from; i < to; i++) {
        length = blocks->taken[i] ? 0 : length + 1;
        if (length == n) {
            return i + 1 - n;
        }
    }
    return to;
}

bool tsr_blocks_take(struct tsr_blocks *blocks, uint64_t bytes, struct tsr_run *run)
{
    uint64_t n = blocks_of(bytes ? bytes : 1);
    *run = (struct tsr_run){0};
    if (n > blocks->free) {
        return false;
    }
    uint32_t first = search(blocks, blocks->from, blocks->total, (uint32_t)n);
    if (first == blocks->total) {
        first = search(blocks, 0, blocks->total, (uint32_t)n);
        if (first == blocks->total) {
            return false;
        }
    }
    memset(blocks->taken + first, 1, n);
    blocks->free -= (uint32_t)n;
    blocks->from = first + (uint32_t)n;
    *run = (struct tsr_run){
        .first = first,
        .n = (uint32_t)n,
        .base = blocks->arena.base + (uint64_t)first * TSR_BLOCK_BYTES,
    };
    return true;
}

void tsr_blocks_cut(struct tsr_blocks *blocks, struct tsr_run *run, uint64_t bytes)
{
    uint32_t keep = (uint32_t)blocks_of(bytes);
    assert(keep <= run->n);
    memset(blocks->taken + run->first + keep, 0, run->n - keep);
    blocks->free += run->n - keep;
    if (run->first + keep < blocks->from) {
        blocks->from = run->first + keep;
    }
    run->n = keep;
}

void tsr_blocks_give(struct tsr_blocks *blocks, struct tsr_run *run)
{
    tsr_blocks_cut(blocks, run, 0);
    *run = (struct tsr_run){0};
}
