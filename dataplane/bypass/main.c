/* tessera-bypass: HTTP/3 to the engines. Here stands the order of start and end; what is done
 * stands in the files that are called. */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <tsr/bypass/loop.h>
#include <tsr/bypass/options.h>
#include <tsr/bypass/queues.h>
#include <tsr/bypass/secret.h>
#include <tsr/daemon/listen.h>
#include <tsr/program/program.h>

struct bypass {
    struct tsr_program program; /* first */
    struct tsr_bypass_options options;
    struct tsr_port *ports[TSR_PORT_QUEUES_MAX];
    struct tsr_bypass_queues *queues;
    int capture; /* -1: none */
};

/* For the API's thread, which connects to engines, for files that are read again, and for
 * --capture. */
#define DOOR_CALLS                                                                                 \
    "socket", "connect", "setsockopt", "openat", "newfstatat", "pread64", "ioctl", "ftruncate"

static const char *const socket_calls[] = {DOOR_CALLS, "recvmmsg", "sendmmsg", NULL};

/* What drivers do besides the calls that every daemon makes: net_tap reads with readv(), net_memif
 * and net_vhost accept and map what a peer shares, EAL's interrupt thread waits anew for what they
 * add. */
static const char *const device_calls[] = {
    DOOR_CALLS,        "readv",        "accept",    "epoll_create", "eventfd2",
    "timerfd_settime", "memfd_create", "fallocate", "unlink",       "get_mempolicy",
    "set_mempolicy",   "mbind",        NULL,
};

/* Where there are other CPUs, those that queues poll on have no place for other threads. */
static void keep_off(const struct tsr_bypass_options *o, cpu_set_t *cpus)
{
    cpu_set_t left = *cpus;
    for (uint32_t i = 0; i < o->n_cpus; i++) {
        CPU_CLR((size_t)o->cpus[i], &left);
    }
    if (CPU_COUNT(&left) > 0) {
        *cpus = left;
    }
}

/* To the socket itself, whatever somebody who may write to its folder puts in its place. */
static int give(const char *path, uid_t uid, gid_t gid)
{
    char self[32];
    struct stat file;
    int fd = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    snprintf(self, sizeof self, "/proc/self/fd/%d", fd);
    int rc = fd < 0 || fstat(fd, &file) < 0 ? -errno : S_ISSOCK(file.st_mode) ? 0 : -ENOTSOCK;
    rc = rc == 0 && (chown(self, uid, gid) < 0 || chmod(self, 0660) < 0) ? -errno : rc;
    if (fd >= 0) {
        close(fd);
    }
    return rc;
}

/* The file of a link is for the group that its folder has: who may write to it may ask. */
static int give_link(const struct bypass *b, const char *link, struct tsr_err *err)
{
    char copy[TSR_PORT_LINK_BYTES];
    struct stat folder;
    int rc = stat(dirname(strcpy(copy, link)), &folder) < 0
                 ? -errno
                 : give(link, b->program.user.uid, folder.st_gid);
    return rc < 0 ? tsr_err_set(err, rc, "%s cannot be given to the group of its folder: %s", link,
                                strerror(-rc))
                  : 0;
}

static int open_port(struct bypass *b, struct tsr_err *err)
{
    const struct tsr_port_options *options = &b->options.port;
    char link[TSR_PORT_LINK_BYTES];
    bool has_link = options->device && tsr_port_link(options->device, link);
    if (has_link) {
        tsr_listen_clear(link);
    }
    cpu_set_t cpus; /* of threads that are made here; EAL pins the one that calls it */
    bool is_known = sched_getaffinity(0, sizeof cpus, &cpus) == 0;
    int rc = tsr_port_create(b->ports, options, err);
    if (is_known) {
        keep_off(&b->options, &cpus);
        sched_setaffinity(0, sizeof cpus, &cpus);
    }
    return rc || !has_link ? rc : give_link(b, link, err);
}

/* What may need rights. */
static int open_outside(struct bypass *b, struct tsr_err *err)
{
    struct tsr_bypass_options *o = &b->options;
    if (o->program.action == TSR_PROGRAM_CHECK) {
        return 0;
    }
    int rc = tsr_bypass_secret_get(o->secret, o->http3.secret, err);
    if (rc == 0 && o->capture) {
        b->capture = tsr_bypass_capture_open(o->capture, err);
        rc = b->capture < 0 ? b->capture : 0;
    }
    return rc ? rc : open_port(b, err);
}

static int make_parts(struct bypass *b, struct tsr_err *err)
{
    const struct tsr_program_options *p = b->program.options;
    struct tsr_bypass_loop_options loop = {
        .notify = &b->program.notify,
        .signals = b->program.signals,
        .capture = b->capture,
    };
    tsr_watch_add(&loop.files, p->certificate);
    tsr_watch_add(&loop.files, p->key);
    tsr_watch_add(&loop.files, p->client_ca);
    tsr_watch_note(&loop.files);
    return tsr_bypass_queues_create(&b->queues, &b->options, b->ports, &loop, err);
}

static void describe(const struct bypass *b)
{
    char queues[256], memory[320];
    tsr_bypass_queues_describe(b->queues, queues, sizeof queues);
    snprintf(memory, sizeof memory, "%s; at most %.0f MiB of requests", queues,
             (double)b->options.program.api.bodies_bytes_max / 1048576.0);
    tsr_program_describe(&b->program, memory);
}

static void say_ready(const struct bypass *b)
{
    struct tsr_address listens[TSR_PORT_LISTEN_MAX];
    uint32_t n = tsr_port_listens(b->ports[0], listens);
    char text[TSR_BYPASS_ADDRESS_BYTES] = "";
    for (uint32_t i = n; i-- > 0;) {
        tsr_bypass_address_text(&listens[i], text);
        printf("https://%s\n", text);
    }
    tsr_program_ready(&b->program, "HTTP/3 ", text);
}

static int serve(struct bypass *b, struct tsr_err *err)
{
    int rc = tsr_bypass_queues_start(b->queues, err);
    rc = rc ? rc
            : tsr_program_give_up_calls(&b->program,
                                        b->options.port.device ? device_calls : socket_calls, err);
    if (rc < 0) {
        return rc;
    }
    say_ready(b);
    return tsr_bypass_queues_run(b->queues, err);
}

static int parse(struct tsr_program *p, int argc, char **argv, struct tsr_err *err)
{
    return tsr_bypass_options_parse(&((struct bypass *)p)->options, argc, argv, err);
}

static int run(struct tsr_program *p, struct tsr_err *err)
{
    struct bypass *b = (struct bypass *)p;
    const char *device = b->options.port.device;
    char link[TSR_PORT_LINK_BYTES];
    bool has_link = device && tsr_port_link(device, link);
    int rc = tsr_program_open(p, SIGUSR1, err);
    rc = rc ? rc : open_outside(b, err);
    rc = rc ? rc : tsr_program_give_up_rights(p, has_link ? link : NULL, err);
    rc = rc ? rc : make_parts(b, err);
    if (rc < 0) {
        return rc;
    }
    describe(b);
    return p->options->action == TSR_PROGRAM_CHECK ? 0 : serve(b, err);
}

static void end(struct tsr_program *p)
{
    struct bypass *b = (struct bypass *)p;
    tsr_bypass_queues_destroy(b->queues);
    tsr_port_destroy(b->ports, b->options.port.queues);
}

int main(int argc, char **argv)
{
    static struct bypass b = {
        .program = {"tessera-bypass", parse, run, end, .options = &b.options.program},
        .capture = -1,
    };
    return tsr_program_main(&b.program, argc, argv);
}
