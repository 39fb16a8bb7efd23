/* QUIC connections: how they begin, move and end, and what is answered to who has none. */
#include "world.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static int teardown(void **state)
{
    if (*state) {
        world_free(*state);
    }
    fake_reset();
    return 0;
}

static struct world *with(void **state, void (*change)(struct tsr_http3_options *))
{
    struct tsr_http3_options o;
    struct world *w;
    world_options(NULL, &o);
    if (change) {
        change(&o);
    }
    w = world_make(&o);
    fake_reset();
    *state = w;
    return w;
}

static bool ask(struct world *w, struct client *c)
{
    struct answer *a = client_ask(c, "POST", "/echo", "hello");
    world_run(w, 5 * second, world_answered);
    return a->ended && strcmp(a->body.bytes, "hello") == 0;
}

static bool gone(struct world *w)
{
    return w->clients[w->n_clients - 1]->gone;
}

/* ---- Beginning ---- */

static void test_connections_options_wrong(void **state)
{
    struct world w = {.room = 1};
    struct tsr_http3_options o;
    struct tsr_http3 *h;
    struct tsr_err err = {0};
    (void)state;
    world_options(&w, &o);
    o.certificate = "/nowhere/x.pem";
    assert_int_equal(tsr_http3_create(&h, NULL, &o, &err), -ENOENT);
    assert_non_null(strstr(err.text, "/nowhere/x.pem"));
    world_options(&w, &o);
    o.key = o.certificate;
    assert_int_equal(tsr_http3_create(&h, NULL, &o, &err), -EINVAL);
    o.key = NULL;
    assert_int_equal(tsr_http3_create(&h, NULL, &o, &err), -EINVAL);
    world_options(&w, &o);
    o.client_ca = o.key;
    assert_int_equal(tsr_http3_create(&h, NULL, &o, &err), -EINVAL);
    world_options(&w, &o);
    o.conns_max = 0;
    assert_int_equal(tsr_http3_create(&h, NULL, &o, &err), -EINVAL);
    world_options(&w, &o);
    o.way.room = NULL;
    assert_int_equal(tsr_http3_create(&h, NULL, &o, &err), -EINVAL);
    assert_null(h);
}

static void test_connections_alpn(void **state)
{
    struct world *w = with(state, NULL);
    const char *const others[] = {"h2", ""};
    for (int i = 0; i < 2; i++) {
        struct client *c = client_make(w, &(struct client_options){.alpn = others[i], .raw = true});
        world_run(w, 5 * second, gone);
        assert_true(c->gone);
        assert_int_equal(c->error.error_code, NGTCP2_CRYPTO_ERROR | 120);
    }
    assert_int_equal(world_counts(w)->established, 0);
}

static void test_connections_versions(void **state)
{
    struct world *w = with(state, NULL);
    struct client *c = client_make(w, &(struct client_options){.version = 0x0a0a0a0a});
    world_run(w, 5 * second, gone);
    assert_true(c->negotiated);
    assert_int_equal(world_counts(w)->negotiations, 1);
    assert_int_equal(world_counts(w)->accepted, 0);
    struct client *v2 = world_connect(w, &(struct client_options){.version = NGTCP2_PROTO_VER_V2});
    assert_true(ask(w, v2));
}

static void always_retry(struct tsr_http3_options *o)
{
    o->retry_from = 0;
}

static void test_connections_retry(void **state)
{
    struct world *w = with(state, always_retry);
    struct client *c = world_connect(w, NULL);
    assert_true(c->established && c->retried);
    assert_true(ask(w, c));
    assert_int_equal(world_counts(w)->retries, 1);
    /* A token of this connection spares the next one its Retry, from the same address alone. */
    world_run(w, second, NULL);
    assert_true(c->token_size > 0);
    c->silent = true;
    struct client_options again = {.token = c->token, .token_size = c->token_size, .port = 10000};
    struct client *d = world_connect(w, &again);
    assert_true(d->established && !d->retried);
    struct client_options other = {.token = c->token, .token_size = c->token_size, .host = 77};
    struct client *e = world_connect(w, &other);
    assert_true(e->established && e->retried);
}

