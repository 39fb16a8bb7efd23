/* What an attacker sends: how much of it is done in one turn, what it leaves behind, and whether
 * others are served meanwhile. */
#include "world.h"

#include "initial.h"

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

static struct world *with(void **state, uint32_t conns_max, uint32_t retry_from)
{
    struct tsr_http3_options o;
    world_options(NULL, &o);
    o.conns_max = conns_max;
    o.retry_from = retry_from;
    *state = world_make(&o);
    fake_reset();
    return *state;
}

/* A datagram from the attacker's n-th address; what is answered is lost. */
static void attack(struct world *w, uint8_t *bytes, uint32_t size, uint32_t n)
{
    const struct tsr_datagram datagram = {
        .path = {.local = {.ip = {10, 0, 0, 1}, .port = SERVER_PORT, .family = 4},
                 .remote = {.ip = {192, (uint8_t)(n >> 16), (uint8_t)(n >> 8), (uint8_t)n},
                            .port = (uint16_t)(n % 60000 + 1024),
                            .family = 4}},
        .bytes = bytes,
        .size = size,
    };
    w->came_bytes += size;
    tsr_http3_datagram(w->server, &datagram, w->now_ns);
}

static void attack_with_hello(struct world *w, uint32_t n)
{
    uint8_t bytes[INITIAL_BYTES];
    initial_make(bytes);
    attack(w, bytes, sizeof bytes, n);
}

/* A turn of the server alone. */
static uint64_t server_turn(struct world *w)
{
    uint64_t sent = w->sent;
    w->room = 1000;
    w->n_packets = 0;
    tsr_http3_step(w->server, w->now_ns, UNIX_S);
    tsr_http3_take_waiting(w->server, w->now_ns);
    return w->sent - sent;
}

/* The keys of RFC 9001, A.1. */
static void test_floods_initial_keys(void **state)
{
    (void)state;
    static const uint8_t id[8] = {0x83, 0x94, 0xc8, 0xf0, 0x3e, 0x51, 0x57, 0x08};
    static const uint8_t key[4] = {0x1f, 0x36, 0x96, 0x13}, hp[4] = {0x9f, 0x50, 0x44, 0x9e};
    struct initial_keys keys;
    initial_derive(&keys, id, sizeof id);
    assert_memory_equal(keys.key, key, sizeof key);
    assert_memory_equal(keys.hp, hp, sizeof hp);
}

static void test_floods_one_handshake_a_turn(void **state)
{
    struct world *w = with(state, CLIENTS_MAX, CLIENTS_MAX);
    for (uint32_t i = 0; i < 100; i++) {
        attack_with_hello(w, i);
    }
    assert_int_equal(world_counts(w)->accepted, 0);
    for (uint32_t i = 1; i <= 100; i++) {
        assert_int_equal(tsr_http3_wake_ns(w->server), 0);
        server_turn(w);
        assert_int_equal(world_counts(w)->accepted, i);
    }
    assert_int_equal(world_counts(w)->handshakes, 100);
}

/* The keys are made when the second half of the hello has come. */
static void test_floods_halves_of_hellos(void **state)
{
    enum { N = 50, HALF = 60 };
    struct world *w = with(state, CLIENTS_MAX, CLIENTS_MAX);
    static uint8_t second_halves[N][INITIAL_BYTES];
    for (uint32_t i = 0; i < N; i++) {
        uint8_t frame[INITIAL_HELLO_MAX], part[INITIAL_HELLO_MAX] = {6}, first[INITIAL_BYTES];
        struct initial initial = {.dcid_bytes = 16, .frames = part};
        initial_random(initial.dcid, initial.dcid_bytes);
        initial_random(initial.scid, sizeof initial.scid);
        size_t size = initial_hello(initial.scid, frame) - 4;
        part[2] = HALF;
        memcpy(part + 3, frame + 4, HALF);
        initial.frames_bytes = 3 + HALF;
        initial_write(&initial, first);
        part[1] = HALF; /* the offset */
        part[2] = (uint8_t)(0x40 | (size - HALF) >> 8);
        part[3] = (uint8_t)(size - HALF);
        memcpy(part + 4, frame + 4 + HALF, size - HALF);
        initial.frames_bytes = 4 + size - HALF;
        initial.number = 1;
        initial_write(&initial, second_halves[i]);
        attack(w, first, sizeof first, i);
        server_turn(w);
    }
    assert_int_equal(world_counts(w)->handshakes, N);
    server_turn(w);
    server_turn(w);
    for (uint32_t i = 0; i < N; i++) {
        attack(w, second_halves[i], INITIAL_BYTES, i);
    }
    for (uint32_t i = 0; i < N; i++) {
        assert_true(server_turn(w) <= 3); /* one flight: at most three times what came */
        assert_int_equal(tsr_http3_wake_ns(w->server), 0);
    }
    assert_true(world_counts(w)->datagrams_out >= N);
}

