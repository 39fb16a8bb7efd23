/* From a client's bytes to the API and back: HTTP/1.1, the API, and engines behind real channels
 * that answer every request at once, out of the request's own text.
 *
 * Input: a byte that says whether keys are asked for, how the others are cut and how fast the
 * client reads, and what came. What is answered must be whole responses whose JSON reads, and when
 * the client has gone, nothing is left: no exchange, no byte held, no request at an engine. */
#include "house.h"
#include "paper_door.h"

#include <sys/mman.h>
#include <sys/stat.h>

#include <tsr/api/json.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { TEXT_MAX = 512, PIECE = 3, STILL_TURNS = 2, TURNS_MAX = 1000 };

/* One that asks for keys, one that does not. */
static struct place {
    struct house house;
    struct tsr_http1 *http1;
} places[2];

static struct house *house; /* of the input's place */
static struct tsr_http1 *http1;
static struct tsr_json *json;

static void check(bool right)
{
    if (!right) {
        abort();
    }
}

static void leave(void)
{
    for (int i = 0; i < 2; i++) {
        tsr_http1_destroy(places[i].http1);
        house_close(&places[i].house);
    }
    tsr_json_destroy(json);
}

static void open_place(struct place *place, const char *keys_path)
{
    static const char *const hosts[] = {"box"}, *const origins[] = {"http://page"};
    struct tsr_wire_hello hellos[2];
    struct tsr_api_options options;
    struct tsr_http1_options options_http1;
    house_hello(&hellos[0]);
    hellos[0].flags |= TSR_HELLO_REASONING;
    hellos[1] = hellos[0];
    hellos[1].tools = TSR_TOOLS_MISTRAL;
    strcpy(hellos[1].model, "other");
    tsr_api_options_init(&options);
    options.exchanges_max = 8;
    options.body_bytes_max = 1 << 16;
    options.hosts = hosts;
    options.n_hosts = 1;
    options.origins = origins;
    options.n_origins = 1;
    options.credit_tokens = 8;
    options.keys_path = keys_path;
    house_open(&place->house, hellos, 2, &options);
    tsr_http1_options_init(&options_http1);
    options_http1.conns_max = 1;
    check(tsr_http1_create(&place->http1, place->house.api, &options_http1, NULL) == 0);
}

/* The keys are "abc" and "hello". */
static void enter(void)
{
    static const char keys[] =
        "a sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad priority=9\n"
        "b sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824 "
        "requests=9/min tokens=1000/min parallel=1 tenant=7\n";
    char path[32];
    struct tsr_json_limits limits = {.bytes_max = 1 << 24};
    int fd = memfd_create("keys", MFD_CLOEXEC);
    check(fd >= 0 && fchmod(fd, 0600) == 0 && write(fd, keys, strlen(keys)) > 0);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    open_place(&places[0], NULL);
    open_place(&places[1], path);
    check(tsr_json_create(&json, &limits, NULL) == 0);
    atexit(leave);
}

/* ---- The engine ---- */

/* The readable part of what was asked. */
static uint32_t text_asked(const struct asked *asked, char text[TEXT_MAX])
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < asked->submit.payload_bytes && n < TEXT_MAX; i++) {
        char c = asked->payload[i];
        if ((c >= 0x20 && c < 0x7f) || c == '\n') {
            text[n++] = c;
        }
    }
    return n;
}

static void *reserve(struct house_engine *engine, uint32_t bytes)
{
    uint8_t *record = tsr_channel_reserve(engine->channel, bytes);
    if (record) {
        memset(record + sizeof(struct tsr_record), 0, bytes - sizeof(struct tsr_record));
    }
    return record;
}

static void finish(struct house_engine *engine, struct asked *asked, enum tsr_reason reason)
{
    struct tsr_wire_done done = {.request = asked->id,
                                 .reason = (uint8_t)reason,
                                 .prompt_tokens = 7,
                                 .completion_tokens = asked->said,
                                 .code = reason == TSR_REASON_ERROR ? TSR_CODE_INTERNAL : 0};
    tsr_channel_done(engine->channel, &done, reason == TSR_REASON_ERROR ? "it broke" : NULL);
    asked->id = 0;
}

