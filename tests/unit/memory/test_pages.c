/* Machines that refuse: each system call on the way fails in turn, and the arena still comes, on
 * plainer pages. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>

#include <tsr/memory/arena.h>
#include <tsr/memory/placement.h>

enum { POPULATE_WRITE = 23, COLLAPSE = 25 };

static struct {
    int hugetlb_errno;  /* mmap(MAP_HUGETLB) */
    int plain_errno;    /* every other mmap() that is accessible */
    int thp_errno;      /* madvise(MADV_HUGEPAGE) */
    bool thp_ignored;   /* it succeeds, and nothing comes of it */
    int populate_errno; /* madvise(MADV_POPULATE_WRITE) */
    int populate_times; /* so often */
    int mlock_errno;
    int hugetlb_calls, populate_calls;
    size_t mapped_bytes; /* accessible or reserved, and not unmapped: by ranges handed out */
} force;

void *__real_mmap(void *addr, size_t length, int prot, int flags, int fd, off_t offset);
void *__wrap_mmap(void *addr, size_t length, int prot, int flags, int fd, off_t offset);
int __real_madvise(void *addr, size_t length, int advice);
int __wrap_madvise(void *addr, size_t length, int advice);
int __real_mlock(const void *addr, size_t length);
int __wrap_mlock(const void *addr, size_t length);

void *__wrap_mmap(void *addr, size_t length, int prot, int flags, int fd, off_t offset)
{
    int refuse = 0;
    if (flags & MAP_HUGETLB) {
        force.hugetlb_calls++;
        refuse = force.hugetlb_errno;
    } else if (prot != PROT_NONE) {
        refuse = force.plain_errno;
    }
    if (refuse) {
        errno = refuse;
        return MAP_FAILED;
    }
    return __real_mmap(addr, length, prot, flags, fd, offset);
}

int __wrap_madvise(void *addr, size_t length, int advice)
{
    int refuse = 0;
    if (advice == MADV_HUGEPAGE) {
        refuse = force.thp_errno;
        if (force.thp_ignored) {
            advice = MADV_NOHUGEPAGE;
        }
    } else if (advice == POPULATE_WRITE) {
        refuse = force.populate_calls++ < force.populate_times ? force.populate_errno : 0;
    } else if (advice == COLLAPSE && force.thp_ignored) {
        refuse = EINVAL;
    }
    if (refuse) {
        errno = refuse;
        return -1;
    }
    return __real_madvise(addr, length, advice);
}

int __wrap_mlock(const void *addr, size_t length)
{
    if (force.mlock_errno) {
        errno = force.mlock_errno;
        return -1;
    }
    return __real_mlock(addr, length);
}

static const size_t BYTES = 5u << 20;

static void check_resident(struct tsr_arena *arena)
{
    struct tsr_placement placement;
    tsr_placement_read(&placement, arena->base, arena->size);
    assert_int_equal(placement.bytes_absent, 0);
    memset(arena->base, 1, arena->size);
}

static int reset(void **state)
{
    (void)state;
    memset(&force, 0, sizeof force);
    return 0;
}

static void test_pages_fall_back_to_plain_without_thp(void **state)
{
    (void)state;
    struct tsr_arena arena;
    force.hugetlb_errno = ENOMEM;
    force.thp_errno = EINVAL;
    assert_int_equal(tsr_arena_create(&arena, BYTES, -1, TSR_PAGES_1G, NULL), 0);
    assert_int_equal(arena.pages, TSR_PAGES_PLAIN);
    check_resident(&arena);
    tsr_arena_destroy(&arena);
}

static void test_pages_that_only_claim_to_be_huge_are_called_plain(void **state)
{
    (void)state;
    struct tsr_arena arena;
    force.hugetlb_errno = ENOMEM;
    force.thp_ignored = true;
    assert_int_equal(tsr_arena_create(&arena, BYTES, -1, TSR_PAGES_THP, NULL), 0);
    assert_int_equal(arena.pages, TSR_PAGES_PLAIN);
    check_resident(&arena);
    tsr_arena_destroy(&arena);
}

