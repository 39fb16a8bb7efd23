#include "split_priv.h"

#include <string.h>

enum { NEWLINES_MAX = 64 }; /* held at once; more are text */

enum {
    THINK = 1 << 0,
    THINK_END = 1 << 1,
    TOOL_CALL = 1 << 2,
    TOOL_CALL_END = 1 << 3,
    PYTHON_TAG = 1 << 4,
    TOOL_CALLS = 1 << 5,
    ARGS = 1 << 6,
    CALL_ID = 1 << 7,
};

/* By the bits above. Each holds its first character only once: where one breaks off, none begins
 * within it. */
static const char *const markers[] = {
    "<think>",        "</think>",     "<tool_call>", "</tool_call>",
    "<|python_tag|>", "[TOOL_CALLS]", "[ARGS]",      "[CALL_ID]",
};
enum { N_MARKERS = sizeof markers / sizeof *markers };

size_t tsr_split_bytes(void)
{
    return sizeof(struct tsr_split);
}

struct tsr_split *tsr_split_init(void *room, enum tsr_split_calls calls, bool reasons,
                                 bool thinking)
{
    struct tsr_split *split = room;
    memset(split, 0, offsetof(struct tsr_split, held));
    split->calls = calls;
    split->may_think = reasons || thinking;
    split->state = thinking ? SPLIT_THINK_START : SPLIT_START;
    split->run_kind = SPLIT_NO_TEXT;
    return split;
}

uint32_t tsr_split_call_count(const struct tsr_split *split)
{
    return split->n_calls;
}

/* ---- What goes out ---- */

static void give(const struct tsr_split *split, enum tsr_split_text kind, const char *text,
                 size_t size)
{
    const struct tsr_split_sink *sink = split->sink;
    if (kind == SPLIT_TEXT_ARGUMENTS) {
        sink->arguments(split->ctx, split->n_calls - 1, text, size);
    } else if (kind == SPLIT_TEXT_REASONING) {
        sink->reasoning(split->ctx, text, size);
    } else {
        sink->content(split->ctx, text, size);
    }
}

void tsr_split_flush(struct tsr_split *split)
{
    if (split->run_kind != SPLIT_NO_TEXT) {
        give(split, split->run_kind, split->run, split->run_size);
    }
    split->run_kind = SPLIT_NO_TEXT;
}

void tsr_split_send(struct tsr_split *split, enum tsr_split_text kind, const char *p)
{
    if (split->run_kind == kind && split->run + split->run_size == p) {
        split->run_size++;
        return;
    }
    tsr_split_flush(split);
    split->run_kind = kind;
    split->run = p;
    split->run_size = 1;
}

void tsr_split_send_held(struct tsr_split *split, enum tsr_split_text kind)
{
    if (split->held_size) {
        tsr_split_flush(split);
        give(split, kind, split->held, split->held_size);
    }
    split->held_size = 0;
}

static void drop_held(struct tsr_split *split)
{
    split->held_size = 0;
}

/* ---- What is held ---- */

void tsr_split_refuse(struct tsr_split *split, const char *p)
{
    tsr_split_end_call(split);
    tsr_split_send_held(split, SPLIT_TEXT_CONTENT);
    split->mark = 0;
    split->state = SPLIT_CONTENT;
    tsr_split_take(split, p);
}

/* Full a little before the end: what is given must end with a whole character. */
bool tsr_split_hold(struct tsr_split *split, const char *p)
{
    bool continues = ((uint8_t)*p & 0xc0) == 0x80;
    if (split->held_size >= TSR_SPLIT_HELD_MAX - (continues ? 0 : 4)) {
        tsr_split_refuse(split, p);
        return false;
    }
    split->held[split->held_size++] = *p;
    return true;
}

