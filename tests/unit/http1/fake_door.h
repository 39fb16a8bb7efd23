/* A door with one client, and an http1 of its own. */
#ifndef TSR_TEST_FAKE_DOOR_H
#define TSR_TEST_FAKE_DOOR_H

#include "fake_api.h"
#include "paper_door.h"

static void door_open(struct door *door, const struct tsr_http1_options *options)
{
    struct tsr_http1_options defaults;
    struct tsr_http1 *http1;
    tsr_http1_options_init(&defaults);
    defaults.conns_max = 4;
    if (tsr_http1_create(&http1, NULL, options ? options : &defaults, NULL) != 0) {
        abort();
    }
    *door = (struct door){.http1 = http1};
    fake_reset();
    door_accept(door, http1, 1000000000);
}

static void door_close(struct door *door)
{
    door_leave(door);
    tsr_http1_destroy(door->http1);
    free(door->in.bytes);
    free(door->out.bytes);
    fake_reset();
}

#endif
