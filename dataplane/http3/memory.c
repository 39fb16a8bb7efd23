#include "memory_priv.h"

#include <sanitizer/asan_interface.h> /* its macros do nothing where there is none */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

struct tsr_http3_block {
    union {
        struct tsr_http3_block *next; /* while it is free */
        uint32_t class;               /* while it is used */
    };
    uint64_t pad; /* what follows is aligned to 16 */
    uint8_t bytes[];
};

enum {
    CHUNK_BYTES = 512 << 10, /* at least one block of the largest class */
    IDLE_MAX = 16,           /* chunks that are kept for the next one */
};

/* Where blocks of one class lie. */
struct tsr_http3_chunk {
    struct tsr_http3_chunk *next, *prev; /* of the class's open ones; of those without blocks */
    struct tsr_http3_block *free;        /* blocks that were given back */
    uint32_t class, carved, used;        /* bytes that were given out once; blocks */
};

enum { SMALLEST_LOG2 = 6, SMALLEST = 1 << SMALLEST_LOG2, STEPS_LOG2 = 3, ALIGNMENT = 16 };

/* The smallest, then eight for each doubling. (Of the first eight every other one is used, since
 * sizes are multiples of ALIGNMENT.) */
static size_t size_of(uint32_t class)
{
    if (class == 0) {
        return SMALLEST;
    }
    size_t power = (size_t)SMALLEST << ((class - 1) >> STEPS_LOG2);
    size_t steps = ((class - 1) & ((1u << STEPS_LOG2) - 1)) + 1;
    return power + steps * (power >> STEPS_LOG2);
}

