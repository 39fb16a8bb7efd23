#include <tsr/serve/control.h>

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <tsr/shm/bell.h>
#include <tsr/shm/log.h>

enum { EVENTS = 32, LOADING_MS = 200, BEATS_EACH = 4 /* looks in the time of the watchdog */ };

int tsr_control_create(struct tsr_control **out, struct tsr_door *door, uint32_t channels_max,
                       int signal_fd, const struct tsr_notify *notify, struct tsr_err *err)
{
    *out = NULL;
    struct tsr_control *control = calloc(1, sizeof *control);
    if (!control) {
        return tsr_err_set(err, -ENOMEM, "no memory for the control thread");
    }
    control->door = door;
    control->signals = signal_fd;
    control->notify = notify;
    control->n_slots = channels_max;
    control->slots = calloc(channels_max, sizeof *control->slots);
    control->bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (!control->slots || control->bell < 0) {
        int rc = control->slots ? -errno : -ENOMEM;
        tsr_control_destroy(control);
        return tsr_err_set(err, rc, "cannot make the control thread: %s", strerror(-rc));
    }
    *out = control;
    return 0;
}

void tsr_control_destroy(struct tsr_control *control)
{
    if (!control) {
        return;
    }
    tsr_control_join(control);
    if (control->bell >= 0) {
        close(control->bell);
    }
    free(control->slots);
    free(control);
}

static void ring(struct tsr_control *control)
{
    const uint64_t one = 1;
    ssize_t n = write(control->bell, &one, sizeof one);
    (void)n;
}

static void tell(struct tsr_control *control, enum tsr_frontend_item kind, uint32_t slot)
{
    struct tsr_lane_item item = {.kind = kind, .index = slot};
    if (kind != TSR_ITEM_STOP) {
        item.pointer = control->slots[slot].channel;
    }
    tsr_lane_push(&control->frontend->from_control, item);
    tsr_sleeper_wake(&control->frontend->sleeper);
}

static void say_gone(struct tsr_control *control, uint32_t slot)
{
    if (!control->slots[slot].gone_sent) {
        control->slots[slot].gone_sent = true;
        tell(control, TSR_ITEM_GONE, slot);
    }
}

static void hear_frontend(struct tsr_control *control)
{
    struct tsr_lane_item item;
    while (control->frontend && tsr_lane_pop(&control->frontend->to_control, &item)) {
        struct tsr_control_slot *slot = &control->slots[item.index];
        if (item.kind == TSR_ITEM_DROP) {
            say_gone(control, item.index);
        } else if (item.kind == TSR_ITEM_RELEASED) {
            tsr_door_close(control->door, slot->channel,
                           control->stopping ? "the engine is shutting down" : NULL);
            *slot = (struct tsr_control_slot){0};
            control->n_open--;
        }
    }
}

static void on_opened(struct tsr_control *control, struct tsr_channel *channel)
{
    uint32_t slot = 0;
    while (slot < control->n_slots && control->slots[slot].channel) {
        slot++;
    }
    if (slot == control->n_slots || control->stopping) {
        tsr_door_close(control->door, channel,
                       control->stopping ? "the engine is shutting down"
                                         : "the engine has as many channels as it can hold");
        return;
    }
    control->slots[slot] = (struct tsr_control_slot){.channel = channel};
    control->n_open++;
    tsr_channel_set_owner(channel, &control->slots[slot]);
    tell(control, TSR_ITEM_OPENED, slot);
}

static void hear_door(struct tsr_control *control)
{
    struct tsr_door_event events[EVENTS];
    int n;
    do {
        n = tsr_door_step(control->door, events, EVENTS);
        for (int i = 0; i < n; i++) {
            struct tsr_control_slot *slot = tsr_channel_owner(events[i].channel);
            if (events[i].kind == TSR_DOOR_OPENED) {
                on_opened(control, events[i].channel);
            } else if (events[i].kind == TSR_DOOR_BELL) {
                tsr_sleeper_wake(&control->frontend->sleeper);
            } else if (slot) {
                say_gone(control, (uint32_t)(slot - control->slots));
            }
        }
    } while (n == EVENTS);
}

static void begin_stop(struct tsr_control *control)
{
    if (control->stopping) {
        return;
    }
    control->stopping = true;
    tsr_notify_say(control->notify, "STOPPING=1");
    tsr_door_set_refusing(control->door, "the engine is shutting down");
    if (!control->frontend) {
        return;
    }
    tell(control, TSR_ITEM_STOP, 0);
    for (uint32_t i = 0; i < control->n_slots; i++) {
        if (control->slots[i].channel) {
            say_gone(control, i);
        }
    }
}