/* Spoofed addresses by the thousand: what is kept is bounded, what is answered is less than three
 * times what came, who is honest gets in, and all that was kept is given back. */
static void test_floods_spoofed(void **state)
{
    enum { RETRY_FROM = 16, BURSTS = 60, BURST = 32 };
    struct world *w = with(state, CLIENTS_MAX, RETRY_FROM);
    struct client *honest = world_connect(w, NULL);
    world_run(w, second, NULL);
    const uint64_t bytes = world_counts(w)->bytes, sent = w->sent_bytes;
    w->came_bytes = 0;
    for (uint32_t i = 0; i < BURSTS; i++) {
        for (uint32_t k = 0; k < BURST; k++) {
            attack_with_hello(w, i * BURST + k);
        }
        server_turn(w);
    }
    const struct tsr_http3_counts *counts = world_counts(w);
    assert_true(counts->handshakes <= RETRY_FROM);
    assert_true(counts->retries > 0 && counts->drops[TSR_HTTP3_DROP_BUSY] > 0);
    assert_true(w->sent_bytes - sent <= 3 * w->came_bytes);
    assert_true(counts->bytes - bytes <= RETRY_FROM * 100000);

    struct client *newcomer = client_make(w, NULL);
    for (uint32_t n = 0; !newcomer->established && n < 1000; n++) {
        for (uint32_t k = 0; k < 4; k++) {
            attack_with_hello(w, n * 4 + k);
        }
        world_run(w, 20 * ms, NULL);
    }
    assert_true(newcomer->established && newcomer->retried);
    struct answer *a = client_ask(newcomer, "GET", "/stream", NULL);
    struct answer *b = client_ask(honest, "GET", "/stream", NULL);
    assert_true(world_run(w, 5 * second, world_answered) && a->ended && b->ended);

    world_run(w, 60 * second, NULL);
    assert_int_equal(counts->conns, 0);
    assert_int_equal(counts->handshakes, 0);
    assert_int_equal(counts->bytes, 0);
}

/* Handshakes that end at once are forgotten over several turns. */
static void test_floods_expire_together(void **state)
{
    struct world *w = with(state, CLIENTS_MAX, CLIENTS_MAX);
    for (uint32_t i = 0; i < 200; i++) {
        attack_with_hello(w, i);
        server_turn(w);
    }
    w->now_ns += 11 * second;
    uint32_t turns = 0;
    while (world_counts(w)->conns) {
        uint64_t conns = world_counts(w)->conns;
        assert_true(tsr_http3_wake_ns(w->server) <= w->now_ns);
        server_turn(w);
        assert_true(conns - world_counts(w)->conns <= 32);
        turns++;
    }
    assert_true(turns >= 200 / 32);
    assert_int_equal(world_counts(w)->bytes, 0);
}

static uint64_t kept_alive(void **state, uint64_t idle_ns)
{
    const struct client_options hasty = {.idle_ns = idle_ns};
    struct world *w = with(state, 4, 128);
    w->delay_ns = ms / 10;
    client_ask(world_connect(w, &hasty), "GET", "/wait", NULL);
    world_run(w, second, NULL);
    uint64_t sent = w->sent;
    world_run(w, 5 * second, NULL);
    uint64_t open = world_counts(w)->conns;
    sent = w->sent - sent;
    teardown(state);
    *state = NULL;
    return open ? sent : 0;
}

/* Who waits is asked for a sign of life, but not as often as it likes to say. */
static void test_floods_keep_alive(void **state)
{
    assert_in_range(kept_alive(state, second), 1, 5 * 4);
    assert_in_range(kept_alive(state, 1 * ms), 0, 5 * 4);
}