static void test_connections_retry_token_wrong(void **state)
{
    struct world *w = with(state, always_retry);
    uint8_t token[60] = {NGTCP2_CRYPTO_TOKEN_MAGIC_RETRY, 18};
    struct client *c =
        client_make(w, &(struct client_options){.token = token, .token_size = sizeof token});
    world_run(w, 5 * second, gone);
    assert_true(c->gone);
    assert_int_equal(c->error.error_code, NGTCP2_INVALID_TOKEN);
    /* One that looks like none of ours is as none. */
    token[0] = 0x99;
    struct client *d =
        world_connect(w, &(struct client_options){.token = token, .token_size = sizeof token});
    assert_true(d->established && d->retried);
}

static void few_handshakes(struct tsr_http3_options *o)
{
    o->handshakes_max = 10;
    o->retry_from = 5;
}

static void test_connections_half_open(void **state)
{
    struct world *w = with(state, few_handshakes);
    for (int i = 0; i < 20; i++) { /* who never go on */
        struct client *c = client_make(w, NULL);
        client_write(c);
        c->silent = true;
    }
    world_run(w, second / 10, NULL);
    assert_int_equal(world_counts(w)->handshakes, 5);
    assert_int_equal(world_counts(w)->retries, 15);
    struct client *c = world_connect(w, NULL); /* who has an address has a way in */
    assert_true(c->established && c->retried);
    world_run(w, 20 * second, NULL);
    assert_int_equal(world_counts(w)->handshakes, 0);
    assert_int_equal(world_counts(w)->timeouts, 5);
}

static void test_connections_amplification(void **state)
{
    struct world *w = with(state, NULL);
    struct client *c = client_make(w, NULL);
    client_write(c);
    c->silent = true;
    world_run(w, 9 * second, NULL);
    assert_true(w->sent_bytes > 0);
    assert_true(w->sent_bytes <= 3 * w->came_bytes);
}

static void one_connection(struct tsr_http3_options *o)
{
    o->conns_max = 1;
}

static void test_connections_full(void **state)
{
    struct world *w = with(state, one_connection);
    struct client *c = world_connect(w, NULL);
    struct client *d = client_make(w, NULL);
    world_run(w, 5 * second, gone);
    assert_true(d->gone);
    assert_int_equal(d->error.error_code, NGTCP2_CONNECTION_REFUSED);
    assert_int_equal(world_counts(w)->refused, 1);
    assert_true(ask(w, c));
}

static void two_an_address(struct tsr_http3_options *o)
{
    o->address.conns = 2;
}

static void test_connections_address(void **state)
{
    struct world *w = with(state, two_an_address);
    world_connect(w, NULL);
    world_connect(w, NULL);
    struct client *c = world_connect(w, NULL);
    assert_false(c->established);
    assert_true(world_counts(w)->drops[TSR_HTTP3_DROP_ADDRESS] > 0);
    world_connect(w, &(struct client_options){.host = 9});
    assert_int_equal(world_counts(w)->established, 3);
}

static void eight_handshakes_an_address(struct tsr_http3_options *o)
{
    o->address.handshakes = 8;
}

