/* While requests flow from polling clients, frontend and workers make no system call, allocate
 * nothing, and touch no page for the first time. Counted from outside: by ptrace, by a preloaded
 * allocator, by the kernel's fault counts. */
#include "engine_process.h"

#include <dirent.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/ptrace.h>

enum { TASKS_MAX = 8, ROUNDS = 3 };

struct counts { /* as count_malloc.c has it */
    _Atomic unsigned long frontend, others;
};

static struct engine engine;
static struct reference references[REFERENCE_MAX];
static uint32_t n_references;
static struct counts *counts;
static char counts_path[] = "/tmp/tessera-counts-XXXXXX";

/* ---- The engine's threads ---- */

struct tasks {
    uint32_t n;
    pid_t tid[TASKS_MAX];
};

/* Frontend and workers: every thread but the control and the text thread. */
static struct tasks find_tasks(void)
{
    struct tasks tasks = {0};
    char path[300], name[32];
    snprintf(path, sizeof path, "/proc/%d/task", engine.pid);
    DIR *dir = opendir(path);
    assert_non_null(dir);
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        snprintf(path, sizeof path, "/proc/%d/task/%s/comm", engine.pid, entry->d_name);
        FILE *file = entry->d_name[0] == '.' ? NULL : fopen(path, "r");
        if (!file) {
            continue;
        }
        if (fgets(name, sizeof name, file) && strcmp(name, "control\n") != 0 &&
            strcmp(name, "text\n") != 0) {
            assert_true(tasks.n < TASKS_MAX);
            tasks.tid[tasks.n++] = (pid_t)atoi(entry->d_name);
        }
        fclose(file);
    }
    closedir(dir);
    return tasks;
}

/* Minor and major page faults so far. */
static unsigned long faults(pid_t tid)
{
    char path[64], line[512];
    unsigned long minor = 0, major = 0;
    snprintf(path, sizeof path, "/proc/%d/task/%d/stat", engine.pid, tid);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    assert_non_null(fgets(line, sizeof line, file));
    fclose(file);
    const char *at = strrchr(line, ')');
    assert_non_null(at);
    assert_int_equal(sscanf(at, ") %*c %*d %*d %*d %*d %*d %*u %lu %*u %lu", &minor, &major), 2);
    return minor + major;
}

/* ---- A tracer: counts entries and exits of system calls ---- */

struct tracer {
    struct tasks tasks;
    atomic_bool ready, stop;
    int error;
    atomic_ulong stops;
    unsigned long first_call;
    pthread_t thread;
};

static void *trace(void *ctx)
{
    struct tracer *t = ctx;
    int status;
    for (uint32_t i = 0; i < t->tasks.n && !t->error; i++) {
        pid_t tid = t->tasks.tid[i];
        if (ptrace(PTRACE_SEIZE, tid, NULL, (void *)PTRACE_O_TRACESYSGOOD) < 0 ||
            ptrace(PTRACE_INTERRUPT, tid, NULL, NULL) < 0 || waitpid(tid, &status, __WALL) < 0 ||
            ptrace(PTRACE_SYSCALL, tid, NULL, NULL) < 0) {
            t->error = errno;
        }
    }
    atomic_store(&t->ready, true);
    while (!t->error && !atomic_load(&t->stop)) {
        for (uint32_t i = 0; i < t->tasks.n; i++) {
            pid_t tid = t->tasks.tid[i];
            if (waitpid(tid, &status, __WALL | WNOHANG) != tid) {
                continue;
            }
            if (WIFSTOPPED(status) && WSTOPSIG(status) == (SIGTRAP | 0x80)) {
                struct __ptrace_syscall_info info = {0};
                ptrace(PTRACE_GET_SYSCALL_INFO, tid, sizeof info, &info);
                if (info.op == PTRACE_SYSCALL_INFO_ENTRY) {
                    t->first_call = atomic_fetch_add(&t->stops, 1) ? t->first_call : info.entry.nr;
                }
            }
            ptrace(PTRACE_SYSCALL, tid, NULL, NULL);
        }
        nap_ms(1);
    }
    /* Where seizing was refused, there is nothing to wait for; the rest ends with this thread. */
    for (uint32_t i = 0; i < t->tasks.n && !t->error; i++) {
        pid_t tid = t->tasks.tid[i];
        ptrace(PTRACE_INTERRUPT, tid, NULL, NULL);
        waitpid(tid, &status, __WALL);
        ptrace(PTRACE_DETACH, tid, NULL, NULL);
    }
    return NULL;
}

