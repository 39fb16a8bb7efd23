/* What doctor asks of the running machine. */
#include <errno.h>
#include <linux/io_uring.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <tsr/exec/exec.h>
#include <tsr/memory/arena.h>
#include <tsr/shm/link.h>
#include <tsr/tools/doctor.h>

static uint64_t bytes_or_none(rlim_t limit)
{
    return limit == RLIM_INFINITY ? UINT64_MAX : limit;
}

static int try_io_uring(void)
{
    struct io_uring_params params = {0};
    long fd = syscall(SYS_io_uring_setup, 1, &params);
    if (fd < 0) {
        return errno;
    }
    close((int)fd);
    return 0;
}

static void ask_engine(struct tsr_doctor_live *live)
{
    struct tsr_link link;
    struct tsr_err err = {0};
    struct tsr_link_refusal refusal = {0};
    live->engine = tsr_link_open(&link, live->socket, "tessera doctor", 1000, &refusal, &err);
    if (live->engine == 0) {
        snprintf(live->engine_text, sizeof live->engine_text, "%.*s", (int)sizeof link.hello.model,
                 link.hello.model);
        tsr_link_close(&link);
    } else {
        live->engine = refusal.loading ? 0 : live->engine;
        snprintf(live->engine_text, sizeof live->engine_text, "%s", err.text);
    }
}

/* ---- How fast memory is read ---- */

/* Of a node: far more than its caches hold. */
enum { NODE_BYTES_MIN = 512 << 20, READER_BYTES_MIN = 8 << 20, MEASURE_MS = 300 };

struct reader {
    pthread_t thread;
    atomic_uint *waiting; /* readers that have not begun */
    uint32_t cpu;
    const uint8_t *from;
    size_t bytes; /* a multiple of 4096 */
    double rate;  /* what came of it, bytes/s */
};

static uint64_t sum(const uint8_t *from, size_t bytes)
{
    typedef uint64_t vec __attribute__((vector_size(64)));
    const vec *at = (const vec *)(const void *)from;
    vec a = {0}, b = {0};
    for (size_t i = 0; i < bytes / sizeof *at; i += 2) {
        a += at[i];
        b += at[i + 1];
    }
    a += b;
    return a[0] ^ a[7];
}

static void *read_memory(void *ctx)
{
    struct reader *r = ctx;
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(r->cpu, &set);
    bool allowed = sched_setaffinity(0, sizeof set, &set) == 0;
    atomic_fetch_sub(r->waiting, 1);
    while (atomic_load(r->waiting) > 0) {
        sched_yield();
    }
    uint64_t begin_ns = tsr_clock_ns(), end_ns = begin_ns, bytes = 0, sink = 0;
    while (allowed && end_ns - begin_ns < MEASURE_MS * 1000000ull) {
        sink += sum(r->from, r->bytes);
        bytes += r->bytes;
        end_ns = tsr_clock_ns();
    }
    r->rate = allowed ? (double)bytes * 1e9 / (double)(end_ns - begin_ns) : 0;
    __asm__ volatile("" ::"r"(sink));
    return NULL;
}

/* Readers for the node's CPUs, each with a part of `arena` on that node; 0 where it has none, or no
 * room. */
static uint32_t plan_node(const struct tsr_topology *t, int node, struct tsr_arena *arena,
                          struct reader *readers)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < t->n_cpus; i++) {
        if (t->cpus[i].node == node) {
            readers[n++].cpu = t->cpus[i].id;
        }
    }
    size_t bytes = n * (size_t)READER_BYTES_MIN;
    bytes = bytes > NODE_BYTES_MIN ? bytes : NODE_BYTES_MIN;
    if (n == 0 || tsr_arena_create(arena, bytes, node, TSR_PAGES_THP, NULL) < 0) {
        return 0;
    }
    for (uint32_t i = 0; i < n; i++) {
        readers[i].bytes = bytes / n / 4096 * 4096;
        readers[i].from = arena->base + i * readers[i].bytes;
    }
    return n;
}

/* All CPUs at once, each from its own node. */
static void measure(struct tsr_doctor_live *live, const struct tsr_topology *t)
{
    static struct reader readers[TSR_TOPOLOGY_CPUS_MAX];
    struct tsr_arena arenas[TSR_TOPOLOGY_NODES_MAX] = {0};
    atomic_uint waiting;
    uint32_t n = 0, started = 0;
    for (uint32_t i = 0; i < t->n_nodes; i++) {
        n += plan_node(t, t->nodes[i].id, &arenas[i], readers + n);
    }
    atomic_init(&waiting, n);
    for (; started < n; started++) {
        readers[started].waiting = &waiting;
        if (pthread_create(&readers[started].thread, NULL, read_memory, &readers[started]) != 0) {
            break;
        }
    }
    atomic_fetch_sub(&waiting, n - started);
    for (uint32_t i = 0; i < started; i++) {
        pthread_join(readers[i].thread, NULL);
        live->read_bytes_s += readers[i].rate;
        live->read_threads += readers[i].rate > 0;
    }
    for (uint32_t i = 0; i < t->n_nodes; i++) {
        tsr_arena_destroy(&arenas[i]);
    }
}

void tsr_doctor_live(struct tsr_doctor_live *live, const struct tsr_topology *topology,
                     bool measures)
{
    live->is_root = geteuid() == 0;
    live->kernels = tsr_isa_name(tsr_exec_isa_best());
    struct rlimit memlock = {0}, nofile = {0};
    getrlimit(RLIMIT_MEMLOCK, &memlock);
    getrlimit(RLIMIT_NOFILE, &nofile);
    live->memlock_bytes = bytes_or_none(memlock.rlim_cur);
    live->nofile = bytes_or_none(nofile.rlim_max); /* the engine goes up to it by itself */
    live->io_uring = try_io_uring();
    ask_engine(live);
    if (measures) {
        measure(live, topology);
    }
}
