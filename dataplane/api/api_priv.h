/* The inside of the API, shared by its sources: exchanges, what they ask of engines, and who holds
 * what. One thread; connect.c alone has another. */
#ifndef TSR_API_PRIV_H
#define TSR_API_PRIV_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <tsr/api/api.h>
#include <tsr/api/figures.h>
#include <tsr/api/json.h>
#include <tsr/api/keys.h>
#include <tsr/api/out.h>
#include <tsr/api/split.h>
#include <tsr/shm/link.h>

enum {
    API_CHOICES_MAX = 8,      /* `n` */
    API_PROMPTS_MAX = 64,     /* of a completion */
    API_INPUTS_MAX = 2048,    /* of an embedding request, as OpenAI's */
    API_NAME_MAX = 160,       /* a model's name with its suffix */
    API_ID_MAX = 48,          /* of an answer: "chatcmpl-..." */
    API_SCRATCH_BYTES = 8192, /* an error's object */
    API_ANSWER_BYTES_MAX = 15 << 20,
    API_HELD_BYTES = 64 << 10, /* at the door: beyond, no more credit */
};

/* ---- Refusals ---- */

/* Why a request is refused: OpenAI's error object. status 0: it is not. */
struct api_problem {
    unsigned status;
    uint32_t retry_s;  /* Retry-After; 0: none */
    const char *type;  /* "invalid_request_error" */
    const char *code;  /* NULL: null */
    const char *allow; /* 405: the methods that there are */
    char param[96];    /* empty: null */
    char text[TSR_ERR_TEXT_MAX];
};

/* Keeps the first problem only. param NULL: none. */
__attribute__((format(printf, 6, 7))) void api_problem_set(struct api_problem *problem,
                                                           unsigned status, const char *type,
                                                           const char *code, const char *param,
                                                           const char *format, ...);

/* 400 about a parameter. */
__attribute__((format(printf, 3, 4))) void
api_problem_invalid(struct api_problem *problem, const char *param, const char *format, ...);

/* 400 about something that does not exist here (yet). */
__attribute__((format(printf, 3, 4))) void
api_problem_unsupported(struct api_problem *problem, const char *param, const char *format, ...);

/* What an engine's code is over HTTP. */
void api_problem_of_code(struct api_problem *problem, uint32_t code, uint32_t retry_ms,
                         const char *text, size_t size);

/* 504: its deadline has passed. */
void api_problem_late(struct api_problem *problem);

/* {"error":{...}} */
void api_problem_write(const struct api_problem *problem, struct tsr_out *out);

/* ---- Asks ---- */

enum api_finish {
    API_FINISH_NONE,
    API_FINISH_STOP,
    API_FINISH_LENGTH,
    API_FINISH_CALLS,
};

/* "stop", "length", "tool_calls". */
const char *api_finish_name(enum api_finish finish);

struct api_usage {
    uint32_t prompt_tokens;
    uint32_t cached_tokens;
    uint32_t completion_tokens;
    uint32_t reasoning_tokens;
};

/* A TOKEN event, checked. */
struct api_token {
    uint64_t time_ns;
    uint32_t token;
    uint32_t index;
    float logprob;
    uint8_t flags; /* enum tsr_wire_token_flag */
    const char *text;
    uint32_t text_bytes;
    const uint8_t *tops; /* for api_token_top() */
    uint32_t tops_bytes;
    uint32_t top_count;
};

/* The alternative at *at, which starts at 0 and moves on. False: there are no more. */
bool api_token_top(const struct api_token *token, uint32_t *at, struct tsr_wire_top *top,
                   const char **text);

/* What is gathered of an answer, as pieces of JSON. */
enum api_out {
    API_OUT_TEXT, /* escaped, in answers that are no streams */
    API_OUT_REASONING,
    API_OUT_CALLS,
    API_OUT_LOGPROBS, /* in streams: of tokens whose text has not been sent */
    API_OUT_MORE,
    API_OUTS,
};

/* One request to an engine: a choice of an answer, or an input of a list. */
struct api_ask {
    struct tsr_api_exchange *exchange;
    struct api_ask *next;         /* of its exchange; of those that are free */
    struct api_ask *next_sending; /* of the engine's */
    uint64_t id;                  /* on the channel; 0: not there (any more) */
    uint32_t index;               /* of the choice, of the input */
    size_t payload_off;           /* in the exchange's payload */
    uint32_t payload_bytes;
    uint32_t payload_sent;
    bool sending; /* in the engine's list */
    bool ended;
    uint32_t unpaid; /* TOKEN events that credit has not been granted again for */

    /* the answer so far */
    struct api_usage usage;
    enum api_finish finish;
    bool accepted;
    uint64_t first_ns, last_ns; /* of tokens, the engine's; 0: not yet */
    uint64_t queue_ns, prefill_ns, decode_ns;
    bool thinking;                 /* the last text was reasoning */
    bool over;                     /* enough: what still comes is dropped */
    uint32_t pieces;               /* a style's own count */
    size_t text_chars;             /* of content so far */
    bool visible;                  /* ... of which some are no white space */
    struct tsr_out outs[API_OUTS]; /* what the style gathers: enum api_out, or names of its own */
    struct tsr_split *split;       /* in `room`; NULL: not split */
    void *room;
};