/* One client that the link does not know any more holds up nobody: neither who comes nor who is
 * there; and the door does not turn and turn for it. */
static void test_floods_unknown_neighbour(void **state)
{
    struct world *w = with(state, 4, 128);
    struct client *lost = world_connect(w, NULL);
    client_ask(lost, "GET", "/wait", NULL);
    world_run(w, second, NULL);
    w->lost = lost->place.path.local.port;
    fake_answer(fake.waits, 200, "nobody knows where");
    world_run(w, 10 * ms, NULL);
    struct client *c = world_connect(w, NULL);
    assert_true(c->established);
    struct answer *a = client_ask(c, "GET", "/health", NULL);
    uint32_t asked = w->asked;
    world_run(w, second, NULL);
    assert_true(a->ended);
    assert_true(w->asked - asked < 200);
    w->lost = 0; /* it is heard again */
    world_run(w, 5 * second, NULL);
    assert_true(lost->answers[0]->ended);
}

/* As the door ends many requests' time may be over at once. */
static void test_floods_stalls_of_a_turn(void **state)
{
    enum { CLIENTS = 32, EACH = 12 };
    const struct client_options raw = {.raw = true};
    struct world *w = with(state, CLIENTS, 128);
    for (int i = 0; i < CLIENTS; i++) {
        struct client *c = world_connect(w, &raw);
        for (int k = 0; k < EACH; k++) {
            client_say(c, false, "\x01\x40\x64\x00\x00\xd1", 6, false); /* a part of a head */
        }
    }
    world_run(w, 5 * second, NULL);
    tsr_http3_drain(w->server);
    server_turn(w);
    assert_in_range(world_counts(w)->bad_requests, 1, CLIENTS * EACH - 1);
    for (int i = 0; i < 4; i++) {
        server_turn(w);
    }
    assert_int_equal(world_counts(w)->bad_requests, CLIENTS * EACH);
}

/* Who asks for much does not keep a turn for himself. */
static void test_floods_large_answers(void **state)
{
    struct world *w = with(state, CLIENTS_MAX, CLIENTS_MAX);
    for (int i = 0; i < 8; i++) {
        client_ask(world_connect(w, NULL), "GET", "/long", NULL);
    }
    uint64_t most = 0;
    for (int i = 0; i < 3000 && !world_answered(w); i++) {
        uint64_t before = w->sent;
        w->room = 1000;
        tsr_http3_step(w->server, w->now_ns, UNIX_S);
        most = w->sent - before > most ? w->sent - before : most;
        world_turn(w);
        w->now_ns += ms;
    }
    assert_true(world_answered(w));
    assert_in_range(most, 32, 64 + 12); /* the last one may have begun its 16 KiB */
}

/* What has come to the server is delivered; it does no more yet. */
static uint64_t requests_delivered(struct world *w)
{
    uint64_t before = world_counts(w)->requests;
    w->now_ns += w->delay_ns;
    while (w->n_packets) {
        world_deliver(w, &w->packets[--w->n_packets]);
    }
    return world_counts(w)->requests - before;
}

static void test_floods_requests_of_a_turn(void **state)
{
    enum { N = 100, A_DATAGRAM = 32 };
    struct world *w = with(state, CLIENTS_MAX, CLIENTS_MAX);
    struct client *many = world_connect(w, NULL), *one = world_connect(w, NULL);
    world_run(w, second, NULL);
    for (int i = 0; i < N; i++) {
        client_ask(many, "GET", "/none", NULL);
    }
    client_ask(one, "GET", "/none", NULL); /* a small datagram: it goes before those that wait */
    client_write(one);
    client_write(many);
    assert_in_range(requests_delivered(w), 32, 32 + A_DATAGRAM);
    assert_true(world_run(w, 10 * second, world_answered));
    assert_int_equal(world_counts(w)->requests, N + 1);
}

