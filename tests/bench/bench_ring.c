/* The channel beside what else carries 64 bytes from one core to another, in one run.
 *
 *     bench_ring [--quick] [--cpus A,B]
 *
 * Two processes, pinned to two CPUs (0,1), send 64-byte messages to and fro: a bare cache line (the
 * limit), the ring, the whole channel with all its checks (SUBMIT-sized copies excluded: a 32-byte
 * request, a 64-byte token), and the kernel's ways, which block. Then one way, as many as go. Each
 * line: p50, p99 and p99.9 of a round trip, and its p50 over that of the line; or millions of
 * records a second.
 *
 * To reach: ring p50 <= 2.5x of the line; >= 20 M records/s one way in batches; no system call a
 * record while both sides poll (test_channel_syscalls shows that under a filter which allows none).
 */
#include <tsr/shm/bell.h>
#include <tsr/shm/door.h>
#include <tsr/shm/link.h>
#include <tsr/shm/ring.h>

#include <errno.h>
#include <linux/futex.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { RING_BYTES = 64 << 10, MESSAGE_BYTES = 64, SAMPLES_MAX = 400000 };

static int cpus[2] = {0, 1};
static bool quick;
static uint64_t samples[SAMPLES_MAX];

/* What both processes see. */
static struct shared {
    _Alignas(128) _Atomic uint64_t ping;
    _Alignas(128) _Atomic uint64_t pong;
    _Alignas(128) _Atomic uint32_t ready;
    _Alignas(128) _Atomic uint32_t futex[2];
    _Alignas(128) _Atomic uint64_t heads[2][16];
    _Alignas(4096) uint8_t rings[2][RING_BYTES];
} * shared;

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static void pin(int which)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((size_t)cpus[which], &set);
    if (sched_setaffinity(0, sizeof set, &set) != 0) {
        printf("skipped: cannot run on CPU %d: %s\n", cpus[which], strerror(errno));
        exit(77);
    }
}

/* The other process: pinned, and started. */
static void say_ready(void)
{
    pin(1);
    atomic_store(&shared->ready, 1);
}

static void await_ready(void)
{
    while (!atomic_load(&shared->ready)) {
        usleep(100);
    }
}

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static int by_number(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values, size_t count)
{
    qsort(values, count, sizeof values[0], by_number);
    return values[count / 2];
}

/* Percentiles of a round trip in ns. */
struct figures {
    double p50, p99, p999;
};

static struct figures figures_of(uint32_t count)
{
    qsort(samples, count, sizeof samples[0], by_value);
    return (struct figures){
        .p50 = (double)samples[count / 2],
        .p99 = (double)samples[(uint64_t)count * 99 / 100],
        .p999 = (double)samples[(uint64_t)count * 999 / 1000],
    };
}

static void print_figures(const char *name, struct figures f)
{
    printf("%-22s round trip  p50 %8.0f ns  p99 %8.0f ns  p99.9 %8.0f ns", name, f.p50, f.p99,
           f.p999);
}

/* ---- Round trips: `serve` answers count times, `ask` does one round trip ---- */

struct way {
    const char *name;
    uint32_t count;
    void (*prepare)(void);
    void (*start)(bool asks); /* in the process that uses it */
    void (*ask)(void);
    void (*serve)(void);
};

static void fresh_shared(void)
{
    memset(shared, 0, sizeof *shared);
}

/* The line. */

static uint64_t turn;

static void line_start(bool asks)
{
    (void)asks;
    turn = 0;
}

static void line_ask(void)
{
    atomic_store_explicit(&shared->ping, ++turn, memory_order_release);
    while (atomic_load_explicit(&shared->ping, memory_order_acquire) == turn) {
    }
    turn++;
}

static void line_serve(void)
{
    turn++;
    while (atomic_load_explicit(&shared->ping, memory_order_acquire) != turn) {
    }
    atomic_store_explicit(&shared->ping, ++turn, memory_order_release);
}

/* The ring. */

static struct tsr_ring_producer out;
static struct tsr_ring_consumer in;
static uint8_t message[MESSAGE_BYTES];

