#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include <tsr/memory/placement.h>

static void test_placement_of_nothing_is_zero(void **state)
{
    (void)state;
    struct tsr_placement p;
    char text[64];
    tsr_placement_read(&p, NULL, 0);
    assert_int_equal(p.bytes_absent, 0);
    assert_true(tsr_placement_text(&p, text, sizeof text) > 0);
    assert_string_equal(text, "0.00 GiB:");
}

static void test_placement_tells_touched_from_untouched(void **state)
{
    (void)state;
    enum { BYTES = 1 << 20, GUARD = 4096 };
    /* Inaccessible pages around it keep it a mapping of its own. */
    uint8_t *map = mmap(NULL, BYTES + 2 * GUARD, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(map, MAP_FAILED);
    uint8_t *base = map + GUARD;
    assert_int_equal(mprotect(base, BYTES, PROT_READ | PROT_WRITE), 0);
    madvise(base, BYTES, MADV_NOHUGEPAGE);

    struct tsr_placement p;
    tsr_placement_read(&p, base, BYTES);
    assert_int_equal(p.bytes_absent, BYTES);
    assert_int_equal(p.bytes_by_node[0], 0);

    memset(base, 1, BYTES / 4);
    tsr_placement_read(&p, base, BYTES);
    assert_int_equal(p.bytes_by_pages[TSR_PAGES_PLAIN], BYTES / 4);
    assert_int_equal(p.bytes_absent, BYTES - BYTES / 4);
    uint64_t placed = 0;
    for (int i = 0; i < TSR_PLACEMENT_NODES_MAX; i++) {
        placed += p.bytes_by_node[i];
    }
    assert_int_equal(placed + p.bytes_node_unknown, BYTES);

    memset(base, 1, BYTES);
    tsr_placement_read(&p, base, BYTES);
    assert_int_equal(p.bytes_by_pages[TSR_PAGES_PLAIN], BYTES);
    assert_int_equal(p.bytes_absent, 0);
    munmap(map, BYTES + 2 * GUARD);
}

static void test_placement_neighbouring_arenas_are_told_apart(void **state)
{
    (void)state;
    struct tsr_arena arenas[3];
    for (int i = 0; i < 3; i++) {
        assert_int_equal(tsr_arena_create(&arenas[i], 8192, -1, TSR_PAGES_PLAIN, NULL), 0);
    }
    assert_int_equal(madvise(arenas[1].base, 8192, MADV_DONTNEED) == 0 || arenas[1].locked, 1);
    for (int i = 0; i < 3; i += 2) {
        struct tsr_placement p;
        tsr_placement_read(&p, arenas[i].base, arenas[i].size);
        assert_int_equal(p.bytes_by_pages[TSR_PAGES_PLAIN], 8192);
    }
    for (int i = 0; i < 3; i++) {
        tsr_arena_destroy(&arenas[i]);
    }
}

static void test_placement_of_several_arenas_adds_up(void **state)
{
    (void)state;
    struct tsr_arena arenas[2];
    struct tsr_placement sum = {0};
    uint64_t bytes = 0, placed = 0, joint = 0;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(
            tsr_arena_create(&arenas[i], (size_t)(i + 1) << 16, 0, TSR_PAGES_PLAIN, NULL), 0);
        tsr_placement_add(&sum, &arenas[i]);
        bytes += arenas[i].size;
    }
    for (int n = 0; n < TSR_PLACEMENT_NODES_MAX; n++) {
        placed += sum.bytes_by_node[n];
        for (int i = 0; i < TSR_PAGES_COUNT; i++) {
            joint += sum.bytes[n][i];
        }
    }
    assert_int_equal(sum.bytes_by_pages[TSR_PAGES_PLAIN], bytes);
    assert_int_equal(placed + sum.bytes_node_unknown, bytes);
    assert_int_equal(joint, placed);
    assert_true(sum.bytes_misplaced <= placed - sum.bytes_by_node[0]);
    for (int i = 0; i < 2; i++) {
        tsr_arena_destroy(&arenas[i]);
    }
}

static void test_placement_text_is_one_line_that_is_cut_to_size(void **state)
{
    (void)state;
    struct tsr_placement p = {.bytes_absent = 1u << 28, .bytes_node_unknown = 1u << 29};
    p.bytes_by_pages[TSR_PAGES_2M] = 3u << 28;
    p.bytes_by_node[1] = 1u << 29;
    char text[128], little[20];
    int n = tsr_placement_text(&p, text, sizeof text);
    assert_string_equal(text, "1.00 GiB: 2 MiB pages 75 %, not resident 25 %; node 1 50 %, node "
                              "not told 50 %");
    assert_int_equal(n, strlen(text));
    assert_int_equal(tsr_placement_text(&p, little, sizeof little), n);
    assert_memory_equal(little, text, sizeof little - 1);
    assert_int_equal(little[sizeof little - 1], 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_placement_of_nothing_is_zero),
        cmocka_unit_test(test_placement_tells_touched_from_untouched),
        cmocka_unit_test(test_placement_neighbouring_arenas_are_told_apart),
        cmocka_unit_test(test_placement_of_several_arenas_adds_up),
        cmocka_unit_test(test_placement_text_is_one_line_that_is_cut_to_size),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
