#include "http3_priv.h"

#include <errno.h>
#include <gnutls/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <tsr/api/peers.h>

const char *const tsr_http3_drop_names[TSR_HTTP3_DROPS] = {
    [TSR_HTTP3_DROP_MALFORMED] = "malformed",
    [TSR_HTTP3_DROP_SHORT] = "short",
    [TSR_HTTP3_DROP_UNKNOWN] = "unknown",
    [TSR_HTTP3_DROP_CLOSED] = "closed",
    [TSR_HTTP3_DROP_HANDSHAKES] = "handshakes",
    [TSR_HTTP3_DROP_INITIAL] = "initial",
    [TSR_HTTP3_DROP_ADDRESS] = "address",
    [TSR_HTTP3_DROP_ADDRESS_HANDSHAKES] = "address_handshakes",
    [TSR_HTTP3_DROP_ADDRESS_MEMORY] = "address_memory",
    [TSR_HTTP3_DROP_MEMORY] = "memory",
    [TSR_HTTP3_DROP_RATE] = "rate",
    [TSR_HTTP3_DROP_LIMITED] = "limited",
    [TSR_HTTP3_DROP_BUSY] = "busy",
};

void tsr_http3_options_init(struct tsr_http3_options *options)
{
    *options = (struct tsr_http3_options){
        .conns_max = 4096,
        .handshakes_max = 1024,
        .retry_from = 128,
        .streams_max = 100,
        .resets_max = 100,
        .stateless_max = 1000,
        .datagrams_max = 50000,
        .handshake_s = 10,
        .idle_s = 30,
        .stall_s = 30,
        .stall_bytes = 4096,
        .conn_bytes_max = (size_t)4 << 20,
        .answer_bytes_max = (size_t)16 << 20,
        .bytes_max = (size_t)1 << 30,
    };
}

/* ---- Beginning and end ---- */

static int check(const struct tsr_http3_options *o, struct tsr_err *err)
{
    if (!o->conns_max || !o->handshakes_max || !o->streams_max || !o->handshake_s || !o->idle_s ||
        !o->stall_s) {
        return tsr_err_set(err, -EINVAL,
                           "http3: conns_max, handshakes_max, streams_max, handshake_s, idle_s and "
                           "stall_s must be at least 1");
    }
    if (!o->way.room || !o->way.send) {
        return tsr_err_set(err, -EINVAL, "http3: a port's functions are missing");
    }
    return 0;
}

static int make_secrets(struct tsr_http3 *http3, struct tsr_err *err)
{
    static const uint8_t none[TSR_HTTP3_SECRET_BYTES];
    uint8_t *secret = http3->options.secret;
    if (memcmp(secret, none, sizeof none) == 0) {
        tsr_http3_random(secret, sizeof none);
    }
    if (gnutls_hmac_fast(GNUTLS_MAC_SHA256, secret, sizeof none, "reset", 5, http3->reset_secret) <
            0 ||
        gnutls_hmac_fast(GNUTLS_MAC_SHA256, secret, sizeof none, "token", 5, http3->token_secret) <
            0) {
        return tsr_err_set(err, -ENOMEM, "http3: no HMAC with SHA-256");
    }
    return 0;
}

/* What is 0 is as much as all may have. */
static void make_shares(struct tsr_http3_options *o)
{
    struct tsr_http3_share *a = &o->address;
    a->conns = a->conns ? a->conns : o->conns_max;
    a->handshakes = a->handshakes ? a->handshakes : o->handshakes_max;
    a->requests = a->requests ? a->requests : UINT32_MAX;
    a->datagrams = a->datagrams ? a->datagrams : UINT32_MAX;
    o->datagrams_max = o->datagrams_max ? o->datagrams_max : UINT32_MAX;
    a->bytes = a->bytes ? a->bytes : o->bytes_max;
}

