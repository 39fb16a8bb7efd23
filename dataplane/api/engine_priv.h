/* Engines: one engine's channel, what is asked of it and what it owes. */
#ifndef TSR_API_ENGINE_PRIV_H
#define TSR_API_ENGINE_PRIV_H

#include "api_priv.h"

/* Slots are counted in 16 bits of an id, whose last value is STATUS's. */
enum { API_SLOT_BITS = 16, API_SLOTS_MAX = (1 << API_SLOT_BITS) - 2 };

/* A request on the channel. Its id is slot + 1 in the low 16 bits, a count above. */
struct api_slot {
    uint64_t id;         /* 0: free */
    struct api_ask *ask; /* NULL: nobody listens any more */
    uint32_t credit;     /* to be granted */
    bool cancel;         /* to be said */
    bool owes;           /* in the list of those with something to say */
    uint32_t next;       /* of that list, or of the free ones: slot + 1, 0: none */
};

/* What STATUS said last. */
struct api_status {
    uint64_t asked_ns; /* 0: never */
    bool waits;        /* asked, not answered */
    uint32_t bytes;    /* 0: never answered */
    _Alignas(8) uint8_t record[TSR_WIRE_RECORD_BYTES_MAX];
};

/* What the API itself observes of an engine's requests. */
struct api_observed {
    struct tsr_histogram first_token, inter_token, latency, queue, prefill, decode;
    struct tsr_histogram prompt_tokens, generation_tokens;
};

struct api_engine {
    struct tsr_api *api;
    const char *path;
    uint32_t index;
    uint32_t n_asks; /* of all exchanges, also of those that wait at the door */
    bool known;      /* it has said hello once: name and hello are valid */
    bool connected;
    char name[API_NAME_MAX];  /* for requests */
    struct tsr_out name_json; /* the same as a JSON string, in name_room */
    char name_room[API_NAME_MAX * 6 + 2];
    char label[API_NAME_MAX * 2 + 16]; /* `model_name="..."`, for /metrics */
    struct tsr_wire_hello hello;
    int64_t since_s; /* connected: seconds since 1970 */

    struct tsr_link link;
    struct api_slot *slots; /* [n_slots]; of a request each, and a bit more for STATUS */
    uint32_t n_slots;
    uint32_t free_slot, owing_first, owing_last; /* slot + 1 */
    uint32_t live;
    uint64_t ids;
    struct api_ask *sending, *sending_last; /* in order; only the first may be sent in part */
    uint32_t n_sending;
    uint32_t events_max; /* to take in the next turn */
    uint64_t check_ns;   /* when to look again whether it is there */
    struct api_status status;
    struct api_observed observed;
};

void api_engine_init(struct api_engine *engine, struct tsr_api *api, uint32_t index,
                     const char *path);
void api_engine_fini(struct api_engine *engine);

/* Takes over an open link, and the room for its slots. */
void api_engine_connected(struct api_engine *engine, const struct tsr_link *link,
                          struct api_slot *slots, uint32_t n_slots);

/* Queues the ask: it is sent with the next pump. */
void api_engine_submit(struct api_engine *engine, struct api_ask *ask);

/* Nobody listens to the ask any more. */
void api_engine_leave(struct api_engine *engine, struct api_ask *ask);

void api_engine_grant(struct api_engine *engine, struct api_ask *ask, uint32_t credit);

/* Asks for STATUS, unless that was done within STATUS_MS. */
void api_engine_ask_status(struct api_engine *engine, uint64_t now_ns);

/* Takes events. Returns how many. */
uint32_t api_engine_take(struct api_engine *engine, uint64_t now_ns);

/* Writes what is to be said and shows it. Returns the number of system calls made. */
uint32_t api_engine_pump(struct api_engine *engine);

/* Whether something is left that did not fit the ring. */
bool api_engine_is_behind(const struct api_engine *engine);

/* The connection is over: its asks hear of it, the connector is told. */
void api_engine_lose(struct api_engine *engine);

/* ---- connect.c ---- */

int api_connector_create(struct api_connector **connector, struct tsr_api *api,
                         struct tsr_err *err);
void api_connector_destroy(struct api_connector *connector);

/* The engine's link is wanted (again). */
void api_connector_want(struct api_connector *connector, uint32_t index);

/* Takes over the links that are ready. */
void api_connector_take(struct api_connector *connector);

/* ---- models.c ---- */

/* Gives the engine the name under which it is asked for, after its hello. */
void api_model_name(struct api_engine *engine);

/* The engine of a request's `model`; NULL with a problem. size 0: none was named. */
struct api_engine *api_model_find(struct tsr_api *api, const char *name, size_t size,
                                  struct api_problem *problem);

#endif