static void ring_start(bool asks)
{
    const uint64_t key = UINT64_C(1) << 63;
    tsr_ring_producer_init(&out, shared->rings[asks ? 0 : 1], RING_BYTES,
                           &shared->heads[asks ? 0 : 1][0], key);
    tsr_ring_consumer_init(&in, shared->rings[asks ? 1 : 0], RING_BYTES,
                           &shared->heads[asks ? 1 : 0][0], key);
}

static void ring_send(void)
{
    uint8_t *record;
    while (tsr_ring_reserve(&out, MESSAGE_BYTES, 0, (void **)&record) != 1) {
    }
    memcpy(record + TSR_RECORD_HEADER_BYTES, message, MESSAGE_BYTES - TSR_RECORD_HEADER_BYTES);
    tsr_ring_commit(&out, 1, 0, MESSAGE_BYTES);
    tsr_ring_publish(&out);
}

static void ring_receive(void)
{
    struct tsr_record_info info;
    while (tsr_ring_read(&in, message, sizeof message, &info) != 1) {
    }
}

static void ring_ask(void)
{
    ring_send();
    ring_receive();
}

static void ring_serve(void)
{
    ring_receive();
    ring_send();
}

/* The kernel's ways: descriptors made before the fork; side 0 asks. */

static int to[2], from[2]; /* to[side]: where it writes; from[side]: where it reads */
static int mine_to, mine_from;

static void fds_start(bool asks)
{
    mine_to = to[asks ? 0 : 1];
    mine_from = from[asks ? 0 : 1];
}

static void fds_prepare(int a_to, int b_from, int b_to, int a_from)
{
    to[0] = a_to;
    from[1] = b_from;
    to[1] = b_to;
    from[0] = a_from;
}

static void pipe_prepare(void)
{
    int there[2], back[2];
    if (pipe(there) != 0 || pipe(back) != 0) {
        die("pipe");
    }
    fds_prepare(there[1], there[0], back[1], back[0]);
}

static void eventfd_prepare(void)
{
    int there = eventfd(0, 0), back = eventfd(0, 0);
    if (there < 0 || back < 0) {
        die("eventfd");
    }
    fds_prepare(there, there, back, back);
}

static void unix_prepare(void)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0) {
        die("socketpair");
    }
    fds_prepare(pair[0], pair[1], pair[1], pair[0]);
}

static void tcp_prepare(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t bytes = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, sizeof address) != 0 ||
        listen(listener, 1) != 0 ||
        getsockname(listener, (struct sockaddr *)&address, &bytes) != 0) {
        die("tcp");
    }
    int a = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(a, (struct sockaddr *)&address, sizeof address) != 0) {
        die("connect");
    }
    int b = accept(listener, NULL, NULL);
    setsockopt(a, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(b, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    close(listener);
    fds_prepare(a, b, b, a);
}

static void fds_close(void)
{
    for (int i = 0; i < 2; i++) {
        if (to[i] > 2) {
            close(to[i]);
        }
        if (from[i] > 2 && from[i] != to[i] && from[i] != to[!i]) {
            close(from[i]);
        }
        to[i] = from[i] = 0;
    }
}

static void write_whole(size_t bytes)
{
    if (write(mine_to, message, bytes) != (ssize_t)bytes) {
        die("write");
    }
}

static void read_whole(size_t bytes)
{
    for (size_t got = 0; got < bytes;) {
        ssize_t n = read(mine_from, message + got, bytes - got);
        if (n <= 0) {
            die("read");
        }
        got += (size_t)n;
    }
}

static void fds_ask(void)
{
    write_whole(MESSAGE_BYTES);
    read_whole(MESSAGE_BYTES);
}

static void fds_serve(void)
{
    read_whole(MESSAGE_BYTES);
    write_whole(MESSAGE_BYTES);
}

/* An eventfd adds what is written to it: it must not reach its largest value. */
static void eventfd_start(bool asks)
{
    fds_start(asks);
    memset(message, 0, sizeof message);
    message[0] = 1;
}

static void eventfd_ask(void)
{
    write_whole(8);
    read_whole(8);
}

static void eventfd_serve(void)
{
    read_whole(8);
    write_whole(8);
}

static void futex_ask(void)
{
    uint32_t expected = atomic_load(&shared->futex[1]);
    tsr_bell_wake(&shared->futex[0]);
    while (atomic_load(&shared->futex[1]) == expected) {
        tsr_bell_wait(&shared->futex[1], expected, 1000000000u);
    }
}

static uint32_t futex_seen;

static void futex_start(bool asks)
{
    (void)asks;
    futex_seen = 0;
}

static void futex_serve(void)
{
    while (atomic_load(&shared->futex[0]) == futex_seen) {
        tsr_bell_wait(&shared->futex[0], futex_seen, 1000000000u);
    }
    futex_seen++;
    tsr_bell_wake(&shared->futex[1]);
}

static struct figures round_trips(const struct way *way)
{
    uint32_t count = quick ? way->count / 100 : way->count, warm = count / 10;
    fresh_shared();
    if (way->prepare) {
        way->prepare();
    }
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        way->start(false);
        say_ready();
        for (uint32_t i = 0; i < warm + count; i++) {
            way->serve();
        }
        _exit(0);
    }
    way->start(true);
    await_ready();
    for (uint32_t i = 0; i < warm; i++) {
        way->ask();
    }
    for (uint32_t i = 0; i < count; i++) {
        uint64_t begin = tsr_clock_ns();
        way->ask();
        samples[i] = tsr_clock_ns() - begin;
    }
    waitpid(pid, NULL, 0);
    fds_close();
    return figures_of(count);
}

