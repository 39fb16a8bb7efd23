/* How much memory there is to take. */
#include "memory_priv.h"

#include <tsr/memory/cgroup.h>

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

static uint64_t min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* What one level still allows: limit - use, the file pages that it would drop counted as free. */
static uint64_t level_headroom(const char *root, const char *folder, bool v2)
{
    uint64_t limit = UINT64_MAX, high, used, part, cache = 0;
    char path[2 * PATH_MAX + 16];
    if (!tsr_sysfs_u64(root, &limit, "%s/%s", folder,
                       v2 ? "memory.max" : "memory.limit_in_bytes")) {
        return UINT64_MAX; /* the top of a hierarchy has no limit file */
    }
    if (v2 && tsr_sysfs_u64(root, &high, "%s/memory.high", folder)) {
        limit = min_u64(limit, high);
    }
    if (limit >= (uint64_t)INT64_MAX / 4096 * 4096 ||
        !tsr_sysfs_u64(root, &used, "%s/%s", folder,
                       v2 ? "memory.current" : "memory.usage_in_bytes")) {
        return UINT64_MAX;
    }
    snprintf(path, sizeof path, "%s/memory.stat", folder);
    if (tsr_sysfs_keyed(root, path, v2 ? "inactive_file" : "total_inactive_file", &part)) {
        cache += part;
    }
    if (tsr_sysfs_keyed(root, path, v2 ? "active_file" : "total_active_file", &part)) {
        cache += part;
    }
    used -= min_u64(used, cache);
    return limit > used ? limit - used : 0;
}

struct headroom {
    const char *root;
    uint64_t least;
};

static void take_level(void *ctx, const char *folder, bool v2)
{
    struct headroom *headroom = ctx;
    headroom->least = min_u64(headroom->least, level_headroom(headroom->root, folder, v2));
}

uint64_t tsr_memory_ordinary_at(const char *root)
{
    struct headroom headroom = {.root = root, .least = UINT64_MAX};
    tsr_sysfs_keyed(root, "/proc/meminfo", "MemAvailable:", &headroom.least);
    tsr_cgroup_each(root, "memory", take_level, &headroom);
    return headroom.least;
}

uint64_t tsr_memory_huge_at(const char *root, enum tsr_pages pages, int node)
{
    size_t page = tsr_pages_bytes(pages);
    uint64_t free_pages = 0, promised = 0;
    /* Promises (pages mapped elsewhere and not yet touched) are counted for the machine, not by
     * node. */
    if (tsr_sysfs_u64(root, &promised, "/sys/kernel/mm/hugepages/hugepages-%zukB/resv_hugepages",
                      page / 1024) &&
        tsr_sysfs_u64(root, &free_pages, "/sys/kernel/mm/hugepages/hugepages-%zukB/free_hugepages",
                      page / 1024)) {
        free_pages -= min_u64(free_pages, promised);
    }
    uint64_t on_node;
    if (node >= 0 &&
        tsr_sysfs_u64(root, &on_node,
                      "/sys/devices/system/node/node%d/hugepages/hugepages-%zukB/free_hugepages",
                      node, page / 1024)) {
        free_pages = min_u64(free_pages, on_node);
    }
    return free_pages * page;
}

uint64_t tsr_memory_node_at(const char *root, int node)
{
    char path[64], key[64];
    snprintf(path, sizeof path, "/sys/devices/system/node/node%d/meminfo", node);
    static const char *const parts[] = {
        "MemFree:", "Active(file):", "Inactive(file):", "SReclaimable:"};
    uint64_t sum = 0, part;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        snprintf(key, sizeof key, "Node %d %s", node, parts[i]);
        if (tsr_sysfs_keyed(root, path, key, &part)) {
            sum += part;
        } else if (i == 0) {
            return UINT64_MAX;
        }
    }
    return sum;
}

uint64_t tsr_memory_huge_for_at(const char *root, const struct tsr_memory_need *needs, uint32_t n)
{
    uint64_t left[] = {[TSR_PAGES_1G] = tsr_memory_huge_at(root, TSR_PAGES_1G, -1),
                       [TSR_PAGES_2M] = tsr_memory_huge_at(root, TSR_PAGES_2M, -1)};
    uint64_t held = 0;
    for (uint32_t i = 0; i < n; i++) {
        for (enum tsr_pages pages = needs[i].pages_best; pages <= TSR_PAGES_2M; pages++) {
            uint64_t page = tsr_pages_bytes(pages), bytes = needs[i].bytes;
            if (bytes >= page / 2 && bytes <= left[pages]) {
                left[pages] -= (bytes + page - 1) / page * page;
                held += bytes;
                break;
            }
        }
    }
    return held;
}

static uint64_t within_address_space(uint64_t bytes)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_AS, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY) {
        uint64_t mapped = 0;
        tsr_sysfs_u64("", &mapped, "/proc/self/statm");
        mapped *= (uint64_t)sysconf(_SC_PAGESIZE);
        bytes = min_u64(bytes, limit.rlim_cur > mapped ? limit.rlim_cur - mapped : 0);
    }
    return bytes;
}

uint64_t tsr_memory_available(void)
{
    return within_address_space(tsr_memory_ordinary_at("") +
                                tsr_memory_huge_at("", TSR_PAGES_1G, -1) +
                                tsr_memory_huge_at("", TSR_PAGES_2M, -1));
}

uint64_t tsr_memory_available_for(const struct tsr_memory_need *needs, uint32_t n)
{
    return within_address_space(tsr_memory_ordinary_at("") + tsr_memory_huge_for_at("", needs, n));
}