static int make_tables(struct tsr_http3 *http3, struct tsr_err *err)
{
    const struct tsr_http3_options *o = &http3->options;
    uint32_t n = o->conns_max;
    http3->conns = calloc(n, sizeof *http3->conns);
    http3->closed = calloc(n, sizeof *http3->closed);
    http3->of_peers = calloc(n, sizeof *http3->of_peers);
    if (!http3->conns || !http3->closed || !http3->of_peers ||
        !tsr_http3_timers_init(&http3->timers, 2 * n) ||
        !tsr_http3_region_init(&http3->region, http3->options.bytes_max) ||
        !tsr_http3_waiting_init(&http3->known) || !tsr_http3_waiting_init(&http3->strangers) ||
        !tsr_http3_waiting_init(&http3->asking)) {
        return tsr_err_set(err, -ENOMEM, "http3: no memory for %u connections and %zu bytes", n,
                           http3->options.bytes_max);
    }
    for (uint32_t i = 0; i < n; i++) {
        TAILQ_INSERT_TAIL(&http3->unused, &http3->conns[i], at);
        http3->closed[i].next = http3->closed_free;
        http3->closed_free = &http3->closed[i];
        http3->of_peers[i].account =
            (struct tsr_http3_account){.region = &http3->region, .max = o->address.bytes};
    }
    return tsr_http3_cids_init(&http3->cids, 2 * n, err);
}

int tsr_http3_create(struct tsr_http3 **out, struct tsr_api *api,
                     const struct tsr_http3_options *options, struct tsr_err *err)
{
    *out = NULL;
    int rc = check(options, err);
    struct tsr_http3 *http3 = rc ? NULL : calloc(1, sizeof *http3);
    if (!http3) {
        return rc ? rc : tsr_err_set(err, -ENOMEM, "http3: no memory");
    }
    http3->api = api;
    http3->options = *options;
    make_shares(&http3->options);
    TAILQ_INIT(&http3->open);
    TAILQ_INIT(&http3->unused);
    TAILQ_INIT(&http3->ready_first);
    TAILQ_INIT(&http3->ready);
    TAILQ_INIT(&http3->ready_shaking);
    TAILQ_INIT(&http3->serving);
    TAILQ_INIT(&http3->moving);
    rc = make_secrets(http3, err);
    rc = rc ? rc : make_tables(http3, err);
    rc =
        rc ? rc
           : tsr_peers_create(&http3->peers, options->conns_max, http3->options.address.conns, err);
    rc = rc ? rc
            : tsr_http3_tls_create(&http3->tls, options->certificate, options->key,
                                   options->client_ca, err);
    if (rc < 0) {
        tsr_http3_destroy(http3);
        return rc;
    }
    *out = http3;
    return 0;
}

void tsr_http3_destroy(struct tsr_http3 *http3)
{
    if (!http3) {
        return;
    }
    while (!TAILQ_EMPTY(&http3->open)) {
        tsr_http3_conn_forget(TAILQ_FIRST(&http3->open));
    }
    tsr_http3_ciphers_fini(http3);
    tsr_http3_tls_destroy(http3->tls);
    tsr_peers_destroy(http3->peers);
    tsr_http3_cids_fini(&http3->cids);
    tsr_http3_timers_fini(&http3->timers);
    tsr_http3_region_fini(&http3->region);
    tsr_http3_waiting_fini(&http3->known);
    tsr_http3_waiting_fini(&http3->strangers);
    tsr_http3_waiting_fini(&http3->asking);
    free(http3->conns);
    free(http3->closed);
    free(http3->of_peers);
    free(http3);
}

int tsr_http3_reload(struct tsr_http3 *http3, struct tsr_err *err)
{
    return tsr_http3_tls_reload(http3->tls, err);
}