static void test_connections_handshakes_of_an_address(void **state)
{
    struct world *w = with(state, eight_handshakes_an_address);
    for (int i = 0; i < 20; i++) { /* from a forged address, it may be: answers do not arrive */
        struct client *c = client_make(w, NULL);
        client_write(c);
        c->silent = true;
    }
    world_run(w, second / 10, NULL);
    assert_int_equal(world_counts(w)->handshakes, 4);
    assert_int_equal(world_counts(w)->retries, 16);
    struct client *c = world_connect(w, NULL); /* who is there has a way in */
    assert_true(c->established && c->retried);
    c = world_connect(w, &(struct client_options){.host = 9});
    assert_true(c->established && !c->retried);
    world_run(w, second / 10, NULL);
    /* Who is there may have eight. */
    const struct client_options known = {.host = 9, .token = c->token, .token_size = c->token_size};
    for (int i = 0; i < 20; i++) {
        c = client_make(w, &known);
        client_write(c);
        c->silent = true;
    }
    world_run(w, second / 10, NULL);
    assert_int_equal(world_counts(w)->handshakes, 8); /* the first four are late */
    assert_int_equal(world_counts(w)->drops[TSR_HTTP3_DROP_ADDRESS_HANDSHAKES], 12);
    world_run(w, 20 * second, NULL);
    assert_int_equal(world_counts(w)->handshakes, 0);
    assert_true(world_connect(w, &known)->established);
}

static void little_memory_an_address(struct tsr_http3_options *o)
{
    o->address.bytes = 600 << 10;
}

static void test_connections_memory_of_an_address(void **state)
{
    struct world *w = with(state, little_memory_an_address);
    for (int i = 0; i < 20; i++) {
        client_make(w, NULL);
    }
    world_run(w, 5 * second, world_established);
    uint64_t established = world_counts(w)->established;
    assert_true(established >= 5 && established < 20);
    assert_true(world_counts(w)->drops[TSR_HTTP3_DROP_ADDRESS_MEMORY] > 0);
    struct client *c = client_make(w, &(struct client_options){.host = 9});
    world_run(w, second, NULL);
    assert_true(c->established && ask(w, c));
}

static void few_datagrams(struct tsr_http3_options *o)
{
    o->datagrams_max = 20;
    o->address.datagrams = 30;
}

static void test_connections_rate(void **state)
{
    struct world *w = with(state, few_datagrams);
    struct client *c = world_connect(w, NULL);
    struct client *d = world_connect(w, NULL);
    world_run(w, second, NULL);
    w->now_ns = w->now_ns / second * second + second;
    const struct tsr_http3_counts *counts = world_counts(w);
    for (int i = 0; i < 40; i++) {
        client_ask(c, "GET", "/none", NULL);
        world_run(w, 5 * ms, NULL);
    }
    assert_true(counts->drops[TSR_HTTP3_DROP_RATE] > 0);
    assert_true(counts->requests < 40);
    assert_true(world_run(w, 20 * second, world_answered)); /* as after any loss */
    assert_true(ask(w, d));
    assert_true(world_connect(w, &(struct client_options){.host = 9})->established);
}

static void test_connections_many(void **state)
{
    struct world *w = with(state, NULL);
    for (int i = 0; i < 120; i++) {
        client_make(w, NULL);
    }
    assert_true(world_run(w, 20 * second, world_established));
    for (uint32_t i = 0; i < w->n_clients; i++) {
        assert_true(w->clients[i]->established);
        client_ask(w->clients[i], "GET", "/stream", NULL);
    }
    assert_true(world_run(w, 20 * second, world_answered));
    assert_int_equal(world_counts(w)->conns, 120);
    print_message("%llu KiB of the region a connection\n",
                  (unsigned long long)world_counts(w)->bytes / 120 / 1024);
    world_run(w, 100 * second, NULL); /* idle */
    assert_int_equal(world_counts(w)->conns, 0);
    assert_int_equal(world_counts(w)->bytes, 0);
}

/* ---- Certificates ---- */