static void answer_tokens(struct house_engine *engine, struct asked *asked)
{
    struct tsr_wire_piece pieces[2] = {{1, 2}, {2, 1}};
    uint32_t bytes = (uint32_t)sizeof(struct tsr_wire_tokens) + sizeof pieces + 3;
    struct tsr_wire_tokens *tokens = reserve(engine, bytes);
    check(tokens);
    tokens->request = asked->id;
    tokens->count = tokens->total = 2;
    tokens->text_bytes = 3;
    memcpy(tokens + 1, pieces, sizeof pieces);
    memcpy((uint8_t *)(tokens + 1) + sizeof pieces, "\xc3\xa9\"", 3);
    tsr_channel_commit(engine->channel, TSR_EV_TOKENS, bytes);
    finish(engine, asked, TSR_REASON_TOKENIZED);
}

static void answer_embedding(struct house_engine *engine, struct asked *asked)
{
    uint32_t bytes = (uint32_t)sizeof(struct tsr_wire_embedding) + 3 * sizeof(float);
    struct tsr_wire_embedding *embedding = reserve(engine, bytes);
    check(embedding);
    embedding->request = asked->id;
    embedding->count = embedding->total = 3;
    memcpy(embedding->values, (float[]){0.6f, -0.8f, 0}, 3 * sizeof(float));
    tsr_channel_commit(engine->channel, TSR_EV_EMBEDDING, bytes);
    finish(engine, asked, TSR_REASON_EMBEDDED);
}

static void answer_text(struct house_engine *engine, struct asked *asked)
{
    char text[TEXT_MAX];
    uint32_t size = text_asked(asked, text);
    struct tsr_wire_text *event = reserve(engine, (uint32_t)sizeof *event + size);
    check(event);
    event->request = asked->id;
    event->text_bytes = event->total = size;
    memcpy(event->text, text, size);
    tsr_channel_commit(engine->channel, TSR_EV_TEXT, (uint32_t)sizeof *event + size);
    finish(engine, asked, TSR_REASON_WRITTEN);
}

static void accept(struct house_engine *engine, const struct asked *asked)
{
    struct tsr_wire_accepted *accepted = reserve(engine, sizeof *accepted);
    check(accepted);
    accepted->request = asked->id;
    accepted->prompt_tokens = 7;
    accepted->flags = asked->submit.payload_bytes % 3 ? 0 : TSR_ACCEPTED_REASONING;
    accepted->time_ns = tsr_clock_ns();
    tsr_channel_commit(engine->channel, TSR_EV_ACCEPTED, sizeof *accepted);
}

/* A token is PIECE bytes of the text; its own alternatives, where it wants them. */
static bool say(struct house_engine *engine, struct asked *asked, const char *text, uint32_t size)
{
    bool logprobs = asked->submit.flags & TSR_SUBMIT_LOGPROBS;
    uint32_t tops = logprobs && asked->submit.top_logprobs ? 1 : 0;
    struct tsr_wire_top top = {.token = 5, .logprob = -0.5f, .text_bytes = size};
    uint32_t bytes = (uint32_t)sizeof(struct tsr_wire_token) + 4 +
                     tops * ((uint32_t)sizeof(struct tsr_wire_top) + 4);
    struct tsr_wire_token *token = reserve(engine, bytes);
    if (!token) {
        return false;
    }
    token->request = asked->id;
    token->time_ns = tsr_clock_ns();
    token->index = asked->said++;
    token->logprob = -0.5f;
    token->text_bytes = (uint16_t)size;
    token->flags = logprobs ? TSR_WIRE_TOKEN_LOGPROB : 0;
    token->top_count = (uint8_t)tops;
    memcpy(token->text, text, size);
    if (tops) {
        memcpy(token->text + 4, &top, sizeof top);
        memcpy(token->text + 4 + sizeof top, text, size);
    }
    tsr_channel_commit(engine->channel, TSR_EV_TOKEN, bytes);
    return true;
}

