/* What the files of this folder share. `root` stands before every path: see sysfs.h. */
#ifndef TSR_MEMORY_PRIV_H
#define TSR_MEMORY_PRIV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <tsr/memory/arena.h>
#include <tsr/memory/sysfs.h>

/* Bytes of ordinary memory that this process may still take: MemAvailable and the cgroup's
 * head-room. */
uint64_t tsr_memory_ordinary_at(const char *root);

/* Bytes of huge pages of this kind (1G or 2M) that are free and not promised, on node, or anywhere
 * for -1. */
uint64_t tsr_memory_huge_at(const char *root, enum tsr_pages pages, int node);

/* Bytes of these arenas that free huge pages will hold. */
uint64_t tsr_memory_huge_for_at(const char *root, const struct tsr_memory_need *needs, uint32_t n);

/* Bytes that node could give: free memory and page cache; UINT64_MAX where the machine does not
 * say. */
uint64_t tsr_memory_node_at(const char *root, int node);

/* Nodes, cores and isolation for the CPUs that t already names. */
struct tsr_topology;
void tsr_topology_fill(const char *root, struct tsr_topology *t);

/* Maps and faults in arena->size bytes on pages of exactly this kind (THP is a wish: see
 * arena->pages), bound to arena->node. 0, or a negative errno with nothing left mapped. */
int tsr_pages_map(struct tsr_arena *arena, size_t bytes, enum tsr_pages pages);

#endif