static void tracer_start(struct tracer *t, struct tasks tasks)
{
    *t = (struct tracer){.tasks = tasks};
    assert_int_equal(pthread_create(&t->thread, NULL, trace, t), 0);
    while (!atomic_load(&t->ready)) {
        nap_ms(1);
    }
    if (t->error) {
        pthread_join(t->thread, NULL);
        print_message("system calls were not counted: ptrace of the engine: %s%s\n",
                      strerror(t->error), getuid() ? " (it takes root)" : "");
    }
}

static void tracer_stop(struct tracer *t)
{
    if (!t->error) {
        atomic_store(&t->stop, true);
        pthread_join(t->thread, NULL);
    }
}

/* ---- Clients ---- */

/* Takes events until nothing is live, as a client that polls: the engine is never asked to wake it.
 * On the engine's own CPUs it gives them back between two looks. */
static void drain(struct tessera *t, struct answer *answers, const uint64_t *ids, uint32_t n,
                  bool shares_cpus)
{
    struct tessera_event event;
    struct tessera_error err;
    double end = seconds_now() + 2e-3 * patience_ms();
    while (tessera_live(t) > 0 && seconds_now() < end) {
        int rc = tessera_poll(t, &event, &err);
        assert_true(rc >= 0);
        for (uint32_t i = 0; rc > 0 && i < n; i++) {
            if (ids[i] == event.id) {
                answer_take(&answers[i], &event);
            }
        }
        if (rc == 0 && shares_cpus) {
            nap_ms(1);
        }
    }
    assert_int_equal(tessera_live(t), 0);
}

/* Every reference, eight at a time; sampled requests beside the greedy ones, and an embedding. */
static void round_of_requests(struct tessera *t, bool shares_cpus, bool text)
{
    enum { N = 8, EMBEDS = 6 };
    static struct answer answers[N];
    struct tessera_error err;
    uint64_t ids[N];
    for (uint32_t first = 0; first + N <= n_references; first += N) {
        memset(answers, 0, sizeof answers);
        for (uint32_t i = 0; i < N; i++) {
            const struct reference *r = &references[first + i];
            struct tessera_options options = greedy_options();
            if (i % 4 == 3) {
                options.temperature = 0.8f;
                options.top_k = 40;
                options.top_p = 0.9f;
                options.repetition_penalty = 1.2f;
                options.logprobs = 1;
                options.top_logprobs = 5;
            }
            ids[i] =
                i == EMBEDS ? tessera_submit_embed_tokens(t, r->prompt, r->n_prompt, &options, &err)
                : text ? tessera_submit_text(t, r->question, strlen(r->question), &options, &err)
                       : tessera_submit_tokens(t, r->prompt, r->n_prompt, &options, &err);
            assert_true(ids[i] != 0);
        }
        drain(t, answers, ids, N, shares_cpus);
        for (uint32_t i = 0; i < N && !text; i++) {
            assert_int_equal(answers[i].kind, TESSERA_DONE);
            assert_true(i % 4 == 3 || i == EMBEDS ||
                        answer_is(&answers[i], &references[first + i]));
        }
    }
}

static void pin_self(int cpu)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((size_t)cpu, &set);
    assert_int_equal(sched_setaffinity(0, sizeof set, &set), 0);
}

