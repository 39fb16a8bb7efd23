#include "doctor_priv.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <tsr/memory/arena.h>
#include <tsr/memory/cgroup.h>
#include <tsr/memory/sysfs.h>

enum { LIST_BYTES = 256, FEW_CORES = 3 };

static const double GIB = 1024.0 * 1024 * 1024;

void tsr_doctor_say(struct tsr_doctor *d, const char *name, enum tsr_finding_level level,
                    const char *format, ...)
{
    va_list args;
    va_start(args, format);
    struct tsr_finding *f = &d->findings[d->n < TSR_FINDINGS_MAX ? d->n++ : d->n - 1];
    *f = (struct tsr_finding){.name = name, .level = level};
    vsnprintf(f->text, sizeof f->text, format, args);
    va_end(args);
}

void tsr_doctor_mend(struct tsr_doctor *d, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    struct tsr_finding *f = &d->findings[d->n - 1];
    vsnprintf(f->command, sizeof f->command, format, args);
    va_end(args);
}

const char *tsr_doctor_sudo(const struct tsr_doctor *d)
{
    return d->live.is_root ? "" : "sudo ";
}

/* What mends by writing `value` to a file. */
static void mend_write(struct tsr_doctor *d, const char *value, const char *path)
{
    tsr_doctor_mend(d, "echo %s | %stee %s", value, tsr_doctor_sudo(d), path);
}

/* ---- CPUs ---- */

static bool has_flag(const char *flags, const char *flag)
{
    size_t length = strlen(flag);
    for (const char *at = flags; (at = strstr(at, flag)) != NULL; at += length) {
        if ((at == flags || at[-1] == ' ' || at[-1] == '\t') &&
            (at[length] == ' ' || at[length] == '\n' || at[length] == '\0')) {
            return true;
        }
    }
    return false;
}

/* The first line of cpuinfo that begins with key, from behind ": ". */
static bool cpuinfo(const struct tsr_doctor *d, const char *key, char *text, size_t size)
{
    char path[512];
    snprintf(path, sizeof path, "%s/proc/cpuinfo", d->root);
    FILE *file = fopen(path, "re");
    bool found = false;
    while (file && !found && fgets(text, (int)size, file)) {
        char *colon = strchr(text, ':');
        found = strncmp(text, key, strlen(key)) == 0 && colon;
        if (found) {
            memmove(text, colon + 1, strlen(colon));
        }
    }
    if (file) {
        fclose(file);
    }
    text[found ? strcspn(text, "\n") : 0] = '\0';
    return found;
}

static void check_cpu(struct tsr_doctor *d)
{
    char flags[4096], model[128];
    cpuinfo(d, "flags", flags, sizeof flags);
    cpuinfo(d, "model name", model, sizeof model);
    bool amx = has_flag(flags, "amx_int8") || has_flag(flags, "amx_bf16");
    bool amx_used = strncmp(d->live.kernels, "amx", 3) == 0;
    bool avx512 = has_flag(flags, "avx512f"), avx2 = has_flag(flags, "avx2");
    tsr_doctor_say(
        d, "cpu", avx2 || avx512 ? TSR_FINDING_FINE : TSR_FINDING_NOTE,
        "%u CPUs%s%s, kernels in use: %s; the CPU has %s%s%s%s", d->topology.n_cpus,
        model[0] ? "," : "", model, d->live.kernels,
        !amx       ? ""
        : amx_used ? "AMX, "
                   : "AMX (not used), ",
        avx512 ? "AVX-512, " : "", avx2 ? "AVX2" : "neither AVX2 nor AVX-512",
        avx2 || avx512 ? "" : ": the portable kernels are slow; a virtual machine may hide them");
    if (!has_flag(flags, "hypervisor")) {
        return;
    }
    unsigned long long t[8] = {0}, all = 0;
    char line[256] = "";
    tsr_sysfs_line(d->root, line, sizeof line, "/proc/stat");
    sscanf(line, "cpu %llu %llu %llu %llu %llu %llu %llu %llu", &t[0], &t[1], &t[2], &t[3], &t[4],
           &t[5], &t[6], &t[7]);
    for (int i = 0; i < 8; i++) {
        all += t[i];
    }
    tsr_doctor_say(
        d, "virtualization", TSR_FINDING_NOTE,
        "a virtual machine: its neighbours show in the tail (%.2f %% of CPU time was stolen since "
        "it started)",
        all ? 100.0 * (double)t[7] / (double)all : 0.0);
}

