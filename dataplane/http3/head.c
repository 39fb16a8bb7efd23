#include "http3_priv.h"

#include <string.h>

static struct tsr_api_text text_of(nghttp3_rcbuf *buffer)
{
    nghttp3_vec vec = nghttp3_rcbuf_get_buf(buffer);
    return (struct tsr_api_text){(const char *)vec.base, vec.len};
}

static bool is(struct tsr_api_text text, const char *word)
{
    return text.size == strlen(word) && memcmp(text.bytes, word, text.size) == 0;
}

/* host [":" port] (RFC 3986, 3.2.2), without user information (RFC 9114, 4.3.1), not empty. */
static bool is_authority(struct tsr_api_text text)
{
    static const char others[] = "-._~!$&'()*+,;=:[]%";
    for (size_t i = 0; i < text.size; i++) {
        char c = text.bytes[i];
        bool alnum = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        if (!alnum && !memchr(others, c, sizeof others - 1)) {
            return false;
        }
    }
    return text.size > 0;
}

struct pseudo {
    struct tsr_api_text method, scheme, authority, path, host;
    bool has_authority, has_path, has_host;
};

static bool read_length(struct tsr_api_text value, uint64_t *length)
{
    *length = 0;
    for (size_t i = 0; i < value.size && value.size <= 18; i++) {
        if (value.bytes[i] < '0' || value.bytes[i] > '9') {
            return false;
        }
        *length = *length * 10 + (uint64_t)(value.bytes[i] - '0');
    }
    return value.size > 0 && value.size <= 18;
}

/* nghttp3 has refused what is there twice, or in the wrong place. */
static void read_pseudo(struct pseudo *pseudo, struct tsr_api_text name, struct tsr_api_text value)
{
    if (is(name, ":method")) {
        pseudo->method = value;
    } else if (is(name, ":scheme")) {
        pseudo->scheme = value;
    } else if (is(name, ":authority")) {
        pseudo->authority = value;
        pseudo->has_authority = true;
    } else if (is(name, ":path")) {
        pseudo->path = value;
        pseudo->has_path = true;
    }
}

/* RFC 9114, 4.3.1: one of them, not empty, and the same where both are there. */
static bool read_host(const struct pseudo *pseudo, struct tsr_api_text *host)
{
    *host = pseudo->has_authority ? pseudo->authority : pseudo->host;
    if (pseudo->has_authority && pseudo->has_host &&
        (pseudo->authority.size != pseudo->host.size ||
         memcmp(pseudo->authority.bytes, pseudo->host.bytes, host->size) != 0)) {
        return false;
    }
    return is_authority(*host);
}

static bool read_path(const struct pseudo *pseudo, struct tsr_api_request *request)
{
    struct tsr_api_text path = pseudo->path;
    if (is(path, "*") && is(pseudo->method, "OPTIONS")) {
        request->path = path;
        return true;
    }
    if (!path.size || path.bytes[0] != '/' || memchr(path.bytes, '#', path.size)) {
        return false;
    }
    for (size_t i = 0; i < path.size; i++) {
        if (path.bytes[i] <= ' ' || path.bytes[i] >= 0x7f) {
            return false;
        }
    }
    const char *mark = memchr(path.bytes, '?', path.size);
    request->path =
        (struct tsr_api_text){path.bytes, mark ? (size_t)(mark - path.bytes) : path.size};
    if (mark) {
        request->query = (struct tsr_api_text){mark + 1, path.size - request->path.size - 1};
    }
    return true;
}

static bool read_fields(const struct tsr_http3_stream *stream, struct pseudo *pseudo,
                        struct tsr_http3_asked *asked)
{
    struct tsr_api_request *request = &asked->request;
    for (uint32_t i = 0; i < stream->n_fields; i++) {
        struct tsr_api_text name = text_of(stream->fields[i].name);
        struct tsr_api_text value = text_of(stream->fields[i].value);
        if (name.size && name.bytes[0] == ':') {
            read_pseudo(pseudo, name, value);
            continue;
        }
        if (is(name, "host")) {
            if (pseudo->has_host) {
                return false;
            }
            pseudo->host = value;
            pseudo->has_host = true;
        } else if (is(name, "content-length") && !read_length(value, &request->body_bytes)) {
            return false;
        }
        asked->headers[request->n_headers++] = (struct tsr_api_header){name, value};
    }
    return true;
}

int tsr_http3_head_understand(const struct tsr_http3_stream *stream, bool whole,
                              struct tsr_http3_asked *asked, const char **why)
{
    struct pseudo pseudo = {.has_host = false};
    struct tsr_api_request *request = &asked->request;
    *request = (struct tsr_api_request){.headers = asked->headers, .body_bytes = TSR_API_UNKNOWN};
    if (!read_fields(stream, &pseudo, asked)) {
        return -1;
    }
    request->method = pseudo.method;
    if (is(pseudo.method, "CONNECT")) {
        *why = "CONNECT is not supported: this is not a proxy.";
        return 501;
    }
    if (!is(pseudo.scheme, "https") && !is(pseudo.scheme, "http")) {
        *why = "The scheme of the request is not https.";
        return 400;
    }
    if (!read_host(&pseudo, &request->host) || !read_path(&pseudo, request)) {
        return -1;
    }
    if (whole) {
        request->body_bytes = 0;
    }
    return 0;
}
