/* One attempt to map memory on pages of one kind: reserve, place, bind, fault in. */
#include "memory_priv.h"

#include <errno.h>
#include <linux/mman.h>
#include <numaif.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>

#include <tsr/memory/placement.h>
#include <tsr/shm/log.h>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* Linux 5.14 */
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25 /* Linux 6.1 */
#endif

const char *tsr_pages_name(enum tsr_pages pages)
{
    static const char *const names[] = {"1 GiB", "2 MiB", "transparent 2 MiB", "4 KiB"};
    return (unsigned)pages < TSR_PAGES_COUNT ? names[pages] : "unknown";
}

size_t tsr_pages_bytes(enum tsr_pages pages)
{
    static const size_t bytes[] = {1u << 30, 1u << 21, 1u << 21, 4096};
    return (unsigned)pages < TSR_PAGES_COUNT ? bytes[pages] : 0;
}

/* Binds the range to node. Where the kernel refuses (a container's filter, no NUMA), memory still
 * works, only its place is the kernel's choice: said once, and seen again in tsr_placement_read().
 */
static void bind_node(void *base, size_t size, int node)
{
    enum { NODES_MAX = 1024, WORD_BITS = 8 * sizeof(unsigned long) };
    unsigned long mask[NODES_MAX / WORD_BITS] = {0};
    mask[(unsigned)node / WORD_BITS] |= 1ul << ((unsigned)node % WORD_BITS);
    if (mbind(base, size, MPOL_BIND, mask, NODES_MAX + 1, 0) < 0) {
        tsr_log(TSR_LOG_WARN,
                "memory could not be bound to NUMA node %d (%s): its place is left to "
                "the kernel",
                node, strerror(errno));
    }
}

/* A range to be faulted in: threads take slices of it in turn. */
struct populate {
    uint8_t *base;
    size_t size;
    bool may_touch; /* where the kernel does not know MADV_POPULATE_WRITE (before Linux 5.14) */
    _Atomic size_t next;
    _Atomic int error;
};

enum { SLICE_BYTES = 8 << 20, POPULATE_THREADS_MAX = 16 };

static int populate_slice(const struct populate *p, uint8_t *base, size_t size)
{
    while (madvise(base, size, MADV_POPULATE_WRITE) < 0) {
        if (errno == EINVAL && p->may_touch) {
            memset(base, 0, size);
            return 0;
        }
        if (errno != EINTR && errno != EAGAIN) {
            return errno;
        }
    }
    return 0;
}

/* Between two slices the process's memory map is unlocked, so that other threads can map memory:
 * the control thread tells clients how far loading is. */
static void *populate_slices(void *ctx)
{
    struct populate *p = ctx;
    size_t at;
    while ((at = atomic_fetch_add(&p->next, SLICE_BYTES)) < p->size && !atomic_load(&p->error)) {
        size_t left = p->size - at;
        int error = populate_slice(p, p->base + at, left < SLICE_BYTES ? left : SLICE_BYTES);
        if (error) {
            atomic_store(&p->error, error);
        }
    }
    return NULL;
}

/* Faults every page in, on as many threads as there are CPUs: clearing pages is most of an engine's
 * start. -EINVAL where the kernel does not know how to without risking SIGBUS. */
static int populate(uint8_t *base, size_t size, bool may_touch)
{
    struct populate p = {.base = base, .size = size, .may_touch = may_touch};
    pthread_t threads[POPULATE_THREADS_MAX];
    cpu_set_t cpus;
    size_t n = 0, want = (size - 1) / SLICE_BYTES;
    size_t others =
        sched_getaffinity(0, sizeof cpus, &cpus) == 0 ? (size_t)CPU_COUNT(&cpus) - 1 : 0;
    want = want < others ? want : others;
    while (n < want && n < POPULATE_THREADS_MAX &&
           pthread_create(&threads[n], NULL, populate_slices, &p) == 0) {
        n++;
    }
    populate_slices(&p);
    while (n > 0) {
        pthread_join(threads[--n], NULL);
    }
    return -atomic_load(&p.error);
}

/* Whether most of the range lies on transparent huge pages; asks the kernel to gather it where it
 * does not. */
static bool is_mostly_huge(uint8_t *base, size_t size)
{
    char enabled[64] = "";
    if (!tsr_sysfs_line("", enabled, sizeof enabled,
                        "/sys/kernel/mm/transparent_hugepage/enabled") ||
        strstr(enabled, "[never]")) {
        return false;
    }
    for (int attempt = 0;; attempt++) {
        struct tsr_placement placement;
        tsr_placement_read(&placement, base, size);
        uint64_t huge = placement.bytes_by_pages[TSR_PAGES_THP];
        if (huge >= size - size / 8 || attempt > 0) {
            return huge >= size / 2;
        }
        if (madvise(base, size, MADV_COLLAPSE) < 0 && errno == EINVAL) {
            return huge >= size / 2;
        }
    }
}

int tsr_pages_map(struct tsr_arena *arena, size_t bytes, enum tsr_pages pages)
{
    size_t page = tsr_pages_bytes(pages);
    size_t guard = 4096;
    if (bytes > SIZE_MAX - 2 * page - 2 * guard) {
        return -ENOMEM;
    }
    size_t size = (bytes + page - 1) & ~(page - 1);
    bool hugetlb = pages == TSR_PAGES_1G || pages == TSR_PAGES_2M;

    /* Address space first: room to align, and a page on each side that stays inaccessible (it stops
     * overruns, and keeps the kernel from merging neighbouring arenas into one mapping, which
     * placement could not tell apart). */
    size_t map_size = size + page + 2 * guard;
    uint8_t *map =
        mmap(NULL, map_size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (map == MAP_FAILED) {
        return -errno;
    }
    uint8_t *base = (uint8_t *)(((uintptr_t)map + guard + page - 1) & ~(uintptr_t)(page - 1));

    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
    if (hugetlb) {
        flags |= MAP_HUGETLB | (int)(pages == TSR_PAGES_1G ? MAP_HUGE_1GB : MAP_HUGE_2MB);
    }
    int result = 0;
    if (mmap(base, size, PROT_READ | PROT_WRITE, flags, -1, 0) == MAP_FAILED) {
        result = -errno;
        goto fail;
    }
    if (arena->node >= 0) {
        bind_node(base, size, arena->node);
    }
    if (pages == TSR_PAGES_THP && madvise(base, size, MADV_HUGEPAGE) < 0) {
        result = -errno; /* a kernel without transparent huge pages */
        goto fail;
    }
    if (pages == TSR_PAGES_PLAIN) {
        madvise(base, size, MADV_NOHUGEPAGE);
    }
    madvise(base, size, MADV_DONTDUMP); /* weights are in the file, prompts are nobody's business */

    result = populate(base, size, !hugetlb);
    if (result < 0) {
        goto fail;
    }
    *arena = (struct tsr_arena){
        .base = base,
        .size = size,
        .pages = pages,
        .node = arena->node,
        .locked = hugetlb || mlock(base, size) == 0,
        .map = map,
        .map_size = map_size,
    };
    if (pages == TSR_PAGES_THP && !is_mostly_huge(base, size)) {
        arena->pages = TSR_PAGES_PLAIN;
    }
    return 0;

fail:
    munmap(map, map_size);
    return result;
}
