/* Every finding on a machine that is not there: a sound one, with one thing changed. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <tsr/tools/doctor.h>

#include "fixture.h"

#define CPU  "/sys/devices/system/cpu/"
#define NODE "/sys/devices/system/node/"

static const struct {
    const char *path, *text;
} sound[] = {
    {"/proc/cpuinfo", "processor\t: 0\nmodel name\t: Some CPU\nflags\t\t: fpu avx2 avx512f fma\n"},
    {"/proc/meminfo", "MemTotal: 67108864 kB\nMemAvailable: 33554432 kB\nSwapTotal: 0 kB\n"},
    {"/proc/stat", "cpu  10 0 10 970 0 0 0 10 0 0\n"},
    {"/proc/self/cgroup", "0::/system.slice/x.service\n"},
    {"/proc/self/mountinfo", "30 24 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"},
    {"/proc/sys/kernel/io_uring_disabled", "0\n"},
    {"/proc/sys/kernel/numa_balancing", "0\n"},
    {"/proc/sys/kernel/osrelease", "6.1.0-18-amd64\n"},
    {"/sys/fs/cgroup/system.slice/x.service/cpu.max", "max 100000\n"},
    {"/sys/fs/cgroup/system.slice/x.service/memory.max", "max\n"},
    {"/sys/fs/cgroup/system.slice/cpu.max", "max 100000\n"},
    {"/sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n"},
    {"/sys/devices/system/clocksource/clocksource0/current_clocksource", "tsc\n"},
    {"/sys/devices/system/clocksource/clocksource0/available_clocksource", "tsc hpet acpi_pm \n"},
    {CPU "online", "0-7\n"},
    {CPU "isolated", "1-3,5-7\n"},
    {CPU "nohz_full", "1-3,5-7\n"},
    {NODE "online", "0-1\n"},
    {NODE "node0/cpulist", "0-3\n"},
    {NODE "node1/cpulist", "4-7\n"},
    {NODE "node0/meminfo", "Node 0 MemTotal: 33554432 kB\nNode 0 MemFree: 16777216 kB\n"},
    {NODE "node1/meminfo", "Node 1 MemTotal: 33554432 kB\nNode 1 MemFree: 16777216 kB\n"},
    {NODE "node0/hugepages/hugepages-2048kB/nr_hugepages", "4096\n"},
    {NODE "node1/hugepages/hugepages-2048kB/nr_hugepages", "4096\n"},
    {NODE "node0/hugepages/hugepages-2048kB/free_hugepages", "4000\n"},
    {NODE "node1/hugepages/hugepages-2048kB/free_hugepages", "4000\n"},
};

static struct tsr_doctor doctor;

static void make_sound(void)
{
    char path[128];
    for (size_t i = 0; i < sizeof sound / sizeof *sound; i++) {
        fixture_write(sound[i].path, sound[i].text);
    }
    for (int i = 0; i < 8; i++) {
        snprintf(path, sizeof path, CPU "cpu%d/cpufreq/scaling_governor", i);
        fixture_write(path, "performance\n");
    }
    doctor.root = fixture_root;
    doctor.live = (struct tsr_doctor_live){
        .kernels = "avx512",
        .memlock_bytes = UINT64_MAX,
        .nofile = 65536,
        .read_bytes_s = 20e9,
        .read_threads = 8,
        .socket = "/run/tessera/engine.sock",
        .engine_text = "some model",
    };
}

static void look(void)
{
    tsr_topology_read_at(fixture_root, &doctor.topology);
    tsr_doctor_look(&doctor);
}

static const struct tsr_finding *find(const char *name)
{
    for (uint32_t i = 0; i < doctor.n; i++) {
        if (strcmp(doctor.findings[i].name, name) == 0) {
            return &doctor.findings[i];
        }
    }
    return NULL;
}

static void test_doctor_finds_nothing_on_a_sound_machine(void **state)
{
    (void)state;
    make_sound();
    look();
    for (uint32_t i = 0; i < doctor.n; i++) {
        const struct tsr_finding *f = &doctor.findings[i];
        if (f->level != TSR_FINDING_FINE || f->command[0]) {
            fail_msg("%s: %s; %s", f->name, f->text, f->command);
        }
    }
    static const char *const names[] = {"kernel",    "cpu",
                                        "isolation", "governor",
                                        "clock",     "huge-pages",
                                        "engine",    "numa-balancing",
                                        "swap",      "memory-bandwidth",
                                        "memlock",   "nofile",
                                        "io_uring",  "transparent-huge-pages"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        assert_non_null(find(names[i]));
    }
    assert_int_equal(doctor.n, sizeof names / sizeof *names + 1); /* huge pages of two nodes */
    assert_non_null(strstr(find("cpu")->text, "8 CPUs, Some CPU, kernels in use: avx512"));
    assert_non_null(strstr(find("isolation")->text, "cpus = 1-3,5-7 and spin = yes"));
}

