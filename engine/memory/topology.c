#include <tsr/memory/topology.h>

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "memory_priv.h"

enum { ID_MAX = 65535, LIST_BYTES = 8192 };

/* A number of the list at *text, which is moved behind it. */
static bool take_number(const char **text, uint32_t *value)
{
    if (**text < '0' || **text > '9') {
        return false;
    }
    char *end;
    unsigned long number = strtoul(*text, &end, 10);
    *text = end;
    *value = (uint32_t)number;
    return number <= ID_MAX;
}

int tsr_cpulist_parse(const char *text, uint32_t *out, uint32_t max)
{
    uint32_t n = 0, next = 0; /* every id < next is dealt with: the kernel's lists ascend */
    while (*text && *text != '\n') {
        uint32_t from, to;
        if (!take_number(&text, &from)) {
            return -EINVAL;
        }
        to = from;
        if (*text == '-') {
            text++;
            if (!take_number(&text, &to) || to < from) {
                return -EINVAL;
            }
        }
        if (*text == ',') {
            text++;
        } else if (*text && *text != '\n') {
            return -EINVAL;
        }
        if (from < next) {
            return -EINVAL;
        }
        for (next = from; next <= to; next++, n++) {
            if (n < max) {
                out[n] = next;
            }
        }
    }
    return (int)n;
}

/* The list in a file under /sys; 0 where there is none. */
static uint32_t read_list(const char *root, uint32_t *out, uint32_t max, const char *path)
{
    char text[LIST_BYTES];
    if (!tsr_sysfs_line(root, text, sizeof text, "%s", path)) {
        return 0;
    }
    int n = tsr_cpulist_parse(text, out, max);
    return n < 0 ? 0 : (uint32_t)n < max ? (uint32_t)n : max;
}

static struct tsr_topology_cpu *find_cpu(struct tsr_topology *t, uint32_t id)
{
    for (uint32_t i = 0; i < t->n_cpus; i++) {
        if (t->cpus[i].id == id) {
            return &t->cpus[i];
        }
    }
    return NULL;
}

const struct tsr_topology_cpu *tsr_topology_cpu(const struct tsr_topology *topology, uint32_t id)
{
    for (uint32_t i = 0; i < topology->n_cpus; i++) {
        if (topology->cpus[i].id == id) {
            return &topology->cpus[i];
        }
    }
    return NULL;
}

static uint64_t pages_on_node(const char *root, int node, enum tsr_pages pages, const char *file)
{
    uint64_t count = 0;
    size_t page = tsr_pages_bytes(pages);
    tsr_sysfs_u64(root, &count, "/sys/devices/system/node/node%d/hugepages/hugepages-%zukB/%s",
                  node, page / 1024, file);
    return count * page;
}

static void read_node(const char *root, struct tsr_topology *t, uint32_t id)
{
    char path[64], key[64];
    snprintf(path, sizeof path, "/sys/devices/system/node/node%u/meminfo", id);
    snprintf(key, sizeof key, "Node %u MemTotal:", id);
    int node = (int)id;
    struct tsr_topology_node *n = &t->nodes[t->n_nodes++];
    *n = (struct tsr_topology_node){
        .id = node,
        .bytes_available = tsr_memory_node_at(root, node),
        .free_1g_bytes = pages_on_node(root, node, TSR_PAGES_1G, "free_hugepages"),
        .free_2m_bytes = pages_on_node(root, node, TSR_PAGES_2M, "free_hugepages"),
        .all_1g_bytes = pages_on_node(root, node, TSR_PAGES_1G, "nr_hugepages"),
        .all_2m_bytes = pages_on_node(root, node, TSR_PAGES_2M, "nr_hugepages"),
    };
    tsr_sysfs_keyed(root, path, key, &n->bytes_total);

    uint32_t cpus[TSR_TOPOLOGY_CPUS_MAX] = {0};
    snprintf(path, sizeof path, "/sys/devices/system/node/node%u/cpulist", id);
    uint32_t count = read_list(root, cpus, TSR_TOPOLOGY_CPUS_MAX, path);
    for (uint32_t i = 0; i < count; i++) {
        struct tsr_topology_cpu *cpu = find_cpu(t, cpus[i]);
        if (cpu) {
            cpu->node = node;
        }
    }
}

