/* The wire: every message between a client and the engine. This header is their manual.
 *
 * Three kinds of message. *Socket messages* open a channel (one seqpacket datagram each).
 * *Requests* are records that the client writes into the request ring; *events* are records that
 * the engine writes into the event ring. All are little-endian, fixed-width, and begin with what
 * their kind says; a record begins with struct tsr_record (ring.h), whose shape carries its type
 * and its bytes. Reserved fields are zero when written and, in requests, refused when they are not:
 * so they can get a meaning later.
 *
 * A conversation:
 *
 *     client                                      engine
 *     connect, TSR_GREET          ------------>   checks version and SO_PEERCRED against its policy
 *                                 <------------   TSR_GRANT with two descriptors, or TSR_LOADING,
 * TSR_REFUSE maps, faults in, TSR_READY  ------------>   checks that every page is there and paid
 * for
 *                                 <------------   TSR_OPENED, and HELLO as the first event
 *     SUBMIT [CONTINUE ...]       ------------>   ACCEPTED, TOKEN ..., DONE     or ERROR
 *     CREDIT, CANCEL              ------------>
 *     hangs up, or                <------------   TSR_DROPPED with the reason, then hang-up
 *
 * Request ids are the client's: any non-zero number that none of its live requests has. A request
 * is live from its SUBMIT (or STATUS) to its final event: DONE, ERROR, or STATUS. Exactly one final
 * event comes for each, however it ends; the event ring keeps room for it.
 *
 * Flow control: a request may be sent as many TOKEN events as it has credit; SUBMIT grants the
 * first, CREDIT adds. A request without credit, or whose events do not fit the ring because the
 * client does not read, is parked: others go on. After hello.park_seconds it is ended
 * (TSR_REASON_PARKED); parks of an answer that has begun add up, less what its tokens earn: a
 * client that takes park_seconds / 30 for each token is never ended for it.
 *
 * Versions: TSR_WIRE_VERSION counts incompatible changes. New record types, flags and reserved
 * fields that older peers never see are compatible; a client ignores event types that it does not
 * know. */
#ifndef TSR_SHM_WIRE_H
#define TSR_SHM_WIRE_H

#include <tsr/shm/err.h>
#include <tsr/shm/ring.h>

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { TSR_WIRE_VERSION = 1 };

/* ---- Limits of the format; the engine's own, often smaller, come with HELLO ---- */

enum {
    TSR_WIRE_RECORD_BYTES_MAX =
        16384,                      /* any record; a channel's rings are four times that or more */
    TSR_WIRE_FINAL_BYTES_MAX = 256, /* DONE and ERROR */
    TSR_WIRE_BIAS_MAX = 1024,       /* logit bias entries of a request */
    TSR_WIRE_STOPS_MAX = 16,        /* stop strings of a request */
    TSR_WIRE_STOP_BYTES_MAX = 256,  /* bytes of one */
    TSR_WIRE_TOP_LOGPROBS_MAX = 20,
    TSR_WIRE_MESSAGES_MAX = 4096, /* messages of a chat */
    TSR_WIRE_CPUS_MAX = 1024,
    TSR_WIRE_SENTENCE_MAX = 160, /* bytes of the sentence in DONE, ERROR */
};

/* ---- Socket messages ---- */

enum tsr_greet_type {
    TSR_GREET = 0x54534701, /* client: the first message */
    TSR_GRANT,              /* engine: here are two descriptors: request region, event region */
    TSR_LOADING,            /* engine: come again; the socket is closed after it */
    TSR_REFUSE,             /* engine: no, because; the socket is closed after it */
    TSR_READY,              /* client: both regions are mapped and faulted in */
    TSR_OPENED,             /* engine: the channel is open, HELLO is in the event ring */
    TSR_DROPPED, /* engine: the channel was closed, because; the socket is closed after it */
};

/* Every socket message but the doorbell, which is one byte of any value, in either direction. */
struct tsr_greet {
    uint32_t type;          /* enum tsr_greet_type */
    uint32_t version;       /* TSR_WIRE_VERSION of the sender */
    uint32_t request_bytes; /* GRANT: size of the request region */
    uint32_t event_bytes;   /* GRANT: size of the event region */
    uint32_t code;          /* REFUSE, DROPPED: enum tsr_code */
    uint32_t permille;      /* LOADING: how far, 0 .. 1000 */
    uint32_t retry_ms;      /* LOADING, REFUSE: when to try again; 0: never */
    uint32_t reserved;
    char text[224]; /* a sentence, NUL-terminated; GREET: the client's name for status and logs */
};

