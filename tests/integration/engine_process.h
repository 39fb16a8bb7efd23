/* For the programs of this folder: an engine with the small committed model, in a process of its
 * own, and the reference answers that go with the model. */
#ifndef ENGINE_PROCESS_H
#define ENGINE_PROCESS_H

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include <tessera.h>

enum { ENGINE_ARGS_MAX = 32, REFERENCE_MAX = 200, REFERENCE_TOKENS_MAX = 256 };

struct engine {
    pid_t pid; /* 0: none */
    char dir[64];
    char socket[96];
    char log[96];
};

static inline const char *environment(const char *name)
{
    const char *value = getenv(name);
    if (!value) {
        printf("skipped: %s is not set; CTest sets it\n", name);
        exit(77);
    }
    return value;
}

/* How long to wait before something counts as hanging: longer on a machine that is
 * TESSERA_TEST_SLOW times slower. */
static inline int patience_ms(void)
{
    const char *slow = getenv("TESSERA_TEST_SLOW");
    return 60000 * (slow ? atoi(slow) : 1);
}

static inline double seconds_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static inline void nap_ms(long ms)
{
    nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000}, NULL);
}

static inline void engine_show_log(const struct engine *engine)
{
    char text[2048];
    int fd = open(engine->log, O_RDONLY);
    ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof text);
    if (n > 0) {
        print_error("%.*s\n", (int)n, text);
    }
    if (fd >= 0) {
        close(fd);
    }
}

/* Starts the engine with further arguments (NULL-terminated, may be NULL) and waits until it is
 * ready. */
static inline void engine_start(struct engine *engine, const char *const *more)
{
    char program[512], model[512];
    const char *args[ENGINE_ARGS_MAX];
    int n = 0, ready[2];

    snprintf(program, sizeof program, "%s/engine/serve/tessera-engine",
             environment("TESSERA_BUILD"));
    snprintf(model, sizeof model, "%s/tests/vectors/shell-5m", environment("TESSERA_SOURCE"));
    if (access(program, X_OK) < 0 || access(model, R_OK) < 0) {
        printf("skipped: there is no %s\n", access(program, X_OK) < 0 ? program : model);
        exit(77);
    }
    *engine = (struct engine){.dir = "/tmp/tessera-test-XXXXXX"};
    assert_non_null(mkdtemp(engine->dir));
    assert_int_equal(chmod(engine->dir, 0755), 0);
    snprintf(engine->socket, sizeof engine->socket, "%s/run/e.sock", engine->dir);
    snprintf(engine->log, sizeof engine->log, "%s/log", engine->dir);
    const char *const base[] = {program,    "--config",     "/dev/null", "--model",    model,
                                "--socket", engine->socket, "--quiet",   "--kv-bytes", "64M"};
    for (size_t i = 0; i < sizeof base / sizeof *base; i++) {
        args[n++] = base[i];
    }
    for (; more && *more; more++) {
        assert_true(n < ENGINE_ARGS_MAX - 1);
        args[n++] = *more;
    }
    args[n] = NULL;
    assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
    engine->pid = fork();
    assert_true(engine->pid >= 0);
    if (engine->pid == 0) {
        int log = open(engine->log, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
        dup2(ready[1], STDOUT_FILENO);
        dup2(log, STDERR_FILENO);
        execv(program, (char *const *)(uintptr_t)args);
        _exit(126);
    }
    close(ready[1]);
    char line[6] = "";
    ssize_t got = 0;
    for (size_t at = 0; at < sizeof line; at += (size_t)got) {
        got = read(ready[0], line + at, sizeof line - at);
        if (got <= 0) {
            engine_show_log(engine);
            fail_msg("the engine ended before it was ready");
        }
    }
    close(ready[0]);
    assert_memory_equal(line, "ready\n", 6);
}

/* Its exit status as waitpid() gives it. */
static inline int engine_end(struct engine *engine, int sig)
{
    int status = -1;
    kill(engine->pid, sig);
    waitpid(engine->pid, &status, 0);
    engine->pid = 0;
    unlink(engine->socket);
    unlink(engine->log);
    char run[80];
    snprintf(run, sizeof run, "%s/run", engine->dir);
    rmdir(run);
    rmdir(engine->dir);
    return status;
}

/* A clean end: exit code 0. */
static inline void engine_stop(struct engine *engine)
{
    int status = -1;
    if (engine->pid) {
        status = engine_end(engine, SIGTERM);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), 0);
    }
}

static inline struct tessera *engine_connect(const struct engine *engine,
                                             enum tessera_wait_mode mode, uint32_t credit)
{
    struct tessera *t = NULL;
    struct tessera_error err;
    struct tessera_connect_options options;
    tessera_connect_options_init(&options);
    options.wait_mode = mode;
    options.credit = credit;
    if (tessera_connect(&t, engine->socket, &options, &err) < 0) {
        fail_msg("%s", err.text);
    }
    return t;
}

/* ---- The reference answers ---- */

struct reference {
    char question[256];
    uint32_t n_prompt, n_greedy;
    uint32_t prompt[REFERENCE_TOKENS_MAX],
        greedy[REFERENCE_TOKENS_MAX]; /* greedy without the end */
    bool ended;
};

