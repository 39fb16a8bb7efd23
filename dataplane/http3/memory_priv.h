/* Memory of connections: blocks of fixed sizes out of one region, which is reserved at the start
 * and touched as it is needed. A freed block serves the next one of its size: no search and no
 * merging, since connections are alike. */
#ifndef TSR_HTTP3_MEMORY_PRIV_H
#define TSR_HTTP3_MEMORY_PRIV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    TSR_HTTP3_SIZES = 101,           /* of blocks: 64, 80, 96, 112, 128, 144 ... */
    TSR_HTTP3_BLOCK_MAX = 384 << 10, /* the last of them */
};

struct tsr_http3_block;

struct tsr_http3_region {
    uint8_t *base;
    size_t size;
    size_t touched; /* the first so many bytes have been given out once */
    size_t used;
    struct tsr_http3_block *free[TSR_HTTP3_SIZES];
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
