/* tessera-dataplane: the kernel's door to the engines. Here stands the order of start and end; what
 * is done stands in the files that are called. */
#include <errno.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <tsr/api/api.h>
#include <tsr/api/keys.h>
#include <tsr/daemon/harden.h>
#include <tsr/daemon/listen.h>
#include <tsr/daemon/notify.h>
#include <tsr/daemon/start.h>
#include <tsr/http1/http1.h>
#include <tsr/shm/log.h>
#include <tsr/uring/connection.h>
#include <tsr/uring/loop.h>
#include <tsr/uring/options.h>
#include <tsr/web/page.h>

struct dataplane {
    struct tsr_uring_options options;
    struct tsr_notify notify;
    struct tsr_harden_user user;
    struct tsr_uring uring;
    struct tsr_tls *tls;
    struct tsr_peers *peers;
    struct tsr_api *api;
    struct tsr_http1 *http1;
    struct tsr_loop *loop;
    int signals;
};

/* The service manager's sockets replace those of the options. */
static int find_sockets(struct dataplane *d, struct tsr_err *err)
{
    char names[512];
    snprintf(names, sizeof names, "%s", getenv("LISTEN_FDNAMES") ? getenv("LISTEN_FDNAMES") : "");
    struct tsr_sockets *sockets = &d->options.sockets;
    int passed = tsr_listen_fds(err);
    int rc = passed < 0 ? passed : 0;
    if (passed > 0) {
        sockets->n = 0;
        rc = tsr_sockets_adopt(sockets, (uint32_t)passed, names, err);
    } else if (passed == 0 && sockets->n == 0) {
        rc = tsr_sockets_add(sockets, TSR_URING_LISTEN, false, err);
    }
    return rc < 0 ? rc : tsr_uring_options_check(&d->options, err);
}

/* A descriptor a connection, and some for those that wait; a socket, two regions and a bell an
 * engine; and what the process has beside. */
static int raise_limits(const struct dataplane *d, struct tsr_err *err)
{
    enum { OTHERS = 256, PER_ENGINE = 8 };
    struct rlimit files;
    rlim_t want = (rlim_t)d->options.http1.conns_max + d->options.sockets.n + OTHERS +
                  (rlim_t)PER_ENGINE * d->options.api.n_engines;
    if (getrlimit(RLIMIT_NOFILE, &files) < 0 || files.rlim_cur >= want) {
        return 0;
    }
    const struct rlimit raised = {want, files.rlim_max < want ? want : files.rlim_max};
    if (setrlimit(RLIMIT_NOFILE, &raised) < 0) {
        return tsr_err_set(err, -errno,
                           "--connections %u needs %llu descriptors, and this process may have "
                           "%llu: raise the limit (ulimit -Hn, LimitNOFILE=), or lower "
                           "--connections",
                           d->options.http1.conns_max, (unsigned long long)want,
                           (unsigned long long)files.rlim_max);
    }
    return 0;
}

static const char *folder_of(const char *path, char copy[512])
{
    snprintf(copy, 512, "%s", path);
    return dirname(copy);
}

static int give_up_files(const struct dataplane *d, struct tsr_err *err)
{
    const struct tsr_uring_options *o = &d->options;
    char copy[512];
    char notes[256] = "";
    struct tsr_harden_files files = {
        .read = {"/proc/self", "/sys/devices/system"},
        .replaced = {o->tls.certificate, o->tls.key, o->tls.client_ca, o->api.keys_path},
    };
    for (uint32_t i = 0; i < o->sockets.n; i++) {
        const struct sockaddr_un *un = (const struct sockaddr_un *)&o->sockets.at[i].address;
        if (un->sun_family == AF_UNIX) { /* to be removed at the end, of several the last */
            files.socket_dir = folder_of(un->sun_path, copy);
        }
    }
    int rc = tsr_harden_files(&files, notes, sizeof notes, err);
    if (rc == 0 && notes[0]) {
        tsr_log(TSR_LOG_WARN, "%s", notes);
    }
    return rc;
}

/* io_uring_enter serves clients. The others are for the API's thread, which connects to engines,
 * and for files that are read again. */
static const char *const door_calls[] = {
    "io_uring_enter", "socket", "connect", "openat", "newfstatat", "unlink", NULL,
};

static int give_up_calls(struct tsr_err *err)
{
    char notes[256] = "";
    int rc = tsr_harden_calls(door_calls, notes, sizeof notes, err);
    if (rc == 0 && notes[0]) {
        tsr_log(TSR_LOG_WARN, "%s", notes);
    }
    return rc;
}

/* What may need rights. */
static int open_outside(struct dataplane *d, struct tsr_err *err)
{
    int rc = tsr_uring_open(&d->uring, err);
    if (rc < 0 || d->options.action == TSR_URING_CHECK) {
        return rc;
    }
    d->signals = tsr_start_signals(0, err);
    rc = d->signals < 0 ? d->signals : 0;
    rc = rc ? rc : tsr_notify_open(&d->notify, err);
    rc = rc ? rc : raise_limits(d, err);
    return rc ? rc : tsr_sockets_open(&d->options.sockets, err);
}

static int give_up_rights(struct dataplane *d, struct tsr_err *err)
{
    if (geteuid() == 0 && d->user.uid == 0) {
        tsr_log(TSR_LOG_WARN, "the dataplane stays root, as --user says");
    }
    int rc = tsr_harden_identity(&d->user, err);
    return rc || !d->options.sandbox ? rc : give_up_files(d, err);
}

