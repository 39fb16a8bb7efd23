/* Stop strings in a stream of bytes: nothing that may be the beginning of a stop string is let
 * through.
 *
 * The strings are copied in; no allocation. One thread at a time per state. The first string that
 * becomes complete ends the stream, before its first byte; where several become complete with the
 * same byte, the longest does. */
#ifndef TSR_TEXT_STOP_H
#define TSR_TEXT_STOP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <tsr/shm/err.h>

enum {
    TSR_STOP_STRINGS_MAX = 16,
    TSR_STOP_BYTES_MAX = 256, /* of one string */
};

/* Invariant: matched[i] = length of the longest proper prefix of string i that the stream so far
 * ends with; n_held = max(matched), and held is the stream's last n_held bytes. */
struct tsr_stop {
    uint32_t n_strings;
    int32_t hit; /* index of the string that ended the stream, -1 before */
    uint32_t n_held;
    uint16_t len[TSR_STOP_STRINGS_MAX];
    uint8_t matched[TSR_STOP_STRINGS_MAX];
    uint8_t border[TSR_STOP_STRINGS_MAX]
                  [TSR_STOP_BYTES_MAX]; /* Knuth, Morris, Pratt's failure function */
    char string[TSR_STOP_STRINGS_MAX][TSR_STOP_BYTES_MAX];
    char held[TSR_STOP_BYTES_MAX];
};

/* strings[i] has len[i] bytes. -EINVAL with a sentence: an empty string, one above
 * TSR_STOP_BYTES_MAX, or more than TSR_STOP_STRINGS_MAX. n = 0 is a stop that lets everything
 * through. */
int tsr_stop_init(struct tsr_stop *stop, const char *const *strings, const size_t *len, size_t n,
                  struct tsr_err *err);

/* Passes n bytes through; writes what is certain not to belong to a stop string to out
 * [TSR_STOP_BYTES_MAX + n], its length to *out_len. True: a stop string is complete (stop->hit),
 * the stream has ended and what follows is dropped. */
bool tsr_stop_push(struct tsr_stop *stop, const char *bytes, size_t n, char *out, size_t *out_len);

/* The stream ended by itself: what was held back. Bytes written. out: [TSR_STOP_BYTES_MAX]. */
size_t tsr_stop_flush(struct tsr_stop *stop, char *out);

#endif