static_assert(sizeof(struct tsr_greet) == 256, "socket message layout");

/* ---- The first page of each region ---- */

#define TSR_REQUEST_MAGIC 0x5145525453534554u /* "TESSTREQ" */
#define TSR_EVENT_MAGIC   0x544e564553534554u /* "TESSEVNT" */

enum { TSR_CTL_BYTES = 4096 }; /* the ring's data follows the control page and fills the region */

/* Request region. Every word is written by the client, and by the client alone. */
struct tsr_request_ctl {
    _Atomic uint64_t magic; /* TSR_REQUEST_MAGIC, written last, before READY */
    uint32_t version;
    uint32_t reserved;
    uint8_t pad0[112];
    _Atomic uint64_t event_head; /* consumer index of the event ring */
    uint8_t pad1[120];
    _Atomic uint32_t client_sleep; /* enum tsr_sleep */
    uint8_t pad2[124];
    uint8_t unused[TSR_CTL_BYTES - 384];
};

/* What engine_sleep says in its low bits; the rest counts, so that a client rings once a sleep. */
enum tsr_engine_sleep {
    TSR_ENGINE_ASLEEP = 1,  /* ring when a request is written */
    TSR_ENGINE_STARVED = 2, /* with ASLEEP: ring also when the event ring was read empty */
    TSR_ENGINE_SLEEPS_STEP = 4,
};

/* Event region. Every word is written by the engine, and by the engine alone. */
struct tsr_event_ctl {
    _Atomic uint64_t magic; /* TSR_EVENT_MAGIC, written last (release), read first (acquire) */
    uint32_t version;
    uint32_t requests_max;
    uint64_t request_key; /* ring keys (ring.h) */
    uint64_t event_key;
    uint8_t pad0[96];
    _Atomic uint64_t request_head; /* consumer index of the request ring */
    uint8_t pad1[120];
    _Atomic uint32_t engine_sleep; /* enum tsr_engine_sleep, in steps of TSR_ENGINE_SLEEPS_STEP */
    uint8_t pad2[124];
    _Atomic uint32_t client_futex; /* counts wake-ups; a sleeping client waits here */
    uint8_t pad3[124];
    uint8_t unused[TSR_CTL_BYTES - 512];
};

static_assert(sizeof(struct tsr_request_ctl) == TSR_CTL_BYTES, "request control page");
static_assert(offsetof(struct tsr_request_ctl, event_head) == 128, "request control page");
static_assert(offsetof(struct tsr_request_ctl, client_sleep) == 256, "request control page");
static_assert(sizeof(struct tsr_event_ctl) == TSR_CTL_BYTES, "event control page");
static_assert(offsetof(struct tsr_event_ctl, request_head) == 128, "event control page");
static_assert(offsetof(struct tsr_event_ctl, engine_sleep) == 256, "event control page");
static_assert(offsetof(struct tsr_event_ctl, client_futex) == 384, "event control page");

/* ---- Record types ---- */

enum tsr_wire_type {
    /* requests */
    TSR_REQ_SUBMIT = 1,
    TSR_REQ_CONTINUE = 2,
    TSR_REQ_CREDIT = 3,
    TSR_REQ_CANCEL = 4,
    TSR_REQ_STATUS = 5,
    /* events */
    TSR_EV_HELLO = 16,
    TSR_EV_ACCEPTED = 17,
    TSR_EV_TOKEN = 18,
    TSR_EV_TOKENS = 19,
    TSR_EV_DONE = 20,
    TSR_EV_ERROR = 21,
    TSR_EV_STATUS = 22,
    TSR_EV_EMBEDDING = 23,
    TSR_EV_TEXT = 24,
};

/* Why something was refused or ended badly. */
enum tsr_code {
    TSR_CODE_OK = 0,
    TSR_CODE_INVALID = 1,     /* malformed, or out of a range that the sentence names */
    TSR_CODE_TOO_LARGE = 2,   /* more than context, payload or pool can ever hold */
    TSR_CODE_BUSY = 3,        /* queue, channel or memory is full now: retry_ms says when */
    TSR_CODE_UNSUPPORTED = 4, /* this engine or model cannot do that */
    TSR_CODE_FORBIDDEN = 5,   /* policy */
    TSR_CODE_DUPLICATE = 6,   /* the request id is live already */
    TSR_CODE_INTERNAL = 7,
    TSR_CODE_SHUTDOWN = 8,
    TSR_CODE_LIMIT = 9,    /* grants a minute, channels, bytes of this user */
    TSR_CODE_VERSION = 10, /* the peers speak different versions */
    TSR_CODE_LIED = 11,    /* the peer broke the contract of the channel */
};