static void test_connections_reload(void **state)
{
    struct certificate files = {.folder = ""};
    struct tsr_http3_options o;
    struct tsr_err err = {0};
    certificate_make(&files, 1);
    world_options(NULL, &o);
    o.certificate = files.certificate;
    o.key = files.key;
    struct world *w = *state = world_make(&o);
    fake_reset();
    struct client *c = world_connect(w, NULL);
    certificate_make(&files, 2);
    assert_int_equal(tsr_http3_reload(w->server, &err), 0);
    struct client *d = world_connect(w, NULL);
    unsigned n;
    const gnutls_datum_t *before = gnutls_certificate_get_peers(c->tls, &n);
    const gnutls_datum_t *after = gnutls_certificate_get_peers(d->tls, &n);
    assert_false(before->size == after->size &&
                 memcmp(before->data, after->data, before->size) == 0);
    assert_true(ask(w, c));
    unlink(files.key);
    assert_int_equal(tsr_http3_reload(w->server, &err), -ENOENT);
    assert_true(ask(w, world_connect(w, NULL)));
    certificate_remove(&files);
}

static void test_connections_client_certificate(void **state)
{
    struct certificate known = {.folder = ""}, unknown = {.folder = ""};
    struct tsr_http3_options o;
    certificate_make(&known, 1);
    certificate_make(&unknown, 2);
    world_options(NULL, &o);
    o.client_ca = known.certificate;
    struct world *w = *state = world_make(&o);
    fake_reset();
    const struct client_options good = {.certificate = known.certificate, .key = known.key};
    const struct client_options bad = {.certificate = unknown.certificate, .key = unknown.key};
    assert_true(ask(w, world_connect(w, &good)));
    struct client *none = client_make(w, NULL);
    world_run(w, 5 * second, gone);
    assert_true(none->gone);
    assert_int_equal(none->error.error_code & ~(uint64_t)0xff, NGTCP2_CRYPTO_ERROR);
    struct client *wrong = client_make(w, &bad);
    world_run(w, 5 * second, gone);
    assert_true(wrong->gone);
    assert_int_equal(wrong->error.error_code & ~(uint64_t)0xff, NGTCP2_CRYPTO_ERROR);
    assert_int_equal(world_counts(w)->established, 1);
    certificate_remove(&known);
    certificate_remove(&unknown);
}

/* ---- While it lives ---- */

static void test_connections_key_update(void **state)
{
    struct world *w = with(state, NULL);
    struct client *c = world_connect(w, NULL);
    assert_true(ask(w, c));
    world_run(w, second, NULL);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(ngtcp2_conn_initiate_key_update(c->quic, w->now_ns), 0);
        assert_true(ask(w, c));
        world_run(w, 10 * second, NULL);
    }
}

/* The link of the port carries `capacity`, the path less; the first answers are sent in 1,200
 * bytes. */
static void check_mtu(void **state, size_t capacity, uint32_t link_max, uint32_t found)
{
    struct world *w = with(state, NULL);
    w->capacity = capacity;
    w->link_max = link_max;
    struct client *c = world_connect(w, NULL);
    assert_true(c->established);
    for (int i = 0; i < 20; i++) {
        assert_true(ask(w, c));
        world_run(w, second, NULL);
    }
    w->largest = 0;
    struct answer *a = client_ask(c, "GET", "/long", NULL);
    assert_true(world_run(w, 60 * second, world_answered));
    assert_int_equal(a->body.size, FAKE_LONG_BYTES);
    assert_int_equal(w->largest, found);
    world_free(w);
    *state = NULL;
    fake_reset();
}

static void test_connections_path_mtu(void **state)
{
    check_mtu(state, 1472, 0, 1472);
    check_mtu(state, 1472, 1460, 1452);
    check_mtu(state, 1472, 1300, 1200);
    check_mtu(state, 1372, 0, 1372);
    check_mtu(state, 1372, 1371, 1200);
    check_mtu(state, 1200, 0, 1200);
}

static void bbr(struct tsr_http3_options *o)
{
    o->bbr = true;
}

