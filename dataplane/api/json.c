#include "json_priv.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

enum {
    DEPTH_MAX = 64,
    DEPTH_LIMIT = 1024, /* of limits: tsr_json_write() recurses */
    VALUES_MAX = 1 << 18,
    VALUES_LIMIT = 1 << 28, /* of limits: `parent` has 28 bits */
    CAPACITY_MIN = 64,
    KEPT_BYTES = 64 << 10, /* of each array, for the next document */
    KEY_SHOWN_MAX = 64,    /* in a sentence */
};

/* What each state waits for. */
static const char *const wants[] = {
    [WANT_VALUE] = "a value",
    [WANT_ELEMENT_OR_END] = "a value or ']'",
    [WANT_KEY_OR_END] = "a key in quotes or '}'",
    [WANT_KEY] = "a key in quotes",
    [WANT_COLON] = "':'",
    [WANT_COMMA_OR_END] = "a comma or ']'", /* in an array; of an object below */
    [WANT_NOTHING] = "the end of the text",
    [IN_LITERAL] = "true, false or null",
    [IN_STRING] = "the quote that ends a string",
    [IN_CHARACTER] = "valid UTF-8",
    [IN_ESCAPE] = "one of \"\\/bfnrtu after a backslash",
    [IN_HEX] = "a hexadecimal digit",
    [WANT_LOW_BACKSLASH] = "the second half of a surrogate pair",
    [WANT_LOW_U] = "the second half of a surrogate pair",
    [IN_MINUS] = "a digit",
    [IN_POINT] = "a digit",
    [IN_E] = "a digit or a sign",
    [IN_SIGN] = "a digit",
};

int tsr_json_create(struct tsr_json **out, const struct tsr_json_limits *limits,
                    struct tsr_err *err)
{
    struct tsr_json_limits l = *limits;
    l.depth_max = l.depth_max ? l.depth_max : DEPTH_MAX;
    l.values_max = l.values_max ? l.values_max : VALUES_MAX;
    *out = NULL;
    if (l.depth_max > DEPTH_LIMIT || l.values_max > VALUES_LIMIT || !l.bytes_max ||
        l.bytes_max > INT32_MAX) {
        return tsr_err_set(err, -EINVAL,
                           "limits of a JSON reader: depth %u of at most %d, values %u of at most "
                           "%d, bytes %zu of 1 to %d",
                           l.depth_max, DEPTH_LIMIT, l.values_max, VALUES_LIMIT, l.bytes_max,
                           INT32_MAX);
    }
    struct tsr_json *json = calloc(1, sizeof *json + l.depth_max * sizeof *json->outer);
    if (!json) {
        return tsr_err_set(err, -ENOMEM, "no memory for a JSON reader");
    }
    json->limits = l;
    if (getrandom(json->seed, sizeof json->seed, 0) != sizeof json->seed) {
        free(json);
        return tsr_err_set(err, -EIO, "the kernel gives no random bytes: %s", strerror(errno));
    }
    *out = json;
    return 0;
}

void tsr_json_destroy(struct tsr_json *json)
{
    if (json) {
        free(json->values);
        free(json->bytes);
        free(json->slots);
        free(json);
    }
}

/* An array for the next document: kept, or given back where it has become large. */
static void *kept(void *array, uint32_t *capacity, size_t width)
{
    if (*capacity * width <= KEPT_BYTES) {
        return array;
    }
    free(array);
    *capacity = 0;
    return NULL;
}

void tsr_json_reset(struct tsr_json *json)
{
    json->values = kept(json->values, &json->values_capacity, sizeof *json->values);
    json->bytes = kept(json->bytes, &json->bytes_capacity, sizeof *json->bytes);
    json->slots = kept(json->slots, &json->slots_capacity, sizeof *json->slots);
    json->n_values = json->n_bytes = json->n_keys = json->n_slots = 0;
    json->at = 0;
    json->state = WANT_VALUE;
    json->high = 0;
    json->depth = 0;
    json->is_key = false;
    json->err.code = 0;
}

