#include <tsr/uring/options.h>

#include <errno.h>
#include <string.h>

#include <tsr/daemon/value.h>
#include <tsr/uring/alt_svc.h>

/* clang-format off */
enum {
    OPT_LISTEN = 256, OPT_LISTEN_TLS, OPT_CERTIFICATE, OPT_KEY, OPT_CLIENT_CA, OPT_ENGINE, OPT_KEYS, OPT_MAKE_KEY,
    OPT_HOST, OPT_ORIGIN, OPT_VLLM_NAMES, OPT_CONNECTIONS, OPT_PER_ADDRESS, OPT_REQUESTS, OPT_BODY, OPT_BODIES,
    OPT_ANSWERS, OPT_CREDIT, OPT_HANDSHAKE, OPT_HEAD, OPT_IDLE, OPT_STALL, OPT_DRAIN, OPT_SPIN, OPT_USER,
    OPT_ALT_SVC, OPT_NO_SANDBOX, OPT_QUIET, OPT_CHECK, OPT_HELP, OPT_VERSION,
};

static const struct tsr_daemon_option names[] = {
    {"listen", TSR_DAEMON_LIST, .id = OPT_LISTEN}, {"listen-tls", TSR_DAEMON_LIST, .id = OPT_LISTEN_TLS},
    {"tls-certificate", TSR_DAEMON_VALUE, .id = OPT_CERTIFICATE}, {"tls-key", TSR_DAEMON_VALUE, .id = OPT_KEY},
    {"tls-client-ca", TSR_DAEMON_VALUE, .id = OPT_CLIENT_CA}, {"alt-svc", TSR_DAEMON_VALUE, .id = OPT_ALT_SVC}, {"engine", TSR_DAEMON_LIST, .id = OPT_ENGINE},
    {"keys", TSR_DAEMON_VALUE, .id = OPT_KEYS}, {"make-key", TSR_DAEMON_VALUE, .id = OPT_MAKE_KEY}, {"host", TSR_DAEMON_LIST, .id = OPT_HOST},
    {"origin", TSR_DAEMON_LIST, .id = OPT_ORIGIN}, {"vllm-names", TSR_DAEMON_FLAG, .id = OPT_VLLM_NAMES},
    {"connections", TSR_DAEMON_VALUE, .id = OPT_CONNECTIONS},
    {"connections-per-address", TSR_DAEMON_VALUE, .id = OPT_PER_ADDRESS},
    {"requests", TSR_DAEMON_VALUE, .id = OPT_REQUESTS}, {"body-max", TSR_DAEMON_VALUE, .id = OPT_BODY},
    {"bodies-max", TSR_DAEMON_VALUE, .id = OPT_BODIES}, {"answers-max", TSR_DAEMON_VALUE, .id = OPT_ANSWERS},
    {"credit", TSR_DAEMON_VALUE, .id = OPT_CREDIT}, {"handshake-seconds", TSR_DAEMON_VALUE, .id = OPT_HANDSHAKE},
    {"head-seconds", TSR_DAEMON_VALUE, .id = OPT_HEAD}, {"idle-seconds", TSR_DAEMON_VALUE, .id = OPT_IDLE},
    {"stall-seconds", TSR_DAEMON_VALUE, .id = OPT_STALL}, {"drain-seconds", TSR_DAEMON_VALUE, .id = OPT_DRAIN},
    {"spin", TSR_DAEMON_FLAG, .id = OPT_SPIN}, {"user", TSR_DAEMON_VALUE, .id = OPT_USER},
    {"no-sandbox", TSR_DAEMON_FLAG, .id = OPT_NO_SANDBOX}, {"quiet", TSR_DAEMON_FLAG, .id = OPT_QUIET},
    {"check", TSR_DAEMON_ACTION, .id = OPT_CHECK}, {"help", TSR_DAEMON_LEAVE, .id = OPT_HELP},
    {"version", TSR_DAEMON_LEAVE, .id = OPT_VERSION}, {0},
};
/* clang-format on */

enum {
    CONNECTIONS_DEFAULT = 10240,
    HANDSHAKE_S_DEFAULT = 10,
    DRAIN_S_DEFAULT = 20,
    SECONDS_MAX = 86400,
};