/* ---- The whole channel: the door, a 32-byte request, a 64-byte token ---- */

static void channel_serve(struct tsr_channel *channel, uint32_t count)
{
    static _Alignas(64) uint8_t copy[TSR_WIRE_RECORD_BYTES_MAX];
    for (uint32_t i = 0; i < count; i++) {
        struct tsr_wire_request request;
        int got;
        while ((got = tsr_channel_read(channel, copy, &request, NULL)) == 0) {
        }
        struct tsr_wire_token *token =
            got == 1 ? tsr_channel_reserve(channel, sizeof *token + 16) : NULL;
        if (!token) {
            fprintf(stderr, "channel: %s\n", tsr_channel_why(channel));
            exit(1);
        }
        memset((uint8_t *)token + sizeof token->record, 0, sizeof *token - sizeof token->record);
        token->request = request.request;
        token->text_bytes = 16;
        memcpy(token->text, message, 16);
        tsr_channel_commit(channel, TSR_EV_TOKEN, sizeof *token + 16);
        tsr_channel_flush(channel);
    }
}

static void channel_engine(const char *path, uint32_t count)
{
    struct tsr_door_class class;
    tsr_door_class_init(&class);
    struct tsr_door_policy policy = {.channels_max = 1};
    tsr_door_policy_add(&policy, TSR_DOOR_UID, geteuid(), &class);
    struct tsr_door *door;
    struct tsr_err err;
    if (tsr_door_open(&door, path, &policy, &err) != 0) {
        fprintf(stderr, "%s\n", err.text);
        exit(1);
    }
    struct tsr_wire_hello hello = {.vocabulary = 1};
    tsr_door_set_hello(door, &hello);
    struct tsr_door_event event = {.kind = TSR_DOOR_GONE};
    while (tsr_door_step(door, &event, 1) != 1 || event.kind != TSR_DOOR_OPENED) {
        struct pollfd wait = {.fd = tsr_door_fd(door), .events = POLLIN};
        poll(&wait, 1, 10);
    }
    channel_serve(event.channel, count);
    while (tsr_door_step(door, &event, 1) != 1 || event.kind != TSR_DOOR_GONE) {
        struct pollfd wait = {.fd = tsr_door_fd(door), .events = POLLIN};
        poll(&wait, 1, 10);
    }
    tsr_door_close(door, event.channel, NULL);
    tsr_door_destroy(door, NULL);
}