/* ---- Requests ---- */

enum tsr_payload_kind {
    TSR_PAYLOAD_TEXT = 1,   /* UTF-8 */
    TSR_PAYLOAD_CHAT = 2,   /* messages, rendered by the model's template; layout below */
    TSR_PAYLOAD_TOKENS = 3, /* uint32_t ids */
};

enum tsr_submit_flag {
    TSR_SUBMIT_LOGPROBS = 1 << 0,     /* TOKEN events carry log-probabilities */
    TSR_SUBMIT_IGNORE_END = 1 << 1,   /* end-of-text ids do not end the request */
    TSR_SUBMIT_SPECIAL = 1 << 2,      /* TEXT: special tokens spelled in the text are recognised */
    TSR_SUBMIT_NO_BOS = 1 << 3,       /* TEXT: do not put the model's BOS in front */
    TSR_SUBMIT_TOKENIZE = 1 << 4,     /* answer with TOKENS events (the prompt's ids), then DONE */
    TSR_SUBMIT_PIECES = 1 << 5,       /* TOKENIZE: each id with its text */
    TSR_SUBMIT_NO_TURN = 1 << 6,      /* CHAT: do not open the assistant's turn at the end */
    TSR_SUBMIT_SHOW_SPECIAL = 1 << 7, /* TOKEN text includes special tokens */
    TSR_SUBMIT_SEEDED = 1 << 8, /* `seed` counts; otherwise the engine draws one, see ACCEPTED */
    TSR_SUBMIT_EMBED = 1 << 9, /* answer with the prompt's embedding: EMBEDDING events, then DONE */
    TSR_SUBMIT_DETOKENIZE = 1 << 10, /* TOKENS: answer with the ids' text: TEXT events, then DONE;
                                        special tokens only with TSR_SUBMIT_SHOW_SPECIAL */
    TSR_SUBMIT_RENDER = 1 << 11, /* CHAT: answer with what the template writes: TEXT, then DONE */
    TSR_SUBMIT_FLAGS_ALL = (1 << 12) - 1,
    /* Kinds of answers other than a generation: at most one of them. */
    TSR_SUBMIT_ANSWERS =
        TSR_SUBMIT_TOKENIZE | TSR_SUBMIT_EMBED | TSR_SUBMIT_DETOKENIZE | TSR_SUBMIT_RENDER,
};

/* Requests that generate nothing (TSR_SUBMIT_ANSWERS) send no TOKEN events and need no credit; what
 * concerns sampling, stop strings and tokens_max is checked and has no effect. Only EMBED takes
 * part in steps, waits in the queue and has ACCEPTED before its answer; its deadline and its
 * priority count. */

/* SUBMIT: the fixed part, then `bias_count` struct tsr_wire_bias, then `stop_bytes` bytes of stop
 * strings (each a uint16_t length 1 .. TSR_WIRE_STOP_BYTES_MAX and its bytes, unaligned, stop_count
 * in all), then, at the next multiple of 8, `chunk_bytes` of payload: the first part of
 * `payload_bytes`. The rest follows in CONTINUE records of the same request, before the next SUBMIT
 * of the channel. */
struct tsr_wire_submit {
    struct tsr_record record;
    uint64_t request;         /* non-zero */
    uint64_t tenant;          /* 0: the peer's uid; another only where the policy lets this peer */
    uint32_t payload_bytes;   /* in all, 1 .. hello.payload_bytes_max */
    uint32_t chunk_bytes;     /* of them in this record */
    uint8_t kind;             /* enum tsr_payload_kind */
    uint8_t priority;         /* 0 (background) .. 255, 128 is usual; clamped by policy */
    uint16_t flags;           /* enum tsr_submit_flag */
    uint32_t credit;          /* TOKEN events that may be sent before the first CREDIT */
    uint32_t tokens_max;      /* to generate; 0: hello.tokens_max_default */
    uint32_t deadline_ms;     /* from the engine's pick-up to the last token; 0: none */
    uint64_t seed;            /* with TSR_SUBMIT_SEEDED */
    float temperature;        /* 0 (greedy) .. 100 */
    float top_p;              /* 0 < p <= 1; 1: off */
    float min_p;              /* 0 (off) .. 1 */
    float repetition_penalty; /* 0 < r <= 10; 1: off */
    float presence_penalty;   /* -10 .. 10; 0: off */
    float frequency_penalty;  /* -10 .. 10; 0: off */
    uint32_t top_k;           /* 0: off */
    uint16_t bias_count;      /* <= TSR_WIRE_BIAS_MAX */
    uint8_t stop_count;       /* <= TSR_WIRE_STOPS_MAX */
    uint8_t top_logprobs;     /* alternatives with each token, with TSR_SUBMIT_LOGPROBS */
    uint32_t penalty_tokens;  /* how many of the last tokens penalties look at; 0: all */
    uint32_t stop_bytes;
    uint32_t reserved[6];
};

