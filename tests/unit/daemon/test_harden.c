/* What is forbidden after start-up is refused. Each case runs in a child that gives its rights up
 * first. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include <tsr/daemon/harden.h>
#include <tsr/shm/door.h>

static char dir[] = "/tmp/tessera-harden-XXXXXX";
static char readable[64], secret[64], sock[64], closed[64], inside[80];
static char live[64], archive[64]; /* folders; a certificate in the first is a link to the second */
static char certificate[80], stored[80];

/* What a door does beside what every daemon does. */
static const char *const door_calls[] = {
    "memfd_create", "socket", "ftruncate", "unlink", "no_such_call_anywhere", "newfstatat", NULL};

enum { NO_SANDBOX = 76, REFUSED = 0, ALLOWED = 1, OTHERWISE = 2 };

static void give_up(bool files, bool calls)
{
    struct tsr_harden_user user;
    struct tsr_err err = {0};
    char notes[256];
    if (tsr_harden_find_user(&user, NULL, &err) < 0 || tsr_harden_identity(&user, &err) < 0) {
        fprintf(stderr, "%s\n", err.text);
        _exit(OTHERWISE);
    }
    const struct tsr_harden_files allowed = {.read = {readable, "/proc", "/nowhere", inside},
                                             .replaced = {NULL, certificate},
                                             .socket_dir = dir};
    if (files && tsr_harden_files(&allowed, notes, sizeof notes, &err) < 0) {
        fprintf(stderr, "%s\n", err.text);
        _exit(OTHERWISE);
    }
    if (files && notes[0]) {
        _exit(NO_SANDBOX);
    }
    if (calls && tsr_harden_calls(door_calls, notes, sizeof notes, &err) < 0) {
        fprintf(stderr, "%s\n", err.text);
        _exit(OTHERWISE);
    }
    if (calls && notes[0]) {
        _exit(NO_SANDBOX);
    }
}

static bool tried;           /* what the last child was to try */
static void (*before)(void); /* done by children before they give up anything; NULL: nothing */

/* Runs act in a child; what it returns is its exit status. */
static int in_child(bool files, bool calls, int (*act)(void))
{
    fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        if (before) {
            before();
        }
        give_up(files, calls);
        _exit(act());
    }
    int status = 0;
    tried = true;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (WIFEXITED(status) && WEXITSTATUS(status) == NO_SANDBOX) {
        print_message("not tried: the kernel lacks it, or the build has sanitizers\n");
        tried = false;
        return REFUSED;
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : OTHERWISE;
}

static int refused(long rc, int code)
{
    return rc < 0 && errno == code ? REFUSED : rc < 0 ? OTHERWISE : ALLOWED;
}

/* ---- Identity ---- */

static int act_become_root(void)
{
    int worst = setuid(0) == 0 || setresuid(0, 0, 0) == 0 || setgid(0) == 0 ? ALLOWED : REFUSED;
    return getuid() == 0 || geteuid() == 0 ? ALLOWED : worst;
}

static int act_is_plain(void)
{
    char line[128];
    FILE *file = fopen("/proc/thread-self/status", "r");
    bool caps = false, privs = false;
    while (file && fgets(line, sizeof line, file)) {
        caps |= strncmp(line, "CapEff:\t0000000000000000", 24) == 0;
        privs |= strncmp(line, "NoNewPrivs:\t1", 13) == 0;
    }
    if (file) {
        fclose(file);
    }
    return caps && privs && prctl(PR_GET_DUMPABLE) == 0 ? REFUSED : ALLOWED;
}

static void test_harden_identity_cannot_go_back(void **state)
{
    (void)state;
    if (getuid() != 0) {
        print_message("setuid not tried: not root\n");
    } else {
        assert_int_equal(in_child(false, false, act_become_root), REFUSED);
    }
    assert_int_equal(in_child(false, false, act_is_plain), REFUSED);
}

static void test_harden_finds_users(void **state)
{
    (void)state;
    struct tsr_harden_user user;
    struct tsr_err err = {0};
    assert_int_equal(tsr_harden_find_user(&user, "no-such-user-here", &err), -ENOENT);
    assert_non_null(strstr(err.text, "no-such-user-here"));
    assert_int_equal(tsr_harden_find_user(&user, "12x", &err), -ENOENT);
    assert_int_equal(tsr_harden_find_user(&user, "4294967295", &err), -ENOENT);
    assert_int_equal(tsr_harden_find_user(&user, "4294967296", &err), -ENOENT); /* not root */
    assert_int_equal(tsr_harden_find_user(&user, "54321", &err), 0);
    assert_int_equal(user.uid, 54321);
    assert_int_equal(tsr_harden_find_user(&user, "root", &err), 0);
    assert_int_equal(user.uid, 0);
    assert_int_equal(tsr_harden_find_user(&user, NULL, &err), 0);
    assert_int_not_equal(user.uid, 0);
}

