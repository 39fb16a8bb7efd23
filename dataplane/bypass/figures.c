#include "figures_priv.h"

#include <stddef.h>
#include <stdio.h>

#include <tsr/shm/bell.h>

void tsr_bypass_figures_init(struct tsr_bypass_figures *figures, const struct tsr_http3 *http3)
{
    *figures = (struct tsr_bypass_figures){.http3 = tsr_http3_counts(http3)};
    for (int woken = 0; woken < 2; woken++) {
        tsr_histogram_init(&figures->token_work[woken]);
        tsr_histogram_init(&figures->token[woken]);
    }
    tsr_histogram_init(&figures->request);
    tsr_histogram_init(&figures->bell);
}

/* One figure a name of drops[], from `from` on; names and labels are the same for all queues. */
static int show_drops(struct tsr_api *api, const char *name, const char *help,
                      const uint64_t *drops, unsigned from, unsigned n,
                      const char *(*cause)(unsigned), char (*labels)[32], struct tsr_err *err)
{
    int rc = 0;
    for (unsigned i = from; rc == 0 && i < n; i++) {
        snprintf(labels[i], sizeof labels[i], "cause=\"%s\"", cause(i));
        const struct tsr_figure figure = {name, help, TSR_FIGURE_COUNTER, labels[i], &drops[i]};
        rc = tsr_api_add_figure(api, &figure, err);
    }
    return rc;
}

static const char *http3_cause(unsigned drop)
{
    return tsr_http3_drop_names[drop];
}

static const char *port_cause(unsigned drop)
{
    return tsr_port_drop_name((enum tsr_port_drop)drop);
}

