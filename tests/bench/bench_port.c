/* Small datagrams there and back between two processes, each with a port of its own that spins:
 * packets per second at the echoing side, with so many on their way, and the time there and back of
 * one alone.
 *
 *     bench_port [--quick] [SERVER_DEVICE CLIENT_DEVICE]
 *
 * Without devices: memif, beside the kernel's sockets on loopback. Devices are DPDK's, such as
 * net_af_xdp0,iface=v0 (with 10.78.0.1 on it) and net_af_packet0,iface=v1; to be held against
 * testpmd's (--forward-mode=5tswap) on the same link. */
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <tsr/port/port.h>
#include <tsr/shm/log.h>

enum { PAYLOAD = 22, SAMPLES_MAX = 20000 };

static const struct tsr_address server = {{10, 78, 0, 1}, 4478, 4, 0};
static const struct tsr_address client = {{10, 78, 0, 2}, 4479, 4, 0};
static const struct tsr_address server_lo = {{127, 0, 0, 1}, 4478, 4, 0};
static const struct tsr_address client_lo = {{127, 0, 0, 1}, 4479, 4, 0};

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static struct tsr_port *open_port(const char *device, const struct tsr_address *address, int cpu)
{
    cpu_set_t cpus;
    CPU_ZERO(&cpus);
    CPU_SET((size_t)cpu, &cpus);
    sched_setaffinity(0, sizeof cpus, &cpus);
    struct tsr_port_options options = {
        .kind = device ? TSR_PORT_DPDK : TSR_PORT_SOCKET,
        .listen[0] = {.address = *address, .prefix = 24},
        .n_listen = 1,
        .queues = 1,
        .device = device,
        .no_huge = true,
        .cpu = cpu,
    };
    struct tsr_port *port;
    struct tsr_err err = {0};
    if (tsr_port_create(&port, &options, &err) < 0) {
        printf("skipped: %s\n", err.text);
        exit(77);
    }
    return port;
}

static void echo(void *ctx, const struct tsr_datagram *datagram)
{
    size_t capacity;
    uint8_t *out = tsr_port_way.room(ctx, &datagram->path, &capacity);
    if (out && datagram->size <= capacity) {
        memcpy(out, datagram->bytes, datagram->size);
        tsr_port_way.send(ctx, &datagram->path, datagram->size, datagram->ecn);
    }
}

static pid_t start_server(const char *device, const struct tsr_address *address)
{
    int ready[2];
    char byte = 0;
    if (pipe(ready) < 0) {
        exit(1);
    }
    pid_t pid = fork();
    if (pid != 0) {
        close(ready[1]);
        if (read(ready[0], &byte, 1) != 1) {
            exit(77); /* its reason is printed */
        }
        close(ready[0]);
        return pid;
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    struct tsr_port *port = open_port(device, address, 0);
    if (write(ready[1], &byte, 1) != 1) {
        exit(1);
    }
    for (;;) {
        tsr_port_poll(port, echo, port, now_ns());
        tsr_port_flush(port);
    }
}

static uint64_t came;

static void count(void *ctx, const struct tsr_datagram *datagram)
{
    (void)ctx, (void)datagram;
    came++;
}

static bool send_one(struct tsr_port *port, const struct tsr_path *path)
{
    size_t capacity;
    uint8_t *out = tsr_port_way.room(port, path, &capacity);
    if (!out) {
        return false;
    }
    memset(out, 7, PAYLOAD);
    tsr_port_way.send(port, path, PAYLOAD, 0);
    return true;
}

/* Keeps `window` on their way until `packets` have come back; what is lost is sent again after 20
 * ms of silence. */
static double run(struct tsr_port *port, const struct tsr_path *path, uint64_t window,
                  uint64_t packets, uint64_t *lost)
{
    uint64_t sent = 0, start = now_ns(), last = start;
    came = *lost = 0;
    while (came < packets) {
        uint64_t now = now_ns();
        while (sent - came - *lost < window && send_one(port, path)) {
            sent++;
        }
        tsr_port_flush(port);
        if (tsr_port_poll(port, count, NULL, now)) {
            last = now;
        } else if (now - last > 20000000) {
            *lost = sent - came;
            last = now;
        }
        if (now - start > 60000000000u) {
            break;
        }
    }
    return (double)came * 1e9 / (double)(now_ns() - start);
}

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static void bench(const char *name, const char *at, const char *from, bool quick)
{
    static uint64_t ns[SAMPLES_MAX];
    const struct tsr_path path = {at ? client : client_lo, at ? server : server_lo};
    uint64_t n = quick ? 200 : SAMPLES_MAX, lost;
    pid_t pid = start_server(at, &path.remote);
    struct tsr_port *port = open_port(from, &path.local, 1 % (int)sysconf(_SC_NPROCESSORS_ONLN));
    run(port, &path, 1, 10, &lost); /* finds the way */
    for (uint64_t i = 0; i < n; i++) {
        uint64_t start = now_ns();
        run(port, &path, 1, 1, &lost);
        ns[i] = now_ns() - start;
    }
    qsort(ns, n, sizeof ns[0], by_value);
    double rate = run(port, &path, 128, quick ? 5000 : 2000000, &lost);
    printf("%-10s %9.0f packets/s with 128 on their way (%ju lost)   one alone: p50 %.1f us, p99 "
           "%.1f us\n",
           name, rate, (uintmax_t)lost, (double)ns[n / 2] / 1e3, (double)ns[n * 99 / 100] / 1e3);
    tsr_port_destroy(&port, 1);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

int main(int argc, char **argv)
{
    bool quick = argc > 1 && strcmp(argv[1], "--quick") == 0;
    char at[128], from[128], path[] = "/tmp/bench_port.XXXXXX";
    tsr_log_set(NULL, NULL, TSR_LOG_ERROR);
    bench("socket", NULL, NULL, quick); /* before EAL, which a fork does not carry over */
    if (argc == 3 + quick) {
        bench("devices", argv[1 + quick], argv[2 + quick], quick);
        return 0;
    }
    if (!mkdtemp(path)) {
        return 1;
    }
    snprintf(at, sizeof at, "net_memif0,role=server,socket-abstract=no,socket=%s/s", path);
    snprintf(from, sizeof from, "net_memif0,role=client,socket-abstract=no,socket=%s/s", path);
    bench("memif", at, from, quick);
    snprintf(at, sizeof at, "%s/s", path);
    unlink(at);
    rmdir(path);
    return 0;
}
