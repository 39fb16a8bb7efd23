/* Where memory really is: on which pages and on which NUMA nodes. What was asked for is a wish;
 * this is asked of the kernel. For start-up, `status` and `doctor`: it reads /proc and is slow
 * (milliseconds). */
#ifndef TSR_MEMORY_PLACEMENT_H
#define TSR_MEMORY_PLACEMENT_H

#include <stddef.h>
#include <stdint.h>

#include <tsr/memory/arena.h>

enum { TSR_PLACEMENT_NODES_MAX = 64 };

struct tsr_placement {
    uint64_t bytes_by_pages[TSR_PAGES_COUNT]; /* resident bytes on each kind of page */
    uint64_t bytes_absent;                    /* not resident: never touched, or swapped out */
    uint64_t bytes_by_node[TSR_PLACEMENT_NODES_MAX]; /* by up to 4,096 evenly spaced samples */
    uint64_t bytes_node_unknown;                     /* samples that the kernel would not place */
    uint64_t bytes_misplaced;                        /* on another node than the arena asked for */
    /* Both at once: what is on a node is taken to be on the kinds of page that the whole is on. */
    uint64_t bytes[TSR_PLACEMENT_NODES_MAX][TSR_PAGES_COUNT];
};

/* Looks at [base, base + size), which must be mapped and lie in mappings of its own (an arena
 * does). The sums over pages (with absent) and over nodes (with unknown) are each `size`, to the
 * rounding of the kernel's reports. What cannot be read (no /proc, a container's filter on
 * move_pages) counts as absent and unknown. */
void tsr_placement_read(struct tsr_placement *placement, const void *base, size_t size);

/* Adds the placement of an arena to sum (zeroed before the first), bytes_misplaced included. */
void tsr_placement_add(struct tsr_placement *sum, const struct tsr_arena *arena);

/* One line for a person: "1.20 GiB: 2 MiB pages 100 %; node 0 100 %". Returns what snprintf() does.
 */
int tsr_placement_text(const struct tsr_placement *placement, char *out, size_t size);

#endif