void tsr_http3_describe(const struct tsr_http3 *http3, char *text, size_t size)
{
    const struct tsr_http3_options *o = &http3->options;
    const double mib = 1048576.0;
    snprintf(text, size,
             "%.0f MiB for %u connections; at most %.0f MiB for QUIC and HTTP/3 and answers (%.0f "
             "and %.0f a connection); TLS takes its own",
             (double)o->conns_max *
                 (double)(sizeof *http3->conns + sizeof *http3->closed + 24 * 64) / mib,
             o->conns_max, (double)o->bytes_max / mib, (double)o->conn_bytes_max / mib,
             (double)o->answer_bytes_max / mib);
}

const struct tsr_http3_counts *tsr_http3_counts(const struct tsr_http3 *http3)
{
    return &http3->counts;
}

/* ---- What the other files share ---- */

void tsr_http3_random(void *bytes, size_t size)
{
    if (gnutls_rnd(GNUTLS_RND_RANDOM, bytes, size) < 0) {
        abort(); /* ids that can be guessed would be worse */
    }
}

bool tsr_http3_spend(struct tsr_http3 *http3, struct tsr_http3_budget *budget, uint32_t max)
{
    uint64_t second = http3->now_ns / tsr_http3_second;
    if (budget->second != second) {
        *budget = (struct tsr_http3_budget){.second = second};
    }
    return budget->n++ < max;
}

void tsr_http3_drop(struct tsr_http3 *http3, const struct tsr_datagram *datagram,
                    enum tsr_http3_drop why)
{
    http3->counts.drops[why]++;
    if (http3->options.dropped) {
        http3->options.dropped(http3->options.port, datagram);
    }
}

uint8_t *tsr_http3_room(struct tsr_http3 *http3, const struct tsr_path *path, size_t *capacity)
{
    *capacity = 0;
    uint8_t *room = http3->options.way.room(http3->options.port, path, capacity);
    if (!room && *capacity) {
        http3->counts.no_room++;
        http3->no_room = true;
    }
    *capacity = *capacity < TSR_HTTP3_PAYLOAD_MAX ? *capacity : TSR_HTTP3_PAYLOAD_MAX;
    return room;
}

void tsr_http3_send(struct tsr_http3 *http3, const struct tsr_path *path, size_t size, uint8_t ecn)
{
    http3->counts.datagrams_out++;
    http3->counts.bytes_out += size;
    http3->options.way.send(http3->options.port, path, size, ecn);
}

/* ---- A turn ---- */

static struct tsr_http3_conn *conn_of(struct tsr_http3_owner *owner)
{
    return (struct tsr_http3_conn *)((uint8_t *)owner - offsetof(struct tsr_http3_conn, owner));
}

static struct tsr_http3_closed *closed_of(struct tsr_http3_owner *owner)
{
    return (struct tsr_http3_closed *)((uint8_t *)owner - offsetof(struct tsr_http3_closed, owner));
}

/* Acknowledgements pass those who have much to ask: answers that move wait for them. */
static bool must_wait(const struct tsr_http3 *http3, const struct tsr_datagram *datagram)
{
    return datagram->size > TSR_HTTP3_ASKING_MIN &&
           (http3->asking.n || http3->counts.requests >= http3->requests_until);
}

void tsr_http3_datagram(struct tsr_http3 *http3, const struct tsr_datagram *datagram,
                        uint64_t now_ns)
{
    ngtcp2_version_cid id;
    http3->now_ns = now_ns;
    http3->counts.datagrams_in++;
    http3->counts.bytes_in += datagram->size;
    int rc = datagram->size ? ngtcp2_pkt_decode_version_cid(&id, datagram->bytes, datagram->size,
                                                            TSR_HTTP3_CID_BYTES)
                            : NGTCP2_ERR_INVALID_ARGUMENT;
    if (rc == NGTCP2_ERR_VERSION_NEGOTIATION) {
        tsr_http3_negotiate(http3, datagram, &id);
        return;
    }
    if (rc != 0) {
        tsr_http3_drop(http3, datagram, TSR_HTTP3_DROP_MALFORMED);
        return;
    }
    struct tsr_http3_owner *owner = tsr_http3_cids_find(&http3->cids, id.dcid, id.dcidlen);
    if (!owner) {
        tsr_http3_stranger(http3, datagram, &id);
    } else if (owner->is_closed) {
        tsr_http3_closed_read(http3, closed_of(owner), datagram);
    } else if (conn_of(owner)->established && !must_wait(http3, datagram)) {
        tsr_http3_conn_read(conn_of(owner), datagram);
    } else if (!tsr_http3_waiting_put(conn_of(owner)->established ? &http3->asking : &http3->known,
                                      datagram)) {
        tsr_http3_drop(http3, datagram, TSR_HTTP3_DROP_BUSY);
    }
}