/* As far as credit and room go. */
static void generate(struct house_engine *engine, struct asked *asked)
{
    static const enum tsr_reason ends[] = {
        TSR_REASON_END,    TSR_REASON_LENGTH,   TSR_REASON_STOP,    TSR_REASON_ERROR,
        TSR_REASON_PARKED, TSR_REASON_DEADLINE, TSR_REASON_SHUTDOWN};
    char text[TEXT_MAX];
    uint32_t size = text_asked(asked, text);
    if (asked->said == asked->credit) {
        return;
    }
    if (asked->said == 0) {
        accept(engine, asked);
    }
    uint32_t at;
    while ((at = asked->said * PIECE) < size && asked->said < asked->credit) {
        if (!say(engine, asked, text + at, size - at < PIECE ? size - at : PIECE)) {
            return;
        }
    }
    if (at >= size) {
        finish(engine, asked, ends[size % (sizeof ends / sizeof *ends)]);
    }
}

static void answer(struct house_engine *engine, struct asked *asked)
{
    uint16_t flags = asked->submit.flags;
    if (asked->submit.payload_bytes % 31 == 0) {
        tsr_channel_error(engine->channel, true, asked->id, TSR_CODE_BUSY, 1500, "full");
        asked->id = 0;
    } else if (flags & TSR_SUBMIT_TOKENIZE) {
        answer_tokens(engine, asked);
    } else if (flags & TSR_SUBMIT_EMBED) {
        answer_embedding(engine, asked);
    } else if (flags & (TSR_SUBMIT_DETOKENIZE | TSR_SUBMIT_RENDER)) {
        answer_text(engine, asked);
    } else {
        generate(engine, asked);
    }
}

/* Answers what is whole, forgets what has ended; the requests that are still alive. */
static uint32_t serve(struct house_engine *engine)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < engine->n_asked; i++) {
        struct asked *asked = &engine->asked[i];
        if (asked->id && asked->got == asked->submit.payload_bytes) {
            answer(engine, asked);
        }
        if (asked->id) {
            engine->asked[kept++] = *asked;
        } else {
            free(asked->payload);
        }
    }
    memset(engine->asked + kept, 0, (engine->n_asked - kept) * sizeof *engine->asked);
    engine->n_asked = kept;
    return kept;
}

/* The API's turn, and the engines'. Their doors have nothing more to do: no system call is made. */
static void step(void)
{
    house->now_ns = tsr_clock_ns();
    tsr_api_step(house->api, house->now_ns);
    tsr_api_flush(house->api);
    for (uint32_t i = 0; i < house->n_engines; i++) {
        house_take(&house->engines[i]);
    }
}

/* What is open afterwards: requests at the engines, exchanges. */
static uint32_t turn_house(void)
{
    uint32_t asked = 0;
    step();
    for (uint32_t i = 0; i < house->n_engines; i++) {
        asked += serve(&house->engines[i]);
        tsr_channel_flush(house->engines[i].channel);
    }
    step();
    return asked + tsr_api_open(house->api);
}

static uint32_t turn(struct door *door, size_t sends)
{
    door->sends = sends;
    tsr_http1_step(http1, tsr_clock_ns(), DOOR_UNIX_S);
    if (door->conn) {
        tsr_http1_sent(door->conn, 0); /* the socket takes bytes again */
    }
    uint32_t open = turn_house();
    door_turn(door);
    return open;
}

/* Until nothing goes on: a request may wait for the rest of its body. */
static void settle(struct door *door, size_t sends)
{
    size_t size = door->out.size;
    uint32_t open = UINT32_MAX;
    for (int still = 0; still < STILL_TURNS; still++) {
        uint32_t now = turn(door, sends);
        if (now != open || door->out.size != size) {
            still = 0;
        }
        open = now;
        size = door->out.size;
    }
}

/* ---- What was answered ---- */

static void check_json(const char *text, size_t size)
{
    struct tsr_err err;
    tsr_json_reset(json);
    tsr_json_feed(json, text, size, &err);
    if (tsr_json_end(json, &err) < 0) {
        fprintf(stderr, "%.*s\n%s\n", (int)size, text, err.text);
        abort();
    }
}