/* Whatever the link loses: the answer is whole, and nobody sends all of it at once. */
static uint64_t check_congestion(void **state, void (*control)(struct tsr_http3_options *),
                                 unsigned loss)
{
    struct world *w = with(state, control);
    struct client *c = world_connect(w, NULL);
    uint64_t began_ns = w->now_ns;
    w->loss = loss;
    struct answer *a = client_ask(c, "GET", "/long", NULL);
    uint64_t most = 0;
    for (int i = 0; i < 60000 && !a->ended; i++) {
        uint64_t before = w->sent_bytes;
        w->now_ns += ms;
        world_turn(w);
        most = w->sent_bytes - before > most ? w->sent_bytes - before : most;
    }
    assert_int_equal(a->body.size, FAKE_LONG_BYTES);
    assert_true(most <= (64 << 10) + PAYLOAD_MAX);
    uint64_t took_ns = w->now_ns - began_ns;
    world_free(w);
    *state = NULL;
    fake_reset();
    return took_ns;
}

static void test_connections_congestion(void **state)
{
    check_congestion(state, NULL, 0);
    check_congestion(state, bbr, 0);
    assert_true(check_congestion(state, bbr, 50) < check_congestion(state, NULL, 50));
}

/* TLS is over with the handshake: keys are updated by QUIC (RFC 9001, 6). */
static void test_connections_tls_after_the_handshake(void **state)
{
    static const uint8_t key_update[] = {24, 0, 0, 1, 0};
    struct world *w = with(state, NULL);
    struct client *c = world_connect(w, NULL);
    assert_true(ask(w, c));
    assert_int_equal(ngtcp2_conn_submit_crypto_data(c->quic, NGTCP2_ENCRYPTION_LEVEL_1RTT,
                                                    key_update, sizeof key_update),
                     0);
    world_run(w, second, gone);
    assert_true(c->gone);
    assert_int_equal(c->error.error_code, NGTCP2_CRYPTO_ERROR | GNUTLS_A_UNEXPECTED_MESSAGE);
    assert_int_equal(world_counts(w)->closed_transport, 1);
}

static void test_connections_rebinding(void **state)
{
    struct world *w = with(state, NULL);
    struct client *c = world_connect(w, NULL);
    assert_true(ask(w, c));
    world_run(w, second, NULL);
    /* A NAT on the way has chosen another port: the client does not know, the answer finds it. */
    struct answer *a = client_ask(c, "GET", "/wait", NULL);
    world_run(w, 100 * ms, NULL);
    c->nat_port = 20000;
    client_ask(c, "GET", "/echo", NULL);
    world_run(w, second, NULL);
    assert_int_equal(w->last_sent.path.local.port, 20000);
    fake_answer(fake.waits, 200, "here");
    assert_true(world_run(w, second, world_answered));
    assert_string_equal(a->body.bytes, "here");
}

static void test_connections_migration(void **state)
{
    struct world *w = with(state, NULL);
    struct client *c = world_connect(w, NULL);
    assert_true(ask(w, c));
    world_run(w, second, NULL);
    c->place.path.local.port = 20001;
    ngtcp2_sockaddr_union to[2];
    ngtcp2_path path = client_path(&c->place.path, to);
    assert_int_equal(ngtcp2_conn_initiate_immediate_migration(c->quic, &path, w->now_ns), 0);
    assert_true(ask(w, c));
    assert_int_equal(w->last_sent.path.local.port, 20001);
}

static void test_connections_ids(void **state)
{
    struct world *w = with(state, NULL);
    struct client *c = world_connect(w, NULL);
    assert_true(ask(w, c));
    const ngtcp2_cid *id = ngtcp2_conn_get_dcid(c->quic);
    assert_int_equal(id->datalen, TSR_HTTP3_CID_BYTES);
    assert_int_equal(id->data[0], 3); /* the queue */
}

