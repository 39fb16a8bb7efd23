#include "crowd.h"

#include <errno.h>
#include <immintrin.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static const uint32_t number_of_nobody = UINT32_MAX;

static const uint64_t ms_ns = 1000000, second_ns = 1000000000;

struct seat {
    struct client *client;
    uint64_t due_ns;
    bool is_awake; /* stands in crowd->awake */
    bool said_established, said_gone;
};

struct crowd {
    struct tsr_port *port;
    struct tsr_path path;
    bool spin, beside_kernel;
    void (*changed)(struct client *client);
    uint64_t now_ns;
    uint64_t due_ns; /* none is due earlier */
    uint64_t knock_ns;
    uint32_t n, seats_max; /* seats[n ..] have never been taken */
    struct seat *seats;
    uint32_t n_awake;
    uint32_t *awake;
};

uint64_t crowd_clock_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * second_ns + (uint64_t)now.tv_nsec;
}

uint64_t crowd_now_ns(const struct crowd *crowd)
{
    return crowd->now_ns;
}

struct tsr_port *crowd_port(struct crowd *crowd)
{
    return crowd->port;
}

int crowd_create(struct crowd **out, const struct crowd_options *options, struct tsr_err *err)
{
    struct tsr_address listens[TSR_PORT_LISTEN_MAX];
    struct crowd *crowd = calloc(1, sizeof *crowd);
    *out = NULL;
    if (!crowd) {
        return tsr_err_set(err, -ENOMEM, "no memory");
    }
    crowd->spin = options->spin;
    crowd->changed = options->changed;
    crowd->seats_max = options->clients_max;
    crowd->seats = calloc(options->clients_max, sizeof *crowd->seats);
    crowd->awake = calloc(options->clients_max, sizeof *crowd->awake);
    if (!crowd->seats || !crowd->awake) {
        crowd_destroy(crowd);
        return tsr_err_set(err, -ENOMEM, "no memory for %u clients", options->clients_max);
    }
    int rc = tsr_port_create(&crowd->port, options->port, err);
    if (rc < 0) {
        crowd_destroy(crowd);
        return rc;
    }
    tsr_port_listens(crowd->port, listens);
    crowd->path = (struct tsr_path){.local = listens[0], .remote = options->server};
    crowd->beside_kernel = options->port->kind == TSR_PORT_DPDK &&
                           strncmp(options->port->device, "net_af_xdp", 10) == 0;
    crowd->now_ns = crowd_clock_ns();
    crowd->due_ns = UINT64_MAX;
    *out = crowd;
    return 0;
}

void crowd_destroy(struct crowd *crowd)
{
    for (uint32_t i = 0; i < crowd->n; i++) {
        if (crowd->seats[i].client) {
            crowd_leave(crowd, crowd->seats[i].client);
        }
    }
    if (crowd->port) {
        tsr_port_flush(crowd->port);
        tsr_port_destroy(&crowd->port, 1);
    }
    free(crowd->seats);
    free(crowd->awake);
    free(crowd);
}

/* ---- Who sits where ---- */

static void wake(struct crowd *crowd, uint32_t number)
{
    struct seat *seat = &crowd->seats[number];
    if (!seat->is_awake) {
        seat->is_awake = true;
        crowd->awake[crowd->n_awake++] = number;
    }
}

void crowd_wake(struct crowd *crowd, struct client *client)
{
    wake(crowd, client->place.number);
}

static uint32_t free_seat(const struct crowd *crowd)
{
    for (uint32_t i = 0; crowd->n == crowd->seats_max && i < crowd->n; i++) {
        if (!crowd->seats[i].client && !crowd->seats[i].is_awake) {
            return i;
        }
    }
    return crowd->n;
}

struct client *crowd_connect(struct crowd *crowd, const struct client_options *options)
{
    uint32_t number = free_seat(crowd);
    if (number == crowd->seats_max) {
        abort();
    }
    crowd->n += number == crowd->n;
    const struct client_place place = {
        .path = crowd->path,
        .way = tsr_port_way,
        .port = crowd->port,
        .now_ns = &crowd->now_ns,
        .number = number,
    };
    struct client *client = client_create(&place, options);
    crowd->seats[number] = (struct seat){.client = client, .due_ns = UINT64_MAX};
    wake(crowd, number);
    return client;
}

void crowd_leave(struct crowd *crowd, struct client *client)
{
    client_close(client);
    crowd->seats[client->place.number].client = NULL;
    client_free(client);
}

/* ---- The way to the server ---- */