/* Whose it is may have changed while it waited. */
static void read_waiting(struct tsr_http3 *http3, const struct tsr_datagram *datagram)
{
    ngtcp2_version_cid id;
    ngtcp2_pkt_decode_version_cid(&id, datagram->bytes, datagram->size, TSR_HTTP3_CID_BYTES);
    struct tsr_http3_owner *owner = tsr_http3_cids_find(&http3->cids, id.dcid, id.dcidlen);
    if (!owner) {
        tsr_http3_accept(http3, datagram);
    } else if (owner->is_closed) {
        tsr_http3_closed_read(http3, closed_of(owner), datagram);
    } else {
        tsr_http3_conn_read(conn_of(owner), datagram);
    }
}

uint32_t tsr_http3_take_waiting(struct tsr_http3 *http3, uint64_t now_ns)
{
    struct tsr_datagram datagram;
    uint32_t known = 0, strangers = 0, asking = 0;
    http3->now_ns = now_ns;
    http3->shaken = false;
    while (asking < TSR_HTTP3_TURN_REQUESTS && http3->counts.requests < http3->requests_until &&
           tsr_http3_waiting_take(&http3->asking, &datagram)) {
        read_waiting(http3, &datagram);
        asking++;
    }
    while (known < TSR_HTTP3_TURN_KNOWN && !http3->shaken &&
           tsr_http3_waiting_take(&http3->known, &datagram)) {
        read_waiting(http3, &datagram);
        known++;
    }
    while (strangers < TSR_HTTP3_TURN_STRANGERS && !http3->shaken &&
           tsr_http3_waiting_take(&http3->strangers, &datagram)) {
        read_waiting(http3, &datagram);
        strangers++;
    }
    return known + strangers + asking;
}

