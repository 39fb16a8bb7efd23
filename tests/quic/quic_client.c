/* Asks a server of HTTP/3, and says how long it took.
 *
 *     quic_client [OPTION]... https://ADDRESS[:PORT]/PATH [/PATH]...
 *
 *   --connections N    [1]; they are opened first, --handshakes N [32] at once
 *   --requests N       of each connection, over the paths in turn [1]; --warm N before them do not
 * count [0]
 *   --streams N        of these at once on each connection [1]
 *   --data TEXT|@FILE  POST it; --method WORD; --header 'NAME: VALUE', repeatable
 *   --name NAME        for TLS and :authority [localhost]
 *   --hold SECONDS     after the last answer prints "held", and keeps the connections so long [0]
 *   --timeout SECONDS  for everything but that [60]
 *   --show             print heads and bodies
 *   --spin             never sleep
 *   --device DEVICE    of DPDK, as tessera-bypass has it [the kernel's UDP socket]
 *   --local ADDRESS[/PREFIX][:PORT]   where to ask from; needed with --device
 *   --gateway ADDRESS  --vlan N  --mtu N  --cpu N  --huge  --eal ARGUMENT
 *
 * Prints four lines of name=value, times in microseconds: the connections with their handshakes;
 * the answers, from a request until its answer is whole; the gaps between the pieces of an answer,
 * with the number of server-sent events; the port's packets. Certificates are not looked at.
 *
 * Exit code 0: all were answered with a status below 400. 1: not so. 2: the command line. */
#include "crowd.h"

#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <tsr/shm/log.h>

enum { PATHS_MAX = 64, HEADERS_MAX = 64, PSEUDO = 4, PORT_DEFAULT = 40000 };

struct samples {
    uint64_t *ns;
    size_t n, max;
};

/* What there is to be done on one connection. */
struct job {
    uint64_t begun_ns;
    uint32_t asked, answered;
    bool is_ready; /* stands in ready[] */
    bool is_over;  /* all answered, or gone */
};

static struct {
    struct tsr_port_options port;
    struct tsr_address server;
    const char *paths[PATHS_MAX];
    uint32_t n_paths;
    const char *headers[HEADERS_MAX][2];
    uint32_t n_headers;
    const char *method, *name;
    char *body;
    size_t body_bytes;
    uint32_t connections, handshakes, requests, warm, streams, hold_s, timeout_s;
    bool spin, show;
} o = {
    .port = {.kind = TSR_PORT_SOCKET, .queues = 1, .cpu = -1, .no_huge = true},
    .name = "localhost",
    .connections = 1,
    .handshakes = 32,
    .requests = 1,
    .streams = 1,
    .timeout_s = 60,
};

static struct crowd *crowd;
static struct client **clients;
static struct job *jobs;
static struct client **ready; /* to ask again */
static uint32_t n_ready;
static struct samples handshakes, answers, gaps;
static uint32_t opened, settled, established, retried, over, good, bad;
static uint64_t events;

/* ---- Command line ---- */

__attribute__((noreturn)) static void refuse(const char *what, const char *text)
{
    fprintf(stderr, "quic_client: %s%s%s; see the head of quic_client.c\n", what, text ? ": " : "",
            text ? text : "");
    exit(2);
}

static uint32_t number(const char *text)
{
    char *end;
    errno = 0;
    unsigned long n = strtoul(text, &end, 10);
    if (*text < '0' || *text > '9' || *end || errno || n > INT32_MAX) {
        refuse("not a number", text);
    }
    return (uint32_t)n;
}

/* 192.0.2.1, 192.0.2.1:443, 192.0.2.1/24:443, [2001:db8::1/64]:443. prefix NULL: none is allowed.
 */
static struct tsr_address read_address(const char *text, uint16_t port, uint8_t *prefix)
{
    char copy[128];
    bool v6 = text[0] == '[';
    struct tsr_address a = {.port = port, .family = v6 ? 6 : 4};
    snprintf(copy, sizeof copy, "%s", text + v6);
    char *ip_end = v6 ? strchr(copy, ']') : strchr(copy, ':');
    char *colon = ip_end && v6 ? strchr(ip_end, ':') : ip_end;
    char *slash = strchr(copy, '/');
    if (v6 && !ip_end) {
        refuse("not an address", text);
    }
    if (colon) {
        a.port = (uint16_t)number(colon + 1);
    }
    if (ip_end) {
        *ip_end = '\0';
    }
    if (slash && prefix) {
        *slash = '\0';
        *prefix = (uint8_t)number(slash + 1);
    }
    if (inet_pton(v6 ? AF_INET6 : AF_INET, copy, a.ip) != 1) {
        refuse("not an address", text);
    }
    return a;
}

