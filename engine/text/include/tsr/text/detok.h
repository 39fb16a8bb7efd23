/* Token ids to text, streaming: bytes come out only as whole UTF-8 characters.
 *
 * What cannot become UTF-8 is replaced by U+FFFD, one for each maximal invalid part (as the Unicode
 * standard, section 3.9, recommends and as decoders of Hugging Face and Rust do), so that the
 * pieces joined are the same text for any split into tokens. No allocation; one thread at a time
 * per state. */
#ifndef TSR_TEXT_DETOK_H
#define TSR_TEXT_DETOK_H

#include <tsr/text/vocab.h>

struct tsr_detok {
    const struct tsr_vocab *vocab;
    bool show_special; /* special tokens appear as their text; otherwise they are left out */
    bool exact;        /* what cannot become UTF-8 comes out as it is; false after _init() */
    uint8_t n_held;    /* bytes of an unfinished character, 0 .. 3 */
    uint8_t held[3];
    bool began;      /* a token was shown, or what vocab->start takes away is over */
    uint32_t n_lost; /* spaces that it took away */
};

void tsr_detok_init(struct tsr_detok *detok, const struct tsr_vocab *vocab, bool show_special);

/* Room that out must have in tsr_detok_push(): 3 * (longest token + 3). */
size_t tsr_detok_out_max(const struct tsr_vocab *vocab);

/* Adds a token and writes the text that is now certain; the number of bytes written (often 0 in the
 * middle of a character). out: [tsr_detok_out_max()]. An id outside the vocabulary stands for no
 * text. */
size_t tsr_detok_push(struct tsr_detok *detok, uint32_t id, char *out);

/* The end: an unfinished character becomes one U+FFFD. The number of bytes written, 0 or 3. The
 * state is then as after tsr_detok_init(). out: [3]. */
size_t tsr_detok_flush(struct tsr_detok *detok, char *out);

#endif
