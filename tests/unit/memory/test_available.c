#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "fixture.h"
#include "memory_priv.h"

static const uint64_t GIB = 1u << 30;

static void write_meminfo(void)
{
    fixture_write("/proc/meminfo", "MemTotal:       67108864 kB\nMemFree:         1048576 kB\n"
                                   "MemAvailable:   33554432 kB\n"); /* 32 GiB */
}

static void test_available_knows_nothing_without_proc(void **state)
{
    (void)state;
    assert_int_equal(tsr_memory_ordinary_at(fixture_root), UINT64_MAX);
    assert_int_equal(tsr_memory_huge_at(fixture_root, TSR_PAGES_2M, -1), 0);
    assert_int_equal(tsr_memory_node_at(fixture_root, 0), UINT64_MAX);
}

static void test_available_ignores_broken_numbers(void **state)
{
    (void)state;
    fixture_write("/proc/meminfo", "MemAvailable: what kB\nMemAvailableX: 3 kB\n");
    fixture_write("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages",
                  "99999999999999999999999999\n");
    assert_int_equal(tsr_memory_ordinary_at(fixture_root), UINT64_MAX);
    assert_int_equal(tsr_memory_huge_at(fixture_root, TSR_PAGES_2M, -1), 0);
}

static void test_available_is_what_the_machine_has(void **state)
{
    (void)state;
    write_meminfo();
    assert_int_equal(tsr_memory_ordinary_at(fixture_root), 32 * GIB);
}

static void test_available_counts_cgroup_v2_at_every_level(void **state)
{
    (void)state;
    write_meminfo();
    fixture_write("/proc/self/cgroup", "1:name=systemd:/other\n0::/machine/pod/engine\n");
    fixture_write("/proc/self/mountinfo",
                  "24 1 0:22 / /proc rw - proc proc rw\n"
                  "30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n");
    assert_int_equal(tsr_memory_ordinary_at(fixture_root), 32 * GIB); /* no limit files at all */

    fixture_write("/sys/fs/cgroup/machine/pod/engine/memory.max", "max\n");
    fixture_write("/sys/fs/cgroup/machine/pod/memory.max", "8589934592\n");     /* 8 GiB */
    fixture_write("/sys/fs/cgroup/machine/pod/memory.current", "6442450944\n"); /* 6 GiB used */
    assert_int_equal(tsr_memory_ordinary_at(fixture_root), 2 * GIB);

    fixture_write("/sys/fs/cgroup/machine/pod/memory.stat", /* 3 GiB of it page cache */
                  "anon 1\nfile 5\ninactive_file 1073741824\nactive_file 2147483648\n");
    assert_int_equal(tsr_memory_ordinary_at(fixture_root), 5 * GIB);

    fixture_write("/sys/fs/cgroup/machine/memory.max", "max\n");
    fixture_write("/sys/fs/cgroup/machine/memory.high", "4294967296\n");
    fixture_write("/sys/fs/cgroup/machine/memory.current", "1073741824\n");
    assert_int_equal(tsr_memory_ordinary_at(fixture_root), 3 * GIB);

    fixture_write("/sys/fs/cgroup/machine/memory.current", "5368709120\n"); /* above its limit */
    assert_int_equal(tsr_memory_ordinary_at(fixture_root), 0);
}

static void test_available_counts_cgroup_v1(void **state)
{
    (void)state;
    write_meminfo();
    fixture_write("/proc/self/cgroup", "4:cpu,memory:/docker/abc\n3:cpuset:/docker/abc\n0::/\n");
    /* A container without a cgroup namespace: the mount is its own part of the hierarchy. */
    fixture_write("/proc/self/mountinfo",
                  "33 28 0:30 /docker/abc /sys/fs/cgroup/memory ro master:17 - cgroup cgroup "
                  "rw,cpu,memory\n");
    fixture_write("/sys/fs/cgroup/memory/memory.limit_in_bytes", "4294967296\n");
    fixture_write("/sys/fs/cgroup/memory/memory.usage_in_bytes", "3221225472\n");
    fixture_write("/sys/fs/cgroup/memory/memory.stat", "cache 9\ntotal_inactive_file 1073741824\n");
    assert_int_equal(tsr_memory_ordinary_at(fixture_root), 2 * GIB);
    fixture_write("/sys/fs/cgroup/memory/memory.limit_in_bytes",
                  "9223372036854771712\n"); /* none */
    assert_int_equal(tsr_memory_ordinary_at(fixture_root), 32 * GIB);
}