static void read_url(const char *text)
{
    const char *host = text + strlen("https://"), *path = strchr(host, '/');
    char address[128];
    snprintf(address, sizeof address, "%.*s", path ? (int)(path - host) : (int)strlen(host), host);
    o.server = read_address(address, 443, NULL);
    o.paths[o.n_paths++] = path ? path : "/";
}

static void read_data(const char *text)
{
    FILE *file = text[0] == '@' ? fopen(text + 1, "re") : NULL;
    struct text body = {0};
    char piece[4096];
    text_put(&body, "", 0);
    if (text[0] == '@' && !file) {
        refuse("cannot be read", text + 1);
    }
    for (size_t n; file && (n = fread(piece, 1, sizeof piece, file)) > 0;) {
        text_put(&body, piece, n);
    }
    if (file) {
        fclose(file);
    } else {
        text_put(&body, text, strlen(text));
    }
    o.body = body.bytes;
    o.body_bytes = body.size;
}

static void read_header(char *text)
{
    char *colon = strchr(text, ':');
    if (!colon || o.n_headers == HEADERS_MAX) {
        refuse("not a header, or one too many", text);
    }
    *colon = '\0';
    o.headers[o.n_headers][0] = text;
    o.headers[o.n_headers++][1] = colon + 1 + strspn(colon + 1, " ");
}

static void add_eal(const char *text)
{
    uint32_t n = 0;
    while (n < TSR_PORT_EAL_MAX && o.port.eal[n]) {
        n++;
    }
    if (n == TSR_PORT_EAL_MAX) {
        refuse("too many arguments for EAL", text);
    }
    o.port.eal[n] = text;
}

static void set(int option, char *text)
{
    struct tsr_port_listen *local = &o.port.listen[0];
    switch (option) {
    case 'c':
        o.connections = number(text);
        break;
    case 'n':
        o.requests = number(text);
        break;
    case 's':
        o.streams = number(text);
        break;
    case 'w':
        o.warm = number(text);
        break;
    case 'k':
        o.handshakes = number(text);
        break;
    case 'd':
        read_data(text);
        break;
    case 'X':
        o.method = text;
        break;
    case 'H':
        read_header(text);
        break;
    case 'N':
        o.name = text;
        break;
    case 'h':
        o.hold_s = number(text);
        break;
    case 't':
        o.timeout_s = number(text);
        break;
    case 'p':
        o.show = true;
        break;
    case 'S':
        o.spin = true;
        break;
    case 'D':
        o.port.kind = TSR_PORT_DPDK;
        o.port.device = text;
        break;
    case 'l':
        local->address = read_address(text, 0, &local->prefix);
        break;
    case 'g':
        memcpy(local->gateway, read_address(text, 0, NULL).ip, sizeof local->gateway);
        local->has_gateway = true;
        break;
    case 'v':
        o.port.vlan = (uint16_t)number(text);
        break;
    case 'm':
        o.port.mtu = (uint16_t)number(text);
        break;
    case 'C':
        o.port.cpu = (int)number(text);
        break;
    case 'G':
        o.port.no_huge = false;
        break;
    case 'E':
        add_eal(text);
        break;
    default:
        refuse("an unknown option", NULL);
    }
}

