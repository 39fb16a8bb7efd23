/* Clients that break every rule they can reach, next to one that keeps them: the engine's side
 * survives, says why it dropped whom, and leaks nothing. TESSERA_ROUNDS sets how many hostile
 * channels the random part opens. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "channel_priv.h"
#include "fake_engine.h"

#include <tsr/shm/guard.h>
#include <tsr/shm/link.h>
#include <tsr/shm/log.h>

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <tessera.h>

enum { ROUNDS_USUAL = 1500 };

static struct fake_engine engine;
static struct tsr_err why;
static struct tessera_error err;
static struct sigaction guard_action; /* CMocka puts its own SIGBUS handler on top for each test */

/* ---- What the engine says when it drops somebody ---- */

static pthread_mutex_t said_lock = PTHREAD_MUTEX_INITIALIZER;
static char said[256];

static void hear(void *ctx, enum tsr_log_level level, const char *text)
{
    (void)ctx;
    if (level >= TSR_LOG_WARN) {
        pthread_mutex_lock(&said_lock);
        snprintf(said, sizeof said, "%s", text);
        pthread_mutex_unlock(&said_lock);
    }
}

static int setup(void **state)
{
    (void)state;
    said[0] = '\0';
    return fake_prepare(&engine, NULL) || fake_start_thread(&engine);
}

static int teardown(void **state)
{
    (void)state;
    fake_stop_thread(&engine);
    return engine.stats.bytes || engine.stats.channels || engine.stats.pending;
}

static struct tsr_link knock(void)
{
    struct tsr_link link;
    int result = tsr_link_open(&link, engine.path, "hostile", 10000, NULL, &why);
    if (result) {
        fail_msg("%s", why.text);
    }
    return link;
}

/* Whether a client that keeps the rules is served, as ever. */
static void assert_others_are_served(void)
{
    struct tessera *t;
    if (tessera_connect(&t, engine.path, NULL, &err) != 0) {
        fail_msg("%s", err.text);
    }
    uint64_t id = tessera_submit_text(t, "still here", 10, NULL, &err);
    assert_int_not_equal(id, 0);
    char out[16];
    size_t used = 0;
    struct tessera_event event;
    int got;
    while ((got = tessera_wait(t, &event, 20000, &err)) == 1) {
        if (event.kind == TESSERA_TOKEN && used < sizeof out) {
            out[used++] = event.text[0];
        }
    }
    assert_int_equal(got, 0);
    assert_int_equal(used, 10);
    assert_memory_equal(out, "still here", 10);
    tessera_close(t);
}

/* Waits until the engine hangs up, and returns its sentence. */
static const char *dropped_with(struct tsr_link *link)
{
    for (int i = 0; i < 400 && !tsr_link_check(link); i++) {
        usleep(5000 + 1000 * (useconds_t)(i > 50));
    }
    assert_int_equal(link->lost.code, -EPIPE);
    return link->lost.text;
}

