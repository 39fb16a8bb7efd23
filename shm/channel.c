#include "channel_priv.h"

#include <tsr/shm/bell.h>
#include <tsr/shm/guard.h>

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const struct tsr_channel_peer *tsr_channel_peer(const struct tsr_channel *channel)
{
    return &channel->peer;
}

void tsr_channel_set_owner(struct tsr_channel *channel, void *owner)
{
    channel->owner = owner;
}

void *tsr_channel_owner(const struct tsr_channel *channel)
{
    return channel->owner;
}

void channel_format(struct tsr_channel *channel)
{
    channel->client = (const void *)channel->requests.base;
    channel->ctl = (void *)channel->events.base;
    channel->guards[0] = channel->requests.guard;
    channel->guards[1] = channel->events.guard;
    uint64_t request_key = tsr_ring_key();
    uint64_t event_key = tsr_ring_key();
    struct tsr_event_ctl *ctl = channel->ctl;
    ctl->version = TSR_WIRE_VERSION;
    ctl->requests_max = channel->peer.requests_max;
    ctl->request_key = request_key;
    ctl->event_key = event_key;
    tsr_ring_consumer_init(&channel->in, channel->requests.base + TSR_CTL_BYTES,
                           channel->requests.bytes - TSR_CTL_BYTES, &ctl->request_head,
                           request_key);
    tsr_ring_producer_init(&channel->out, channel->events.base + TSR_CTL_BYTES,
                           channel->events.bytes - TSR_CTL_BYTES, &channel->client->event_head,
                           event_key);
    /* R3: shows the keys; pairs with A3 in tsr_link_open(). */
    atomic_store_explicit(&ctl->magic, TSR_EVENT_MAGIC, memory_order_release);
}

/* ---- Health ---- */

bool tsr_channel_is_broken(const struct tsr_channel *channel)
{
    return channel->broken;
}

const char *tsr_channel_why(const struct tsr_channel *channel)
{
    return channel->why;
}

void tsr_channel_break(struct tsr_channel *channel, const char *format, ...)
{
    if (channel->broken) {
        return;
    }
    channel->broken = true;
    va_list args;
    va_start(args, format);
    vsnprintf(channel->why, sizeof channel->why, format, args);
    va_end(args);
}

static bool page_failed(const struct tsr_channel *channel)
{
    return tsr_guard_failed(channel->guards[0]) || tsr_guard_failed(channel->guards[1]);
}

static int broke_request(struct tsr_channel *channel)
{
    tsr_channel_break(channel, "the header of the request record at position %llu is impossible",
                      (unsigned long long)channel->in.head);
    return -EPROTO;
}

static void broke_event(struct tsr_channel *channel)
{
    if (page_failed(channel)) {
        tsr_channel_break(channel, "a page of the shared memory failed (SIGBUS)");
    }
    tsr_channel_break(
        channel, "the consumer index of the event ring is impossible: it was %llu, %llu is written",
        (unsigned long long)channel->out.head_seen, (unsigned long long)channel->out.tail);
}

/* ---- Room ---- */

/* Whether `need` bytes are free. Looks at the client's index only when it must. */
static bool has_room(struct tsr_channel *channel, uint64_t need)
{
    struct tsr_ring_producer *out = &channel->out;
    if (out->bytes - (out->written - out->head_seen) >= need) {
        return true;
    }
    int64_t room = tsr_ring_room(out);
    if (room < 0) {
        broke_event(channel);
        return false;
    }
    if ((uint64_t)room < need) {
        if (!channel->starved_bytes || need < channel->starved_bytes) {
            channel->starved_bytes = need;
        }
        return false;
    }
    return true;
}

/* ---- Requests ---- */

bool tsr_channel_has_request(const struct tsr_channel *channel)
{
    return !channel->broken && tsr_ring_has_record(&channel->in);
}

