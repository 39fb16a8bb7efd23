#include "engine_priv.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <tsr/shm/log.h>

enum { EVENTS_A_TURN = 4096, CHECK_MS = 100, STATUS_MS = 100 };

enum { STATUS_SLOT = (1 << API_SLOT_BITS) - 1 };

static const double seconds_short[] = {0.001, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08,
                                       0.1,   0.25,   0.5,   0.75, 1,    2.5,  5,    7.5,
                                       10,    20,     40,    80,   160,  640,  2560};
static const double seconds_token[] = {0.001, 0.0025, 0.005, 0.01, 0.015, 0.02, 0.025, 0.03,
                                       0.04,  0.05,   0.075, 0.1,  0.15,  0.2,  0.3,   0.4,
                                       0.5,   0.75,   1,     2.5,  5,     7.5,  10};
static const double seconds_long[] = {0.01, 0.05, 0.1, 0.3, 0.5, 0.8, 1,  1.5, 2,   2.5, 5,
                                      10,   15,   20,  30,  40,  50,  60, 120, 240, 480, 960};
static const double tokens[] = {1,    2,    5,    10,    20,    50,    100,    200,    500,
                                1000, 2000, 5000, 10000, 20000, 50000, 100000, 200000, 500000};

#define HISTOGRAM(b) ((struct tsr_histogram){.bounds = (b), .n_bounds = sizeof(b) / sizeof(b)[0]})

void api_engine_init(struct api_engine *engine, struct tsr_api *api, uint32_t index,
                     const char *path)
{
    *engine = (struct api_engine){.api = api, .index = index, .path = path, .events_max = 1};
    engine->link.fd = -1;
    tsr_out_init(&engine->name_json, engine->name_room, sizeof engine->name_room);
    engine->observed = (struct api_observed){
        .first_token = HISTOGRAM(seconds_short),
        .inter_token = HISTOGRAM(seconds_token),
        .latency = HISTOGRAM(seconds_long),
        .queue = HISTOGRAM(seconds_short),
        .prefill = HISTOGRAM(seconds_short),
        .decode = HISTOGRAM(seconds_long),
        .prompt_tokens = HISTOGRAM(tokens),
        .generation_tokens = HISTOGRAM(tokens),
    };
}

void api_engine_fini(struct api_engine *engine)
{
    if (engine->connected) {
        tsr_link_close(&engine->link);
    }
    free(engine->slots);
}

void api_engine_connected(struct api_engine *engine, const struct tsr_link *link,
                          struct api_slot *slots, uint32_t n_slots)
{
    engine->link = *link;
    engine->hello = link->hello;
    engine->slots = slots;
    engine->n_slots = n_slots;
    engine->free_slot = engine->owing_first = engine->owing_last = 0;
    for (uint32_t i = n_slots; i > 0; i--) {
        slots[i - 1] = (struct api_slot){.next = engine->free_slot};
        engine->free_slot = i;
    }
    engine->live = 0;
    engine->connected = true;
    engine->since_s = (int64_t)time(NULL);
    engine->status.waits = false;
    engine->check_ns = 0;
    api_model_name(engine);
}

/* ---- What is to be said ---- */

static struct api_slot *slot_of(struct api_engine *engine, uint64_t id)
{
    uint64_t at = (id & ((1u << API_SLOT_BITS) - 1)) - 1;
    return id && at < engine->n_slots && engine->slots[at].id == id ? &engine->slots[at] : NULL;
}

static void owe(struct api_engine *engine, struct api_slot *slot)
{
    if (slot->owes) {
        return;
    }
    uint32_t number = (uint32_t)(slot - engine->slots) + 1;
    slot->owes = true;
    slot->next = 0;
    if (engine->owing_last) {
        engine->slots[engine->owing_last - 1].next = number;
    } else {
        engine->owing_first = number;
    }
    engine->owing_last = number;
}

static void stop_sending(struct api_engine *engine, struct api_ask *ask)
{
    struct api_ask *before = NULL;
    for (struct api_ask *at = engine->sending; at; before = at, at = at->next_sending) {
        if (at != ask) {
            continue;
        }
        if (before) {
            before->next_sending = ask->next_sending;
        } else {
            engine->sending = ask->next_sending;
        }
        if (engine->sending_last == ask) {
            engine->sending_last = before;
        }
        engine->n_sending--;
        ask->sending = false;
        return;
    }
}

void api_engine_submit(struct api_engine *engine, struct api_ask *ask)
{
    ask->sending = true;
    ask->next_sending = NULL;
    if (engine->sending_last) {
        engine->sending_last->next_sending = ask;
    } else {
        engine->sending = ask;
    }
    engine->sending_last = ask;
    engine->n_sending++;
}

