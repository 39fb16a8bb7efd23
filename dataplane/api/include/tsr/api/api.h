/* The OpenAI-compatible API, once for every door.
 *
 * No sockets to clients and no clock: a door feeds exchanges (one HTTP request and its answer) with
 * bytes and time, and is told what to answer. Engines are reached through their channels, as any
 * client reaches them. One thread owns a tsr_api and all that belongs to it; on the way of a token
 * nothing is allocated and, while the engines are awake, no system call is made. (Connecting to an
 * engine takes time and is done by a thread of the API's own, which hands finished links over.)
 *
 * An exchange lives from tsr_api_begin() until the door's end() or abort() has been called for it,
 * or until tsr_api_cancel(). It never waits: what an answer needs comes in later steps. How much
 * answer can pile up at the door is bounded by the credit that the exchange has granted the engine,
 * and more is granted only as the door says that bytes have left (tsr_api_sent()): a slow reader
 * holds back its own request and nothing else.
 *
 * A turn of a door's loop: bytes that came (begin, body, body_end, cancel, sent), tsr_api_step(),
 * tsr_api_flush(), then send what body() gave. */
#ifndef TSR_API_API_H
#define TSR_API_API_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <tsr/shm/err.h>

struct tsr_api;
struct tsr_api_exchange;

struct tsr_api_text {
    const char *bytes; /* not NUL-terminated */
    size_t size;
};

struct tsr_api_header {
    struct tsr_api_text name; /* lower case */
    struct tsr_api_text value;
};

#define TSR_API_UNKNOWN UINT64_MAX

/* A request's head, valid during tsr_api_begin() only. */
struct tsr_api_request {
    struct tsr_api_text method; /* "GET" */
    struct tsr_api_text path;   /* of the target, percent-encoded as it came, without the query */
    struct tsr_api_text query;  /* without '?'; empty where there is none */
    struct tsr_api_text host;   /* Host or :authority, with its port */
    const struct tsr_api_header *headers; /* all of them, in order */
    uint32_t n_headers;
    uint64_t body_bytes; /* TSR_API_UNKNOWN where not stated; 0: none */
};

/* An answer's head, valid during the call of head() only. */
struct tsr_api_answer {
    unsigned status;                      /* 200 .. 599 */
    const char *content_type;             /* NULL: no body */
    uint64_t body_bytes;                  /* TSR_API_UNKNOWN: a stream, ended by end() */
    const struct tsr_api_header *headers; /* further ones: retry-after, allow, access-control-... */
    uint32_t n_headers;
};

/* What a door does for its exchanges; `stream` is the door's own pointer for one of them. Calls
 * come from inside tsr_api_begin(), _body(), _body_end(), _sent() and _step(), never from
 * elsewhere. head() comes once, then body() any number of times, then end() or abort() once; after
 * these the exchange is gone. An answer may come before the request's body is whole. The door
 * copies what it keeps. To a HEAD request the same is said; the door leaves the body out. */
struct tsr_api_door {
    void (*head)(void *stream, const struct tsr_api_answer *answer);
    /* token_ns: when the engine published the newest token in it (CLOCK_MONOTONIC), 0: none. */
    void (*body)(void *stream, const void *bytes, size_t size, uint64_t token_ns);
    /* As body(), of bytes that stay as long as the api (the page). NULL: body() has them all. */
    void (*lend)(void *stream, const void *bytes, size_t size);
    void (*end)(void *stream);
    void (*abort)(void *stream); /* after head(): the rest will not come, so close or reset */
};

/* A request has come: its head is whole. NULL: it has been answered already, and is gone; the door
 * discards what still comes of its body. now_ns everywhere: CLOCK_MONOTONIC. */
struct tsr_api_exchange *tsr_api_begin(struct tsr_api *api, const struct tsr_api_door *door,
                                       void *stream, const struct tsr_api_request *request,
                                       uint64_t now_ns);

/* The next bytes of its body; its end (also where there is no body). false: the exchange has been
 * answered and is gone; the door discards what still comes. */
bool tsr_api_body(struct tsr_api_exchange *exchange, const void *bytes, size_t size,
                  uint64_t now_ns);
