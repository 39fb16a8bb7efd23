/* Sends each datagram back to where it came from, with its ECN bits; a datagram that begins with
 * "counts" gets the counts instead, one that begins with "dropped" ends a pcap file of dropped
 * packets on descriptor 3.
 *
 *     port_echo socket|DEVICE [-q QUEUES] [-m MTU] [-v VLAN] [-b (block)]
 * ADDRESS[/PREFIX[@GATEWAY]],PORT ... [-- EAL...]
 *
 * -b: sleeps until a packet comes. -t: is the client instead; sends datagrams of many sizes there
 * until each has come back. Prints "ready" and the ports, a client "echoed"; SIGTERM ends it. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <tsr/port/port.h>
#include <tsr/shm/log.h>

static struct tsr_port_options options = {
    .kind = TSR_PORT_DPDK, .queues = 1, .no_huge = true, .cpu = -1};
static struct tsr_port *ports[TSR_PORT_QUEUES_MAX];
static volatile sig_atomic_t ended;
static bool blocks, is_client;
static struct tsr_address target;
static uint32_t came; /* bytes of the last datagram that came back as it was sent, and one */

static void end(int signal)
{
    (void)signal;
    ended = 1;
}

static bool read_ip(struct tsr_address *address, const char *text, uint8_t *ip)
{
    address->family = strchr(text, ':') ? 6 : 4;
    return inet_pton(address->family == 4 ? AF_INET : AF_INET6, text, ip) == 1;
}

static bool read_listen(char *text)
{
    struct tsr_port_listen *listen = &options.listen[options.n_listen++];
    char *port = strchr(text, ','), *prefix = strchr(text, '/'), *gateway = strchr(text, '@');
    if (!port || options.n_listen > TSR_PORT_LISTEN_MAX) {
        return false;
    }
    *port++ = 0;
    listen->address.port = (uint16_t)atoi(port);
    if (gateway) {
        *gateway++ = 0;
        listen->has_gateway = true;
        if (!read_ip(&listen->address, gateway, listen->gateway)) {
            return false;
        }
    }
    if (prefix) {
        *prefix++ = 0;
        listen->prefix = (uint8_t)atoi(prefix);
    }
    return read_ip(&listen->address, text, listen->address.ip);
}

static bool read_target(char *text)
{
    char *port = strchr(text, ',');
    if (!port) {
        return false;
    }
    *port++ = 0;
    is_client = true;
    target.port = (uint16_t)atoi(port);
    return read_ip(&target, text, target.ip);
}

static bool read_options(int argc, char **argv)
{
    int option, n = 0;
    if (argc < 3) {
        return false;
    }
    options.device = argv[1];
    if (strcmp(argv[1], "socket") == 0) {
        options.kind = TSR_PORT_SOCKET;
    }
    optind = 2;
    while ((option = getopt(argc, argv, "+q:m:v:bt:")) != -1) {
        switch (option) {
        case 'q':
            options.queues = (uint32_t)atoi(optarg);
            break;
        case 'm':
            options.mtu = (uint16_t)atoi(optarg);
            break;
        case 'v':
            options.vlan = (uint16_t)atoi(optarg);
            break;
        case 'b':
            blocks = true;
            break;
        case 't':
            if (!read_target(optarg)) {
                return false;
            }
            break;
        default:
            return false;
        }
    }
    for (; optind < argc && strcmp(argv[optind], "--") != 0; optind++) {
        if (!read_listen(argv[optind])) {
            return false;
        }
    }
    for (optind++; optind < argc && n < TSR_PORT_EAL_MAX; optind++) {
        options.eal[n++] = argv[optind];
    }
    return true;
}

static size_t write_counts(struct tsr_port *port, char *out, size_t size)
{
    struct tsr_port_counts counts;
    tsr_port_count(port, &counts);
    size_t n = (size_t)snprintf(out, size,
                                "rx_packets=%ju rx_datagrams=%ju rx_missed=%ju tx_packets=%ju "
                                "tx_datagrams=%ju answered=%ju",
                                (uintmax_t)counts.rx_packets, (uintmax_t)counts.rx_datagrams,
                                (uintmax_t)counts.rx_missed, (uintmax_t)counts.tx_packets,
                                (uintmax_t)counts.tx_datagrams, (uintmax_t)counts.answered);
    for (int i = TSR_PORT_TAKEN + 1; i < TSR_PORT_DROPS; i++) {
        if (counts.dropped[i]) {
            n += (size_t)snprintf(out + n, size - n, " %s=%ju",
                                  tsr_port_drop_name((enum tsr_port_drop)i),
                                  (uintmax_t)counts.dropped[i]);
        }
    }
    return n;
}

