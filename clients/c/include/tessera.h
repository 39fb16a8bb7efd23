/* libtessera: ask a Tessera engine on the same machine, through shared memory.
 *
 *     struct tessera *t;
 *     struct tessera_error err;
 *     if (tessera_connect(&t, NULL, NULL, &err)) { puts(err.text); exit(1); }
 *     struct tessera_message say = {"user", "What is the capital of France?"};
 *     uint64_t id = tessera_submit_chat(t, &say, 1, NULL, &err);
 *     struct tessera_event event;
 *     while (id && tessera_wait(t, &event, -1, &err) > 0 && event.kind != TESSERA_DONE) {
 *         if (event.kind == TESSERA_TOKEN) fwrite(event.text, 1, event.text_bytes, stdout);
 *     }
 *     tessera_close(t);
 *
 * Requests are asynchronous: submit as many as tessera_info() allows, then take events; each event
 * names its request. Every request gets exactly one last event (TESSERA_DONE or TESSERA_FAILED),
 * however it ends. While events come and the caller polls, no call makes a system call or allocates
 * memory.
 *
 * Threads: a `struct tessera` is used by one thread at a time; different ones are independent. The
 * library starts no thread, installs no signal handler, prints nothing and never exits. After
 * fork() only one of the two processes may go on using a handle; the other may only exit or exec.
 *
 * Errors: functions that can fail take a `struct tessera_error *` (which may be NULL) and return a
 * negative errno, or what is said at each. When the engine dies or hangs up, calls return -EPIPE
 * with the reason within a second, and stay so: close, and connect again. Nothing is retried behind
 * the caller's back. */
#ifndef TESSERA_H
#define TESSERA_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define TESSERA_API __attribute__((visibility("default")))
#else
#define TESSERA_API
#endif

#define TESSERA_VERSION "0.1.0"

/* Where the engine's socket is, unless the environment variable TESSERA_SOCKET says otherwise. */
#define TESSERA_SOCKET "/run/tessera/engine.sock"

#define TESSERA_TOP_MAX        20  /* alternatives with a token */
#define TESSERA_STOPS_MAX      16  /* stop strings of a request */
#define TESSERA_STOP_BYTES     256 /* bytes of one */
#define TESSERA_BIASES_MAX     1024
#define TESSERA_PRIORITY_USUAL 128

struct tessera;

struct tessera_error {
    int code;       /* negative errno */
    int retry_ms;   /* with -EAGAIN: when to try again; 0: unknown */
    int permille;   /* with -EAGAIN while the model loads: how far, 0 .. 1000; otherwise -1 */
    char text[512]; /* a sentence for a person: what is wrong, and what to do */
};

/* ---- Connecting ---- */

enum tessera_wait_mode {
    TESSERA_WAIT_AUTO =
        0, /* poll only if this thread's CPUs are none of the engine's, else sleep */
    TESSERA_WAIT_SLEEP = 1,
    TESSERA_WAIT_POLL = 2, /* always poll: takes a CPU from the engine unless you know better */
};

struct tessera_connect_options {
    size_t
        size; /* sizeof(struct tessera_connect_options); tessera_connect_options_init() sets it */
    const char *name; /* how this program calls itself in status and logs; NULL: its own name */
    int timeout_ms;   /* for the handshake [5000] */
    enum tessera_wait_mode wait_mode; /* of tessera_wait() [AUTO] */
    uint32_t credit; /* token events that may wait unread, per request, granted as they are read
                        [256]; 0: the caller grants with tessera_credit() */
};

TESSERA_API void tessera_connect_options_init(struct tessera_connect_options *options);

/* Connects to the engine whose socket is `path` (NULL: $TESSERA_SOCKET, else TESSERA_SOCKET).
 * `options` NULL: the defaults. Returns 0 with *t, or -ENOENT or -ECONNREFUSED (no engine there),
 * -EACCES or -EPERM (not allowed), -EAGAIN (the model is loading: err->permille; or too many
 * channels: err->retry_ms), -EPROTO (not this version), -ETIMEDOUT, -ENOMEM. */
TESSERA_API int tessera_connect(struct tessera **t, const char *path,
                                const struct tessera_connect_options *options,
                                struct tessera_error *err);

/* Hangs up; the engine cancels what is live. NULL is ignored. */
TESSERA_API void tessera_close(struct tessera *t);

