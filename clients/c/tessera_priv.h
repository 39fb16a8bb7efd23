/* The inside of a libtessera handle, shared by its sources. */
#ifndef TESSERA_PRIV_H
#define TESSERA_PRIV_H

#include <tessera.h>
#include <tsr/shm/link.h>

#include <pthread.h>
#include <stdbool.h>

/* A request from its submit to its last event. Its id is slot + 1 in the low 16 bits, a count
 * above. */
struct live {
    uint64_t id;        /* 0: the slot is free; next_free goes on */
    uint32_t next_free; /* slot + 1, 0: none */
    uint32_t read;      /* token events since credit was last granted */
    uint32_t granting;  /* credit to be granted with the next flush */
    uint32_t first_credit;
    bool automatic;  /* the library grants */
    bool cancelling; /* a cancel is to be sent */
    bool queued;     /* in the list of requests with something to send */
    bool unsent;     /* its SUBMIT is in the outbox, not yet begun */
    struct live *next_queued;
};

/* A request that did not fit the ring at once: its SUBMIT record's options and payload, to be sent
 * in parts. */
struct outgoing {
    struct outgoing *next;
    uint64_t id;
    uint32_t options_bytes; /* fixed part, biases and stop strings, padded to 8 */
    uint32_t payload_bytes;
    uint32_t sent; /* of the payload */
    _Alignas(8) uint8_t bytes[];
};

/* An event that came while tessera_status() waited. */
struct kept {
    struct kept *next;
    struct tsr_record_info info;
    _Alignas(8) uint8_t bytes[];
};

/* The largest options part: what stands before the payload in a SUBMIT. */
enum {
    TESSERA_BUILT_BYTES_MAX = sizeof(struct tsr_wire_submit) +
                              TSR_WIRE_BIAS_MAX * sizeof(struct tsr_wire_bias) +
                              TSR_WIRE_STOPS_MAX * (sizeof(uint16_t) + TSR_WIRE_STOP_BYTES_MAX) + 8,
};

/* The options part of the last submit, and the options that it was built from. */
struct tessera_built {
    struct tessera_options from;
    bool reusable; /* it passed the checks, and `from` is all that it says */
    uint32_t bytes_used;
    _Alignas(8) uint8_t bytes[TESSERA_BUILT_BYTES_MAX];
};

struct tessera {
    struct tsr_link link;
    enum tessera_wait_mode wait_mode;
    uint32_t credit;

    struct live *lives; /* [hello.requests_max] */
    uint32_t first_free;
    uint32_t live_count;
    uint64_t next_count;
    struct live *queued; /* requests with credit or a cancel to send */

    struct tessera_built built;
    struct outgoing *outbox, **outbox_end;
    uint64_t outbox_bytes;

    struct kept *kept, **kept_end;
    struct kept *shown; /* the kept event that the caller looks at */
    bool peeked;        /* the caller looks at the ring's first event */
    bool armed;

    bool may_poll; /* of the thread that asked last */
    pthread_t asked;
    uint32_t ask_again; /* waits until affinity is looked at again */
    bool heard;         /* something came since quiet_ns */
    uint64_t quiet_ns;  /* when the link was last known to live */

    struct tessera_top tops[TESSERA_TOP_MAX];
    struct tessera_piece *pieces; /* [TSR_WIRE_RECORD_BYTES_MAX / sizeof(struct tsr_wire_piece)],
                                     made with the first tokenize request */
};

/* Fills err (may be NULL) and returns code. */
__attribute__((format(printf, 3, 4))) int tessera_fail(struct tessera_error *err, int code,
                                                       const char *format, ...);

/* The link's end as an error. */
int tessera_lost(const struct tessera *t, struct tessera_error *err);

/* ---- submit.c ---- */

/* A free slot, its id set; NULL where requests_max are live. */
struct live *tessera_live_begin(struct tessera *t);
struct live *tessera_live_find(struct tessera *t, uint64_t id);
void tessera_live_end(struct tessera *t, struct live *live);

/* Notes that the request has credit or a cancel to send. */
void tessera_queue(struct tessera *t, struct live *live);

/* Sends as much as fits of what waits, and shows it to the engine. */
void tessera_pump(struct tessera *t);

/* Frees what was never sent. */
void tessera_outbox_clear(struct tessera *t);

/* ---- take.c ---- */

/* Turns a record into an event and does the accounts. False: not one for the caller. `in_place`:
 * record stays until the next call. */
bool tessera_decode(struct tessera *t, const void *record, const struct tsr_record_info *info,
                    struct tessera_event *event);

/* Waits until the ring may have something, as the mode says: 1, 0 (time is up), negative (lost). */
int tessera_rest(struct tessera *t, uint64_t deadline_ns);

/* Lets go of the event that the caller looked at. */
void tessera_let_go(struct tessera *t);

#endif
