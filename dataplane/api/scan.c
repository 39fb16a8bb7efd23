#include "scan_priv.h"

static_assert(WANT_VALUE == 0, "a scan begins at a value");

static bool in_object(const struct tsr_scan *scan)
{
    uint32_t top = scan->depth - 1;
    return scan->objects[top / 64] >> top % 64 & 1;
}

static bool pass(struct tsr_scan *scan, enum tsr_json_state next)
{
    scan->state = next;
    return true;
}

static bool end_value(struct tsr_scan *scan)
{
    return pass(scan, scan->depth ? WANT_COMMA_OR_END : WANT_NOTHING);
}

static bool open_container(struct tsr_scan *scan, bool object)
{
    if (scan->depth == TSR_SCAN_DEPTH_MAX) {
        return false;
    }
    uint64_t bit = UINT64_C(1) << scan->depth % 64;
    uint64_t *word = &scan->objects[scan->depth++ / 64];
    *word = object ? *word | bit : *word & ~bit;
    return pass(scan, object ? WANT_KEY_OR_END : WANT_ELEMENT_OR_END);
}

static bool close_container(struct tsr_scan *scan)
{
    scan->depth--;
    return end_value(scan);
}

static bool begin_literal(struct tsr_scan *scan, const char *rest)
{
    scan->literal = rest;
    return pass(scan, IN_LITERAL);
}

static bool begin_string(struct tsr_scan *scan, bool is_key)
{
    scan->is_key = is_key;
    return pass(scan, IN_STRING);
}

static bool begin_value(struct tsr_scan *scan, char c)
{
    switch (c) {
    case '{':
    case '[':
        return open_container(scan, c == '{');
    case '"':
        return begin_string(scan, false);
    case 't':
        return begin_literal(scan, "rue");
    case 'f':
        return begin_literal(scan, "alse");
    case 'n':
        return begin_literal(scan, "ull");
    case '0':
        return pass(scan, IN_ZERO);
    case '-':
        return pass(scan, IN_MINUS);
    default:
        return c >= '1' && c <= '9' && pass(scan, IN_INTEGER);
    }
}

static bool take_literal(struct tsr_scan *scan, char c)
{
    return c == *scan->literal && (*++scan->literal || end_value(scan));
}

static bool take_string(struct tsr_scan *scan, char c)
{
    if (c == '\\') {
        return pass(scan, IN_ESCAPE);
    }
    if (c != '"') {
        return true;
    }
    return scan->is_key ? pass(scan, WANT_COLON) : end_value(scan);
}

static bool take_comma_or_end(struct tsr_scan *scan, char c)
{
    bool object = in_object(scan);
    if (c == ',') {
        return pass(scan, object ? WANT_KEY : WANT_VALUE);
    }
    return c == (object ? '}' : ']') && close_container(scan);
}

static bool take_number(struct tsr_scan *scan, char c)
{
    enum tsr_json_state next = tsr_json_number_state(scan->state, c);
    if (next != IN_MINUS) {
        return pass(scan, next);
    }
    return tsr_json_number_is_whole(scan->state) && end_value(scan) && tsr_scan_byte(scan, c);
}

bool tsr_scan_byte(struct tsr_scan *scan, char c)
{
    if (scan->state <= WANT_NOTHING && (c == ' ' || c == '\n' || c == '\r' || c == '\t')) {
        return true;
    }
    switch (scan->state) {
    case WANT_VALUE:
        return begin_value(scan, c);
    case WANT_ELEMENT_OR_END:
        return c == ']' ? close_container(scan) : begin_value(scan, c);
    case WANT_KEY_OR_END:
        return c == '}' ? close_container(scan) : c == '"' && begin_string(scan, true);
    case WANT_KEY:
        return c == '"' && begin_string(scan, true);
    case WANT_COLON:
        return c == ':' && pass(scan, WANT_VALUE);
    case WANT_COMMA_OR_END:
        return take_comma_or_end(scan, c);
    case WANT_NOTHING:
        return false;
    case IN_LITERAL:
        return take_literal(scan, c);
    case IN_STRING:
        return take_string(scan, c);
    case IN_ESCAPE:
        return pass(scan, IN_STRING);
    default:
        return take_number(scan, c);
    }
}
