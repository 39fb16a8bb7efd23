#include <tsr/bypass/options.h>

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <tsr/daemon/value.h>

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

static int add_listen(void *options, const char *text, struct tsr_err *err)
{
    struct tsr_port_options *port = options;
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

static int set_gateway(void *gateways, const char *text, struct tsr_err *err)
{
    uint8_t family = strchr(text, ':') ? 6 : 4;
    struct tsr_port_listen *gateway = (struct tsr_port_listen *)gateways + (family == 6);
    if (gateway->has_gateway) {
        return tsr_err_set(err, -EINVAL, "--gateway %s: there is one for IPv%u already", text,
                           family);
    }
    gateway->has_gateway = read_ip(text, strlen(text), family, gateway->gateway);
    return gateway->has_gateway
               ? 0
               : tsr_err_set(err, -EINVAL, "--gateway %s: not an IP address", text);
}

static int set_idle(void *idle, const char *text, struct tsr_err *err)
{
    static const char *const words[] = {
        [TSR_BYPASS_SLEEP] = "sleep", [TSR_BYPASS_PAUSE] = "pause", [TSR_BYPASS_SPIN] = "spin"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (strcmp(text, words[i]) == 0) {
            *(enum tsr_bypass_idle *)idle = (enum tsr_bypass_idle)i;
            return 0;
        }
    }
    return tsr_err_set(err, -EINVAL, "--idle %s: one of sleep, pause, spin is wanted", text);
}

static int set_spin(void *idle, const char *text, struct tsr_err *err)
{
    (void)text;
    return set_idle(idle, "spin", err);
}

static int set_cpus(void *options, const char *text, struct tsr_err *err)
{
    struct tsr_bypass_options *o = options;
    return tsr_value_cpus("--cpus", text, TSR_PORT_QUEUES_MAX, o->cpus, &o->n_cpus, err);
}

static int set_congestion(void *bbr, const char *text, struct tsr_err *err)
{
    *(bool *)bbr = strcmp(text, "bbr") == 0;
    return *(bool *)bbr || strcmp(text, "cubic") == 0
               ? 0
               : tsr_err_set(err, -EINVAL, "--congestion %s: give cubic or bbr", text);
}

static_assert(TSR_PORT_MTU_MIN == 1280 && TSR_PORT_MTU_MAX == 9000 &&
                  TSR_PORT_BUFFERS_DEFAULT == 8192,
              "--help says so");

enum { MEMORY_MIN = 16 << 20 };

#define AT(field) .at = offsetof(struct tsr_bypass_options, field)
static_assert(offsetof(struct tsr_bypass_options, program) == 0,
              "rows of both doors count from it");

/* clang-format off */
static const struct tsr_daemon_option rows[] = {
    TSR_PROGRAM_ENGINES,
    {"listen", TSR_DAEMON_LIST, AT(port), "ADDRESS",
     "127.0.0.1:8443 or [::1]:8443, of UDP; repeat it for several;\n"
     "port 0: a free one [" TSR_BYPASS_LISTEN "]. With --device also its\n"
     "network, as 192.0.2.2/24:443 or [2001:db8::2/64]:443; without\n"
     "one every peer is behind the gateway, or known by its packets", .set = add_listen},

    {"keys", TSR_DAEMON_TEXT, AT(program.api.keys_path), "FILE",
     "API keys, hashed (tessera-dataplane --make-key); without it only\nthis machine is listened to", .above = "Who may ask"},
    TSR_PROGRAM_PAGES,
    TSR_PROGRAM_TLS,

    {"connections", TSR_DAEMON_NUMBER, AT(http3.conns_max), "N", "at once; more are refused [#]", "Limits", 1, 1 << 20},
    {"handshakes", TSR_DAEMON_NUMBER, AT(http3.handshakes_max), "N", "under way at once; what comes beyond is dropped [#]",
     .low = 1, .high = 1 << 20},
    {"streams", TSR_DAEMON_NUMBER, AT(http3.streams_max), "N", "requests of a connection at once [#]", .low = 1, .high = 1000},
    {"retry-from", TSR_DAEMON_NUMBER, AT(http3.retry_from), "N",
     "handshakes at once from which clients must show that their\naddress is theirs; 0: always [#]", .high = 1 << 20},
    {"memory-max", TSR_DAEMON_SIZE, AT(http3.bytes_max), "SIZE", "of QUIC, HTTP/3 and answers, of all together [#]",
     .low = MEMORY_MIN, .high = 1ull << 40},
    TSR_PROGRAM_REQUESTS,
    {"connections-per-address", TSR_DAEMON_NUMBER, AT(http3.address.conns), "N",
     "of one address, or of 64 bits of IPv6; 0: no limit [half of all]", .high = 1 << 20},
    {"handshakes-per-address", TSR_DAEMON_NUMBER, AT(http3.address.handshakes), "N", "the same [half of all]", .high = 1 << 20},
    {"requests-per-address", TSR_DAEMON_NUMBER, AT(http3.address.requests), "N", "the same; more are answered 429 [half of all]",
     .high = 1 << 20},
    {"memory-per-address", TSR_DAEMON_SIZE, AT(http3.address.bytes), "SIZE", "the same [half of all]", .high = 1ull << 40},
    {"handshake-seconds", TSR_DAEMON_NUMBER, AT(http3.handshake_s), "N", "[#]", TSR_PROGRAM_SECONDS},
    {"idle-seconds", TSR_DAEMON_NUMBER, AT(http3.idle_s), "N", "without a packet [#]", TSR_PROGRAM_SECONDS},
    {"stall-seconds", TSR_DAEMON_NUMBER, AT(http3.stall_s), "N", "in which 4096 bytes must move [#]", TSR_PROGRAM_SECONDS},

    {"device", TSR_DAEMON_TEXT, AT(port.device), "DEVICE",
     "a PCI address, or a driver of DPDK with its arguments, as\n"
     "net_af_xdp0,iface=eth1; without it a UDP socket of the kernel", .above = "Past the kernel"},
    {"gateway", TSR_DAEMON_LIST, AT(gateways), "ADDRESS", "to other networks; one for IPv4, one for IPv6", .set = set_gateway},
    {"vlan", TSR_DAEMON_NUMBER, AT(vlan), "N", "frames carry its tag", .low = 1, .high = 4094},
    {"mtu", TSR_DAEMON_NUMBER, AT(mtu), "N", "1280 to 9000 [the device's]", .low = TSR_PORT_MTU_MIN, .high = TSR_PORT_MTU_MAX},
    {"buffers", TSR_DAEMON_NUMBER, AT(port.buffers), "N", "packet buffers [8192]", .low = TSR_PORT_BUFFERS_MIN, .high = 1 << 24},
    {"no-huge", TSR_DAEMON_FLAG, AT(port.no_huge), .help = "ordinary pages instead of huge ones: slower, for tests"},
    {"eal", TSR_DAEMON_NAMES, AT(port.eal), "ARGUMENT", "for DPDK itself, as --eal=--iova-mode=va; repeat it for several",
     .high = TSR_PORT_EAL_MAX, .count_at = offsetof(struct tsr_bypass_options, n_eal)},

    {"queues", TSR_DAEMON_NUMBER, AT(port.queues), "N",
     "threads, each with a queue of the device, channels to the engines\n"
     "and connections of its own; limits are divided among them [1]", "", 1, TSR_PORT_QUEUES_MAX},
    {"cpus", TSR_DAEMON_VALUE, .set = set_cpus, .value = "LIST",
     .help = "where they run, one each, as 2-3 [where the process may]"},
    {"idle", TSR_DAEMON_VALUE, AT(idle), "WAY",
     "sleep; or, where their CPUs are not an engine's, pause (poll,\nless and less often) or spin [sleep]", .set = set_idle},
    {"spin", TSR_DAEMON_FLAG, AT(idle), .help = "the same as --idle spin", .set = set_spin},
    {"secret", TSR_DAEMON_TEXT, AT(secret), "FILE",
     "of tokens and stateless resets, made where it is missing: a door\n"
     "that starts again then ends connections of before at once"},
    {"congestion", TSR_DAEMON_VALUE, AT(http3.bbr), "NAME", "cubic, or bbr: for links that lose without being full [cubic]",
     .set = set_congestion},
    {"capture", TSR_DAEMON_TEXT, AT(capture), "FILE", "at SIGUSR1 the last packets that were dropped go there (pcap)"},
    TSR_PROGRAM_REST,
};
/* clang-format on */

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
    return tsr_program_options_check(&o->program, text, is_loopback(address),
                                     o->port.device ? "" : ", or listen at 127.0.0.1 or [::1] only",
                                     err);
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
                         : o->vlan                                                  ? "--vlan"
                         : o->mtu                                                   ? "--mtu"
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
    const unsigned long long queues = o->port.queues, body = o->program.api.body_bytes_max;
    if (o->program.api.bodies_bytes_max < queues * body) {
        return tsr_err_set(
            err, -EINVAL,
            "--bodies-max %llu is divided among %llu queues, and --body-max lets one "
            "request have %llu: give --bodies-max %llu, or less of the others",
            (unsigned long long)o->program.api.bodies_bytes_max, queues, body, queues * body);
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
    if (o->program.action != TSR_PROGRAM_RUN && o->program.action != TSR_PROGRAM_CHECK) {
        return 0;
    }
    if (!o->program.certificate || !o->program.key) {
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
    a->requests = half(a->requests, o->program.api.exchanges_max);
    a->bytes = a->bytes == SIZE_MAX ? o->http3.bytes_max / 2 : a->bytes;
}

int tsr_bypass_options_parse(struct tsr_bypass_options *o, int argc, char **argv,
                             struct tsr_err *err)
{
    *o = (struct tsr_bypass_options){0};
    tsr_program_options_init(&o->program, rows, TSR_BYPASS_CONFIG,
                             "tessera-bypass --tls-certificate FILE --tls-key FILE [options]: the "
                             "OpenAI-compatible API\n"
                             "over HTTP/3, for the engines of this machine. Prints its addresses "
                             "and \"ready\" on stdout\n"
                             "when it serves.\n");
    tsr_http3_options_init(&o->http3);
    o->http3.address = not_said;
    int rc = tsr_program_options_read(&o->program, argc, argv, err);
    if (rc < 0) {
        return rc;
    }
    o->http3.certificate = o->program.certificate;
    o->http3.key = o->program.key;
    o->http3.client_ca = o->program.client_ca;
    share(o);
    o->port.kind = o->port.device ? TSR_PORT_DPDK : TSR_PORT_SOCKET;
    o->port.vlan = (uint16_t)o->vlan;
    o->port.mtu = (uint16_t)o->mtu;
    o->port.queues = o->port.queues ? o->port.queues : o->n_cpus ? o->n_cpus : 1;
    o->port.cpu = o->n_cpus ? (int)o->cpus[0] : -1;
    if (o->port.n_listen == 0 && !o->port.device) {
        rc = add_listen(&o->port, TSR_BYPASS_LISTEN, err);
    }
    spread_gateways(o);
    return rc ? rc : check(o, err);
}