size_t tsr_json_held(const struct tsr_json *json)
{
    return sizeof *json + json->limits.depth_max * sizeof *json->outer +
           json->values_capacity * sizeof *json->values + json->bytes_capacity +
           json->slots_capacity * sizeof *json->slots;
}

/* ---- Growth ---- */

static int no_memory(struct tsr_json *json)
{
    return tsr_err_set(&json->err, -ENOMEM, "byte %zu: no memory for what the JSON holds",
                       json->at);
}

void *tsr_json_grown(void *array, uint32_t *capacity, size_t width, size_t wanted)
{
    size_t n = *capacity ? *capacity : CAPACITY_MIN;
    while (n < wanted) {
        n *= 2;
    }
    void *larger = n > *capacity ? realloc(array, n * width) : array;
    if (larger) {
        *capacity = (uint32_t)n;
    }
    return larger;
}

static int make_room(struct tsr_json *json, size_t size)
{
    if (size <= json->bytes_capacity - json->n_bytes) {
        return 0;
    }
    char *room = tsr_json_grown(json->bytes, &json->bytes_capacity, 1, json->n_bytes + size);
    if (!room) {
        return no_memory(json);
    }
    json->bytes = room;
    return 0;
}

static int put(struct tsr_json *json, const void *bytes, size_t size)
{
    int rc = make_room(json, size);
    if (rc == 0) {
        memcpy(json->bytes + json->n_bytes, bytes, size);
        json->n_bytes += (uint32_t)size;
    }
    return rc;
}

static int put_byte(struct tsr_json *json, char c)
{
    int rc = make_room(json, 1);
    if (rc == 0) {
        json->bytes[json->n_bytes++] = c;
    }
    return rc;
}

/* A node behind the others; a value is linked to what holds it. */
static int add_node(struct tsr_json *json, uint32_t type)
{
    if (json->n_values == json->limits.values_max) {
        return tsr_err_set(&json->err, -E2BIG, "byte %zu: more than %u values and keys", json->at,
                           json->limits.values_max);
    }
    if (json->n_values == json->values_capacity) {
        struct tsr_json_value *room = tsr_json_grown(json->values, &json->values_capacity,
                                                     sizeof *json->values, json->n_values + 1);
        if (!room) {
            return no_memory(json);
        }
        json->values = room;
    }
    uint32_t node = json->n_values++;
    json->values[node] = (struct tsr_json_value){.type = type & 15, .off = json->n_bytes};
    if (json->depth == 0) {
        return 0;
    }
    json->values[node].parent = json->top.container & (VALUES_LIMIT - 1);
    if (type != TSR_JSON_KEY) {
        if (json->top.last) {
            json->values[json->top.last].next = node;
        }
        json->top.last = node;
        json->values[json->top.container].size++;
    }
    return 0;
}

/* ---- Reading ---- */

static bool in_object(const struct tsr_json *json)
{
    return json->depth && json->values[json->top.container].type == TSR_JSON_OBJECT;
}

static const char *wanted(const struct tsr_json *json)
{
    return json->state == WANT_COMMA_OR_END && in_object(json) ? "a comma or '}'"
                                                               : wants[json->state];
}

static int refuse(struct tsr_json *json)
{
    return tsr_err_set(&json->err, -EINVAL, "byte %zu: %s is wanted", json->at, wanted(json));
}

static int end_value(struct tsr_json *json)
{
    json->state = json->depth ? WANT_COMMA_OR_END : WANT_NOTHING;
    return 0;
}

static int refuse_twice(struct tsr_json *json, const char *key, size_t size)
{
    char shown[KEY_SHOWN_MAX];
    int n = size < sizeof shown ? (int)size : KEY_SHOWN_MAX;
    for (int i = 0; i < n; i++) {
        shown[i] = key[i];
        if (key[i] < 0x20 || key[i] > 0x7e) {
            shown[i] = '?';
        }
    }
    return tsr_err_set(&json->err, -EINVAL, "byte %zu: the key '%.*s' comes twice in its object",
                       json->at, n, shown);
}