static void test_pages_are_touched_where_the_kernel_cannot_populate(void **state)
{
    (void)state;
    for (enum tsr_pages pages = TSR_PAGES_THP; pages <= TSR_PAGES_PLAIN; pages++) {
        struct tsr_arena arena;
        reset(NULL);
        force.hugetlb_errno = ENOMEM;
        force.populate_errno = EINVAL;
        force.populate_times = 100;
        assert_int_equal(tsr_arena_create(&arena, BYTES, -1, pages, NULL), 0);
        assert_true(arena.pages >= pages);
        check_resident(&arena);
        tsr_arena_destroy(&arena);
    }
}

static void test_pages_populate_survives_interruption(void **state)
{
    (void)state;
    struct tsr_arena arena;
    force.populate_errno = EINTR;
    force.populate_times = 3;
    assert_int_equal(tsr_arena_create(&arena, BYTES, -1, TSR_PAGES_PLAIN, NULL), 0);
    assert_int_equal(force.populate_calls, 4);
    check_resident(&arena);
    tsr_arena_destroy(&arena);
}

static void test_pages_that_cannot_be_faulted_in_are_given_back(void **state)
{
    (void)state;
    struct tsr_arena arena;
    struct tsr_err err;
    force.hugetlb_errno = ENOMEM;
    force.populate_errno = ENOMEM;
    force.populate_times = 100;
    assert_int_equal(tsr_arena_create(&arena, BYTES, -1, TSR_PAGES_1G, &err), -ENOMEM);
    assert_non_null(strstr(err.text, "could not be mapped"));
    assert_null(arena.map);
    assert_int_equal(force.populate_calls, 2); /* transparent, then plain */
    force.populate_times = 0;
    assert_int_equal(tsr_arena_create(&arena, BYTES, -1, TSR_PAGES_1G, &err), 0);
    tsr_arena_destroy(&arena);
}

static void test_pages_refused_by_mmap_are_an_error(void **state)
{
    (void)state;
    struct tsr_arena arena;
    struct tsr_err err;
    force.hugetlb_errno = ENOMEM;
    force.plain_errno = EAGAIN;
    assert_int_equal(tsr_arena_create(&arena, BYTES, -1, TSR_PAGES_1G, &err), -EAGAIN);
    assert_null(arena.map);
}

static void test_pages_need_not_be_locked(void **state)
{
    (void)state;
    struct tsr_arena arena;
    force.hugetlb_errno = ENOMEM;
    force.mlock_errno = EPERM;
    assert_int_equal(tsr_arena_create(&arena, BYTES, -1, TSR_PAGES_THP, NULL), 0);
    assert_false(arena.locked);
    tsr_arena_destroy(&arena);
}

static void test_pages_have_names_and_sizes(void **state)
{
    (void)state;
    assert_string_equal(tsr_pages_name(TSR_PAGES_1G), "1 GiB");
    assert_string_equal(tsr_pages_name(TSR_PAGES_THP), "transparent 2 MiB");
    assert_string_equal(tsr_pages_name(TSR_PAGES_COUNT), "unknown");
    assert_int_equal(tsr_pages_bytes(TSR_PAGES_1G), 1 << 30);
    assert_int_equal(tsr_pages_bytes(TSR_PAGES_COUNT), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_pages_fall_back_to_plain_without_thp, reset),
        cmocka_unit_test_setup(test_pages_that_only_claim_to_be_huge_are_called_plain, reset),
        cmocka_unit_test_setup(test_pages_are_touched_where_the_kernel_cannot_populate, reset),
        cmocka_unit_test_setup(test_pages_populate_survives_interruption, reset),
        cmocka_unit_test_setup(test_pages_that_cannot_be_faulted_in_are_given_back, reset),
        cmocka_unit_test_setup(test_pages_refused_by_mmap_are_an_error, reset),
        cmocka_unit_test_setup(test_pages_need_not_be_locked, reset),
        cmocka_unit_test(test_pages_have_names_and_sizes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