void api_engine_leave(struct api_engine *engine, struct api_ask *ask)
{
    if (ask->sending) {
        stop_sending(engine, ask);
    }
    struct api_slot *slot = slot_of(engine, ask->id);
    if (slot) {
        slot->ask = NULL;
        slot->cancel = true;
        owe(engine, slot);
    }
    ask->id = 0;
}

void api_engine_grant(struct api_engine *engine, struct api_ask *ask, uint32_t credit)
{
    struct api_slot *slot = slot_of(engine, ask->id);
    if (slot) {
        slot->credit += credit;
        owe(engine, slot);
    }
}

static bool send_plain(struct api_engine *engine, enum tsr_wire_type type, uint64_t id,
                       uint32_t credit)
{
    struct tsr_wire_credit *record; /* CANCEL and STATUS have its size, and zeros */
    static_assert(sizeof *record == sizeof(struct tsr_wire_plain), "one size");
    if (tsr_link_reserve(&engine->link, sizeof *record, (void **)&record) != 1) {
        return false;
    }
    record->request = id;
    record->credit = credit;
    record->reserved = 0;
    tsr_link_commit(&engine->link, type, sizeof *record);
    return true;
}

/* Credit and cancels; false: the ring is full. */
static bool send_owed(struct api_engine *engine)
{
    while (engine->owing_first) {
        struct api_slot *slot = &engine->slots[engine->owing_first - 1];
        if (slot->id && slot->cancel) {
            if (!send_plain(engine, TSR_REQ_CANCEL, slot->id, 0)) {
                return false;
            }
        } else if (slot->id && slot->credit) {
            if (!send_plain(engine, TSR_REQ_CREDIT, slot->id, slot->credit)) {
                return false;
            }
        }
        bool ended = slot->id == 0;
        uint32_t number = engine->owing_first;
        engine->owing_first = slot->next;
        if (!engine->owing_first) {
            engine->owing_last = 0;
        }
        slot->credit = 0;
        slot->cancel = slot->owes = false;
        if (ended) { /* its final event came while it was in this list */
            slot->next = engine->free_slot;
            engine->free_slot = number;
        }
    }
    return true;
}

static void free_slot(struct api_engine *engine, struct api_slot *slot)
{
    slot->id = 0;
    slot->ask = NULL;
    engine->live--;
    if (!slot->owes) { /* otherwise its `next` is the other list's: send_owed() frees it */
        slot->next = engine->free_slot;
        engine->free_slot = (uint32_t)(slot - engine->slots) + 1;
    }
}

static uint32_t chunk_of(size_t before, uint32_t left)
{
    size_t most = TSR_WIRE_RECORD_BYTES_MAX - before;
    return left < most ? left : (uint32_t)most;
}

/* A slot, and SUBMIT with the payload's first part. False: not now. */
static bool send_submit(struct api_engine *engine, struct api_ask *ask)
{
    const struct tsr_api_exchange *x = ask->exchange;
    uint32_t options_bytes = (uint32_t)x->submit.size;
    uint32_t chunk = chunk_of(options_bytes, ask->payload_bytes);
    void *record;
    if (!engine->free_slot ||
        tsr_link_reserve(&engine->link, options_bytes + chunk, &record) != 1) {
        return false;
    }
    struct api_slot *slot = &engine->slots[engine->free_slot - 1];
    uint64_t id = ++engine->ids << API_SLOT_BITS | engine->free_slot;
    engine->free_slot = slot->next;
    *slot = (struct api_slot){.id = id, .ask = ask};
    engine->live++;
    ask->id = id;

    struct tsr_wire_submit *submit = record;
    size_t from = sizeof submit->record;
    memcpy((uint8_t *)record + from, x->submit.bytes + from, options_bytes - from);
    submit->request = id;
    submit->payload_bytes = ask->payload_bytes;
    submit->chunk_bytes = chunk;
    submit->seed += ask->index; /* choices differ */
    memcpy((uint8_t *)record + options_bytes, x->payload.bytes + ask->payload_off, chunk);
    tsr_link_commit(&engine->link, TSR_REQ_SUBMIT, options_bytes + chunk);
    ask->payload_sent = chunk;
    return true;
}

static bool send_rest(struct api_engine *engine, struct api_ask *ask)
{
    while (ask->payload_sent < ask->payload_bytes) {
        struct tsr_wire_continue *record;
        uint32_t chunk = chunk_of(sizeof *record, ask->payload_bytes - ask->payload_sent);
        uint32_t bytes = (uint32_t)sizeof *record + chunk;
        if (tsr_link_reserve(&engine->link, bytes, (void **)&record) != 1) {
            return false;
        }
        record->request = ask->id;
        record->payload_off = ask->payload_sent;
        record->chunk_bytes = chunk;
        memcpy(record + 1, ask->exchange->payload.bytes + ask->payload_off + ask->payload_sent,
               chunk);
        tsr_link_commit(&engine->link, TSR_REQ_CONTINUE, bytes);
        ask->payload_sent += chunk;
    }
    return true;
}

