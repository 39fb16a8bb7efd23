#include "memory_priv.h"

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
    *region = (struct tsr_http3_region){.size = size};
    void *base = mmap(NULL, size, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    region->base = base == MAP_FAILED ? NULL : base;
    return region->base;
}

void tsr_http3_region_fini(struct tsr_http3_region *region)
{
    if (region->base) {
        munmap(region->base, region->size);
    }
}

static struct tsr_http3_block *take(struct tsr_http3_region *region, uint32_t class)
{
    struct tsr_http3_block *block = region->free[class];
    if (block) {
        region->free[class] = block->next;
        return block;
    }
    if (region->size - region->touched < size_of(class)) {
        return NULL;
    }
    block = (struct tsr_http3_block *)(region->base + region->touched);
    region->touched += size_of(class);
    return block;
}

static bool can_pay(const struct tsr_http3_account *account, size_t size)
{
    for (; account; account = account->parent) {
        if (account->max - account->used < size) {
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
    block->class = class;
    pay(account, size_of(class));
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
    uint32_t class = block->class;
    pay_back(account, size_of(class));
    block->next = account->region->free[class];
    account->region->free[class] = block;
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