/* How hidden states become an embedding. */
enum tessera_pooling {
    TESSERA_POOLING_NONE = 0, /* this engine makes no embeddings of this model */
    TESSERA_POOLING_MEAN = 1,
    TESSERA_POOLING_CLS = 2,  /* the first token's */
    TESSERA_POOLING_LAST = 3, /* the last token's */
};

/* How the model writes tool calls, as its chat template has it. */
enum tessera_tools {
    TESSERA_TOOLS_NONE = 0,    /* not at all, or in a way that is none of these */
    TESSERA_TOOLS_HERMES = 1,  /* <tool_call>{"name": ..., "arguments": {...}}</tool_call> */
    TESSERA_TOOLS_LLAMA3 = 2,  /* {"name": ..., "parameters": {...}} */
    TESSERA_TOOLS_MISTRAL = 3, /* [TOOL_CALLS][{"name": ..., "arguments": {...}}, ...] */
};

struct tessera_info {
    const char *model;           /* strings live as long as the handle */
    const char *architecture;    /* "llama" */
    const char *weights;         /* "Q4_1" */
    const char *engine;          /* the engine's version */
    uint32_t context_tokens;     /* prompt and answer of one request, by the model */
    uint32_t request_tokens_max; /* the same, by the memory that the engine has */
    uint32_t sequences_max;      /* computed together */
    uint32_t queue_max;          /* waiting, over all clients */
    uint32_t requests_max;       /* live on this handle */
    uint32_t payload_bytes_max;  /* of one prompt */
    uint32_t vocabulary;
    uint32_t tokens_max_default; /* where a request does not say */
    uint32_t top_logprobs_max;
    uint32_t park_seconds; /* how long a request may be without credit */
    uint64_t weights_bytes;
    uint64_t parameters;
    uint32_t embedding_width; /* floats of an embedding; 0: none are made of this model */
    enum tessera_pooling pooling;
    int has_chat;      /* the model brings a chat template */
    int has_tools;     /* ... which has a use for `tools` */
    int has_reasoning; /* ... which knows <think> */
    enum tessera_tools tools;
    int may_poll; /* as tessera_wait() would decide for the calling thread in AUTO mode */
};

/* What the engine said when it opened the channel. */
TESSERA_API void tessera_info(struct tessera *t, struct tessera_info *info);

/* ---- Asking ---- */

struct tessera_bias {
    uint32_t token;
    float bias; /* -100 .. 100, added to the logit */
};

struct tessera_options {
    size_t size;              /* sizeof(struct tessera_options); tessera_options_init() sets it */
    uint32_t tokens_max;      /* to generate [0: the engine's default] */
    float temperature;        /* 0: always the likeliest token [0] .. 100 */
    float top_p;              /* 0 < top_p <= 1 [1: off] */
    float min_p;              /* 0 .. 1 [0: off] */
    uint32_t top_k;           /* [0: off] */
    float repetition_penalty; /* 0 < r <= 10 [1: off] */
    float presence_penalty;   /* -10 .. 10 [0: off] */
    float frequency_penalty;  /* -10 .. 10 [0: off] */
    uint32_t penalty_tokens;  /* penalties look at that many last tokens [0: all] */
    int has_seed;             /* [0: the engine draws one and reports it with TESSERA_ACCEPTED] */
    uint64_t seed;
    const struct tessera_bias *biases; /* [NULL] */
    uint32_t bias_count;
    const char *const
        *stops; /* stop strings, NUL-terminated, 1 .. TESSERA_STOP_BYTES each [NULL] */
    uint32_t stop_count;
    int logprobs;          /* report log-probabilities [0] */
    uint32_t top_logprobs; /* and that many alternatives, up to TESSERA_TOP_MAX [0] */
    int ignore_end;        /* end-of-text tokens do not end the answer [0] */
    int special;           /* special tokens spelled in a text prompt are recognised [0] */
    int no_bos;            /* do not put the model's BOS in front of a text prompt [0] */
    int show_special;      /* the answer's text includes special tokens [0] */
    int no_turn;           /* chat: do not open the assistant's turn [0] */
    const char
        *template_json;   /* chat: a JSON object with further variables for the template [NULL]; its
                            `messages` go before the list, which may then be empty; the string
                            `continue_with` is not the template's: it is put behind the prompt, with
                            special tokens recognised, and the answer goes on from there */
    uint32_t deadline_ms; /* until the last token [0: none] */
    uint8_t priority;     /* 0 .. 255, limited by the engine's policy [TESSERA_PRIORITY_USUAL] */
    uint64_t tenant; /* for whom, where the policy lets this user speak for others [0: this user] */
    uint32_t credit; /* first credit when the caller grants [0: as tessera_connect_options] */
};

