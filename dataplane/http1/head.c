#include "head_priv.h"

#include <string.h>
#include <strings.h>

/* What the next byte belongs to. */
enum {
    FIRST,    /* the head's first byte; one empty line may come before it (RFC 9112, 2.2) */
    EMPTY_LF, /* the end of that empty line */
    LINE,
    LINE_LF,
    NAME,
    VALUE,
    VALUE_LF,
    END_LF,
};

/* clang-format off */
static const uint8_t tokens[256] = {
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    0, '!', 0, '#', '$', '%', '&', '\'', 0, 0, '*', '+', 0, '-', '.', 0,
    '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 0, 0, 0, 0, 0, 0,
    0, 'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'j', 'k', 'l', 'm', 'n', 'o',
    'p', 'q', 'r', 's', 't', 'u', 'v', 'w', 'x', 'y', 'z', 0, 0, 0, '^', '_',
    '`', 'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'j', 'k', 'l', 'm', 'n', 'o',
    'p', 'q', 'r', 's', 't', 'u', 'v', 'w', 'x', 'y', 'z', 0, '|', 0, '~', 0,
};
/* clang-format on */

uint8_t tsr_http1_token(uint8_t c)
{
    return tokens[c];
}

bool tsr_http1_is_value(uint8_t c)
{
    return c >= 0x20 ? c != 0x7f : c == '\t';
}

static bool refuse(struct tsr_http1_head *head, unsigned status, const char *why)
{
    head->refusal = (struct tsr_http1_refusal){status, why};
    return false;
}

static bool read_first(struct tsr_http1_head *head, const uint8_t *bytes)
{
    if (bytes[head->at] == '\r' && head->at == 0) {
        head->at++;
        head->state = EMPTY_LF;
        return true;
    }
    head->start = head->line = head->at;
    head->state = LINE;
    return true;
}

static bool read_line(struct tsr_http1_head *head, const uint8_t *bytes, uint32_t end)
{
    uint32_t at = head->at;
    while (at < end && bytes[at] >= 0x20 && bytes[at] < 0x7f) {
        at++;
    }
    head->at = at;
    if (at - head->start > TSR_HTTP1_LINE_MAX) {
        return refuse(head, 414, "The request line is longer than 8192 bytes.");
    }
    if (at == end) {
        return true;
    }
    if (bytes[at] != '\r') {
        return refuse(head, 400,
                      "The request line has a byte that is not printable ASCII, or ends without "
                      "CR LF: this port speaks HTTP/1.1.");
    }
    head->line_size = at - head->start;
    head->at++;
    head->state = LINE_LF;
    return true;
}

static bool read_name(struct tsr_http1_head *head, uint8_t *bytes, uint32_t end)
{
    uint32_t at = head->at;
    while (at < end && tokens[bytes[at]]) {
        bytes[at] = tokens[bytes[at]];
        at++;
    }
    head->at = at;
    if (head->n_fields == TSR_HTTP1_HEADERS_MAX && at > head->start) {
        return refuse(head, 431, "The request has more than 100 headers.");
    }
    if (at == end) {
        return true;
    }
    if (bytes[at] == '\r' && at == head->start) {
        head->at++;
        head->state = END_LF;
        return true;
    }
    if (bytes[at] != ':' || at == head->start) {
        return refuse(head, 400,
                      "A header line does not begin with a name and a colon: no space may stand "
                      "before or in a name, and a value may not go on in a next line.");
    }
    struct tsr_http1_field *field = &head->fields[head->n_fields];
    field->name = (uint16_t)head->start;
    field->name_size = (uint16_t)(at - head->start);
    field->value = (uint16_t)(at + 1);
    head->at++;
    head->state = VALUE;
    return true;
}

static bool is_blank(uint8_t c)
{
    return c == ' ' || c == '\t';
}

static bool read_value(struct tsr_http1_head *head, const uint8_t *bytes, uint32_t end)
{
    uint32_t at = head->at;
    while (at < end && tsr_http1_is_value(bytes[at])) {
        at++;
    }
    head->at = at;
    if (at == end) {
        return true;
    }
    if (bytes[at] != '\r') {
        return refuse(head, 400,
                      "A header has a control character in its value, or ends without CR LF.");
    }
    struct tsr_http1_field *field = &head->fields[head->n_fields++];
    uint32_t first = field->value, last = at;
    while (first < last && is_blank(bytes[first])) {
        first++;
    }
    while (last > first && is_blank(bytes[last - 1])) {
        last--;
    }
    field->value = (uint16_t)first;
    field->value_size = (uint16_t)(last - first);
    head->at++;
    head->state = VALUE_LF;
    return true;
}

