#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include <tsr/daemon/listen.h>

/* An unnamed listening socket (autobind). */
static int listener(int type)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, type, 0);
    if (bind(fd, (struct sockaddr *)&address, sizeof address.sun_family) < 0) {
        _exit(99);
    }
    if (type == SOCK_STREAM && listen(fd, 1) < 0) {
        _exit(99);
    }
    return fd;
}

/* In a child, whose descriptors from 3 on are `sockets`: what tsr_listen_fds() returns, -code as
 * 100 + code. */
static int passed(const char *pid, const char *fds, const int *types, int n)
{
    fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        char own[16];
        snprintf(own, sizeof own, "%d", (int)getpid());
        for (int i = 0; i < n; i++) {
            dup2(listener(types[i]), 10 + i);
        }
        for (int i = 0; i < n; i++) {
            dup2(10 + i, TSR_LISTEN_FIRST + i);
        }
        setenv("LISTEN_PID", pid ? pid : own, 1);
        if (fds) {
            setenv("LISTEN_FDS", fds, 1);
        }
        struct tsr_err err = {0};
        int rc = tsr_listen_fds(&err);
        for (int i = 0; i < rc; i++) {
            bool good = (fcntl(TSR_LISTEN_FIRST + i, F_GETFL) & O_NONBLOCK) &&
                        (fcntl(TSR_LISTEN_FIRST + i, F_GETFD) & FD_CLOEXEC);
            rc = good ? rc : 98;
        }
        bool said = rc >= 0 || strstr(err.text, "LISTEN_FDS");
        _exit(!said || getenv("LISTEN_FDS") || getenv("LISTEN_PID") ? 97 : rc < 0 ? 100 - rc : rc);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void test_listen_refuses(void **state)
{
    (void)state;
    const int datagram[] = {SOCK_STREAM, SOCK_DGRAM};
    const int stream[] = {SOCK_STREAM};
    assert_int_equal(passed(NULL, "2", datagram, 2), 100 + EINVAL);
    assert_int_equal(passed(NULL, "17", stream, 1), 100 + EINVAL);
    assert_int_equal(passed(NULL, "-1", stream, 1), 100 + EINVAL);
    assert_int_equal(passed(NULL, "one", stream, 1), 100 + EINVAL);
    assert_int_equal(passed(NULL, "", stream, 1), 100 + EINVAL);
}

static void test_listen_takes(void **state)
{
    (void)state;
    const int stream[] = {SOCK_STREAM, SOCK_STREAM};
    assert_int_equal(passed(NULL, "2", stream, 2), 2);
    assert_int_equal(passed(NULL, "0", NULL, 0), 0);
    assert_int_equal(passed(NULL, NULL, NULL, 0), 0);
    assert_int_equal(passed("1", "2", stream, 2), 0); /* another process was meant */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_listen_refuses),
        cmocka_unit_test(test_listen_takes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
