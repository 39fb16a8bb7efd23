#include <tsr/bypass/options.h>

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <tsr/daemon/value.h>

/* clang-format off */
enum {
    OPT_LISTEN = 256, OPT_CERTIFICATE, OPT_KEY, OPT_CLIENT_CA, OPT_ENGINE, OPT_KEYS, OPT_HOST, OPT_ORIGIN, OPT_VLLM_NAMES,
    OPT_CONNECTIONS, OPT_PER_ADDRESS, OPT_STREAMS, OPT_RETRY_FROM, OPT_REQUESTS, OPT_BODY, OPT_BODIES, OPT_MEMORY, OPT_CREDIT,
    OPT_HANDSHAKE, OPT_IDLE, OPT_STALL, OPT_DRAIN, OPT_SPIN, OPT_USER, OPT_NO_SANDBOX, OPT_QUIET, OPT_CHECK, OPT_HELP,
    OPT_VERSION, OPT_DEVICE, OPT_GATEWAY, OPT_VLAN, OPT_MTU, OPT_CPUS, OPT_BUFFERS, OPT_NO_HUGE, OPT_EAL, OPT_QUEUES, OPT_IDLE_WAY,
    OPT_HANDSHAKES, OPT_HANDSHAKES_EACH, OPT_REQUESTS_EACH, OPT_MEMORY_EACH, OPT_CAPTURE, OPT_SECRET, OPT_CONGESTION,
};

static const struct tsr_daemon_option names[] = {
    {"listen", TSR_DAEMON_LIST, .id = OPT_LISTEN}, {"tls-certificate", TSR_DAEMON_VALUE, .id = OPT_CERTIFICATE},
    {"tls-key", TSR_DAEMON_VALUE, .id = OPT_KEY}, {"tls-client-ca", TSR_DAEMON_VALUE, .id = OPT_CLIENT_CA},
    {"engine", TSR_DAEMON_LIST, .id = OPT_ENGINE}, {"keys", TSR_DAEMON_VALUE, .id = OPT_KEYS}, {"host", TSR_DAEMON_LIST, .id = OPT_HOST},
    {"origin", TSR_DAEMON_LIST, .id = OPT_ORIGIN}, {"vllm-names", TSR_DAEMON_FLAG, .id = OPT_VLLM_NAMES},
    {"connections", TSR_DAEMON_VALUE, .id = OPT_CONNECTIONS}, {"connections-per-address", TSR_DAEMON_VALUE, .id = OPT_PER_ADDRESS},
    {"streams", TSR_DAEMON_VALUE, .id = OPT_STREAMS}, {"retry-from", TSR_DAEMON_VALUE, .id = OPT_RETRY_FROM},
    {"requests", TSR_DAEMON_VALUE, .id = OPT_REQUESTS}, {"body-max", TSR_DAEMON_VALUE, .id = OPT_BODY},
    {"bodies-max", TSR_DAEMON_VALUE, .id = OPT_BODIES}, {"memory-max", TSR_DAEMON_VALUE, .id = OPT_MEMORY},
    {"credit", TSR_DAEMON_VALUE, .id = OPT_CREDIT}, {"handshake-seconds", TSR_DAEMON_VALUE, .id = OPT_HANDSHAKE},
    {"idle-seconds", TSR_DAEMON_VALUE, .id = OPT_IDLE}, {"stall-seconds", TSR_DAEMON_VALUE, .id = OPT_STALL},
    {"drain-seconds", TSR_DAEMON_VALUE, .id = OPT_DRAIN}, {"spin", TSR_DAEMON_FLAG, .id = OPT_SPIN}, {"user", TSR_DAEMON_VALUE, .id = OPT_USER},
    {"no-sandbox", TSR_DAEMON_FLAG, .id = OPT_NO_SANDBOX}, {"quiet", TSR_DAEMON_FLAG, .id = OPT_QUIET},
    {"check", TSR_DAEMON_ACTION, .id = OPT_CHECK}, {"help", TSR_DAEMON_LEAVE, .id = OPT_HELP}, {"version", TSR_DAEMON_LEAVE, .id = OPT_VERSION},
    {"device", TSR_DAEMON_VALUE, .id = OPT_DEVICE}, {"gateway", TSR_DAEMON_LIST, .id = OPT_GATEWAY}, {"vlan", TSR_DAEMON_VALUE, .id = OPT_VLAN},
    {"mtu", TSR_DAEMON_VALUE, .id = OPT_MTU}, {"cpus", TSR_DAEMON_VALUE, .id = OPT_CPUS}, {"buffers", TSR_DAEMON_VALUE, .id = OPT_BUFFERS},
    {"no-huge", TSR_DAEMON_FLAG, .id = OPT_NO_HUGE}, {"eal", TSR_DAEMON_LIST, .id = OPT_EAL},
    {"queues", TSR_DAEMON_VALUE, .id = OPT_QUEUES}, {"idle", TSR_DAEMON_VALUE, .id = OPT_IDLE_WAY},
    {"handshakes", TSR_DAEMON_VALUE, .id = OPT_HANDSHAKES}, {"handshakes-per-address", TSR_DAEMON_VALUE, .id = OPT_HANDSHAKES_EACH},
    {"requests-per-address", TSR_DAEMON_VALUE, .id = OPT_REQUESTS_EACH}, {"memory-per-address", TSR_DAEMON_VALUE, .id = OPT_MEMORY_EACH},
    {"capture", TSR_DAEMON_VALUE, .id = OPT_CAPTURE}, {"secret", TSR_DAEMON_VALUE, .id = OPT_SECRET},
    {"congestion", TSR_DAEMON_VALUE, .id = OPT_CONGESTION}, {0},
};
/* clang-format on */