static void read_options(int argc, char **argv)
{
    static const struct option names[] = {
        {"connections", 1, NULL, 'c'}, {"handshakes", 1, NULL, 'k'},
        {"requests", 1, NULL, 'n'},    {"warm", 1, NULL, 'w'},
        {"streams", 1, NULL, 's'},     {"data", 1, NULL, 'd'},
        {"method", 1, NULL, 'X'},      {"header", 1, NULL, 'H'},
        {"name", 1, NULL, 'N'},        {"hold", 1, NULL, 'h'},
        {"timeout", 1, NULL, 't'},     {"show", 0, NULL, 'p'},
        {"spin", 0, NULL, 'S'},        {"device", 1, NULL, 'D'},
        {"local", 1, NULL, 'l'},       {"gateway", 1, NULL, 'g'},
        {"vlan", 1, NULL, 'v'},        {"mtu", 1, NULL, 'm'},
        {"cpu", 1, NULL, 'C'},         {"huge", 0, NULL, 'G'},
        {"eal", 1, NULL, 'E'},         {NULL, 0, NULL, 0},
    };
    int option;
    while ((option = getopt_long(argc, argv, "", names, NULL)) != -1) {
        set(option, optarg);
    }
    if (optind == argc || strncmp(argv[optind], "https://", 8) != 0) {
        refuse("an address is wanted, as https://192.0.2.1:443/health", NULL);
    }
    read_url(argv[optind++]);
    for (; optind < argc && o.n_paths < PATHS_MAX; optind++) {
        o.paths[o.n_paths++] = argv[optind];
    }
    struct tsr_address *local = &o.port.listen[0].address;
    if (!local->family && o.port.kind == TSR_PORT_DPDK) {
        refuse("a device needs an address of its own: --local", NULL);
    }
    local->family = local->family ? local->family : o.server.family;
    if (!local->port && o.port.kind == TSR_PORT_DPDK) {
        local->port = PORT_DEFAULT;
    }
    if (local->family != o.server.family || !o.connections || !o.streams || !o.handshakes) {
        refuse("one of the numbers is 0, or --local is of another family", NULL);
    }
    o.port.n_listen = 1;
    o.method = o.method ? o.method : o.body ? "POST" : "GET";
}

/* ---- Figures ---- */

static void add(struct samples *samples, uint64_t ns)
{
    if (samples->n == samples->max) {
        samples->max = samples->max ? 2 * samples->max : 1024;
        samples->ns = realloc(samples->ns, samples->max * sizeof *samples->ns);
        if (!samples->ns) {
            abort();
        }
    }
    samples->ns[samples->n++] = ns;
}

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static void print_quantiles(const struct samples *s)
{
    static const struct {
        const char *name;
        double part;
    } quantiles[] = {{"p50", 0.5}, {"p99", 0.99}, {"p999", 0.999}, {"max", 1}};
    if (s->n) {
        qsort(s->ns, s->n, sizeof s->ns[0], by_value);
    }
    for (size_t i = 0; s->n && i < sizeof quantiles / sizeof *quantiles; i++) {
        size_t at = (size_t)(quantiles[i].part * (double)s->n);
        printf(" %s=%.2f", quantiles[i].name, (double)s->ns[at < s->n ? at : s->n - 1] / 1e3);
    }
    puts("");
}

static void print_figures(double seconds)
{
    struct tsr_port_counts counts;
    printf("connections open=%u of=%u retried=%u", established, o.connections, retried);
    print_quantiles(&handshakes);
    printf("answers good=%u bad=%u of=%ju per_s=%.0f", good, bad,
           (uintmax_t)o.connections * (o.warm + o.requests), (double)answers.n / seconds);
    print_quantiles(&answers);
    printf("gaps events=%ju", (uintmax_t)events);
    print_quantiles(&gaps);
    tsr_port_count(crowd_port(crowd), &counts);
    printf("packets in=%ju out=%ju\n", (uintmax_t)counts.rx_packets, (uintmax_t)counts.tx_packets);
    fflush(stdout);
}

/* ---- Asking ---- */

static void make_ready(struct client *client)
{
    struct job *job = client->user;
    if (!job->is_ready) {
        job->is_ready = true;
        ready[n_ready++] = client;
    }
}

static void end_job(struct job *job)
{
    over += !job->is_over;
    job->is_over = true;
}

static uint64_t count(const struct text *text, const char *word)
{
    uint64_t n = 0;
    for (const char *at = text->bytes; (at = strstr(at, word)); at += strlen(word)) {
        n++;
    }
    return n;
}

static void on_heard(struct answer *a, const uint8_t *bytes, size_t size)
{
    uint64_t now_ns = crowd_now_ns(crowd); /* pieces of one turn are one */
    if (a->heard_ns && now_ns != a->heard_ns) {
        add(&gaps, now_ns - a->heard_ns);
    }
    a->heard_ns = now_ns;
    text_put(&a->body, bytes, size);
}

static void on_over(struct answer *a)
{
    struct job *job = a->client->user;
    bool fine = a->ended && a->status < 400;
    job->answered++;
    good += fine;
    bad += !fine;
    if (a->asked_ns) {
        add(&answers, crowd_clock_ns() - a->asked_ns);
    }
    events += count(&a->body, "data: ");
    if (o.show) {
        printf("%s\n%s\n", a->head.bytes, a->body.bytes);
    }
    if (job->answered == o.warm + o.requests) {
        end_job(job);
    }
    make_ready(a->client);
}

