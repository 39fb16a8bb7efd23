#include "tessera_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static_assert(TSR_WIRE_STATUS_NODES_MAX == 16 && TSR_WIRE_STATUS_THREADS_MAX == 128 &&
                  TSR_WIRE_STATUS_REQUESTS_MAX == 64 && TSR_WIRE_STATUS_REASONS == 16,
              "struct tessera_status has room for what the wire brings");

static void copy_string(char *out, const char *in, size_t bytes)
{
    memcpy(out, in, bytes);
    out[bytes - 1] = '\0';
}

/* What stands behind the requests; a version with other counters shows those that both know. */
static void decode_counters(const struct tsr_wire_status *s, const void *at, const void *end,
                            struct tessera_status *out)
{
    struct tsr_wire_status_counters counters = {0};
    size_t bytes = s->counters_bytes < sizeof counters ? s->counters_bytes : sizeof counters;
    if (bytes > (size_t)((const uint8_t *)end - (const uint8_t *)at)) {
        return;
    }
    memcpy(&counters, at, bytes);
    memcpy(out->requests_ended, counters.requests_ended, sizeof out->requests_ended);
    out->cached_tokens = counters.cached_tokens;
    out->queue_ns = counters.queue_ns;
    out->prefill_ns = counters.prefill_ns;
    out->decode_ns = counters.decode_ns;
}

/* `record` is a copy in which nothing changes; its counts are not trusted. */
static bool decode(const struct tsr_wire_status *s, uint32_t bytes, struct tessera_status *out)
{
    if (bytes < sizeof *s || s->node_count > TSR_WIRE_STATUS_NODES_MAX ||
        s->thread_count > TSR_WIRE_STATUS_THREADS_MAX ||
        s->request_count > TSR_WIRE_STATUS_REQUESTS_MAX ||
        bytes < sizeof *s + s->node_count * sizeof(struct tsr_wire_status_node) +
                    s->thread_count * sizeof(struct tsr_wire_status_thread) +
                    s->request_count * sizeof(struct tsr_wire_status_request)) {
        return false;
    }
    memset(out, 0, sizeof *out);
    copy_string(out->model, s->model, sizeof out->model);
    copy_string(out->architecture, s->architecture, sizeof out->architecture);
    copy_string(out->weights, s->weights, sizeof out->weights);
    copy_string(out->kernels, s->kernels, sizeof out->kernels);
    copy_string(out->engine, s->engine, sizeof out->engine);
    out->uptime_ns = s->uptime_ns;
    out->load_ns = s->load_ns;
    out->weights_bytes = s->weights_bytes;
    out->kv_bytes = s->kv_bytes;
    out->kv_used_bytes = s->kv_used_bytes;
    out->steps = s->steps;
    out->prompt_tokens = s->prompt_tokens;
    out->completion_tokens = s->completion_tokens;
    out->requests_done = s->requests_done;
    out->requests_refused = s->requests_refused;
    out->requests_running = s->requests_running;
    out->requests_waiting = s->requests_waiting;
    out->requests_parked = s->requests_parked;
    out->channels = s->channels;
    out->node_count = s->node_count;
    out->thread_count = s->thread_count;
    out->request_count = s->request_count;
    const struct tsr_wire_status_node *nodes = (const void *)(s + 1);
    const struct tsr_wire_status_thread *threads = (const void *)(nodes + s->node_count);
    const struct tsr_wire_status_request *requests = (const void *)(threads + s->thread_count);
    for (uint32_t i = 0; i < s->node_count; i++) {
        out->nodes[i] = (struct tessera_status_node){
            .node = nodes[i].node,
            .bytes_1g = nodes[i].bytes_1g,
            .bytes_2m = nodes[i].bytes_2m,
            .bytes_thp = nodes[i].bytes_thp,
            .bytes_4k = nodes[i].bytes_4k,
            .misplaced_bytes = nodes[i].misplaced_bytes,
        };
    }
    for (uint32_t i = 0; i < s->thread_count; i++) {
        out->threads[i] = (struct tessera_status_thread){
            .cpu = threads[i].cpu,
            .node = threads[i].node,
            .state = (enum tessera_thread_state)threads[i].state,
        };
        copy_string(out->threads[i].name, threads[i].name, sizeof out->threads[i].name);
    }
    for (uint32_t i = 0; i < s->request_count; i++) {
        out->requests[i] = (struct tessera_status_request){
            .id = requests[i].request,
            .tenant = requests[i].tenant,
            .age_ns = requests[i].age_ns,
            .state = (enum tessera_request_state)requests[i].state,
            .prompt_tokens = requests[i].prompt_tokens,
            .completion_tokens = requests[i].completion_tokens,
            .tokens_max = requests[i].tokens_max,
        };
    }
    decode_counters(s, requests + s->request_count, (const uint8_t *)s + bytes, out);
    return true;
}

