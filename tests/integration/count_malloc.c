/* Preloaded into the engine by test_engine_quiet: counts calls of the allocator by thread class,
 * into a file that the test maps too. The program's first thread is the frontend. */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SHOWN __attribute__((visibility("default")))

struct counts {
    _Atomic unsigned long frontend, others;
};

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t n, size_t size);
extern void *__libc_realloc(void *at, size_t size);
extern void *__libc_memalign(size_t align, size_t size);
extern void __libc_free(void *at);

static struct counts *counts;
static _Thread_local int class; /* 0: not known yet, 1: frontend, 2: other */

__attribute__((constructor)) static void map_counts(void)
{
    const char *path = getenv("TESSERA_TEST_COUNTS");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (fd >= 0) {
        void *map = mmap(NULL, sizeof *counts, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        counts = map == MAP_FAILED ? NULL : map;
        close(fd);
    }
}

static void count(void)
{
    if (!counts) {
        return;
    }
    if (!class) {
        class = syscall(SYS_gettid) == getpid() ? 1 : 2;
    }
    atomic_fetch_add_explicit(class == 1 ? &counts->frontend : &counts->others, 1,
                              memory_order_relaxed);
}

SHOWN void *malloc(size_t size)
{
    count();
    return __libc_malloc(size);
}

SHOWN void *calloc(size_t n, size_t size)
{
    count();
    return __libc_calloc(n, size);
}

SHOWN void *realloc(void *at, size_t size)
{
    count();
    return __libc_realloc(at, size);
}

SHOWN void *aligned_alloc(size_t align, size_t size)
{
    count();
    return __libc_memalign(align, size);
}

SHOWN void free(void *at)
{
    if (at) {
        count();
    }
    __libc_free(at);
}