/* As the user that it has become: what cannot be read now could not be read again later. */
static int make_parts(struct dataplane *d, struct tsr_err *err)
{
    struct tsr_uring_options *o = &d->options;
    o->api.page = (struct tsr_api_text){(const char *)tsr_web_page, tsr_web_page_bytes};
    o->api.page_policy = tsr_web_policy;
    int rc = o->tls.key ? tsr_tls_create(&d->tls, &o->tls, err) : 0;
    rc = rc ? rc : tsr_peers_create(&d->peers, o->http1.conns_max, o->per_address, err);
    rc = rc ? rc : tsr_api_create(&d->api, &o->api, err);
    return rc ? rc : tsr_http1_create(&d->http1, d->api, &o->http1, err);
}

static void describe(const struct dataplane *d)
{
    const struct tsr_uring_options *o = &d->options;
    const double mib = 1048576.0;
    fprintf(stderr, "engines   ");
    for (uint32_t i = 0; i < o->api.n_engines; i++) {
        fprintf(stderr, "%s%s", i ? ", " : "", o->api.engines[i]);
    }
    fprintf(stderr, "\nkeys      %s\n",
            o->api.keys_path ? o->api.keys_path : "none: for clients of this machine only");
    fprintf(
        stderr,
        "memory    %.0f MiB for %u connections (%u an address); at most %.0f MiB of requests, "
        "%.0f MiB of answers\n",
        ((double)o->http1.conns_max * sizeof(struct tsr_conn) +
         (double)TSR_URING_BUFFERS * TSR_URING_BUFFER_BYTES) /
            mib,
        o->http1.conns_max, o->per_address,
        (double)(o->api.bodies_bytes_max + o->http1.heads_bytes_max + TSR_CONNS_HELD_BYTES_MAX) /
            mib,
        (double)o->http1.answers_bytes_max / mib);
}

static void say_ready(const struct dataplane *d)
{
    const struct tsr_sockets *sockets = &d->options.sockets;
    for (uint32_t i = 0; i < sockets->n; i++) {
        bool internet = sockets->at[i].address.ss_family != AF_UNIX;
        printf("%s%s\n",
               !internet            ? ""
               : sockets->at[i].tls ? "https://"
                                    : "http://",
               sockets->at[i].name);
    }
    printf("ready\n");
    if (fflush(stdout) != 0) {
        tsr_log(TSR_LOG_WARN, "nobody reads stdout");
    }
    tsr_notify_say(&d->notify, "READY=1\nSTATUS=serving at %s", sockets->at[0].name);
}

static int serve(struct dataplane *d, struct tsr_err *err)
{
    struct tsr_uring_options *o = &d->options;
    const struct tsr_loop_options options = {
        .uring = &d->uring,
        .api = d->api,
        .http1 = d->http1,
        .sockets = &o->sockets,
        .peers = d->peers,
        .tls = d->tls,
        .notify = &d->notify,
        .signals = d->signals,
        .conns_max = o->http1.conns_max,
        .handshake_s = o->handshake_s,
        .drain_s = o->drain_s,
        .spin = o->spin,
    };
    int rc = tsr_loop_create(&d->loop, &options, err);
    rc = rc ? rc : tsr_uring_enable(&d->uring, err);
    rc = rc || !o->sandbox ? rc : give_up_calls(err);
    if (rc < 0) {
        return rc;
    }
    say_ready(d);
    return tsr_loop_run(d->loop, err);
}

static int make_key(const char *name, struct tsr_err *err)
{
    char secret[TSR_KEYS_SECRET_BYTES];
    char line[TSR_KEYS_LINE_BYTES];
    int rc = tsr_keys_make(name, secret, line, err);
    if (rc < 0) {
        return rc;
    }
    if (printf("%s\n", line) < 0 || fflush(stdout) != 0) {
        return tsr_err_set(err, -errno, "the key's line cannot be written: %s", strerror(errno));
    }
    fprintf(stderr, "The key of %s, shown this once: %s\n", name, secret);
    return 0;
}

static int run(struct dataplane *d, struct tsr_err *err)
{
    int rc = find_sockets(d, err);
    rc = rc ? rc : tsr_harden_find_user(&d->user, d->options.user, err);
    rc = rc ? rc : open_outside(d, err);
    rc = rc ? rc : give_up_rights(d, err);
    rc = rc ? rc : make_parts(d, err);
    if (rc == 0 && !d->options.quiet) {
        describe(d);
    }
    return rc || d->options.action == TSR_URING_CHECK ? rc : serve(d, err);
}

static void end(struct dataplane *d)
{
    tsr_sockets_close(&d->options.sockets);
    tsr_loop_destroy(d->loop);
    if (d->http1) {
        tsr_http1_destroy(d->http1);
    }
    if (d->api) {
        tsr_api_destroy(d->api);
    }
    tsr_peers_destroy(d->peers);
    tsr_tls_destroy(d->tls);
    tsr_uring_close(&d->uring);
    tsr_notify_close(&d->notify);
    tsr_daemon_config_free(&d->options.config);
}

int main(int argc, char **argv)
{
    static struct dataplane dataplane = {.notify.fd = -1};
    struct tsr_err err = {0};
    tsr_start_standard();
    int rc = tsr_uring_options_parse(&dataplane.options, argc, argv, &err);
    if (rc < 0) {
        fprintf(stderr, "tessera-dataplane: %s\n", err.text);
        return 2;
    }
    if (dataplane.options.action == TSR_URING_HELP) {
        tsr_uring_options_help(stdout);
        return 0;
    }
    if (dataplane.options.action == TSR_URING_VERSION) {
        printf("tessera-dataplane " TSR_VERSION "\n");
        return 0;
    }
    rc = dataplane.options.action == TSR_URING_MAKE_KEY ? make_key(dataplane.options.key_name, &err)
                                                        : run(&dataplane, &err);
    end(&dataplane);
    if (rc < 0) {
        fprintf(stderr, "tessera-dataplane: %s\n", err.text);
        return 1;
    }
    return 0;
}