/* The LF after a CR. */
static bool read_lf(struct tsr_http1_head *head, const uint8_t *bytes)
{
    if (bytes[head->at] != '\n') {
        return refuse(head, 400, "A line of the head has a CR that no LF follows.");
    }
    head->at++;
    head->start = head->at;
    head->state = head->state == EMPTY_LF ? FIRST : NAME;
    return true;
}

enum tsr_http1_read tsr_http1_head_read(struct tsr_http1_head *head, uint8_t *bytes, size_t size)
{
    uint32_t end = size < TSR_HTTP1_HEAD_MAX ? (uint32_t)size : TSR_HTTP1_HEAD_MAX;
    bool right = true;
    while (right && head->at < end) {
        bool last = head->state == END_LF;
        switch (head->state) {
        case FIRST:
            right = read_first(head, bytes);
            break;
        case LINE:
            right = read_line(head, bytes, end);
            break;
        case NAME:
            right = read_name(head, bytes, end);
            break;
        case VALUE:
            right = read_value(head, bytes, end);
            break;
        default:
            right = read_lf(head, bytes);
            if (right && last) {
                return TSR_HTTP1_WHOLE;
            }
        }
    }
    if (right && size > TSR_HTTP1_HEAD_MAX) {
        right = refuse(head, 431, "The request's head is longer than 32768 bytes.");
    }
    return right ? TSR_HTTP1_MORE : TSR_HTTP1_REFUSED;
}

/* ---- What it means ---- */

static bool is(struct tsr_api_text text, const char *word)
{
    return text.size == strlen(word) && memcmp(text.bytes, word, text.size) == 0;
}

static bool is_word(struct tsr_api_text text, const char *word)
{
    return text.size == strlen(word) && strncasecmp(text.bytes, word, text.size) == 0;
}

/* Takes what stands before the first `c` off the text, and `c` with it; all of it where there is
 * none. */
static struct tsr_api_text cut(struct tsr_api_text *text, char c)
{
    const char *found = text->size ? memchr(text->bytes, c, text->size) : NULL;
    struct tsr_api_text before = *text;
    if (found) {
        before.size = (size_t)(found - text->bytes);
        text->bytes = found + 1;
        text->size -= before.size + 1;
    } else {
        text->bytes += text->size;
        text->size = 0;
    }
    return before;
}

/* The next element of a list "a, b" that is not empty. */
static bool next_element(struct tsr_api_text *list, struct tsr_api_text *element)
{
    while (list->size) {
        *element = cut(list, ',');
        while (element->size && is_blank((uint8_t)element->bytes[0])) {
            element->bytes++;
            element->size--;
        }
        while (element->size && is_blank((uint8_t)element->bytes[element->size - 1])) {
            element->size--;
        }
        if (element->size) {
            return true;
        }
    }
    return false;
}

/* Whether all of it is of the given letters, digits and other characters. */
static bool consists_of(struct tsr_api_text text, bool letters, const char *others)
{
    for (size_t i = 0; i < text.size; i++) {
        char c = text.bytes[i];
        bool letter = (c | 0x20) >= 'a' && (c | 0x20) <= 'z';
        if (!(letters && letter) && !(c >= '0' && c <= '9') && !strchr(others, c)) {
            return false;
        }
    }
    return true;
}

/* host [":" port] (RFC 3986, 3.2.2 and 3.2.3), without user information. */
static bool is_authority(struct tsr_api_text text)
{
    bool literal = text.size && text.bytes[0] == '[';
    struct tsr_api_text host = literal ? cut(&text, ']') : cut(&text, ':');
    if (!literal) {
        return consists_of(host, true, "-._~%!$&'()*+,;=") && consists_of(text, false, "");
    }
    bool closed = host.bytes + host.size < text.bytes;
    if (text.size && *text.bytes == ':') {
        text.bytes++;
        text.size--;
    } else if (text.size) {
        return false;
    }
    host.bytes++;
    host.size--;
    return closed && host.size && consists_of(host, true, "-._~!$&'()*+,;=:") &&
           consists_of(text, false, "");
}

