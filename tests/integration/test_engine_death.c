/* Deaths under load: of clients, which the others must not notice and which must leave nothing
 * behind; and of the engine, which every client must notice soon. */
#include "engine_process.h"

#include <dirent.h>
#include <pthread.h>
#include <stdatomic.h>

enum { VICTIMS = 6, KILLS = 10, CLIENTS = 6 };

static struct reference references[REFERENCE_MAX];
static uint32_t n_references;
static struct engine engine;

/* A number from /proc/PID/status, in kB; 0 where it is not told. */
static unsigned long memory_kb(const char *field)
{
    char path[64], line[256];
    unsigned long value = 0;
    snprintf(path, sizeof path, "/proc/%d/status", engine.pid);
    FILE *file = fopen(path, "r");
    while (file && fgets(line, sizeof line, file)) {
        if (strncmp(line, field, strlen(field)) == 0) {
            value = strtoul(line + strlen(field), NULL, 10);
        }
    }
    if (file) {
        fclose(file);
    }
    return value;
}

/* Open descriptors; -1 where we may not look. */
static int descriptors(void)
{
    char path[64];
    int n = 0;
    snprintf(path, sizeof path, "/proc/%d/fd", engine.pid);
    DIR *dir = opendir(path);
    if (!dir) {
        return -1;
    }
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        n += entry->d_name[0] != '.';
    }
    closedir(dir);
    return n;
}

/* A client that wants a lot and will not live to get it. */
static void victim(uint32_t number)
{
    struct tessera *t = NULL;
    struct tessera_error err;
    struct tessera_event event;
    struct tessera_options options;
    tessera_options_init(&options);
    options.tokens_max = 1500;
    options.ignore_end = 1;
    if (tessera_connect(&t, engine.socket, NULL, &err) < 0) {
        _exit(1);
    }
    for (uint32_t i = 0; i < 4; i++) {
        const struct reference *r = &references[(number + i) % n_references];
        if (i % 2) {
            tessera_submit_text(t, r->question, strlen(r->question), &options, &err);
        } else {
            tessera_submit_tokens(t, r->prompt, r->n_prompt, &options, &err);
        }
    }
    while (tessera_wait(t, &event, -1, &err) >= 0) {
    }
    _exit(2);
}

struct steady {
    pthread_t thread;
    atomic_bool stop;
    atomic_uint answers;
    uint32_t wrong;
    struct answer answer;
};

static void *steady_run(void *ctx)
{
    struct steady *s = ctx;
    struct tessera_options options = greedy_options();
    struct tessera_error err;
    struct tessera *t = engine_connect(&engine, TESSERA_WAIT_SLEEP, 256);
    for (uint32_t i = 0; !atomic_load(&s->stop); i++) {
        const struct reference *r = &references[i % n_references];
        if (!tessera_submit_tokens(t, r->prompt, r->n_prompt, &options, &err)) {
            s->wrong++;
            break;
        }
        answer_wait(t, &s->answer);
        atomic_fetch_add(&s->answers, 1);
        s->wrong += answer_is(&s->answer, r) ? 0u : 1u;
    }
    tessera_close(t);
    return NULL;
}

/* Waits until only this channel is left and nothing is live; who died amid its handshake is gone
 * too, which may take the time that one has for it. */
static void wait_until_quiet(struct tessera *t, struct tessera_status *status, int fds)
{
    struct tessera_error err;
    for (int i = 0; i < 1000; i++) {
        assert_int_equal(tessera_status(t, status, 10000, &err), 0);
        if (status->channels == 1 && status->request_count == 0 && descriptors() <= fds) {
            return;
        }
        nap_ms(10);
    }
    fail_msg("%u channels, %u requests and %d descriptors are left", status->channels,
             status->request_count, descriptors());
}

/* A busy engine takes its time over those of the rounds before, and one user has 32 channels. */
static void wait_for_room(struct tessera *t)
{
    struct tessera_status status;
    struct tessera_error err;
    for (int i = 0; i < 1000; i++) {
        assert_int_equal(tessera_status(t, &status, 10000, &err), 0);
        if (status.channels + VICTIMS <= 32) {
            return;
        }
        nap_ms(10);
    }
    fail_msg("%u channels are left", status.channels);
}

static void kill_round(struct tessera *t, uint32_t round)
{
    pid_t pids[VICTIMS];
    wait_for_room(t);
    for (uint32_t i = 0; i < VICTIMS; i++) {
        pids[i] = fork();
        assert_true(pids[i] >= 0);
        if (pids[i] == 0) {
            victim(round + i);
        }
    }
    nap_ms(20 + (long)(round * 37) % 200);
    for (uint32_t i = 0; i < VICTIMS; i++) {
        kill(pids[i], SIGKILL);
    }
    for (uint32_t i = 0; i < VICTIMS; i++) {
        int status;
        waitpid(pids[i], &status, 0);
        assert_true(WIFSIGNALED(status)); /* none had ended by itself */
    }
}

