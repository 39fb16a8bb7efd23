/* Arenas: large memory on the best pages there are, on a NUMA node of choice, taken once at start.
 */
#ifndef TSR_MEMORY_ARENA_H
#define TSR_MEMORY_ARENA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <tsr/shm/err.h>

/* From best to plainest; the order in which tsr_arena_create() tries. */
enum tsr_pages { TSR_PAGES_1G, TSR_PAGES_2M, TSR_PAGES_THP, TSR_PAGES_PLAIN, TSR_PAGES_COUNT };

struct tsr_arena {
    uint8_t *base;        /* start, aligned to the page size obtained and to 64 bytes */
    size_t size;          /* bytes mapped, >= bytes asked for */
    size_t used;          /* bytes handed out; used <= size */
    enum tsr_pages pages; /* what was obtained: THP only where most of it really is on huge pages */
    int node;             /* NUMA node asked for, -1 for any */
    bool locked;          /* cannot be swapped out (huge pages, or RLIMIT_MEMLOCK let us) */
    uint8_t *map;         /* the address range reserved, guard pages included */
    size_t map_size;
};

/* Maps `bytes` of zeroed memory, faulted in before it returns, on node (-1: any). Tries page kinds
 * from pages_best downwards: 1 GiB and 2 MiB pages only where bytes is at least half of one.
 * Inaccessible pages lie on both sides, and core dumps leave the arena out. -ENOMEM with a sentence
 * that names need and supply (free huge pages, available memory) where the machine does not have
 * it; -EINVAL for 0 bytes or a node that the machine lacks. The caller owns the arena until
 * tsr_arena_destroy(); after an error it is zeroed. */
int tsr_arena_create(struct tsr_arena *arena, size_t bytes, int node, enum tsr_pages pages_best,
                     struct tsr_err *err);

/* The next `bytes` at alignment `align` (a power of two, >= 1); NULL where the arena is full. Freed
 * only with the arena. Not thread-safe. */
void *tsr_arena_alloc(struct tsr_arena *arena, size_t bytes, size_t align);

/* Unmaps and zeroes the arena; a zeroed arena and NULL are left alone. */
void tsr_arena_destroy(struct tsr_arena *arena);

/* "1 GiB", "2 MiB", "transparent 2 MiB", "4 KiB". */
const char *tsr_pages_name(enum tsr_pages pages);

/* Bytes of a page of this kind: 2^30, 2^21, 2^21, 4096. */
size_t tsr_pages_bytes(enum tsr_pages pages);

/* Bytes of memory that this process may still take: the lesser of MemAvailable and the cgroup's
 * head-room (v1 and v2, every level), to which the free huge pages are added (the kernel counts
 * them in neither), and at most what RLIMIT_AS leaves. A figure for planning: tsr_arena_create()
 * has the last word. */
uint64_t tsr_memory_available(void);

/* The same for arenas that are about to be made, in this order: of the free huge pages only those
 * are added that hold a whole arena, as tsr_arena_create() takes them. So the arenas fit where
 * their sum is not more. */
struct tsr_memory_need {
    uint64_t bytes;
    enum tsr_pages pages_best;
};
uint64_t tsr_memory_available_for(const struct tsr_memory_need *needs, uint32_t n);

#endif
