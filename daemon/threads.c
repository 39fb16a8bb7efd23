#include "threads_priv.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { THREADS_MAX = 256, ANSWER_MS_MAX = 5000 };

static struct {
    int (*act)(void *arg);
    void *arg;
    atomic_int rc;
    atomic_uint answers;
} each;

static void on_signal(int signal)
{
    int saved = errno, none = 0;
    int rc = each.act(each.arg);
    (void)signal;
    if (rc < 0) {
        atomic_compare_exchange_strong(&each.rc, &none, rc);
    }
    atomic_fetch_add(&each.answers, 1);
    errno = saved;
}

static int ask(pid_t thread, struct tsr_err *err)
{
    const struct timespec millisecond = {.tv_nsec = 1000000};
    unsigned before = atomic_load(&each.answers);
    if (syscall(SYS_tgkill, getpid(), thread, SIGRTMIN) < 0) {
        return errno == ESRCH ? 0 : tsr_err_set(err, -errno, "tgkill: %s", strerror(errno));
    }
    for (int ms = 0; atomic_load(&each.answers) == before; ms++) {
        if (syscall(SYS_tgkill, getpid(), thread, 0) < 0 && errno == ESRCH) {
            return 0;
        }
        if (ms == ANSWER_MS_MAX) {
            return tsr_err_set(err, -EBUSY, "the thread %d of this process takes no signal",
                               (int)thread);
        }
        nanosleep(&millisecond, NULL);
    }
    return 0;
}

static bool is_in(const pid_t *threads, size_t n, pid_t thread)
{
    for (size_t i = 0; i < n; i++) {
        if (threads[i] == thread) {
            return true;
        }
    }
    return false;
}

/* Asks those that are not yet in threads[0 .. *n - 1], and adds them. */
static int ask_new(DIR *folder, pid_t *threads, size_t *n, struct tsr_err *err)
{
    int rc = 0;
    rewinddir(folder);
    for (struct dirent *entry; rc == 0 && (entry = readdir(folder));) {
        pid_t thread = (pid_t)atoi(entry->d_name);
        if (thread <= 0 || is_in(threads, *n, thread)) {
            continue;
        }
        if (*n == THREADS_MAX) {
            return tsr_err_set(err, -E2BIG, "this process has more than %d threads", THREADS_MAX);
        }
        threads[(*n)++] = thread;
        rc = ask(thread, err);
    }
    return rc;
}

int tsr_threads_each(int (*act)(void *arg), void *arg, struct tsr_err *err)
{
    pid_t threads[THREADS_MAX] = {(pid_t)syscall(SYS_gettid)};
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART}, before;
    size_t n = 1, known = 0;
    DIR *folder = opendir("/proc/self/task");
    if (!folder) {
        return tsr_err_set(err, -errno, "/proc/self/task: %s", strerror(errno));
    }
    each.act = act;
    each.arg = arg;
    atomic_store(&each.rc, 0);
    sigaction(SIGRTMIN, &action, &before);
    int rc = 0;
    while (rc == 0 && known != n) {
        known = n;
        rc = ask_new(folder, threads, &n, err);
    }
    sigaction(SIGRTMIN, &before, NULL);
    closedir(folder);
    rc = rc ? rc : atomic_load(&each.rc);
    return rc ? rc : act(arg);
}