static bool ask_one(struct client *client, struct job *job)
{
    const char *fields[PSEUDO + HEADERS_MAX][2] = {
        {":method", o.method},
        {":scheme", "https"},
        {":authority", o.name},
        {":path", o.paths[job->asked % o.n_paths]},
    };
    memcpy(fields + PSEUDO, o.headers, o.n_headers * sizeof fields[0]);
    uint64_t now_ns = job->asked < o.warm ? 0 : crowd_clock_ns();
    struct answer *a = client_try(client, (const char *const(*)[2])fields, PSEUDO + o.n_headers,
                                  o.body, o.body_bytes);
    if (!a) {
        return false;
    }
    a->asked_ns = now_ns;
    job->asked++;
    return true;
}

static void ask_more(struct client *client)
{
    struct job *job = client->user;
    job->is_ready = false;
    for (uint32_t i = client->n_answers; i-- > 0;) {
        if (client->answers[i]->is_over) {
            client_forget(client->answers[i]);
        }
    }
    while (!client->gone && client->http && job->asked < o.warm + o.requests &&
           client->n_answers < o.streams && ask_one(client, job)) {
    }
    crowd_wake(crowd, client);
}

static void on_changed(struct client *client)
{
    struct job *job = client->user;
    settled += !client->gone || !client->established;
    if (!client->gone) {
        established++;
        retried += client->retried;
        add(&handshakes, crowd_clock_ns() - job->begun_ns);
        return;
    }
    if (!job->is_over) {
        fprintf(stderr, "quic_client: a connection has ended: code %#jx of %s%s\n",
                (uintmax_t)client->error.error_code,
                client->error.type == NGTCP2_CCERR_TYPE_APPLICATION ? "HTTP/3" : "QUIC",
                client->reset ? ", a stateless reset" : "");
    }
    end_job(job);
}

/* ---- Running ---- */

static void turn(uint64_t until_ns)
{
    uint32_t n = crowd_take(crowd);
    while (n_ready) {
        ask_more(ready[--n_ready]);
    }
    crowd_send(crowd);
    if (n == 0 && !n_ready) {
        crowd_wait(crowd, until_ns);
    }
}

static void connect_one(void)
{
    struct job *job = &jobs[opened];
    const struct client_options options = {.name = o.name};
    job->begun_ns = crowd_clock_ns();
    struct client *client = crowd_connect(crowd, &options);
    client->user = job;
    client->heard = on_heard;
    client->over = on_over;
    clients[opened++] = client;
}

static void connect_all(uint64_t until_ns)
{
    while (settled < o.connections && crowd_clock_ns() < until_ns) {
        while (opened < o.connections && opened - settled < o.handshakes) {
            connect_one();
        }
        turn(until_ns);
    }
}

static double ask_all(uint64_t until_ns)
{
    uint64_t begun_ns = crowd_clock_ns();
    for (uint32_t i = 0; i < opened; i++) {
        make_ready(clients[i]);
    }
    while (over < o.connections && o.warm + o.requests && crowd_clock_ns() < until_ns) {
        turn(until_ns);
    }
    return (double)(crowd_clock_ns() - begun_ns) / 1e9;
}

static void hold(void)
{
    uint64_t until_ns = crowd_clock_ns() + o.hold_s * NGTCP2_SECONDS;
    puts("held");
    fflush(stdout);
    while (crowd_clock_ns() < until_ns) {
        turn(until_ns);
    }
}

int main(int argc, char **argv)
{
    struct tsr_err err = {0};
    read_options(argc, argv);
    tsr_log_set(NULL, NULL, TSR_LOG_ERROR);
    clients = calloc(o.connections, sizeof *clients);
    jobs = calloc(o.connections, sizeof *jobs);
    ready = calloc(o.connections, sizeof *ready);
    const struct crowd_options options = {
        .port = &o.port,
        .server = o.server,
        .clients_max = o.connections,
        .spin = o.spin,
        .changed = on_changed,
    };
    if (!clients || !jobs || !ready || crowd_create(&crowd, &options, &err) < 0) {
        fprintf(stderr, "quic_client: %s\n", err.text);
        return 1;
    }
    uint64_t until_ns = crowd_clock_ns() + o.timeout_s * NGTCP2_SECONDS;
    connect_all(until_ns);
    print_figures(ask_all(until_ns));
    if (o.hold_s) {
        hold();
    }
    crowd_destroy(crowd);
    return good == o.connections * (o.warm + o.requests) ? 0 : 1;
}