enum { DRAIN_S_DEFAULT = 20, SECONDS_MAX = 86400, MEMORY_MIN = 16 << 20 };

static void help_device(FILE *out)
{
    fprintf(
        out,
        "\n"
        "Past the kernel\n"
        "  --device DEVICE         a PCI address, or a driver of DPDK with its arguments, as\n"
        "                          net_af_xdp0,iface=eth1; without it a UDP socket of the kernel\n"
        "  --gateway ADDRESS       to other networks; one for IPv4, one for IPv6\n"
        "  --vlan N                frames carry its tag\n"
        "  --mtu N                 %d to %d [the device's]\n"
        "  --buffers N             packet buffers [%d]\n"
        "  --no-huge               ordinary pages instead of huge ones: slower, for tests\n"
        "  --eal ARGUMENT          for DPDK itself, as --eal=--iova-mode=va; repeat it for "
        "several\n",
        TSR_PORT_MTU_MIN, TSR_PORT_MTU_MAX, TSR_PORT_BUFFERS_DEFAULT);
}

void tsr_bypass_options_help(FILE *out)
{
    struct tsr_api_options api;
    struct tsr_http3_options http3;
    tsr_api_options_init(&api);
    tsr_http3_options_init(&http3);
    fprintf(
        out,
        "tessera-bypass --tls-certificate FILE --tls-key FILE [options]: the OpenAI-compatible "
        "API\n"
        "over HTTP/3, for the engines of this machine. Prints its addresses and \"ready\" on "
        "stdout\n"
        "when it serves.\n"
        "\n"
        "  --engine PATH           an engine's socket; repeat it for several [" TSR_BYPASS_ENGINE
        "]\n"
        "  --listen ADDRESS        127.0.0.1:8443 or [::1]:8443, of UDP; repeat it for several;\n"
        "                          port 0: a free one [" TSR_BYPASS_LISTEN "]. With --device also "
        "its\n"
        "                          network, as 192.0.2.2/24:443 or [2001:db8::2/64]:443; without\n"
        "                          one every peer is behind the gateway, or known by its packets\n"
        "\n"
        "Who may ask\n"
        "  --keys FILE             API keys, hashed (tessera-dataplane --make-key); without it "
        "only\n"
        "                          this machine is listened to\n"
        "  --host NAME             without keys: a name, besides localhost, that clients call\n"
        "                          this box; others are refused (DNS rebinding)\n"
        "  --origin URL            a page elsewhere that may ask (CORS)\n"
        "  --tls-certificate FILE  PEM, with the chain; read again when it changes, and at SIGHUP\n"
        "  --tls-key FILE          PEM, without a pass phrase\n"
        "  --tls-client-ca FILE    PEM: clients must show a certificate of these\n"
        "\n"
        "Limits\n"
        "  --connections N         at once; more are refused [%u]\n"
        "  --handshakes N          under way at once; what comes beyond is dropped [%u]\n"
        "  --streams N             requests of a connection at once [%u]\n"
        "  --retry-from N          handshakes at once from which clients must show that their\n"
        "                          address is theirs; 0: always [%u]\n"
        "  --requests N            at once; more are answered 503 [%u]\n"
        "  --body-max SIZE         of a request [%lluM]\n"
        "  --bodies-max SIZE       of all requests together [%lluM]\n"
        "  --memory-max SIZE       of QUIC, HTTP/3 and answers, of all together [%zuM]\n"
        "  --connections-per-address N, --handshakes-per-address N, --requests-per-address N,\n"
        "  --memory-per-address SIZE    of one address, or of 64 bits of IPv6; 0: no limit [half "
        "of\n"
        "                          all; where requests are more they are answered 429]\n"
        "  --credit N              tokens ahead of a slow reader [%u]\n"
        "  --handshake-seconds N   [%u]\n"
        "  --idle-seconds N        without a packet [%u]\n"
        "  --stall-seconds N       in which %u bytes must move [%u]\n"
        "  --drain-seconds N       for answers under way at SIGTERM [%d]\n",
        http3.conns_max, http3.handshakes_max, http3.streams_max, http3.retry_from,
        api.exchanges_max, (unsigned long long)api.body_bytes_max >> 20,
        (unsigned long long)api.bodies_bytes_max >> 20, http3.bytes_max >> 20, api.credit_tokens,
        http3.handshake_s, http3.idle_s, http3.stall_bytes, http3.stall_s, DRAIN_S_DEFAULT);
    fputs(
        "\n"
        "  --queues N              threads, each with a queue of the device, channels to the "
        "engines\n"
        "                          and connections of its own; limits are divided among them [1]\n"
        "  --cpus LIST             where they run, one each, as 2-3 [where the process may]\n"
        "  --idle WAY              sleep; or, where their CPUs are not an engine's, pause (poll,\n"
        "                          less and less often) or spin [sleep]\n"
        "  --spin                  the same as --idle spin\n"
        "  --secret FILE           of tokens and stateless resets, made where it is missing: a "
        "door\n"
        "                          that starts again then ends connections of before at once\n"
        "  --congestion NAME       cubic, or bbr: for links that lose without being full [cubic]\n"
        "  --capture FILE          at SIGUSR1 the last packets that were dropped go there (pcap)\n"
        "  --vllm-names            /metrics under vLLM's names too\n"
        "  --user NAME             become this user when started as root [tessera, else nobody];\n"
        "                          it must be able to read keys and certificates\n"
        "  --no-sandbox            without Landlock and seccomp: for debuggers only\n"
        "  --config FILE           options as name = value lines; those of the command line\n"
        "                          replace them [" TSR_BYPASS_CONFIG ", if it is there]\n"
        "  --check                 say what is wrong, or what would be served, and leave\n"
        "  --quiet                 no description on stderr\n"
        "  --help  --version\n"
        "\n"
        "SIZE takes K, M, G. SIGTERM ends it when answers under way are whole, SIGHUP reads keys\n"
        "and certificates again.\n",
        out);
    help_device(out);
}