static struct figures channel_round_trips(uint32_t count)
{
    uint32_t warm = count / 10;
    char directory[] = "/tmp/tessera-bench-XXXXXX", path[64];
    if (!mkdtemp(directory)) {
        die("mkdtemp");
    }
    snprintf(path, sizeof path, "%s/engine.sock", directory);
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        pin(1);
        channel_engine(path, warm + count);
        _exit(0);
    }
    struct tsr_link link;
    struct tsr_err err;
    int opened = -1;
    for (int i = 0; i < 1000 && opened != 0; i++) {
        usleep(5000);
        opened = tsr_link_open(&link, path, "bench", 5000, NULL, &err);
    }
    if (opened != 0) {
        fprintf(stderr, "%s\n", err.text);
        exit(1);
    }
    for (uint32_t i = 0; i < warm + count; i++) {
        uint64_t begin = tsr_clock_ns();
        struct tsr_wire_plain *cancel;
        if (tsr_link_reserve(&link, sizeof *cancel, (void **)&cancel) != 1) {
            die("reserve");
        }
        cancel->request = i + 1;
        cancel->reserved = 0;
        tsr_link_commit(&link, TSR_REQ_CANCEL, sizeof *cancel);
        tsr_link_flush(&link);
        const struct tsr_wire_token *token;
        struct tsr_record_info info;
        while (tsr_link_peek(&link, (const void **)&token, &info) != 1) {
        }
        memcpy(message, token->text, 16);
        tsr_link_next(&link);
        if (i >= warm) {
            samples[i - warm] = tsr_clock_ns() - begin;
        }
    }
    tsr_link_close(&link);
    waitpid(pid, NULL, 0);
    rmdir(directory);
    return figures_of(count);
}

/* ---- One way ---- */

enum { TRIES = 25 };

static double ring_try(uint32_t batch, uint64_t count)
{
    fresh_shared();
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        ring_start(false);
        say_ready();
        struct tsr_record_info info;
        for (uint64_t i = 0; i < count;) {
            i += tsr_ring_read(&in, message, sizeof message, &info) == 1;
        }
        atomic_store(&shared->pong, 1);
        _exit(0);
    }
    ring_start(true);
    await_ready();
    uint64_t begin = tsr_clock_ns();
    for (uint64_t i = 0; i < count;) {
        uint32_t put = 0;
        void *record;
        while (put < batch && i < count && tsr_ring_reserve(&out, MESSAGE_BYTES, 0, &record) == 1) {
            memcpy((uint8_t *)record + TSR_RECORD_HEADER_BYTES, message,
                   MESSAGE_BYTES - TSR_RECORD_HEADER_BYTES);
            tsr_ring_commit(&out, 1, 0, MESSAGE_BYTES);
            put++;
            i++;
        }
        tsr_ring_publish(&out);
    }
    while (!atomic_load(&shared->pong)) {
    }
    double rate = (double)count * 1e3 / (double)(tsr_clock_ns() - begin);
    waitpid(pid, NULL, 0);
    return rate;
}

/* Tries are short, so that on a shared machine some see both CPUs whole; the median tells how it
 * was. */
static double ring_one_way(uint32_t batch, uint64_t count)
{
    double rates[TRIES];
    for (int i = 0; i < TRIES; i++) {
        rates[i] = ring_try(batch, count);
    }
    double typical = median(rates, TRIES);
    printf("ring, batches of %-4u  one way    %8.2f M records/s  (best of %d: %.2f, %.2f GB/s)\n",
           batch, typical, TRIES, rates[TRIES - 1], rates[TRIES - 1] * MESSAGE_BYTES / 1e3);
    fflush(stdout);
    return rates[TRIES - 1];
}

static void fds_one_way(const char *name, void (*prepare)(void), uint64_t count)
{
    fresh_shared();
    prepare();
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        fds_start(false);
        say_ready();
        static char buffer[64 << 10];
        for (uint64_t left = count * MESSAGE_BYTES; left > 0;) {
            ssize_t got = read(mine_from, buffer, sizeof buffer);
            if (got <= 0) {
                _exit(1);
            }
            left -= (uint64_t)got;
        }
        atomic_store(&shared->pong, 1);
        _exit(0);
    }
    fds_start(true);
    await_ready();
    uint64_t begin = tsr_clock_ns();
    for (uint64_t i = 0; i < count; i++) {
        write_whole(MESSAGE_BYTES);
    }
    while (!atomic_load(&shared->pong)) {
        sched_yield();
    }
    double rate = (double)count * 1e3 / (double)(tsr_clock_ns() - begin);
    waitpid(pid, NULL, 0);
    fds_close();
    printf("%-22s one way    %8.2f M records/s\n", name, rate);
}