static void wake(struct tsr_link *link)
{
    send(link->fd, "!", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* Writes a header where the engine looks next. */
static void forge(struct tsr_link *link, uint32_t bytes, uint16_t type)
{
    struct tsr_record *record =
        (void *)(link->out.data + (link->out.written & (link->out.bytes - 1)));
    atomic_store(&record->shape, bytes | (uint64_t)type << 32);
    atomic_store(&record->seq, link->out.key + link->out.written);
    wake(link);
}

static void submit(struct tsr_link *link, uint64_t id, uint32_t payload_bytes, uint32_t credit)
{
    struct tsr_wire_submit *s;
    uint32_t chunk = payload_bytes < 8000 ? payload_bytes : 8000;
    if (tsr_link_reserve(link, sizeof *s + chunk, (void **)&s) != 1) {
        return;
    }
    struct tsr_wire_submit fixed = {.request = id,
                                    .payload_bytes = payload_bytes,
                                    .chunk_bytes = chunk,
                                    .kind = TSR_PAYLOAD_TEXT,
                                    .credit = credit,
                                    .top_p = 1,
                                    .repetition_penalty = 1};
    memcpy((uint8_t *)s + 16, (uint8_t *)&fixed + 16, sizeof fixed - 16);
    memset(s + 1, 'h', chunk);
    tsr_link_commit(link, TSR_REQ_SUBMIT, sizeof *s + chunk);
    tsr_link_flush(link);
}

/* ---- Crafted ---- */

static void test_hostile_lengths_and_types_are_told(void **state)
{
    (void)state;
    const struct {
        uint32_t bytes;
        uint16_t type;
        const char *says;
    } cases[] = {
        {0, TSR_REQ_SUBMIT, "impossible"},
        {15, TSR_REQ_SUBMIT, "impossible"},
        {(64 << 10) / 4 + 1, TSR_REQ_SUBMIT, "impossible"},
        {UINT32_MAX, TSR_REQ_SUBMIT, "impossible"},
        {UINT32_MAX - 63, TSR_REQ_SUBMIT, "impossible"},
        {64, TSR_RECORD_PAD, "impossible"},
        {16, TSR_REQ_SUBMIT, "needs 128"},
        {16, TSR_REQ_CANCEL, "needs 32"},
        {64, 0, "type 0"},
        {64, TSR_EV_TOKEN, "type 18"},
        {64, 0x7fff, "type 32767"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct tsr_link link = knock();
        forge(&link, cases[i].bytes, cases[i].type);
        const char *text = dropped_with(&link);
        if (!strstr(text, cases[i].says)) {
            fail_msg("case %zu: \"%s\" does not say \"%s\"", i, text, cases[i].says);
        }
        tsr_link_close(&link);
    }
    assert_int_equal(atomic_load(&engine.broken), sizeof cases / sizeof cases[0]);
    assert_others_are_served();
}

static void test_hostile_consumer_indices_are_told(void **state)
{
    (void)state;
    const uint64_t lies[] = {1, 1 << 30, UINT64_MAX, UINT64_MAX - 63};
    for (size_t i = 0; i < sizeof lies / sizeof lies[0]; i++) {
        struct tsr_link link = knock();
        atomic_store(&link.ctl->event_head, lies[i]);
        submit(&link, 1, 8000,
               UINT32_MAX); /* more tokens than the ring holds: the index must be looked at */
        const char *text = dropped_with(&link);
        assert_non_null(strstr(text, "consumer index"));
        tsr_link_close(&link);
    }
    assert_others_are_served();
}

static void test_hostile_order_of_parts_is_told(void **state)
{
    (void)state;
    struct tsr_link link = knock();
    submit(&link, 1, 20000, 1);
    struct tsr_wire_continue *c;
    assert_int_equal(tsr_link_reserve(&link, sizeof *c + 8, (void **)&c), 1);
    c->request = 1;
    c->payload_off = 4; /* was there already */
    c->chunk_bytes = 8;
    tsr_link_commit(&link, TSR_REQ_CONTINUE, sizeof *c + 8);
    tsr_link_flush(&link);
    assert_non_null(strstr(dropped_with(&link), "out of order"));
    tsr_link_close(&link);
    assert_others_are_served();
}

static void test_hostile_holes_are_told(void **state)
{
    (void)state;
    struct tsr_link link = knock();
    submit(&link, 1, 100, 10);
    assert_int_equal(madvise(link.requests.base, link.requests.bytes, MADV_REMOVE), 0);
    submit(&link, 2, 100, 10);
    assert_int_equal(madvise(link.requests.base + TSR_CTL_BYTES,
                             link.requests.bytes - TSR_CTL_BYTES, MADV_REMOVE),
                     0);
    assert_non_null(strstr(dropped_with(&link), "gave back pages"));
    tsr_link_close(&link);
    assert_others_are_served();
}

/* The engine's own mapping of the request region, replaced by one whose file then shrinks: what the
 * kernel does where a page is poisoned or none is left. */
static void break_pages(struct tsr_region *region, int protection, size_t keep)
{
    int fd = memfd_create("tessera-failing", MFD_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, (off_t)region->bytes), 0);
    assert_int_equal(pwrite(fd, region->base, keep, 0), keep);
    assert_ptr_equal(mmap(region->base, region->bytes, protection, MAP_SHARED | MAP_FIXED, fd, 0),
                     region->base);
    assert_int_equal(ftruncate(fd, (off_t)keep), 0);
    close(fd);
}

static void test_hostile_failing_pages_are_survived(void **state)
{
    (void)state;
    sigaction(SIGBUS, &guard_action, NULL);
    /* By hand, without the engine's thread: only so the moment is certain. */
    for (int which = 0; which < 4; which++) {
        struct fake_engine other;
        assert_int_equal(fake_prepare(&other, NULL), 0);
        pid_t client = fork();
        if (client == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            struct tsr_link link;
            for (int i = 0; i < 5000 && access(other.path, F_OK) != 0; i++) {
                usleep(1000);
            }
            if (tsr_link_open(&link, other.path, "failing", 10000, NULL, NULL) == 0) {
                submit(&link, 1, 3000, 2000);
                pause();
            }
            _exit(1);
        }
        assert_int_equal(fake_open(&other), 0);
        while (!other.sessions[0]) {
            fake_door(&other);
        }
        struct fake_session *session = other.sessions[0];
        while (!tsr_channel_has_request(session->channel)) {
            usleep(1000);
        }
        /* The request's page; all of the region; the event ring; the event region's control page.
         */
        struct tsr_channel *channel = session->channel;
        if (which < 2) {
            break_pages(&channel->requests, PROT_READ, which == 0 ? TSR_CTL_BYTES : 0);
        } else {
            break_pages(&channel->events, PROT_READ | PROT_WRITE, which == 2 ? TSR_CTL_BYTES : 0);
        }
        for (int i = 0; i < 100 && !session->gone; i++) {
            fake_step(&other, session);
        }
        struct tsr_door_event event = {.kind = TSR_DOOR_BELL};
        while (!session->gone && event.kind != TSR_DOOR_GONE) { /* else the audit finds it */
            tsr_door_step(other.door, &event, 1);
        }
        if (session->gone) {
            assert_non_null(strstr(tsr_channel_why(channel), "SIGBUS"));
        } else {
            assert_non_null(strstr(event.why, "SIGBUS"));
        }
        kill(client, SIGKILL);
        waitpid(client, NULL, 0);
        fake_drop(&other, 0, NULL);
        tsr_door_destroy(other.door, NULL);
        rmdir(other.directory);
    }
    assert_others_are_served();
}

static void test_hostile_socket_flags_change_nothing(void **state)
{
    (void)state;
    struct tsr_link link = knock();
    int one = 1, small = 1;
    fcntl(link.fd, F_SETFL, 0); /* blocking */
    setsockopt(link.fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    setsockopt(link.fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
    setsockopt(link.fd, SOL_SOCKET, SO_PASSCRED, &one, sizeof one);
    fcntl(link.fd, F_SETOWN, getpid());
    /* A client that asks for bytes on a socket that it never reads. */
    atomic_store(&link.ctl->client_sleep, TSR_SLEEP_SOCKET);
    for (uint64_t id = 1; id < 60; id++) {
        submit(&link, id, 50, 50);
    }
    usleep(100000);
    atomic_store(&link.ctl->client_sleep, 0xdeadbeef); /* nothing that the engine knows */
    assert_others_are_served();
    shutdown(link.fd, SHUT_RD);
    assert_others_are_served();
    tsr_link_close(&link);
}

static void test_hostile_clients_that_never_read_wait_alone(void **state)
{
    (void)state;
    struct tsr_link links[8];
    for (int i = 0; i < 8; i++) {
        links[i] = knock();
        for (uint64_t id = 1; id <= 100; id++) { /* more than may live */
            submit(&links[i], id, 400, i % 2 ? UINT32_MAX : 0);
        }
    }
    usleep(50000);
    assert_others_are_served();
    assert_others_are_served();
    assert_int_equal(atomic_load(&engine.broken), 0);
    for (int i = 0; i < 8; i++) {
        tsr_link_close(&links[i]);
    }
}

static void test_hostile_flood_is_survived(void **state)
{
    (void)state;
    struct tsr_link link = knock();
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    uint64_t end = tsr_clock_ns() + 300000000u;
    uint64_t id = 0;
    while (tsr_clock_ns() < end && !link.lost.code) {
        id++;
        submit(&link, id, 1 + (uint32_t)(id % 7000), 1);
        wake(&link);
        const void *event;
        struct tsr_record_info info;
        while (tsr_link_peek(&link, &event, &info) == 1) {
            tsr_link_next(&link);
        }
        if (id % 64 == 0) {
            tsr_link_check(&link);
        }
    }
    assert_others_are_served();
    tsr_link_close(&link);
}

/* Bytes that change while the engine copies them: it must use what it checked. */
struct flipper {
    struct tsr_link *link;
    _Atomic int stop;
};

static void *flip(void *arg)
{
    struct flipper *flipper = arg;
    uint8_t *ring = flipper->link->requests.base + TSR_CTL_BYTES;
    /* The words that say how long things are: payload_bytes and chunk_bytes, counts, stop_bytes;
     * and shapes. */
    const uint32_t words[] = {8, 32, 36, 92, 100};
    for (uint32_t i = 0; !atomic_load_explicit(&flipper->stop, memory_order_relaxed); i++) {
        uint32_t record = (i / 5) % 64 * 256;
        _Atomic uint32_t *word = (void *)(ring + record + words[i % 5]);
        uint32_t was = atomic_load_explicit(word, memory_order_relaxed);
        atomic_store_explicit(word, words[i % 5] == 8 ? was : was ^ (0x10000u << i % 16),
                              memory_order_relaxed);
        atomic_store_explicit(word, was, memory_order_relaxed);
    }
    return NULL;
}

static void test_hostile_changes_under_the_copy_are_survived(void **state)
{
    (void)state;
    for (int round = 0; round < 20; round++) {
        struct tsr_link link = knock();
        struct flipper flipper = {.link = &link};
        pthread_t thread;
        assert_int_equal(pthread_create(&thread, NULL, flip, &flipper), 0);
        for (uint64_t id = 1; id < 2000 && !link.lost.code; id++) {
            submit(&link, id, 100, 1000);
            const void *event;
            struct tsr_record_info info;
            while (tsr_link_peek(&link, &event, &info) == 1) {
                tsr_link_next(&link);
            }
            if (id % 64 == 0) {
                tsr_link_check(&link);
            }
        }
        atomic_store(&flipper.stop, 1);
        pthread_join(thread, NULL);
        tsr_link_close(&link);
    }
    assert_others_are_served();
}

/* A client that keeps what it was given: descriptors of closed channels, and mappings. A minute's
 * channels, and those that come back while it takes them. */
static void test_hostile_hoards_are_limited(void **state)
{
    (void)state;
    enum { HOARD = 40, MOST = 4 * HOARD };
    const uint64_t share_ns = UINT64_C(60000000000) / HOARD, begin_ns = tsr_clock_ns();
    struct tsr_door_class class;
    tsr_door_class_init(&class);
    class.grants_per_minute = HOARD;
    struct fake_engine other;
    assert_int_equal(fake_prepare(&other, &class), 0);
    assert_int_equal(fake_start_thread(&other), 0);
    struct tsr_link links[MOST];
    int hoarded = 0;
    while (hoarded < MOST &&
           tsr_link_open(&links[hoarded], other.path, "hoarder", 10000, NULL, &why) == 0) {
        close(links[hoarded].fd); /* the channel ends; the memory is kept mapped */
        links[hoarded].fd = -1;
        hoarded++;
        usleep(1000);
    }
    assert_in_range(hoarded, 1, HOARD + (tsr_clock_ns() - begin_ns) / share_ns);
    assert_non_null(strstr(why.text, "channels"));
    fake_stop_thread(&other);
    assert_int_equal(other.stats.bytes, 0);
    for (int i = 0; i < hoarded; i++) {
        tsr_link_close(&links[i]);
    }
    assert_others_are_served();
}

/* ---- Random ---- */

static uint32_t random_state;

static uint32_t rnd(uint32_t below)
{
    random_state = random_state * 1664525u + 1013904223u;
    return (uint32_t)((uint64_t)(random_state >> 4) * below >> 28);
}

/* A word that is likely to hit an edge. */
static uint64_t odd_word(struct tsr_link *link)
{
    const uint64_t edges[] = {0,
                              1,
                              63,
                              64,
                              65,
                              4096,
                              65536,
                              UINT32_MAX,
                              UINT64_MAX,
                              link->out.written,
                              link->in.head,
                              link->out.key,
                              link->out.key + link->out.written};
    uint64_t word = edges[rnd(sizeof edges / sizeof edges[0])];
    return rnd(2) ? word : word + rnd(256) - 128;
}

static void misbehave(struct tsr_link *link, uint64_t id)
{
    uint8_t *base = link->requests.base;
    switch (rnd(12)) {
    case 0: /* anywhere in the control page */
        atomic_store((_Atomic uint64_t *)(void *)(base + rnd(TSR_CTL_BYTES / 8) * 8),
                     odd_word(link));
        break;
    case 1: /* anywhere in the ring */
        atomic_store((_Atomic uint64_t *)(void *)(base + TSR_CTL_BYTES + rnd(1 << 13) * 8),
                     odd_word(link));
        break;
    case 2:
        forge(link, rnd(2) ? rnd(20000) : (uint32_t)odd_word(link),
              (uint16_t)(rnd(4) ? rnd(8) : rnd(65536)));
        break;
    case 3: { /* a true header over random fields */
        uint32_t bytes = 16 + rnd(3000);
        uint8_t *record;
        if (tsr_link_reserve(link, bytes, (void **)&record) == 1) {
            for (uint32_t i = 16; i < bytes; i++) {
                record[i] = (uint8_t)rnd(rnd(2) ? 2 : 256);
            }
            tsr_link_commit(link, (enum tsr_wire_type)(1 + rnd(5)), bytes);
            tsr_link_flush(link);
        }
        break;
    }
    case 4: /* a good submit with one field spoilt, also after it was published */
        submit(link, id, 1 + rnd(9000), rnd(3));
        base[TSR_CTL_BYTES + (link->out.tail + rnd(160)) % link->out.bytes] = (uint8_t)rnd(256);
        break;
    case 5:
        atomic_store(&link->ctl->event_head, odd_word(link));
        break;
    case 6:
        atomic_store(&link->ctl->client_sleep, (uint32_t)odd_word(link));
        break;
    case 7:
        for (uint32_t i = rnd(50); i > 0; i--) {
            wake(link);
        }
        break;
    case 8: {
        char junk[512] = {0};
        send(link->fd, junk, rnd(sizeof junk), MSG_DONTWAIT | MSG_NOSIGNAL);
        break;
    }
    case 9:
        if (rnd(10) == 0) {
            madvise(base + rnd(17) * 4096, 4096, MADV_REMOVE);
        }
        break;
    default:
        submit(link, id, 1 + rnd(300), rnd(100));
    }
    const void *event;
    struct tsr_record_info info;
    while (rnd(4) && tsr_link_peek(link, &event, &info) == 1) {
        tsr_link_next(link);
    }
}

static int open_descriptors(void)
{
    int count = 0;
    for (int fd = 0; fd < 4096; fd++) {
        count += fcntl(fd, F_GETFD) >= 0;
    }
    return count;
}

static void test_hostile_randomly(void **state)
{
    (void)state;
    const char *text = getenv("TESSERA_ROUNDS");
    int rounds = text ? atoi(text) : ROUNDS_USUAL;
    int descriptors = open_descriptors();
    random_state = 1;
    for (int round = 0; round < rounds; round++) {
        struct tsr_link link = knock();
        for (uint32_t i = rnd(60); i > 0; i--) {
            misbehave(&link, 1 + rnd(80));
        }
        tsr_link_close(&link);
        if (round % 50 == 0) {
            assert_others_are_served();
        }
    }
    assert_others_are_served();
    print_message("%d hostile channels, %llu dropped for what they wrote; the last: %s\n", rounds,
                  (unsigned long long)atomic_load(&engine.broken), said);
    /* What is left are descriptors of channels that the engine is just closing. */
    for (int i = 0; i < 1000 && open_descriptors() > descriptors; i++) {
        usleep(1000);
    }
    assert_int_equal(open_descriptors(), descriptors);
}

int main(void)
{
    tsr_log_set(hear, NULL, TSR_LOG_WARN);
    if (tsr_guard_install(&why) != 0 || sigaction(SIGBUS, NULL, &guard_action) != 0) {
        return 1;
    }
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_hostile_lengths_and_types_are_told),
        T(test_hostile_consumer_indices_are_told),
        T(test_hostile_order_of_parts_is_told),
        T(test_hostile_holes_are_told),
        T(test_hostile_failing_pages_are_survived),
        T(test_hostile_socket_flags_change_nothing),
        T(test_hostile_clients_that_never_read_wait_alone),
        T(test_hostile_flood_is_survived),
        T(test_hostile_changes_under_the_copy_are_survived),
        T(test_hostile_hoards_are_limited),
        T(test_hostile_randomly),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