static_assert(sizeof(struct tsr_wire_submit) == 128, "submit layout");
static_assert(offsetof(struct tsr_wire_submit, kind) == 40, "submit layout");
static_assert(offsetof(struct tsr_wire_submit, seed) == 56, "submit layout");
static_assert(offsetof(struct tsr_wire_submit, bias_count) == 92, "submit layout");

struct tsr_wire_bias {
    uint32_t token;
    float bias; /* added to the logit; -100 .. 100 */
};

/* CHAT payload: uint32_t message count, then for each message uint32_t role_bytes (1 .. 64),
 * uint32_t content_bytes, the role, the content; then uint32_t extra_bytes and, if not 0, a JSON
 * object with further variables for the template. Its `messages`, where it has any, go before those
 * listed: messages with more than role and content (tool calls) come that way, with a count of 0.
 * Unaligned, packed, exactly payload_bytes long.
 *
 * One member of the object is not for the template, which does not see it: `continue_with`, a
 * string, is put behind what the template wrote, with special tokens recognised, and the answer
 * goes on from there (without repeating it). So an answer can be made to begin with a tool call.
 * Where the template has opened reasoning (TSR_ACCEPTED_REASONING), "\n</think>\n\n" goes before
 * it. */

/* CONTINUE: the fixed part, then chunk_bytes of payload. CREDIT and CANCEL may stand between the
 * parts. A request that ends before its payload is whole needs no rest: CONTINUE of a request that
 * is not live is ignored. */
struct tsr_wire_continue {
    struct tsr_record record;
    uint64_t request;
    uint32_t payload_off; /* of the chunk in the payload: where the last one ended */
    uint32_t chunk_bytes; /* 1 .. */
};

static_assert(sizeof(struct tsr_wire_continue) == 32, "continue layout");

struct tsr_wire_credit {
    struct tsr_record record;
    uint64_t request;
    uint32_t credit; /* added; the sum saturates. Unknown or ended requests are ignored */
    uint32_t reserved;
};

static_assert(sizeof(struct tsr_wire_credit) == 32, "credit layout");

/* CANCEL: DONE follows with TSR_REASON_CANCELLED, unless another final event was already on its
 * way. STATUS: answered by one STATUS event (or ERROR). */
struct tsr_wire_plain {
    struct tsr_record record;
    uint64_t request;
    uint64_t reserved;
};

static_assert(sizeof(struct tsr_wire_plain) == 32, "cancel and status layout");

/* ---- Events ---- */

enum tsr_hello_flag {
    TSR_HELLO_CHAT = 1 << 0,      /* the model has a chat template */
    TSR_HELLO_TENANTS = 1 << 1,   /* this channel may speak for other tenants */
    TSR_HELLO_DEDICATED = 1 << 2, /* the engine's CPUs are its own (appliance mode) */
    TSR_HELLO_TOOLS = 1 << 3,     /* the chat template has a use for `tools`; see hello.tools */
    TSR_HELLO_REASONING = 1 << 4, /* the chat template knows reasoning: <think> ... </think> */
    TSR_HELLO_SAMPLING = 1 << 5,  /* the model's files advise how to sample: the fields below */
};

/* How the hidden states of a prompt (behind the final norm) become its embedding. The numbers are
 * GGUF's ({arch}.pooling_type). */
enum tsr_pooling {
    TSR_POOLING_NONE = 0, /* this engine makes no embeddings of this model */
    TSR_POOLING_MEAN = 1, /* the mean of all */
    TSR_POOLING_CLS = 2,  /* the first token's */
    TSR_POOLING_LAST = 3, /* the last token's: also where the model says nothing */
};

