#include "loop_priv.h"

#include <stddef.h>

int tsr_loop_show_figures(struct tsr_loop *loop, struct tsr_err *err)
{
    const struct tsr_conns_figures *c = &loop->conns->figures;
    struct tsr_loop_figures *l = &loop->figures;
    for (int woken = 0; woken < 2; woken++) {
        tsr_histogram_init(&l->token_work[woken]);
        tsr_histogram_init(&l->token[woken]);
    }
    tsr_histogram_init(&l->request);
    tsr_histogram_init(&l->bell);
    const char *refused = "Connections that were closed at once";
    const char *handshakes = "TLS handshakes";
    const char *work = "From a token's publication until the kernel was called with its bytes";
    const char *token = "The same until that call returned, which may have woken the client";
    const struct tsr_figure figures[] = {
        {"tessera:door_connections", "Open connections", TSR_FIGURE_GAUGE, NULL, &c->open},
        {"tessera:door_connections_total", "Connections accepted", TSR_FIGURE_COUNTER, NULL,
         &c->accepted},
        {"tessera:door_refused_total", refused, TSR_FIGURE_COUNTER, "reason=\"full\"", &l->refused},
        {"tessera:door_refused_total", refused, TSR_FIGURE_COUNTER, "reason=\"address\"",
         &c->refused_address},
        {"tessera:door_handshakes_total", handshakes, TSR_FIGURE_COUNTER, "result=\"done\"",
         &c->handshakes},
        {"tessera:door_handshakes_total", handshakes, TSR_FIGURE_COUNTER, "result=\"failed\"",
         &c->handshakes_failed},
        {"tessera:door_handshakes_total", handshakes, TSR_FIGURE_COUNTER, "result=\"late\"",
         &c->handshakes_late},
        {"tessera:door_bytes_received_total", "Bytes from clients", TSR_FIGURE_COUNTER, NULL,
         &c->received_bytes},
        {"tessera:door_bytes_sent_total", "Bytes to clients", TSR_FIGURE_COUNTER, NULL,
         &c->sent_bytes},
        {"tessera:door_bad_requests_total",
         "HTTP requests that were malformed, too large or too late", TSR_FIGURE_COUNTER, NULL,
         &l->malformed},
        {"tessera:door_heads_bytes", "Memory of heads that come in pieces", TSR_FIGURE_GAUGE, NULL,
         &l->heads_bytes},
        {"tessera:door_answers_bytes", "Memory of answers that wait to be sent", TSR_FIGURE_GAUGE,
         NULL, &l->answers_bytes},
        {"tessera:door_held_bytes", "Memory of requests behind one that is answered",
         TSR_FIGURE_GAUGE, NULL, &loop->conns->held_bytes},
        {"tessera:door_no_buffer_total", "Receives that had to wait for a buffer",
         TSR_FIGURE_COUNTER, NULL, &c->no_buffer},
        {"tessera:door_accept_pauses_total", "Times that descriptors or memory were lacking",
         TSR_FIGURE_COUNTER, NULL, &l->accept_pauses},
        {"tessera:door_idle_closed_total", "Idle connections that made room for others",
         TSR_FIGURE_COUNTER, NULL, &l->idle_closed},
        {"tessera:door_enters_total", "Calls of io_uring_enter", TSR_FIGURE_COUNTER, NULL,
         &l->enters},
        {"tessera:door_token_work_seconds", work, TSR_FIGURE_HISTOGRAM, "woken=\"no\"",
         &l->token_work[0]},
        {"tessera:door_token_work_seconds", work, TSR_FIGURE_HISTOGRAM, "woken=\"yes\"",
         &l->token_work[1]},
        {"tessera:door_token_seconds", token, TSR_FIGURE_HISTOGRAM, "woken=\"no\"", &l->token[0]},
        {"tessera:door_token_seconds", token, TSR_FIGURE_HISTOGRAM, "woken=\"yes\"", &l->token[1]},
        {"tessera:door_request_seconds",
         "From a request's last byte until its record was there for the engine",
         TSR_FIGURE_HISTOGRAM, NULL, &l->request},
        {"tessera:door_bell_seconds", "Waking an engine that sleeps", TSR_FIGURE_HISTOGRAM, NULL,
         &l->bell},
    };
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < sizeof figures / sizeof *figures; i++) {
        rc = tsr_api_add_figure(loop->o.api, &figures[i], err);
    }
    return rc;
}