/* Greedy, no limit but the engine's default. */
TESSERA_API void tessera_options_init(struct tessera_options *options);

struct tessera_message {
    const char *role;    /* "system", "user", "assistant", ... */
    const char *content; /* UTF-8 */
};

/* Each returns the request's id, or 0 with err: -EINVAL (an option out of range, an empty prompt),
 * -E2BIG (the prompt exceeds info.payload_bytes_max), -EAGAIN (info.requests_max are live, or too
 * much is waiting to be sent: take events first), -EPIPE (the engine is gone), -ENOMEM. `options`
 * NULL: the defaults. All arguments are copied. Nothing blocks: a prompt longer than the ring
 * travels during the following calls of tessera_poll() and tessera_wait(). */
TESSERA_API uint64_t tessera_submit_text(struct tessera *t, const char *text, size_t text_bytes,
                                         const struct tessera_options *options,
                                         struct tessera_error *err);
TESSERA_API uint64_t tessera_submit_chat(struct tessera *t, const struct tessera_message *messages,
                                         size_t count, const struct tessera_options *options,
                                         struct tessera_error *err);
TESSERA_API uint64_t tessera_submit_tokens(struct tessera *t, const uint32_t *tokens, size_t count,
                                           const struct tessera_options *options,
                                           struct tessera_error *err);

/* Ends a request; its last event still comes (often TESSERA_DONE with TESSERA_CANCELLED). Ids that
 * are not live are ignored. 0, or -EPIPE. */
TESSERA_API int tessera_cancel(struct tessera *t, uint64_t id, struct tessera_error *err);

/* Grants that many more token events; only where tessera_connect_options.credit was 0. 0, -EPIPE.
 */
TESSERA_API int tessera_credit(struct tessera *t, uint64_t id, uint32_t credit,
                               struct tessera_error *err);

/* ---- Taking answers ---- */

enum tessera_event_kind {
    TESSERA_ACCEPTED =
        1, /* admitted: prompt_tokens, cached_tokens, tokens_max, queue_position, seed */
    TESSERA_TOKEN = 2,     /* token, text, index, time_ns; with logprobs: logprob, top */
    TESSERA_TOKENS = 3,    /* answer to tessera_submit_tokenize(): pieces */
    TESSERA_DONE = 4,      /* last event of an accepted request: reason, figures */
    TESSERA_FAILED = 5,    /* last event of a request that was not accepted: code, retry_ms, text */
    TESSERA_EMBEDDING = 6, /* answer to tessera_submit_embed(): values */
    TESSERA_TEXT = 7,      /* answer to tessera_submit_detokenize() and _render(): text */
};

enum tessera_reason {
    TESSERA_END = 1,    /* the model ended its answer */
    TESSERA_STOP = 2,   /* stop string number stop_index appeared */
    TESSERA_LENGTH = 3, /* tokens_max or the context was reached */
    TESSERA_CANCELLED = 4,
    TESSERA_DEADLINE = 5,
    TESSERA_PARKED = 6, /* without credit for info.park_seconds */
    TESSERA_ERROR = 7,  /* text says what */
    TESSERA_SHUTDOWN = 8,
    TESSERA_TOKENIZED = 9,
    TESSERA_EMBEDDED = 10,
    TESSERA_WRITTEN = 11, /* the text of tessera_submit_detokenize() or _render() is complete */
};

enum tessera_code {
    TESSERA_CODE_OK = 0,
    TESSERA_CODE_INVALID = 1,
    TESSERA_CODE_TOO_LARGE = 2, /* more than this engine can ever do */
    TESSERA_CODE_BUSY = 3,      /* try again after retry_ms */
    TESSERA_CODE_UNSUPPORTED = 4,
    TESSERA_CODE_FORBIDDEN = 5,
    TESSERA_CODE_DUPLICATE = 6,
    TESSERA_CODE_INTERNAL = 7,
    TESSERA_CODE_SHUTDOWN = 8,
};

struct tessera_top {
    uint32_t token;
    float logprob;
    const char *text;
    uint32_t text_bytes;
};

struct tessera_piece {
    uint32_t token;
    uint32_t text_bytes;
    const char *text;
};

