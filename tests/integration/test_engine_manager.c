/* The engine under a service manager: a fake one, that listens where NOTIFY_SOCKET says and waits
 * for the watchdog; and its configuration file. */
#include "engine_process.h"

#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/un.h>

static int manager = -1;
static char name[64];

static int open_manager(void **state)
{
    (void)state;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(name, sizeof name, "@tessera-manager-%d", (int)getpid());
    memcpy(address.sun_path + 1, name + 1, strlen(name) - 1);
    socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(name));
    manager = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    return manager < 0 || bind(manager, (struct sockaddr *)&address, size) < 0 ? -1 : 0;
}

static int close_manager(void **state)
{
    (void)state;
    return close(manager);
}

/* The next message, "" where none comes in that time. */
static const char *heard(int timeout_ms)
{
    static char text[1024];
    struct pollfd fd = {.fd = manager, .events = POLLIN};
    ssize_t n = poll(&fd, 1, timeout_ms) == 1 ? recv(manager, text, sizeof text - 1, 0) : 0;
    text[n > 0 ? n : 0] = '\0';
    return text;
}

static void wait_for(const char *what)
{
    const char *text;
    do {
        text = heard(patience_ms());
        assert_string_not_equal(text, "");
    } while (strncmp(text, what, strlen(what)) != 0);
}

static void drain(void)
{
    while (*heard(0)) {
    }
}

static void start(struct engine *engine, const char *watchdog_usec)
{
    setenv("NOTIFY_SOCKET", name, 1);
    setenv("WATCHDOG_USEC", watchdog_usec, 1);
    engine_start(engine, NULL);
}

static void test_manager_hears_of_start_and_end(void **state)
{
    (void)state;
    struct engine engine;
    bool loading = false, ready = false;
    start(&engine, "");
    while (!ready) {
        const char *text = heard(patience_ms());
        assert_string_not_equal(text, "");
        loading = loading || strncmp(text, "STATUS=loading", 14) == 0;
        ready = strncmp(text, "READY=1\n", 8) == 0;
        assert_true(!ready || strstr(text, engine.socket));
    }
    assert_true(loading);
    struct tessera *t = engine_connect(&engine, TESSERA_WAIT_SLEEP, 100); /* ready is ready */
    tessera_close(t);
    engine_stop(&engine);
    wait_for("STOPPING=1");
    assert_string_equal(heard(0), "");
}

static void test_manager_hears_that_it_lives(void **state)
{
    (void)state;
    struct engine engine;
    start(&engine, "400000");
    wait_for("READY=1");
    for (int i = 0; i < 3; i++) { /* with nothing to do, and asleep */
        wait_for("WATCHDOG=1");
    }
    engine_stop(&engine);
    wait_for("STOPPING=1");
}

/* One thread, the frontend, stands still: the others do not speak for it. */
static void test_manager_hears_nothing_of_a_stuck_engine(void **state)
{
    (void)state;
    struct engine engine;
    start(&engine, "400000");
    wait_for("WATCHDOG=1");
    bool stopped = ptrace(PTRACE_SEIZE, engine.pid, NULL, NULL) == 0 &&
                   ptrace(PTRACE_INTERRUPT, engine.pid, NULL, NULL) == 0 &&
                   waitpid(engine.pid, NULL, 0) == engine.pid;
    if (stopped) {
        drain();
        int messages = 0; /* one for a turn before that was not looked at yet */
        while (*heard(1500)) {
            assert_true(++messages <= 1);
        }
        assert_int_equal(ptrace(PTRACE_DETACH, engine.pid, NULL, NULL), 0);
        wait_for("WATCHDOG=1");
    }
    engine_stop(&engine);
    drain();
    if (!stopped) {
        print_message("not tried: the engine's thread cannot be stopped from here\n");
        skip();
    }
}

static void test_manager_that_is_not_there(void **state)
{
    (void)state;
    char line[1024];
    snprintf(line, sizeof line,
             "NOTIFY_SOCKET=/nowhere/notify %s/engine/serve/tessera-engine --model "
             "%s/tests/vectors/shell-5m --socket /tmp/tessera-never/e.sock 2>&1",
             environment("TESSERA_BUILD"), environment("TESSERA_SOURCE"));
    FILE *said = popen(line, "r");
    assert_non_null(said);
    assert_non_null(fgets(line, sizeof line, said));
    assert_string_equal(line, "tessera-engine: NOTIFY_SOCKET=/nowhere/notify: "
                              "No such file or directory\n");
    assert_int_equal(WEXITSTATUS(pclose(said)), 1);
}

/* What `--check` says of a file with these lines, and its exit code. The file is called FILE. */
static int check(const char *lines, const char *line, char *said, size_t said_size)
{
    char dir[] = "/tmp/tessera-conf-XXXXXX", command[1024];
    assert_non_null(mkdtemp(dir));
    snprintf(command, sizeof command, "%s/FILE", dir);
    FILE *file = fopen(command, "w");
    assert_non_null(file);
    fputs(lines, file);
    fclose(file);
    snprintf(command, sizeof command,
             "cd %s && %s/engine/serve/tessera-engine --config FILE --check %s 2>&1; code=$?; "
             "rm -r %s; exit $code",
             dir, environment("TESSERA_BUILD"), line, dir);
    FILE *out = popen(command, "r");
    assert_non_null(out);
    said[fread(said, 1, said_size - 1, out)] = '\0';
    return WEXITSTATUS(pclose(out));
}

static void test_manager_check_names_file_and_line(void **state)
{
    (void)state;
    char said[4096], lines[600];
    assert_int_equal(check("# ours\nthread = 1\n", "", said, sizeof said), 2);
    assert_string_equal(said, "tessera-engine: FILE:2: there is no option 'thread'; did you mean "
                              "'threads'?\n");
    assert_int_equal(check("threads = none\n", "", said, sizeof said), 2);
    assert_non_null(strstr(said, "FILE:1: --threads none: a number from 1 to"));
    snprintf(lines, sizeof lines, "model = %s/tests/vectors/shell-5m\nkv-bytes = 64M\nspin = yes\n",
             environment("TESSERA_SOURCE"));
    assert_int_equal(check(lines, "--threads 1", said, sizeof said), 0);
    assert_non_null(strstr(said, "shell-5m"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_manager_hears_of_start_and_end),
        cmocka_unit_test(test_manager_hears_that_it_lives),
        cmocka_unit_test(test_manager_hears_nothing_of_a_stuck_engine),
        cmocka_unit_test(test_manager_that_is_not_there),
        cmocka_unit_test(test_manager_check_names_file_and_line),
    };
    return cmocka_run_group_tests(tests, open_manager, close_manager);
}
