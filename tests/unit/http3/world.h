/* A server, its clients, and a link between them that loses, repeats, reorders and spoils datagrams
 * as a seed says. Time is what the world says it is. */
#ifndef TSR_TEST_WORLD_H
#define TSR_TEST_WORLD_H

#include <tsr/http3/http3.h>

#include "certificate.h"
#include "client.h"
#include "fake_api.h"

enum {
    PACKETS_MAX = 8192,
    PAYLOAD_MAX = 1472,
    CLIENTS_MAX = 256,
    SERVER_PORT = 4433,
    UNIX_S = 784111777, /* Sun, 06 Nov 1994 08:49:37 GMT */
};

static const uint64_t ms = 1000000, second = 1000000000;

struct packet {
    uint64_t at_ns;
    struct tsr_path path; /* as its receiver sees it */
    bool to_server;
    uint8_t ecn;
    uint32_t size;
    uint8_t bytes[PAYLOAD_MAX];
};

struct world {
    struct tsr_http3 *server;
    uint64_t now_ns;
    uint64_t seed;
    unsigned loss, repeat, reorder, spoil; /* of 1000 */
    uint64_t delay_ns;
    uint32_t link_max; /* larger datagrams are lost; 0: none */
    uint32_t largest;  /* of the server's that were not */
    uint32_t room;     /* datagrams that the server may send in this turn */
    uint32_t asked;    /* times that it has asked for room */
    uint16_t lost;     /* the port of a client that the link does not know; 0: none */
    size_t capacity;
    struct packet *packets;
    uint32_t n_packets;
    struct client *clients[CLIENTS_MAX];
    uint32_t n_clients;
    uint8_t buffer[PAYLOAD_MAX];
    struct packet last_sent;   /* by the server */
    uint64_t sent, sent_bytes; /* by the server */
    uint64_t came_bytes;
};

static inline uint32_t world_random(struct world *w, uint32_t below)
{
    w->seed = w->seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(w->seed >> 33) % below;
}

static inline void world_put(struct world *w, const struct packet *packet)
{
    if (w->n_packets == PACKETS_MAX) {
        return; /* lost */
    }
    struct packet *p = &w->packets[w->n_packets++];
    *p = *packet;
    p->at_ns = w->now_ns + w->delay_ns;
    if (world_random(w, 1000) < w->reorder) {
        p->at_ns += (1 + world_random(w, 20)) * ms;
    }
    if (world_random(w, 1000) < w->spoil) {
        p->bytes[world_random(w, p->size)] ^= (uint8_t)(1 + world_random(w, 255));
    }
}

static inline void world_send(struct world *w, bool to_server, const struct tsr_path *path,
                              const uint8_t *bytes, size_t size, uint8_t ecn)
{
    struct packet packet = {
        .path = {path->remote, path->local},
        .to_server = to_server,
        .ecn = ecn,
        .size = (uint32_t)size,
    };
    memcpy(packet.bytes, bytes, size);
    bool fits = !w->link_max || size <= w->link_max;
    if (!to_server && fits && packet.size > w->largest) {
        w->largest = packet.size;
    }
    if (!to_server) {
        w->last_sent = packet;
        w->sent++;
        w->sent_bytes += size;
    }
    if (fits && world_random(w, 1000) >= w->loss) {
        world_put(w, &packet);
    }
    if (fits && world_random(w, 1000) < w->repeat) {
        world_put(w, &packet);
    }
}

static inline uint8_t *world_room(void *port, const struct tsr_path *path, size_t *capacity)
{
    struct world *w = port;
    bool is_lost = w->lost && path->remote.port == w->lost;
    w->asked++;
    *capacity = is_lost ? 0 : w->capacity;
    return w->room && !is_lost ? w->buffer : NULL;
}

static inline void world_way_send(void *port, const struct tsr_path *path, size_t size, uint8_t ecn)
{
    struct world *w = port;
    w->room--;
    world_send(w, false, path, w->buffer, size, ecn);
}

static struct certificate world_certificate;

static inline void world_options(struct world *w, struct tsr_http3_options *o)
{
    tsr_http3_options_init(o);
    if (!world_certificate.folder[0]) {
        certificate_make(&world_certificate, 1);
    }
    o->certificate = world_certificate.certificate;
    o->key = world_certificate.key;
    o->way = (struct tsr_datagram_way){world_room, world_way_send};
    o->port = w;
    o->queue = 3;
    o->conns_max = CLIENTS_MAX;
    o->bytes_max = (size_t)256 << 20;
}

/* options: NULL: the defaults. */
static inline struct world *world_make(const struct tsr_http3_options *options)
{
    struct world *w = calloc(1, sizeof *w);
    struct tsr_http3_options o;
    struct tsr_err err = {0};
    w->packets = calloc(PACKETS_MAX, sizeof *w->packets);
    w->now_ns = 1000 * second;
    w->delay_ns = 5 * ms;
    w->capacity = PAYLOAD_MAX;
    w->seed = 1;
    if (options) {
        o = *options;
        o.port = w;
    } else {
        world_options(w, &o);
    }
    if (tsr_http3_create(&w->server, NULL, &o, &err) < 0) {
        fprintf(stderr, "%s\n", err.text);
        abort();
    }
    tsr_http3_step(w->server, w->now_ns, UNIX_S);
    return w;
}

static inline const struct tsr_http3_counts *world_counts(const struct world *w)
{
    return tsr_http3_counts(w->server);
}

