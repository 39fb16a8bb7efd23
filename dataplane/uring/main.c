/* tessera-dataplane: the kernel's door to the engines. Here stands the order of start and end;
 * what is done stands in the files that are called. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include <tsr/api/keys.h>
#include <tsr/daemon/listen.h>
#include <tsr/http1/http1.h>
#include <tsr/program/program.h>
#include <tsr/uring/connection.h>
#include <tsr/uring/loop.h>
#include <tsr/uring/options.h>

struct dataplane {
    struct tsr_program program; /* first */
    struct tsr_uring_options options;
    struct tsr_uring uring;
    struct tsr_tls *tls;
    struct tsr_peers *peers;
    struct tsr_api *api;
    struct tsr_http1 *http1;
    struct tsr_loop *loop;
};

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
                  (rlim_t)PER_ENGINE * d->options.program.api.n_engines;
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

/* What may need rights. */
static int open_outside(struct dataplane *d, struct tsr_err *err)
{
    int rc = tsr_uring_open(&d->uring, err);
    if (rc < 0 || d->program.options->action == TSR_PROGRAM_CHECK) {
        return rc;
    }
    rc = raise_limits(d, err);
    return rc ? rc : tsr_sockets_open(&d->options.sockets, err);
}

/* To be removed at the end, of several the last; NULL: none. */
static const char *socket_file(const struct tsr_sockets *sockets)
{
    const char *path = NULL;
    for (uint32_t i = 0; i < sockets->n; i++) {
        const struct sockaddr_un *un = (const struct sockaddr_un *)&sockets->at[i].address;
        path = un->sun_family == AF_UNIX ? un->sun_path : path;
    }
    return path;
}

static int make_parts(struct dataplane *d, struct tsr_err *err)
{
    const struct tsr_uring_options *o = &d->options;
    const struct tsr_program_options *p = d->program.options;
    const struct tsr_tls_files tls = {p->certificate, p->key, p->client_ca};
    int rc = tls.key ? tsr_tls_create(&d->tls, &tls, err) : 0;
    rc = rc ? rc : tsr_peers_create(&d->peers, o->http1.conns_max, o->per_address, err);
    rc = rc ? rc : tsr_api_create(&d->api, &p->api, err);
    return rc ? rc : tsr_http1_create(&d->http1, d->api, &o->http1, err);
}

static void describe(const struct dataplane *d)
{
    const struct tsr_uring_options *o = &d->options;
    const double mib = 1048576.0;
    char memory[256];
    snprintf(memory, sizeof memory,
             "%.0f MiB for %u connections (%u an address); at most %.0f MiB of requests, "
             "%.0f MiB of answers",
             ((double)o->http1.conns_max * sizeof(struct tsr_conn) +
              (double)TSR_URING_BUFFERS * TSR_URING_BUFFER_BYTES) /
                 mib,
             o->http1.conns_max, o->per_address,
             (double)(o->program.api.bodies_bytes_max + o->http1.heads_bytes_max +
                      TSR_CONNS_HELD_BYTES_MAX) /
                 mib,
             (double)o->http1.answers_bytes_max / mib);
    tsr_program_describe(&d->program, memory);
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
    tsr_program_ready(&d->program, "", sockets->at[0].name);
}

static int serve(struct dataplane *d, struct tsr_err *err)
{
    /* io_uring_enter serves clients. The others are for the API's thread, which connects to
     * engines, and for files that are read again. */
    static const char *const calls[] = {
        "io_uring_enter", "socket", "connect", "openat", "newfstatat", "unlink", NULL,
    };
    struct tsr_uring_options *o = &d->options;
    const struct tsr_loop_options options = {
        .uring = &d->uring,
        .api = d->api,
        .http1 = d->http1,
        .sockets = &o->sockets,
        .peers = d->peers,
        .tls = d->tls,
        .notify = &d->program.notify,
        .signals = d->program.signals,
        .conns_max = o->http1.conns_max,
        .handshake_s = o->handshake_s,
        .drain_s = o->program.drain_s,
        .spin = o->spin,
    };
    int rc = tsr_loop_create(&d->loop, &options, err);
    rc = rc ? rc : tsr_uring_enable(&d->uring, err);
    rc = rc ? rc : tsr_program_give_up_calls(&d->program, calls, err);
    if (rc < 0) {
        return rc;
    }
    say_ready(d);
    return tsr_loop_run(d->loop, err);
}

static int parse(struct tsr_program *p, int argc, char **argv, struct tsr_err *err)
{
    return tsr_uring_options_parse(&((struct dataplane *)p)->options, argc, argv, err);
}

static int run(struct tsr_program *p, struct tsr_err *err)
{
    struct dataplane *d = (struct dataplane *)p;
    if (p->options->action == TSR_PROGRAM_OWN) {
        return make_key(d->options.key_name, err);
    }
    int rc = find_sockets(d, err);
    rc = rc ? rc : tsr_program_open(p, 0, err);
    rc = rc ? rc : open_outside(d, err);
    rc = rc ? rc : tsr_program_give_up_rights(p, socket_file(&d->options.sockets), err);
    rc = rc ? rc : make_parts(d, err);
    if (rc < 0) {
        return rc;
    }
    describe(d);
    return p->options->action == TSR_PROGRAM_CHECK ? 0 : serve(d, err);
}

static void end(struct tsr_program *p)
{
    struct dataplane *d = (struct dataplane *)p;
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
}

int main(int argc, char **argv)
{
    static struct dataplane d = {
        .program = {"tessera-dataplane", parse, run, end, .options = &d.options.program},
    };
    return tsr_program_main(&d.program, argc, argv);
}
