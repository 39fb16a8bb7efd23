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

#include <tsr/bypass/secret.h>

enum { BYTES = TSR_HTTP3_SECRET_BYTES };

static char folder[] = "/tmp/tsr_secret_XXXXXX", path[64];
static struct tsr_err err;

static void put(const char *text, size_t size, mode_t mode)
{
    unlink(path);
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(chmod(path, mode), 0);
}

static void test_secret_is_made_once(void **state)
{
    (void)state;
    uint8_t first[BYTES] = {0}, again[BYTES] = {0}, none[BYTES] = {0};
    struct stat file;
    unlink(path);
    assert_int_equal(tsr_bypass_secret_get(path, first, &err), 0);
    assert_memory_not_equal(first, none, BYTES);
    assert_int_equal(stat(path, &file), 0);
    assert_int_equal(file.st_mode & 0777, 0600);
    assert_int_equal(file.st_size, BYTES);
    assert_int_equal(tsr_bypass_secret_get(path, again, &err), 0);
    assert_memory_equal(first, again, BYTES);
    assert_int_equal(tsr_bypass_secret_get(NULL, again, &err), 0); /* for this run alone */
    assert_memory_not_equal(first, again, BYTES);
    assert_memory_not_equal(none, again, BYTES);
}

static void test_secret_refuses_files(void **state)
{
    (void)state;
    uint8_t secret[BYTES];
    char text[BYTES + 1];
    memset(text, 'x', sizeof text);
    const struct {
        size_t size;
        mode_t mode;
        int code;
        const char *says;
    } cases[] = {
        {0, 0600, -EINVAL, "32 bytes"},
        {BYTES - 1, 0600, -EINVAL, "32 bytes"},
        {BYTES + 1, 0600, -EINVAL, "32 bytes"},
        {BYTES, 0604, -EPERM, "mode 604"},
        {BYTES, 0602, -EPERM, "mode 602"},
        {BYTES, 0620, -EPERM, "mode 620"},
        {BYTES, 0640, 0, ""},
        {BYTES, 0400, 0, ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        put(text, cases[i].size, cases[i].mode);
        err.text[0] = '\0';
        assert_int_equal(tsr_bypass_secret_get(path, secret, &err), cases[i].code);
        assert_non_null(strstr(err.text, cases[i].says));
        assert_true(cases[i].code == 0 || strstr(err.text, path));
    }
    assert_int_equal(tsr_bypass_secret_get(folder, secret, &err), -EINVAL);
    assert_int_equal(tsr_bypass_secret_get("/nowhere/secret", secret, &err), -ENOENT);
    assert_non_null(strstr(err.text, "--secret /nowhere/secret"));
}

static int set_up(void **state)
{
    (void)state;
    if (!mkdtemp(folder)) {
        return -1;
    }
    snprintf(path, sizeof path, "%s/secret", folder);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    unlink(path);
    return rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_secret_is_made_once),
        cmocka_unit_test(test_secret_refuses_files),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