/* CPUs whose core is not `spared`, as a list ("1-3,8"). */
static void list_cpus(const struct tsr_topology *t, uint32_t spared, char *out)
{
    size_t at = 0;
    out[0] = '\0';
    for (uint32_t i = 0, n; i < t->n_cpus; i += n) {
        n = 1;
        if (t->cpus[i].core == spared) {
            continue;
        }
        uint32_t first = t->cpus[i].id;
        while (i + n < t->n_cpus && t->cpus[i + n].id == first + n &&
               t->cpus[i + n].core != spared) {
            n++;
        }
        int wrote = snprintf(out + at, LIST_BYTES - at, n == 1 ? "%s%u" : "%s%u-%u", at ? "," : "",
                             first, first + n - 1);
        at += (size_t)wrote < LIST_BYTES - at ? (size_t)wrote : 0;
    }
}

static void mend_boot(struct tsr_doctor *d, const char *parameters)
{
    tsr_doctor_mend(
        d,
        "%ssed -i 's/^GRUB_CMDLINE_LINUX=\"/&%s /' /etc/default/grub && %supdate-grub && "
        "%sreboot",
        tsr_doctor_sudo(d), parameters, tsr_doctor_sudo(d), tsr_doctor_sudo(d));
}

static void check_isolation(struct tsr_doctor *d)
{
    const struct tsr_topology *t = &d->topology;
    char list[LIST_BYTES] = "", ticks[LIST_BYTES] = "", parameters[3 * LIST_BYTES + 64];
    uint32_t cores = 0, spared = t->n_cpus ? t->cpus[0].core : 0;
    for (uint32_t i = 0; i < t->n_cpus; i++) {
        cores += t->cpus[i].core == t->cpus[i].id;
    }
    if (t->n_isolated == 0 && cores < FEW_CORES) {
        tsr_doctor_say(d, "isolation", TSR_FINDING_NOTE,
                       "with %u cores none can be kept free of others", cores);
        return;
    }
    if (t->n_isolated == 0) {
        list_cpus(t, spared, list);
        tsr_doctor_say(
            d, "isolation", TSR_FINDING_MEND,
            "no CPU is kept free of other tasks: the slowest answers are as slow as these make "
            "them");
        snprintf(parameters, sizeof parameters,
                 "isolcpus=managed_irq,domain,%s nohz_full=%s rcu_nocbs=%s", list, list, list);
        mend_boot(d, parameters);
        return;
    }
    tsr_sysfs_line(d->root, list, sizeof list, "/sys/devices/system/cpu/isolated");
    tsr_sysfs_line(d->root, ticks, sizeof ticks, "/sys/devices/system/cpu/nohz_full");
    if (strcmp(ticks, list) != 0) {
        tsr_doctor_say(d, "isolation", TSR_FINDING_MEND,
                       "CPUs %s are isolated, but the scheduler's tick still interrupts them",
                       list);
        snprintf(parameters, sizeof parameters, "nohz_full=%s rcu_nocbs=%s", list, list);
        mend_boot(d, parameters);
        return;
    }
    tsr_doctor_say(d, "isolation", TSR_FINDING_FINE,
                   "CPUs %s are isolated; cpus = %s and spin = yes in engine.conf take them", list,
                   list);
}

static void check_governor(struct tsr_doctor *d)
{
    uint32_t known = 0, slow = 0;
    char governor[64], first[64] = "";
    for (uint32_t i = 0; i < d->topology.n_cpus; i++) {
        if (tsr_sysfs_line(d->root, governor, sizeof governor,
                           "/sys/devices/system/cpu/cpu%u/cpufreq/scaling_governor",
                           d->topology.cpus[i].id)) {
            known++;
            if (strcmp(governor, "performance") != 0 && slow++ == 0) {
                snprintf(first, sizeof first, "%s", governor);
            }
        }
    }
    if (slow) {
        tsr_doctor_say(
            d, "governor", TSR_FINDING_MEND,
            "%u of %u CPUs change their frequency by '%s': after a pause they are slow at first",
            slow, d->topology.n_cpus, first);
        mend_write(d, "performance", "/sys/devices/system/cpu/cpu*/cpufreq/scaling_governor");
    } else {
        tsr_doctor_say(d, "governor", TSR_FINDING_FINE, "%s",
                       known ? "all CPUs keep their frequency (performance)"
                             : "the firmware or the hypervisor decides about frequencies");
    }
}