void tsr_bypass_address_text(const struct tsr_address *address, char text[TSR_BYPASS_ADDRESS_BYTES])
{
    char ip[INET6_ADDRSTRLEN] = "";
    inet_ntop(address->family == 4 ? AF_INET : AF_INET6, address->ip, ip, sizeof ip);
    snprintf(text, TSR_BYPASS_ADDRESS_BYTES, address->family == 4 ? "%s:%u" : "[%s]:%u", ip,
             address->port);
}

static bool read_ip(const char *text, size_t size, uint8_t family, uint8_t ip[16])
{
    char copy[INET6_ADDRSTRLEN];
    if (size >= sizeof copy) {
        return false;
    }
    memcpy(copy, text, size);
    copy[size] = '\0';
    memset(ip, 0, 16);
    return inet_pton(family == 4 ? AF_INET : AF_INET6, copy, ip) == 1;
}

/* All of the text up to `end`, of which no digit is missing. */
static bool read_digits(const char *text, const char *end, unsigned long max, unsigned long *out)
{
    char *last;
    *out = *text >= '0' && *text <= '9' ? strtoul(text, &last, 10) : max + 1;
    return *out <= max && last == end;
}

/* IP[/BITS]:PORT, [IP[/BITS]]:PORT */
static bool read_listen(const char *text, struct tsr_port_listen *listen)
{
    bool v6 = text[0] == '[';
    const char *colon = strrchr(text, ':'), *begin = text + v6;
    const char *end = v6 ? strchr(text, ']') : colon;
    if (!colon || !end || end + v6 != colon) {
        return false;
    }
    const char *slash = memchr(begin, '/', (size_t)(end - begin));
    const char *ip_end = slash ? slash : end;
    unsigned long port, prefix = 0;
    if (!read_digits(colon + 1, text + strlen(text), UINT16_MAX, &port) ||
        (slash && !read_digits(slash + 1, end, v6 ? 128 : 32, &prefix))) {
        return false;
    }
    *listen = (struct tsr_port_listen){
        .address = {.port = (uint16_t)port, .family = v6 ? 6 : 4},
        .prefix = (uint8_t)prefix,
    };
    return read_ip(begin, (size_t)(ip_end - begin), listen->address.family, listen->address.ip);
}