static void test_available_counts_huge_pages_that_nobody_was_promised(void **state)
{
    (void)state;
    fixture_write("/sys/kernel/mm/hugepages/hugepages-1048576kB/free_hugepages", "10\n");
    fixture_write("/sys/kernel/mm/hugepages/hugepages-1048576kB/resv_hugepages", "3\n");
    fixture_write("/sys/devices/system/node/node1/hugepages/hugepages-1048576kB/free_hugepages",
                  "2\n");
    assert_int_equal(tsr_memory_huge_at(fixture_root, TSR_PAGES_1G, -1), 7 * GIB);
    assert_int_equal(tsr_memory_huge_at(fixture_root, TSR_PAGES_1G, 1), 2 * GIB);
    fixture_write("/sys/kernel/mm/hugepages/hugepages-1048576kB/resv_hugepages", "11\n");
    assert_int_equal(tsr_memory_huge_at(fixture_root, TSR_PAGES_1G, -1), 0);
}

static void test_available_counts_huge_pages_that_hold_a_whole_arena(void **state)
{
    (void)state;
    const uint64_t mib = 1u << 20;
    fixture_write("/sys/kernel/mm/hugepages/hugepages-1048576kB/resv_hugepages", "0\n");
    fixture_write("/sys/kernel/mm/hugepages/hugepages-2048kB/resv_hugepages", "0\n");
    fixture_write("/sys/kernel/mm/hugepages/hugepages-1048576kB/free_hugepages", "3\n");
    fixture_write("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "512\n"); /* 1 GiB */
    static const struct {
        uint64_t mib[3]; /* on 1G, 2M and 1G at best */
        uint64_t held;
    } cases[] = {
        {{3072, 1024, 0}, 4096},
        {{3073, 100, 0}, 100}, /* three 1 GiB pages and three quarters are no arena */
        {{2049, 100, 900},
         2149 + 900},                 /* the second takes from the 2 MiB pages what the third has */
        {{2049, 200, 900}, 2249},     /* ... not, now */
        {{100, 0, 1025}, 100 + 1025}, /* less than half a page does not take one */
        {{1, 1, 1}, 3},
        {{4096, 4096, 4096}, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct tsr_memory_need needs[] = {{cases[i].mib[0] * mib, TSR_PAGES_1G},
                                                {cases[i].mib[1] * mib, TSR_PAGES_2M},
                                                {cases[i].mib[2] * mib, TSR_PAGES_1G}};
        uint64_t held = tsr_memory_huge_for_at(fixture_root, needs, 3);
        if (held != cases[i].held * mib) {
            fail_msg("case %zu: %llu MiB", i, (unsigned long long)(held / mib));
        }
    }
}

static void test_available_on_a_node_counts_its_page_cache(void **state)
{
    (void)state;
    fixture_write("/sys/devices/system/node/node1/meminfo",
                  "Node 1 MemTotal:       33554432 kB\nNode 1 MemFree:         1048576 kB\n"
                  "Node 1 Active(file):    1048576 kB\nNode 1 Inactive(file):  1048576 kB\n"
                  "Node 1 FilePages:       9048576 kB\n");
    assert_int_equal(tsr_memory_node_at(fixture_root, 1), 3 * GIB);
    assert_int_equal(tsr_memory_node_at(fixture_root, 2), UINT64_MAX);
}

int main(void)
{
#define WITH_FIXTURE(test) cmocka_unit_test_setup_teardown(test, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        WITH_FIXTURE(test_available_knows_nothing_without_proc),
        WITH_FIXTURE(test_available_ignores_broken_numbers),
        WITH_FIXTURE(test_available_is_what_the_machine_has),
        WITH_FIXTURE(test_available_counts_cgroup_v2_at_every_level),
        WITH_FIXTURE(test_available_counts_cgroup_v1),
        WITH_FIXTURE(test_available_counts_huge_pages_that_nobody_was_promised),
        WITH_FIXTURE(test_available_counts_huge_pages_that_hold_a_whole_arena),
        WITH_FIXTURE(test_available_on_a_node_counts_its_page_cache),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