static void test_connections_no_room(void **state)
{
    struct world *w = with(state, NULL);
    struct client *c = world_connect(w, NULL);
    struct answer *a = client_ask(c, "GET", "/echo", NULL);
    for (int i = 0; i < 50; i++) {
        w->now_ns += ms;
        w->room = 0;
        for (uint32_t k = 0; k < w->n_packets; k++) {
            struct packet p = w->packets[k];
            if (p.to_server && p.at_ns <= w->now_ns) {
                w->packets[k] = w->packets[--w->n_packets];
                world_deliver(w, &p);
            }
        }
        client_write(c);
        tsr_http3_step(w->server, w->now_ns, UNIX_S);
        tsr_http3_take_waiting(w->server, w->now_ns);
    }
    assert_true(world_counts(w)->no_room > 0);
    assert_false(a->ended);
    assert_true(world_run(w, 5 * second, world_answered));
}

/* ---- Its end ---- */

static void test_connections_close_by_client(void **state)
{
    struct world *w = with(state, NULL);
    struct client *c = world_connect(w, NULL);
    client_ask(c, "GET", "/wait", NULL);
    world_run(w, second, NULL);
    uint8_t bytes[PAYLOAD_MAX];
    ngtcp2_path_storage where;
    ngtcp2_pkt_info info;
    ngtcp2_ccerr error;
    ngtcp2_path_storage_zero(&where);
    ngtcp2_ccerr_default(&error);
    ngtcp2_ccerr_set_application_error(&error, NGHTTP3_H3_NO_ERROR, NULL, 0);
    ngtcp2_ssize size = ngtcp2_conn_write_connection_close(c->quic, &where.path, &info, bytes,
                                                           sizeof bytes, &error, w->now_ns);
    assert_true(size > 0);
    world_send(w, true, &c->place.path, bytes, (size_t)size, 0);
    c->gone = true;
    world_run(w, 50 * ms, NULL);
    assert_int_equal(world_counts(w)->conns, 0);
    assert_int_equal(fake.open, 0);
    uint64_t sent = w->sent;
    world_send(w, true, &c->place.path, bytes, (size_t)size, 0); /* draining: not a word */
    world_run(w, 10 * ms, NULL);
    assert_int_equal(w->sent, sent);
    assert_int_equal(world_counts(w)->drops[TSR_HTTP3_DROP_CLOSED], 1);
}

static void test_connections_stateless_reset(void **state)
{
    struct tsr_http3_options o;
    world_options(NULL, &o);
    memset(o.secret, 7, sizeof o.secret);
    struct world *w = *state = world_make(&o);
    fake_reset();
    struct client *c = world_connect(w, NULL);
    assert_true(ask(w, c));
    world_run(w, second, NULL);
    tsr_http3_destroy(w->server); /* and starts again, with the same secret */
    o.port = w;
    struct tsr_err err;
    assert_int_equal(tsr_http3_create(&w->server, NULL, &o, &err), 0);
    client_ask(c, "GET", "/echo", NULL);
    world_run(w, 5 * second, gone);
    assert_true(c->reset);
    assert_true(world_counts(w)->stateless_resets > 0);
}

static void test_connections_drain(void **state)
{
    struct world *w = with(state, NULL);
    struct client *idle = world_connect(w, NULL);
    struct client *busy = world_connect(w, NULL);
    struct answer *a = client_ask(busy, "GET", "/wait", NULL);
    world_run(w, second, NULL);
    tsr_http3_drain(w->server);
    world_run(w, second, NULL);
    assert_true(idle->gone);
    assert_int_equal(idle->error.error_code, NGHTTP3_H3_NO_ERROR);
    assert_false(busy->gone);
    assert_true(busy->goaway);
    struct client *late = client_make(w, NULL);
    world_run(w, second, gone);
    assert_int_equal(late->error.error_code, NGTCP2_CONNECTION_REFUSED);
    fake_answer(fake.waits, 200, "last");
    world_run(w, second, NULL);
    assert_string_equal(a->body.bytes, "last");
    assert_true(busy->gone);
    assert_int_equal(busy->error.error_code, NGHTTP3_H3_NO_ERROR);
    assert_int_equal(world_counts(w)->conns, 0);
}