/* One finding, with this text and this command, and nothing else. */
static void expect(const char *name, const char *text, const char *command)
{
    look();
    const struct tsr_finding *found = NULL;
    for (uint32_t i = 0; i < doctor.n; i++) {
        const struct tsr_finding *f = &doctor.findings[i];
        if (f->level == TSR_FINDING_MEND) {
            assert_null(found);
            found = f;
        }
    }
    assert_int_equal(doctor.n_mend, 1);
    if (strcmp(found->name, name) != 0 || !strstr(found->text, text) ||
        strcmp(found->command, command) != 0) {
        fail_msg("not %s '%s' '%s', but %s '%s' '%s'", name, text, command, found->name,
                 found->text, found->command);
    }
    make_sound();
}

static void test_doctor_finds_what_a_file_says(void **state)
{
    (void)state;
    static const struct {
        const char *path, *content, *name, *text, *command;
    } cases[] = {
        {"/proc/sys/kernel/osrelease", "5.10.0-8\n", "kernel", "older than 6.1",
         "sudo apt-get install linux-image-amd64 && sudo reboot"},
        {CPU "isolated", "\n", "isolation", "no CPU is kept free",
         "sudo sed -i 's/^GRUB_CMDLINE_LINUX=\"/&isolcpus=managed_irq,domain,1-7 nohz_full=1-7 "
         "rcu_nocbs=1-7 /' /etc/default/grub && sudo update-grub && sudo reboot"},
        {CPU "nohz_full", "(null)\n", "isolation", "tick still interrupts",
         "sudo sed -i 's/^GRUB_CMDLINE_LINUX=\"/&nohz_full=1-3,5-7 rcu_nocbs=1-3,5-7 /' "
         "/etc/default/grub && sudo update-grub && sudo reboot"},
        {CPU "cpu3/cpufreq/scaling_governor", "powersave\n", "governor",
         "1 of 8 CPUs change their frequency by 'powersave'",
         "echo performance | sudo tee " CPU "cpu*/cpufreq/scaling_governor"},
        {"/sys/devices/system/clocksource/clocksource0/current_clocksource", "hpet\n", "clock",
         "'hpet' is a system call",
         "echo tsc | sudo tee /sys/devices/system/clocksource/clocksource0/current_clocksource"},
        {NODE "node1/hugepages/hugepages-2048kB/nr_hugepages", "0\n", "huge-pages",
         "node 1: no huge pages in 32.0 GiB", /* (16 GiB free + 4000 pages) / 2 */
         "echo 6097 | sudo tee " NODE "node1/hugepages/hugepages-2048kB/nr_hugepages"},
        {"/sys/kernel/mm/transparent_hugepage/enabled", "always madvise [never]\n",
         "transparent-huge-pages", "4 KiB pages",
         "echo madvise | sudo tee /sys/kernel/mm/transparent_hugepage/enabled"},
        {"/proc/sys/kernel/numa_balancing", "1\n", "numa-balancing", "page faults",
         "sudo sysctl -w kernel.numa_balancing=0"},
        {"/proc/sys/kernel/io_uring_disabled", "2\n", "io_uring", "io_uring_disabled = 2",
         "sudo sysctl -w kernel.io_uring_disabled=0"},
        {"/proc/sys/kernel/io_uring_disabled", "1\n", "io_uring", "io_uring_disabled = 1",
         "sudo sysctl -w kernel.io_uring_disabled=0"},
        {"/sys/fs/cgroup/system.slice/cpu.max", "150000 100000\n", "cpu-limit", "1.50 of 8 CPUs",
         "echo max | sudo tee /sys/fs/cgroup/system.slice/cpu.max"},
        {"/sys/fs/cgroup/system.slice/x.service/memory.max", "8589934592\n", "memory-limit",
         "8.0 of 64.0 GiB", "echo max | sudo tee /sys/fs/cgroup/system.slice/x.service/memory.max"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        make_sound();
        fixture_write(cases[i].path, cases[i].content);
        expect(cases[i].name, cases[i].text, cases[i].command);
    }
}

static void test_doctor_finds_control_groups_of_version_1(void **state)
{
    (void)state;
    make_sound();
    fixture_write("/proc/self/cgroup", "4:memory:/job\n1:cpu,cpuacct:/job\n");
    fixture_write("/proc/self/mountinfo",
                  "31 24 0:27 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n"
                  "32 24 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n");
    fixture_write("/sys/fs/cgroup/cpu/job/cpu.cfs_period_us", "100000\n");
    fixture_write("/sys/fs/cgroup/cpu/job/cpu.cfs_quota_us", "400000\n");
    fixture_write("/sys/fs/cgroup/memory/job/memory.limit_in_bytes", "9223372036854771712\n");
    expect("cpu-limit", "4.00 of 8 CPUs",
           "echo -1 | sudo tee /sys/fs/cgroup/cpu/job/cpu.cfs_quota_us");
}

static void test_doctor_finds_what_the_process_meets(void **state)
{
    (void)state;
    make_sound();
    doctor.live.memlock_bytes = 8 << 20;
    expect("memlock", "8192 KiB may be locked",
           "echo '* - memlock unlimited' | sudo tee /etc/security/limits.d/tessera-memlock.conf");
    doctor.live.nofile = 1024;
    expect("nofile", "1024 descriptors",
           "echo '* - nofile 65536' | sudo tee /etc/security/limits.d/tessera-nofile.conf");
    doctor.live.io_uring = EPERM;
    expect("io_uring", "seccomp", "docker run --security-opt seccomp=unconfined IMAGE");
    doctor.live.engine = -EACCES;
    expect("engine", "some model", "sudo usermod -aG tessera \"$(id -un)\"");
}

static void test_doctor_finds_swap_where_nothing_is_locked(void **state)
{
    (void)state;
    make_sound();
    fixture_write("/proc/meminfo", "MemTotal: 67108864 kB\nSwapTotal: 1048576 kB\n");
    look();
    assert_int_equal(find("swap")->level, TSR_FINDING_FINE);
    doctor.live.memlock_bytes = 0;
    look();
    assert_int_equal(doctor.n_mend, 2); /* the limit itself is the other one */
    assert_string_equal(find("swap")->command, "sudo swapoff -a");
    doctor.live.is_root = true; /* root locks what it wants, and has no need of sudo */
    look();
    assert_int_equal(doctor.n_mend, 0);
    fixture_write("/proc/sys/kernel/numa_balancing", "1\n");
    look();
    assert_string_equal(find("numa-balancing")->command, "sysctl -w kernel.numa_balancing=0");
}

static void test_doctor_counts_pages_for_a_model(void **state)
{
    (void)state;
    make_sound();
    doctor.live.need_bytes = 16ull << 30; /* 8 GiB a node: just what there is */
    doctor.live.weights_bytes = 10ull << 30;
    look();
    assert_int_equal(doctor.n_mend, 0);
    assert_non_null(strstr(find("memory-bandwidth")->text, "at most 1.9 tokens/s"));
    doctor.live.need_bytes = 20ull << 30;
    look();
    assert_int_equal(doctor.n_mend, 2);
    assert_non_null(strstr(find("huge-pages")->text, "8.0 GiB of huge pages, and the model wants "
                                                     "10.0 GiB"));
    assert_string_equal(find("huge-pages")->command,
                        "echo 5121 | sudo tee " NODE
                        "node0/hugepages/hugepages-2048kB/nr_hugepages");
}

static void test_doctor_notes_what_cannot_be_mended(void **state)
{
    (void)state;
    make_sound();
    fixture_write("/proc/cpuinfo", "flags\t\t: fpu sse2 hypervisor amx_int8\n");
    fixture_write(CPU "online", "0-1\n");
    fixture_write(CPU "isolated", "\n");
    fixture_write(NODE "node1/cpulist", "\n");
    doctor.live.io_uring = ENOSYS;
    doctor.live.engine = -ENOENT;
    look();
    assert_int_equal(doctor.n_mend, 0);
    assert_int_equal(find("cpu")->level, TSR_FINDING_NOTE);
    assert_non_null(strstr(find("cpu")->text, "AMX (not used), neither AVX2"));
    assert_non_null(strstr(find("virtualization")->text, "1.00 % of CPU time was stolen"));
    assert_non_null(strstr(find("isolation")->text, "with 2 cores"));
    doctor.live.kernels = "amx";
    look();
    assert_non_null(strstr(find("cpu")->text, "has AMX, neither"));
    assert_int_equal(find("io_uring")->level, TSR_FINDING_NOTE);
    assert_int_equal(find("engine")->level, TSR_FINDING_NOTE);
    assert_string_equal(find("engine")->command, "sudo systemctl start tessera-engine");
}

/* A container that hides all: nothing is found, nothing breaks. */
static void test_doctor_survives_an_empty_machine(void **state)
{
    (void)state;
    doctor.root = "/nowhere/at/all";
    doctor.live = (struct tsr_doctor_live){
        .kernels = "ref", .socket = "", .nofile = 65536, .memlock_bytes = UINT64_MAX};
    tsr_topology_read_at(doctor.root, &doctor.topology);
    tsr_doctor_look(&doctor);
    assert_int_equal(doctor.n_mend, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_doctor_finds_nothing_on_a_sound_machine, fixture_setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(test_doctor_finds_what_a_file_says, fixture_setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(test_doctor_finds_control_groups_of_version_1,
                                        fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_doctor_finds_what_the_process_meets, fixture_setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(test_doctor_finds_swap_where_nothing_is_locked,
                                        fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_doctor_counts_pages_for_a_model, fixture_setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(test_doctor_notes_what_cannot_be_mended, fixture_setup,
                                        fixture_teardown),
        cmocka_unit_test(test_doctor_survives_an_empty_machine),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
