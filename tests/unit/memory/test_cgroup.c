#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <tsr/memory/cgroup.h>

#include "fixture.h"

static void test_cgroup_takes_no_cpus_without_limits(void **state)
{
    (void)state;
    assert_true(isinf(tsr_cgroup_cpus(fixture_root)));
    fixture_write("/proc/self/cgroup", "0::/a/b\n");
    fixture_write("/proc/self/mountinfo",
                  "30 24 0:26 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw\n");
    fixture_write("/sys/fs/cgroup/a/b/cpu.max", "max 100000\n");
    fixture_write("/sys/fs/cgroup/a/cpu.max", "what\n");
    assert_true(isinf(tsr_cgroup_cpus(fixture_root)));
    fixture_write("/sys/fs/cgroup/a/cpu.max", "100000 0\n");
    assert_true(isinf(tsr_cgroup_cpus(fixture_root)));
}

static void test_cgroup_gives_the_least_of_all_levels(void **state)
{
    (void)state;
    fixture_write("/proc/self/cgroup", "0::/a/b\n");
    fixture_write("/proc/self/mountinfo",
                  "30 24 0:26 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw\n");
    fixture_write("/sys/fs/cgroup/a/b/cpu.max", "400000 100000\n");
    assert_true(tsr_cgroup_cpus(fixture_root) == 4);
    fixture_write("/sys/fs/cgroup/a/cpu.max", "75000 50000\n");
    assert_true(tsr_cgroup_cpus(fixture_root) == 1.5);
}

static void test_cgroup_reads_the_first_version(void **state)
{
    (void)state;
    fixture_write("/proc/self/cgroup", "4:cpu,cpuacct:/docker/abc\n");
    fixture_write("/proc/self/mountinfo", "33 28 0:30 /docker/abc /sys/fs/cgroup/cpu ro master:17 "
                                          "- cgroup cgroup rw,cpu,cpuacct\n");
    fixture_write("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
    fixture_write("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n");
    assert_true(isinf(tsr_cgroup_cpus(fixture_root)));
    fixture_write("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "250000\n");
    assert_true(tsr_cgroup_cpus(fixture_root) == 2.5);
}

int main(void)
{
#define WITH_FIXTURE(test) cmocka_unit_test_setup_teardown(test, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        WITH_FIXTURE(test_cgroup_takes_no_cpus_without_limits),
        WITH_FIXTURE(test_cgroup_gives_the_least_of_all_levels),
        WITH_FIXTURE(test_cgroup_reads_the_first_version),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
