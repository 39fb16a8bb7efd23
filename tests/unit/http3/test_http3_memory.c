/* What a connection costs, and the blocks that it is made of. */
#include "world.h"

#include "memory_priv.h"

#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

enum { CONNS = 100, WARM = 10 };

static void test_memory_blocks_hold_what_is_asked(void **state)
{
    struct tsr_http3_region region;
    (void)state;
    assert_true(tsr_http3_region_init(&region, (size_t)1 << 30));
    struct tsr_http3_account account = {.region = &region, .max = SIZE_MAX};
    for (size_t size = 1; size <= TSR_HTTP3_BLOCK_MAX - 16; size += size < 5000 ? 1 : 997) {
        uint8_t *block = tsr_http3_malloc(size, &account);
        assert_non_null(block);
        assert_int_equal((uintptr_t)block % 16, 0);
        assert_true(account.used >= size + 16);
        assert_true(account.used <= 64 || account.used <= (size + 16) / 8 * 9 + 16);
        memset(block, 0xa5, size);
        block = tsr_http3_realloc(block, account.used, &account); /* a larger one */
        for (size_t i = 0; block && i < size; i += 61) {
            assert_int_equal(block[i], 0xa5);
        }
        assert_true(block || account.overdrawn);
        tsr_http3_free(block, &account);
        assert_true(!block || account.used == 0);
        account.used = 0;
    }
    assert_null(tsr_http3_malloc(TSR_HTTP3_BLOCK_MAX - 15, &account));
    assert_null(tsr_http3_malloc(SIZE_MAX - 7, &account));
    assert_null(tsr_http3_calloc(SIZE_MAX / 2, 3, &account));
    tsr_http3_region_fini(&region);
}

static void test_memory_accounts_are_bounded(void **state)
{
    struct tsr_http3_region region;
    (void)state;
    assert_true(tsr_http3_region_init(&region, 1 << 20));
    struct tsr_http3_account all = {.region = &region, .max = 2000};
    struct tsr_http3_account account = {.region = &region, .parent = &all, .max = 1000};
    void *block = tsr_http3_malloc(800, &account);
    assert_non_null(block);
    assert_false(account.overdrawn);
    assert_null(tsr_http3_malloc(800, &account));
    assert_true(account.overdrawn);
    struct tsr_http3_account brother = {.region = &region, .parent = &all, .max = SIZE_MAX};
    void *last = tsr_http3_malloc(1000, &brother);
    assert_non_null(last);
    assert_null(tsr_http3_malloc(1000, &brother)); /* together they have no more */
    tsr_http3_free(last, &brother);
    assert_int_equal(all.used, account.used);
    struct tsr_http3_account other = {.region = &region, .max = SIZE_MAX};
    assert_non_null(tsr_http3_malloc(800, &other));
    tsr_http3_free(block, &account);
    assert_ptr_equal(tsr_http3_malloc(800, &other), block); /* what one leaves the next one takes */
    assert_int_equal(region.used, other.used);
    tsr_http3_region_fini(&region);
}

/* What blocks of one size have used up serves another size when they are freed. */
static void test_memory_serves_other_sizes_afterwards(void **state)
{
    enum { SIZES = 4, BYTES = 8 << 20, BLOCKS_MAX = BYTES / 1000 };
    static void *blocks[BLOCKS_MAX];
    static const size_t sizes[SIZES] = {1000, 16000, 300000, 5000};
    struct tsr_http3_region region;
    (void)state;
    assert_true(tsr_http3_region_init(&region, BYTES));
    struct tsr_http3_account account = {.region = &region, .max = SIZE_MAX};
    for (int i = 0; i < 2 * SIZES; i++) {
        size_t n = 0;
        while ((blocks[n] = tsr_http3_malloc(sizes[i % SIZES], &account))) {
            memset(blocks[n++], i, sizes[i % SIZES]);
        }
        assert_true(n >= BYTES / sizes[i % SIZES] / 2);
        while (n) {
            tsr_http3_free(blocks[--n], &account);
        }
        assert_int_equal(region.used, 0);
    }
    tsr_http3_region_fini(&region);
}

/* Where all chunks have other sizes, a larger block will do. */
static void test_memory_larger_block_in_need(void **state)
{
    struct tsr_http3_region region;
    (void)state;
    assert_true(tsr_http3_region_init(&region, 2 << 20));
    struct tsr_http3_account account = {.region = &region, .max = SIZE_MAX};
    void *large = tsr_http3_malloc(2000, &account), *block;
    while ((block = tsr_http3_malloc(300000, &account))) {
        memset(block, 1, 300000);
    }
    void *small = tsr_http3_malloc(1000, &account);
    assert_non_null(small);
    size_t used = region.used;
    tsr_http3_free(small, &account);
    assert_true(used - region.used >= 2000);
    tsr_http3_free(large, &account);
    tsr_http3_region_fini(&region);
}

/* An idle connection whose client has gone without a word: so that what is malloc'ed is the
 * server's. */
static void leave_connection(struct world *w)
{
    struct client *c = world_connect(w, NULL);
    assert_true(c->established);
    client_ask(c, "GET", "/stream", NULL);
    assert_true(world_run(w, second, world_answered));
    world_run(w, 100 * ms, NULL);
    client_free(c);
    w->clients[0] = NULL;
    w->n_clients = w->n_packets = 0;
}

/* 5,000 open connections in 400 MiB are 80 KiB for each, with all that the door has beside. */
static void test_memory_of_a_connection(void **state)
{
    (void)state;
    struct world *w = world_make(NULL);
    fake_reset();
    for (int i = 0; i < WARM; i++) {
        leave_connection(w);
    }
    uint64_t region = world_counts(w)->bytes;
    size_t heap = mallinfo2().uordblks;
    for (int i = 0; i < CONNS; i++) {
        leave_connection(w);
    }
    assert_int_equal(world_counts(w)->conns, WARM + CONNS);
    region = (world_counts(w)->bytes - region) / CONNS;
    heap = mallinfo2().uordblks ? (mallinfo2().uordblks - heap) / CONNS : 0; /* sanitizers: 0 */
    print_message("a connection: %llu bytes of the region, %zu of TLS\n",
                  (unsigned long long)region, heap);
    assert_true(region < 52 << 10);
    assert_true(heap < 8 << 10);
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_memory_blocks_hold_what_is_asked),
        cmocka_unit_test(test_memory_accounts_are_bounded),
        cmocka_unit_test(test_memory_serves_other_sizes_afterwards),
        cmocka_unit_test(test_memory_larger_block_in_need),
        cmocka_unit_test(test_memory_of_a_connection),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    certificate_remove(&world_certificate);
    return failed;
}