static void write_date(struct tsr_http3 *http3)
{
    static const char days[7][4] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
    static const char months[12][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                       "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    time_t seconds = (time_t)http3->unix_s;
    struct tm tm = {.tm_year = 0};
    gmtime_r(&seconds, &tm);
    snprintf(http3->date, sizeof http3->date, "%s, %02d %s %04d %02d:%02d:%02d GMT",
             days[tm.tm_wday], tm.tm_mday, months[tm.tm_mon], (tm.tm_year + 1900) % 10000,
             tm.tm_hour, tm.tm_min, tm.tm_sec);
}

static void expire(struct tsr_http3 *http3)
{
    struct tsr_http3_timer *first;
    for (int n = 0;
         n < TSR_HTTP3_TURN_EXPIRIES && (first = tsr_http3_timers_first(&http3->timers)) &&
         first->due_ns <= http3->now_ns;
         n++) {
        struct tsr_http3_owner *owner =
            (struct tsr_http3_owner *)((uint8_t *)first - offsetof(struct tsr_http3_owner, timer));
        if (owner->is_closed) {
            tsr_http3_closed_forget(http3, closed_of(owner));
        } else {
            /* Pacing may be due again at once: so only writing sets it. */
            tsr_http3_timers_set(&http3->timers, first, UINT64_MAX);
            tsr_http3_conn_expire(conn_of(owner));
        }
    }
    tsr_http3_streams_expire(http3);
}

/* What is sent in a turn. */
struct sending {
    uint64_t datagrams_max, parts_max;
};

static struct sending sending_of(const struct tsr_http3 *http3)
{
    return (struct sending){http3->counts.datagrams_out + TSR_HTTP3_TURN_DATAGRAMS,
                            http3->parts + TSR_HTTP3_TURN_PARTS};
}

/* Who is ready now has one turn; who becomes ready meanwhile, the next. */
static void write_ready(struct tsr_http3 *http3, struct tsr_http3_conns *ready, uint32_t conns_max,
                        struct sending most)
{
    struct tsr_http3_conn *last = TAILQ_LAST(ready, tsr_http3_conns);
    struct tsr_http3_conn *conn;
    bool is_last = false;
    for (uint32_t n = 0; n < conns_max && !is_last && !http3->no_room &&
                         http3->counts.datagrams_out < most.datagrams_max &&
                         http3->parts < most.parts_max && (conn = TAILQ_FIRST(ready));
         n++) {
        is_last = conn == last;
        TAILQ_REMOVE(ready, conn, ready_at);
        conn->is_ready = false;
        bool whole = tsr_http3_conn_write(conn); /* may be gone then */
        if (!whole && http3->no_room) {
            tsr_http3_conn_keep_place(conn);
        } else if (!whole) {
            tsr_http3_conn_ready(conn);
        }
    }
}

uint32_t tsr_http3_step(struct tsr_http3 *http3, uint64_t now_ns, uint64_t unix_s)
{
    uint64_t before = http3->counts.datagrams_out;
    http3->requests_until = http3->counts.requests + TSR_HTTP3_TURN_REQUESTS;
    http3->n_tokens = 0;
    http3->now_ns = now_ns;
    if (unix_s != http3->unix_s || !http3->date[0]) {
        http3->unix_s = unix_s;
        write_date(http3);
    }
    http3->no_room = false;
    expire(http3);
    const struct sending most = sending_of(http3);
    write_ready(http3, &http3->ready_first, UINT32_MAX, most);
    write_ready(http3, &http3->ready, UINT32_MAX, most);
    write_ready(http3, &http3->ready_shaking, TSR_HTTP3_TURN_SHAKING, sending_of(http3));
    http3->counts.bytes = http3->region.used;
    return (uint32_t)(http3->counts.datagrams_out - before);
}

uint32_t tsr_http3_tokens(const struct tsr_http3 *http3, const uint64_t **published_ns)
{
    *published_ns = http3->tokens_ns;
    return http3->n_tokens;
}

uint64_t tsr_http3_wake_ns(const struct tsr_http3 *http3)
{
    const uint64_t no_room_ns = 1000000; /* the port sends what it has meanwhile */
    uint64_t wake_ns = UINT64_MAX;
    const struct tsr_http3_timer *first = tsr_http3_timers_first(&http3->timers);
    const struct tsr_http3_stream *slowest = TAILQ_FIRST(&http3->moving);
    if (http3->known.n || http3->strangers.n || http3->asking.n) {
        return 0;
    }
    if (!TAILQ_EMPTY(&http3->ready_first) || !TAILQ_EMPTY(&http3->ready) ||
        !TAILQ_EMPTY(&http3->ready_shaking)) {
        return http3->no_room ? http3->now_ns + no_room_ns : 0;
    }
    if (slowest) {
        wake_ns = slowest->since_ns + tsr_http3_stall_ns(http3);
    }
    return first && first->due_ns < wake_ns ? first->due_ns : wake_ns;
}

void tsr_http3_drain(struct tsr_http3 *http3)
{
    struct tsr_http3_conn *conn;
    http3->draining = true;
    TAILQ_FOREACH(conn, &http3->open, at)
    {
        tsr_http3_conn_drain(conn);
    }
}
