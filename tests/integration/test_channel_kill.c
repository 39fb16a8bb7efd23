/* One end of a channel killed at random points, thousands of times. TESSERA_KILLS sets how many. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "fake_engine.h"

#include <tsr/shm/log.h>

#include <tessera.h>

#include <fcntl.h>
#include <sys/prctl.h>

enum { KILLS_USUAL = 3000, ENGINE_KILLS_USUAL = 60, TEXT_MAX = 300 << 10 };

static struct tessera_error err;

static int count_from(const char *variable, int usual)
{
    const char *text = getenv(variable);
    return text ? atoi(text) : usual;
}

static int open_descriptors(void)
{
    int count = 0;
    for (int fd = 0; fd < 4096; fd++) {
        count += fcntl(fd, F_GETFD) >= 0;
    }
    return count;
}

/* Mappings of shared memory files of this process. */
static int region_mappings(void)
{
    FILE *maps = fopen("/proc/self/maps", "r");
    char line[512];
    int count = 0;
    while (maps && fgets(line, sizeof line, maps)) {
        count += strstr(line, "/memfd:tessera") != NULL;
    }
    if (maps) {
        fclose(maps);
    }
    return count;
}

/* A client that asks without end, in all sizes, until it is killed. */
static void ask_without_end(const char *path, unsigned seed)
{
    static char text[TEXT_MAX];
    memset(text, 'a', sizeof text);
    struct tessera *t;
    if (tessera_connect(&t, path, NULL, NULL) != 0) {
        pause();
    }
    struct tessera_options options;
    tessera_options_init(&options);
    options.tokens_max = 500;
    for (;;) {
        size_t bytes = 1 + (size_t)rand_r(&seed) % (rand_r(&seed) % 4 ? 300 : TEXT_MAX);
        uint64_t id = tessera_submit_text(t, text, bytes, &options, NULL);
        if (id && rand_r(&seed) % 8 == 0) {
            tessera_cancel(t, id, NULL);
        }
        struct tessera_event event;
        for (int i = 0; i < 50 && tessera_wait(t, &event, rand_r(&seed) % 3, NULL) == 1; i++) {
        }
    }
}

/* The process that starts and kills the clients: without threads, so that fork() is cheap and
 * sound. */
static void kill_clients(const char *path, int kills)
{
    unsigned seed = 1;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (int i = 0; i < kills; i++) {
        pid_t pid = fork();
        if (pid == 0) {
            ask_without_end(path, seed + (unsigned)i);
        }
        if (pid < 0) {
            _exit(1);
        }
        usleep((useconds_t)(rand_r(&seed) % (rand_r(&seed) % 8 ? 2500 : 10000)));
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
    }
    _exit(0);
}

/* The others notice nothing, and nothing is left. */
static void test_channel_survives_killed_clients(void **state)
{
    (void)state;
    int kills = count_from("TESSERA_KILLS", KILLS_USUAL);
    struct fake_engine engine;
    assert_int_equal(fake_prepare(&engine, NULL), 0);
    int descriptors = open_descriptors();
    pid_t killer = fork();
    if (killer == 0) {
        while (access(engine.path, F_OK) != 0) {
            usleep(1000);
        }
        kill_clients(engine.path, kills);
    }
    assert_int_equal(fake_start_thread(&engine), 0);
    struct tessera *t;
    assert_int_equal(tessera_connect(&t, engine.path, NULL, &err), 0);
    char text[1000];
    int status = 0;
    uint64_t asked = 0;
    while (waitpid(killer, &status, WNOHANG) == 0) {
        size_t bytes = 1 + asked % sizeof text;
        memset(text, (int)('a' + asked % 26), sizeof text);
        uint64_t id = tessera_submit_text(t, text, bytes, NULL, &err);
        assert_int_not_equal(id, 0);
        size_t got = 0;
        struct tessera_event event;
        int more;
        while ((more = tessera_wait(t, &event, 60000, &err)) == 1) {
            assert_int_equal(event.id, id);
            if (event.kind == TESSERA_TOKEN) {
                assert_int_equal(event.text_bytes, 1);
                assert_int_equal(event.text[0], text[0]);
                got++;
            } else if (event.kind == TESSERA_DONE) {
                assert_int_equal(event.reason, TESSERA_END);
            }
        }
        assert_int_equal(more, 0);
        assert_int_equal(got, bytes);
        asked++;
        usleep(2000);
    }
    assert_int_equal(status, 0);
    assert_true(asked > 0);
    tessera_close(t);
    fake_stop_thread(&engine);
    print_message(
        "%d clients killed, %llu of them with an open channel; %llu requests beside them\n", kills,
        (unsigned long long)engine.stats.opened - 1, (unsigned long long)asked);
    assert_true(engine.stats.opened > 1);
    assert_int_equal(engine.stats.channels, 0);
    assert_int_equal(engine.stats.pending, 0);
    assert_int_equal(engine.stats.bytes, 0);
    assert_int_equal(atomic_load(&engine.broken), 0); /* a death is no lie */
    assert_int_equal(open_descriptors(), descriptors);
    assert_int_equal(region_mappings(), 0);
}

/* Every client hears of the engine's death, and leaves nothing. */
static void test_channel_survives_a_killed_engine(void **state)
{
    (void)state;
    enum { CLIENTS = 4 };
    int kills = count_from("TESSERA_ENGINE_KILLS", ENGINE_KILLS_USUAL);
    int descriptors = open_descriptors();
    unsigned seed = 5;
    static char text[TEXT_MAX];
    memset(text, 'b', sizeof text);
    for (int i = 0; i < kills; i++) {
        struct fake_engine engine;
        assert_int_equal(fake_prepare(&engine, NULL), 0);
        engine.spins = i % 2;
        assert_int_equal(fake_start_process(&engine), 0);
        struct tessera *clients[CLIENTS];
        for (int c = 0; c < CLIENTS; c++) {
            assert_int_equal(tessera_connect(&clients[c], engine.path, NULL, &err), 0);
            for (int k = 0; k < 3; k++) {
                assert_int_not_equal(tessera_submit_text(clients[c], text,
                                                         1 + (size_t)rand_r(&seed) % TEXT_MAX, NULL,
                                                         &err),
                                     0);
            }
        }
        struct tessera_event event;
        for (int k = rand_r(&seed) % 500; k > 0; k--) {
            int got = tessera_wait(clients[k % CLIENTS], &event, 0, &err);
            assert_in_range(got, 0, 1);
        }
        fake_kill_process(&engine);
        for (int c = 0; c < CLIENTS; c++) {
            int got;
            while ((got = tessera_wait(clients[c], &event, 60000, &err)) == 1) {
            }
            assert_int_equal(got, -EPIPE);
            tessera_close(clients[c]);
        }
        fake_remove(&engine);
    }
    assert_int_equal(open_descriptors(), descriptors);
    assert_int_equal(region_mappings(), 0);
}

static void quiet(void *ctx, enum tsr_log_level level, const char *text)
{
    (void)ctx;
    (void)level;
    (void)text;
}

int main(void)
{
    tsr_log_set(quiet, NULL, TSR_LOG_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_channel_survives_killed_clients),
        cmocka_unit_test(test_channel_survives_a_killed_engine),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