/* The smallest that holds `size`; from TSR_HTTP3_SIZES on: none. */
static uint32_t class_of(size_t size)
{
    if (size <= SMALLEST) {
        return 0;
    }
    size_t last = (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT - 1;
    uint32_t log2 = 63 - (uint32_t)__builtin_clzl(last);
    uint32_t step = (uint32_t)((last - ((size_t)1 << log2)) >> (log2 - STEPS_LOG2));
    return ((log2 - SMALLEST_LOG2) << STEPS_LOG2) + step + 1;
}

bool tsr_http3_region_init(struct tsr_http3_region *region, size_t size)
{
    *region = (struct tsr_http3_region){.n_chunks = (uint32_t)(size / CHUNK_BYTES), .size = size};
    void *base = mmap(NULL, size, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    region->base = base == MAP_FAILED ? NULL : base;
    region->chunks = calloc(region->n_chunks + 1, sizeof *region->chunks);
    for (uint32_t i = 0; region->chunks && i < region->n_chunks; i++) {
        region->chunks[i].next = i + 1 < region->n_chunks ? &region->chunks[i + 1] : NULL;
    }
    region->cold = region->n_chunks ? region->chunks : NULL;
    return region->base && region->chunks;
}

static uint8_t *bytes_of(const struct tsr_http3_region *region, const struct tsr_http3_chunk *chunk)
{
    return region->base + (size_t)(chunk - region->chunks) * CHUNK_BYTES;
}

void tsr_http3_region_fini(struct tsr_http3_region *region)
{
    for (uint32_t i = 0; region->chunks && i < region->n_chunks; i++) {
        if (region->chunks[i].carved) {
            ASAN_UNPOISON_MEMORY_REGION(bytes_of(region, &region->chunks[i]), CHUNK_BYTES);
        }
    }
    if (region->base) {
        munmap(region->base, region->size);
    }
    free(region->chunks);
}

static bool is_full(const struct tsr_http3_chunk *chunk)
{
    return !chunk->free && CHUNK_BYTES - chunk->carved < size_of(chunk->class);
}

static void push(struct tsr_http3_chunk **list, struct tsr_http3_chunk *chunk)
{
    chunk->prev = NULL;
    chunk->next = *list;
    if (*list) {
        (*list)->prev = chunk;
    }
    *list = chunk;
}

static void pull(struct tsr_http3_chunk **list, struct tsr_http3_chunk *chunk)
{
    *(chunk->prev ? &chunk->prev->next : list) = chunk->next;
    if (chunk->next) {
        chunk->next->prev = chunk->prev;
    }
}

/* One with room for a block of the class; where the region has no chunk left, of a larger one. */
static struct tsr_http3_chunk *chunk_for(struct tsr_http3_region *region, uint32_t class)
{
    struct tsr_http3_chunk **list = region->idle ? &region->idle : &region->cold, *chunk = *list;
    if (region->open[class]) {
        return region->open[class];
    }
    if (chunk) {
        region->n_idle -= list == &region->idle;
        pull(list, chunk);
        *chunk = (struct tsr_http3_chunk){.class = class};
        push(&region->open[class], chunk);
        return chunk;
    }
    while (++class < TSR_HTTP3_SIZES && !region->open[class]) {
    }
    return class < TSR_HTTP3_SIZES ? region->open[class] : NULL;
}

static struct tsr_http3_block *take(struct tsr_http3_region *region, uint32_t class)
{
    struct tsr_http3_chunk *chunk = chunk_for(region, class);
    if (!chunk) {
        return NULL;
    }
    struct tsr_http3_block *block = chunk->free;
    if (block) {
        chunk->free = block->next;
    } else {
        block = (struct tsr_http3_block *)(bytes_of(region, chunk) + chunk->carved);
        chunk->carved += (uint32_t)size_of(chunk->class);
        ASAN_UNPOISON_MEMORY_REGION(block, sizeof *block);
        ASAN_POISON_MEMORY_REGION(block->bytes, size_of(chunk->class) - sizeof *block);
    }
    block->class = chunk->class;
    chunk->used++;
    if (is_full(chunk)) {
        pull(&region->open[chunk->class], chunk);
    }
    return block;
}

/* Its memory goes back to the kernel where enough are idle. */
static void retire(struct tsr_http3_region *region, struct tsr_http3_chunk *chunk)
{
    pull(&region->open[chunk->class], chunk);
    if (region->n_idle < IDLE_MAX) {
        region->n_idle++;
        push(&region->idle, chunk);
    } else {
        madvise(bytes_of(region, chunk), CHUNK_BYTES, MADV_DONTNEED);
        push(&region->cold, chunk);
    }
}

static void give(struct tsr_http3_region *region, struct tsr_http3_block *block)
{
    size_t at = (size_t)((uint8_t *)block - region->base) / CHUNK_BYTES;
    struct tsr_http3_chunk *chunk = &region->chunks[at];
    if (is_full(chunk)) {
        push(&region->open[chunk->class], chunk);
    }
    block->next = chunk->free;
    chunk->free = block;
    if (--chunk->used == 0) {
        retire(region, chunk);
    }
}

static bool can_pay(const struct tsr_http3_account *account, size_t size)
{
    for (; account; account = account->parent) {
        if (account->used > account->max || account->max - account->used < size) {
            return false;
        }
    }
    return true;
}

static void pay(struct tsr_http3_account *account, size_t size)
{
    account->region->used += size;
    for (; account; account = account->parent) {
        account->used += size;
    }
}

static void pay_back(struct tsr_http3_account *account, size_t size)
{
    account->region->used -= size;
    for (; account; account = account->parent) {
        account->used -= size;
    }
}

void *tsr_http3_malloc(size_t size, void *ctx)
{
    struct tsr_http3_account *account = ctx;
    uint32_t class = size < TSR_HTTP3_BLOCK_MAX ? class_of(size + sizeof(struct tsr_http3_block))
                                                : TSR_HTTP3_SIZES;
    struct tsr_http3_block *block = NULL;
    if (class < TSR_HTTP3_SIZES && can_pay(account, size_of(class))) {
        block = take(account->region, class);
    }
    if (!block) {
        account->overdrawn = true;
        return NULL;
    }
    ASAN_UNPOISON_MEMORY_REGION(block->bytes, size);
    pay(account, size_of(block->class));
    return block->bytes;
}

static struct tsr_http3_block *block_of(void *bytes)
{
    return (struct tsr_http3_block *)((uint8_t *)bytes - offsetof(struct tsr_http3_block, bytes));
}

void tsr_http3_free(void *bytes, void *ctx)
{
    if (!bytes) {
        return;
    }
    struct tsr_http3_account *account = ctx;
    struct tsr_http3_block *block = block_of(bytes);
    ASAN_POISON_MEMORY_REGION(bytes, size_of(block->class) - sizeof *block);
    pay_back(account, size_of(block->class));
    give(account->region, block);
}

void *tsr_http3_calloc(size_t n, size_t size, void *ctx)
{
    size_t bytes;
    if (__builtin_mul_overflow(n, size, &bytes)) {
        return NULL;
    }
    void *block = tsr_http3_malloc(bytes, ctx);
    if (block) {
        memset(block, 0, bytes);
    }
    return block;
}

void *tsr_http3_realloc(void *bytes, size_t size, void *ctx)
{
    if (!bytes) {
        return tsr_http3_malloc(size, ctx);
    }
    size_t old = size_of(block_of(bytes)->class) - sizeof(struct tsr_http3_block);
    ASAN_UNPOISON_MEMORY_REGION(bytes, old);
    if (size <= old) {
        return bytes;
    }
    void *larger = tsr_http3_malloc(size, ctx);
    if (larger) {
        memcpy(larger, bytes, old);
        tsr_http3_free(bytes, ctx);
    }
    return larger;
}