static void check_clock(struct tsr_doctor *d)
{
    char clock[64], all[256] = "";
    if (!tsr_sysfs_line(d->root, clock, sizeof clock,
                        "/sys/devices/system/clocksource/clocksource0/current_clocksource")) {
        return;
    }
    tsr_sysfs_line(d->root, all, sizeof all,
                   "/sys/devices/system/clocksource/clocksource0/available_clocksource");
    bool calls = strcmp(clock, "hpet") == 0 || strcmp(clock, "acpi_pm") == 0 ||
                 strcmp(clock, "xen") == 0 || strcmp(clock, "jiffies") == 0;
    if (calls && has_flag(all, "tsc")) {
        tsr_doctor_say(d, "clock", TSR_FINDING_MEND,
                       "every look at the clock '%s' is a system call", clock);
        mend_write(d, "tsc", "/sys/devices/system/clocksource/clocksource0/current_clocksource");
    } else {
        tsr_doctor_say(d, "clock", calls ? TSR_FINDING_NOTE : TSR_FINDING_FINE, "%s%s", clock,
                       calls ? ": every look at the clock is a system call" : "");
    }
}

/* ---- Memory ---- */

/* Where the node's pages of 2 MiB are reserved, else all nodes'. */
static bool find_huge_file(const struct tsr_doctor *d, int node, char *path, size_t size)
{
    uint64_t pages;
    snprintf(path, size, "/sys/devices/system/node/node%d/hugepages/hugepages-2048kB/nr_hugepages",
             node);
    if (tsr_sysfs_u64(d->root, &pages, "%s", path)) {
        return true;
    }
    snprintf(path, size, "/proc/sys/vm/nr_hugepages");
    return tsr_sysfs_u64(d->root, &pages, "%s", path);
}

static void check_huge_pages(struct tsr_doctor *d)
{
    const struct tsr_topology *t = &d->topology;
    for (uint32_t i = 0; i < t->n_nodes; i++) {
        const struct tsr_topology_node *n = &t->nodes[i];
        uint64_t have = n->all_1g_bytes > n->all_2m_bytes ? n->all_1g_bytes : n->all_2m_bytes;
        uint64_t want = d->live.need_bytes / t->n_nodes;
        if (n->bytes_total == 0) {
            continue; /* a node of CPUs only */
        }
        if (have > 0 && have >= want) {
            tsr_doctor_say(
                d, "huge-pages", TSR_FINDING_FINE,
                "node %d: %.1f GiB in pages of 1 GiB, %.1f GiB in pages of 2 MiB (%.1f and %.1f "
                "GiB free)",
                n->id, (double)n->all_1g_bytes / GIB, (double)n->all_2m_bytes / GIB,
                (double)n->free_1g_bytes / GIB, (double)n->free_2m_bytes / GIB);
            continue;
        }
        char path[128];
        if (!find_huge_file(d, n->id, path, sizeof path)) {
            tsr_doctor_say(d, "huge-pages", TSR_FINDING_NOTE,
                           "this kernel has none, or hides them");
            continue;
        }
        uint64_t room = n->bytes_available < n->bytes_total ? n->bytes_available : n->bytes_total;
        room += n->free_2m_bytes;
        uint64_t pages = (want ? want : room / 2) / tsr_pages_bytes(TSR_PAGES_2M) + 1;
        if (want) {
            tsr_doctor_say(d, "huge-pages", TSR_FINDING_MEND,
                           "node %d: %.1f GiB of huge pages, and the model wants %.1f GiB on it",
                           n->id, (double)have / GIB, (double)want / GIB);
        } else {
            tsr_doctor_say(
                d, "huge-pages", TSR_FINDING_MEND,
                "node %d: no huge pages in %.1f GiB; the command reserves half of what is free, "
                "`tessera doctor MODEL` says how many a model needs",
                n->id, (double)n->bytes_total / GIB);
        }
        char value[32];
        snprintf(value, sizeof value, "%" PRIu64, pages);
        mend_write(d, value, path);
    }
}

static void check_transparent(struct tsr_doctor *d)
{
    char line[128];
    if (!tsr_sysfs_line(d->root, line, sizeof line,
                        "/sys/kernel/mm/transparent_hugepage/enabled")) {
        return;
    }
    if (strstr(line, "[never]")) {
        tsr_doctor_say(d, "transparent-huge-pages", TSR_FINDING_MEND,
                       "never: what the reserved huge pages do not hold lies on 4 KiB pages");
        mend_write(d, "madvise", "/sys/kernel/mm/transparent_hugepage/enabled");
    } else {
        tsr_doctor_say(d, "transparent-huge-pages", TSR_FINDING_FINE, "%s", line);
    }
}

