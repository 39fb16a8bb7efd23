/* A door and a client's link to it in one process, for tests: the link knocks on a thread while the
 * door is stepped here. */
#ifndef TSR_TESTS_PAIR_H
#define TSR_TESTS_PAIR_H

#include <tsr/shm/door.h>
#include <tsr/shm/link.h>

#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct pair {
    char directory[64];
    char path[96];
    struct tsr_door *door;
    struct tsr_channel *channel; /* the last one opened */
    struct tsr_link link;
    struct tsr_err err;
};

/* Opens a door with one rule: this uid, this class (NULL: the default with many grants). */
static inline int pair_open_door(struct pair *pair, const struct tsr_door_class *class)
{
    memset(pair, 0, sizeof *pair);
    pair->link.fd = pair->link.requests.fd = pair->link.events.fd = -1;
    pair->link.requests.guard = pair->link.events.guard = -1;
    strcpy(pair->directory, "/tmp/tessera-test-XXXXXX");
    if (!mkdtemp(pair->directory)) {
        return -1;
    }
    snprintf(pair->path, sizeof pair->path, "%s/engine.sock", pair->directory);
    struct tsr_door_class usual;
    tsr_door_class_init(&usual);
    usual.grants_per_minute = 1000000;
    struct tsr_door_policy policy = {.channels_max = 1024};
    tsr_door_policy_add(&policy, TSR_DOOR_UID, geteuid(), class ? class : &usual);
    int result = tsr_door_open(&pair->door, pair->path, &policy, &pair->err);
    if (!result) {
        struct tsr_wire_hello hello = {
            .context_tokens = 2048, .vocabulary = 1000, .park_seconds = 30};
        strcpy(hello.model, "a test");
        tsr_door_set_hello(pair->door, &hello);
    }
    return result;
}

struct pair_knock {
    struct tsr_link *link;
    const char *path;
    struct tsr_link_refusal refusal;
    struct tsr_err err;
    int result;
    _Atomic int done;
};

static inline void *pair_knock_thread(void *arg)
{
    struct pair_knock *knock = arg;
    knock->result =
        tsr_link_open(knock->link, knock->path, "test", 5000, &knock->refusal, &knock->err);
    atomic_store_explicit(&knock->done, 1, memory_order_release);
    return NULL;
}

/* Steps the door until the knocking link has its answer. Returns what tsr_link_open() did; *channel
 * is the channel where it opened. */
static inline int pair_knock(struct pair *pair, struct tsr_link *link, struct tsr_channel **channel,
                             struct tsr_link_refusal *refusal)
{
    struct pair_knock knock = {.link = link, .path = pair->path};
    pthread_t thread;
    *channel = NULL;
    if (pthread_create(&thread, NULL, pair_knock_thread, &knock) != 0) {
        return -1;
    }
    while (!atomic_load_explicit(&knock.done, memory_order_acquire)) {
        struct pollfd wait = {.fd = tsr_door_fd(pair->door), .events = POLLIN};
        poll(&wait, 1, 1);
        struct tsr_door_event event;
        while (tsr_door_step(pair->door, &event, 1) == 1) {
            if (event.kind == TSR_DOOR_OPENED) {
                *channel = event.channel;
            }
        }
    }
    pthread_join(thread, NULL);
    if (refusal) {
        *refusal = knock.refusal;
    }
    pair->err = knock.err;
    return knock.result;
}

static inline int pair_open(struct pair *pair, const struct tsr_door_class *class)
{
    int result = pair_open_door(pair, class);
    return result ? result : pair_knock(pair, &pair->link, &pair->channel, NULL);
}

static inline void pair_close(struct pair *pair)
{
    if (pair->channel) {
        tsr_door_close(pair->door, pair->channel, NULL);
    }
    tsr_link_close(&pair->link);
    tsr_door_destroy(pair->door, NULL);
    rmdir(pair->directory);
}

/* Waits until the door reports something of this kind, at most a second or so. */
static inline int pair_wait(struct pair *pair, enum tsr_door_event_kind kind,
                            struct tsr_door_event *event)
{
    for (int i = 0; i < 3000; i++) {
        struct pollfd wait = {.fd = tsr_door_fd(pair->door), .events = POLLIN};
        poll(&wait, 1, 1);
        while (tsr_door_step(pair->door, event, 1) == 1) {
            if (event->kind == kind) {
                return 1;
            }
        }
    }
    return 0;
}

#endif
