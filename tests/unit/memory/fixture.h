/* A folder that stands for /proc and /sys of a machine that is not there. Each test program
 * includes it once. */
#ifndef TSR_TEST_FIXTURE_H
#define TSR_TEST_FIXTURE_H

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char fixture_root[64];

static int fixture_remove(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    (void)st;
    (void)flag;
    (void)ftw;
    return remove(path);
}

static int fixture_setup(void **state)
{
    (void)state;
    snprintf(fixture_root, sizeof fixture_root, "/tmp/tsr-fixture-XXXXXX");
    return mkdtemp(fixture_root) ? 0 : -1;
}

static int fixture_teardown(void **state)
{
    (void)state;
    return nftw(fixture_root, fixture_remove, 8, FTW_DEPTH | FTW_PHYS);
}

/* Path under the folder, whole; makes the folders on the way. */
static void fixture_path(const char *path, char whole[512])
{
    snprintf(whole, 512, "%s%s", fixture_root, path);
    for (char *slash = whole + strlen(fixture_root) + 1; (slash = strchr(slash, '/')); slash++) {
        *slash = '\0';
        mkdir(whole, 0700);
        *slash = '/';
    }
}

/* Writes text to path under the folder. */
static void fixture_write(const char *path, const char *text)
{
    char whole[512];
    fixture_path(path, whole);
    FILE *file = fopen(whole, "we");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

#endif