/* What a kind of request does with what its engine says. Any may be NULL. */
struct api_style {
    /* it was accepted */
    void (*accepted)(struct api_ask *ask);
    /* a token's text, its special marks already looked at */
    void (*text)(struct api_ask *ask, const struct api_token *token, const char *text, size_t size);
    void (*logprob)(struct api_ask *ask, const struct api_token *token);
    /* events of other kinds; false: it makes no sense */
    bool (*event)(struct api_ask *ask, const void *record, const struct tsr_record_info *info);
    /* an ask ended well */
    void (*ask_end)(struct api_ask *ask);
    /* all have: the whole answer, or the stream's last pieces. The exchange is ended in here. */
    void (*end)(struct tsr_api_exchange *x);
    /* a stream breaks off: its last words. NULL: the error object as `data:` */
    void (*fail)(struct tsr_api_exchange *x, const struct api_problem *problem);
    bool gathers; /* also in streams: its memory is counted token by token */
};

/* ---- Exchanges ---- */

struct api_route;
struct api_engine;

/* A prompt of a list, in the exchange's payload. */
struct api_input {
    size_t off;
    uint32_t bytes;
};

/* What a request's fields said, beside what went into its submit. */
struct api_wants {
    bool stream;
    bool include_usage;
    bool logprobs;
    uint32_t top_logprobs;
    uint32_t choices; /* n */
    bool one_call;    /* the answer ends behind its first call */
    bool echo;
    bool base64;
    bool pieces;        /* return_token_strs */
    bool calls;         /* the answer may hold calls */
    bool reads_special; /* special tokens' text comes; only markers are kept */
    enum tsr_split_calls family;
    size_t begun_off; /* tool_choice: how the answer begins, in `extra` */
    size_t begun_bytes;
};

/* /v1/responses: an answer is a list of items. */
enum api_item_kind { API_ITEM_NONE, API_ITEM_REASONING, API_ITEM_MESSAGE, API_ITEM_CALL };

struct api_item {
    enum api_item_kind kind;
    uint32_t index;
    char id[API_ID_MAX];
    char call_id[API_ID_MAX];
};

struct tsr_api_exchange {
    struct tsr_api *api;
    const struct tsr_api_door *door;
    void *stream;
    const struct api_route *route;
    const struct api_style *style;
    struct tsr_api_exchange *next; /* free ones, those that wait for figures */
    uint64_t serial;               /* tells it from the next one in the same place */
    bool in_use;
    bool said_head;
    bool torn; /* a piece of its stream found no memory */
    uint64_t begun_ns;
    const char *origin;  /* to be named in the answer (CORS); NULL: none */
    uint64_t held_bytes; /* at the door */

    /* the request */
    struct tsr_json *json; /* while its body comes */
    uint64_t json_got;     /* bytes of it */
    size_t memory_bytes;   /* counted in api->bodies_bytes */
    uint8_t priority;
    uint8_t priority_max; /* by its key */
    uint32_t deadline_ms; /* by header; 0: none */
    uint64_t due_ns;      /* ... while it is in api->due */
    struct tsr_api_exchange *due_next, **due_at;
    uint64_t tenant;
    struct tsr_key *key; /* admitted; NULL: none, or nothing that counts */

    /* what goes to the engine: options once, then the payloads of the asks */
    struct api_engine *engine;
    struct tsr_out submit; /* SUBMIT's fixed part, biases, stop strings; padded to 8 */
    struct tsr_out payload;
    struct api_ask *asks; /* in order of their index */
    struct api_ask **asks_end;
    uint32_t asks_live;
    uint32_t asks_unsent;
    struct tsr_out inputs; /* struct api_input of each prompt or input */
    uint32_t n_inputs, next_input;

    /* the answer */
    struct api_wants wants;
    char id[API_ID_MAX];
    int64_t created_s;
    struct api_usage usage; /* of all asks that have ended */
    uint64_t token_ns;      /* of the token that is being told */
    struct tsr_out extra;   /* a style's own */
    struct tsr_out echo;    /* /v1/responses: what its answer says of the request */
    struct api_item item;   /* ... the one that is open */
    uint32_t sequence;      /* ... its events so far */
};

/* ---- The whole ---- */

struct api_connector;

enum { API_ROUTES_MAX = 24, API_STATUSES_MAX = 24 };

struct tsr_api {
    struct tsr_api_options options;
    const char **names;         /* hosts, then origins: the options' lists point here */
    struct api_engine *engines; /* [options.n_engines] */
    struct api_connector *connector;
    int wake_fd;
    _Atomic bool links_ready; /* by the connector, after what it wrote; then wake_fd */