static void check_numa_balancing(struct tsr_doctor *d)
{
    uint64_t on = 0;
    if (d->topology.n_nodes < 2) {
        return;
    }
    tsr_sysfs_u64(d->root, &on, "/proc/sys/kernel/numa_balancing");
    if (on) {
        tsr_doctor_say(
            d, "numa-balancing", TSR_FINDING_MEND,
            "the kernel unmaps memory to see who uses it: page faults in the engine, whose memory "
            "is placed already");
        tsr_doctor_mend(d, "%ssysctl -w kernel.numa_balancing=0", tsr_doctor_sudo(d));
    } else {
        tsr_doctor_say(d, "numa-balancing", TSR_FINDING_FINE, "off, on %u nodes",
                       d->topology.n_nodes);
    }
}

static void check_swap(struct tsr_doctor *d)
{
    uint64_t swap = 0;
    bool locks = d->live.is_root || d->live.memlock_bytes == UINT64_MAX;
    tsr_sysfs_keyed(d->root, "/proc/meminfo", "SwapTotal:", &swap);
    if (swap && !locks) {
        tsr_doctor_say(d, "swap", TSR_FINDING_MEND,
                       "%.1f GiB of swap, and a limit on locked memory: weights may be swapped out",
                       (double)swap / GIB);
        tsr_doctor_mend(d, "%sswapoff -a", tsr_doctor_sudo(d));
    } else {
        tsr_doctor_say(d, "swap", TSR_FINDING_FINE, "%s",
                       swap ? "the engine's memory is locked" : "none");
    }
}

static void check_bandwidth(struct tsr_doctor *d)
{
    double rate = d->live.read_bytes_s;
    if (rate <= 0) {
        return;
    }
    if (d->live.weights_bytes) {
        tsr_doctor_say(
            d, "memory-bandwidth", TSR_FINDING_FINE,
            "%.1f GB/s are read by %u threads: at most %.1f tokens/s for one request to this model",
            rate / 1e9, d->live.read_threads, rate / (double)d->live.weights_bytes);
    } else {
        tsr_doctor_say(
            d, "memory-bandwidth", TSR_FINDING_FINE,
            "%.1f GB/s are read by %u threads: a model of 1 GB gives at most %.0f tokens/s to one "
            "request",
            rate / 1e9, d->live.read_threads, rate / 1e9);
    }
}

/* ---- Limits ---- */

static void check_limits(struct tsr_doctor *d)
{
    enum { NOFILE = 3 * 1024 + 256 }; /* as the engine asks for */
    const struct tsr_doctor_live *live = &d->live;
    if (live->memlock_bytes != UINT64_MAX && !live->is_root) {
        tsr_doctor_say(d, "memlock", TSR_FINDING_MEND,
                       "%" PRIu64
                       " KiB may be locked: memory on small pages can be swapped out (the systemd "
                       "unit has no such limit; the command holds from the next login on)",
                       live->memlock_bytes / 1024);
        tsr_doctor_mend(
            d, "echo '* - memlock unlimited' | %stee /etc/security/limits.d/tessera-memlock.conf",
            tsr_doctor_sudo(d));
    } else {
        tsr_doctor_say(d, "memlock", TSR_FINDING_FINE, "memory can be locked");
    }
    if (live->nofile < NOFILE) {
        tsr_doctor_say(d, "nofile", TSR_FINDING_MEND,
                       "%" PRIu64
                       " descriptors, and %d are wanted for 1024 clients (the systemd unit has "
                       "them; the command holds from the next login on)",
                       live->nofile, NOFILE);
        tsr_doctor_mend(
            d, "echo '* - nofile 65536' | %stee /etc/security/limits.d/tessera-nofile.conf",
            tsr_doctor_sudo(d));
    } else {
        tsr_doctor_say(d, "nofile", TSR_FINDING_FINE, "%" PRIu64 " descriptors", live->nofile);
    }
}

static void check_io_uring(struct tsr_doctor *d)
{
    uint64_t disabled = 0;
    tsr_sysfs_u64(d->root, &disabled, "/proc/sys/kernel/io_uring_disabled");
    if (disabled == 2 || (disabled == 1 && !d->live.is_root)) {
        tsr_doctor_say(d, "io_uring", TSR_FINDING_MEND,
                       "forbidden by the setting kernel.io_uring_disabled = %" PRIu64
                       ": the dataplane cannot run",
                       disabled);
        tsr_doctor_mend(d, "%ssysctl -w kernel.io_uring_disabled=0", tsr_doctor_sudo(d));
    } else if (d->live.io_uring == EPERM || d->live.io_uring == EACCES) {
        tsr_doctor_say(
            d, "io_uring", TSR_FINDING_MEND,
            "forbidden by a seccomp filter, as in most containers: the dataplane cannot run; start "
            "the container with a profile that allows io_uring_setup, _enter and _register, or "
            "without one");
        tsr_doctor_mend(d, "docker run --security-opt seccomp=unconfined IMAGE");
    } else if (d->live.io_uring) {
        tsr_doctor_say(d, "io_uring", TSR_FINDING_NOTE,
                       "this kernel has none (%s): the dataplane cannot run",
                       strerror(d->live.io_uring));
    } else {
        tsr_doctor_say(d, "io_uring", TSR_FINDING_FINE, "allowed");
    }
}