static int keep(struct tessera *t, const void *record, const struct tsr_record_info *info)
{
    struct kept *kept = malloc(sizeof *kept + info->bytes);
    if (!kept) {
        return -ENOMEM;
    }
    kept->next = NULL;
    kept->info = *info;
    memcpy(kept->bytes, record, info->bytes);
    *t->kept_end = kept;
    t->kept_end = &kept->next;
    return 0;
}

/* Takes what is in the ring: 1 the answer came, 0 not yet, negative: it failed. */
static int look(struct tessera *t, uint64_t id, struct tessera_status *status,
                struct tessera_error *err)
{
    const void *record;
    struct tsr_record_info info;
    while (tsr_link_peek(&t->link, &record, &info) == 1) {
        const struct tsr_wire_error *error = record;
        if (info.bytes < sizeof(struct tsr_record) + sizeof(uint64_t) || error->request != id) {
            if (keep(t, record, &info) != 0) {
                return tessera_fail(err, -ENOMEM, "no memory to keep an event");
            }
            tsr_link_next(&t->link);
            continue;
        }
        int result;
        if (info.type == TSR_EV_STATUS && decode(record, info.bytes, status)) {
            result = 1;
        } else if (info.type == TSR_EV_ERROR && info.bytes >= sizeof *error) {
            uint32_t bytes = error->text_bytes < sizeof error->text ? error->text_bytes
                                                                    : (uint32_t)sizeof error->text;
            result = tessera_fail(err, -EIO, "the engine gives no status: %.*s", (int)bytes,
                                  error->text);
        } else {
            result = tessera_fail(err, -EIO, "the engine's status makes no sense to this version");
        }
        tsr_link_next(&t->link);
        return result;
    }
    return 0;
}

static int ask(struct tessera *t, uint64_t id)
{
    struct tsr_wire_plain *record;
    int got = tsr_link_reserve(&t->link, sizeof *record, (void **)&record);
    if (got == 1) {
        record->request = id;
        record->reserved = 0;
        tsr_link_commit(&t->link, TSR_REQ_STATUS, sizeof *record);
        tsr_link_flush(&t->link);
    }
    return got;
}

int tessera_status(struct tessera *t, struct tessera_status *status, int timeout_ms,
                   struct tessera_error *err)
{
    if (t->link.lost.code) {
        return tessera_lost(t, err);
    }
    if (t->armed) {
        t->armed = false;
        tsr_link_disarm(&t->link);
    }
    tessera_let_go(t);
    struct live *live = tessera_live_begin(t);
    if (!live) {
        return tessera_fail(err, -EAGAIN, "%u requests are live: take events first",
                            (unsigned)t->live_count);
    }
    uint64_t deadline_ns =
        timeout_ms < 0 ? UINT64_MAX : tsr_clock_ns() + (uint64_t)timeout_ms * 1000000u;
    int asked = 0, result = 0;
    while (result == 0) {
        tessera_pump(t);
        if (!asked) {
            asked = ask(t, live->id);
        }
        result = look(t, live->id, status, err);
        if (result == 0 && (t->link.lost.code || asked < 0)) {
            result = tessera_lost(t, err);
        }
        if (result == 0 && tessera_rest(t, deadline_ns) == 0) {
            result = look(t, live->id, status, err);
            if (result == 0) {
                result = tessera_fail(err, -ETIMEDOUT, "the engine gave no status within %d ms",
                                      timeout_ms);
            }
        }
    }
    /* An answer that comes later finds no live request of this id, and is dropped. */
    tessera_live_end(t, live);
    return result > 0 ? 0 : result;
}
