/* A request's head: its bytes are read once, as they come, and refused at the first one that is
 * wrong; what they mean is asked when it is whole. So the result is the same however it is cut. */
#ifndef TSR_HTTP1_HEAD_PRIV_H
#define TSR_HTTP1_HEAD_PRIV_H

#include <tsr/api/api.h>
#include <tsr/http1/http1.h>

/* What a client is told that asked wrongly. `why` is one sentence without quotes. */
struct tsr_http1_refusal {
    unsigned status; /* 0: nothing is wrong */
    const char *why;
};

/* Offsets into the head. */
struct tsr_http1_field {
    uint16_t name, name_size, value, value_size;
};

/* All zero before its first byte. */
struct tsr_http1_head {
    uint32_t at;    /* bytes read; once whole, the head's size */
    uint32_t start; /* of the line that is being read */
    uint32_t state;
    uint32_t line, line_size; /* the request line */
    uint32_t n_fields;
    struct tsr_http1_refusal refusal;
    struct tsr_http1_field fields[TSR_HTTP1_HEADERS_MAX];
};

enum tsr_http1_read { TSR_HTTP1_MORE, TSR_HTTP1_WHOLE, TSR_HTTP1_REFUSED };

/* Goes on with bytes[head->at .. size). bytes: the head from its beginning. Names of headers become
 * lower case in place. */
enum tsr_http1_read tsr_http1_head_read(struct tsr_http1_head *head, uint8_t *bytes, size_t size);

struct tsr_http1_asked {
    struct tsr_api_text method, path, query, host;
    uint64_t body_bytes; /* TSR_API_UNKNOWN: chunked */
    bool http10;
    bool keep;    /* the connection may live on */
    bool expects; /* 100-continue */
};

/* What a whole head says. The texts point into bytes. False: head->refusal says why. */
bool tsr_http1_head_understand(struct tsr_http1_head *head, const uint8_t *bytes,
                               struct tsr_http1_asked *asked);

/* The character of a token (RFC 9110, 5.6.2) in lower case; 0: not of a token. */
uint8_t tsr_http1_token(uint8_t c);

/* May stand in a field's value: not a control character. */
bool tsr_http1_is_value(uint8_t c);

#endif