static void check_cpu_level(void *ctx, const char *folder, bool v2)
{
    struct tsr_doctor *d = ctx;
    char path[1200];
    double cpus = tsr_cgroup_cpus_at(d->root, folder, v2);
    if (cpus < d->topology.n_cpus) {
        tsr_doctor_say(
            d, "cpu-limit", TSR_FINDING_MEND,
            "this control group gets %.2f of %u CPUs: used up, all workers stand still until the "
            "next period",
            cpus, d->topology.n_cpus);
        snprintf(path, sizeof path, "%s/%s", folder, v2 ? "cpu.max" : "cpu.cfs_quota_us");
        mend_write(d, v2 ? "max" : "-1", path);
    }
}

static void check_memory_level(void *ctx, const char *folder, bool v2)
{
    struct tsr_doctor *d = ctx;
    uint64_t limit = UINT64_MAX, total = 0;
    char path[1200];
    const char *file = v2 ? "memory.max" : "memory.limit_in_bytes";
    tsr_sysfs_u64(d->root, &limit, "%s/%s", folder, file);
    tsr_sysfs_keyed(d->root, "/proc/meminfo", "MemTotal:", &total);
    if (limit < total) {
        tsr_doctor_say(
            d, "memory-limit", TSR_FINDING_MEND,
            "this control group gets %.1f of %.1f GiB, what is locked and cached included",
            (double)limit / GIB, (double)total / GIB);
        snprintf(path, sizeof path, "%s/%s", folder, file);
        mend_write(d, v2 ? "max" : "-1", path);
    }
}

static void check_kernel(struct tsr_doctor *d)
{
    char release[128];
    unsigned major = 0, minor = 0;
    if (!tsr_sysfs_line(d->root, release, sizeof release, "/proc/sys/kernel/osrelease") ||
        sscanf(release, "%u.%u", &major, &minor) != 2) {
        return;
    }
    if (major < 6 || (major == 6 && minor < 1)) {
        tsr_doctor_say(d, "kernel", TSR_FINDING_MEND,
                       "%s is older than 6.1, the oldest that is supported", release);
        tsr_doctor_mend(d, "%sapt-get install linux-image-amd64 && %sreboot", tsr_doctor_sudo(d),
                        tsr_doctor_sudo(d));
    } else {
        tsr_doctor_say(d, "kernel", TSR_FINDING_FINE, "%s", release);
    }
}

static void check_engine(struct tsr_doctor *d)
{
    const struct tsr_doctor_live *live = &d->live;
    if (live->engine == 0) {
        tsr_doctor_say(d, "engine", TSR_FINDING_FINE, "%s at %s", live->engine_text, live->socket);
        return;
    }
    bool forbidden = live->engine == -EACCES || live->engine == -EPERM;
    tsr_doctor_say(d, "engine", forbidden ? TSR_FINDING_MEND : TSR_FINDING_NOTE, "%s",
                   live->engine_text);
    if (forbidden) {
        tsr_doctor_mend(d, "%susermod -aG tessera \"$(id -un)\"", tsr_doctor_sudo(d));
    } else if (live->engine == -ENOENT || live->engine == -ECONNREFUSED) {
        tsr_doctor_mend(d, "%ssystemctl start tessera-engine", tsr_doctor_sudo(d));
    }
}

static void look_machine(struct tsr_doctor *d)
{
    check_kernel(d);
    check_cpu(d);
    check_isolation(d);
    check_governor(d);
    check_clock(d);
    tsr_cgroup_each(d->root, "cpu", check_cpu_level, d);
    check_huge_pages(d);
    check_transparent(d);
    check_numa_balancing(d);
    check_swap(d);
    tsr_cgroup_each(d->root, "memory", check_memory_level, d);
    check_bandwidth(d);
    check_limits(d);
    check_io_uring(d);
    check_engine(d);
}

void tsr_doctor_look(struct tsr_doctor *d)
{
    d->n = 0;
    d->n_mend = 0;
    if (d->port.device) {
        tsr_doctor_look_port(d);
    } else {
        look_machine(d);
    }
    for (uint32_t i = 0; i < d->n; i++) {
        d->n_mend += d->findings[i].level == TSR_FINDING_MEND;
    }
}
