#include "chunked_priv.h"

enum {
    DIGITS_MAX = 15, /* so that no size overflows */
    OVERHEAD_MAX = 16 << 10,
};

/* What the next byte belongs to. */
enum {
    SIZE,
    BLANK, /* between the size and the ';' of an extension */
    EXTENSION,
    SIZE_LF,
    DATA,
    DATA_CR,
    DATA_LF,
    TRAILER_NAME_FIRST,
    TRAILER_NAME,
    TRAILER_VALUE,
    TRAILER_LF,
    END_LF,
};

static void refuse(struct tsr_http1_chunked *chunked, unsigned status, const char *why)
{
    chunked->refusal = (struct tsr_http1_refusal){status, why};
}

static int hex(uint8_t c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static void read_size(struct tsr_http1_chunked *chunked, uint8_t c)
{
    int digit = hex(c);
    if (digit >= 0 && chunked->digits < DIGITS_MAX) {
        chunked->left = chunked->left << 4 | (uint64_t)digit;
        chunked->digits++;
    } else if (digit >= 0) {
        refuse(chunked, 400, "A chunk's size has more than 15 digits.");
    } else if (chunked->digits && c == '\r') {
        chunked->state = SIZE_LF;
    } else if (chunked->digits && (c == ' ' || c == '\t')) {
        chunked->state = BLANK;
    } else if (chunked->digits && c == ';') {
        chunked->state = EXTENSION;
    } else {
        refuse(chunked, 400, "A chunk does not begin with its size in hexadecimal digits.");
    }
}

static void read_extension(struct tsr_http1_chunked *chunked, uint8_t c)
{
    if (chunked->state == BLANK) {
        if (c == ';') {
            chunked->state = EXTENSION;
        } else if (c != ' ' && c != '\t') {
            refuse(chunked, 400, "A chunk's size ends with a space.");
        }
    } else if (c == '\r') {
        chunked->state = SIZE_LF;
    } else if (!tsr_http1_is_value(c)) {
        refuse(chunked, 400, "A chunk's extension has a control character.");
    }
}

static void read_trailer(struct tsr_http1_chunked *chunked, uint8_t c)
{
    switch (chunked->state) {
    case TRAILER_NAME_FIRST:
    case TRAILER_NAME:
        if (c == '\r' && chunked->state == TRAILER_NAME_FIRST) {
            chunked->state = END_LF;
        } else if (c == ':' && chunked->state == TRAILER_NAME) {
            chunked->state = TRAILER_VALUE;
        } else if (tsr_http1_token(c)) {
            chunked->state = TRAILER_NAME;
        } else {
            refuse(chunked, 400, "A trailer does not begin with a name and a colon.");
        }
        break;
    default: /* TRAILER_VALUE */
        if (c == '\r') {
            chunked->state = TRAILER_LF;
        } else if (!tsr_http1_is_value(c)) {
            refuse(chunked, 400, "A trailer has a control character in its value.");
        }
    }
}

static void count_overhead(struct tsr_http1_chunked *chunked)
{
    if (++chunked->overhead > OVERHEAD_MAX) {
        refuse(chunked, 431, "Extensions and trailers of chunks are longer than 16384 bytes.");
    }
}

static void after_size(struct tsr_http1_chunked *chunked)
{
    chunked->digits = 0;
    chunked->state = chunked->left ? DATA : TRAILER_NAME_FIRST;
}

static void expect(struct tsr_http1_chunked *chunked, uint8_t c, char wanted, uint8_t next)
{
    if (c != (uint8_t)wanted) {
        refuse(chunked, 400, "A chunk's size, data or trailer is not followed by CR LF.");
    }
    chunked->state = next;
}

static void read_framing(struct tsr_http1_chunked *chunked, uint8_t c)
{
    switch (chunked->state) {
    case SIZE:
        read_size(chunked, c);
        break;
    case BLANK:
    case EXTENSION:
        count_overhead(chunked);
        read_extension(chunked, c);
        break;
    case SIZE_LF:
        expect(chunked, c, '\n', DATA);
        after_size(chunked);
        break;
    case DATA_CR:
        expect(chunked, c, '\r', DATA_LF);
        break;
    case DATA_LF:
        expect(chunked, c, '\n', SIZE);
        break;
    case TRAILER_LF:
        expect(chunked, c, '\n', TRAILER_NAME_FIRST);
        break;
    case END_LF:
        expect(chunked, c, '\n', SIZE);
        chunked->ended = !chunked->refusal.status;
        break;
    default:
        count_overhead(chunked);
        read_trailer(chunked, c);
    }
}

size_t tsr_http1_chunked_read(struct tsr_http1_chunked *chunked, const uint8_t *bytes, size_t size,
                              size_t *data_size)
{
    size_t at = 0;
    *data_size = 0;
    while (at < size && chunked->state != DATA && !chunked->ended && !chunked->refusal.status) {
        read_framing(chunked, bytes[at++]);
    }
    if (chunked->state == DATA && !chunked->refusal.status) {
        size_t n = size - at < chunked->left ? size - at : (size_t)chunked->left;
        chunked->left -= n;
        chunked->state = chunked->left ? DATA : DATA_CR;
        *data_size = n;
        at += n;
    }
    return at;
}
