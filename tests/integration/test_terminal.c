/* `tessera chat` and `tessera top` as a person sees them: in a terminal, typed at, interrupted,
 * left. The engine holds the small model. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

enum { PATIENCE_MS = 60000 }; /* before a test gives up; nothing is measured */

static char folder[64], socket_path[128], engine_path[512], tessera_path[512], model_path[512];
static pid_t engine = -1;

static void find_programs(void)
{
    const char *build = getenv("TESSERA_BUILD"), *source = getenv("TESSERA_SOURCE");
    snprintf(engine_path, sizeof engine_path, "%s/engine/serve/tessera-engine",
             build ? build : ".");
    snprintf(tessera_path, sizeof tessera_path, "%s/clients/cli/tessera", build ? build : ".");
    snprintf(model_path, sizeof model_path, "%s/tests/vectors/shell-5m", source ? source : ".");
}

static int start_engine(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/tessera-chat-XXXXXX");
    if (!mkdtemp(folder)) {
        return -1;
    }
    snprintf(socket_path, sizeof socket_path, "%s/run/engine.sock", folder);
    int out[2];
    if (pipe(out) < 0) {
        return -1;
    }
    engine = fork();
    if (engine == 0) {
        dup2(out[1], STDOUT_FILENO);
        close(out[0]);
        execl(engine_path, engine_path, "--model", model_path, "--socket", socket_path,
              "--kv-bytes", "64M", "--quiet", (char *)NULL);
        _exit(127);
    }
    close(out[1]);
    char said[256] = "";
    size_t used = 0;
    ssize_t n;
    while (!strstr(said, "ready") && used + 1 < sizeof said &&
           (n = read(out[0], said + used, sizeof said - 1 - used)) > 0) {
        used += (size_t)n;
        said[used] = '\0';
    }
    return strstr(said, "ready")
               ? 0
               : -1; /* the pipe stays open, so that the engine may go on talking */
}

static int stop_engine(void **state)
{
    (void)state;
    int status = 0;
    kill(engine, SIGTERM);
    waitpid(engine, &status, 0);
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command) == 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -1;
}

/* A program in its own terminal, and all that it has shown. */
struct terminal {
    pid_t pid;
    int fd;
    char shown[1 << 18];
    size_t used, seen; /* seen: up to where expect() has looked */
};

static struct terminal terminal;
static const char *locale = "C.UTF-8";

static void open_terminal(const char *const *argv)
{
    memset(&terminal, 0, sizeof terminal);
    terminal.pid = forkpty(&terminal.fd, NULL, NULL, NULL);
    if (terminal.pid == 0) {
        setenv("TERM", "xterm", 1);
        setenv("NO_COLOR", "1", 1);
        setenv("LC_ALL", locale, 1); /* where it is empty, LANG counts */
        unsetenv("LC_CTYPE");
        unsetenv("LANG");
        setenv("XDG_STATE_HOME", folder, 1);
        setenv("HOME", folder, 1);
        setenv("ASAN_OPTIONS", "detect_leaks=0",
               1); /* libedit never frees the names of added functions */
        execv(tessera_path, (char *const *)(uintptr_t)argv);
        _exit(127);
    }
    assert_true(terminal.pid > 0);
    fcntl(terminal.fd, F_SETFL, O_NONBLOCK);
}

static void open_chat(const char *const *more)
{
    const char *argv[24] = {tessera_path, "chat", "--socket", socket_path, "--temperature", "0"};
    for (size_t n = 6; more && *more; more++) {
        argv[n++] = *more;
    }
    open_terminal(argv);
}

static void type(const char *keys)
{
    assert_int_equal(write(terminal.fd, keys, strlen(keys)), strlen(keys));
}

/* Reads what the terminal shows now; false at its end. */
static bool look(int timeout_ms)
{
    struct pollfd poll_fd = {.fd = terminal.fd, .events = POLLIN};
    if (poll(&poll_fd, 1, timeout_ms) <= 0) {
        return true;
    }
    ssize_t n = read(terminal.fd, terminal.shown + terminal.used,
                     sizeof terminal.shown - 1 - terminal.used);
    if (n > 0) {
        terminal.used += (size_t)n;
        terminal.shown[terminal.used] = '\0';
    }
    return n > 0 || (n < 0 && errno == EAGAIN);
}

/* Types at the prompt: the editor takes the terminal over only after it has shown it, and until
 * then the kernel would act on what is typed. */
static void type_line(const char *keys)
{
    struct termios mode = {.c_lflag = ICANON};
    for (int i = 0; i < PATIENCE_MS / 10 && (mode.c_lflag & ICANON); i++) {
        assert_int_equal(tcgetattr(terminal.fd, &mode), 0);
        look(10);
    }
    assert_false(mode.c_lflag & ICANON);
    type(keys);
}

/* Waits until text appears after what was expected before. */
static void expect(const char *text)
{
    struct timespec from, now;
    clock_gettime(CLOCK_MONOTONIC, &from);
    for (bool open = true;;) {
        char *at = strstr(terminal.shown + terminal.seen, text);
        if (at) {
            terminal.seen = (size_t)(at - terminal.shown) + strlen(text);
            return;
        }
        clock_gettime(CLOCK_MONOTONIC, &now);
        if (!open || (now.tv_sec - from.tv_sec) * 1000 > PATIENCE_MS) {
            fail_msg("the terminal does not show '%s', but: %s", text, terminal.shown);
        }
        open = look(100);
    }
}