static bool read_version(struct tsr_http1_head *head, struct tsr_api_text version,
                         struct tsr_http1_asked *asked)
{
    const char *v = version.bytes;
    if (version.size != 8 || memcmp(v, "HTTP/", 5) != 0 || v[5] < '0' || v[5] > '9' ||
        v[6] != '.' || v[7] < '0' || v[7] > '9') {
        return refuse(head, 400,
                      "The request line is not a method, a target and HTTP/1.1, with one space "
                      "between them.");
    }
    if (v[5] != '1') {
        return refuse(head, 505, "The HTTP version is not supported: this port speaks HTTP/1.1.");
    }
    asked->http10 = v[7] == '0';
    return true;
}

/* The size of "http://" or "https://" at the beginning; 0: neither. */
static size_t scheme_size(struct tsr_api_text target)
{
    if (target.size >= 7 && strncasecmp(target.bytes, "http://", 7) == 0) {
        return 7;
    }
    return target.size >= 8 && strncasecmp(target.bytes, "https://", 8) == 0 ? 8 : 0;
}

/* absolute-form: asked->host and what is left of the target. */
static bool read_absolute(struct tsr_http1_head *head, struct tsr_api_text *target,
                          struct tsr_http1_asked *asked)
{
    size_t scheme = scheme_size(*target), size = scheme;
    while (size < target->size && target->bytes[size] != '/' && target->bytes[size] != '?') {
        size++;
    }
    asked->host = (struct tsr_api_text){target->bytes + scheme, size - scheme};
    target->bytes += size;
    target->size -= size;
    if (!asked->host.size || !is_authority(asked->host)) {
        return refuse(head, 400, "The target's authority is not a host with an optional port.");
    }
    return true;
}

static bool read_target(struct tsr_http1_head *head, struct tsr_api_text target,
                        struct tsr_http1_asked *asked)
{
    if (is(asked->method, "CONNECT")) {
        return refuse(head, 501, "CONNECT is not supported: this is not a proxy.");
    }
    if (is(target, "*") && is(asked->method, "OPTIONS")) {
        asked->path = target;
        return true;
    }
    if (scheme_size(target)) {
        if (!read_absolute(head, &target, asked)) {
            return false;
        }
    } else if (!target.size || target.bytes[0] != '/') {
        return refuse(head, 400, "The target is neither a path nor an absolute http URI.");
    }
    if (target.size && memchr(target.bytes, '#', target.size)) {
        return refuse(head, 400, "The target has a fragment, which is not sent to servers.");
    }
    asked->query = target;
    asked->path = cut(&asked->query, '?');
    if (!asked->path.size) {
        asked->path = (struct tsr_api_text){"/", 1};
    }
    return true;
}

static bool read_request_line(struct tsr_http1_head *head, const uint8_t *bytes,
                              struct tsr_http1_asked *asked)
{
    struct tsr_api_text rest = {(const char *)bytes + head->line, head->line_size};
    asked->method = cut(&rest, ' ');
    struct tsr_api_text target = cut(&rest, ' ');
    for (size_t i = 0; i < asked->method.size; i++) {
        if (!tokens[(uint8_t)asked->method.bytes[i]]) {
            return refuse(head, 400, "The request line does not begin with a method.");
        }
    }
    if (!asked->method.size) {
        return refuse(head, 400, "The request line does not begin with a method.");
    }
    return read_version(head, rest, asked) && read_target(head, target, asked);
}

static bool read_length(struct tsr_http1_head *head, struct tsr_api_text value,
                        struct tsr_http1_asked *asked)
{
    uint64_t length = 0;
    for (size_t i = 0; i < value.size && value.size <= 18; i++) {
        if (value.bytes[i] < '0' || value.bytes[i] > '9') {
            return refuse(head, 400, "Content-Length is not a number of digits.");
        }
        length = length * 10 + (uint64_t)(value.bytes[i] - '0');
    }
    if (!value.size || value.size > 18) {
        return refuse(head, 400, "Content-Length is empty or has more than 18 digits.");
    }
    asked->body_bytes = length;
    return true;
}

