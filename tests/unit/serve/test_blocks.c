#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <tsr/serve/blocks.h>

static void test_blocks_refuse_sizes(void **state)
{
    (void)state;
    struct tsr_blocks blocks;
    struct tsr_err err = {0};
    assert_int_equal(tsr_blocks_create(&blocks, 0, &err), -EINVAL);
    assert_non_null(strstr(err.text, "memory for prompts"));
    assert_int_equal(tsr_blocks_create(&blocks, UINT64_MAX, &err), -EINVAL);
}

static void test_blocks_take_cut_and_give(void **state)
{
    (void)state;
    struct tsr_blocks blocks;
    struct tsr_run a, b, c;
    assert_int_equal(tsr_blocks_create(&blocks, 10 * TSR_BLOCK_BYTES, NULL), 0);
    assert_int_equal(blocks.free, 10);
    assert_false(tsr_blocks_take(&blocks, 10 * TSR_BLOCK_BYTES + 1, &a));
    assert_int_equal(a.n, 0);
    assert_true(tsr_blocks_take(&blocks, 4 * TSR_BLOCK_BYTES, &a));
    assert_true(tsr_blocks_take(&blocks, 3 * TSR_BLOCK_BYTES + 1, &b));
    assert_int_equal(b.n, 4);
    assert_int_equal((uintptr_t)a.base % 64, 0);
    memset(a.base, 1, 4 * TSR_BLOCK_BYTES);
    memset(b.base, 2, 4 * TSR_BLOCK_BYTES);

    /* Two at the end and three in the middle: five free, not in one run. */
    tsr_blocks_cut(&blocks, &a, 100);
    assert_int_equal(a.n, 1);
    assert_int_equal(blocks.free, 5);
    assert_false(tsr_blocks_take(&blocks, 4 * TSR_BLOCK_BYTES, &c));
    assert_true(tsr_blocks_take(&blocks, 3 * TSR_BLOCK_BYTES, &c));
    assert_true(c.base > a.base && c.base < b.base);
    assert_int_equal(a.base[99], 1);
    assert_int_equal(b.base[0], 2);

    tsr_blocks_give(&blocks, &a);
    tsr_blocks_give(&blocks, &b);
    tsr_blocks_give(&blocks, &c);
    tsr_blocks_give(&blocks, &c);
    assert_int_equal(blocks.free, 10);
    assert_true(tsr_blocks_take(&blocks, 10 * TSR_BLOCK_BYTES, &a));
    tsr_blocks_give(&blocks, &a);
    tsr_blocks_destroy(&blocks);
}

/* Random takes, cuts and gives: runs never overlap, and everything comes back. */
static void test_blocks_random(void **state)
{
    (void)state;
    enum { N = 64, RUNS = 16 };
    struct tsr_blocks blocks;
    struct tsr_run runs[RUNS] = {{0}};
    uint32_t rng = 7;
    assert_int_equal(tsr_blocks_create(&blocks, N * TSR_BLOCK_BYTES, NULL), 0);
    for (uint32_t step = 0; step < 20000; step++) {
        rng = rng * 1664525 + 1013904223;
        struct tsr_run *run = &runs[(rng >> 8) % RUNS];
        uint32_t size = 1 + (rng >> 16) % 12;
        if (run->n == 0) {
            tsr_blocks_take(&blocks, size * TSR_BLOCK_BYTES, run);
        } else if (size < run->n) {
            tsr_blocks_cut(&blocks, run, size * TSR_BLOCK_BYTES);
        } else {
            tsr_blocks_give(&blocks, run);
        }
        uint8_t owner[N] = {0};
        uint32_t used = 0;
        for (uint32_t i = 0; i < RUNS; i++) {
            for (uint32_t j = 0; j < runs[i].n; j++) {
                assert_int_equal(owner[runs[i].first + j]++, 0);
                assert_int_equal(blocks.taken[runs[i].first + j], 1);
                used++;
            }
        }
        assert_int_equal(used + blocks.free, N);
    }
    for (uint32_t i = 0; i < RUNS; i++) {
        tsr_blocks_give(&blocks, &runs[i]);
    }
    assert_int_equal(blocks.free, N);
    tsr_blocks_destroy(&blocks);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_blocks_refuse_sizes),
        cmocka_unit_test(test_blocks_take_cut_and_give),
        cmocka_unit_test(test_blocks_random),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
