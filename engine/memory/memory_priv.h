/* What the files of this folder share: small reads under /proc and /sys, and one mapping attempt.
 */
#ifndef TSR_MEMORY_PRIV_H
#define TSR_MEMORY_PRIV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <tsr/memory/arena.h>

/* `root` is put before every path: "" for the machine's own /proc and /sys, a folder in tests. */

/* First line of the file, without its newline, into text. false where it cannot be read. */
__attribute__((format(printf, 4, 5))) bool tsr_sysfs_line(const char *root, char *text, size_t size,
                                                          const char *format, ...);

/* The number that the file starts with; false where it is not one ("max" is UINT64_MAX). */
__attribute__((format(printf, 3, 4))) bool tsr_sysfs_u64(const char *root, uint64_t *value,
                                                         const char *format, ...);

/* The number after `key` at the start of a line of the file at path ("MemAvailable:",
 * "inactive_file"); false where there is none. A following "kB" is multiplied out. */
bool tsr_sysfs_keyed(const char *root, const char *path, const char *key, uint64_t *value);

/* Bytes of ordinary memory that this process may still take: MemAvailable and the cgroup's
 * head-room. */
uint64_t tsr_memory_ordinary_at(const char *root);

/* Bytes of huge pages of this kind (1G or 2M) that are free and not promised, on node, or anywhere
 * for -1. */
uint64_t tsr_memory_huge_at(const char *root, enum tsr_pages pages, int node);

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
