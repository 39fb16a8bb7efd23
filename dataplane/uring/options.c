#include <tsr/uring/options.h>

#include <assert.h>
#include <errno.h>

#include <tsr/uring/alt_svc.h>

static int add_plain(void *sockets, const char *text, struct tsr_err *err)
{
    return tsr_sockets_add(sockets, text, false, err);
}

static int add_tls(void *sockets, const char *text, struct tsr_err *err)
{
    return tsr_sockets_add(sockets, text, true, err);
}

static int set_make_key(void *options, const char *text, struct tsr_err *err)
{
    struct tsr_uring_options *o = options;
    (void)err;
    o->program.action = TSR_PROGRAM_OWN;
    o->key_name = text;
    return 0;
}

static int set_alt_svc(void *options, const char *text, struct tsr_err *err)
{
    struct tsr_uring_options *o = options;
    o->http1.alt_svc = o->alt_svc;
    return tsr_alt_svc_read(text, o->alt_svc, err);
}

#define AT(field) .at = offsetof(struct tsr_uring_options, field)
static_assert(offsetof(struct tsr_uring_options, program) == 0, "rows of both doors count from it");

/* clang-format off */
static const struct tsr_daemon_option rows[] = {
    TSR_PROGRAM_ENGINES,
    {"listen", TSR_DAEMON_LIST, AT(sockets), "ADDRESS",
     "127.0.0.1:8000, [::1]:8000 or unix:PATH; repeat it for several;\n"
     "port 0: a free one [" TSR_URING_LISTEN ", or the sockets that\n"
     "systemd passes, which replace all]", .set = add_plain},

    {"keys", TSR_DAEMON_TEXT, AT(program.api.keys_path), "FILE", "API keys, hashed; without it only this machine is listened to",
     .above = "Who may ask"},
    {"make-key", TSR_DAEMON_VALUE, .set = set_make_key, .value = "NAME",
     .help = "make a key, print its line for that file on stdout and the key\nitself on stderr, and leave"},
    TSR_PROGRAM_PAGES,

    {"listen-tls", TSR_DAEMON_LIST, AT(sockets), "ADDRESS", "as --listen; of systemd's sockets those that are named tls",
     .above = "TLS 1.3", .set = add_tls},
    TSR_PROGRAM_TLS,
    {"alt-svc", TSR_DAEMON_VALUE, .set = set_alt_svc, .value = "PORT",
     .help = "say to clients that HTTP/3 is at this UDP port (tessera-bypass);\n"
             "or a value of the Alt-Svc header, as h3=\":443\"; ma=3600"},

    {"connections", TSR_DAEMON_NUMBER, AT(http1.conns_max), "N", "at once; more wait to be accepted [#]", "Limits", 1, 1 << 20},
    {"connections-per-address", TSR_DAEMON_NUMBER, AT(per_address), "N", "0: no limit [half of all]", .high = 1 << 20},
    {"answers-max", TSR_DAEMON_SIZE, AT(http1.answers_bytes_max), "SIZE", "waiting to be sent, of all together [#]",
     .low = 1 << 20, .high = 1ull << 40},
    TSR_PROGRAM_REQUESTS,
    {"handshake-seconds", TSR_DAEMON_NUMBER, AT(handshake_s), "N", "for TLS [#]", TSR_PROGRAM_SECONDS},
    {"head-seconds", TSR_DAEMON_NUMBER, AT(http1.head_s), "N", "for a request's head [#]", TSR_PROGRAM_SECONDS},
    {"idle-seconds", TSR_DAEMON_NUMBER, AT(http1.idle_s), "N", "between requests [#]", TSR_PROGRAM_SECONDS},
    {"stall-seconds", TSR_DAEMON_NUMBER, AT(http1.stall_s), "N", "in which 4096 bytes must move [#]", TSR_PROGRAM_SECONDS},

    {"spin", TSR_DAEMON_FLAG, AT(spin), .help = "appliance: never sleep, where the door's CPUs are not an engine's", .above = ""},
    TSR_PROGRAM_REST,
};
/* clang-format on */

int tsr_uring_options_parse(struct tsr_uring_options *o, int argc, char **argv, struct tsr_err *err)
{
    *o = (struct tsr_uring_options){.per_address = UINT32_MAX, .handshake_s = 10};
    tsr_program_options_init(
        &o->program, rows, TSR_URING_CONFIG,
        "tessera-dataplane [options]: the OpenAI-compatible API over HTTP/1.1, for the engines of\n"
        "this machine. Prints its addresses and \"ready\" on stdout when it serves.\n");
    tsr_http1_options_init(&o->http1);
    o->http1.conns_max = 10240;
    int rc = tsr_program_options_read(&o->program, argc, argv, err);
    if (o->per_address == UINT32_MAX) {
        o->per_address = (o->http1.conns_max + 1) / 2;
    }
    return rc;
}

int tsr_uring_options_check(const struct tsr_uring_options *o, struct tsr_err *err)
{
    const struct tsr_program_options *p = &o->program;
    bool any_tls = false;
    for (uint32_t i = 0; i < o->sockets.n; i++) {
        const struct tsr_socket *at = &o->sockets.at[i];
        int rc = tsr_program_options_check(p, at->name, at->loopback,
                                           ", or listen at 127.0.0.1 or [::1] only", err);
        if (rc < 0) {
            return rc;
        }
        any_tls |= at->tls;
    }
    if (!p->certificate != !p->key || (p->client_ca && !p->key)) {
        return tsr_err_set(err, -EINVAL, "--tls-certificate and --tls-key go together");
    }
    if (any_tls && !p->key) {
        return tsr_err_set(err, -EINVAL, "TLS wants --tls-certificate and --tls-key");
    }
    if (o->http1.alt_svc && !any_tls) {
        return tsr_err_set(err, -EINVAL,
                           "--alt-svc is said over TLS only: give --listen-tls ADDRESS");
    }
    if (p->key && !any_tls) {
        return tsr_err_set(err, -EINVAL,
                           "--tls-certificate is given, but nothing listens for TLS: give "
                           "--listen-tls ADDRESS");
    }
    return 0;
}