/* ---- Clients ---- */

static inline uint8_t *world_client_room(void *port, const struct tsr_path *path, size_t *capacity)
{
    struct client *c = port;
    struct world *w = c->user;
    (void)path;
    *capacity = PAYLOAD_MAX;
    return w->buffer;
}

static inline void world_client_send(void *port, const struct tsr_path *path, size_t size,
                                     uint8_t ecn)
{
    struct client *c = port;
    struct world *w = c->user;
    struct tsr_path seen = *path;
    seen.local.port = c->nat_port ? c->nat_port : seen.local.port;
    world_send(w, true, &seen, w->buffer, size, ecn);
}

static inline struct client *client_make(struct world *w, const struct client_options *options)
{
    static const struct client_options none;
    const struct client_options *o = options ? options : &none;
    if (w->n_clients == CLIENTS_MAX) {
        abort();
    }
    uint16_t port = o->port ? o->port : (uint16_t)(10000 + w->n_clients);
    const struct client_place place = {
        .path = {.local = {.ip = {10, 0, 0, o->host ? o->host : 2}, .port = port, .family = 4},
                 .remote = {.ip = {10, 0, 0, 1}, .port = SERVER_PORT, .family = 4}},
        .way = {world_client_room, world_client_send},
        .now_ns = &w->now_ns,
    };
    struct client *c = client_create(&place, o);
    c->place.port = c;
    c->user = w;
    w->clients[w->n_clients++] = c;
    return c;
}

/* ---- Time ---- */

static inline uint64_t world_next(const struct world *w)
{
    uint64_t next = tsr_http3_wake_ns(w->server);
    for (uint32_t i = 0; i < w->n_packets; i++) {
        next = w->packets[i].at_ns < next ? w->packets[i].at_ns : next;
    }
    for (uint32_t i = 0; i < w->n_clients; i++) {
        const struct client *c = w->clients[i];
        uint64_t at = client_expiry_ns(c);
        next = at < next ? at : next;
    }
    return next < w->now_ns ? w->now_ns : next;
}

static inline void world_deliver(struct world *w, struct packet *p)
{
    if (p->to_server) {
        w->came_bytes += p->size;
        const struct tsr_datagram datagram = {
            .path = p->path, .bytes = p->bytes, .size = p->size, .ecn = p->ecn};
        tsr_http3_datagram(w->server, &datagram, w->now_ns);
        return;
    }
    for (uint32_t i = 0; i < w->n_clients; i++) {
        struct client *c = w->clients[i];
        uint16_t port = c->place.path.local.port;
        if (!c->silent && (c->nat_port ? c->nat_port : port) == p->path.local.port) {
            struct packet own = *p; /* who reads it may change it */
            struct tsr_datagram datagram = {
                .path = own.path, .bytes = own.bytes, .size = own.size, .ecn = own.ecn};
            datagram.path.local.port = port;
            client_read(c, &datagram);
        }
    }
}

static inline void world_turn(struct world *w)
{
    w->room = 64;
    for (uint32_t i = 0; i < w->n_packets;) {
        if (w->packets[i].at_ns <= w->now_ns) {
            struct packet p = w->packets[i];
            memmove(&w->packets[i], &w->packets[i + 1], (--w->n_packets - i) * sizeof *w->packets);
            world_deliver(w, &p);
        } else {
            i++;
        }
    }
    tsr_http3_step(w->server, w->now_ns, UNIX_S);
    tsr_http3_take_waiting(w->server, w->now_ns);
    for (uint32_t i = 0; i < w->n_clients; i++) {
        struct client *c = w->clients[i];
        if (client_expiry_ns(c) <= w->now_ns) {
            client_expire(c);
        }
        client_write(c);
    }
}

/* Runs for so long at most, or until done() says so. */
static inline bool world_run(struct world *w, uint64_t for_ns, bool (*done)(struct world *))
{
    uint64_t end_ns = w->now_ns + for_ns;
    world_turn(w);
    while (!done || !done(w)) {
        uint64_t next = world_next(w);
        if (next > end_ns) {
            w->now_ns = end_ns > w->now_ns ? end_ns : w->now_ns;
            world_turn(w);
            return false;
        }
        w->now_ns = next > w->now_ns ? next : w->now_ns + 1000; /* a turn takes its time */
        world_turn(w);
    }
    return true;
}

static inline bool world_established(struct world *w)
{
    for (uint32_t i = 0; i < w->n_clients; i++) {
        if (!w->clients[i]->established && !w->clients[i]->gone) {
            return false;
        }
    }
    return true;
}

static inline bool world_answered(struct world *w)
{
    for (uint32_t i = 0; i < w->n_clients; i++) {
        const struct client *c = w->clients[i];
        for (uint32_t k = 0; k < c->n_answers && !c->gone; k++) {
            if (!c->answers[k]->ended && !c->answers[k]->closed) {
                return false;
            }
        }
    }
    return true;
}

static inline void world_free(struct world *w)
{
    tsr_http3_destroy(w->server);
    for (uint32_t i = 0; i < w->n_clients; i++) {
        client_free(w->clients[i]);
    }
    free(w->packets);
    free(w);
}

/* A connection that is ready to be used. */
static inline struct client *world_connect(struct world *w, const struct client_options *options)
{
    struct client *c = client_make(w, options);
    world_run(w, 10 * second, world_established);
    return c;
}

#endif