static void test_clients_die_and_nobody_notices(void **state)
{
    (void)state;
    static struct steady steady;
    struct tessera_status status;
    engine_start(&engine, NULL);
    struct tessera *t = engine_connect(&engine, TESSERA_WAIT_SLEEP, 256);
    int fds = descriptors();
    kill_round(t, 0); /* what is taken once and kept is taken now */
    wait_until_quiet(t, &status, fds);
    unsigned long rss = memory_kb("VmRSS:");

    assert_int_equal(pthread_create(&steady.thread, NULL, steady_run, &steady), 0);
    uint32_t rounds = 1;
    for (; rounds <= KILLS || (rounds < 10 * KILLS && atomic_load(&steady.answers) < 8); rounds++) {
        kill_round(t, rounds);
    }
    atomic_store(&steady.stop, true);
    pthread_join(steady.thread, NULL);
    wait_until_quiet(t, &status, fds);

    print_message(
        "%d clients killed; %u answers of another meanwhile, %u wrong; descriptors %d -> %d, "
        "resident %lu -> %lu kB\n",
        VICTIMS * (int)rounds, atomic_load(&steady.answers), steady.wrong, fds, descriptors(), rss,
        memory_kb("VmRSS:"));
    assert_true(atomic_load(&steady.answers) > 0);
    assert_int_equal(steady.wrong, 0);
    assert_int_equal(status.kv_used_bytes, 0);
    assert_int_equal(descriptors(), fds);
    assert_true(memory_kb("VmRSS:") < rss + 2048);
    tessera_close(t);
    engine_stop(&engine);
}

struct mourner {
    pthread_t thread;
    atomic_bool runs; /* its answer is under way */
    double noticed;   /* when; 0: not */
    bool told;        /* by a final event before */
    enum tessera_reason reason;
    char sentence[512];
};

static atomic_uint noticed;

static void *mourner_run(void *ctx)
{
    struct mourner *m = ctx;
    struct tessera_options options = greedy_options();
    struct tessera_error err;
    struct tessera_event event;
    struct tessera *t = engine_connect(&engine, TESSERA_WAIT_SLEEP, 256);
    for (;;) {
        options.tokens_max = 1500;
        options.ignore_end = 1;
        if (tessera_live(t) == 0 && !m->told &&
            !tessera_submit_tokens(t, references[0].prompt, references[0].n_prompt, &options,
                                   &err)) {
            break;
        }
        int rc = m->told ? tessera_wait(t, &event, 0, &err) : tessera_wait(t, &event, 10000, &err);
        if (rc < 0) {
            break;
        }
        if (rc == 0 && m->told) {
            struct tessera_status status;
            if (tessera_status(t, &status, 1000, &err) == -EPIPE) {
                break;
            }
        }
        if (rc > 0 && event.kind == TESSERA_TOKEN) {
            atomic_store(&m->runs, true);
        }
        if (rc > 0 && event.kind == TESSERA_DONE && event.reason != TESSERA_LENGTH) {
            m->told = true;
            m->reason = event.reason;
        }
    }
    m->noticed = seconds_now();
    snprintf(m->sentence, sizeof m->sentence, "%s", err.text);
    atomic_fetch_add(&noticed, 1);
    tessera_close(t);
    return NULL;
}

/* Ends the engine amid answers; returns how long the last client took to notice. */
static double end_amid_answers(struct mourner *mourners, int sig, int *status)
{
    atomic_store(&noticed, 0);
    engine_start(&engine, NULL);
    for (uint32_t i = 0; i < CLIENTS; i++) {
        mourners[i] = (struct mourner){0};
        assert_int_equal(pthread_create(&mourners[i].thread, NULL, mourner_run, &mourners[i]), 0);
    }
    for (uint32_t i = 0; i < CLIENTS; i++) {
        while (!atomic_load(&mourners[i].runs)) {
            nap_ms(1);
        }
    }
    double at = seconds_now(), last = 0;
    *status = engine_end(&engine, sig);
    for (uint32_t i = 0; i < CLIENTS; i++) {
        pthread_join(mourners[i].thread, NULL);
        double took = mourners[i].noticed - at;
        last = took > last ? took : last;
    }
    return last;
}

static void test_engine_dies_and_everybody_notices(void **state)
{
    (void)state;
    static struct mourner mourners[CLIENTS];
    int status;
    double last = end_amid_answers(mourners, SIGKILL, &status);
    print_message(
        "engine killed amid %d answers: the last client knew after %.0f ms (within 1000 is "
        "wanted): %s\n",
        CLIENTS, last * 1000, mourners[0].sentence);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(atomic_load(&noticed), CLIENTS);
    for (uint32_t i = 0; i < CLIENTS; i++) {
        assert_false(mourners[i].told);
    }
    assert_true(last < 10); /* the clock of a busy machine is no judge; the figure above is */
}

static void test_engine_ends_and_says_so(void **state)
{
    (void)state;
    static struct mourner mourners[CLIENTS];
    int status;
    double last = end_amid_answers(mourners, SIGTERM, &status);
    print_message("engine ended amid %d answers: the last client knew after %.0f ms: %s\n", CLIENTS,
                  last * 1000, mourners[0].sentence);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    for (uint32_t i = 0; i < CLIENTS; i++) {
        assert_true(mourners[i].told);
        assert_int_equal(mourners[i].reason, TESSERA_SHUTDOWN);
    }
}

static int set_up(void **state)
{
    (void)state;
    n_references = reference_read(references, REFERENCE_MAX);
    return 0;
}

static int end_engine(void **state)
{
    (void)state;
    if (engine.pid) {
        engine_end(&engine, SIGKILL);
    }
    return 0;
}

int main(void)
{
#if defined(__SANITIZE_THREAD__)
    printf("skipped: ThreadSanitizer does not go through fork() in a program with threads\n");
    return 77;
#endif
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_clients_die_and_nobody_notices, end_engine),
        cmocka_unit_test_teardown(test_engine_dies_and_everybody_notices, end_engine),
        cmocka_unit_test_teardown(test_engine_ends_and_says_so, end_engine),
    };
    return cmocka_run_group_tests(tests, set_up, NULL);
}
