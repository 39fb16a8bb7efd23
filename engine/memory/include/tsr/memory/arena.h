/* Arenas: large memory on the best pages there are, on a NUMA node of choice, taken once at start. */
#ifndef TSR_MEMORY_ARENA_H
#define TSR_MEMORY_ARENA_H

#include <stddef.h>
#include <stdint.h>

#include <tsr/shm/err.h>

/* From best to plainest; the order in which tsr_arena_create() tries. */
enum tsr_pages { TSR_PAGES_1G, TSR_PAGES_2M, TSR_PAGES_THP, TSR_PAGES_PLAIN };

struct tsr_arena {
    uint8_t *base;        /* start, aligned to the page size obtained and to 64 bytes */
    size_t size;          /* bytes mapped, >= bytes asked for */
    size_t used;          /* bytes handed out; used <= size */
    enum tsr_pages pages; /* what was obtained */
    int node;             /* NUMA node asked for, -1 for any */
};

/* Maps `bytes` of zeroed memory, faulted in before it returns, on node (-1: any). Tries page kinds from
 * pages_best downwards: 1 GiB pages only where bytes is at least half of one. -ENOMEM with a sentence that
 * names need and supply (free huge pages, available memory) where the machine does not have it. The
 * caller owns the arena until tsr_arena_destroy(). */
int tsr_arena_create(struct tsr_arena *arena, size_t bytes, int node, enum tsr_pages pages_best,
                     struct tsr_err *err);

/* The next `bytes` at alignment `align` (a power of two, >= 1); NULL where the arena is full. Freed only
 * with the arena. Not thread-safe. */
void *tsr_arena_alloc(struct tsr_arena *arena, size_t bytes, size_t align);

void tsr_arena_destroy(struct tsr_arena *arena);

/* "1 GiB", "2 MiB", "transparent 2 MiB", "4 KiB". */
const char *tsr_pages_name(enum tsr_pages pages);

/* Bytes of memory that this process may still take: the least of MemAvailable, the cgroup's head-room (v1 and v2)
 * and RLIMIT_AS. */
uint64_t tsr_memory_available(void);

#endif
