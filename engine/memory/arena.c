#include <tsr/memory/arena.h>

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include <tsr/shm/log.h>

#include "memory_priv.h"

static double gib(uint64_t bytes)
{
    return (double)bytes / (1024.0 * 1024.0 * 1024.0);
}

static bool node_exists(int node)
{
    char text[128];
    if (tsr_sysfs_line("", text, sizeof text, "/sys/devices/system/node/node%d/cpulist", node)) {
        return true;
    }
    return node == 0; /* a kernel without NUMA */
}

/* Ordinary memory for `bytes` on the arena's node, or the sentence that says what is missing. */
static int check_ordinary(size_t bytes, int node, struct tsr_err *err)
{
    uint64_t all = tsr_memory_ordinary_at("");
    uint64_t here = node >= 0 ? tsr_memory_node_at("", node) : UINT64_MAX;
    if (bytes <= all && bytes <= here) {
        return 0;
    }
    char where[32] = "";
    if (node >= 0) {
        snprintf(where, sizeof where, " on NUMA node %d", node);
    }
    return tsr_err_set(
        err, -ENOMEM,
        "%.2f GiB of memory are needed%s and %.2f GiB are available (besides %.2f GiB in "
        "free 1 GiB and %.2f GiB in free 2 MiB huge pages, which must hold all of it): "
        "choose a smaller model, context or KV cache, or free memory",
        gib(bytes), where, gib(here < all ? here : all),
        gib(tsr_memory_huge_at("", TSR_PAGES_1G, node)),
        gib(tsr_memory_huge_at("", TSR_PAGES_2M, node)));
}

int tsr_arena_create(struct tsr_arena *arena, size_t bytes, int node, enum tsr_pages pages_best,
                     struct tsr_err *err)
{
    *arena = (struct tsr_arena){.node = node};
    int result = -ENOMEM;
    if (bytes == 0 || (unsigned)pages_best >= TSR_PAGES_COUNT) {
        return tsr_err_set(err, -EINVAL, "an arena of %zu bytes on pages of kind %d was asked for",
                           bytes, (int)pages_best);
    }
    if (node < -1 || node >= 1024 || (node >= 0 && !node_exists(node))) {
        return tsr_err_set(err, -EINVAL, "NUMA node %d does not exist on this machine", node);
    }

    for (enum tsr_pages pages = pages_best; pages < TSR_PAGES_COUNT; pages++) {
        if (pages != TSR_PAGES_PLAIN && bytes < tsr_pages_bytes(pages) / 2) {
            continue;
        }
        if (pages == TSR_PAGES_1G || pages == TSR_PAGES_2M) {
            if (tsr_memory_huge_at("", pages, node) < bytes) {
                continue;
            }
        } else if ((result = check_ordinary(bytes, node, err)) < 0) {
            goto fail;
        }
        result = tsr_pages_map(arena, bytes, pages);
        if (result == 0) {
            return 0;
        }
        tsr_log(TSR_LOG_DEBUG, "%.2f GiB on %s pages: %s", gib(bytes), tsr_pages_name(pages),
                strerror(-result));
    }
    tsr_err_set(err, result,
                "%.2f GiB of memory could not be mapped: %s (limits: ulimit -v, "
                "the cgroup's memory.max, vm.overcommit_memory)",
                gib(bytes), strerror(-result));
fail:
    *arena = (struct tsr_arena){0};
    return result;
}

void *tsr_arena_alloc(struct tsr_arena *arena, size_t bytes, size_t align)
{
    assert(align && (align & (align - 1)) == 0);
    uintptr_t at = (uintptr_t)arena->base + arena->used;
    size_t pad = (size_t)(-at & (align - 1));
    size_t left = arena->size - arena->used;
    if (pad > left || bytes > left - pad) {
        return NULL;
    }
    arena->used += pad + bytes;
    return (uint8_t *)arena->base + (arena->used - bytes);
}

void tsr_arena_destroy(struct tsr_arena *arena)
{
    if (arena && arena->map) {
        munmap(arena->map, arena->map_size);
        *arena = (struct tsr_arena){0};
    }
}