/* Nor does a door that ends wait for a client that is gone. */
static void test_connections_drain_without_client(void **state)
{
    struct world *w = with(state, NULL);
    struct client *dead = world_connect(w, NULL), *slow = world_connect(w, NULL);
    client_ask(dead, "GET", "/wait", NULL);
    world_run(w, second, NULL);
    struct tsr_api_exchange *of_dead = fake.waits;
    client_ask(slow, "GET", "/wait", NULL);
    world_run(w, second, NULL);
    dead->silent = true;
    fake_answer(of_dead, 200, "nobody reads this");
    fake_head(fake.waits, 200, TSR_API_UNKNOWN);
    tsr_http3_drain(w->server);
    world_run(w, 2 * second, NULL);
    assert_int_equal(world_counts(w)->conns, 2);
    world_run(w, 2 * second, NULL);
    assert_int_equal(world_counts(w)->conns, 1);
    for (int i = 0; i < 8; i++) { /* a token a second: it moves */
        fake_body(fake.waits, "token", 0);
        world_run(w, second, NULL);
    }
    assert_int_equal(world_counts(w)->conns, 1);
    fake_end(fake.waits);
    world_run(w, second, NULL);
    assert_int_equal(world_counts(w)->conns, 0);
}

/* One answer that is not read takes none with it that is. */
static void test_connections_drain_beside_a_stalled_answer(void **state)
{
    static char page[64 << 10];
    const struct client_options small = {.stream_window = 4096};
    struct world *w = with(state, NULL);
    w->delay_ns = 100 * ms; /* so that mostly a token is on its way */
    struct client *c = world_connect(w, &small);
    c->reads = false;
    memset(page, 'x', sizeof page - 1);
    client_ask(c, "GET", "/wait", NULL);
    world_run(w, second, NULL);
    struct tsr_api_exchange *stalled = fake.waits;
    struct answer *live = client_ask(c, "GET", "/wait", NULL);
    world_run(w, second, NULL);
    fake_answer(stalled, 200, page);
    fake_head(fake.waits, 200, TSR_API_UNKNOWN);
    world_run(w, 900 * ms, NULL);
    tsr_http3_drain(w->server);
    for (int i = 0; i < 40; i++) {
        fake_body(fake.waits, "token", 0);
        world_run(w, 250 * ms, NULL);
        assert_int_equal(world_counts(w)->conns, 1);
    }
    fake_end(fake.waits);
    world_run(w, second, NULL);
    assert_true(live->ended);
    assert_int_equal(live->body.size, 40 * strlen("token"));
    assert_int_equal(world_counts(w)->conns, 0);
}

static void few_resets(struct tsr_http3_options *o)
{
    o->resets_max = 20;
}

static void test_connections_rapid_reset(void **state)
{
    struct world *w = with(state, few_resets);
    struct client *c = world_connect(w, NULL);
    for (int i = 0; i < 60 && !c->gone; i++) {
        struct answer *a = client_ask(c, "GET", "/wait", NULL);
        client_write(c);
        ngtcp2_conn_shutdown_stream(c->quic, 0, a->id, NGHTTP3_H3_REQUEST_CANCELLED);
        world_run(w, 5 * ms, NULL);
    }
    world_run(w, second, gone);
    assert_true(c->gone);
    assert_int_equal(c->error.error_code, NGHTTP3_H3_EXCESSIVE_LOAD);
    assert_int_equal(world_counts(w)->excessive, 1);
    assert_int_equal(fake.open, 0);
}

/* ---- What belongs to nobody ---- */