/* Waits for the program to end by itself: its exit code, or 128 + the signal that ended it. */
static int close_terminal(void)
{
    int status = 0;
    for (int waited_ms = 0; waitpid(terminal.pid, &status, WNOHANG) == 0; waited_ms += 50) {
        if (waited_ms > PATIENCE_MS) {
            kill(terminal.pid, SIGKILL);
        }
        look(50);
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    for (size_t before = SIZE_MAX; before != terminal.used;) { /* what it wrote last */
        before = terminal.used;
        look(0);
    }
    close(terminal.fd);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* The prompt after an answer or a command, which end in an empty line: nothing that is typed echoes
 * as this. */
static const char PROMPT[] = "\r\n\r\n> ";

static void test_chat_terminal_answers_and_leaves(void **state)
{
    (void)state;
    static const char *const few[] = {"--tokens", "16", "--figures", NULL};
    open_chat(few);
    expect("Ctrl-D leaves");
    expect(PROMPT);
    type_line("list files\r");
    expect("tokens/s");
    expect(PROMPT);
    type_line("/figures\r");
    expect("off");
    type_line("/nonsense\r");
    expect("no command /nonsense");
    expect(PROMPT);
    type_line("\004");
    assert_int_equal(close_terminal(), 0);
}

static void test_chat_terminal_ctrl_c_stops_the_answer_not_the_program(void **state)
{
    (void)state;
    /* Token 2 ends the small model's turns: without it, an answer is as long as its limit. */
    static const char *const many[] = {"--bias", "2=-100", "--tokens", "1500", NULL};
    open_chat(many);
    expect(PROMPT);
    type_line("find all large files\r");
    expect("large files"); /* the echo, perhaps twice; so much after it can only be the answer */
    while (terminal.used < terminal.seen + 300) {
        assert_true(look(100));
    }
    type("\003");
    expect("(stopped)");
    expect(PROMPT);
    type_line("half a line\003"); /* now it throws the line away */
    expect("^C");
    expect("> ");
    type_line("/exit\r");
    assert_int_equal(close_terminal(), 0);
}

static void test_chat_terminal_keeps_history_to_oneself(void **state)
{
    (void)state;
    static const char *const few[] = {"--tokens", "4", "--figures", NULL};
    open_chat(few);
    expect(PROMPT);
    type_line("show disk usage\r");
    expect("tokens/s"); /* the answer is over: an end of file typed into it would be lost */
    expect(PROMPT);
    type_line("\004");
    assert_int_equal(close_terminal(), 0);

    char path[128];
    struct stat st;
    snprintf(path, sizeof path, "%s/tessera/history", folder);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 077, 0);

    open_chat(few);
    expect(PROMPT);
    type_line("\033[A"); /* the line before */
    expect("show disk usage");
    type_line("\003");
    expect("^C");
    expect("> ");
    type_line("\004");
    assert_int_equal(close_terminal(), 0);
}

static void test_chat_terminal_takes_every_character_in_any_locale(void **state)
{
    (void)state;
    static const char *const locales[] = {"C.UTF-8", "", "C"};
    for (size_t i = 0; i < sizeof locales / sizeof *locales; i++) {
        locale = locales[i];
        open_chat(NULL);
        expect(PROMPT);
        type_line("/größe\r");
        expect("no command /größe;");
        expect(PROMPT);
        type_line("\004");
        assert_int_equal(close_terminal(), 0);
    }
}

static void open_top(void)
{
    const char *const argv[] = {tessera_path, "top",  "--socket", socket_path,
                                "--interval", "0.05", NULL};
    open_terminal(argv);
    expect("\033[?1049h");
    for (int page = 0; page < 3; page++) {
        expect("shell-5m");
        expect("0 running");
        expect("1 clients");
        expect("KV cache   [....................]   0 %");
        expect("4 KiB pages");
        expect("\033[J");
    }
}

/* The shell's screen and cursor come back, whatever ends it. */
static void test_top_terminal_gives_the_screen_back(void **state)
{
    (void)state;
    open_top();
    type_line("xyzq");
    assert_int_equal(close_terminal(), 0);
    expect("\033[?25h\033[?1049l");
    open_top();
    type_line("\003");
    assert_int_equal(close_terminal(), 130);
    expect("\033[?25h\033[?1049l");
    open_top();
    kill(terminal.pid, SIGTERM);
    assert_int_equal(close_terminal(), 128 + SIGTERM);
    expect("\033[?25h\033[?1049l");
}

int main(void)
{
    find_programs();
    if (access(engine_path, X_OK) || access(tessera_path, X_OK)) {
        printf("skipped: %s or %s is not built\n", engine_path, tessera_path);
        return 77;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chat_terminal_answers_and_leaves),
        cmocka_unit_test(test_chat_terminal_ctrl_c_stops_the_answer_not_the_program),
        cmocka_unit_test(test_chat_terminal_keeps_history_to_oneself),
        cmocka_unit_test(test_chat_terminal_takes_every_character_in_any_locale),
        cmocka_unit_test(test_top_terminal_gives_the_screen_back),
    };
    return cmocka_run_group_tests(tests, start_engine, stop_engine);
}
