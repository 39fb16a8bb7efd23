#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include <tsr/daemon/notify.h>

static struct tsr_notify notify;
static struct tsr_err err;
static char dir[] = "/tmp/tessera-notify-XXXXXX";

/* A manager that listens at `name`, "@..." an abstract one. */
static int listen_at(const char *name)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t bytes = strlen(name);
    memcpy(address.sun_path, name, bytes);
    address.sun_path[0] = name[0] == '@' ? '\0' : name[0];
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + bytes);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, size), 0);
    setenv("NOTIFY_SOCKET", name, 1);
    return fd;
}

static const char *heard(int fd)
{
    static char text[1024];
    ssize_t n = recv(fd, text, sizeof text - 1, MSG_DONTWAIT);
    text[n > 0 ? n : 0] = '\0';
    return text;
}

static void test_notify_says_nothing_to_nobody(void **state)
{
    (void)state;
    unsetenv("NOTIFY_SOCKET");
    setenv("WATCHDOG_USEC", "1000", 1);
    assert_int_equal(tsr_notify_open(&notify, &err), 0);
    assert_int_equal(notify.fd, -1);
    assert_true(notify.watchdog_ns == 0);
    assert_null(getenv("WATCHDOG_USEC"));
    tsr_notify_say(&notify, "READY=1");
    tsr_notify_close(&notify);
    setenv("NOTIFY_SOCKET", "", 1);
    assert_int_equal(tsr_notify_open(&notify, &err), 0);
    assert_int_equal(notify.fd, -1);
}

static void test_notify_refuses_sockets(void **state)
{
    (void)state;
    char longer[200];
    memset(longer, 'x', sizeof longer - 1);
    longer[0] = '/';
    longer[sizeof longer - 1] = '\0';
    const struct {
        const char *path;
        int rc;
    } cases[] = {
        {"relative", -EINVAL}, {"vsock:2:1234", -EINVAL}, {"/", -EINVAL},
        {"@", -EINVAL},        {longer, -EINVAL},         {"/nowhere/notify", -ENOENT},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        setenv("NOTIFY_SOCKET", cases[i].path, 1);
        assert_int_equal(tsr_notify_open(&notify, &err), cases[i].rc);
        assert_non_null(strstr(err.text, "NOTIFY_SOCKET"));
        assert_int_equal(notify.fd, -1);
    }
}

static void speak_at(const char *name)
{
    int fd = listen_at(name);
    setenv("WATCHDOG_USEC", "3000000", 1);
    assert_int_equal(tsr_notify_open(&notify, &err), 0);
    assert_null(getenv("NOTIFY_SOCKET"));
    assert_true(notify.watchdog_ns == 3000000000u);
    tsr_notify_say(&notify, "READY=1\nSTATUS=%d%%", 7);
    tsr_notify_say(&notify, "WATCHDOG=1");
    assert_string_equal(heard(fd), "READY=1\nSTATUS=7%");
    assert_string_equal(heard(fd), "WATCHDOG=1");
    tsr_notify_say(&notify, "STATUS=%0600d", 1);
    assert_int_equal(strlen(heard(fd)), TSR_NOTIFY_BYTES_MAX - 1);
    close(fd);
    tsr_notify_say(&notify, "STOPPING=1"); /* the manager is gone: neither signal nor end */
    tsr_notify_close(&notify);
}

static void test_notify_speaks(void **state)
{
    (void)state;
    char name[64];
    snprintf(name, sizeof name, "%s/notify", dir);
    speak_at(name);
    unlink(name);
    snprintf(name, sizeof name, "@tessera-notify-%d", (int)getpid());
    speak_at(name);
}

/* A manager that does not read never holds the daemon up. */
static void test_notify_never_waits(void **state)
{
    (void)state;
    char name[64];
    snprintf(name, sizeof name, "@tessera-notify-%d", (int)getpid());
    int fd = listen_at(name);
    assert_int_equal(tsr_notify_open(&notify, &err), 0);
    for (int i = 0; i < 100000; i++) {
        tsr_notify_say(&notify, "WATCHDOG=1");
    }
    tsr_notify_close(&notify);
    close(fd);
}

static void test_notify_watchdog_of_others(void **state)
{
    (void)state;
    char name[64], pid[16];
    snprintf(name, sizeof name, "@tessera-notify-%d", (int)getpid());
    snprintf(pid, sizeof pid, "%d", (int)getpid());
    const struct {
        const char *pid, *usec;
        uint64_t ns;
    } cases[] = {
        {"1", "3000000", 0}, {pid, "3000000", 3000000000u},    {pid, "3s", 0}, {pid, "", 0},
        {pid, "-1", 0},      {pid, "99999999999999999999", 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int fd = listen_at(name);
        setenv("WATCHDOG_PID", cases[i].pid, 1);
        setenv("WATCHDOG_USEC", cases[i].usec, 1);
        assert_int_equal(tsr_notify_open(&notify, &err), 0);
        assert_true(notify.watchdog_ns == cases[i].ns);
        tsr_notify_close(&notify);
        close(fd);
    }
}

static int set_up(void **state)
{
    (void)state;
    return mkdtemp(dir) ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    return rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_notify_says_nothing_to_nobody),
        cmocka_unit_test(test_notify_refuses_sockets),
        cmocka_unit_test(test_notify_speaks),
        cmocka_unit_test(test_notify_never_waits),
        cmocka_unit_test(test_notify_watchdog_of_others),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