/* ---- Files ---- */

static int act_read_allowed(void)
{
    return open(readable, O_RDONLY) >= 0 ? REFUSED : ALLOWED;
}

static int act_read_behind_link(void)
{
    return open(certificate, O_RDONLY) >= 0 && open(stored, O_RDONLY) >= 0 ? REFUSED : ALLOWED;
}

static int act_read_secret(void)
{
    return refused(open(secret, O_RDONLY), EACCES);
}

static int act_write_allowed(void)
{
    return refused(open(readable, O_RDWR), EACCES);
}

static int act_make_file(void)
{
    char path[96];
    snprintf(path, sizeof path, "%s/new", dir);
    return refused(open(path, O_WRONLY | O_CREAT, 0600), EACCES);
}

static int act_remove_socket(void)
{
    return unlink(sock) == 0 ? REFUSED : ALLOWED;
}

static void test_harden_files_leave_only_the_model(void **state)
{
    (void)state;
    assert_int_equal(in_child(true, false, act_read_allowed), REFUSED);
    assert_int_equal(in_child(true, false, act_read_behind_link), REFUSED);
    assert_int_equal(in_child(true, false, act_read_secret), REFUSED);
    assert_int_equal(in_child(true, false, act_write_allowed), REFUSED);
    assert_int_equal(in_child(true, false, act_make_file), REFUSED);
    assert_int_equal(in_child(true, false, act_remove_socket), REFUSED);
}

/* ---- Calls ---- */

static int act_open(void)
{
    return refused(open(readable, O_RDONLY), EPERM);
}

static int act_socket(void)
{
    return refused(socket(AF_INET, SOCK_STREAM, 0), EPERM);
}

static int act_socket_here(void)
{
    return socket(AF_UNIX, SOCK_STREAM, 0) >= 0 ? REFUSED : ALLOWED;
}

static int act_connect(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "/run/x"};
    return refused(connect(0, (struct sockaddr *)&address, sizeof address), EPERM);
}

static int act_execve(void)
{
    char *argv[] = {(char *)(uintptr_t) "true", NULL};
    return refused(execv("/bin/true", argv), EPERM);
}

static int act_fork(void)
{
    return refused(syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0), EPERM);
}

static void *nothing(void *ctx)
{
    return ctx;
}

static int act_thread(void)
{
    pthread_t thread;
    return pthread_create(&thread, NULL, nothing, NULL) == EPERM ? REFUSED : ALLOWED;
}

static int act_ptrace(void)
{
    return refused(ptrace(PTRACE_TRACEME, 0, NULL, NULL), EPERM);
}

static int act_kill(void)
{
    return refused(kill(getppid(), 0), EPERM);
}

static int act_map_code(void)
{
    void *at =
        mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return at == MAP_FAILED && errno == EPERM ? REFUSED : ALLOWED;
}

static int act_make_code(void)
{
    void *at = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED) {
        return OTHERWISE;
    }
    return refused(mprotect(at, 4096, PROT_READ | PROT_EXEC), EPERM);
}

static int act_mount(void)
{
    return refused(syscall(SYS_unshare, CLONE_NEWUSER), EPERM);
}

static int act_read_memory(void)
{
    return refused(syscall(SYS_process_vm_readv, getpid(), NULL, 0, NULL, 0, 0), EPERM);
}

static int act_unload(void)
{
    return refused(syscall(SYS_seccomp, 1, 0, NULL), EPERM);
}

/* What the engine does all day. */
static int act_work(void)
{
    int fd = memfd_create("x", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0 || ftruncate(fd, 8192) < 0 || fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK) < 0) {
        return ALLOWED;
    }
    void *map = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    void *big = malloc(64 << 20);
    if (map == MAP_FAILED || !big || munmap(map, 8192) < 0 || close(fd) < 0) {
        return ALLOWED;
    }
    free(big);
    return write(STDERR_FILENO, "", 0) == 0 ? REFUSED : ALLOWED;
}

