/* The control thread: asleep in poll(); accepts, shakes hands, hears bells, sees deaths and
 * signals, and speaks to the service manager.
 *
 * It owns the door. Channels that the door opens go to the frontend by a lane and come back by
 * another (frontend.h: OPENED, DROP, GONE, RELEASED); only then are they closed; the door says why
 * in the log (as often as a user may open channels, which the policy bounds). */
#ifndef TSR_SERVE_CONTROL_H
#define TSR_SERVE_CONTROL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <tsr/daemon/notify.h>
#include <tsr/serve/frontend.h>
#include <tsr/shm/door.h>

struct tsr_control_slot {
    struct tsr_channel *channel; /* NULL: free */
    bool gone_sent;
};

struct tsr_control {
    struct tsr_door *door;
    int bell;    /* eventfd: the frontend, or main, has something to say */
    int signals; /* signalfd, -1: none */
    uint32_t n_slots, n_open;
    struct tsr_control_slot *slots;
    struct tsr_frontend *frontend; /* once it is ready */
    bool stopping;
    pthread_t thread;
    bool running;

    const struct tsr_notify *notify;
    unsigned percent_said;
    uint32_t turns_seen; /* of the frontend */
    uint64_t beat_ns;    /* next look at them */

    /* Said by main. */
    atomic_uint permille;
    atomic_bool ready; /* the two below count */
    struct tsr_frontend *offered;
    struct tsr_wire_hello hello;
    atomic_bool stop;
    bool greets; /* the door has the hello */
};

/* door and notify stay the caller's. channels_max: as the frontend's. signal_fd: a signalfd whose
 * signals end the engine, or -1. -ENOMEM, or what the kernel said. */
int tsr_control_create(struct tsr_control **control, struct tsr_door *door, uint32_t channels_max,
                       int signal_fd, const struct tsr_notify *notify, struct tsr_err *err);
void tsr_control_destroy(struct tsr_control *control);

/* Starts the thread. Until tsr_control_ready() clients are told that the model is loading. A signal
 * in that time ends the process. */
int tsr_control_start(struct tsr_control *control, struct tsr_err *err);
void tsr_control_loading(struct tsr_control *control, double done);

/* From now on clients get channels, which go to frontend. hello is copied. */
void tsr_control_ready(struct tsr_control *control, struct tsr_frontend *frontend,
                       const struct tsr_wire_hello *hello);

/* Asks for the end, as a signal does. Any thread. */
void tsr_control_ask_stop(struct tsr_control *control);
/* Waits for the thread, which ends when every channel has come back from the frontend. */
void tsr_control_join(struct tsr_control *control);

#endif
