#include <tsr/memory/placement.h>

#include <inttypes.h>
#include <numaif.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SAMPLES_MAX = 4096 };

/* One mapping of /proc/self/smaps, as far as it concerns us. */
struct vma {
    uintptr_t start, end;
    uint64_t page_bytes, resident, transparent, hugetlb;
};

static void add_vma(struct tsr_placement *p, const struct vma *vma, uintptr_t base, size_t size)
{
    uintptr_t from = vma->start > base ? vma->start : base;
    uintptr_t to = vma->end < base + size ? vma->end : base + size;
    if (from >= to) {
        return;
    }
    /* Counts are of the whole mapping: an even share of them is ours. */
    double share = (double)(to - from) / (double)(vma->end - vma->start);
    if (vma->hugetlb) {
        enum tsr_pages pages =
            vma->page_bytes == tsr_pages_bytes(TSR_PAGES_1G) ? TSR_PAGES_1G : TSR_PAGES_2M;
        p->bytes_by_pages[pages] += (uint64_t)(share * (double)vma->hugetlb);
    } else {
        p->bytes_by_pages[TSR_PAGES_THP] += (uint64_t)(share * (double)vma->transparent);
        p->bytes_by_pages[TSR_PAGES_PLAIN] +=
            (uint64_t)(share * (double)(vma->resident - vma->transparent));
    }
}

static void read_pages(struct tsr_placement *p, uintptr_t base, size_t size)
{
    FILE *file = fopen("/proc/self/smaps", "re");
    if (!file) {
        return;
    }
    char *line = NULL;
    size_t capacity = 0;
    struct vma vma = {0};
    while (getline(&line, &capacity, file) > 0) {
        uint64_t kib;
        char *colon = strchr(line, ':');
        uintptr_t start, end;
        if (sscanf(line, "%" SCNxPTR "-%" SCNxPTR " ", &start, &end) == 2) {
            add_vma(p, &vma, base, size);
            vma = (struct vma){.start = start, .end = end};
            if (start >= base + size) {
                break; /* mappings are in order of address */
            }
        } else if (colon && sscanf(colon, ": %" SCNu64, &kib) == 1) {
            uint64_t bytes = kib * 1024;
            *colon = '\0';
            if (strcmp(line, "KernelPageSize") == 0) {
                vma.page_bytes = bytes;
            } else if (strcmp(line, "Rss") == 0) {
                vma.resident = bytes;
            } else if (strcmp(line, "AnonHugePages") == 0 || strcmp(line, "ShmemPmdMapped") == 0) {
                vma.transparent += bytes;
            } else if (strcmp(line, "Private_Hugetlb") == 0 ||
                       strcmp(line, "Shared_Hugetlb") == 0) {
                vma.hugetlb += bytes;
            }
        }
    }
    add_vma(p, &vma, base, size);
    free(line);
    fclose(file);
}

static void read_nodes(struct tsr_placement *p, uint8_t *base, size_t size)
{
    void *pages[SAMPLES_MAX];
    int status[SAMPLES_MAX];
    size_t n = (size + 4095) / 4096;
    n = n < SAMPLES_MAX ? n : SAMPLES_MAX;
    size_t stride = size / n;
    for (size_t i = 0; i < n; i++) {
        pages[i] = base + i * stride;
        status[i] = -1;
    }
    bool known = move_pages(0, n, pages, NULL, status, 0) == 0;
    for (size_t i = 0; i < n; i++) {
        uint64_t share = i + 1 < n ? stride : size - i * stride;
        if (known && status[i] >= 0 && status[i] < TSR_PLACEMENT_NODES_MAX) {
            p->bytes_by_node[status[i]] += share;
        } else {
            p->bytes_node_unknown += share;
        }
    }
}

void tsr_placement_read(struct tsr_placement *placement, const void *base, size_t size)
{
    *placement = (struct tsr_placement){0};
    if (!size) {
        return;
    }
    read_pages(placement, (uintptr_t)base, size);
    uint64_t resident = 0;
    for (int i = 0; i < TSR_PAGES_COUNT; i++) {
        resident += placement->bytes_by_pages[i];
    }
    placement->bytes_absent = size > resident ? size - resident : 0;
    read_nodes(placement, (uint8_t *)(uintptr_t)base, size);
    for (int n = 0; resident && n < TSR_PLACEMENT_NODES_MAX; n++) {
        double share = (double)placement->bytes_by_node[n] / (double)resident;
        for (int i = 0; i < TSR_PAGES_COUNT; i++) {
            placement->bytes[n][i] = (uint64_t)(share * (double)placement->bytes_by_pages[i]);
        }
    }
}

void tsr_placement_add(struct tsr_placement *sum, const struct tsr_arena *arena)
{
    struct tsr_placement one;
    tsr_placement_read(&one, arena->base, arena->size);
    sum->bytes_absent += one.bytes_absent;
    sum->bytes_node_unknown += one.bytes_node_unknown;
    for (int i = 0; i < TSR_PAGES_COUNT; i++) {
        sum->bytes_by_pages[i] += one.bytes_by_pages[i];
    }
    for (int n = 0; n < TSR_PLACEMENT_NODES_MAX; n++) {
        sum->bytes_by_node[n] += one.bytes_by_node[n];
        for (int i = 0; i < TSR_PAGES_COUNT; i++) {
            sum->bytes[n][i] += one.bytes[n][i];
        }
        if (arena->node >= 0 && n != arena->node) {
            sum->bytes_misplaced += one.bytes_by_node[n];
        }
    }
}

int tsr_placement_text(const struct tsr_placement *p, char *out, size_t size)
{
    uint64_t sum = p->bytes_absent;
    for (int i = 0; i < TSR_PAGES_COUNT; i++) {
        sum += p->bytes_by_pages[i];
    }
    double whole = sum ? (double)sum : 1;
    size_t at = 0;
    int n = snprintf(out, size, "%.2f GiB:", (double)sum / (1024.0 * 1024.0 * 1024.0));
    at += (size_t)n;
    const char *comma = " ";
    for (int i = 0; i < TSR_PAGES_COUNT; i++) {
        if (p->bytes_by_pages[i]) {
            n = snprintf(out + (at < size ? at : size), at < size ? size - at : 0,
                         "%s%s pages %.0f %%", comma, tsr_pages_name((enum tsr_pages)i),
                         100 * (double)p->bytes_by_pages[i] / whole);
            at += (size_t)n;
            comma = ", ";
        }
    }
    if (p->bytes_absent) {
        n = snprintf(out + (at < size ? at : size), at < size ? size - at : 0,
                     "%snot resident %.0f %%", comma, 100 * (double)p->bytes_absent / whole);
        at += (size_t)n;
    }
    comma = "; ";
    for (int i = 0; i < TSR_PLACEMENT_NODES_MAX; i++) {
        if (p->bytes_by_node[i]) {
            n = snprintf(out + (at < size ? at : size), at < size ? size - at : 0,
                         "%snode %d %.0f %%", comma, i, 100 * (double)p->bytes_by_node[i] / whole);
            at += (size_t)n;
            comma = ", ";
        }
    }
    if (p->bytes_node_unknown) {
        n = snprintf(out + (at < size ? at : size), at < size ? size - at : 0,
                     "%snode not told %.0f %%", comma, 100 * (double)p->bytes_node_unknown / whole);
        at += (size_t)n;
    }
    return (int)at;
}