static void hear_signal(struct tsr_control *control)
{
    struct signalfd_siginfo info;
    if (read(control->signals, &info, sizeof info) != (ssize_t)sizeof info) {
        return;
    }
    if (!control->greets) { /* main is busy loading and cannot be asked */
        tsr_notify_say(control->notify, "STOPPING=1");
        tsr_door_destroy(control->door, "the engine was stopped while it was loading");
        _exit(128 + (int)info.ssi_signo);
    }
    begin_stop(control);
}

/* As long as more of the model is there each time, the service manager is asked to wait. */
static void say_loading(struct tsr_control *control)
{
    unsigned permille = atomic_load_explicit(&control->permille, memory_order_relaxed);
    tsr_door_set_loading(control->door, permille, "the model is loading");
    if (permille / 10 != control->percent_said) {
        control->percent_said = permille / 10;
        tsr_notify_say(control->notify,
                       "STATUS=loading the model, %u%%\nEXTEND_TIMEOUT_USEC=60000000",
                       permille / 10);
    }
}

/* Tells the watchdog that the engine lives: that the frontend has turned since the last look, for
 * which it is woken. A step that never ends is seen here by the watchdog's silence. */
static void beat(struct tsr_control *control)
{
    uint64_t now_ns = tsr_clock_ns();
    if (!control->greets || control->notify->watchdog_ns == 0 || now_ns < control->beat_ns) {
        return;
    }
    uint32_t turns = atomic_load_explicit(&control->frontend->turns, memory_order_relaxed);
    if (turns != control->turns_seen) {
        control->turns_seen = turns;
        tsr_notify_say(control->notify, "WATCHDOG=1");
    }
    tsr_sleeper_wake(&control->frontend->sleeper);
    control->beat_ns = now_ns + control->notify->watchdog_ns / BEATS_EACH;
}

static int wait_ms(const struct tsr_control *control)
{
    int door_ms = tsr_door_timeout_ms(control->door);
    int own_ms = -1;
    if (!control->greets) {
        own_ms = LOADING_MS;
    } else if (control->notify->watchdog_ns > 0) {
        uint64_t now_ns = tsr_clock_ns();
        uint64_t left_ms =
            control->beat_ns > now_ns ? (control->beat_ns - now_ns) / 1000000 + 1 : 0;
        own_ms = left_ms < INT_MAX ? (int)left_ms : INT_MAX;
    }
    return own_ms < 0 || (door_ms >= 0 && door_ms < own_ms) ? door_ms : own_ms;
}

static void hear_main(struct tsr_control *control)
{
    if (!control->greets && atomic_load_explicit(&control->ready, memory_order_acquire)) {
        control->greets = true;
        control->frontend = control->offered;
        tsr_door_set_hello(control->door, &control->hello);
    }
    if (!control->greets) {
        say_loading(control);
    }
    if (atomic_load_explicit(&control->stop, memory_order_acquire)) {
        begin_stop(control);
    }
}

static void *run(void *ctx)
{
    struct tsr_control *control = ctx;
    struct pollfd fds[3] = {
        {.fd = tsr_door_fd(control->door), .events = POLLIN},
        {.fd = control->bell, .events = POLLIN},
        {.fd = control->signals, .events = POLLIN},
    };
    pthread_setname_np(pthread_self(), "control");
    while (!control->stopping || control->n_open > 0) {
        if (poll(fds, 3, wait_ms(control)) < 0 && errno != EINTR) {
            tsr_log(TSR_LOG_ERROR, "the control thread cannot wait: %s", strerror(errno));
            begin_stop(control);
        }
        if (fds[1].revents) {
            uint64_t rings;
            ssize_t n = read(control->bell, &rings, sizeof rings);
            (void)n;
        }
        hear_main(control);
        hear_frontend(control);
        if (fds[2].revents) {
            hear_signal(control);
        }
        hear_door(control);
        beat(control);
    }
    return NULL;
}

int tsr_control_start(struct tsr_control *control, struct tsr_err *err)
{
    int rc = pthread_create(&control->thread, NULL, run, control);
    if (rc != 0) {
        return tsr_err_set(err, -rc, "cannot start the control thread: %s", strerror(rc));
    }
    control->running = true;
    return 0;
}

void tsr_control_loading(struct tsr_control *control, double done)
{
    atomic_store_explicit(&control->permille, (unsigned)(done * 1000), memory_order_relaxed);
}

void tsr_control_ready(struct tsr_control *control, struct tsr_frontend *frontend,
                       const struct tsr_wire_hello *hello)
{
    control->offered = frontend;
    control->hello = *hello;
    frontend->control_bell = control->bell;
    atomic_store_explicit(&control->ready, true, memory_order_release);
    ring(control);
}

void tsr_control_ask_stop(struct tsr_control *control)
{
    atomic_store_explicit(&control->stop, true, memory_order_release);
    ring(control);
}

void tsr_control_join(struct tsr_control *control)
{
    if (control->running) {
        pthread_join(control->thread, NULL);
        control->running = false;
    }
}
