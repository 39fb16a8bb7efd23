#include <tsr/serve/status.h>

#include <string.h>

#include <tsr/serve/frontend.h>

static void put_request(const struct tsr_frontend *f, const struct tsr_request *r, bool named,
                        uint64_t now_ns, struct tsr_wire_status_request *out)
{
    static const enum tsr_request_state states[] = {
        [TSR_SCHED_FREE] = TSR_REQUEST_WAITS,       [TSR_SCHED_WAITING] = TSR_REQUEST_WAITS,
        [TSR_SCHED_PREFILL] = TSR_REQUEST_PREFILLS, [TSR_SCHED_DECODE] = TSR_REQUEST_DECODES,
        [TSR_SCHED_PARKED] = TSR_REQUEST_PARKED,
    };
    enum tsr_request_state state = TSR_REQUEST_WAITS;
    if (r->seq != TSR_SCHED_NONE) {
        state = states[tsr_sched_state(f->sched, r->seq)];
    } else if (r->stage == TSR_STAGE_ENDS || r->stage == TSR_STAGE_SENDS) {
        state = TSR_REQUEST_PARKED;
    }
    *out = (struct tsr_wire_status_request){
        .request = named ? r->id : 0,
        .tenant = r->tenant,
        .age_ns = now_ns > r->submitted_ns ? now_ns - r->submitted_ns : 0,
        .state = state,
        .prompt_tokens = r->accepted_ns ? r->n_tokens : 0,
        .completion_tokens = r->produced,
        .tokens_max = r->tokens_max,
    };
}

static uint32_t put_requests(const struct tsr_frontend *f, const struct tsr_session *asker,
                             uint64_t now_ns, struct tsr_wire_status_request *out, uint32_t max)
{
    uid_t uid = tsr_channel_peer(asker->channel)->uid;
    uint32_t n = 0;
    for (uint32_t i = 0; i < f->sessions_end; i++) {
        const struct tsr_session *s = &f->sessions[i];
        if (!s->channel) {
            continue;
        }
        bool named = uid == 0 || uid == tsr_channel_peer(s->channel)->uid;
        for (const struct tsr_request *r = s->requests; r && n < max; r = r->next) {
            put_request(f, r, named, now_ns, &out[n++]);
        }
    }
    return n;
}

bool tsr_status_say(struct tsr_frontend *f, struct tsr_session *asker, uint64_t id, uint64_t now_ns)
{
    const struct tsr_status_plate *plate = &f->plate;
    uint32_t live = f->requests.n - f->requests.n_free;
    uint32_t n_requests = live < TSR_WIRE_STATUS_REQUESTS_MAX ? live : TSR_WIRE_STATUS_REQUESTS_MAX;
    uint32_t bytes = (uint32_t)(sizeof(struct tsr_wire_status) +
                                plate->n_nodes * sizeof(struct tsr_wire_status_node) +
                                plate->n_threads * sizeof(struct tsr_wire_status_thread) +
                                n_requests * sizeof(struct tsr_wire_status_request) +
                                sizeof(struct tsr_wire_status_counters));
    struct tsr_wire_status *status = tsr_channel_reserve(asker->channel, bytes);
    if (!status) {
        return false;
    }
    struct tsr_wire_status_node *nodes = (void *)(status + 1);
    struct tsr_wire_status_thread *threads = (void *)(nodes + plate->n_nodes);
    struct tsr_wire_status_request *requests = (void *)(threads + plate->n_threads);
    struct tsr_sched_counts counts = tsr_sched_counts(f->sched);
    uint64_t page_bytes = f->pages_total ? plate->kv_bytes / f->pages_total : 0;

    memset((uint8_t *)status + sizeof(struct tsr_record), 0,
           sizeof *status - sizeof(struct tsr_record));
    status->request = id;
    status->time_ns = now_ns;
    status->uptime_ns = now_ns - plate->started_ns;
    status->load_ns = plate->load_ns;
    status->weights_bytes = plate->weights_bytes;
    status->kv_bytes = plate->kv_bytes;
    status->kv_used_bytes = counts.pages_held * page_bytes;
    status->steps = f->counts.steps;
    status->prompt_tokens = f->counts.prompt_tokens;
    status->completion_tokens = f->counts.completion_tokens;
    status->requests_done = f->counts.requests_done;
    status->requests_refused = f->counts.requests_refused;
    status->requests_running = counts.prefill + counts.decode;
    status->requests_waiting = counts.waiting;
    status->requests_parked = counts.parked;
    status->channels = f->sessions_open;
    status->node_count = plate->n_nodes;
    status->thread_count = plate->n_threads;
    memcpy(status->model, plate->model, sizeof status->model);
    memcpy(status->architecture, plate->architecture, sizeof status->architecture);
    memcpy(status->weights, plate->weights, sizeof status->weights);
    memcpy(status->kernels, plate->kernels, sizeof status->kernels);
    memcpy(status->engine, TSR_VERSION, sizeof TSR_VERSION);
    memcpy(nodes, plate->nodes, plate->n_nodes * sizeof *nodes);
    memcpy(threads, plate->threads, plate->n_threads * sizeof *threads);
    bool works = counts.prefill + counts.decode > 0;
    for (uint32_t i = 0; i < plate->n_threads; i++) {
        if (strncmp(threads[i].name, "worker", 6) == 0) {
            threads[i].state = works             ? TSR_THREAD_WORKS
                               : f->options.spin ? TSR_THREAD_SPINS
                                                 : TSR_THREAD_SLEEPS;
        }
    }
    status->request_count = put_requests(f, asker, now_ns, requests, n_requests);
    status->counters_bytes = sizeof f->counts.sums;
    memcpy(requests + status->request_count, &f->counts.sums, sizeof f->counts.sums);
    tsr_channel_commit(asker->channel, TSR_EV_STATUS,
                       bytes - (uint32_t)((n_requests - status->request_count) *
                                          sizeof(struct tsr_wire_status_request)));
    return true;
}
