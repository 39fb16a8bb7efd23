#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <tsr/memory/arena.h>
#include <tsr/memory/placement.h>

static const size_t MIB = 1u << 20;

static void test_arena_refuses_nonsense(void **state)
{
    (void)state;
    struct tsr_arena arena;
    struct tsr_err err;
    assert_int_equal(tsr_arena_create(&arena, 0, -1, TSR_PAGES_PLAIN, &err), -EINVAL);
    assert_non_null(strstr(err.text, "0 bytes"));
    assert_int_equal(tsr_arena_create(&arena, 1, -1, TSR_PAGES_COUNT, &err), -EINVAL);
    assert_int_equal(tsr_arena_create(&arena, 1, 999, TSR_PAGES_PLAIN, &err), -EINVAL);
    assert_non_null(strstr(err.text, "node 999"));
    assert_int_equal(tsr_arena_create(&arena, 1, -2, TSR_PAGES_PLAIN, &err), -EINVAL);
    assert_null(arena.base);
}

static void test_arena_refuses_more_than_the_machine_has(void **state)
{
    (void)state;
    struct tsr_arena arena;
    struct tsr_err err;
    for (int node = -1; node <= 0; node++) {
        assert_int_equal(tsr_arena_create(&arena, (size_t)1 << 45, node, TSR_PAGES_1G, &err),
                         -ENOMEM);
        assert_non_null(strstr(err.text, "32768.00 GiB")); /* the need */
        assert_non_null(strstr(err.text, "available"));    /* the supply */
        assert_null(arena.base);
    }
    assert_int_equal(tsr_arena_create(&arena, SIZE_MAX, -1, TSR_PAGES_1G, NULL), -ENOMEM);
}

static void test_arena_is_zeroed_resident_and_aligned(void **state)
{
    (void)state;
    static const size_t sizes[] = {1, 4096, 4097, MIB - 1, MIB, 2 * MIB + 1, 9 * MIB};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct tsr_arena arena;
        assert_int_equal(tsr_arena_create(&arena, sizes[i], 0, TSR_PAGES_1G, NULL), 0);
        assert_true(arena.size >= sizes[i]);
        assert_true(arena.pages >= TSR_PAGES_2M);
        assert_int_equal((uintptr_t)arena.base % 4096, 0);
        if (arena.pages != TSR_PAGES_PLAIN) {
            assert_int_equal((uintptr_t)arena.base % tsr_pages_bytes(arena.pages), 0);
        }
        /* One page may lack a PMD entry under pressure, so of the place only residency is exact. */
        struct tsr_placement placement;
        tsr_placement_read(&placement, arena.base, arena.size);
        assert_int_equal(placement.bytes_absent, 0);
        for (size_t b = 0; b < arena.size; b++) {
            if (arena.base[b]) {
                fail_msg("byte %zu of %zu is not zero", b, arena.size);
            }
        }
        memset(arena.base, 0xff, arena.size);
        tsr_arena_destroy(&arena);
        assert_null(arena.base);
    }
}

static void test_arena_hands_out_aligned_pieces_until_full(void **state)
{
    (void)state;
    struct tsr_arena arena;
    assert_int_equal(tsr_arena_create(&arena, 4096, -1, TSR_PAGES_PLAIN, NULL), 0);
    assert_int_equal(arena.size, 4096);
    uint8_t *a = tsr_arena_alloc(&arena, 1, 1);
    uint8_t *b = tsr_arena_alloc(&arena, 100, 64);
    uint8_t *c = tsr_arena_alloc(&arena, 0, 1);
    assert_ptr_equal(a, arena.base);
    assert_ptr_equal(b, arena.base + 64);
    assert_ptr_equal(c, arena.base + 164);
    assert_null(tsr_arena_alloc(&arena, SIZE_MAX, 64));
    assert_null(tsr_arena_alloc(&arena, 4096 - 164 + 1, 1));
    assert_null(tsr_arena_alloc(&arena, 1, 8192));
    assert_int_equal(arena.used, 164); /* a refusal takes nothing */
    assert_non_null(tsr_arena_alloc(&arena, 4096 - 164, 1));
    assert_null(tsr_arena_alloc(&arena, 1, 1));
    tsr_arena_destroy(&arena);
    tsr_arena_destroy(&arena);
    tsr_arena_destroy(NULL);
}

/* Whether a child that writes to this address dies of it. */
static bool write_kills(uint8_t *at)
{
    pid_t child = fork();
    if (child == 0) {
        struct sigaction plain = {.sa_handler = SIG_DFL};
        sigaction(SIGSEGV, &plain, NULL);
        setrlimit(RLIMIT_CORE, &(struct rlimit){0});
        *(volatile uint8_t *)at = 1;
        _exit(0);
    }
    int status = 0;
    waitpid(child, &status, 0);
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV;
}

static void test_arena_stands_between_guard_pages(void **state)
{
    (void)state;
    struct tsr_arena arena;
    assert_int_equal(tsr_arena_create(&arena, 3 * MIB, -1, TSR_PAGES_THP, NULL), 0);
    assert_false(write_kills(arena.base));
    assert_false(write_kills(arena.base + arena.size - 1));
    assert_true(write_kills(arena.base - 1));
    assert_true(write_kills(arena.base + arena.size));
    tsr_arena_destroy(&arena);
}

static void test_arena_respects_the_address_space_limit(void **state)
{
    (void)state;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    skip(); /* the sanitizer's shadow needs the address space */
#endif
    pid_t child = fork();
    if (child == 0) {
        struct tsr_arena arena;
        struct tsr_err err = {0};
        uint64_t before = tsr_memory_available();
        setrlimit(RLIMIT_AS, &(struct rlimit){256 * MIB, 256 * MIB});
        bool planned = before > 256 * MIB && tsr_memory_available() < 256 * MIB;
        bool refused = tsr_arena_create(&arena, 512 * MIB, -1, TSR_PAGES_1G, &err) == -ENOMEM;
        _exit(planned && refused && strstr(err.text, "ulimit") ? 0 : 1);
    }
    int status = 0;
    waitpid(child, &status, 0);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void test_arena_gives_its_memory_back(void **state)
{
    (void)state;
    struct tsr_arena arena;
    struct rusage usage;
    for (int i = 0; i < 64; i++) { /* 4 GiB in all */
        assert_int_equal(tsr_arena_create(&arena, 64 * MIB, -1, TSR_PAGES_THP, NULL), 0);
        tsr_arena_destroy(&arena);
    }
    getrusage(RUSAGE_SELF, &usage);
    assert_true(usage.ru_maxrss < 1024 * 1024);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_arena_refuses_nonsense),
        cmocka_unit_test(test_arena_refuses_more_than_the_machine_has),
        cmocka_unit_test(test_arena_is_zeroed_resident_and_aligned),
        cmocka_unit_test(test_arena_hands_out_aligned_pieces_until_full),
        cmocka_unit_test(test_arena_stands_between_guard_pages),
        cmocka_unit_test(test_arena_respects_the_address_space_limit),
        cmocka_unit_test(test_arena_gives_its_memory_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