static bool is_space(char c)
{
    return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

static bool is_newline(char c)
{
    return c == '\n' || c == '\r';
}

/* ---- Markers ---- */

static unsigned opening(const struct tsr_split *split)
{
    static const unsigned openings[] = {
        [TSR_SPLIT_NO_CALLS] = 0,
        [TSR_SPLIT_HERMES] = TOOL_CALL,
        [TSR_SPLIT_LLAMA3] = PYTHON_TAG,
        [TSR_SPLIT_MISTRAL] = TOOL_CALLS,
    };
    return openings[split->calls];
}

/* Which markers may come now. */
static unsigned expected(const struct tsr_split *split)
{
    switch (split->state) {
    case SPLIT_START:
        return opening(split) | (split->may_think ? THINK : 0);
    case SPLIT_CONTENT:
        return opening(split);
    case SPLIT_THINK_START:
        return THINK_END | (split->may_think ? THINK : 0);
    case SPLIT_THINK:
        return THINK_END;
    case SPLIT_NAME:
        return ARGS | CALL_ID;
    case SPLIT_ID:
        return ARGS;
    case SPLIT_AFTER:
        return opening(split) | (split->wants_close ? TOOL_CALL_END : 0);
    default:
        return 0;
    }
}

/* Of the markers in `set` those that begin with text[size]. */
static unsigned begun(unsigned set, const char *text, size_t size)
{
    unsigned still = 0;
    for (unsigned i = 0; i < N_MARKERS; i++) {
        if ((set & 1u << i) && strncmp(markers[i], text, size) == 0) {
            still |= 1u << i;
        }
    }
    return still;
}

/* Whether a marker may begin with the byte at p: then it is held from here on. */
static bool begins_marker(struct tsr_split *split, const char *p)
{
    if (!begun(expected(split), p, 1)) {
        return false;
    }
    if (tsr_split_hold(split, p)) {
        split->mark = split->held_size;
    }
    return true;
}

static void take_marked(struct tsr_split *split, unsigned marker)
{
    switch (marker) {
    case THINK:
        split->may_think = false;
        split->state = SPLIT_THINK_START;
        drop_held(split);
        return;
    case THINK_END:
        split->may_think = false;
        split->state = SPLIT_THOUGHT;
        drop_held(split);
        return;
    case TOOL_CALL_END:
        split->wants_close = false;
        drop_held(split);
        return;
    case ARGS:
        split->state = SPLIT_ARGS;
        return;
    case CALL_ID:
        split->state = SPLIT_ID;
        return;
    default:
        split->state = SPLIT_OPEN;
        split->in_list = false;
        return;
    }
}

/* What began like a marker is text. */
static void take_after_break(struct tsr_split *split, const char *p)
{
    split->mark = 0;
    if (split->state == SPLIT_THINK_START || split->state == SPLIT_THINK) {
        tsr_split_send_held(split, SPLIT_TEXT_REASONING);
        split->state = SPLIT_THINK;
        tsr_split_take(split, p);
    } else {
        tsr_split_refuse(split, p);
    }
}

static void take_in_marker(struct tsr_split *split, const char *p)
{
    uint32_t from = split->mark - 1;
    if (!tsr_split_hold(split, p)) {
        return;
    }
    uint32_t size = split->held_size - from;
    unsigned still = begun(expected(split), split->held + from, size);
    if (!still) {
        split->held_size--;
        take_after_break(split, p);
    } else if (!(still & (still - 1)) && !markers[__builtin_ctz(still)][size]) {
        split->mark = 0;
        take_marked(split, still);
    }
}

/* ---- States ---- */

static void take_start(struct tsr_split *split, const char *p)
{
    if (is_space(*p)) {
        tsr_split_hold(split, p);
    } else if (split->calls == TSR_SPLIT_LLAMA3 && *p == '{') {
        tsr_split_open_object(split, p);
    } else if (!begins_marker(split, p)) {
        tsr_split_refuse(split, p);
    }
}

static void take_thinking(struct tsr_split *split, const char *p)
{
    if (is_newline(*p)) {
        if (split->state == SPLIT_THINK_START) {
            return;
        }
        if (split->held_size == NEWLINES_MAX) {
            tsr_split_send_held(split, SPLIT_TEXT_REASONING);
        }
        tsr_split_hold(split, p);
    } else if (!begins_marker(split, p)) {
        split->state = SPLIT_THINK;
        tsr_split_send_held(split, SPLIT_TEXT_REASONING);
        tsr_split_send(split, SPLIT_TEXT_REASONING, p);
    }
}

static bool is_name(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-' || c == '.';
}

static void take_open(struct tsr_split *split, const char *p)
{
    bool mistral = split->calls == TSR_SPLIT_MISTRAL;
    if (*p == '{') {
        tsr_split_open_object(split, p);
    } else if (is_space(*p)) {
        tsr_split_hold(split, p);
    } else if (mistral && *p == '[') {
        split->in_list = true;
        split->state = SPLIT_LIST;
        tsr_split_hold(split, p);
    } else if (mistral && is_name(*p)) {
        split->name_from = split->held_size;
        split->name_size = 0;
        split->state = SPLIT_NAME;
        tsr_split_take(split, p);
    } else {
        tsr_split_refuse(split, p);
    }
}

static void take_name(struct tsr_split *split, const char *p)
{
    if (is_name(*p) && split->name_size < TSR_SPLIT_NAME_MAX) {
        split->name_size += tsr_split_hold(split, p);
    } else if (*p == '{' || is_space(*p)) {
        split->state = SPLIT_ARGS;
        tsr_split_take(split, p);
    } else if (!begins_marker(split, p)) {
        tsr_split_refuse(split, p);
    }
}

static void take_id(struct tsr_split *split, const char *p)
{
    if (is_name(*p)) {
        tsr_split_hold(split, p);
    } else if (*p == '{') {
        tsr_split_open_bare(split, p);
    } else if (!begins_marker(split, p)) {
        tsr_split_refuse(split, p);
    }
}

static void take_args(struct tsr_split *split, const char *p)
{
    if (*p == '{') {
        tsr_split_open_bare(split, p);
    } else if (is_space(*p)) {
        tsr_split_hold(split, p);
    } else {
        tsr_split_refuse(split, p);
    }
}

static void take_list(struct tsr_split *split, const char *p)
{
    if (*p == '{') {
        tsr_split_open_object(split, p);
    } else if (is_space(*p)) {
        tsr_split_hold(split, p);
    } else {
        tsr_split_refuse(split, p);
    }
}

static void take_list_next(struct tsr_split *split, const char *p)
{
    if (*p == ']') {
        split->state = SPLIT_AFTER;
        drop_held(split);
    } else if (*p == ',' || is_space(*p)) {
        split->state = *p == ',' ? SPLIT_LIST : SPLIT_LIST_NEXT;
        tsr_split_hold(split, p);
    } else {
        tsr_split_refuse(split, p);
    }
}

static void take_after(struct tsr_split *split, const char *p)
{
    bool llama = split->calls == TSR_SPLIT_LLAMA3;
    if (llama && *p == '{') {
        tsr_split_open_object(split, p);
    } else if (is_space(*p) || (llama && *p == ';')) {
        tsr_split_hold(split, p);
    } else if (!begins_marker(split, p)) {
        tsr_split_refuse(split, p);
    }
}

void tsr_split_take(struct tsr_split *split, const char *p)
{
    if (split->mark) {
        take_in_marker(split, p);
        return;
    }
    switch (split->state) {
    case SPLIT_START:
        take_start(split, p);
        return;
    case SPLIT_CONTENT:
        if (!begins_marker(split, p)) {
            tsr_split_send(split, SPLIT_TEXT_CONTENT, p);
        }
        return;
    case SPLIT_THINK_START:
    case SPLIT_THINK:
        take_thinking(split, p);
        return;
    case SPLIT_THOUGHT:
        if (!is_newline(*p)) {
            split->state = SPLIT_START;
            take_start(split, p);
        }
        return;
    case SPLIT_OPEN:
        take_open(split, p);
        return;
    case SPLIT_NAME:
        take_name(split, p);
        return;
    case SPLIT_ID:
        take_id(split, p);
        return;
    case SPLIT_ARGS:
        take_args(split, p);
        return;
    case SPLIT_OBJECT:
        tsr_split_take_object(split, p);
        return;
    case SPLIT_BARE:
        tsr_split_take_bare(split, p);
        return;
    case SPLIT_LIST:
        take_list(split, p);
        return;
    case SPLIT_LIST_NEXT:
        take_list_next(split, p);
        return;
    case SPLIT_AFTER:
        take_after(split, p);
        return;
    }
}

void tsr_split_feed(struct tsr_split *split, const char *text, size_t size,
                    const struct tsr_split_sink *sink, void *ctx)
{
    split->sink = sink;
    split->ctx = ctx;
    for (size_t i = 0; i < size; i++) {
        tsr_split_take(split, text + i);
    }
    tsr_split_flush(split);
}

/* What is held behind a call: separators, and where its marker of the end breaks off, that too. */
static bool ends_behind_call(const struct tsr_split *split)
{
    return split->state == SPLIT_LIST_NEXT ||
           (split->state == SPLIT_AFTER && (!split->mark || split->wants_close));
}

void tsr_split_end(struct tsr_split *split, const struct tsr_split_sink *sink, void *ctx)
{
    bool thinks = split->state == SPLIT_THINK || split->state == SPLIT_THINK_START;
    split->sink = sink;
    split->ctx = ctx;
    tsr_split_end_call(split);
    if (ends_behind_call(split)) {
        drop_held(split);
    }
    tsr_split_send_held(split, thinks ? SPLIT_TEXT_REASONING : SPLIT_TEXT_CONTENT);
}