static void test_connections_garbage(void **state)
{
    struct world *w = with(state, NULL);
    struct client *c = world_connect(w, NULL);
    uint64_t sent = w->sent;
    for (int i = 0; i < 20000; i++) {
        uint8_t bytes[1300];
        uint32_t size = i % 2 ? sizeof bytes : world_random(w, sizeof bytes);
        for (uint32_t k = 0; k < size; k++) {
            bytes[k] = (uint8_t)world_random(w, 256);
        }
        const struct tsr_datagram datagram = {
            .path = {c->place.path.remote, c->place.path.local}, .bytes = bytes, .size = size};
        w->room = 64;
        w->n_packets = 0;
        tsr_http3_datagram(w->server, &datagram, w->now_ns);
    }
    assert_int_equal(world_counts(w)->conns, 1);
    assert_true(w->sent - sent <= 1000); /* of one second */
    assert_true(world_counts(w)->drops[TSR_HTTP3_DROP_LIMITED] > 0);
    assert_true(world_counts(w)->drops[TSR_HTTP3_DROP_UNKNOWN] > 0);
    w->now_ns += second;
    assert_true(ask(w, c));
}

/* Each costs keys, so each is counted. */
static void test_connections_garbage_initial(void **state)
{
    struct world *w = with(state, NULL);
    w->spoil = 1000;
    for (int i = 0; i < 50; i++) {
        struct client *c = client_make(w, NULL);
        client_write(c);
        c->silent = true;
    }
    world_run(w, second, NULL);
    const uint64_t *drops = world_counts(w)->drops;
    assert_int_equal(world_counts(w)->conns, 0);
    assert_int_equal(drops[TSR_HTTP3_DROP_INITIAL] + drops[TSR_HTTP3_DROP_UNKNOWN] +
                         drops[TSR_HTTP3_DROP_MALFORMED] + drops[TSR_HTTP3_DROP_SHORT] +
                         world_counts(w)->negotiations,
                     50);
    assert_true(drops[TSR_HTTP3_DROP_INITIAL] > 25);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_connections_options_wrong),
        cmocka_unit_test_teardown(test_connections_alpn, teardown),
        cmocka_unit_test_teardown(test_connections_versions, teardown),
        cmocka_unit_test_teardown(test_connections_retry, teardown),
        cmocka_unit_test_teardown(test_connections_retry_token_wrong, teardown),
        cmocka_unit_test_teardown(test_connections_half_open, teardown),
        cmocka_unit_test_teardown(test_connections_amplification, teardown),
        cmocka_unit_test_teardown(test_connections_full, teardown),
        cmocka_unit_test_teardown(test_connections_address, teardown),
        cmocka_unit_test_teardown(test_connections_handshakes_of_an_address, teardown),
        cmocka_unit_test_teardown(test_connections_memory_of_an_address, teardown),
        cmocka_unit_test_teardown(test_connections_rate, teardown),
        cmocka_unit_test_teardown(test_connections_many, teardown),
        cmocka_unit_test_teardown(test_connections_reload, teardown),
        cmocka_unit_test_teardown(test_connections_client_certificate, teardown),
        cmocka_unit_test_teardown(test_connections_key_update, teardown),
        cmocka_unit_test_teardown(test_connections_tls_after_the_handshake, teardown),
        cmocka_unit_test(test_connections_path_mtu),
        cmocka_unit_test(test_connections_congestion),
        cmocka_unit_test_teardown(test_connections_rebinding, teardown),
        cmocka_unit_test_teardown(test_connections_migration, teardown),
        cmocka_unit_test_teardown(test_connections_ids, teardown),
        cmocka_unit_test_teardown(test_connections_no_room, teardown),
        cmocka_unit_test_teardown(test_connections_close_by_client, teardown),
        cmocka_unit_test_teardown(test_connections_stateless_reset, teardown),
        cmocka_unit_test_teardown(test_connections_drain, teardown),
        cmocka_unit_test_teardown(test_connections_drain_without_client, teardown),
        cmocka_unit_test_teardown(test_connections_drain_beside_a_stalled_answer, teardown),
        cmocka_unit_test_teardown(test_connections_rapid_reset, teardown),
        cmocka_unit_test_teardown(test_connections_garbage, teardown),
        cmocka_unit_test_teardown(test_connections_garbage_initial, teardown),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    certificate_remove(&world_certificate);
    return failed;
}
