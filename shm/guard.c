#include <tsr/shm/guard.h>

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

/* Slots are claimed by base 0 -> 1 (CLAIMED), filled, then shown by storing the real base. Writers:
 * the thread that adds or removes; `failed` alone is written by the handler. */
static struct slot {
    _Atomic uintptr_t base;
    _Atomic size_t bytes;
    _Atomic bool failed;
} slots[TSR_GUARD_REGIONS_MAX];

enum { CLAIMED = 1 };

static _Atomic uint32_t slots_used; /* slots at and above were never used */
static struct sigaction before;
static pthread_mutex_t install_lock = PTHREAD_MUTEX_INITIALIZER;
static bool installed;

static struct slot *find(uintptr_t address)
{
    uint32_t used = atomic_load_explicit(&slots_used, memory_order_acquire);
    for (uint32_t i = 0; i < used; i++) {
        uintptr_t base = atomic_load_explicit(&slots[i].base, memory_order_acquire);
        size_t bytes = atomic_load_explicit(&slots[i].bytes, memory_order_relaxed);
        if (base > CLAIMED && address - base < bytes) {
            return &slots[i];
        }
    }
    return NULL;
}

static void pass_on(int signal_number, siginfo_t *info, void *context)
{
    if (before.sa_flags & SA_SIGINFO) {
        before.sa_sigaction(signal_number, info, context);
    } else if (before.sa_handler == SIG_DFL || before.sa_handler == SIG_IGN) {
        /* A fault cannot be ignored. Returning repeats it, or raises what was sent, by default. */
        struct sigaction fall = {.sa_handler = SIG_DFL};
        sigaction(signal_number, &fall, NULL);
        if (info->si_code <= 0) {
            raise(signal_number);
        }
    } else {
        before.sa_handler(signal_number);
    }
}

/* Only async-signal-safe calls; mmap is a bare system call. */
static void on_sigbus(int signal_number, siginfo_t *info, void *context)
{
    int saved = errno;
    struct slot *slot = info->si_code > 0 ? find((uintptr_t)info->si_addr) : NULL;
    if (slot) {
        void *base = (void *)atomic_load_explicit(&slot->base, memory_order_relaxed);
        size_t bytes = atomic_load_explicit(&slot->bytes, memory_order_relaxed);
        if (mmap(base, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
                 0) == base) {
            atomic_store_explicit(&slot->failed, true, memory_order_release);
            errno = saved;
            return;
        }
    }
    pass_on(signal_number, info, context);
    errno = saved;
}

int tsr_guard_install(struct tsr_err *err)
{
    int result = 0;
    pthread_mutex_lock(&install_lock);
    if (!installed) {
        struct sigaction action = {.sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO | SA_ONSTACK};
        sigemptyset(&action.sa_mask);
        if (sigaction(SIGBUS, &action, &before) == 0) {
            installed = true;
        } else {
            result =
                tsr_err_set(err, -errno, "cannot install the SIGBUS handler: %s", strerror(errno));
        }
    }
    pthread_mutex_unlock(&install_lock);
    return result;
}

int tsr_guard_add(void *base, size_t bytes)
{
    for (uint32_t i = 0; i < TSR_GUARD_REGIONS_MAX; i++) {
        uintptr_t none = 0;
        if (!atomic_compare_exchange_strong_explicit(&slots[i].base, &none, CLAIMED,
                                                     memory_order_acq_rel, memory_order_relaxed)) {
            continue;
        }
        atomic_store_explicit(&slots[i].failed, false, memory_order_relaxed);
        atomic_store_explicit(&slots[i].bytes, bytes, memory_order_relaxed);
        atomic_store_explicit(&slots[i].base, (uintptr_t)base, memory_order_release);
        uint32_t used = atomic_load_explicit(&slots_used, memory_order_relaxed);
        while (used <= i &&
               !atomic_compare_exchange_weak_explicit(&slots_used, &used, i + 1,
                                                      memory_order_release, memory_order_relaxed)) {
        }
        return (int)i;
    }
    return -ENOSPC;
}

void tsr_guard_remove(int slot)
{
    if (slot >= 0) {
        atomic_store_explicit(&slots[slot].base, 0, memory_order_release);
    }
}

bool tsr_guard_failed(int slot)
{
    return slot >= 0 && atomic_load_explicit(&slots[slot].failed, memory_order_acquire);
}
