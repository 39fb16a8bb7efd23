/* Memory of connections: blocks of fixed sizes out of one region, which is reserved at the start
 * and touched as it is needed. Blocks of one size lie together in chunks: a chunk whose blocks have
 * all been freed serves any size, so that what one attack has needed does not lack afterwards, and
 * most of it goes back to the kernel. No search. */
#ifndef TSR_HTTP3_MEMORY_PRIV_H
#define TSR_HTTP3_MEMORY_PRIV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    TSR_HTTP3_SIZES = 101,           /* of blocks: 64, 80, 96, 112, 128, 144 ... */
    TSR_HTTP3_BLOCK_MAX = 384 << 10, /* the last of them */
};

struct tsr_http3_chunk;

struct tsr_http3_region {
    uint8_t *base;
    size_t size;
    size_t used;
    uint32_t n_chunks, n_idle;
    struct tsr_http3_chunk *chunks;
    struct tsr_http3_chunk *open[TSR_HTTP3_SIZES]; /* which have room for a block */
    struct tsr_http3_chunk *idle;                  /* without blocks */
    struct tsr_http3_chunk *cold;                  /* and without memory of the kernel's */
};

/* What one connection has of it. Where it is full, more fails, and counts. */
struct tsr_http3_account {
    struct tsr_http3_region *region;
    struct tsr_http3_account *parent; /* which pays too; NULL: none */
    size_t used, max;
    bool overdrawn; /* something has failed */
};

bool tsr_http3_region_init(struct tsr_http3_region *region, size_t size); /* false: -ENOMEM */
void tsr_http3_region_fini(struct tsr_http3_region *region);

/* As malloc, calloc, realloc and free are, for the libraries too. `account` is a pointer to
 * struct tsr_http3_account. */
void *tsr_http3_malloc(size_t size, void *account);
void *tsr_http3_calloc(size_t n, size_t size, void *account);
void *tsr_http3_realloc(void *block, size_t size, void *account);
void tsr_http3_free(void *block, void *account);

#endif