static void send_asks(struct api_engine *engine)
{
    while (engine->sending) {
        struct api_ask *ask = engine->sending;
        if ((!ask->id && !send_submit(engine, ask)) || !send_rest(engine, ask)) {
            return;
        }
        stop_sending(engine, ask);
        api_ask_sent(ask);
    }
}

uint32_t api_engine_pump(struct api_engine *engine)
{
    if (!engine->connected) {
        return 0;
    }
    if (send_owed(engine)) {
        send_asks(engine);
    }
    return (uint32_t)tsr_link_flush(&engine->link);
}

bool api_engine_is_behind(const struct api_engine *engine)
{
    /* Those that wait for a slot are woken by the event that frees it. */
    return engine->connected &&
           (engine->owing_first || (engine->sending && (engine->sending->id || engine->free_slot)));
}

void api_engine_ask_status(struct api_engine *engine, uint64_t now_ns)
{
    struct api_status *status = &engine->status;
    if (!engine->connected || status->waits ||
        (status->asked_ns && now_ns - status->asked_ns < STATUS_MS * UINT64_C(1000000))) {
        return;
    }
    if (send_plain(engine, TSR_REQ_STATUS, ++engine->ids << API_SLOT_BITS | STATUS_SLOT, 0)) {
        status->waits = true;
        status->asked_ns = now_ns;
    }
}

/* ---- What it says ---- */

static void keep_status(struct api_engine *engine, const void *record,
                        const struct tsr_record_info *info)
{
    engine->status.waits = false;
    if (info->type == TSR_EV_STATUS && info->bytes >= sizeof(struct tsr_wire_status) &&
        info->bytes <= sizeof engine->status.record) {
        memcpy(engine->status.record, record, info->bytes);
        engine->status.bytes = info->bytes;
    }
}

static void take_event(struct api_engine *engine, const void *record,
                       const struct tsr_record_info *info)
{
    uint64_t id;
    if (info->bytes < sizeof(struct tsr_record) + sizeof id) {
        return;
    }
    memcpy(&id, (const uint8_t *)record + sizeof(struct tsr_record), sizeof id);
    if ((id & STATUS_SLOT) == STATUS_SLOT) {
        keep_status(engine, record, info);
        return;
    }
    struct api_slot *slot = slot_of(engine, id);
    if (!slot) {
        return;
    }
    struct api_ask *ask = slot->ask;
    if (info->type == TSR_EV_DONE || info->type == TSR_EV_ERROR) {
        free_slot(engine, slot);
        if (ask) {
            if (ask->sending) {
                stop_sending(engine, ask);
            }
            ask->id = 0;
        }
    }
    if (ask) {
        api_ask_event(ask, record, info);
    }
}

uint32_t api_engine_take(struct api_engine *engine, uint64_t now_ns)
{
    uint32_t n = 0;
    const void *record;
    struct tsr_record_info info;
    while (engine->connected && n < engine->events_max &&
           tsr_link_peek(&engine->link, &record, &info) == 1) {
        take_event(engine, record, &info);
        tsr_link_next(&engine->link);
        n++;
    }
    const uint32_t doubled = n < EVENTS_A_TURN / 2 ? 2 * n : EVENTS_A_TURN;
    engine->events_max = n < engine->events_max ? 1 : doubled;
    if (engine->connected && n == 0) {
        /* What was written before the end counts, so the end is looked at last. */
        if (!engine->link.lost.code && now_ns >= engine->check_ns) {
            engine->check_ns = now_ns + CHECK_MS * UINT64_C(1000000);
            (void)tsr_link_check(&engine->link);
        } else if (engine->link.lost.code) {
            api_engine_lose(engine);
        }
    }
    return n;
}

void api_engine_lose(struct api_engine *engine)
{
    tsr_log(TSR_LOG_WARN, "%s: %s", engine->path, engine->link.lost.text);
    engine->connected = false;
    engine->status.waits = false;
    tsr_link_close(&engine->link);
    while (engine->sending) {
        struct api_ask *ask = engine->sending;
        stop_sending(engine, ask);
        if (!ask->id) {
            api_ask_lost(ask);
        }
    }
    for (uint32_t i = 0; i < engine->n_slots; i++) {
        struct api_ask *ask = engine->slots[i].ask;
        engine->slots[i] = (struct api_slot){0};
        if (ask) {
            ask->id = 0;
            api_ask_lost(ask);
        }
    }
    free(engine->slots);
    engine->slots = NULL;
    engine->n_slots = 0;
    engine->owing_first = engine->owing_last = 0;
    api_connector_want(engine->api->connector, engine->index);
}
