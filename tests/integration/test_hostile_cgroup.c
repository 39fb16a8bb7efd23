/* Who pays for a channel: the client's memory cgroup, whatever it does; never the engine's. Needs
 * root and a memory controller (cgroup v2 or v1) in which groups can be made. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "fake_engine.h"

#include <tsr/shm/link.h>
#include <tsr/shm/log.h>

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>

enum { CHANNELS = 16, REQUEST_RING = 1 << 20, EVENT_RING = 4 << 20 };

/* What page tables, sockets and a stray page may add; the regions are 80 MiB. */
static const uint64_t slack_bytes = 512 << 10;

struct shared {
    _Atomic int opened;  /* channels that the client has */
    _Atomic int dropped; /* channels that the engine closed */
    _Atomic int go;      /* phase that the client may enter */
};

static char engine_group[128], client_group[128];

static bool write_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0) {
        return false;
    }
    bool written = write(fd, text, strlen(text)) == (ssize_t)strlen(text);
    close(fd);
    return written;
}

/* Makes both groups; NULL, or why it cannot be. */
static const char *make_groups(void)
{
    if (geteuid() != 0) {
        return "only root can make cgroups";
    }
    const char *parents[] = {"/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/memory"};
    for (size_t i = 0; i < sizeof parents / sizeof parents[0]; i++) {
        char path[256];
        if (i < 2) { /* v2: children get the controller by its parent's leave */
            snprintf(path, sizeof path, "%s/cgroup.subtree_control", parents[i]);
            if (!write_file(path, "+memory")) {
                continue;
            }
        }
        snprintf(engine_group, sizeof engine_group, "%s/tessera-test-%d-engine", parents[i],
                 (int)getpid());
        snprintf(client_group, sizeof client_group, "%s/tessera-test-%d-client", parents[i],
                 (int)getpid());
        if (mkdir(engine_group, 0755) == 0 && mkdir(client_group, 0755) == 0) {
            snprintf(path, sizeof path, "%s/memory.stat", engine_group);
            if (access(path, R_OK) == 0) {
                return NULL;
            }
        }
        rmdir(engine_group);
        rmdir(client_group);
    }
    return "no memory controller in which groups can be made";
}

static bool join(const char *group)
{
    char path[256], pid[32];
    snprintf(path, sizeof path, "%s/cgroup.procs", group);
    snprintf(pid, sizeof pid, "%d", (int)getpid());
    return write_file(path, pid);
}

/* Bytes of shared memory that are charged to the group. */
static uint64_t shmem_of(const char *group)
{
    char path[256], line[128];
    snprintf(path, sizeof path, "%s/memory.stat", group);
    FILE *file = fopen(path, "r");
    unsigned long long bytes = UINT64_MAX;
    while (file && fgets(line, sizeof line, file)) {
        if (sscanf(line, "shmem %llu", &bytes) == 1) {
            break;
        }
    }
    if (file) {
        fclose(file);
    }
    return bytes;
}

/* The kernel adds up its counters now and then: waits for the figure to be below (or above) a
 * bound. */
static uint64_t settles(const char *group, uint64_t bound, bool below)
{
    uint64_t bytes = 0;
    for (int i = 0; i < 500; i++) {
        bytes = shmem_of(group);
        if (below ? bytes <= bound : bytes >= bound) {
            break;
        }
        usleep(10000);
    }
    return bytes;
}

static void be_hostile(const char *path, struct shared *shared)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    static struct tsr_link links[CHANNELS];
    if (!join(client_group)) {
        _exit(1);
    }
    for (int i = 0; i < CHANNELS; i++) {
        struct tsr_err err;
        int rc = -ECONNREFUSED; /* the socket is there a moment before it is listened to */
        for (int tries = 0; tries < 1000 && rc == -ECONNREFUSED; tries++) {
            rc = tsr_link_open(&links[i], path, "hoarder", 10000, NULL, &err);
            usleep(rc == -ECONNREFUSED ? 1000 : 0);
        }
        if (rc != 0) {
            fprintf(stderr, "%s\n", err.text);
            _exit(1);
        }
        atomic_fetch_add(&shared->opened, 1);
    }
    while (atomic_load(&shared->go) < 1) {
        usleep(1000);
    }
    /* Gives the request regions' memory back, so that the engine's reads must fill it. */
    for (int i = 0; i < CHANNELS; i++) {
        madvise(links[i].requests.base, links[i].requests.bytes, MADV_REMOVE);
        send(links[i].fd, "!", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
    }
    for (int i = 0; i < CHANNELS; i++) {
        while (!tsr_link_check(&links[i])) {
            usleep(1000);
        }
        atomic_fetch_add(&shared->dropped, 1);
    }
    pause(); /* with all mappings */
}

static void test_hostile_clients_pay_for_themselves(void **state)
{
    (void)state;
    const char *reason = make_groups();
    if (reason) {
        printf("skipped: %s\n", reason);
        exit(77);
    }
    struct shared *shared =
        mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    struct tsr_door_class class;
    tsr_door_class_init(&class);
    class.request_ring_bytes = REQUEST_RING;
    class.event_ring_bytes = EVENT_RING;
    class.bytes_max = UINT64_MAX;
    struct fake_engine engine;
    assert_int_equal(fake_prepare(&engine, &class), 0);
    pid_t server = fork();
    if (server == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (join(engine_group) && fake_open(&engine) == 0) {
            fake_run(&engine);
        }
        _exit(1);
    }
    while (access(engine.path, F_OK) != 0 && waitpid(server, NULL, WNOHANG) == 0) {
        usleep(1000);
    }
    pid_t client = fork();
    if (client == 0) {
        be_hostile(engine.path, shared);
    }
    while (atomic_load(&shared->opened) < CHANNELS && waitpid(client, NULL, WNOHANG) == 0) {
        usleep(1000);
    }
    uint64_t regions = (uint64_t)CHANNELS * (REQUEST_RING + EVENT_RING);
    uint64_t client_pays = settles(client_group, regions, false);
    uint64_t engine_pays = settles(engine_group, 0, true);
    print_message("%d channels of %llu bytes: the client's group has %llu, the engine's %llu\n",
                  CHANNELS, (unsigned long long)regions, (unsigned long long)client_pays,
                  (unsigned long long)engine_pays);
    atomic_store(&shared->go, 1);
    while (atomic_load(&shared->dropped) < CHANNELS && waitpid(client, NULL, WNOHANG) == 0) {
        usleep(1000);
    }
    uint64_t engine_after = settles(engine_group, 0, true);
    print_message("after holes in all of them, descriptors hoarded: the engine's %llu\n",
                  (unsigned long long)engine_after);
    int opened = atomic_load(&shared->opened), dropped = atomic_load(&shared->dropped);
    kill(client, SIGKILL);
    kill(server, SIGKILL);
    waitpid(client, NULL, 0);
    waitpid(server, NULL, 0);
    fake_remove(&engine);
    for (int i = 0; i < 100 && (rmdir(engine_group) != 0 || rmdir(client_group) != 0); i++) {
        usleep(10000);
    }
    rmdir(client_group);
    munmap(shared, sizeof *shared);
    assert_int_equal(opened, CHANNELS);
    assert_true(client_pays >= regions);
    assert_true(engine_pays <= slack_bytes);
    assert_int_equal(dropped, CHANNELS);
    assert_true(engine_after <= slack_bytes);
}

static void quiet(void *ctx, enum tsr_log_level level, const char *text)
{
    (void)ctx;
    (void)level;
    (void)text;
}

int main(void)
{
    tsr_log_set(quiet, NULL, TSR_LOG_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hostile_clients_pay_for_themselves),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