/* How a model writes tool calls, as its chat template has it. */
enum tsr_tools {
    TSR_TOOLS_NONE = 0,    /* not at all, or in a way that is none of these */
    TSR_TOOLS_HERMES = 1,  /* <tool_call>{"name": ..., "arguments": {...}}</tool_call> (Qwen too) */
    TSR_TOOLS_LLAMA3 = 2,  /* {"name": ..., "parameters": {...}}, <|python_tag|> may stand before */
    TSR_TOOLS_MISTRAL = 3, /* [TOOL_CALLS][{"name": ..., "arguments": {...}}, ...] */
};

/* HELLO: the first event of a channel. Strings are NUL-terminated. The engine's part fills it once;
 * the door adds what is the channel's own (requests_max, ring sizes, TSR_HELLO_TENANTS). */
struct tsr_wire_hello {
    struct tsr_record record;
    uint32_t version;
    uint32_t flags;              /* enum tsr_hello_flag */
    uint32_t context_tokens;     /* positions of one sequence: prompt and answer */
    uint32_t request_tokens_max; /* prompt and answer that the KV pool can hold for one request */
    uint32_t sequences_max;      /* running together */
    uint32_t queue_max;          /* waiting, over all channels */
    uint32_t requests_max;       /* live on this channel */
    uint32_t payload_bytes_max;
    uint32_t record_bytes_max;
    uint32_t request_ring_bytes;
    uint32_t event_ring_bytes;
    uint32_t vocabulary;
    uint32_t park_seconds;
    uint32_t tokens_max_default;
    uint32_t top_logprobs_max;
    uint32_t embedding_width; /* floats of an embedding; 0: this engine makes none */
    uint64_t engine_cpus[TSR_WIRE_CPUS_MAX /
                         64]; /* where the engine's threads spin: bit c % 64 of word c / 64 */
    uint64_t weights_bytes;
    uint64_t parameters;
    char model[128];       /* its name, for people */
    char architecture[32]; /* "llama", "qwen2" */
    char weights[32];      /* "Q4_1", "bf16" */
    char engine[32];       /* version of the engine */
    uint8_t pooling;       /* enum tsr_pooling */
    uint8_t tools;         /* enum tsr_tools */
    uint8_t reserved0[2];
    float temperature; /* with TSR_HELLO_SAMPLING, as in SUBMIT; it is the client's to follow */
    float top_p;
    float min_p;
    float repetition_penalty;
    uint32_t top_k;
    uint8_t reserved[40];
};

static_assert(sizeof(struct tsr_wire_hello) == 512, "hello layout");

enum tsr_accepted_flag {
    TSR_ACCEPTED_REASONING = 1 << 0, /* CHAT: the prompt ends with <think> and perhaps white space:
                                        the answer begins as reasoning */
};

/* ACCEPTED: the request passed admission; it runs or waits. */
struct tsr_wire_accepted {
    struct tsr_record record;
    uint64_t request;
    uint32_t prompt_tokens;
    uint32_t cached_tokens;  /* of them not computed anew */
    uint32_t tokens_max;     /* as granted */
    uint32_t queue_position; /* 0: runs from the next step on */
    uint64_t seed;           /* with which the request can be repeated */
    uint64_t time_ns;        /* CLOCK_MONOTONIC */
    uint32_t flags;          /* enum tsr_accepted_flag */
    uint32_t reserved;
};

static_assert(sizeof(struct tsr_wire_accepted) == 64, "accepted layout");

enum tsr_wire_token_flag {
    TSR_WIRE_TOKEN_LOGPROB = 1 << 0, /* `logprob` and the alternatives are there */
    TSR_WIRE_TOKEN_TEXT_ONLY =
        1 << 1, /* no token: text that was held back (stop strings, half a character) */
    TSR_WIRE_TOKEN_SPECIAL = 1 << 2, /* a special token */
};

/* TOKEN: the fixed part, text_bytes of text (whole UTF-8 characters; may be empty while a character
 * or a possible stop string is incomplete), then, at the next multiple of 4, top_count
 * alternatives. A token with up to 16 bytes of text and no alternatives is one cache line. */
struct tsr_wire_token {
    struct tsr_record record;
    uint64_t request;
    uint64_t time_ns; /* CLOCK_MONOTONIC when the engine published it */
    uint32_t token;
    float logprob;  /* natural logarithm, of the model's own distribution */
    uint32_t index; /* of the token in the answer, from 0 */
    uint16_t text_bytes;
    uint8_t top_count;
    uint8_t flags; /* enum tsr_wire_token_flag */
    uint8_t text[];
};

