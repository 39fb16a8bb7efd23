#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>

#include <tsr/kv/kv.h>

static const struct tsr_kv_shape shape = {
    .layers = 2, .kv_heads = 3, .head_dim = 16, .element_bytes = 2};

static void test_kv_refuses_less_than_a_page(void **unused)
{
    (void)unused;
    struct tsr_kv_pool *pool;
    struct tsr_err err;
    assert_int_equal(tsr_kv_create(&pool, &shape, tsr_kv_page_bytes(&shape) - 1, -1, &err),
                     -EINVAL);
}

static void test_kv_reserve_takes_all_or_nothing(void **unused)
{
    (void)unused;
    struct tsr_kv_pool *pool;
    struct tsr_kv_seq a, b;
    uint32_t pages_a[8], pages_b[2];
    assert_int_equal(tsr_kv_create(&pool, &shape, 5 * tsr_kv_page_bytes(&shape) + 1, -1, NULL), 0);
    assert_int_equal(tsr_kv_pages_total(pool), 5);
    tsr_kv_seq_init(&a, pages_a, 8);
    tsr_kv_seq_init(&b, pages_b, 2);
    assert_int_equal(tsr_kv_reserve(pool, &a, 64 * 5 + 1), -ENOSPC);
    assert_int_equal(a.n_pages, 0);
    assert_int_equal(a.length, 0);
    assert_int_equal(tsr_kv_reserve(pool, &a, 1), 0);
    assert_int_equal(tsr_kv_reserve(pool, &a, 64), 0);
    assert_int_equal(a.n_pages, 1);
    assert_int_equal(tsr_kv_reserve(pool, &a, 65), 0);
    assert_int_equal(a.length, 1); /* as first reserved */
    assert_int_equal(tsr_kv_reserve(pool, &b, 129), -E2BIG);
    assert_int_equal(tsr_kv_reserve(pool, &b, 128), 0);
    assert_int_equal(tsr_kv_pages_free(pool), 1);
    tsr_kv_release(pool, &a);
    tsr_kv_release(pool, &b);
    assert_int_equal(tsr_kv_pages_free(pool), 5);
    assert_int_equal(tsr_kv_reserve(pool, &a, 70), 0);
    assert_int_equal(a.length, 70);
    tsr_kv_release(pool, &a);
    tsr_kv_destroy(pool);
}

static void test_kv_pages_do_not_overlap(void **unused)
{
    (void)unused;
    struct tsr_kv_pool *pool;
    assert_int_equal(tsr_kv_create(&pool, &shape, 2 * tsr_kv_page_bytes(&shape), -1, NULL), 0);
    const uint16_t *before = NULL;
    for (uint32_t page = 0; page < 2; page++) {
        for (uint32_t layer = 0; layer < 2; layer++) {
            for (uint32_t head = 0; head < 3; head++) {
                const uint16_t *keys = tsr_kv_keys(pool, page, layer, head);
                const uint16_t *values = tsr_kv_values(pool, page, layer, head);
                assert_ptr_equal(values, keys + 64 * 16);
                if (before) {
                    assert_ptr_equal(keys, before + 64 * 16);
                }
                before = values;
            }
        }
    }
    tsr_kv_destroy(pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kv_refuses_less_than_a_page),
        cmocka_unit_test(test_kv_reserve_takes_all_or_nothing),
        cmocka_unit_test(test_kv_pages_do_not_overlap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
