/* No system call a token while both sides poll: they run under a filter that kills on any, but for
 * the client's look for a dead engine after a silence, which is counted. (A busy machine can take
 * the engine's CPU for that long.) */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "fake_engine.h"

#include <tessera.h>

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <ucontext.h>

enum { TOKENS = 30000 };

#if defined(__SANITIZE_THREAD__)
static const char *const sanitizer = "ThreadSanitizer makes system calls of its own";
#else
static const char *const sanitizer = NULL;
#endif

/* Reading the clock must not be a system call either. */
static const char *why_not(void)
{
    if (sanitizer) {
        return sanitizer;
    }
#if !defined(__x86_64__)
    return "the filter knows x86-64's registers only";
#endif
    char clock[64] = "";
    FILE *file = fopen("/sys/devices/system/clocksource/clocksource0/current_clocksource", "r");
    if (file) {
        if (!fgets(clock, sizeof clock, file)) {
            clock[0] = '\0';
        }
        fclose(file);
    }
    const char *const in_vdso[] = {"tsc", "kvm-clock", "hyperv_clocksource_tsc_page",
                                   "arch_sys_counter"};
    for (size_t i = 0; i < sizeof in_vdso / sizeof in_vdso[0]; i++) {
        if (strncmp(clock, in_vdso[i], strlen(in_vdso[i])) == 0) {
            return NULL;
        }
    }
    return "this machine's clock is read by a system call";
}

static _Atomic uint32_t looks;

/* Counts the look for a dead engine, and answers it: alive. */
static void on_look(int signal_number, siginfo_t *info, void *context)
{
    (void)signal_number;
    (void)info;
    atomic_fetch_add(&looks, 1);
    ucontext_t *interrupted = context;
    interrupted->uc_mcontext.gregs[REG_RAX] = -EAGAIN;
}

/* From here on only exit_group() is allowed, and looking is counted. */
static bool forbid_system_calls(void)
{
    struct sigaction action = {.sa_sigaction = on_look, .sa_flags = SA_SIGINFO};
    sigaction(SIGSYS, &action, NULL);
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_exit_group, 3, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_rt_sigreturn, 2, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_recvmsg, 2, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
    };
    struct sock_fprog program = {.len = sizeof code / sizeof code[0], .filter = code};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

static void leave(int status)
{
    syscall(SYS_exit_group, status);
}

/* Answers one request of one client; ready once it has the whole of it. */
static void be_engine(struct fake_engine *engine)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (fake_open(engine) != 0) {
        leave(2);
    }
    struct fake_session *session = NULL;
    while (!session) {
        fake_door(engine);
        session = engine->sessions[0];
    }
    engine->silent = true;
    while (!session->requests[0].id ||
           session->requests[0].got_bytes < session->requests[0].payload_bytes) {
        fake_step(engine, session);
    }
    engine->silent = false;
    if (!forbid_system_calls()) {
        leave(3);
    }
    while (session->requests[0].id) {
        fake_step(engine, session);
    }
    /* The last events are shown by the step that made them. */
    leave(tsr_channel_is_broken(session->channel) || atomic_load(&looks) ? 4 : 0);
}

static void be_client(const char *path)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    struct tessera *t = NULL;
    struct tessera_error err;
    for (int i = 0; i < 5000 && tessera_connect(&t, path, NULL, &err) != 0; i++) {
        usleep(1000);
    }
    static char text[TOKENS];
    memset(text, 's', sizeof text);
    uint64_t id = t ? tessera_submit_text(t, text, sizeof text, NULL, &err) : 0;
    struct tessera_event event;
    uint32_t tokens = 0;
    /* The prompt is longer than a record: sent before the filter. */
    while (id && tessera_timeout_ms(t) >= 0) {
        tokens += tessera_poll(t, &event, &err) == 1 && event.kind == TESSERA_TOKEN;
    }
    if (!id || !forbid_system_calls()) {
        leave(3);
    }
    uint64_t begin = tsr_clock_ns();
    for (;;) {
        int got = tessera_poll(t, &event, &err);
        if (got < 0) {
            leave(4);
        }
        if (got == 1 && event.kind == TESSERA_TOKEN) {
            tokens++;
        } else if (got == 1 && event.kind == TESSERA_DONE) {
            uint64_t silences = (tsr_clock_ns() - begin) / 200000000u;
            leave(tokens != TOKENS ? 5 : atomic_load(&looks) > silences ? 6 : 0);
        }
    }
}

static void test_channel_makes_no_system_call_while_both_poll(void **state)
{
    (void)state;
    const char *reason = why_not();
    if (reason) {
        printf("skipped: %s\n", reason);
        exit(77);
    }
    struct fake_engine engine;
    assert_int_equal(fake_prepare(&engine, NULL), 0);
    pid_t pids[2];
    for (int i = 0; i < 2; i++) {
        pids[i] = fork();
        if (pids[i] == 0) {
            if (i == 0) {
                be_engine(&engine);
            } else {
                be_client(engine.path);
            }
        }
    }
    int status[2];
    for (int i = 0; i < 2; i++) {
        waitpid(pids[i], &status[i], 0);
    }
    fake_remove(&engine);
    for (int i = 0; i < 2; i++) {
        if (WIFSIGNALED(status[i]) && WTERMSIG(status[i]) == SIGSYS) {
            fail_msg("the %s made a system call", i == 0 ? "engine" : "client");
        }
        assert_int_equal(status[i], 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_channel_makes_no_system_call_while_both_poll),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