enum { REFERENCE_END = 2, REFERENCE_GREEDY_MAX = 40 };

/* The numbers of the list behind `name` in a case's text; enough of JSON for a file of ours. */
static inline uint32_t reference_list(const char *text, const char *end, const char *name,
                                      uint32_t *out)
{
    const char *at = strstr(text, name);
    uint32_t n = 0;
    if (!at || at > end) {
        return 0;
    }
    at = strchr(at, '[') + 1;
    while (*at != ']' && n < REFERENCE_TOKENS_MAX) {
        char *next;
        out[n++] = (uint32_t)strtoul(at, &next, 10);
        at = *next == ',' ? next + 1 : next;
    }
    return n;
}

/* The cases with greedy answers. */
static inline uint32_t reference_read(struct reference *out, uint32_t max)
{
    char path[512];
    snprintf(path, sizeof path, "%s/tests/vectors/shell-5m/reference.json",
             environment("TESSERA_SOURCE"));
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    char *text = calloc(1, 1 << 20);
    size_t len = fread(text, 1, (1 << 20) - 1, file);
    fclose(file);
    uint32_t n = 0;
    for (const char *at = strstr(text, "{\"question\""); at && n < max;) {
        const char *next = strstr(at + 1, "{\"question\"");
        struct reference *r = &out[n];
        memset(r, 0, sizeof *r);
        r->n_greedy = reference_list(at, next ? next : text + len, "\"greedy\":", r->greedy);
        r->n_prompt = reference_list(at, next ? next : text + len, "\"prompt\":", r->prompt);
        char question[200] = "", name[50] = "";
        sscanf(at, "{\"question\": \"%199[^\"]\", \"name\": \"%49[^\"]\"", question, name);
        snprintf(r->question, sizeof r->question, "%s (%s)", question, name);
        if (r->n_greedy) {
            r->ended = r->greedy[r->n_greedy - 1] == REFERENCE_END;
            r->n_greedy -= r->ended ? 1u : 0u;
            n++;
        }
        at = next;
    }
    free(text);
    assert_true(n > 0);
    return n;
}

/* ---- Answers ---- */

struct answer {
    uint32_t n, tokens[2048];
    float logprobs[2048];
    char text[16384];
    uint32_t text_bytes;
    enum tessera_event_kind kind; /* of the last event: DONE, FAILED, or 0 where the engine went */
    enum tessera_reason reason;
    enum tessera_code code;
    uint32_t stop_index, prompt_tokens, tokens_max, retry_ms;
    uint64_t seed;
    char sentence[200];
};

/* Adds an event to the answer; true: it was the last. */
static inline bool answer_take(struct answer *answer, const struct tessera_event *event)
{
    if (event->kind == TESSERA_ACCEPTED) {
        answer->tokens_max = event->tokens_max;
        answer->seed = event->seed;
    }
    if (event->kind == TESSERA_TOKEN) {
        if (event->has_token && answer->n < 2048) {
            answer->logprobs[answer->n] = event->has_logprob ? event->logprob : 0;
            answer->tokens[answer->n++] = event->token;
        }
        if (answer->text_bytes + event->text_bytes < sizeof answer->text) {
            memcpy(answer->text + answer->text_bytes, event->text, event->text_bytes);
            answer->text_bytes += event->text_bytes;
        }
    }
    if (event->kind != TESSERA_DONE && event->kind != TESSERA_FAILED) {
        return false;
    }
    answer->kind = event->kind;
    answer->reason = event->reason;
    answer->code = event->code;
    answer->stop_index = event->stop_index;
    answer->prompt_tokens = event->prompt_tokens;
    answer->retry_ms = event->retry_ms;
    snprintf(answer->sentence, sizeof answer->sentence, "%.*s", (int)event->text_bytes,
             event->text_bytes ? event->text : "");
    return true;
}

/* Waits for the whole answer to the one live request. */
static inline void answer_wait(struct tessera *t, struct answer *answer)
{
    struct tessera_event event;
    struct tessera_error err;
    memset(answer, 0, sizeof *answer);
    for (;;) {
        int rc = tessera_wait(t, &event, patience_ms(), &err);
        if (rc <= 0) {
            snprintf(answer->sentence, sizeof answer->sentence, "%.150s",
                     rc < 0 ? err.text : "time");
            return;
        }
        if (answer_take(answer, &event)) {
            return;
        }
    }
}

static inline void ask_tokens(struct tessera *t, const uint32_t *tokens, size_t n,
                              const struct tessera_options *options, struct answer *answer)
{
    struct tessera_error err;
    if (!tessera_submit_tokens(t, tokens, n, options, &err)) {
        fail_msg("%s", err.text);
    }
    answer_wait(t, answer);
}

static inline bool answer_is(const struct answer *answer, const struct reference *reference)
{
    return answer->kind == TESSERA_DONE && answer->n == reference->n_greedy &&
           memcmp(answer->tokens, reference->greedy, answer->n * sizeof(uint32_t)) == 0 &&
           answer->reason == (reference->ended ? TESSERA_END : TESSERA_LENGTH);
}

static inline struct tessera_options greedy_options(void)
{
    struct tessera_options options;
    tessera_options_init(&options);
    options.tokens_max = REFERENCE_GREEDY_MAX;
    return options;
}

#endif