bool tsr_api_body_end(struct tsr_api_exchange *exchange, uint64_t now_ns);

/* Bytes of its answer that the door still holds; called whenever that has shrunk. May end the
 * exchange: the door's end() or abort() is called from inside. */
void tsr_api_sent(struct tsr_api_exchange *exchange, uint64_t held_bytes, uint64_t now_ns);

/* The client has gone: its request is cancelled. The exchange is gone without a further call. */
void tsr_api_cancel(struct tsr_api_exchange *exchange);

/* Takes what the engines have said and passes it on, takes new links, refuses what is too old. Of
 * an engine it takes one event, and twice as many as the last time while more wait: the first ones
 * can be sent before the last are there. Returns the number of events taken; 0: none wait. */
uint32_t tsr_api_step(struct tsr_api *api, uint64_t now_ns);

/* Shows the engines what was asked of them since the last time: at the end of each turn of a loop,
 * and before it sleeps. Returns the number of system calls made. */
uint32_t tsr_api_flush(struct tsr_api *api);

/* For doors that sleep: the descriptors that become readable when there is something for
 * tsr_api_step() (one an engine, -1 where it is not connected; one more of the API's own; they
 * change only inside tsr_api_step()), and when it wants to be called at the latest. arm() asks the
 * engines for their byte: false where something is there already. disarm() after the sleep, before
 * the next step. */
enum { TSR_API_ENGINES_MAX = 16, TSR_API_FDS_MAX = TSR_API_ENGINES_MAX + 1 };
uint32_t tsr_api_fds(const struct tsr_api *api, int fds[TSR_API_FDS_MAX]);
uint64_t tsr_api_wake_ns(const struct tsr_api *api);
bool tsr_api_arm(struct tsr_api *api);
void tsr_api_disarm(struct tsr_api *api);

/* For doors that poll: whether the calling thread takes no CPU from an engine by it, as far as the
 * engines that are connected say (tsr_link_may_poll()). One system call for each of them. */
bool tsr_api_may_poll(const struct tsr_api *api);

struct tsr_api_options {
    const char *engines[TSR_API_ENGINES_MAX]; /* sockets */
    uint32_t n_engines;
    uint32_t exchanges_max;    /* at once; more are answered 503 [4096] */
    uint64_t body_bytes_max;   /* of a request; more: 413 [8 MiB] */
    uint64_t bodies_bytes_max; /* of all requests' bodies that are in memory; more: 503 [256 MiB] */
    const char *keys_path;     /* file of hashed API keys (keys.h); NULL: none are asked for */
    const char *const *hosts;  /* without keys: names under which the box may be asked, besides
                                  loopback's (DNS rebinding) */
    uint32_t n_hosts;
    const char *const *origins; /* pages that may ask (CORS); none: no foreign page */
    uint32_t n_origins;
    bool vllm_names;          /* /metrics also under vLLM's names */
    struct tsr_api_text page; /* served at "/"; empty: none. The caller's, unchanged */
    const char *page_policy;  /* its Content-Security-Policy */
    uint32_t credit_tokens;   /* granted ahead of the reader, per answer [64] */
    /* The API of another thread of the same door, with the same options, NULL: none. Limits of keys
     * hold for both in all, and /metrics of each counts for both; so for all that name it. Create
     * all and add the same figures to each before the threads start, and destroy them when they
     * have ended, it the last. */
    struct tsr_api *first;
};

/* The defaults in brackets above. */
void tsr_api_options_init(struct tsr_api_options *options);

/* What is needed for a full house is allocated here, but for bodies. -EINVAL, -ENOMEM, or what
 * reading the keys gave, with a sentence. Engines need not be there yet. */
int tsr_api_create(struct tsr_api **api, const struct tsr_api_options *options,
                   struct tsr_err *err);

/* Reads the keys again; on failure the old ones stay. */
int tsr_api_reload(struct tsr_api *api, struct tsr_err *err);

/* From now on new requests are answered 503 and /ready fails: the door is closing. */
void tsr_api_drain(struct tsr_api *api);

/* Exchanges that are open. */
uint32_t tsr_api_open(const struct tsr_api *api);

void tsr_api_destroy(struct tsr_api *api); /* no exchange may be left */

#endif
