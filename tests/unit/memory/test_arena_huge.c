/* Real huge pages: reserves a few 2 MiB pages, uses them, and puts the setting back. Needs root. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include <tsr/memory/arena.h>
#include <tsr/memory/placement.h>

static const char *const SETTING = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages";
static const size_t PAGE = 2u << 20;
enum { PAGES = 4 };

static long read_setting(void)
{
    long pages = -1;
    FILE *file = fopen(SETTING, "re");
    if (file) {
        if (fscanf(file, "%ld", &pages) != 1) {
            pages = -1;
        }
        fclose(file);
    }
    return pages;
}

static bool write_setting(long pages)
{
    FILE *file = fopen(SETTING, "we");
    if (!file) {
        return false;
    }
    bool ok = fprintf(file, "%ld", pages) > 0;
    return fclose(file) == 0 && ok && read_setting() == pages;
}

static void test_arena_huge_pages_are_used_and_given_back(void **state)
{
    (void)state;
    uint64_t available = tsr_memory_available();
    struct tsr_arena arena;
    assert_int_equal(tsr_arena_create(&arena, PAGES * PAGE - 100, 0, TSR_PAGES_1G, NULL), 0);
    assert_int_equal(arena.pages, TSR_PAGES_2M);
    assert_true(arena.locked);
    assert_int_equal((uintptr_t)arena.base % PAGE, 0);
    struct tsr_placement placement;
    tsr_placement_read(&placement, arena.base, arena.size);
    assert_int_equal(placement.bytes_by_pages[TSR_PAGES_2M], PAGES * PAGE);
    assert_int_equal(placement.bytes_absent, 0);
    memset(arena.base, 1, arena.size);
    tsr_arena_destroy(&arena);
    assert_true(available > 0);
}

static void test_arena_huge_pages_too_few_are_left_alone(void **state)
{
    (void)state;
    struct tsr_arena arena, small;
    assert_int_equal(tsr_arena_create(&arena, (PAGES + 1) * PAGE, -1, TSR_PAGES_1G, NULL), 0);
    assert_true(arena.pages >= TSR_PAGES_THP);
    assert_int_equal(tsr_arena_create(&small, PAGES * PAGE, -1, TSR_PAGES_1G, NULL), 0);
    assert_int_equal(small.pages, TSR_PAGES_2M);
    tsr_arena_destroy(&small);
    tsr_arena_destroy(&arena);
}

int main(void)
{
    long before = read_setting();
    if (before < 0) {
        printf("skipped: this kernel has no 2 MiB huge pages\n");
        return 77;
    }
    if (before > 0) {
        printf("skipped: %ld huge pages are reserved here already, and may be in use\n", before);
        return 77;
    }
    if (!write_setting(PAGES)) {
        write_setting(before);
        printf("skipped: huge pages can be reserved only by root, in memory that is not too "
               "scattered\n");
        return 77;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_arena_huge_pages_are_used_and_given_back),
        cmocka_unit_test(test_arena_huge_pages_too_few_are_left_alone),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    write_setting(before);
    return failed;
}