static int add_listen(struct tsr_port_options *port, const char *text, struct tsr_err *err)
{
    if (port->n_listen == TSR_PORT_LISTEN_MAX) {
        return tsr_err_set(err, -EINVAL, "--listen: at most %d are wanted", TSR_PORT_LISTEN_MAX);
    }
    if (!read_listen(text, &port->listen[port->n_listen])) {
        return tsr_err_set(err, -EINVAL,
                           "--listen %s: not an address with a port, as 127.0.0.1:8443, "
                           "[::1]:8443 or, with its network, 192.0.2.2/24:443",
                           text);
    }
    port->n_listen++;
    return 0;
}

static int set_gateway(struct tsr_bypass_options *o, const char *text, struct tsr_err *err)
{
    uint8_t family = strchr(text, ':') ? 6 : 4;
    struct tsr_port_listen *gateway = &o->gateways[family == 6];
    if (gateway->has_gateway) {
        return tsr_err_set(err, -EINVAL, "--gateway %s: there is one for IPv%u already", text,
                           family);
    }
    gateway->has_gateway = read_ip(text, strlen(text), family, gateway->gateway);
    return gateway->has_gateway
               ? 0
               : tsr_err_set(err, -EINVAL, "--gateway %s: not an IP address", text);
}

static int add_eal(struct tsr_port_options *port, const char *text, struct tsr_err *err)
{
    uint32_t n = 0;
    while (n < TSR_PORT_EAL_MAX && port->eal[n]) {
        n++;
    }
    if (n == TSR_PORT_EAL_MAX) {
        return tsr_err_set(err, -EINVAL, "--eal: at most %d are wanted", TSR_PORT_EAL_MAX);
    }
    port->eal[n] = text;
    return 0;
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

static int set_memory(const char *option, const char *text, uint64_t low, size_t *out,
                      struct tsr_err *err)
{
    uint64_t bytes = *out;
    int rc = tsr_value_size(option, text, low, 1ull << 40, &bytes, err);
    *out = (size_t)bytes;
    return rc;
}

static int set_idle(struct tsr_bypass_options *o, const char *text, struct tsr_err *err)
{
    static const char *const words[] = {
        [TSR_BYPASS_SLEEP] = "sleep", [TSR_BYPASS_PAUSE] = "pause", [TSR_BYPASS_SPIN] = "spin"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (strcmp(text, words[i]) == 0) {
            o->idle = (enum tsr_bypass_idle)i;
            return 0;
        }
    }
    return tsr_err_set(err, -EINVAL, "--idle %s: one of sleep, pause, spin is wanted", text);
}

static int set_short(const char *option, const char *text, uint32_t low, uint32_t high,
                     uint16_t *out, struct tsr_err *err)
{
    uint32_t value = 0;
    int rc = tsr_value_number(option, text, low, high, &value, err);
    *out = rc == 0 ? (uint16_t)value : *out;
    return rc;
}

static int set_congestion(struct tsr_http3_options *http3, const char *text, struct tsr_err *err)
{
    http3->bbr = strcmp(text, "bbr") == 0;
    return http3->bbr || strcmp(text, "cubic") == 0
               ? 0
               : tsr_err_set(err, -EINVAL, "--congestion %s: give cubic or bbr", text);
}

static int set(void *ctx, int option, const char *text, struct tsr_err *err)
{
    struct tsr_bypass_options *o = ctx;
    switch (option) {
    case OPT_LISTEN:
        return add_listen(&o->port, text, err);
    case OPT_CERTIFICATE:
        o->http3.certificate = text;
        return 0;
    case OPT_KEY:
        o->http3.key = text;
        return 0;
    case OPT_CLIENT_CA:
        o->http3.client_ca = text;
        return 0;
    case OPT_ENGINE:
        return add_name("--engine", o->api.engines, &o->api.n_engines, TSR_API_ENGINES_MAX, text,
                        err);
    case OPT_KEYS:
        o->api.keys_path = text;
        return 0;
    case OPT_HOST:
        return add_name("--host", o->hosts, &o->api.n_hosts, TSR_BYPASS_NAMES_MAX, text, err);
    case OPT_ORIGIN:
        return add_name("--origin", o->origins, &o->api.n_origins, TSR_BYPASS_NAMES_MAX, text, err);
    case OPT_VLLM_NAMES:
        o->api.vllm_names = true;
        return 0;
    case OPT_CONNECTIONS:
        return tsr_value_number("--connections", text, 1, 1 << 20, &o->http3.conns_max, err);
    case OPT_PER_ADDRESS:
        return tsr_value_number("--connections-per-address", text, 0, 1 << 20,
                                &o->http3.address.conns, err);
    case OPT_HANDSHAKES:
        return tsr_value_number("--handshakes", text, 1, 1 << 20, &o->http3.handshakes_max, err);
    case OPT_HANDSHAKES_EACH:
        return tsr_value_number("--handshakes-per-address", text, 0, 1 << 20,
                                &o->http3.address.handshakes, err);
    case OPT_REQUESTS_EACH:
        return tsr_value_number("--requests-per-address", text, 0, 1 << 20,
                                &o->http3.address.requests, err);
    case OPT_MEMORY_EACH:
        return set_memory("--memory-per-address", text, 0, &o->http3.address.bytes, err);
    case OPT_STREAMS:
        return tsr_value_number("--streams", text, 1, 1000, &o->http3.streams_max, err);
    case OPT_RETRY_FROM:
        return tsr_value_number("--retry-from", text, 0, 1 << 20, &o->http3.retry_from, err);
    case OPT_REQUESTS:
        return tsr_value_number("--requests", text, 1, 1 << 16, &o->api.exchanges_max, err);
    case OPT_BODY:
        return tsr_value_size("--body-max", text, 1024, 1 << 30, &o->api.body_bytes_max, err);
    case OPT_BODIES:
        return tsr_value_size("--bodies-max", text, 1 << 20, 1ull << 40, &o->api.bodies_bytes_max,
                              err);
    case OPT_MEMORY:
        return set_memory("--memory-max", text, MEMORY_MIN, &o->http3.bytes_max, err);
    case OPT_CREDIT:
        return tsr_value_number("--credit", text, 1, 1 << 16, &o->api.credit_tokens, err);
    case OPT_HANDSHAKE:
        return tsr_value_number("--handshake-seconds", text, 1, SECONDS_MAX, &o->http3.handshake_s,
                                err);
    case OPT_IDLE:
        return tsr_value_number("--idle-seconds", text, 1, SECONDS_MAX, &o->http3.idle_s, err);
    case OPT_STALL:
        return tsr_value_number("--stall-seconds", text, 1, SECONDS_MAX, &o->http3.stall_s, err);
    case OPT_DRAIN:
        return tsr_value_number("--drain-seconds", text, 0, SECONDS_MAX, &o->drain_s, err);
    case OPT_SPIN:
        o->idle = TSR_BYPASS_SPIN;
        return 0;
    case OPT_SECRET:
        o->secret = text;
        return 0;
    case OPT_CONGESTION:
        return set_congestion(&o->http3, text, err);
    case OPT_IDLE_WAY:
        return set_idle(o, text, err);
    case OPT_QUEUES:
        return tsr_value_number("--queues", text, 1, TSR_PORT_QUEUES_MAX, &o->port.queues, err);
    case OPT_CAPTURE:
        o->capture = text;
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
        o->action = TSR_BYPASS_CHECK;
        return 0;
    case OPT_HELP:
        o->action = TSR_BYPASS_HELP;
        return 0;
    case OPT_VERSION:
        o->action = TSR_BYPASS_VERSION;
        return 0;
    case OPT_DEVICE:
        o->port.kind = TSR_PORT_DPDK;
        o->port.device = text;
        return 0;
    case OPT_GATEWAY:
        return set_gateway(o, text, err);
    case OPT_VLAN:
        return set_short("--vlan", text, 1, 4094, &o->port.vlan, err);
    case OPT_MTU:
        return set_short("--mtu", text, TSR_PORT_MTU_MIN, TSR_PORT_MTU_MAX, &o->port.mtu, err);
    case OPT_CPUS:
        return tsr_value_cpus("--cpus", text, TSR_PORT_QUEUES_MAX, o->cpus, &o->n_cpus, err);
    case OPT_BUFFERS:
        return tsr_value_number("--buffers", text, TSR_PORT_BUFFERS_MIN, 1 << 24, &o->port.buffers,
                                err);
    case OPT_NO_HUGE:
        o->port.no_huge = true;
        return 0;
    case OPT_EAL:
        return add_eal(&o->port, text, err);
    default:
        return tsr_err_set(err, -EINVAL, "an option without a meaning");
    }
}

static bool is_loopback(const struct tsr_address *a)
{
    static const uint8_t v6[16] = {[15] = 1};
    return a->family == 4 ? a->ip[0] == 127 : memcmp(a->ip, v6, sizeof v6) == 0;
}

static int check_open(const struct tsr_bypass_options *o, const struct tsr_address *address,
                      struct tsr_err *err)
{
    char text[TSR_BYPASS_ADDRESS_BYTES];
    tsr_bypass_address_text(address, text);
    if (o->port.device && is_loopback(address)) {
        return tsr_err_set(err, -EINVAL,
                           "--listen %s: nobody reaches that address through a device: give the "
                           "one that clients ask",
                           text);
    }
    if (o->api.keys_path || is_loopback(address)) {
        return 0;
    }
    return tsr_err_set(err, -EINVAL,
                       "%s is open to other machines, and without keys anyone there may ask: give "
                       "--keys FILE%s",
                       text, o->port.device ? "" : ", or listen at 127.0.0.1 or [::1] only");
}

/* What has a meaning for a device alone. */
static int check_socket(const struct tsr_bypass_options *o, struct tsr_err *err)
{
    bool has_prefix = false;
    for (uint32_t i = 0; i < o->port.n_listen; i++) {
        has_prefix |= o->port.listen[i].prefix != 0;
    }
    const char *option = has_prefix                                                 ? "A network"
                         : o->gateways[0].has_gateway || o->gateways[1].has_gateway ? "--gateway"
                         : o->port.vlan                                             ? "--vlan"
                         : o->port.mtu                                              ? "--mtu"
                         : o->port.buffers                                          ? "--buffers"
                         : o->port.no_huge                                          ? "--no-huge"
                         : o->port.eal[0]                                           ? "--eal"
                                                                                    : NULL;
    return option ? tsr_err_set(err, -EINVAL,
                                "%s has no meaning for the kernel's UDP socket: give --device too, "
                                "or leave it out",
                                option)
                  : 0;
}

/* What is divided among the queues must be of use to each. */
static int check_parts(const struct tsr_bypass_options *o, struct tsr_err *err)
{
    const unsigned long long queues = o->port.queues, body = o->api.body_bytes_max;
    if (o->api.bodies_bytes_max < queues * body) {
        return tsr_err_set(
            err, -EINVAL,
            "--bodies-max %llu is divided among %llu queues, and --body-max lets one "
            "request have %llu: give --bodies-max %llu, or less of the others",
            (unsigned long long)o->api.bodies_bytes_max, queues, body, queues * body);
    }
    return o->http3.bytes_max < queues * MEMORY_MIN
               ? tsr_err_set(err, -EINVAL,
                             "--memory-max %zu is divided among %llu queues, which need %d MiB "
                             "each: give --memory-max %lluM, or fewer queues",
                             o->http3.bytes_max, queues, MEMORY_MIN >> 20,
                             queues * (MEMORY_MIN >> 20))
               : 0;
}

static int check(const struct tsr_bypass_options *o, struct tsr_err *err)
{
    int rc = 0;
    if (o->action != TSR_BYPASS_RUN && o->action != TSR_BYPASS_CHECK) {
        return 0;
    }
    if (!o->http3.certificate || !o->http3.key) {
        return tsr_err_set(err, -EINVAL,
                           "HTTP/3 is always encrypted: give --tls-certificate FILE and --tls-key "
                           "FILE");
    }
    if (o->n_cpus && o->n_cpus != o->port.queues) {
        return tsr_err_set(err, -EINVAL,
                           "--cpus names %u CPUs for %u queues: each queue has one of its own",
                           o->n_cpus, o->port.queues);
    }
    if (o->port.device && o->port.n_listen == 0) {
        return tsr_err_set(err, -EINVAL,
                           "--device wants the addresses that it serves: give --listen, as "
                           "192.0.2.2/24:443");
    }
    for (uint32_t i = 0; rc == 0 && i < o->port.n_listen; i++) {
        rc = check_open(o, &o->port.listen[i].address, err);
    }
    rc = rc ? rc : check_parts(o, err);
    return rc || o->port.device ? rc : check_socket(o, err);
}

static void spread_gateways(struct tsr_bypass_options *o)
{
    for (uint32_t i = 0; i < o->port.n_listen; i++) {
        struct tsr_port_listen *listen = &o->port.listen[i];
        const struct tsr_port_listen *gateway = &o->gateways[listen->address.family == 6];
        listen->has_gateway = gateway->has_gateway;
        memcpy(listen->gateway, gateway->gateway, sizeof listen->gateway);
    }
}

static const struct tsr_http3_share not_said = {
    .conns = UINT32_MAX,
    .handshakes = UINT32_MAX,
    .requests = UINT32_MAX,
    .bytes = SIZE_MAX,
};

static uint32_t half(uint32_t said, uint32_t all)
{
    return said == UINT32_MAX ? (all + 1) / 2 : said;
}

/* What is not said of one address is half of all. */
static void share(struct tsr_bypass_options *o)
{
    struct tsr_http3_share *a = &o->http3.address;
    a->conns = half(a->conns, o->http3.conns_max);
    a->handshakes = half(a->handshakes, o->http3.handshakes_max);
    a->requests = half(a->requests, o->api.exchanges_max);
    a->bytes = a->bytes == SIZE_MAX ? o->http3.bytes_max / 2 : a->bytes;
}

int tsr_bypass_options_parse(struct tsr_bypass_options *o, int argc, char **argv,
                             struct tsr_err *err)
{
    *o = (struct tsr_bypass_options){
        .action = TSR_BYPASS_RUN,
        .drain_s = DRAIN_S_DEFAULT,
        .sandbox = true,
        .port = {.kind = TSR_PORT_SOCKET, .cpu = -1},
        .config = {.options = names, .file = TSR_BYPASS_CONFIG, .set = set, .ctx = o},
    };
    tsr_api_options_init(&o->api);
    tsr_http3_options_init(&o->http3);
    o->http3.address = not_said;
    o->api.hosts = o->hosts;
    o->api.origins = o->origins;
    int rc = tsr_daemon_config_read(&o->config, argc, argv, err);
    if (rc < 0) {
        return rc;
    }
    if (o->api.n_engines == 0) {
        o->api.engines[o->api.n_engines++] = TSR_BYPASS_ENGINE;
    }
    share(o);
    o->port.queues = o->port.queues ? o->port.queues : o->n_cpus ? o->n_cpus : 1;
    o->port.cpu = o->n_cpus ? (int)o->cpus[0] : -1;
    if (o->port.n_listen == 0 && !o->port.device) {
        rc = add_listen(&o->port, TSR_BYPASS_LISTEN, err);
    }
    spread_gateways(o);
    return rc ? rc : check(o, err);
}