static int end_key(struct tsr_json *json)
{
    const struct tsr_json_value *node = &json->values[json->n_values - 1];
    int rc = tsr_json_add_key(json);
    if (rc < 0) {
        return rc == -EEXIST ? refuse_twice(json, json->bytes + node->off, node->size)
                             : no_memory(json);
    }
    json->is_key = false;
    json->state = WANT_COLON;
    return 0;
}

/* A string, key or number is whole. */
static int end_text(struct tsr_json *json)
{
    struct tsr_json_value *node = &json->values[json->n_values - 1];
    node->size = json->n_bytes - node->off;
    int rc = put_byte(json, '\0');
    if (rc < 0) {
        return rc;
    }
    return json->is_key ? end_key(json) : end_value(json);
}

static int open_container(struct tsr_json *json, enum tsr_json_type type)
{
    if (json->depth == json->limits.depth_max) {
        return tsr_err_set(&json->err, -E2BIG, "byte %zu: nested more than %u deep", json->at,
                           json->limits.depth_max);
    }
    int rc = add_node(json, type);
    if (rc < 0) {
        return rc;
    }
    json->outer[json->depth++] = json->top;
    json->top = (struct tsr_json_level){.container = json->n_values - 1};
    json->state = type == TSR_JSON_ARRAY ? WANT_ELEMENT_OR_END : WANT_KEY_OR_END;
    return 0;
}

static int close_container(struct tsr_json *json)
{
    json->top = json->outer[--json->depth];
    return end_value(json);
}

static int begin_literal(struct tsr_json *json, enum tsr_json_type type, const char *rest)
{
    json->literal = rest;
    json->state = IN_LITERAL;
    return add_node(json, type);
}

static int begin_number(struct tsr_json *json, char c)
{
    json->state = c == '-' ? IN_MINUS : c == '0' ? IN_ZERO : IN_INTEGER;
    int rc = add_node(json, TSR_JSON_NUMBER);
    return rc < 0 ? rc : put_byte(json, c);
}

static int begin_string(struct tsr_json *json, bool is_key)
{
    json->is_key = is_key;
    json->state = IN_STRING;
    return add_node(json, is_key ? TSR_JSON_KEY : TSR_JSON_STRING);
}

static int begin_value(struct tsr_json *json, char c)
{
    switch (c) {
    case '{':
        return open_container(json, TSR_JSON_OBJECT);
    case '[':
        return open_container(json, TSR_JSON_ARRAY);
    case '"':
        return begin_string(json, false);
    case 't':
        return begin_literal(json, TSR_JSON_TRUE, "rue");
    case 'f':
        return begin_literal(json, TSR_JSON_FALSE, "alse");
    case 'n':
        return begin_literal(json, TSR_JSON_NULL, "ull");
    default:
        return c == '-' || (c >= '0' && c <= '9') ? begin_number(json, c) : refuse(json);
    }
}

static int take_literal(struct tsr_json *json, char c)
{
    if (c != *json->literal) {
        return refuse(json);
    }
    return *++json->literal ? 0 : end_value(json);
}

enum tsr_json_state tsr_json_number_state(enum tsr_json_state state, char c)
{
    if (c >= '0' && c <= '9') {
        switch (state) {
        case IN_MINUS:
            return c == '0' ? IN_ZERO : IN_INTEGER;
        case IN_INTEGER:
            return IN_INTEGER;
        case IN_POINT:
        case IN_FRACTION:
            return IN_FRACTION;
        case IN_ZERO:
            return IN_MINUS;
        default:
            return IN_EXPONENT;
        }
    }
    bool integer = state == IN_ZERO || state == IN_INTEGER;
    if (c == '.' && integer) {
        return IN_POINT;
    }
    if ((c == 'e' || c == 'E') && (integer || state == IN_FRACTION)) {
        return IN_E;
    }
    return (c == '+' || c == '-') && state == IN_E ? IN_SIGN : IN_MINUS;
}