/* What the headers of one head have said so far. */
struct said {
    bool host, length, chunked, coding;
    bool close, keep_alive;
};

static bool read_codings(struct tsr_http1_head *head, struct tsr_api_text value, struct said *said)
{
    struct tsr_api_text coding;
    bool any = false;
    while (next_element(&value, &coding)) {
        if (said->chunked) {
            return refuse(head, 400, "Transfer-Encoding goes on after chunked, which ends it.");
        }
        any = true;
        said->chunked = is_word(coding, "chunked");
        said->coding = said->coding || !said->chunked;
    }
    return any || refuse(head, 400, "Transfer-Encoding is empty.");
}

static void read_connection(struct tsr_api_text value, struct said *said)
{
    struct tsr_api_text option;
    while (next_element(&value, &option)) {
        said->close = said->close || is_word(option, "close");
        said->keep_alive = said->keep_alive || is_word(option, "keep-alive");
    }
}

static bool read_host(struct tsr_http1_head *head, struct tsr_api_text value, struct said *said,
                      struct tsr_http1_asked *asked)
{
    if (said->host) {
        return refuse(head, 400, "The request has more than one Host header.");
    }
    if (!is_authority(value)) {
        return refuse(head, 400, "Host is not a host with an optional port.");
    }
    said->host = true;
    if (!asked->host.size) { /* else the target's authority wins (RFC 9112, 3.2.2) */
        asked->host = value;
    }
    return true;
}

static bool read_expect(struct tsr_http1_head *head, struct tsr_api_text value,
                        struct tsr_http1_asked *asked)
{
    if (!is_word(value, "100-continue")) {
        return refuse(head, 417, "Expect asks for something else than 100-continue.");
    }
    asked->expects = !asked->http10;
    return true;
}

static bool read_field(struct tsr_http1_head *head, struct tsr_api_text name,
                       struct tsr_api_text value, struct said *said, struct tsr_http1_asked *asked)
{
    if (is(name, "host")) {
        return read_host(head, value, said, asked);
    }
    if (is(name, "content-length")) {
        if (said->length) {
            return refuse(head, 400, "The request has more than one Content-Length.");
        }
        said->length = true;
        return read_length(head, value, asked);
    }
    if (is(name, "transfer-encoding")) {
        return read_codings(head, value, said);
    }
    if (is(name, "connection")) {
        read_connection(value, said);
    } else if (is(name, "expect")) {
        return read_expect(head, value, asked);
    }
    return true;
}

/* How long the body is must be beyond doubt (RFC 9112, 6.3): whoever reads it differently takes a
 * part of it for the next request. */
static bool check_framing(struct tsr_http1_head *head, const struct said *said,
                          struct tsr_http1_asked *asked)
{
    if (!said->chunked && !said->coding) {
        return true;
    }
    if (said->length) {
        return refuse(head, 400, "The request has both Content-Length and Transfer-Encoding.");
    }
    if (asked->http10) {
        return refuse(head, 400, "HTTP/1.0 has no Transfer-Encoding.");
    }
    if (said->coding) {
        return refuse(head, 501,
                      "Transfer-Encoding has a coding that is not supported: only "
                      "chunked is.");
    }
    asked->body_bytes = TSR_API_UNKNOWN;
    return true;
}

bool tsr_http1_head_understand(struct tsr_http1_head *head, const uint8_t *bytes,
                               struct tsr_http1_asked *asked)
{
    struct said said = {.host = false};
    *asked = (struct tsr_http1_asked){.body_bytes = 0};
    if (!read_request_line(head, bytes, asked)) {
        return false;
    }
    for (uint32_t i = 0; i < head->n_fields; i++) {
        const struct tsr_http1_field *f = &head->fields[i];
        struct tsr_api_text name = {(const char *)bytes + f->name, f->name_size};
        struct tsr_api_text value = {(const char *)bytes + f->value, f->value_size};
        if (!read_field(head, name, value, &said, asked)) {
            return false;
        }
    }
    if (!said.host && !asked->http10) {
        return refuse(head, 400, "The request has no Host header.");
    }
    asked->keep = !said.close && (!asked->http10 || said.keep_alive);
    return check_framing(head, &said, asked);
}