int tsr_bypass_figures_show(const struct tsr_bypass_figures *figures, struct tsr_api *api,
                            struct tsr_err *err)
{
    static char http3_labels[TSR_HTTP3_DROPS][32], port_labels[TSR_PORT_DROPS][32];
    const struct tsr_http3_counts *c = figures->http3;
    const struct tsr_port_counts *p = &figures->port;
    const char *closed = "Connections closed for an error";
    const char *stateless = "Answers to what belongs to no connection";
    const char *work = "From a token's publication until its datagram was given to the port";
    const char *token = "The same until the port had given it to the device or the kernel";
    const char *handed = "Datagrams that came to one queue and were another's";
    /* clang-format off */
    const struct tsr_figure rows[] = {
        {"tessera:door_connections", "Open connections", TSR_FIGURE_GAUGE, NULL, &c->conns},
        {"tessera:door_connections_total", "Connections accepted", TSR_FIGURE_COUNTER, NULL, &c->accepted},
        {"tessera:door_handshakes_open", "Handshakes under way", TSR_FIGURE_GAUGE, NULL, &c->handshakes},
        {"tessera:door_handshakes_total", "QUIC handshakes", TSR_FIGURE_COUNTER, "result=\"done\"", &c->established},
        {"tessera:door_closed_total", closed, TSR_FIGURE_COUNTER, "of=\"quic\"", &c->closed_transport},
        {"tessera:door_closed_total", closed, TSR_FIGURE_COUNTER, "of=\"http\"", &c->closed_http},
        {"tessera:door_excessive_total", "Connections closed for excessive load", TSR_FIGURE_COUNTER, NULL, &c->excessive},
        {"tessera:door_timeouts_total", "Connections idle and handshakes late", TSR_FIGURE_COUNTER, NULL, &c->timeouts},
        {"tessera:door_stateless_total", stateless, TSR_FIGURE_COUNTER, "kind=\"refused\"", &c->refused},
        {"tessera:door_stateless_total", stateless, TSR_FIGURE_COUNTER, "kind=\"retry\"", &c->retries},
        {"tessera:door_stateless_total", stateless, TSR_FIGURE_COUNTER, "kind=\"version\"", &c->negotiations},
        {"tessera:door_stateless_total", stateless, TSR_FIGURE_COUNTER, "kind=\"reset\"", &c->stateless_resets},
        {"tessera:door_bad_requests_total", "HTTP requests that were malformed, too large or too late", TSR_FIGURE_COUNTER, NULL, &c->bad_requests},
        {"tessera:door_datagrams_received_total", "Datagrams from clients", TSR_FIGURE_COUNTER, NULL, &c->datagrams_in},
        {"tessera:door_datagrams_sent_total", "Datagrams to clients", TSR_FIGURE_COUNTER, NULL, &c->datagrams_out},
        {"tessera:door_bytes_received_total", "Bytes from clients", TSR_FIGURE_COUNTER, NULL, &c->bytes_in},
        {"tessera:door_bytes_sent_total", "Bytes to clients", TSR_FIGURE_COUNTER, NULL, &c->bytes_out},
        {"tessera:door_no_room_total", "Times that the port could take no more", TSR_FIGURE_COUNTER, NULL, &c->no_room},
        {"tessera:door_memory_bytes", "Memory of QUIC, HTTP/3 and answers", TSR_FIGURE_GAUGE, NULL, &c->bytes},
        {"tessera:door_packets_received_total", "Packets that the port has seen", TSR_FIGURE_COUNTER, NULL, &p->rx_packets},
        {"tessera:door_packets_sent_total", "Packets that the port has sent", TSR_FIGURE_COUNTER, NULL, &p->tx_packets},
        {"tessera:door_packets_missed_total", "Packets lost before the port saw them", TSR_FIGURE_COUNTER, NULL, &p->rx_missed},
        {"tessera:door_packets_answered_total", "ARP, neighbour discovery and echo, answered by the port", TSR_FIGURE_COUNTER, NULL, &p->answered},
        {"tessera:door_handed_over_total", handed, TSR_FIGURE_COUNTER, "result=\"taken\"", &figures->handed_over},
        {"tessera:door_handed_over_total", handed, TSR_FIGURE_COUNTER, "result=\"lost\"", &figures->not_handed_over},
        {"tessera:door_token_work_seconds", work, TSR_FIGURE_HISTOGRAM, "woken=\"no\"", &figures->token_work[0]},
        {"tessera:door_token_work_seconds", work, TSR_FIGURE_HISTOGRAM, "woken=\"yes\"", &figures->token_work[1]},
        {"tessera:door_token_seconds", token, TSR_FIGURE_HISTOGRAM, "woken=\"no\"", &figures->token[0]},
        {"tessera:door_token_seconds", token, TSR_FIGURE_HISTOGRAM, "woken=\"yes\"", &figures->token[1]},
        {"tessera:door_request_seconds", "From a request's last byte until its record was there for the engine", TSR_FIGURE_HISTOGRAM, NULL, &figures->request},
        {"tessera:door_bell_seconds", "Waking an engine that sleeps", TSR_FIGURE_HISTOGRAM, NULL, &figures->bell},
    };
    /* clang-format on */
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < sizeof rows / sizeof *rows; i++) {
        rc = tsr_api_add_figure(api, &rows[i], err);
    }
    rc = rc ? rc
            : show_drops(api, "tessera:door_datagrams_dropped_total", "Datagrams that QUIC dropped",
                         c->drops, 0, TSR_HTTP3_DROPS, http3_cause, http3_labels, err);
    return rc ? rc
              : show_drops(api, "tessera:door_packets_dropped_total",
                           "Packets that the port dropped", p->dropped, TSR_PORT_TAKEN + 1,
                           TSR_PORT_DROPS, port_cause, port_labels, err);
}

static void observe(struct tsr_histogram *histogram, uint64_t from_ns, uint64_t to_ns)
{
    tsr_histogram_observe(histogram, from_ns < to_ns ? (double)(to_ns - from_ns) * 1e-9 : 0);
}

void tsr_bypass_figures_tokens(const struct tsr_http3 *http3, struct tsr_histogram *histogram)
{
    const uint64_t *published_ns;
    uint32_t n = tsr_http3_tokens(http3, &published_ns);
    uint64_t now_ns = n ? tsr_clock_ns() : 0;
    for (uint32_t i = 0; i < n; i++) {
        observe(histogram, published_ns[i], now_ns);
    }
}

void tsr_bypass_figures_requests(struct tsr_bypass_figures *figures, uint64_t came_ns)
{
    uint64_t now_ns = figures->whole < figures->http3->whole ? tsr_clock_ns() : 0;
    for (; figures->whole < figures->http3->whole; figures->whole++) {
        observe(&figures->request, came_ns, now_ns);
    }
}