static_assert(sizeof(struct tsr_wire_token) == 48, "token layout");

/* An alternative: the fixed part, its text, padding to a multiple of 4. In order of probability. */
struct tsr_wire_top {
    uint32_t token;
    float logprob;
    uint32_t text_bytes;
    uint8_t text[];
};

static_assert(sizeof(struct tsr_wire_top) == 12, "alternative layout");

/* TOKENS (answer to TSR_SUBMIT_TOKENIZE): `count` struct tsr_wire_piece, then their texts one after
 * the other (text_bytes in all, 0 without TSR_SUBMIT_PIECES). */
struct tsr_wire_tokens {
    struct tsr_record record;
    uint64_t request;
    uint32_t first; /* index of the first id of this record in the whole */
    uint32_t count;
    uint32_t total; /* ids of the whole */
    uint32_t text_bytes;
};

static_assert(sizeof(struct tsr_wire_tokens) == 40, "tokens layout");

struct tsr_wire_piece {
    uint32_t token;
    uint32_t text_bytes;
};

/* EMBEDDING (answer to TSR_SUBMIT_EMBED): a part of the prompt's embedding, pooled as HELLO says
 * and divided by its Euclidean length. A width of up to 4,086 comes in one event. */
struct tsr_wire_embedding {
    struct tsr_record record;
    uint64_t request;
    uint32_t first; /* index of values[0] in the whole */
    uint32_t count;
    uint32_t total; /* hello.embedding_width */
    uint32_t reserved;
    float values[]; /* [count] */
};

static_assert(sizeof(struct tsr_wire_embedding) == 40, "embedding layout");

/* TEXT (answer to TSR_SUBMIT_DETOKENIZE and TSR_SUBMIT_RENDER): a part of the text, whole UTF-8
 * characters where the text is UTF-8. An empty text has no event. */
struct tsr_wire_text {
    struct tsr_record record;
    uint64_t request;
    uint32_t offset;     /* of the part in the whole */
    uint32_t text_bytes; /* of the part */
    uint32_t total;      /* bytes of the whole */
    uint32_t reserved;
    uint8_t text[];
};

static_assert(sizeof(struct tsr_wire_text) == 40, "text layout");

enum tsr_reason {
    TSR_REASON_END = 1,       /* an end-of-text token */
    TSR_REASON_STOP = 2,      /* a stop string; stop_index says which */
    TSR_REASON_LENGTH = 3,    /* tokens_max or the context is reached */
    TSR_REASON_CANCELLED = 4, /* by the client */
    TSR_REASON_DEADLINE = 5,
    TSR_REASON_PARKED = 6, /* without credit for park_seconds */
    TSR_REASON_ERROR = 7,  /* code and text say which */
    TSR_REASON_SHUTDOWN = 8,
    TSR_REASON_TOKENIZED = 9, /* a TSR_SUBMIT_TOKENIZE request is complete */
    TSR_REASON_EMBEDDED = 10, /* a TSR_SUBMIT_EMBED request is */
    TSR_REASON_WRITTEN = 11,  /* a TSR_SUBMIT_DETOKENIZE or TSR_SUBMIT_RENDER request is */
};

/* DONE: the final event of a request that was accepted. */
struct tsr_wire_done {
    struct tsr_record record;
    uint64_t request;
    uint8_t reason; /* enum tsr_reason */
    uint8_t stop_index;
    uint16_t text_bytes; /* of `text`, <= TSR_WIRE_SENTENCE_MAX */
    uint32_t code;       /* enum tsr_code */
    uint32_t prompt_tokens;
    uint32_t cached_tokens;
    uint32_t completion_tokens;
    uint32_t reserved0;
    uint64_t queue_ns;   /* pick-up to first step */
    uint64_t prefill_ns; /* first step to first token */
    uint64_t decode_ns;  /* first token to last */
    uint64_t time_ns;    /* CLOCK_MONOTONIC */
    uint64_t reserved1;
    char
        text[TSR_WIRE_SENTENCE_MAX]; /* a sentence where the reason wants one; not NUL-terminated */
};

static_assert(sizeof(struct tsr_wire_done) == 248, "done layout");
static_assert(sizeof(struct tsr_wire_done) <= TSR_WIRE_FINAL_BYTES_MAX, "done layout");