/* Pointers in an event live until the next call of tessera_poll(), tessera_wait(), tessera_arm() or
 * tessera_status(). */
struct tessera_event {
    enum tessera_event_kind kind;
    uint64_t id;

    /* TOKEN, TEXT; DONE and FAILED: a sentence, or empty. Not NUL-terminated, whole UTF-8
     * characters. */
    const char *text;
    uint32_t text_bytes;

    /* TOKEN */
    int has_token; /* 0: this is text that was held back, and no token */
    uint32_t token;
    uint32_t index;
    int is_special;
    int has_logprob;
    float logprob;
    uint32_t top_count;
    const struct tessera_top *top;
    uint64_t time_ns; /* CLOCK_MONOTONIC at the engine; with TOKEN, ACCEPTED and DONE */

    /* TOKENS */
    uint32_t piece_first; /* index of pieces[0] in the whole */
    uint32_t piece_count;
    uint32_t piece_total;
    const struct tessera_piece *pieces;

    /* EMBEDDING: a part of it; up to a width of 4,086 all of it */
    uint32_t value_first; /* index of values[0] in the whole */
    uint32_t value_count;
    uint32_t value_total;
    const float *values;

    /* TEXT */
    uint32_t text_offset; /* of the text in the whole */
    uint32_t text_total;  /* bytes of the whole */

    /* ACCEPTED, DONE */
    uint32_t prompt_tokens;
    uint32_t cached_tokens;
    uint32_t tokens_max;
    uint32_t queue_position;
    uint64_t seed;
    int in_reasoning; /* ACCEPTED: the chat's prompt ends with <think>, the answer begins there */

    /* DONE */
    enum tessera_reason reason;
    uint32_t stop_index;
    uint32_t completion_tokens;
    uint64_t queue_ns;   /* from the engine's pick-up to the first step */
    uint64_t prefill_ns; /* from there to the first token */
    uint64_t decode_ns;  /* from there to the last token */

    /* DONE with TESSERA_ERROR, FAILED */
    enum tessera_code code;
    uint32_t retry_ms;
};

/* The next event if there is one: 1, 0, or -EPIPE (the engine is gone; what it had sent was given
 * first). Never blocks. */
TESSERA_API int tessera_poll(struct tessera *t, struct tessera_event *event,
                             struct tessera_error *err);

/* The same, waiting for at most timeout_ms (-1: without limit): 1, 0 (time is up), -EPIPE. Polls or
 * sleeps as tessera_connect_options.wait_mode says. Returns 0 at once where nothing is live, as no
 * event can come. Signals do not end the wait. */
TESSERA_API int tessera_wait(struct tessera *t, struct tessera_event *event, int timeout_ms,
                             struct tessera_error *err);

/* For event loops: a descriptor that becomes readable when an event comes or the engine hangs up,
 * after tessera_arm() returned 1. Do not read from it or close it. The loop:
 *
 *     for (;;) {
 *         while (tessera_poll(t, &event, &err) > 0) ...;
 *         if (tessera_arm(t, &err) == 1) wait for tessera_fd(t) to be readable;
 *     }
 *
 * tessera_arm(): 1 armed; 0 an event is there already; -EPIPE. A prompt that is longer than the
 * ring needs tessera_poll() to be called meanwhile: see tessera_timeout_ms(). */
TESSERA_API int tessera_fd(const struct tessera *t);
TESSERA_API int tessera_arm(struct tessera *t, struct tessera_error *err);

/* How long the loop may wait for the descriptor before it polls again; -1: as long as it likes. */
TESSERA_API int tessera_timeout_ms(const struct tessera *t);

/* Requests without their last event. */
TESSERA_API uint32_t tessera_live(const struct tessera *t);

/* ---- Tokens without an answer ---- */

/* Asks for the ids of a text (TESSERA_TOKENS events, then TESSERA_DONE with TESSERA_TOKENIZED). Of
 * `options` only `special` and `no_bos` count. Returns the id, or 0 as above. */
TESSERA_API uint64_t tessera_submit_tokenize(struct tessera *t, const char *text, size_t text_bytes,
                                             const struct tessera_options *options,
                                             struct tessera_error *err);

/* The same for a chat as the template renders it; of `options` no_turn and template_json count. */
TESSERA_API uint64_t tessera_submit_tokenize_chat(struct tessera *t,
                                                  const struct tessera_message *messages,
                                                  size_t count,
                                                  const struct tessera_options *options,
                                                  struct tessera_error *err);