/* Nobody's version: each server answers with those that it has (RFC 9000, 6). */
static void knock(struct crowd *crowd)
{
    enum { BYTES = 1200 };
    static const uint8_t head[] = {0xc0, 0x1a, 0x2a, 0x3a, 0x4a, 8,    1,    2,    3,   4,
                                   5,    6,    7,    8,    0x04, 0xff, 0xff, 0xff, 0xff};
    uint8_t packet[BYTES] = {0};
    ngtcp2_sockaddr_union to[2];
    ngtcp2_path path = client_path(&crowd->path, to);
    memcpy(packet, head, sizeof head);
    int fd = socket(path.local.addr->sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && bind(fd, path.local.addr, path.local.addrlen) == 0) {
        sendto(fd, packet, sizeof packet, MSG_DONTWAIT, path.remote.addr, path.remote.addrlen);
    }
    if (fd >= 0) {
        close(fd);
    }
    crowd->knock_ns = crowd->now_ns + 50 * ms_ns;
}

/* ---- A turn ---- */

/* A socket may have any local address: the clients know the one that they asked for. */
static void read_one(struct crowd *crowd, uint32_t number, const struct tsr_datagram *datagram)
{
    if (crowd->seats[number].client) {
        struct tsr_datagram ours = *datagram;
        ours.path.local = crowd->path.local;
        client_read(crowd->seats[number].client, &ours);
        wake(crowd, number);
    }
}

/* What bears nobody's number may be a stateless reset: who it is for knows. */
static void take(void *ctx, const struct tsr_datagram *datagram)
{
    struct crowd *crowd = ctx;
    ngtcp2_version_cid id;
    uint32_t number;
    if (ngtcp2_pkt_decode_version_cid(&id, datagram->bytes, datagram->size, CLIENT_ID_BYTES) != 0 ||
        id.dcidlen < sizeof number) {
        return;
    }
    memcpy(&number, id.dcid, sizeof number);
    if (number < crowd->n) {
        read_one(crowd, number, datagram);
        return;
    }
    for (uint32_t i = 0; number != number_of_nobody && i < crowd->n; i++) {
        read_one(crowd, i, datagram);
    }
}

static void expire(struct crowd *crowd)
{
    if (crowd->now_ns < crowd->due_ns) {
        return;
    }
    crowd->due_ns = UINT64_MAX;
    for (uint32_t i = 0; i < crowd->n; i++) {
        struct seat *seat = &crowd->seats[i];
        if (seat->client && seat->due_ns <= crowd->now_ns) {
            client_expire(seat->client);
            seat->due_ns = UINT64_MAX; /* until it has written */
            wake(crowd, i);
        }
        crowd->due_ns = seat->due_ns < crowd->due_ns ? seat->due_ns : crowd->due_ns;
    }
}

static void say_changes(const struct crowd *crowd, struct seat *seat)
{
    if (seat->client->established && !seat->said_established) {
        seat->said_established = true;
        crowd->changed(seat->client);
    }
    if (seat->client->gone && !seat->said_gone) {
        seat->said_gone = true;
        crowd->changed(seat->client);
    }
}

/* Who finds no room stays awake. */
static void write_all(struct crowd *crowd)
{
    uint32_t n = crowd->n_awake, kept = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t number = crowd->awake[i];
        struct seat *seat = &crowd->seats[number];
        if (seat->client && !client_write(seat->client)) {
            crowd->awake[kept++] = number;
            continue;
        }
        seat->is_awake = false;
        if (seat->client && crowd->changed) {
            say_changes(crowd, seat);
        }
        seat->due_ns = seat->client ? client_expiry_ns(seat->client) : UINT64_MAX;
        crowd->due_ns = seat->due_ns < crowd->due_ns ? seat->due_ns : crowd->due_ns;
    }
    crowd->n_awake = kept;
    if (kept && crowd->beside_kernel && crowd->now_ns >= crowd->knock_ns) {
        knock(crowd);
    }
}

uint32_t crowd_take(struct crowd *crowd)
{
    crowd->now_ns = crowd_clock_ns();
    uint32_t n = tsr_port_poll(crowd->port, take, crowd, crowd->now_ns);
    expire(crowd);
    return n;
}

void crowd_send(struct crowd *crowd)
{
    write_all(crowd);
    tsr_port_flush(crowd->port);
}

void crowd_wait(struct crowd *crowd, uint64_t until_ns)
{
    const uint64_t unseen_ns = 100000; /* between looks at a port that cannot tell */
    if (crowd->spin) {
        _mm_pause();
        return;
    }
    uint64_t now_ns = crowd_clock_ns();
    uint64_t at_ns = crowd->due_ns < until_ns ? crowd->due_ns : until_ns;
    uint64_t ns = at_ns > now_ns ? at_ns - now_ns : 0;
    int fd = tsr_port_fd(crowd->port);
    ns = crowd->n_awake && ns > ms_ns ? ms_ns : ns;
    ns = fd < 0 && ns > unseen_ns ? unseen_ns : ns;
    ns = ns > second_ns ? second_ns : ns;
    const struct timespec timeout = {(time_t)(ns / second_ns), (long)(ns % second_ns)};
    struct pollfd readable = {.fd = fd, .events = POLLIN};
    ppoll(&readable, fd >= 0, &timeout, NULL);
}
