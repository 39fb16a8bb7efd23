/* Blocks: the planned memory that prompts are copied into.
 *
 * One stretch of memory in blocks of 4 KiB, mapped and touched at start. A run of consecutive
 * blocks belongs to one request; it can be cut shorter, and is given back when the request is over.
 * One thread (the frontend) calls everything here; nothing but create and destroy makes a system
 * call. */
#ifndef TSR_SERVE_BLOCKS_H
#define TSR_SERVE_BLOCKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <tsr/memory/arena.h>
#include <tsr/shm/err.h>

enum { TSR_BLOCK_BYTES = 4096 };

struct tsr_blocks {
    struct tsr_arena arena;
    uint32_t total, free;
    uint32_t from;  /* where the next search starts */
    uint8_t *taken; /* [total] 1: belongs to a run */
};

/* n == 0: no run. */
struct tsr_run {
    uint32_t first, n;
    uint8_t *base;
};

/* bytes: rounded up to blocks, up to 1 TiB. -ENOMEM, with need and supply; -EINVAL for 0 or too
 * many. */
int tsr_blocks_create(struct tsr_blocks *blocks, uint64_t bytes, struct tsr_err *err);
void tsr_blocks_destroy(struct tsr_blocks *blocks);

/* A run of at least `bytes` (64-aligned, contents undefined). False where there is none; *run is
 * then empty. */
bool tsr_blocks_take(struct tsr_blocks *blocks, uint64_t bytes, struct tsr_run *run);

/* Gives back what lies behind the first `bytes` of the run. */
void tsr_blocks_cut(struct tsr_blocks *blocks, struct tsr_run *run, uint64_t bytes);

/* Gives the whole run back; an empty one is ignored. */
void tsr_blocks_give(struct tsr_blocks *blocks, struct tsr_run *run);

#endif