static void check_events(const char *text, size_t size)
{
    for (const char *line = text, *end = text + size; line < end;) {
        const char *stop = memchr(line, '\n', (size_t)(end - line));
        stop = stop ? stop : end;
        if (stop - line > 6 && memcmp(line, "data: {", 7) == 0) {
            check_json(line + 6, (size_t)(stop - line) - 6);
        }
        line = stop + 1;
    }
}

/* The value of a header within head, or NULL. */
static const char *header(const char *head, const char *end, const char *name)
{
    const char *at = memmem(head, (size_t)(end - head), name, strlen(name));
    return at ? at + strlen(name) : NULL;
}

/* Joins the chunks at *at; false: it is not whole. */
static bool join_chunks(const char **at, const char *end, struct text *body)
{
    for (;;) {
        char *line;
        size_t size = strtoul(*at, &line, 16);
        if (end - line < 4 || size > (size_t)(end - line) - 4) {
            return false;
        }
        check(memcmp(line, "\r\n", 2) == 0 && memcmp(line + 2 + size, "\r\n", 2) == 0);
        text_put(body, line + 2, size);
        *at = line + 4 + size;
        if (size == 0) {
            return true;
        }
    }
}

/* One response at `at`; where the next begins, NULL: this one is not whole. */
static const char *check_response(const char *at, const char *end)
{
    static struct text body;
    const char *head_end = memmem(at, (size_t)(end - at), "\r\n\r\n", 4);
    check(memcmp(at, "HTTP/1.1 ", end - at < 9 ? (size_t)(end - at) : 9) == 0);
    if (!head_end) {
        return NULL;
    }
    const char *length = header(at, head_end, "\r\nContent-Length: ");
    const char *type = header(at, head_end, "\r\nContent-Type: ");
    const char *next = head_end + 4;
    bool whole = true;
    text_clear(&body);
    if (length) {
        size_t size = strtoul(length, NULL, 10);
        whole = size <= (size_t)(end - next);
        text_put(&body, next, whole ? size : 0);
        next += whole ? size : 0;
    } else if (header(at, head_end, "\r\nTransfer-Encoding: chunked")) {
        whole = join_chunks(&next, end, &body);
    } else if (!strchr("13", at[9]) && memcmp(at + 9, "204", 3) != 0) {
        /* as long as the connection lasts */
        text_put(&body, next, (size_t)(end - next));
        next = end;
    }
    if (whole && type && body.size && strncmp(type, "application/json", 16) == 0) {
        check_json(body.bytes, body.size);
    } else if (whole && type && body.size && strncmp(type, "text/event-stream", 17) == 0) {
        check_events(body.bytes, body.size);
    }
    return whole ? next : NULL;
}

static void check_out(const struct text *out)
{
    const char *at = out->bytes, *end = out->bytes + out->size;
    while (at && at < end) {
        at = check_response(at, end);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct door door;
    if (!size || size > 1 << 17) {
        return 0;
    }
    if (!http1) {
        enter();
    }
    house = &places[data[0] % 16 == 3].house;
    http1 = places[data[0] % 16 == 3].http1;
    size_t piece = data[0] < 128 ? data[0] % 16 * 32 + 17u : SIZE_MAX / 2;
    size_t sends = data[0] % 4 ? SIZE_MAX : 200;
    bool goes = data[0] % 8 == 5; /* before it is answered */
    door_accept(&door, http1, tsr_clock_ns());
    for (size_t at = 1; at < size; at += piece) {
        door_feed(&door, data + at, size - at < piece ? size - at : piece);
        turn(&door, sends);
    }
    if (goes && door.conn) {
        tsr_http1_eof(door.conn);
    }
    settle(&door, sends);
    if (!memmem(data, size, "HEAD", 4)) { /* its answers have lengths and no bodies */
        check_out(&door.out);
    }
    if (door.conn) {
        tsr_http1_eof(door.conn);
        settle(&door, SIZE_MAX);
    }
    door_leave(&door);
    for (int i = 0; turn_house(); i++) {
        check(i < TURNS_MAX);
    }
    check(house_connected(house));
    return 0;
}