bool tsr_json_number_is_whole(enum tsr_json_state state)
{
    return state == IN_ZERO || state == IN_INTEGER || state == IN_FRACTION || state == IN_EXPONENT;
}

static int take(struct tsr_json *json, char c);

static int take_number(struct tsr_json *json, char c)
{
    enum tsr_json_state next = tsr_json_number_state(json->state, c);
    if (next != IN_MINUS) {
        json->state = next;
        return put_byte(json, c);
    }
    if (!tsr_json_number_is_whole(json->state)) {
        return refuse(json);
    }
    int rc = end_text(json);
    return rc < 0 ? rc : take(json, c);
}

static int take_string(struct tsr_json *json, char c)
{
    if (c == '"') {
        return end_text(json);
    }
    if (c == '\\') {
        json->state = IN_ESCAPE;
        return 0;
    }
    if ((uint8_t)c < 0x20) {
        return tsr_err_set(&json->err, -EINVAL,
                           "byte %zu: within a string, the control character 0x%02x must be "
                           "written as \\u%04x",
                           json->at, c, c);
    }
    json->follows = tsr_utf8_lead((uint8_t)c);
    if (json->follows.more) {
        json->state = IN_CHARACTER;
    }
    return json->follows.more == UINT8_MAX ? refuse(json) : put_byte(json, c);
}

static int take_character(struct tsr_json *json, char c)
{
    struct tsr_utf8 *f = &json->follows;
    if ((uint8_t)c < f->low || (uint8_t)c > f->high) {
        return refuse(json);
    }
    *f = (struct tsr_utf8){(uint8_t)(f->more - 1), 0x80, 0xbf};
    if (!f->more) {
        json->state = IN_STRING;
    }
    return put_byte(json, c);
}

static int take_escape(struct tsr_json *json, char c)
{
    static const char letters[] = "\"\\/bfnrt", meant[] = "\"\\/\b\f\n\r\t";
    if (c == 'u') {
        json->unit = json->unit_digits = 0;
        json->state = IN_HEX;
        return 0;
    }
    const char *letter = c ? strchr(letters, c) : NULL;
    if (!letter) {
        return refuse(json);
    }
    json->state = IN_STRING;
    return put_byte(json, meant[letter - letters]);
}

/* A code unit of UTF-16 is whole: a character, or half of one. */
static int end_unit(struct tsr_json *json)
{
    uint32_t unit = json->unit;
    bool low = unit >= 0xdc00 && unit <= 0xdfff;
    if (low != (json->high != 0)) {
        return tsr_err_set(&json->err, -EINVAL,
                           "byte %zu: \\u%04x: surrogates come in pairs, the higher first",
                           json->at, low ? unit : json->high);
    }
    if (unit >= 0xd800 && unit <= 0xdbff) {
        json->high = unit;
        json->state = WANT_LOW_BACKSLASH;
        return 0;
    }
    char bytes[4];
    uint32_t c = low ? 0x10000 + ((json->high - 0xd800) << 10) + (unit - 0xdc00) : unit;
    json->high = 0;
    json->state = IN_STRING;
    return put(json, bytes, tsr_utf8_put(c, bytes));
}

static int take_hex(struct tsr_json *json, char c)
{
    uint32_t lower = (uint8_t)c | 0x20u;
    uint32_t digit = c >= '0' && c <= '9'           ? (uint32_t)(c - '0')
                     : lower >= 'a' && lower <= 'f' ? lower - 'a' + 10
                                                    : UINT32_MAX;
    if (digit == UINT32_MAX) {
        return refuse(json);
    }
    json->unit = json->unit << 4 | digit;
    return ++json->unit_digits < 4 ? 0 : end_unit(json);
}

static int take_key_or(struct tsr_json *json, char c, char end)
{
    if (c == '"') {
        return begin_string(json, true);
    }
    return c == end ? close_container(json) : refuse(json);
}