int tsr_channel_read(struct tsr_channel *channel, void *out, struct tsr_wire_request *request,
                     struct tsr_err *err)
{
    if (channel->broken) {
        return -EPROTO;
    }
    const void *record;
    struct tsr_record_info info;
    int got = tsr_ring_peek(&channel->in, &record, &info);
    if (got == 0 && page_failed(channel)) {
        tsr_channel_break(channel, "a page of the shared memory failed (SIGBUS)");
        return -EPROTO;
    }
    if (got < 0) {
        return broke_request(channel);
    }
    if (got == 0) {
        return 0;
    }
    channel->read_blocked =
        !has_room(channel, tsr_ring_cost(&channel->out, TSR_WIRE_FINAL_BYTES_MAX) +
                               channel_reserve_bytes(channel->live));
    if (channel->read_blocked) {
        return channel->broken ? -EPROTO : 0;
    }
    /* Reads the header anew: what it says now is what counts. */
    got = tsr_ring_read(&channel->in, out, TSR_WIRE_RECORD_BYTES_MAX, &info);
    if (got == -EMSGSIZE) {
        tsr_channel_break(channel, "a request record of %u bytes: at most %d can be", info.bytes,
                          TSR_WIRE_RECORD_BYTES_MAX);
        return -EPROTO;
    }
    if (got < 0) {
        return broke_request(channel);
    }
    if (got == 0) { /* taken back, or a failed page */
        return 0;
    }
    struct tsr_err local;
    int result = tsr_wire_check(out, &info, request, &local);
    if (result == 0) {
        return 1;
    }
    if (result == -EPROTO) {
        tsr_channel_break(channel, "%.*s", (int)sizeof channel->why - 1, local.text);
    }
    return tsr_err_set(err, result, "%s", local.text);
}

/* ---- Events ---- */

uint32_t tsr_channel_live(const struct tsr_channel *channel)
{
    return channel->live;
}

int tsr_channel_begin(struct tsr_channel *channel)
{
    if (channel->broken) {
        return -EPROTO;
    }
    if (channel->live >= channel->peer.requests_max) {
        return -EBUSY;
    }
    if (!has_room(channel, channel_reserve_bytes(channel->live + 1))) {
        return channel->broken ? -EPROTO : -EAGAIN;
    }
    channel->live++;
    return 0;
}

static void *reserve(struct tsr_channel *channel, uint32_t bytes, uint64_t keep)
{
    channel->final_reserved = false;
    if (channel->broken) {
        return NULL;
    }
    if (bytes <= tsr_ring_record_max(channel->out.bytes) &&
        !has_room(channel, tsr_ring_cost(&channel->out, bytes) + keep)) {
        return NULL;
    }
    void *event;
    return tsr_ring_reserve(&channel->out, bytes, keep, &event) == 1 ? event : NULL;
}

void *tsr_channel_reserve(struct tsr_channel *channel, uint32_t bytes)
{
    return reserve(channel, bytes, channel_reserve_bytes(channel->live + TSR_CHANNEL_SPARE));
}

void *tsr_channel_reserve_final(struct tsr_channel *channel, bool live, uint32_t bytes)
{
    assert(bytes <= TSR_WIRE_FINAL_BYTES_MAX && (!live || channel->live));
    void *event = reserve(channel, bytes, live ? 0 : channel_reserve_bytes(channel->live));
    assert(event || !live || channel->broken);
    channel->final_reserved = live && event;
    return event;
}

void tsr_channel_commit(struct tsr_channel *channel, enum tsr_wire_type type, uint32_t bytes)
{
    tsr_ring_commit(&channel->out, (uint16_t)type, 0, bytes);
    if (channel->final_reserved) {
        channel->final_reserved = false;
        channel->live--;
    }
}

void tsr_channel_show(struct tsr_channel *channel)
{
    channel->shown |= tsr_ring_publish(&channel->out);
}