    struct tsr_api_exchange *exchanges; /* [options.exchanges_max] */
    struct tsr_api_exchange *free_exchanges;
    uint32_t open;
    struct api_ask *asks; /* [options.exchanges_max + API_SPARE_ASKS] */
    struct api_ask *free_asks;
    uint32_t asks_each;   /* an engine's for certain: half of all, divided ... */
    uint32_t asks_common; /* ... and the other half is whose it is first: so many are left */
    void *splits;         /* room for their splitters */

    struct tsr_json *readers[8]; /* at rest */
    uint32_t n_readers;
    struct tsr_json *inner; /* for JSON inside of strings */
    struct tsr_out scratch; /* fixed room: an error's object */
    struct tsr_out whole;   /* growing: a piece of a stream, or a whole answer */
    uint64_t bodies_bytes;

    struct tsr_keys *keys;
    bool draining;
    uint64_t now_ns;
    uint64_t random[2];
    uint64_t serials;
    struct tsr_api_exchange *waiting; /* for the engines' figures */
    struct tsr_api_exchange *due;     /* those with a deadline */
    uint64_t due_ns;                  /* none of them is due before */

    /* Of a door with several threads: the first one's API, in which they all begin. */
    struct tsr_api *first, *threads, *next_thread;
    struct tsr_figure figures[TSR_API_FIGURES_MAX];
    uint32_t n_figures;
    uint64_t answered[API_ROUTES_MAX][API_STATUSES_MAX];
};

enum { API_SPARE_ASKS = 256 };

bool api_engines_connected(const struct tsr_api *api);

/* ---- exchange.c ---- */

struct tsr_api_exchange *api_exchange_take(struct tsr_api *api, const struct tsr_api_door *door,
                                           void *stream, uint64_t now_ns);

/* From now on its deadline, if any, is watched. */
void api_exchange_due(struct tsr_api_exchange *x);

/* Says the head. `headers` beside those that every answer has. */
void api_head(struct tsr_api_exchange *x, unsigned status, const char *content_type,
              uint64_t body_bytes, const struct tsr_api_header *headers, uint32_t n_headers);
void api_body(struct tsr_api_exchange *x, const void *bytes, size_t size, uint64_t token_ns);
void api_lend(struct tsr_api_exchange *x, const void *bytes, size_t size); /* they stay */

/* The exchange is gone after these; what it asked is cancelled. */
void api_end(struct tsr_api_exchange *x);
void api_abort(struct tsr_api_exchange *x);
void api_forget(struct tsr_api_exchange *x); /* the door knows already */

/* Gives its JSON reader back. */
void api_read_end(struct tsr_api_exchange *x);

/* Whole answers. */
void api_answer(struct tsr_api_exchange *x, unsigned status, const char *content_type,
                const void *bytes, size_t size);
void api_answer_json(struct tsr_api_exchange *x, const struct tsr_out *out);
void api_refuse(struct tsr_api_exchange *x, const struct api_problem *problem);

/* Refuses where nothing was said yet, breaks a stream off where it has begun. */
void api_fail(struct tsr_api_exchange *x, const struct api_problem *problem);

/* Room for a whole answer, empty: growing, one for all, kept up to a size. */
struct tsr_out *api_whole(struct tsr_api *api);

/* Counts the memory that it holds now; false, with a problem: there is too much of it. */
bool api_account(struct tsr_api_exchange *x, struct api_problem *problem);

/* A fresh id with that prefix: "chatcmpl-". */
void api_make_id(struct tsr_api *api, const char *prefix, char out[API_ID_MAX]);

/* The stream's head, `text/event-stream`. */
void api_stream_head(struct tsr_api_exchange *x);

/* ---- ask.c ---- */

/* A further ask of the exchange. NULL with a problem: there are too many at once. */
struct api_ask *api_ask_add(struct tsr_api_exchange *x, const struct api_input *input,
                            struct api_problem *problem);

/* Gives the asks to the engine. */
void api_ask_all(struct tsr_api_exchange *x);

/* From the engine: all of its payload has been sent. */
void api_ask_sent(struct api_ask *ask);

/* In ask_end(): the ask goes on with another payload, for list entries beyond those at once. */
void api_ask_again(struct api_ask *ask, uint32_t index, size_t off, uint32_t bytes);

/* From the engine: an event, or its end. */
void api_ask_event(struct api_ask *ask, const void *record, const struct tsr_record_info *info);
void api_ask_lost(struct api_ask *ask);

/* Enough of it: the engine is told, the ask ends well. */
void api_ask_finish(struct api_ask *ask);

/* The engine is told that nobody listens any more, and the ask is free again. */
void api_ask_release(struct api_ask *ask);

/* Grants what may be granted, for the door holds less. */
void api_ask_grant(struct tsr_api_exchange *x);

/* A count that its own thread alone writes, as any thread of the door may read it. */
static inline uint64_t api_load(const uint64_t *count)
{
    return __atomic_load_n(count, __ATOMIC_RELAXED);
}

#endif
