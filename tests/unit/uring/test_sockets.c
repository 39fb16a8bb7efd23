#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include <tsr/uring/sockets.h>

static void test_sockets_refuse_what_is_no_address(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",           ":",           "8000",          "127.0.0.1",       "127.0.0.1:",
        ":8000",      "[::1]",       "[::1]8000",     "[::1:8000",       "::1:8000",
        "127.1:8000", "127.0.0.1:x", "127.0.0.1:-1",  "127.0.0.1:65536", "localhost:8000",
        "unix:",      "unix:a",      "[127.0.0.1]:1", "127.0.0.1:8000 ", "[]:1",
        "]:1",        "[:1",         "[::1]:",        "127.0.0.1:+1",
    };
    struct tsr_sockets sockets = {0};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct tsr_err err = {0};
        assert_int_equal(tsr_sockets_add(&sockets, bad[i], false, &err), -EINVAL);
        assert_non_null(strstr(err.text, "--listen"));
        assert_non_null(strstr(err.text, bad[i]));
    }
    char path[300] = "unix:/";
    memset(path + 6, 'x', 200);
    assert_int_equal(tsr_sockets_add(&sockets, path, false, NULL), -EINVAL);
    assert_int_equal(sockets.n, 0);
}

static void test_sockets_know_who_reaches_them(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool loopback;
    } cases[] = {
        {"127.0.0.1:80", true},  {"127.9.9.9:80", true},     {"[::1]:80", true},
        {"0.0.0.0:80", false},   {"192.168.1.1:80", false},  {"[::]:80", false},
        {"[fe80::1]:80", false}, {"unix:/run/x.sock", true}, {"[::ffff:127.0.0.1]:80", false},
    };
    struct tsr_sockets sockets = {0};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(tsr_sockets_add(&sockets, cases[i].text, i & 1, NULL), 0);
        assert_string_equal(sockets.at[i].name, cases[i].text);
        assert_int_equal(sockets.at[i].loopback, cases[i].loopback);
        assert_int_equal(sockets.at[i].tls, i & 1);
    }
}

static void test_sockets_are_bounded(void **state)
{
    (void)state;
    struct tsr_sockets sockets = {0};
    for (int i = 0; i < TSR_SOCKETS_MAX; i++) {
        assert_int_equal(tsr_sockets_add(&sockets, "127.0.0.1:0", false, NULL), 0);
    }
    assert_int_equal(tsr_sockets_add(&sockets, "127.0.0.1:0", false, NULL), -EINVAL);
    assert_int_equal(tsr_sockets_adopt(&sockets, 1, NULL, NULL), -EINVAL);
}

static void test_sockets_open_says_the_port(void **state)
{
    (void)state;
    struct tsr_sockets sockets = {0};
    struct tsr_sockets again = {0};
    struct tsr_err err = {0};
    assert_int_equal(tsr_sockets_add(&sockets, "127.0.0.1:0", false, NULL), 0);
    assert_int_equal(tsr_sockets_open(&sockets, &err), 0);
    assert_null(strstr(sockets.at[0].name, ":0"));
    assert_int_equal(tsr_sockets_add(&again, sockets.at[0].name, false, NULL), 0);
    assert_int_equal(tsr_sockets_open(&again, &err), -EADDRINUSE);
    assert_non_null(strstr(err.text, sockets.at[0].name));
    assert_int_equal(again.at[0].fd, -1);
    tsr_sockets_close(&sockets);
    tsr_sockets_close(&again);
}

static void test_sockets_replace_a_dead_unix_socket(void **state)
{
    (void)state;
    char dir[] = "/tmp/tessera-test-XXXXXX";
    char path[64], text[80];
    struct tsr_sockets dead = {0}, living = {0}, second = {0};
    struct stat file;
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/http.sock", dir);
    snprintf(text, sizeof text, "unix:%s", path);
    assert_int_equal(tsr_sockets_add(&dead, text, false, NULL), 0);
    living = second = dead;

    assert_int_equal(tsr_sockets_open(&dead, NULL), 0);
    close(dead.at[0].fd); /* as if its process had died */
    assert_int_equal(tsr_sockets_open(&living, NULL), 0);
    assert_int_equal(stat(path, &file), 0);
    assert_int_equal(file.st_mode & 07777, 0660);
    assert_int_equal(tsr_sockets_open(&second, NULL), -EADDRINUSE);
    tsr_sockets_close(&living);
    assert_int_equal(stat(path, &file), -1);

    FILE *plain = fopen(path, "w"); /* no socket: not ours to remove */
    assert_non_null(plain);
    fclose(plain);
    assert_int_equal(tsr_sockets_open(&second, NULL), -EADDRINUSE);
    unlink(path);
    rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sockets_refuse_what_is_no_address),
        cmocka_unit_test(test_sockets_know_who_reaches_them),
        cmocka_unit_test(test_sockets_are_bounded),
        cmocka_unit_test(test_sockets_open_says_the_port),
        cmocka_unit_test(test_sockets_replace_a_dead_unix_socket),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
