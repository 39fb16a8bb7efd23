/* Text that goes: written into room of a fixed or a growing size. Never fails in the middle: what
 * does not fit marks it `full`, nothing is written after that, and the writer looks once at the
 * end. The C locale is expected. */
#ifndef TSR_API_OUT_H
#define TSR_API_OUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tsr_out {
    char *bytes;
    size_t size; /* written; size <= capacity */
    size_t capacity;
    size_t grows_to; /* 0: fixed room, the caller's; otherwise malloc'ed, up to that many bytes */
    bool full;       /* something did not fit: what is written is not whole */
};

void tsr_out_init(struct tsr_out *out, void *room, size_t capacity);
void tsr_out_init_growing(struct tsr_out *out, size_t grows_to);
void tsr_out_fini(struct tsr_out *out);  /* frees a growing one's bytes */
void tsr_out_clear(struct tsr_out *out); /* nothing written, not full; room that grew is kept */

void tsr_out_bytes(struct tsr_out *out, const void *bytes, size_t size);
void tsr_out_text(struct tsr_out *out, const char *text);
void tsr_out_uint(struct tsr_out *out, uint64_t value);
void tsr_out_int(struct tsr_out *out, int64_t value);

/* A JSON number of few digits that reads back the same; null where not finite. */
void tsr_out_double(struct tsr_out *out, double value);

/* As printf does; wants room for its NUL too, which is not counted. */
__attribute__((format(printf, 2, 3))) void tsr_out_format(struct tsr_out *out, const char *format,
                                                          ...);

/* JSON string with its quotes. Bytes that are not UTF-8 become U+FFFD. _escaped: without quotes,
 * for strings that are written in pieces of whole characters. */
void tsr_out_string(struct tsr_out *out, const char *text, size_t size);
void tsr_out_escaped(struct tsr_out *out, const char *text, size_t size);

#endif