static void count_while_requests_flow(const char *cpus, bool shares_cpus, bool text)
{
    struct tracer tracer;
    cpu_set_t before;
    engine_start(&engine, (const char *const[]){"--spin", "--cpus", cpus, NULL});
    sched_getaffinity(0, sizeof before, &before);
    if (!shares_cpus) {
        pin_self(1);
    }
    struct tessera *t = engine_connect(&engine, TESSERA_WAIT_POLL, 256);
    round_of_requests(t, shares_cpus, text);

    struct tasks tasks = find_tasks();
    unsigned long faults_before[TASKS_MAX], faults_new = 0;
    tracer_start(&tracer, tasks);
    unsigned long allocated = atomic_load(&counts->frontend);
    unsigned long allocated_others = atomic_load(&counts->others);
    for (uint32_t i = 0; i < tasks.n; i++) {
        faults_before[i] = faults(tasks.tid[i]);
    }
    for (int i = 0; i < ROUNDS; i++) {
        round_of_requests(t, shares_cpus, text);
    }
    for (uint32_t i = 0; i < tasks.n; i++) {
        faults_new += faults(tasks.tid[i]) - faults_before[i];
    }
    allocated = atomic_load(&counts->frontend) - allocated;
    allocated_others = atomic_load(&counts->others) - allocated_others;
    /* The counters do count: closing a channel takes calls, starting took memory. */
    unsigned long calls = tracer.stops;
    tessera_close(t);
    for (int i = 0; i < 200 && !tracer.error && tracer.stops == calls; i++) {
        nap_ms(10);
    }
    assert_true(tracer.error || tracer.stops > calls);
    assert_true(atomic_load(&counts->frontend) > 100);
    tracer_stop(&tracer);
    sched_setaffinity(0, sizeof before, &before);
    print_message(
        "CPUs %s, %u threads, %d requests of %s: %lu system calls, %lu + %lu allocations, "
        "%lu page faults\n",
        cpus, tasks.n, ROUNDS * (int)n_references, text ? "text" : "tokens", calls, allocated,
        allocated_others, faults_new);
    engine_stop(&engine);
    if (calls) {
        fail_msg("%lu system calls, the first number %lu", calls, tracer.first_call);
    }
    assert_int_equal(allocated, 0);
    assert_true(text || allocated_others == 0);
    assert_int_equal(faults_new, 0);
}

static void test_engine_is_quiet_apart(void **state)
{
    (void)state;
    count_while_requests_flow("0", false, false);
}

static void test_engine_is_quiet_apart_with_text(void **state)
{
    (void)state;
    count_while_requests_flow("0", false, true);
}

static void test_engine_workers_are_quiet(void **state)
{
    (void)state;
    count_while_requests_flow("0,1", true, false);
}

static int set_up(void **state)
{
    (void)state;
    char module[512];
    n_references = reference_read(references, REFERENCE_MAX);
    int fd = mkstemp(counts_path);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, 4096), 0);
    assert_int_equal(fchmod(fd, 0666), 0);
    counts = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    assert_ptr_not_equal(counts, MAP_FAILED);
    close(fd);
    snprintf(module, sizeof module, "%s/tests/integration/libcount_malloc.so",
             environment("TESSERA_BUILD"));
    assert_int_equal(access(module, R_OK), 0);
    setenv("TESSERA_TEST_COUNTS", counts_path, 1);
    setenv("LD_PRELOAD", module, 1);
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

static int tear_down(void **state)
{
    (void)state;
    unlink(counts_path);
    return 0;
}

int main(void)
{
    cpu_set_t set;
    sched_getaffinity(0, sizeof set, &set);
    if (!CPU_ISSET(0, &set) || !CPU_ISSET(1, &set)) {
        printf("skipped: CPUs 0 and 1 are wanted, one for the engine and one for its client\n");
        return 77;
    }
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    printf("skipped: sanitizers allocate and make system calls of their own\n");
    return 77;
#endif
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_engine_is_quiet_apart, end_engine),
        cmocka_unit_test_teardown(test_engine_is_quiet_apart_with_text, end_engine),
        cmocka_unit_test_teardown(test_engine_workers_are_quiet, end_engine),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