int tsr_channel_flush(struct tsr_channel *channel)
{
    tsr_channel_show(channel);
    if (!channel->shown) {
        return 0;
    }
    channel->shown = false;
    /* Sequentially consistent, as the publishing stores: either this load sees the sleeper's flag,
     * or the sleeper's last look sees the records (tsr_link_sleep, tsr_link_arm). */
    switch (atomic_load_explicit(&channel->client->client_sleep, memory_order_seq_cst)) {
    case TSR_SLEEP_FUTEX:
        tsr_bell_wake(&channel->ctl->client_futex);
        return 1;
    case TSR_SLEEP_SOCKET:
        (void)tsr_bell_ring(channel->fd); /* the control thread sees a dead peer */
        return 1;
    default:
        return 0;
    }
}

/* Clears what follows the record header, so that no reserved field carries old bytes. */
static void *cleared(void *event, size_t bytes)
{
    memset((uint8_t *)event + sizeof(struct tsr_record), 0, bytes - sizeof(struct tsr_record));
    return event;
}

bool tsr_channel_error(struct tsr_channel *channel, bool live, uint64_t request, enum tsr_code code,
                       uint32_t retry_ms, const char *format, ...)
{
    void *event = tsr_channel_reserve_final(channel, live, sizeof(struct tsr_wire_error));
    if (!event) {
        return false;
    }
    char text[TSR_WIRE_SENTENCE_MAX + 1];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    struct tsr_wire_error *error = cleared(event, sizeof *error);
    error->request = request;
    error->code = code;
    error->retry_ms = retry_ms;
    error->text_bytes = (uint32_t)strlen(text);
    memcpy(error->text, text, error->text_bytes);
    tsr_channel_commit(channel, TSR_EV_ERROR, sizeof *error);
    return true;
}

bool tsr_channel_done(struct tsr_channel *channel, const struct tsr_wire_done *done,
                      const char *text)
{
    struct tsr_wire_done *event = tsr_channel_reserve_final(channel, true, sizeof *event);
    if (!event) {
        return false;
    }
    size_t length = text ? strnlen(text, TSR_WIRE_SENTENCE_MAX) : 0;
    size_t from = sizeof(struct tsr_record);
    memcpy((uint8_t *)event + from, (const uint8_t *)done + from,
           offsetof(struct tsr_wire_done, text) - from);
    memset(event->text, 0, sizeof event->text);
    if (length) {
        memcpy(event->text, text, length);
    }
    event->text_bytes = (uint16_t)length;
    tsr_channel_commit(channel, TSR_EV_DONE, sizeof *event);
    return true;
}

/* ---- Sleeping ---- */

bool tsr_channel_is_starved(const struct tsr_channel *channel)
{
    return channel->starved_bytes != 0;
}

bool tsr_channel_arm(struct tsr_channel *channel)
{
    if (channel->broken) {
        return true;
    }
    uint64_t starved = channel->starved_bytes;
    uint32_t state = atomic_load_explicit(&channel->ctl->engine_sleep, memory_order_relaxed);
    uint32_t count = (state & ~(uint32_t)(TSR_ENGINE_SLEEPS_STEP - 1)) + TSR_ENGINE_SLEEPS_STEP;
    /* Sequentially consistent, as the last looks that follow; tsr_link_flush() has the other half.
     */
    atomic_store_explicit(&channel->ctl->engine_sleep,
                          count | TSR_ENGINE_ASLEEP | (starved ? TSR_ENGINE_STARVED : 0u),
                          memory_order_seq_cst);
    bool work = starved && has_room(channel, starved);
    if (work) {
        channel->starved_bytes = 0;
    } else {
        /* A request that cannot be read for lack of room is no reason to stay awake. */
        work = !channel->read_blocked && tsr_ring_has_record(&channel->in);
    }
    if (work) {
        tsr_channel_disarm(channel);
    }
    return !work;
}

void tsr_channel_disarm(struct tsr_channel *channel)
{
    uint32_t state = atomic_load_explicit(&channel->ctl->engine_sleep, memory_order_relaxed);
    if (state & TSR_ENGINE_ASLEEP) {
        atomic_store_explicit(&channel->ctl->engine_sleep,
                              state & ~(uint32_t)(TSR_ENGINE_SLEEPS_STEP - 1),
                              memory_order_release);
    }
}
