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
#include <tsr/daemon/harden.h>
#include <tsr/daemon/listen.h>
#include <tsr/daemon/notify.h>
#include <tsr/daemon/start.h>
#include <tsr/shm/log.h>
#include <tsr/web/page.h>

struct bypass {
    struct tsr_bypass_options options;
    struct tsr_notify notify;
    struct tsr_harden_user user;
    struct tsr_port *ports[TSR_PORT_QUEUES_MAX];
    struct tsr_bypass_queues *queues;
    struct tsr_watch files;
    int signals;
    int capture; /* -1: none */
};

static const char *folder_of(const char *path, char copy[512])
{
    snprintf(copy, 512, "%s", path);
    return dirname(copy);
}

static int give_up_files(const struct bypass *b, struct tsr_err *err)
{
    const struct tsr_bypass_options *o = &b->options;
    char copy[512], link[TSR_PORT_LINK_BYTES];
    char notes[256] = "";
    struct tsr_harden_files files = {
        .read = {"/proc/self", "/sys/devices/system"},
        .replaced = {o->http3.certificate, o->http3.key, o->http3.client_ca, o->api.keys_path},
    };
    if (o->port.device && tsr_port_link(o->port.device, link)) {
        files.socket_dir = folder_of(link, copy);
    }
    int rc = tsr_harden_files(&files, notes, sizeof notes, err);
    if (rc == 0 && notes[0]) {
        tsr_log(TSR_LOG_WARN, "%s", notes);
    }
    return rc;
}

/* For the API's thread, which connects to engines, for files that are read again, and for
 * --capture. */
static const char *const door_calls[] = {
    "socket",  "connect", "setsockopt", "openat", "newfstatat",
    "pread64", "ioctl",   "ftruncate",  NULL,
};

static const char *const socket_calls[] = {"recvmmsg", "sendmmsg", NULL};

/* What drivers do besides the calls that every daemon makes: net_tap reads with readv(), net_memif
 * and net_vhost accept and map what a peer shares, EAL's interrupt thread waits anew for what they
 * add. */
static const char *const device_calls[] = {
    "readv",     "accept", "epoll_create",  "eventfd2",      "timerfd_settime", "memfd_create",
    "fallocate", "unlink", "get_mempolicy", "set_mempolicy", "mbind",           NULL,
};

static void append(const char **calls, size_t *n, const char *const *more)
{
    for (; *more; more++) {
        calls[(*n)++] = *more;
    }
    calls[*n] = NULL;
}

static int give_up_calls(const struct bypass *b, struct tsr_err *err)
{
    const char *calls[(sizeof door_calls + sizeof device_calls) / sizeof *door_calls];
    char notes[256] = "";
    size_t n = 0;
    append(calls, &n, door_calls);
    append(calls, &n, b->options.port.device ? device_calls : socket_calls);
    int rc = tsr_harden_calls(calls, notes, sizeof notes, err);
    if (rc == 0 && notes[0]) {
        tsr_log(TSR_LOG_WARN, "%s", notes);
    }
    return rc;
}

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
    char copy[512];
    struct stat folder;
    int rc =
        stat(folder_of(link, copy), &folder) < 0 ? -errno : give(link, b->user.uid, folder.st_gid);
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
    if (b->options.action == TSR_BYPASS_CHECK) {
        return 0;
    }
    int rc = tsr_bypass_secret_get(b->options.secret, b->options.http3.secret, err);
    if (rc < 0) {
        return rc;
    }
    b->signals = tsr_start_signals(SIGUSR1, err);
    rc = b->signals < 0 ? b->signals : tsr_notify_open(&b->notify, err);
    if (rc == 0 && b->options.capture) {
        b->capture = tsr_bypass_capture_open(b->options.capture, err);
        rc = b->capture < 0 ? b->capture : 0;
    }
    return rc ? rc : open_port(b, err);
}