/* The text of ids (TESSERA_TEXT events, then TESSERA_DONE with TESSERA_WRITTEN; an empty text has
 * none of the former). Of `options` only show_special counts. */
TESSERA_API uint64_t tessera_submit_detokenize(struct tessera *t, const uint32_t *tokens,
                                               size_t count, const struct tessera_options *options,
                                               struct tessera_error *err);

/* The prompt that the template makes of a chat, as text; of `options` no_turn and template_json
 * count. */
TESSERA_API uint64_t tessera_submit_render(struct tessera *t,
                                           const struct tessera_message *messages, size_t count,
                                           const struct tessera_options *options,
                                           struct tessera_error *err);

/* ---- Embeddings ---- */

/* Asks for the embedding of a prompt: info.embedding_width floats of Euclidean length 1, pooled as
 * info.pooling says (TESSERA_ACCEPTED, TESSERA_EMBEDDING events, then TESSERA_DONE with
 * TESSERA_EMBEDDED). The same prompt has the same bytes whatever else the engine does. Of `options`
 * those count that make the prompt, and deadline_ms, priority and tenant. Returns the id, or 0 as
 * above. */
TESSERA_API uint64_t tessera_submit_embed(struct tessera *t, const char *text, size_t text_bytes,
                                          const struct tessera_options *options,
                                          struct tessera_error *err);
TESSERA_API uint64_t tessera_submit_embed_tokens(struct tessera *t, const uint32_t *tokens,
                                                 size_t count,
                                                 const struct tessera_options *options,
                                                 struct tessera_error *err);
TESSERA_API uint64_t tessera_submit_embed_chat(struct tessera *t,
                                               const struct tessera_message *messages, size_t count,
                                               const struct tessera_options *options,
                                               struct tessera_error *err);

/* ---- Status ---- */

struct tessera_status_node {
    uint32_t node;
    uint64_t bytes_1g, bytes_2m, bytes_thp, bytes_4k; /* by size of page */
    uint64_t misplaced_bytes;                         /* of these, on another node than asked for */
};

enum tessera_thread_state { TESSERA_SLEEPS = 0, TESSERA_SPINS = 1, TESSERA_WORKS = 2 };

struct tessera_status_thread {
    char name[16];
    int cpu; /* -1: not pinned */
    int node;
    enum tessera_thread_state state;
};

enum tessera_request_state {
    TESSERA_WAITING = 0,
    TESSERA_PREFILLING = 1,
    TESSERA_DECODING = 2,
    TESSERA_PARKING = 3,
};

struct tessera_status_request {
    uint64_t id; /* 0: another user's */
    uint64_t tenant;
    uint64_t age_ns;
    enum tessera_request_state state;
    uint32_t prompt_tokens;
    uint32_t completion_tokens;
    uint32_t tokens_max;
};

struct tessera_status {
    char model[128], architecture[32], weights[32], kernels[32], engine[32];
    uint64_t uptime_ns, load_ns;
    uint64_t weights_bytes, kv_bytes, kv_used_bytes;
    uint64_t steps, prompt_tokens, completion_tokens; /* since the start */
    uint64_t requests_done, requests_refused;         /* since the start */
    uint64_t requests_ended[16];                      /* of those done, by enum tessera_reason */
    uint64_t cached_tokens;                           /* of prompt_tokens: not computed anew */
    uint64_t queue_ns, prefill_ns, decode_ns;         /* sums over the requests done */
    uint32_t requests_running, requests_waiting, requests_parked;
    uint32_t channels;
    uint32_t node_count, thread_count, request_count;
    struct tessera_status_node nodes[16];
    struct tessera_status_thread threads[128];
    struct tessera_status_request requests[64]; /* the first of them */
};

/* Asks the engine and waits for at most timeout_ms. Events of other requests that come meanwhile
 * are kept for tessera_poll(). 0, -ETIMEDOUT, -EPIPE, -EAGAIN (info.requests_max are live),
 * -ENOMEM, or -EIO with the engine's sentence. */
TESSERA_API int tessera_status(struct tessera *t, struct tessera_status *status, int timeout_ms,
                               struct tessera_error *err);

/* "end", "stop", "length", ...; "busy", ... Never NULL. */
TESSERA_API const char *tessera_reason_name(enum tessera_reason reason);
TESSERA_API const char *tessera_code_name(enum tessera_code code);

#ifdef __cplusplus
}
#endif

#endif