/* One node that is the whole machine: a kernel without NUMA, or a container that hides it. */
static void assume_one_node(const char *root, struct tsr_topology *t)
{
    struct tsr_topology_node *n = &t->nodes[t->n_nodes++];
    *n = (struct tsr_topology_node){
        .free_1g_bytes = tsr_memory_huge_at(root, TSR_PAGES_1G, -1),
        .free_2m_bytes = tsr_memory_huge_at(root, TSR_PAGES_2M, -1),
    };
    n->all_1g_bytes = n->free_1g_bytes;
    n->all_2m_bytes = n->free_2m_bytes;
    tsr_sysfs_keyed(root, "/proc/meminfo", "MemTotal:", &n->bytes_total);
    tsr_sysfs_keyed(root, "/proc/meminfo", "MemAvailable:", &n->bytes_available);
}

void tsr_topology_fill(const char *root, struct tsr_topology *t)
{
    for (uint32_t i = 0; i < t->n_cpus; i++) {
        struct tsr_topology_cpu *cpu = &t->cpus[i];
        char path[96];
        uint32_t siblings[16] = {0};
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%u/topology/thread_siblings_list",
                 cpu->id);
        uint32_t n = read_list(root, siblings, 16, path);
        cpu->core = n ? siblings[0] : cpu->id;
    }

    uint32_t list[TSR_TOPOLOGY_CPUS_MAX] = {0};
    t->n_isolated =
        read_list(root, list, TSR_TOPOLOGY_CPUS_MAX, "/sys/devices/system/cpu/isolated");
    for (uint32_t i = 0; i < t->n_isolated; i++) {
        struct tsr_topology_cpu *cpu = find_cpu(t, list[i]);
        if (cpu) {
            cpu->is_isolated = true;
        }
    }

    uint32_t n = read_list(root, list, TSR_TOPOLOGY_NODES_MAX, "/sys/devices/system/node/online");
    for (uint32_t i = 0; i < n; i++) {
        read_node(root, t, list[i]);
    }
    if (!t->n_nodes) {
        assume_one_node(root, t);
    }
}

int tsr_topology_read(struct tsr_topology *topology, struct tsr_err *err)
{
    *topology = (struct tsr_topology){0};
    enum { MASK_CPUS = 8192 };
    cpu_set_t *mask = CPU_ALLOC(MASK_CPUS);
    size_t size = CPU_ALLOC_SIZE(MASK_CPUS);
    if (!mask) {
        return tsr_err_set(err, -ENOMEM, "no memory for the CPU affinity mask");
    }
    if (sched_getaffinity(0, size, mask) < 0) {
        int code = -errno;
        CPU_FREE(mask);
        return tsr_err_set(err, code, "the CPU affinity mask cannot be read: %s", strerror(-code));
    }
    for (uint32_t id = 0; id < MASK_CPUS && topology->n_cpus < TSR_TOPOLOGY_CPUS_MAX; id++) {
        if (CPU_ISSET_S(id, size, mask)) {
            topology->cpus[topology->n_cpus++] = (struct tsr_topology_cpu){.id = id};
        }
    }
    CPU_FREE(mask);
    tsr_topology_fill("", topology);
    return 0;
}

void tsr_topology_read_at(const char *root, struct tsr_topology *topology)
{
    uint32_t list[TSR_TOPOLOGY_CPUS_MAX] = {0};
    *topology = (struct tsr_topology){0};
    topology->n_cpus =
        read_list(root, list, TSR_TOPOLOGY_CPUS_MAX, "/sys/devices/system/cpu/online");
    for (uint32_t i = 0; i < topology->n_cpus; i++) {
        topology->cpus[i].id = list[i];
    }
    tsr_topology_fill(root, topology);
}
