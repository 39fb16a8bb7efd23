/* How much memory there is to take. */
#include "memory_priv.h"

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

/* Where a cgroup hierarchy is mounted and which part of it: fields 4 and 5 of a line of mountinfo.
 */
struct cgroup_mount {
    char part[PATH_MAX];
    char point[PATH_MAX];
};

static bool find_mount(const char *root, bool v2, struct cgroup_mount *mount)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/proc/self/mountinfo", root);
    FILE *file = fopen(path, "re");
    if (!file) {
        return false;
    }
    char *line = NULL;
    size_t capacity = 0;
    bool found = false;
    while (!found && getline(&line, &capacity, file) > 0) {
        const char *tail = strstr(line, " - ");
        if (!tail) {
            continue;
        }
        char kind[32] = "", options[512] = "";
        if (sscanf(tail, " - %31s %*s %511s", kind, options) < 2 ||
            sscanf(line, "%*s %*s %*s %4095s %4095s", mount->part, mount->point) != 2) {
            continue;
        }
        if (v2) {
            found = strcmp(kind, "cgroup2") == 0;
        } else if (strcmp(kind, "cgroup") == 0) {
            char *state = NULL;
            for (char *o = strtok_r(options, ",", &state); o; o = strtok_r(NULL, ",", &state)) {
                found |= strcmp(o, "memory") == 0;
            }
        }
    }
    free(line);
    fclose(file);
    return found;
}

/* This process's path in the hierarchy ("0::/a/b", "4:memory:/a/b"). */
static bool find_path(const char *root, bool v2, char *out, size_t size)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/proc/self/cgroup", root);
    FILE *file = fopen(path, "re");
    if (!file) {
        return false;
    }
    char *line = NULL;
    size_t capacity = 0;
    bool found = false;
    while (!found && getline(&line, &capacity, file) > 0) {
        line[strcspn(line, "\n")] = '\0';
        char *controllers = strchr(line, ':');
        char *where = controllers ? strchr(controllers + 1, ':') : NULL;
        if (!where) {
            continue;
        }
        *controllers++ = '\0';
        *where++ = '\0';
        if (v2) {
            found = strcmp(line, "0") == 0 && *controllers == '\0';
        } else {
            char *state = NULL;
            for (char *c = strtok_r(controllers, ",", &state); c; c = strtok_r(NULL, ",", &state)) {
                found |= strcmp(c, "memory") == 0;
            }
        }
        if (found) {
            snprintf(out, size, "%s", where);
        }
    }
    free(line);
    fclose(file);
    return found;
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

static uint64_t cgroup_headroom(const char *root, bool v2)
{
    struct cgroup_mount mount;
    char path[PATH_MAX], folder[2 * PATH_MAX];
    if (!find_mount(root, v2, &mount) || !find_path(root, v2, path, sizeof path)) {
        return UINT64_MAX;
    }
    /* In a container without a cgroup namespace the mount shows only the container's own part. */
    const char *below = path;
    size_t part = strlen(mount.part);
    if (strcmp(mount.part, "/") != 0 && strncmp(path, mount.part, part) == 0) {
        below = path + part;
    }
    snprintf(folder, sizeof folder, "%s%s", mount.point, below);
    uint64_t least = UINT64_MAX;
    size_t top = strlen(mount.point);
    for (;;) {
        size_t length = strlen(folder);
        while (length > top && folder[length - 1] == '/') {
            folder[--length] = '\0';
        }
        least = min_u64(least, level_headroom(root, folder, v2));
        char *slash = strrchr(folder, '/');
        if (length <= top || !slash) {
            return least;
        }
        *slash = '\0';
    }
}

uint64_t tsr_memory_ordinary_at(const char *root)
{
    uint64_t available = UINT64_MAX;
    tsr_sysfs_keyed(root, "/proc/meminfo", "MemAvailable:", &available);
    available = min_u64(available, cgroup_headroom(root, false));
    return min_u64(available, cgroup_headroom(root, true));
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

uint64_t tsr_memory_available(void)
{
    uint64_t bytes = tsr_memory_ordinary_at("");
    bytes += tsr_memory_huge_at("", TSR_PAGES_1G, -1) + tsr_memory_huge_at("", TSR_PAGES_2M, -1);
    struct rlimit limit;
    if (getrlimit(RLIMIT_AS, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY) {
        uint64_t mapped = 0;
        tsr_sysfs_u64("", &mapped, "/proc/self/statm");
        mapped *= (uint64_t)sysconf(_SC_PAGESIZE);
        bytes = min_u64(bytes, limit.rlim_cur > mapped ? limit.rlim_cur - mapped : 0);
    }
    return bytes;
}
