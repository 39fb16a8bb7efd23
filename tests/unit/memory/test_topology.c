#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <sched.h>

#include <tsr/memory/topology.h>

#include "fixture.h"
#include "memory_priv.h"

static void test_topology_cpulist_refuses_what_is_not_a_list(void **state)
{
    (void)state;
    static const char *const wrong[] = {"a",    "1-",    "-1",   "3-1",  "1,a",       "1 2",
                                        "1--2", "1,2-x", ",1",   "1,,2", "99999999",  "2,1",
                                        "1,1",  "0-3,2", "0x10", "1;2",  "0-99999999"};
    uint32_t out[8];
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        if (tsr_cpulist_parse(wrong[i], out, 8) != -EINVAL) {
            fail_msg("'%s' was taken for a list", wrong[i]);
        }
    }
}

static void test_topology_cpulist_reads_the_kernels_lists(void **state)
{
    (void)state;
    uint32_t out[8];
    assert_int_equal(tsr_cpulist_parse("", out, 8), 0);
    assert_int_equal(tsr_cpulist_parse("\n", out, 8), 0);
    assert_int_equal(tsr_cpulist_parse("5\n", out, 8), 1);
    assert_int_equal(out[0], 5);
    assert_int_equal(tsr_cpulist_parse("0-2,8,10-11\n", out, 8), 6);
    static const uint32_t want[] = {0, 1, 2, 8, 10, 11};
    assert_memory_equal(out, want, sizeof want);
    assert_int_equal(tsr_cpulist_parse("0-99", out, 2), 100); /* more than fit: all are counted */
}

static void test_topology_of_a_bare_machine_is_one_node(void **state)
{
    (void)state;
    static struct tsr_topology t;
    t = (struct tsr_topology){.n_cpus = 2, .cpus = {{.id = 3}, {.id = 9}}};
    fixture_write("/proc/meminfo", "MemTotal: 2048 kB\nMemAvailable: 1024 kB\n");
    tsr_topology_fill(fixture_root, &t);
    assert_int_equal(t.n_nodes, 1);
    assert_int_equal(t.nodes[0].bytes_total, 2048 * 1024);
    assert_int_equal(t.nodes[0].bytes_available, 1024 * 1024);
    assert_int_equal(t.cpus[1].core, 9);
    assert_int_equal(t.n_isolated, 0);
}

static void test_topology_of_two_nodes_with_isolated_cpus(void **state)
{
    (void)state;
    static struct tsr_topology t;
    t = (struct tsr_topology){.n_cpus = 3, .cpus = {{.id = 1}, {.id = 2}, {.id = 7}}};
    fixture_write("/sys/devices/system/node/online", "0,2\n");
    fixture_write("/sys/devices/system/node/node0/cpulist", "0-3\n");
    fixture_write("/sys/devices/system/node/node2/cpulist", "4-7\n");
    fixture_write("/sys/devices/system/node/node2/meminfo",
                  "Node 2 MemTotal: 4096 kB\nNode 2 MemFree: 1024 kB\n");
    fixture_write("/sys/devices/system/node/node2/hugepages/hugepages-2048kB/free_hugepages",
                  "5\n");
    fixture_write("/sys/devices/system/node/node2/hugepages/hugepages-2048kB/nr_hugepages", "7\n");
    fixture_write("/sys/devices/system/cpu/isolated", "2-3,6-7\n");
    fixture_write("/sys/devices/system/cpu/cpu7/topology/thread_siblings_list", "3,7\n");
    tsr_topology_fill(fixture_root, &t);
    assert_int_equal(t.n_nodes, 2);
    assert_int_equal(t.nodes[1].id, 2);
    assert_int_equal(t.nodes[1].bytes_total, 4096 * 1024);
    assert_int_equal(t.nodes[1].bytes_available, 1024 * 1024);
    assert_int_equal(t.nodes[1].free_2m_bytes, 5 << 21);
    assert_int_equal(t.nodes[1].all_2m_bytes, 7 << 21);
    assert_int_equal(t.nodes[1].free_1g_bytes, 0);
    assert_int_equal(t.n_isolated, 4);
    assert_false(t.cpus[0].is_isolated);
    assert_true(t.cpus[1].is_isolated);
    assert_int_equal(t.cpus[1].node, 0);
    assert_int_equal(tsr_topology_cpu(&t, 7)->node, 2);
    assert_int_equal(tsr_topology_cpu(&t, 7)->core, 3);
    assert_null(tsr_topology_cpu(&t, 3));
}

static void test_topology_here_agrees_with_the_affinity_mask(void **state)
{
    (void)state;
    static struct tsr_topology t;
    cpu_set_t mask;
    CPU_ZERO(&mask);
    assert_int_equal(sched_getaffinity(0, sizeof mask, &mask), 0);
    assert_int_equal(tsr_topology_read(&t, NULL), 0);
    assert_int_equal(t.n_cpus, CPU_COUNT(&mask));
    assert_true(t.n_nodes >= 1);
    assert_true(t.nodes[0].bytes_total >= t.nodes[0].bytes_available);
    for (uint32_t i = 0; i < t.n_cpus; i++) {
        assert_true(CPU_ISSET(t.cpus[i].id, &mask));
    }
}

int main(void)
{
#define WITH_FIXTURE(test) cmocka_unit_test_setup_teardown(test, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_topology_cpulist_refuses_what_is_not_a_list),
        cmocka_unit_test(test_topology_cpulist_reads_the_kernels_lists),
        WITH_FIXTURE(test_topology_of_a_bare_machine_is_one_node),
        WITH_FIXTURE(test_topology_of_two_nodes_with_isolated_cpus),
        cmocka_unit_test(test_topology_here_agrees_with_the_affinity_mask),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