static bool is(const struct tsr_datagram *datagram, const char *word)
{
    return datagram->size == strlen(word) && memcmp(datagram->bytes, word, datagram->size) == 0;
}

static void write_dropped(struct tsr_port *port)
{
    const char *path = getenv("DROPPED");
    int fd = open(path ? path : "/dev/null", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    tsr_port_write_dropped(&port, 1, fd, NULL);
    close(fd);
}

static void take(void *ctx, const struct tsr_datagram *datagram)
{
    struct tsr_port *port = ctx;
    size_t capacity, size = datagram->size;
    uint8_t *out = tsr_port_way.room(port, &datagram->path, &capacity);
    if (!out) {
        return;
    }
    if (is(datagram, "counts")) {
        char text[1024];
        size = write_counts(port, text, sizeof text);
        memcpy(out, text, size);
    } else if (is(datagram, "dropped")) {
        write_dropped(port);
        memcpy(out, datagram->bytes, size);
    } else if (is(datagram, "capacity")) {
        size = (size_t)sprintf((char *)out, "%zu", capacity);
    } else if (size <= capacity) {
        memcpy(out, datagram->bytes, size);
    } else {
        return;
    }
    tsr_port_way.send(port, &datagram->path, size, datagram->ecn);
}

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void serve(void)
{
    while (!ended) {
        uint32_t n = 0;
        for (uint32_t q = 0; q < options.queues; q++) {
            n += tsr_port_poll(ports[q], take, ports[q], now_ns());
            tsr_port_flush(ports[q]);
        }
        if (n == 0 && blocks) {
            struct pollfd readable = {.fd = tsr_port_fd(ports[0]), .events = POLLIN};
            poll(&readable, 1, 1000);
        } else if (n == 0) {
            nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL); /* tests share few processors */
        }
    }
}

static void take_echo(void *ctx, const struct tsr_datagram *datagram)
{
    (void)ctx;
    for (uint32_t i = 0; i < datagram->size; i++) {
        if (datagram->bytes[i] != (uint8_t)(i + datagram->size)) {
            return;
        }
    }
    came = datagram->size + 1;
}

/* One datagram, again and again until it has come back: the first ones only find the way. */
static bool ask(uint32_t size)
{
    struct tsr_path path = {.local = options.listen[0].address, .remote = target};
    uint64_t end_ns = now_ns() + 20000000000u;
    while (came != size + 1 && now_ns() < end_ns && !ended) {
        size_t capacity = 0;
        uint8_t *out = tsr_port_way.room(ports[0], &path, &capacity);
        if (out && size > capacity) {
            return false;
        }
        for (uint32_t i = 0; out && i < size; i++) {
            out[i] = (uint8_t)(i + size);
        }
        if (out) {
            tsr_port_way.send(ports[0], &path, size, 0);
        }
        tsr_port_flush(ports[0]);
        for (int i = 0; i < 50 && came != size + 1; i++) {
            nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
            tsr_port_poll(ports[0], take_echo, NULL, now_ns());
        }
    }
    return came == size + 1;
}

static int ask_all(uint32_t most)
{
    for (uint32_t size = 1; size <= most; size += most / 30) {
        if (!ask(size)) {
            fprintf(stderr, "%u bytes did not come back\n", size);
            return 1;
        }
    }
    puts("echoed");
    return 0;
}

int main(int argc, char **argv)
{
    struct tsr_err err = {0};
    struct tsr_address listens[TSR_PORT_LISTEN_MAX];
    if (!read_options(argc, argv)) {
        fprintf(stderr, "port_echo: see the head of tests/integration/port_echo.c\n");
        return 2;
    }
    tsr_log_set(NULL, NULL, TSR_LOG_DEBUG);
    signal(SIGTERM, end);
    if (tsr_port_create(ports, &options, &err) < 0) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    uint32_t n = tsr_port_listens(ports[0], listens);
    printf("ready");
    for (uint32_t i = 0; i < n; i++) {
        printf(" %u", listens[i].port);
    }
    puts("");
    fflush(stdout);
    int rc = 0;
    if (is_client) {
        rc = ask_all((options.mtu ? options.mtu : 1500u) - 48);
    } else {
        serve();
    }
    tsr_port_destroy(ports, options.queues);
    return rc;
}