static int give_up_rights(struct bypass *b, struct tsr_err *err)
{
    if (geteuid() == 0 && b->user.uid == 0) {
        tsr_log(TSR_LOG_WARN, "the door stays root, as --user says");
    }
    int rc = tsr_harden_identity(&b->user, err);
    return rc || !b->options.sandbox ? rc : give_up_files(b, err);
}

/* As the user that it has become: what cannot be read now could not be read again later. */
static int make_parts(struct bypass *b, struct tsr_err *err)
{
    struct tsr_bypass_options *o = &b->options;
    o->api.page = (struct tsr_api_text){(const char *)tsr_web_page, tsr_web_page_bytes};
    o->api.page_policy = tsr_web_policy;
    tsr_watch_add(&b->files, o->http3.certificate);
    tsr_watch_add(&b->files, o->http3.key);
    tsr_watch_add(&b->files, o->http3.client_ca);
    tsr_watch_note(&b->files);
    const struct tsr_bypass_loop_options loop = {
        .notify = &b->notify,
        .signals = b->signals,
        .capture = b->capture,
        .files = b->files,
    };
    return tsr_bypass_queues_create(&b->queues, o, b->ports, &loop, err);
}

static void describe(const struct bypass *b)
{
    const struct tsr_bypass_options *o = &b->options;
    char memory[256];
    fprintf(stderr, "engines   ");
    for (uint32_t i = 0; i < o->api.n_engines; i++) {
        fprintf(stderr, "%s%s", i ? ", " : "", o->api.engines[i]);
    }
    tsr_bypass_queues_describe(b->queues, memory, sizeof memory);
    fprintf(stderr, "\nkeys      %s\nmemory    %s; at most %.0f MiB of requests\n",
            o->api.keys_path ? o->api.keys_path : "none: for clients of this machine only", memory,
            (double)o->api.bodies_bytes_max / 1048576.0);
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
    printf("ready\n");
    if (fflush(stdout) != 0) {
        tsr_log(TSR_LOG_WARN, "nobody reads stdout");
    }
    tsr_notify_say(&b->notify, "READY=1\nSTATUS=serving HTTP/3 at %s", text);
}

static int serve(struct bypass *b, struct tsr_err *err)
{
    int rc = tsr_bypass_queues_start(b->queues, err);
    rc = rc || !b->options.sandbox ? rc : give_up_calls(b, err);
    if (rc < 0) {
        return rc;
    }
    say_ready(b);
    return tsr_bypass_queues_run(b->queues, err);
}

static int run(struct bypass *b, struct tsr_err *err)
{
    int rc = tsr_harden_find_user(&b->user, b->options.user, err);
    rc = rc ? rc : open_outside(b, err);
    rc = rc ? rc : give_up_rights(b, err);
    rc = rc ? rc : make_parts(b, err);
    if (rc == 0 && !b->options.quiet) {
        describe(b);
    }
    return rc || b->options.action == TSR_BYPASS_CHECK ? rc : serve(b, err);
}

static void end(struct bypass *b)
{
    tsr_bypass_queues_destroy(b->queues);
    tsr_port_destroy(b->ports, b->options.port.queues);
    tsr_notify_close(&b->notify);
    tsr_daemon_config_free(&b->options.config);
}

int main(int argc, char **argv)
{
    static struct bypass bypass = {.notify.fd = -1, .capture = -1};
    struct tsr_err err = {0};
    tsr_start_standard();
    int rc = tsr_bypass_options_parse(&bypass.options, argc, argv, &err);
    if (rc < 0) {
        fprintf(stderr, "tessera-bypass: %s\n", err.text);
        return 2;
    }
    if (bypass.options.action == TSR_BYPASS_HELP) {
        tsr_bypass_options_help(stdout);
        return 0;
    }
    if (bypass.options.action == TSR_BYPASS_VERSION) {
        printf("tessera-bypass " TSR_VERSION "\n");
        return 0;
    }
    rc = run(&bypass, &err);
    end(&bypass);
    if (rc < 0) {
        fprintf(stderr, "tessera-bypass: %s\n", err.text);
        return 1;
    }
    return 0;
}