static int take_comma_or_end(struct tsr_json *json, char c)
{
    bool object = in_object(json);
    if (c == ',') {
        json->state = object ? WANT_KEY : WANT_VALUE;
        return 0;
    }
    return c == (object ? '}' : ']') ? close_container(json) : refuse(json);
}

static int pass(struct tsr_json *json, bool right, enum tsr_json_state next)
{
    if (!right) {
        return refuse(json);
    }
    json->state = next;
    return 0;
}

static int take(struct tsr_json *json, char c)
{
    if (json->state <= WANT_NOTHING && (c == ' ' || c == '\n' || c == '\r' || c == '\t')) {
        return 0;
    }
    switch (json->state) {
    case WANT_VALUE:
        return begin_value(json, c);
    case WANT_ELEMENT_OR_END:
        return c == ']' ? close_container(json) : begin_value(json, c);
    case WANT_KEY_OR_END:
        return take_key_or(json, c, '}');
    case WANT_KEY:
        return take_key_or(json, c, '"');
    case WANT_COLON:
        return pass(json, c == ':', WANT_VALUE);
    case WANT_COMMA_OR_END:
        return take_comma_or_end(json, c);
    case WANT_NOTHING:
        return refuse(json);
    case IN_LITERAL:
        return take_literal(json, c);
    case IN_STRING:
        return take_string(json, c);
    case IN_CHARACTER:
        return take_character(json, c);
    case IN_ESCAPE:
        return take_escape(json, c);
    case IN_HEX:
        return take_hex(json, c);
    case WANT_LOW_BACKSLASH:
        return pass(json, c == '\\', WANT_LOW_U);
    case WANT_LOW_U:
        return c == 'u' ? take_escape(json, c) : refuse(json);
    default:
        return take_number(json, c);
    }
}

/* The characters of a string that stand for themselves, many at once. What is cut or wrong is left
 * to be taken by the byte. */
static int take_plain(struct tsr_json *json, const char *bytes, size_t size, size_t *taken)
{
    size_t n = 0;
    while (n < size && (uint8_t)bytes[n] >= 0x20 && bytes[n] != '"' && bytes[n] != '\\') {
        int step = (uint8_t)bytes[n] < 0x80 ? 1 : tsr_utf8_step(bytes + n, size - n);
        if (step < 0) {
            break;
        }
        n += (size_t)step;
    }
    *taken = n;
    return n ? put(json, bytes, n) : 0;
}

static int result(const struct tsr_json *json, struct tsr_err *err)
{
    if (json->err.code && err) {
        *err = json->err;
    }
    return json->err.code;
}

static int read_some(struct tsr_json *json, const char *bytes, size_t size)
{
    for (size_t i = 0; i < size;) {
        size_t taken = 0;
        int rc = 0;
        if (json->state == IN_STRING) {
            rc = take_plain(json, bytes + i, size - i, &taken);
        }
        if (!taken) {
            taken = 1;
            rc = take(json, bytes[i]);
        }
        if (rc < 0) {
            return rc;
        }
        i += taken;
        json->at += taken;
    }
    return 0;
}

int tsr_json_feed(struct tsr_json *json, const void *bytes, size_t size, struct tsr_err *err)
{
    size_t left = json->limits.bytes_max - json->at;
    if (!json->err.code && read_some(json, bytes, size < left ? size : left) == 0 && size > left) {
        tsr_err_set(&json->err, -E2BIG, "the JSON is longer than %zu bytes",
                    json->limits.bytes_max);
    }
    return result(json, err);
}

int tsr_json_end(struct tsr_json *json, struct tsr_err *err)
{
    if (!json->err.code && tsr_json_number_is_whole(json->state)) {
        end_text(json);
    }
    if (!json->err.code && json->state != WANT_NOTHING) {
        tsr_err_set(&json->err, -EINVAL, "byte %zu: the text ends where %s is wanted", json->at,
                    wanted(json));
    }
    return result(json, err);
}
