#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include <tsr/daemon/watch.h>

static char folder[] = "/tmp/tsr_watch_XXXXXX", path[64], other[64];

static void write_file(const char *name, const char *text)
{
    FILE *file = fopen(name, "we");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

/* File systems may count time coarsely: until it has moved on. */
static void wait_for_time(void)
{
    struct stat before, now;
    write_file(other, "x");
    assert_int_equal(stat(other, &before), 0);
    do {
        const struct timespec ms = {.tv_nsec = 1000000};
        nanosleep(&ms, NULL);
        write_file(other, "x");
        assert_int_equal(stat(other, &now), 0);
    } while (now.st_ctim.tv_sec == before.st_ctim.tv_sec &&
             now.st_ctim.tv_nsec == before.st_ctim.tv_nsec);
}

static void test_watch_sees_every_change(void **state)
{
    (void)state;
    struct tsr_watch watch = {0};
    tsr_watch_add(&watch, NULL);
    assert_int_equal(watch.n, 0);
    tsr_watch_add(&watch, path);
    assert_false(tsr_watch_changed(&watch)); /* not there, as before */
    write_file(path, "a");
    assert_true(tsr_watch_changed(&watch));
    assert_true(tsr_watch_changed(&watch)); /* until it is noted */
    tsr_watch_note(&watch);
    assert_false(tsr_watch_changed(&watch));
    wait_for_time();
    write_file(path, "b"); /* as large */
    assert_true(tsr_watch_changed(&watch));
    tsr_watch_note(&watch);
    wait_for_time();
    assert_int_equal(chmod(path, 0600), 0); /* it may be readable now */
    assert_true(tsr_watch_changed(&watch));
    tsr_watch_note(&watch);
    assert_int_equal(rename(other, path), 0);
    assert_true(tsr_watch_changed(&watch));
    tsr_watch_note(&watch);
    assert_int_equal(unlink(path), 0);
    assert_true(tsr_watch_changed(&watch));
    tsr_watch_note(&watch);
    assert_false(tsr_watch_changed(&watch));
}

static int set_up(void **state)
{
    (void)state;
    if (!mkdtemp(folder)) {
        return -1;
    }
    snprintf(path, sizeof path, "%s/watched", folder);
    snprintf(other, sizeof other, "%s/other", folder);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    unlink(path);
    unlink(other);
    return rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_watch_sees_every_change),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
