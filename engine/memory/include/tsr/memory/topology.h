/* The machine as far as placement of threads and memory concerns us: CPUs, their nodes, and what
 * the nodes have. From /sys and the affinity mask; for start-up, `status` and `doctor`. */
#ifndef TSR_MEMORY_TOPOLOGY_H
#define TSR_MEMORY_TOPOLOGY_H

#include <stdbool.h>
#include <stdint.h>

#include <tsr/shm/err.h>

enum { TSR_TOPOLOGY_CPUS_MAX = 1024, TSR_TOPOLOGY_NODES_MAX = 64 };

struct tsr_topology_cpu {
    uint32_t id;      /* as sched_setaffinity() counts */
    int node;         /* NUMA node, 0 on a machine without them */
    uint32_t core;    /* the lowest CPU id among the hardware threads of the same core */
    bool is_isolated; /* kept free of other tasks (isolcpus=, or an isolated cpuset) */
};

struct tsr_topology_node {
    int id;
    uint64_t bytes_total, bytes_available; /* available: free, or page cache that can be dropped */
    uint64_t free_1g_bytes, free_2m_bytes; /* in free huge pages of each size */
    uint64_t all_1g_bytes, all_2m_bytes;   /* in huge pages of each size, taken or free */
};

struct tsr_topology {
    uint32_t n_cpus; /* that this process may run on, in ascending order of id */
    struct tsr_topology_cpu cpus[TSR_TOPOLOGY_CPUS_MAX];
    uint32_t n_nodes; /* of the machine, with memory or CPUs; at least 1 */
    struct tsr_topology_node nodes[TSR_TOPOLOGY_NODES_MAX];
    uint32_t n_isolated; /* of the machine, in the affinity mask or not */
};

/* Reads it all. What a restricted /sys does not tell is filled in as one node and no isolation.
 * -errno where even the affinity mask cannot be read. */
int tsr_topology_read(struct tsr_topology *topology, struct tsr_err *err);

/* The same of a machine whose /proc and /sys lie under root (see sysfs.h), with its online CPUs in
 * place of the affinity mask. */
void tsr_topology_read_at(const char *root, struct tsr_topology *topology);

/* The CPU with this id, or NULL where the process may not run on it. */
const struct tsr_topology_cpu *tsr_topology_cpu(const struct tsr_topology *topology, uint32_t id);

/* Parses a list as the kernel writes it ("0-3,8,10-11"; an empty line is none) into out, ascending
 * and each once: how many there are, of which the first `max` are stored; -EINVAL where the text is
 * not a list. */
int tsr_cpulist_parse(const char *text, uint32_t *out, uint32_t max);

#endif