void tsr_uring_options_help(FILE *out)
{
    struct tsr_api_options api;
    struct tsr_http1_options http1;
    tsr_api_options_init(&api);
    tsr_http1_options_init(&http1);
    fprintf(
        out,
        "tessera-dataplane [options]: the OpenAI-compatible API over HTTP/1.1, for the engines of\n"
        "this machine. Prints its addresses and \"ready\" on stdout when it serves.\n"
        "\n"
        "  --engine PATH           an engine's socket; repeat it for several [" TSR_URING_ENGINE
        "]\n"
        "  --listen ADDRESS        127.0.0.1:8000, [::1]:8000 or unix:PATH; repeat it for "
        "several;\n"
        "                          port 0: a free one [" TSR_URING_LISTEN ", or the sockets that\n"
        "                          systemd passes, which replace all]\n"
        "\n"
        "Who may ask\n"
        "  --keys FILE             API keys, hashed; without it only this machine is listened to\n"
        "  --make-key NAME         make a key, print its line for that file on stdout and the key\n"
        "                          itself on stderr, and leave\n"
        "  --host NAME             without keys: a name, besides localhost, that clients call\n"
        "                          this box; others are refused (DNS rebinding)\n"
        "  --origin URL            a page elsewhere that may ask (CORS)\n"
        "\n"
        "TLS 1.3\n"
        "  --listen-tls ADDRESS    as --listen; of systemd's sockets those that are named tls\n"
        "  --tls-certificate FILE  PEM, with the chain; read again when it changes, and at SIGHUP\n"
        "  --tls-key FILE          PEM, without a pass phrase\n"
        "  --tls-client-ca FILE    PEM: clients must show a certificate of these\n"
        "  --alt-svc PORT          say to clients that HTTP/3 is at this UDP port "
        "(tessera-bypass);\n"
        "                          or a value of the Alt-Svc header, as h3=\":443\"; ma=3600\n"
        "\n"
        "Limits\n"
        "  --connections N         at once; more wait to be accepted [%d]\n"
        "  --connections-per-address N  0: no limit [half of all]\n"
        "  --requests N            at once; more are answered 503 [%u]\n"
        "  --body-max SIZE         of a request [%lluM]\n"
        "  --bodies-max SIZE       of all requests together [%lluM]\n"
        "  --answers-max SIZE      waiting to be sent, of all together [%zuM]\n"
        "  --credit N              tokens ahead of a slow reader [%u]\n"
        "  --handshake-seconds N   for TLS [%d]\n"
        "  --head-seconds N        for a request's head [%u]\n"
        "  --idle-seconds N        between requests [%u]\n"
        "  --stall-seconds N       in which %u bytes must move [%u]\n"
        "  --drain-seconds N       for answers under way at SIGTERM [%d]\n"
        "\n"
        "  --spin                  appliance: never sleep, where the door's CPUs are not an "
        "engine's\n"
        "  --vllm-names            /metrics under vLLM's names too\n"
        "  --user NAME             become this user when started as root [tessera, else nobody];\n"
        "                          it must be able to read keys and certificates\n"
        "  --no-sandbox            without Landlock and seccomp: for debuggers only\n"
        "  --config FILE           options as name = value lines; those of the command line\n"
        "                          replace them [" TSR_URING_CONFIG ", if it is there]\n"
        "  --check                 say what is wrong, or what would be served, and leave\n"
        "  --quiet                 no description on stderr\n"
        "  --help  --version\n"
        "\n"
        "SIZE takes K, M, G. SIGTERM ends it when answers under way are whole, SIGHUP reads keys\n"
        "and certificates again.\n",
        CONNECTIONS_DEFAULT, api.exchanges_max, (unsigned long long)api.body_bytes_max >> 20,
        (unsigned long long)api.bodies_bytes_max >> 20, http1.answers_bytes_max >> 20,
        api.credit_tokens, HANDSHAKE_S_DEFAULT, http1.head_s, http1.idle_s, http1.stall_bytes,
        http1.stall_s, DRAIN_S_DEFAULT);
}

static int add_name(const char *option, const char **list, uint32_t *n, uint32_t max,
                    const char *text, struct tsr_err *err)
{
    if (*n == max) {
        return tsr_err_set(err, -EINVAL, "%s: at most %u are wanted", option, max);
    }
    list[(*n)++] = text;
    return 0;
}

static int bytes_of(const char *option, const char *text, uint64_t low, size_t *out,
                    struct tsr_err *err)
{
    uint64_t value = 0;
    int rc = tsr_value_size(option, text, low, 1ull << 40, &value, err);
    *out = rc == 0 ? (size_t)value : *out;
    return rc;
}

