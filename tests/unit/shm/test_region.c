#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <tsr/shm/guard.h>
#include <tsr/shm/region.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { BYTES = 64 << 10 };

static struct tsr_err err;

/* CMocka puts its own SIGBUS handler on top for each test: this is the guard's. */
static struct sigaction guard_action;

static void test_region_refuses_bad_sizes(void **state)
{
    (void)state;
    const size_t sizes[] = {0, 1, 4095, 4097, TSR_REGION_BYTES_MAX + 4096ul, SIZE_MAX};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct tsr_region region;
        assert_int_equal(tsr_region_create(&region, TSR_REGION_EVENT, sizes[i], &err), -EINVAL);
        assert_int_equal(region.fd, -1);
        assert_null(region.base);
    }
}

static void test_region_attach_refuses_what_was_not_promised(void **state)
{
    (void)state;
    struct tsr_region region, other;
    assert_int_equal(tsr_region_create(&region, TSR_REGION_EVENT, BYTES, &err), 0);
    assert_int_equal(tsr_region_attach(&other, TSR_REGION_EVENT, dup(region.fd), BYTES / 2, &err),
                     -EPROTO);
    tsr_region_close(&region);
    /* Not sealed: it could shrink under the reader. */
    int fd = memfd_create("test", MFD_ALLOW_SEALING | MFD_CLOEXEC);
    assert_int_equal(ftruncate(fd, BYTES), 0);
    assert_int_equal(tsr_region_attach(&other, TSR_REGION_EVENT, fd, BYTES, &err), -EPROTO);
    assert_int_equal(fcntl(fd, F_GETFD), -1); /* closed on failure */
    assert_non_null(strstr(err.text, "sealed"));
    assert_int_equal(
        tsr_region_attach(&other, TSR_REGION_EVENT, open("/dev/null", O_RDWR), BYTES, &err),
        -EPROTO);
}

static void test_region_cannot_be_resized_or_unsealed(void **state)
{
    (void)state;
    for (int kind = TSR_REGION_REQUEST; kind <= TSR_REGION_EVENT; kind++) {
        struct tsr_region region;
        assert_int_equal(tsr_region_create(&region, (enum tsr_region_kind)kind, BYTES, &err), 0);
        assert_int_equal(ftruncate(region.fd, 0), -1);
        assert_int_equal(ftruncate(region.fd, 2 * BYTES), -1);
        assert_int_equal(fcntl(region.fd, F_ADD_SEALS, F_SEAL_WRITE), -1);
        assert_int_equal(errno, EPERM);
        assert_true(fcntl(region.fd, F_GETFD) & FD_CLOEXEC);
        tsr_region_close(&region);
        tsr_region_close(&region); /* twice is fine */
    }
}

static void test_region_of_events_is_read_only_to_others(void **state)
{
    (void)state;
    struct tsr_region region;
    assert_int_equal(tsr_region_create(&region, TSR_REGION_EVENT, BYTES, &err), 0);
    assert_ptr_equal(mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, region.fd, 0),
                     MAP_FAILED);
    void *view = mmap(NULL, BYTES, PROT_READ, MAP_SHARED, region.fd, 0);
    assert_ptr_not_equal(view, MAP_FAILED);
    assert_int_equal(mprotect(view, BYTES, PROT_READ | PROT_WRITE), -1);
    assert_int_equal(pwrite(region.fd, "x", 1, 0), -1);
    assert_int_equal(fallocate(region.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096), -1);
    assert_int_equal(madvise(view, BYTES, MADV_REMOVE), -1);
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", region.fd);
    int again = open(path, O_RDWR | O_CLOEXEC);
    if (again >= 0) {
        assert_int_equal(pwrite(again, "x", 1, 0), -1);
        assert_ptr_equal(mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, again, 0),
                         MAP_FAILED);
        close(again);
    }
    /* The creator's own mapping writes, and others see it. */
    region.base[5] = 42;
    assert_int_equal(((uint8_t *)view)[5], 42);
    munmap(view, BYTES);
    tsr_region_close(&region);
}

static void test_region_tells_holes(void **state)
{
    (void)state;
    struct tsr_region engine, client;
    assert_int_equal(tsr_region_create(&engine, TSR_REGION_REQUEST, BYTES, &err), 0);
    assert_int_equal(tsr_region_has_holes(&engine), 1);
    assert_int_equal(tsr_region_attach(&client, TSR_REGION_REQUEST, dup(engine.fd), BYTES, &err),
                     0);
    assert_int_equal(tsr_region_has_holes(&engine), 0);
    tsr_region_prefault(&engine);
    client.base[BYTES - 1] = 7;
    assert_int_equal(engine.base[BYTES - 1], 7);
    assert_int_equal(
        fallocate(client.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, BYTES - 4096, 4096), 0);
    assert_int_equal(tsr_region_has_holes(&engine), 1);
    assert_int_equal(engine.base[BYTES - 1],
                     0); /* a hole reads as zeros, and the reader has filled it */
    assert_int_equal(tsr_region_has_holes(&engine), 0);
    tsr_region_release(&engine);
    assert_int_equal(tsr_region_has_holes(&engine), 1);
    tsr_region_close(&client);
    tsr_region_close(&engine);
    /* The event region is filled by reading it, and cannot be released. */
    assert_int_equal(tsr_region_create(&engine, TSR_REGION_EVENT, BYTES, &err), 0);
    assert_int_equal(tsr_region_attach(&client, TSR_REGION_EVENT, dup(engine.fd), BYTES, &err), 0);
    assert_int_equal(tsr_region_has_holes(&engine), 0);
    tsr_region_release(&engine);
    assert_int_equal(tsr_region_has_holes(&engine), 0);
    tsr_region_close(&client);
    tsr_region_close(&engine);
}