/* ERROR: the final event of a request that was not accepted; request 0: about the channel. */
struct tsr_wire_error {
    struct tsr_record record;
    uint64_t request;
    uint32_t code;     /* enum tsr_code */
    uint32_t retry_ms; /* with TSR_CODE_BUSY: when it may be worth trying again */
    uint32_t text_bytes;
    uint32_t reserved;
    char text[TSR_WIRE_SENTENCE_MAX]; /* not NUL-terminated */
};

static_assert(sizeof(struct tsr_wire_error) == 200, "error layout");

/* STATUS: the fixed part, then node_count nodes, thread_count threads, request_count requests, and
 * counters_bytes of struct tsr_wire_status_counters (0: an engine that has none yet; more or fewer
 * than a client knows: another version's).
 * Bounded so that the whole fits one record; request_count may be fewer than requests_running +
 * _waiting + _parked. */
struct tsr_wire_status {
    struct tsr_record record;
    uint64_t request;
    uint64_t time_ns; /* CLOCK_MONOTONIC */
    uint64_t uptime_ns;
    uint64_t load_ns; /* reading and packing the model */
    uint64_t weights_bytes;
    uint64_t kv_bytes;
    uint64_t kv_used_bytes;
    uint64_t steps;
    uint64_t prompt_tokens;     /* since the start */
    uint64_t completion_tokens; /* since the start */
    uint64_t requests_done;     /* since the start, however they ended */
    uint64_t requests_refused;  /* since the start */
    uint32_t requests_running;
    uint32_t requests_waiting;
    uint32_t requests_parked;
    uint32_t channels;
    uint32_t node_count;
    uint32_t thread_count;
    uint32_t request_count;
    uint32_t counters_bytes;
    char model[128];
    char architecture[32];
    char weights[32];
    char kernels[32]; /* "avx512", "avx2", "ref" */
    char engine[32];
    uint8_t reserved[8];
};

static_assert(sizeof(struct tsr_wire_status) == 408, "status layout");

enum {
    TSR_WIRE_STATUS_NODES_MAX = 16,
    TSR_WIRE_STATUS_THREADS_MAX = 128,
    TSR_WIRE_STATUS_REQUESTS_MAX = 64,
    TSR_WIRE_STATUS_REASONS = 16,
};

/* The engine's memory on one NUMA node, by size of page. */
struct tsr_wire_status_node {
    uint32_t node;
    uint32_t reserved;
    uint64_t bytes_1g;
    uint64_t bytes_2m;
    uint64_t bytes_thp; /* transparent huge pages */
    uint64_t bytes_4k;
    uint64_t misplaced_bytes; /* of these, on another node than asked for */
};

enum tsr_thread_state { TSR_THREAD_SLEEPS = 0, TSR_THREAD_SPINS = 1, TSR_THREAD_WORKS = 2 };

struct tsr_wire_status_thread {
    char name[16]; /* "worker 0", "control" */
    int32_t cpu;   /* pinned to; -1: not pinned */
    int32_t node;
    uint32_t state; /* enum tsr_thread_state */
    uint32_t reserved;
};

enum tsr_request_state {
    TSR_REQUEST_WAITS,
    TSR_REQUEST_PREFILLS,
    TSR_REQUEST_DECODES,
    TSR_REQUEST_PARKED
};

struct tsr_wire_status_request {
    uint64_t request; /* 0 where it is another user's and the asker is not privileged */
    uint64_t tenant;
    uint64_t age_ns;
    uint32_t state; /* enum tsr_request_state */
    uint32_t prompt_tokens;
    uint32_t completion_tokens;
    uint32_t tokens_max;
};

/* Sums since the start. */
struct tsr_wire_status_counters {
    uint64_t requests_ended[TSR_WIRE_STATUS_REASONS]; /* accepted ones, by enum tsr_reason */
    uint64_t cached_tokens;                           /* of prompt_tokens: not computed anew */
    uint64_t queue_ns;                                /* of requests that ended: as in their DONE */
    uint64_t prefill_ns;
    uint64_t decode_ns;
};