static void test_harden_calls_refuse_the_rest(void **state)
{
    (void)state;
    const struct {
        const char *name;
        int (*act)(void);
    } cases[] = {
        {"open", act_open},           {"socket", act_socket}, {"connect", act_connect},
        {"execve", act_execve},       {"fork", act_fork},     {"thread", act_thread},
        {"ptrace", act_ptrace},       {"kill", act_kill},     {"map code", act_map_code},
        {"make code", act_make_code}, {"unshare", act_mount}, {"process_vm_readv", act_read_memory},
        {"seccomp", act_unload},      {"work", act_work},     {"AF_UNIX", act_socket_here},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int rc = in_child(false, true, cases[i].act);
        if (rc != REFUSED) {
            fail_msg("%s: %d", cases[i].name, rc);
        }
    }
}

/* ---- Threads ---- */

/* A thread that a library has started before anything is given up; it acts when it is told. */
static atomic_int told;
static pthread_t other;
static int (*other_act)(void);

static void *acts(void *unused)
{
    static int result;
    (void)unused;
    while (!told) {
        usleep(100);
    }
    result = other_act();
    return &result;
}

static int act_pipe(void)
{
    int fds[2];
    return refused(pipe(fds), EPERM);
}

static void start_other(void)
{
    if (pthread_create(&other, NULL, acts, NULL) != 0) {
        _exit(OTHERWISE);
    }
}

static int act_other(void)
{
    void *result = NULL;
    told = 1;
    pthread_join(other, &result);
    return result ? *(int *)result : OTHERWISE;
}

static void test_harden_binds_threads_that_exist(void **state)
{
    (void)state;
    before = start_other;
    other_act = act_is_plain;
    assert_int_equal(in_child(false, false, act_other), REFUSED);
    other_act = act_read_secret;
    assert_int_equal(in_child(true, false, act_other), REFUSED);
    other_act = act_pipe;
    assert_int_equal(in_child(false, true, act_other), REFUSED);
    before = NULL;
}

static struct tsr_door *door;

static int act_close_door(void)
{
    tsr_door_destroy(door, NULL);
    return REFUSED;
}

/* The socket is gone after a clean end, with all rights given up. */
static void test_harden_lets_the_door_clean_up(void **state)
{
    (void)state;
    struct stat status;
    struct tsr_err err;
    char path[96];
    snprintf(path, sizeof path, "%s/door.sock", dir);
    assert_int_equal(tsr_door_open(&door, path, NULL, &err), 0);
    assert_int_equal(lstat(path, &status), 0);
    assert_int_equal(in_child(true, true, act_close_door), REFUSED);
    if (tried) {
        assert_int_equal(lstat(path, &status), -1);
    }
    tsr_door_destroy(door, NULL);
}

static void touch(const char *path)
{
    int fd = open(path, O_WRONLY | O_CREAT, 0666);
    assert_true(fd >= 0);
    assert_int_equal(fchmod(fd, 0666), 0);
    close(fd);
}

static int set_up(void **state)
{
    (void)state;
    assert_non_null(mkdtemp(dir));
    assert_int_equal(chmod(dir, 0777), 0);
    snprintf(readable, sizeof readable, "%s/model", dir);
    snprintf(secret, sizeof secret, "%s/secret", dir);
    snprintf(sock, sizeof sock, "%s/sock", dir);
    touch(readable);
    touch(secret);
    touch(sock);
    /* A folder that the engine's user may not enter, such as root's home, with a model in it. */
    snprintf(closed, sizeof closed, "%s/closed", dir);
    snprintf(inside, sizeof inside, "%s/model", closed);
    assert_int_equal(mkdir(closed, 0700), 0);
    touch(inside);
    assert_int_equal(chmod(closed, 0), 0);
    snprintf(live, sizeof live, "%s/live", dir);
    snprintf(archive, sizeof archive, "%s/archive", dir);
    snprintf(certificate, sizeof certificate, "%s/pem", live);
    snprintf(stored, sizeof stored, "%s/pem", archive);
    assert_int_equal(mkdir(live, 0755), 0);
    assert_int_equal(mkdir(archive, 0755), 0);
    touch(stored);
    assert_int_equal(symlink("../archive/pem", certificate), 0);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    unlink(readable);
    unlink(secret);
    unlink(sock);
    chmod(closed, 0700);
    unlink(inside);
    rmdir(closed);
    unlink(certificate);
    unlink(stored);
    rmdir(live);
    rmdir(archive);
    rmdir(dir);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_harden_identity_cannot_go_back),
        cmocka_unit_test(test_harden_finds_users),
        cmocka_unit_test(test_harden_files_leave_only_the_model),
        cmocka_unit_test(test_harden_calls_refuse_the_rest),
        cmocka_unit_test(test_harden_binds_threads_that_exist),
        cmocka_unit_test(test_harden_lets_the_door_clean_up),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
