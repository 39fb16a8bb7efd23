#include "split_priv.h"

#include <string.h>

/* ---- Telling of a call ---- */

/* Its name, and its arguments as far as they have come; from now on nothing of it is held. */
static void begin_call(struct tsr_split *split)
{
    uint32_t index = split->n_calls++;
    const char *held = split->held;
    tsr_split_flush(split);
    split->told = true;
    split->held_size = 0;
    split->sink->call(split->ctx, index, held + split->name_from, split->name_size);
    if (split->arguments_size) {
        split->sink->arguments(split->ctx, index, held + split->arguments_from,
                               split->arguments_size);
    }
}

void tsr_split_end_call(struct tsr_split *split)
{
    if (split->told) {
        tsr_split_flush(split);
        split->sink->call_end(split->ctx, split->n_calls - 1);
    }
    split->told = false;
}

/* The call is whole. */
static void finish_call(struct tsr_split *split)
{
    tsr_split_end_call(split);
    split->wants_close = split->calls == TSR_SPLIT_HERMES;
    split->state = split->in_list ? SPLIT_LIST_NEXT : SPLIT_AFTER;
}

static bool scan_is_whole(const struct tsr_split *split)
{
    return split->scan.state == WANT_NOTHING;
}

/* ---- Arguments behind a name ---- */

void tsr_split_open_bare(struct tsr_split *split, const char *p)
{
    split->arguments_size = 0;
    split->scan = (struct tsr_scan){0};
    split->state = SPLIT_BARE;
    begin_call(split);
    tsr_split_take_bare(split, p);
}

void tsr_split_take_bare(struct tsr_split *split, const char *p)
{
    if (!tsr_scan_byte(&split->scan, *p)) {
        tsr_split_refuse(split, p);
        return;
    }
    tsr_split_send(split, SPLIT_TEXT_ARGUMENTS, p);
    if (scan_is_whole(split)) {
        finish_call(split);
    }
}

/* ---- An object with name and arguments ---- */

/* Llama's calls have no marker: only an object that has both is one, and one with other keys is an
 * ordinary answer, which should not wait. */
static bool is_unmarked(const struct tsr_split *split)
{
    return split->calls == TSR_SPLIT_LLAMA3;
}

void tsr_split_open_object(struct tsr_split *split, const char *p)
{
    split->scan = (struct tsr_scan){0};
    split->key_size = 0;
    split->in_value = split->has_arguments = false;
    split->name_size = split->arguments_size = 0;
    split->state = SPLIT_OBJECT;
    tsr_split_take_object(split, p);
}

static enum tsr_split_key key_kind(const struct tsr_split *split)
{
    static const struct {
        const char *key;
        enum tsr_split_key kind;
    } known[] = {
        {"name", SPLIT_KEY_NAME},
        {"arguments", SPLIT_KEY_ARGUMENTS},
        {"parameters", SPLIT_KEY_ARGUMENTS},
        {"type", SPLIT_KEY_KNOWN},
        {"id", SPLIT_KEY_KNOWN},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (strlen(known[i].key) == split->key_size &&
            memcmp(known[i].key, split->key, split->key_size) == 0) {
            return known[i].kind;
        }
    }
    return SPLIT_KEY_OTHER;
}

/* A key that comes again has no effect. */
static bool end_key(struct tsr_split *split)
{
    enum tsr_split_key kind = key_kind(split);
    if ((kind == SPLIT_KEY_NAME && (split->told || split->name_size)) ||
        (kind == SPLIT_KEY_ARGUMENTS && split->has_arguments)) {
        kind = SPLIT_KEY_KNOWN;
    }
    split->key_kind = kind;
    return kind != SPLIT_KEY_OTHER || !is_unmarked(split) || split->told;
}

static bool begin_value(struct tsr_split *split, char c)
{
    split->in_value = true;
    if (split->key_kind == SPLIT_KEY_NAME) {
        split->name_from = split->held_size;
        return c == '"';
    }
    if (split->key_kind == SPLIT_KEY_ARGUMENTS) {
        if (c != '{' && is_unmarked(split)) {
            return false;
        }
        split->has_arguments = true;
        split->arguments_from = split->held_size - 1;
        if (!split->told && split->name_size) {
            begin_call(split);
        }
    }
    return true;
}

static bool end_name(struct tsr_split *split)
{
    const char *name = split->held + split->name_from;
    uint32_t size = split->held_size - 1 - split->name_from;
    for (uint32_t i = 0; i < size; i++) {
        if ((uint8_t)name[i] < 0x20 || name[i] == '\\') {
            return false;
        }
    }
    if (!size || size > TSR_SPLIT_NAME_MAX) {
        return false;
    }
    split->name_size = size;
    if (split->has_arguments || !is_unmarked(split)) {
        begin_call(split);
    }
    return true;
}

/* A byte within a value of the object; ends_number: where it ends a number, it is not part of it.
 */
static bool watch_value(struct tsr_split *split, const char *p, bool ends_number)
{
    const struct tsr_scan *scan = &split->scan;
    bool ended =
        scan->depth == 0 ||
        (scan->depth == 1 && (scan->state == WANT_COMMA_OR_END || scan->state == WANT_KEY));
    split->in_value = !ended;
    if (split->key_kind == SPLIT_KEY_ARGUMENTS && !(ended && ends_number)) {
        if (split->told) {
            tsr_split_send(split, SPLIT_TEXT_ARGUMENTS, p);
        } else {
            split->arguments_size = split->held_size - split->arguments_from;
        }
    }
    return !ended || split->key_kind != SPLIT_KEY_NAME || end_name(split);
}

/* A byte of the object, after the scan, which was in state `was` at `depth` before it. false: no
 * call, and none was told of. */
static bool watch(struct tsr_split *split, const char *p, enum tsr_json_state was, uint32_t depth)
{
    const struct tsr_scan *scan = &split->scan;
    if (depth == 1 && scan->is_key && (was == IN_STRING || was == IN_ESCAPE)) {
        if (scan->state == WANT_COLON) {
            return end_key(split);
        }
        if (split->key_size < TSR_SPLIT_KEY_MAX) {
            split->key[split->key_size++] = *p;
        }
    } else if (scan->depth == 1 && scan->is_key && scan->state == IN_STRING) {
        split->key_size = 0;
    } else if (depth == 1 && was == WANT_VALUE && scan->state != WANT_VALUE &&
               !begin_value(split, *p)) {
        return false;
    }
    return !split->in_value || watch_value(split, p, depth == 1 && was >= IN_MINUS);
}

static void finish_object(struct tsr_split *split)
{
    if (!split->told) {
        tsr_split_send_held(split, SPLIT_TEXT_CONTENT);
        split->state = SPLIT_CONTENT;
        return;
    }
    if (!split->has_arguments) {
        split->sink->arguments(split->ctx, split->n_calls - 1, "{}", 2);
    }
    finish_call(split);
}

void tsr_split_take_object(struct tsr_split *split, const char *p)
{
    enum tsr_json_state was = split->scan.state;
    uint32_t depth = split->scan.depth;
    bool told = split->told;
    if (!told && !tsr_split_hold(split, p)) {
        return;
    }
    if (!tsr_scan_byte(&split->scan, *p) || !watch(split, p, was, depth)) {
        split->held_size -= !told;
        tsr_split_refuse(split, p);
    } else if (scan_is_whole(split)) {
        finish_object(split);
    }
}