static_assert(sizeof(struct tsr_wire_status_counters) == 160, "status counters layout");
static_assert(sizeof(struct tsr_wire_status_node) == 48, "status node layout");
static_assert(sizeof(struct tsr_wire_status_thread) == 32, "status thread layout");
static_assert(sizeof(struct tsr_wire_status_request) == 40, "status request layout");
static_assert(sizeof(struct tsr_wire_status) +
                      TSR_WIRE_STATUS_NODES_MAX * sizeof(struct tsr_wire_status_node) +
                      TSR_WIRE_STATUS_THREADS_MAX * sizeof(struct tsr_wire_status_thread) +
                      TSR_WIRE_STATUS_REQUESTS_MAX * sizeof(struct tsr_wire_status_request) +
                      sizeof(struct tsr_wire_status_counters) <=
                  TSR_WIRE_RECORD_BYTES_MAX,
              "a status fits one record");

/* ---- Checking what a client wrote ---- */

/* A checked request: pointers into the record that was given to tsr_wire_check(). */
struct tsr_wire_request {
    uint16_t type;    /* enum tsr_wire_type */
    uint64_t request; /* its id, non-zero */
    union {
        struct {
            const struct tsr_wire_submit *fixed;
            const struct tsr_wire_bias *bias; /* [fixed->bias_count] */
            const uint8_t *stops;             /* [fixed->stop_bytes], for tsr_wire_stop_next() */
            const uint8_t *chunk;             /* [fixed->chunk_bytes] */
        } submit;
        struct {
            const struct tsr_wire_continue *fixed;
            const uint8_t *chunk; /* [fixed->chunk_bytes] */
        } cont;
        const struct tsr_wire_credit *credit;
    };
};

/* Checks a request against this header: type, lengths, counts, ranges, reserved fields, non-finite
 * numbers, stop strings. `record`: the engine's private copy (8-aligned, info->bytes long), never
 * shared memory. Not checked, because it takes knowledge of the model or of other records: ids
 * against the vocabulary, limits of HELLO, the order of chunks, UTF-8, the payload's inside
 * (tsr_wire_chat_next). Returns 0 with *out; -EINVAL with a sentence, out->request being the id
 * where one could be read (so that the ERROR can name it), else 0; -EPROTO where the record cannot
 * have been meant (unknown type, shorter than its fixed part): the channel is to be dropped. */
int tsr_wire_check(const void *record, const struct tsr_record_info *info,
                   struct tsr_wire_request *out, struct tsr_err *err);

/* The next stop string. *at starts at 0. Returns 1 with *text and *bytes, 0 at the end. The list
 * must have passed tsr_wire_check(). */
int tsr_wire_stop_next(const struct tsr_wire_request *request, uint32_t *at, const char **text,
                       uint32_t *bytes);

/* Walks a CHAT payload (whole, private copy). */
struct tsr_wire_chat {
    const uint8_t *payload;
    uint32_t payload_bytes;
    uint32_t at;
    uint32_t left;  /* messages */
    uint32_t count; /* messages in all */
};

struct tsr_wire_message {
    const char *role;
    const char *content;
    uint32_t role_bytes;
    uint32_t content_bytes;
};

/* Checks the whole layout, so that the walk cannot fail. -EINVAL with a sentence. */
int tsr_wire_chat_open(struct tsr_wire_chat *chat, const void *payload, uint32_t payload_bytes,
                       struct tsr_err *err);

/* The next message: 1, or 0 after the last. */
int tsr_wire_chat_next(struct tsr_wire_chat *chat, struct tsr_wire_message *message);

/* After the last message: the extra JSON, *bytes 0 where there is none. */
void tsr_wire_chat_extra(const struct tsr_wire_chat *chat, const char **json, uint32_t *bytes);

/* ---- Building what a client writes ---- */

/* Bytes of a CHAT payload; 0 when it would exceed UINT32_MAX or a limit above, or says nothing. */
uint32_t tsr_wire_chat_bytes(const struct tsr_wire_message *messages, uint32_t count,
                             uint32_t extra_bytes);

/* Writes it; `out` has tsr_wire_chat_bytes(). */
void tsr_wire_chat_build(void *out, const struct tsr_wire_message *messages, uint32_t count,
                         const char *extra, uint32_t extra_bytes);

/* Where the payload's chunk starts in a SUBMIT with these counts. */
static inline uint32_t tsr_wire_submit_chunk_off(uint32_t bias_count, uint32_t stop_bytes)
{
    uint32_t end =
        (uint32_t)(sizeof(struct tsr_wire_submit) + bias_count * sizeof(struct tsr_wire_bias)) +
        stop_bytes;
    return (end + 7u) & ~7u;
}

/* Name of a code, a reason, for logs and people: "busy", "stop". Never NULL. */
const char *tsr_code_name(uint32_t code);
const char *tsr_reason_name(uint32_t reason);

#endif