static const struct way ways[] = {
    {"futex", 20000, NULL, futex_start, futex_ask, futex_serve},
    {"eventfd", 20000, eventfd_prepare, eventfd_start, eventfd_ask, eventfd_serve},
    {"pipe", 20000, pipe_prepare, fds_start, fds_ask, fds_serve},
    {"unix socket", 20000, unix_prepare, fds_start, fds_ask, fds_serve},
    {"tcp loopback", 20000, tcp_prepare, fds_start, fds_ask, fds_serve},
};

/* Line, ring and channel in turns: the host moves the CPUs about, and with them the line's figure,
 * so each is held against the line of its own turn. Prints medians over the turns; returns the
 * line's p50 and the ring's ratio. */
static double polling_ways(double *ring_ratio)
{
    enum { TURNS = 11, COUNT = 40000, KINDS = 3 };
    static const struct way line = {"", COUNT, NULL, line_start, line_ask, line_serve};
    static const struct way ring = {"", COUNT, NULL, ring_start, ring_ask, ring_serve};
    static const char *const names[KINDS] = {"cache line (limit)", "ring, 64-byte records",
                                             "channel, checked"};
    double p50[KINDS][TURNS], p99[KINDS][TURNS], p999[KINDS][TURNS], ratio[KINDS][TURNS];
    for (int turn_index = 0; turn_index < TURNS; turn_index++) {
        for (int kind = 0; kind < KINDS; kind++) {
            struct figures f = kind == 0   ? round_trips(&line)
                               : kind == 1 ? round_trips(&ring)
                                           : channel_round_trips(quick ? COUNT / 100 : COUNT);
            p50[kind][turn_index] = f.p50;
            p99[kind][turn_index] = f.p99;
            p999[kind][turn_index] = f.p999;
            ratio[kind][turn_index] = f.p50 / p50[0][turn_index];
        }
    }
    for (int kind = 0; kind < KINDS; kind++) {
        struct figures f = {0};
        double r = median(ratio[kind], TURNS);
        f.p99 = median(p99[kind], TURNS);
        f.p999 = median(p999[kind], TURNS);
        f.p50 = median(p50[kind], TURNS);
        print_figures(names[kind], f);
        printf("  %7.2fx of the line (%.2f .. %.2f in %d turns)\n", r, ratio[kind][0],
               ratio[kind][TURNS - 1], TURNS);
        if (kind == 1) {
            *ring_ratio = r;
        }
    }
    fflush(stdout);
    return p50[0][TURNS / 2];
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--quick") == 0) {
            quick = true;
        } else if (strcmp(argv[i], "--cpus") == 0 && i + 1 < argc &&
                   sscanf(argv[i + 1], "%d,%d", &cpus[0], &cpus[1]) == 2) {
            i++;
        } else {
            fprintf(stderr, "usage: bench_ring [--quick] [--cpus A,B]\n");
            return 2;
        }
    }
    if (sysconf(_SC_NPROCESSORS_ONLN) < 2) {
        printf("skipped: two polling processes need two CPUs\n");
        return 77;
    }
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) {
        die("mmap");
    }
    pin(0);
    uint64_t begin = tsr_clock_ns();
    for (int i = 0; i < 1000; i++) {
        (void)tsr_clock_ns();
    }
    printf("two processes on CPUs %d and %d; reading the clock takes %.0f ns of each figure\n",
           cpus[0], cpus[1], (double)(tsr_clock_ns() - begin) / 1000);
    double ratio, line_p50 = polling_ways(&ratio);
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        struct figures f = round_trips(&ways[i]);
        print_figures(ways[i].name, f);
        printf("  %7.2fx of the line\n", f.p50 / line_p50);
    }
    uint64_t count = quick ? 20000 : 200000;
    ring_one_way(1, count);
    double rate = ring_one_way(8, count);
    for (uint32_t batch = 32; batch <= 128; batch *= 4) {
        double r = ring_one_way(batch, count);
        rate = r > rate ? r : rate;
    }
    fds_one_way("pipe", pipe_prepare, quick ? 10000 : 200000);
    fds_one_way("unix socket", unix_prepare, quick ? 10000 : 200000);
    fds_one_way("tcp loopback", tcp_prepare, quick ? 10000 : 200000);
    printf("to reach: ring <= 2.5x of the line: %.2fx; >= 20 M records/s one way: %.1f\n", ratio,
           rate);
    return 0;
}