static void test_floods_tokens_go_first(void **state)
{
    struct world *w = with(state, CLIENTS_MAX, CLIENTS_MAX);
    const uint64_t *tokens_ns;
    for (int i = 0; i < 8; i++) {
        client_ask(world_connect(w, NULL), "GET", "/long", NULL);
    }
    client_ask(world_connect(w, NULL), "POST", "/wait", "body");
    while (!fake.waits) {
        world_turn(w);
        w->now_ns += ms;
    }
    struct tsr_api_exchange *e = fake.waits;
    fake_head(e, 200, TSR_API_UNKNOWN);
    requests_delivered(w); /* acknowledgements: all the others may write again */
    fake_body(e, "data: 1\n\n", 77);
    w->room = 1;
    tsr_http3_step(w->server, w->now_ns, UNIX_S);
    assert_int_equal(tsr_http3_tokens(w->server, &tokens_ns), 1);
    fake_end(e);
    assert_true(world_run(w, 100 * second, world_answered));
}

/* Who has a token first is served first: where little is sent in a turn, none waits for ever. */
static void test_floods_tokens_in_turn(void **state)
{
    enum { N = 4, TURNS = 100 };
    struct world *w = with(state, N, CLIENTS_MAX);
    struct tsr_api_exchange *exchanges[N];
    struct answer *answers[N];
    w->delay_ns = ms / 100;
    for (int i = 0; i < N; i++) {
        fake.waits = NULL;
        answers[i] = client_ask(world_connect(w, NULL), "GET", "/wait", NULL);
        world_run(w, 100 * ms, NULL);
        exchanges[i] = fake.waits;
        fake_head(exchanges[i], 200, TSR_API_UNKNOWN);
    }
    world_run(w, 100 * ms, NULL);
    for (int turn = 0; turn < TURNS; turn++) {
        for (int i = 0; i < N; i++) {
            fake_body(exchanges[i], "x", 1);
        }
        w->room = 1;
        tsr_http3_step(w->server, w->now_ns, UNIX_S);
        w->now_ns += ms;
    }
    for (uint32_t i = 0; i < w->n_packets; i++) {
        world_deliver(w, &w->packets[i]);
    }
    for (int i = 0; i < N; i++) {
        assert_in_range(answers[i]->body.size, TURNS - 2 * N, TURNS);
    }
}

/* It goes the way of a token on each connection that waits for one, in turn, and sends nothing. */
static void test_floods_rehearsal(void **state)
{
    struct world *w = with(state, CLIENTS_MAX, CLIENTS_MAX);
    const struct tsr_api_exchange *before = NULL;
    tsr_http3_rehearse(w->server); /* nobody waits */
    world_connect(w, NULL);        /* nor does this one */
    for (int i = 0; i < 2; i++) {
        client_ask(world_connect(w, NULL), "POST", "/wait", "body");
        while (fake.waits == before) {
            world_turn(w);
            w->now_ns += ms;
        }
        before = fake.waits;
    }
    world_run(w, second, NULL);
    uint64_t sent = w->sent;
    for (int i = 0; i < 100; i++) {
        tsr_http3_rehearse(w->server);
        tsr_http3_rehearse(w->server);
        w->asked = 0;
        tsr_http3_step(w->server, w->now_ns, UNIX_S);
        assert_int_equal(w->asked, 2);
    }
    assert_int_equal(w->sent, sent);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_floods_initial_keys),
        cmocka_unit_test_teardown(test_floods_one_handshake_a_turn, teardown),
        cmocka_unit_test_teardown(test_floods_halves_of_hellos, teardown),
        cmocka_unit_test_teardown(test_floods_spoofed, teardown),
        cmocka_unit_test_teardown(test_floods_expire_together, teardown),
        cmocka_unit_test_teardown(test_floods_large_answers, teardown),
        cmocka_unit_test_teardown(test_floods_keep_alive, teardown),
        cmocka_unit_test_teardown(test_floods_unknown_neighbour, teardown),
        cmocka_unit_test_teardown(test_floods_stalls_of_a_turn, teardown),
        cmocka_unit_test_teardown(test_floods_requests_of_a_turn, teardown),
        cmocka_unit_test_teardown(test_floods_tokens_go_first, teardown),
        cmocka_unit_test_teardown(test_floods_tokens_in_turn, teardown),
        cmocka_unit_test_teardown(test_floods_rehearsal, teardown),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    certificate_remove(&world_certificate);
    return failed;
}
