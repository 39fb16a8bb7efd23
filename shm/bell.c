#include <tsr/shm/bell.h>

#include <errno.h>
#include <linux/futex.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* Not FUTEX_PRIVATE: the two sides are different processes. */

int tsr_bell_wait(const _Atomic uint32_t *word, uint32_t expected, uint64_t timeout_ns)
{
    struct timespec limit = {.tv_sec = (time_t)(timeout_ns / 1000000000u),
                             .tv_nsec = (long)(timeout_ns % 1000000000u)};
    if (syscall(SYS_futex, word, FUTEX_WAIT, expected, &limit, NULL, 0) == 0 || errno == EAGAIN) {
        return 0;
    }
    return -errno;
}

void tsr_bell_wake(_Atomic uint32_t *word)
{
    uint32_t now = atomic_load_explicit(word, memory_order_relaxed);
    /* R2: the sleeper's word; pairs with A2 in tsr_link_sleep(). */
    atomic_store_explicit(word, now + 1, memory_order_release);
    (void)syscall(SYS_futex, word, FUTEX_WAKE, 1, NULL, NULL, 0);
}

int tsr_bell_ring(int socket_fd)
{
    static const char bell = '!';
    if (send(socket_fd, &bell, 1, MSG_DONTWAIT | MSG_NOSIGNAL) == 1) {
        return 0;
    }
    return -errno;
}

uint64_t tsr_clock_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}
