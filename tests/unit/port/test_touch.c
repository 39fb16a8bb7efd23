#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

#include "touch_priv.h"

enum { PAGE = 4096, PAGES = 256, FEW = PAGES / 4 }; /* a sanitizer has an eighth of its own */

static uint8_t *map_file(const char *name, size_t bytes)
{
    int fd = memfd_create(name, MFD_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, (off_t)bytes), 0);
    uint8_t *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    assert_ptr_not_equal(at, MAP_FAILED);
    close(fd);
    return at;
}

/* That writing to each page takes. */
static long faults(uint8_t *at, size_t bytes)
{
    struct rusage before, after;
    getrusage(RUSAGE_SELF, &before);
    for (size_t i = 0; i < bytes; i += PAGE) {
        *(volatile uint8_t *)(at + i) = 1;
    }
    getrusage(RUSAGE_SELF, &after);
    return after.ru_minflt - before.ru_minflt;
}

static void test_touch_maps_what_came(void **state)
{
    (void)state;
    const size_t bytes = (size_t)PAGES * PAGE;
    FILE *maps = tsr_touch_open();
    assert_non_null(maps);
    assert_int_equal(tsr_touch(maps, "peer", bytes), 0);
    uint8_t *peer = map_file("peer region 0", bytes); /* after the list was opened */
    uint8_t *other = map_file("other", bytes);
    uint8_t *large = map_file("peer region 1", bytes + PAGE);
    uint8_t *more = map_file("peer region 2", bytes);
    assert_int_equal(tsr_touch(maps, "peer", bytes), 1);
    long of_peer = faults(peer, bytes), of_more = faults(more, bytes);
    assert_true((of_peer < FEW) != (of_more < FEW)); /* which came first in the list */
    assert_true(faults(other, bytes) > 0);
    assert_true(faults(large, bytes) > 0);
    munmap(peer, bytes);
    munmap(more, bytes);
    assert_int_equal(tsr_touch(maps, "peer", bytes), 0);
    munmap(other, bytes);
    munmap(large, bytes + PAGE);
    fclose(maps);
}

/* Its owner may make it smaller at any time. */
static void test_touch_survives_a_truncated_file(void **state)
{
    (void)state;
    const size_t bytes = (size_t)PAGES * PAGE;
    FILE *maps = tsr_touch_open();
    int fd = memfd_create("peer region", MFD_CLOEXEC);
    assert_int_equal(ftruncate(fd, (off_t)bytes / 2), 0);
    void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    assert_ptr_not_equal(at, MAP_FAILED);
    assert_int_equal(tsr_touch(maps, "peer", bytes), 0);
    munmap(at, bytes);
    close(fd);
    fclose(maps);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_touch_maps_what_came),
        cmocka_unit_test(test_touch_survives_a_truncated_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