static int set(void *ctx, int option, const char *text, struct tsr_err *err)
{
    struct tsr_uring_options *o = ctx;
    switch (option) {
    case OPT_LISTEN:
        return tsr_sockets_add(&o->sockets, text, false, err);
    case OPT_LISTEN_TLS:
        return tsr_sockets_add(&o->sockets, text, true, err);
    case OPT_CERTIFICATE:
        o->tls.certificate = text;
        return 0;
    case OPT_KEY:
        o->tls.key = text;
        return 0;
    case OPT_CLIENT_CA:
        o->tls.client_ca = text;
        return 0;
    case OPT_ALT_SVC:
        o->http1.alt_svc = o->alt_svc;
        return tsr_alt_svc_read(text, o->alt_svc, err);
    case OPT_ENGINE:
        return add_name("--engine", o->api.engines, &o->api.n_engines, TSR_API_ENGINES_MAX, text,
                        err);
    case OPT_KEYS:
        o->api.keys_path = text;
        return 0;
    case OPT_MAKE_KEY:
        o->action = TSR_URING_MAKE_KEY;
        o->key_name = text;
        return 0;
    case OPT_HOST:
        return add_name("--host", o->hosts, &o->api.n_hosts, TSR_URING_NAMES_MAX, text, err);
    case OPT_ORIGIN:
        return add_name("--origin", o->origins, &o->api.n_origins, TSR_URING_NAMES_MAX, text, err);
    case OPT_VLLM_NAMES:
        o->api.vllm_names = true;
        return 0;
    case OPT_CONNECTIONS:
        return tsr_value_number("--connections", text, 1, 1 << 20, &o->http1.conns_max, err);
    case OPT_PER_ADDRESS:
        return tsr_value_number("--connections-per-address", text, 0, 1 << 20, &o->per_address,
                                err);
    case OPT_REQUESTS:
        return tsr_value_number("--requests", text, 1, 1 << 16, &o->api.exchanges_max, err);
    case OPT_BODY:
        return tsr_value_size("--body-max", text, 1024, 1 << 30, &o->api.body_bytes_max, err);
    case OPT_BODIES:
        return tsr_value_size("--bodies-max", text, 1 << 20, 1ull << 40, &o->api.bodies_bytes_max,
                              err);
    case OPT_ANSWERS:
        return bytes_of("--answers-max", text, 1 << 20, &o->http1.answers_bytes_max, err);
    case OPT_CREDIT:
        return tsr_value_number("--credit", text, 1, 1 << 16, &o->api.credit_tokens, err);
    case OPT_HANDSHAKE:
        return tsr_value_number("--handshake-seconds", text, 1, SECONDS_MAX, &o->handshake_s, err);
    case OPT_HEAD:
        return tsr_value_number("--head-seconds", text, 1, SECONDS_MAX, &o->http1.head_s, err);
    case OPT_IDLE:
        return tsr_value_number("--idle-seconds", text, 1, SECONDS_MAX, &o->http1.idle_s, err);
    case OPT_STALL:
        return tsr_value_number("--stall-seconds", text, 1, SECONDS_MAX, &o->http1.stall_s, err);
    case OPT_DRAIN:
        return tsr_value_number("--drain-seconds", text, 0, SECONDS_MAX, &o->drain_s, err);
    case OPT_SPIN:
        o->spin = true;
        return 0;
    case OPT_USER:
        o->user = text;
        return 0;
    case OPT_NO_SANDBOX:
        o->sandbox = false;
        return 0;
    case OPT_QUIET:
        o->quiet = true;
        return 0;
    case OPT_CHECK:
        o->action = TSR_URING_CHECK;
        return 0;
    case OPT_HELP:
        o->action = TSR_URING_HELP;
        return 0;
    case OPT_VERSION:
        o->action = TSR_URING_VERSION;
        return 0;
    default:
        return tsr_err_set(err, -EINVAL, "an option without a meaning");
    }
}

int tsr_uring_options_parse(struct tsr_uring_options *o, int argc, char **argv, struct tsr_err *err)
{
    *o = (struct tsr_uring_options){
        .action = TSR_URING_RUN,
        .per_address = UINT32_MAX,
        .handshake_s = HANDSHAKE_S_DEFAULT,
        .drain_s = DRAIN_S_DEFAULT,
        .sandbox = true,
        .config = {.options = names, .file = TSR_URING_CONFIG, .set = set, .ctx = o},
    };
    tsr_api_options_init(&o->api);
    tsr_http1_options_init(&o->http1);
    o->http1.conns_max = CONNECTIONS_DEFAULT;
    o->api.hosts = o->hosts;
    o->api.origins = o->origins;
    int rc = tsr_daemon_config_read(&o->config, argc, argv, err);
    if (rc < 0) {
        return rc;
    }
    if (o->api.n_engines == 0) {
        o->api.engines[o->api.n_engines++] = TSR_URING_ENGINE;
    }
    if (o->per_address == UINT32_MAX) {
        o->per_address = (o->http1.conns_max + 1) / 2;
    }
    return 0;
}

int tsr_uring_options_check(const struct tsr_uring_options *o, struct tsr_err *err)
{
    const struct tsr_tls_files *tls = &o->tls;
    bool any_tls = false;
    for (uint32_t i = 0; i < o->sockets.n; i++) {
        const struct tsr_socket *at = &o->sockets.at[i];
        any_tls |= at->tls;
        if (!at->loopback && !o->api.keys_path) {
            return tsr_err_set(err, -EINVAL,
                               "%s is open to other machines, and without keys anyone there may "
                               "ask: give --keys FILE, or listen at 127.0.0.1 or [::1] only",
                               at->name);
        }
    }
    if (!tls->certificate != !tls->key || (tls->client_ca && !tls->key)) {
        return tsr_err_set(err, -EINVAL, "--tls-certificate and --tls-key go together");
    }
    if (any_tls && !tls->key) {
        return tsr_err_set(err, -EINVAL, "TLS wants --tls-certificate and --tls-key");
    }
    if (o->http1.alt_svc && !any_tls) {
        return tsr_err_set(err, -EINVAL,
                           "--alt-svc is said over TLS only: give --listen-tls ADDRESS");
    }
    if (tls->key && !any_tls) {
        return tsr_err_set(err, -EINVAL,
                           "--tls-certificate is given, but nothing listens for TLS: give "
                           "--listen-tls ADDRESS");
    }
    return 0;
}