/* ---- The guard ---- */

/* A region whose pages can be made to fail: its file is not sealed, and shrinks. */
static uint8_t *failing(size_t bytes, int *fd)
{
    *fd = memfd_create("failing", MFD_CLOEXEC);
    assert_int_equal(ftruncate(*fd, (off_t)bytes), 0);
    uint8_t *base = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, *fd, 0);
    assert_ptr_not_equal(base, MAP_FAILED);
    memset(base, 0xaa, bytes);
    return base;
}

static void test_guard_reads_zeros_where_a_page_fails(void **state)
{
    (void)state;
    sigaction(SIGBUS, &guard_action, NULL);
    int fds[2];
    uint8_t *bases[2] = {failing(BYTES, &fds[0]), failing(BYTES, &fds[1])};
    int slots[2] = {tsr_guard_add(bases[0], BYTES), tsr_guard_add(bases[1], BYTES)};
    assert_true(slots[0] >= 0 && slots[1] >= 0);
    assert_int_equal(ftruncate(fds[1], 4096), 0);
    assert_false(tsr_guard_failed(slots[1]));
    assert_int_equal(bases[1][100], 0xaa); /* that page is still there */
    uint8_t copy[8192];
    memcpy(copy, bases[1], sizeof copy); /* fails in the middle */
    assert_int_equal(copy[8191], 0);
    assert_true(tsr_guard_failed(slots[1]));
    bases[1][BYTES - 1] = 1; /* the private stand-in can be written too */
    assert_int_equal(bases[1][100], 0);
    assert_false(tsr_guard_failed(slots[0])); /* the neighbour notices nothing */
    assert_int_equal(bases[0][5000], 0xaa);
    for (int i = 0; i < 2; i++) {
        tsr_guard_remove(slots[i]);
        munmap(bases[i], BYTES);
        close(fds[i]);
    }
    tsr_guard_remove(-1);
    assert_false(tsr_guard_failed(-1));
}

static void test_guard_uses_slots_again(void **state)
{
    (void)state;
    for (int i = 0; i < 3 * TSR_GUARD_REGIONS_MAX; i++) {
        int slot = tsr_guard_add(&err, sizeof err);
        assert_true(slot >= 0);
        tsr_guard_remove(slot);
    }
    int *slots = malloc(TSR_GUARD_REGIONS_MAX * sizeof *slots);
    for (int i = 0; i < TSR_GUARD_REGIONS_MAX; i++) {
        slots[i] = tsr_guard_add(&err, sizeof err);
        assert_true(slots[i] >= 0);
    }
    assert_int_equal(tsr_guard_add(&err, sizeof err), -ENOSPC);
    for (int i = 0; i < TSR_GUARD_REGIONS_MAX; i++) {
        tsr_guard_remove(slots[i]);
    }
    free(slots);
}

/* A SIGBUS that is not ours kills as ever. */
static void test_guard_passes_on_what_is_not_guarded(void **state)
{
    (void)state;
    sigaction(SIGBUS, &guard_action, NULL);
    for (int sent = 0; sent < 2; sent++) {
        pid_t pid = fork();
        if (pid == 0) {
            close(STDERR_FILENO); /* a sanitizer's report */
            if (sent) {
                raise(SIGBUS);
            } else {
                int fd;
                _Atomic uint8_t *base = (_Atomic uint8_t *)failing(BYTES, &fd);
                if (ftruncate(fd, 0) == 0) {
                    (void)atomic_load(base);
                }
            }
            _exit(0);
        }
        int status;
        waitpid(pid, &status, 0);
        /* A sanitizer's own handler exits or aborts instead, as its options say. */
        assert_true(WIFSIGNALED(status) ? WTERMSIG(status) == SIGBUS || WTERMSIG(status) == SIGABRT
                                        : WEXITSTATUS(status) != 0);
    }
}

int main(void)
{
    if (tsr_guard_install(&err) != 0 || sigaction(SIGBUS, NULL, &guard_action) != 0) {
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_region_refuses_bad_sizes),
        cmocka_unit_test(test_region_attach_refuses_what_was_not_promised),
        cmocka_unit_test(test_region_cannot_be_resized_or_unsealed),
        cmocka_unit_test(test_region_of_events_is_read_only_to_others),
        cmocka_unit_test(test_region_tells_holes),
        cmocka_unit_test(test_guard_reads_zeros_where_a_page_fails),
        cmocka_unit_test(test_guard_uses_slots_again),
        cmocka_unit_test(test_guard_passes_on_what_is_not_guarded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
