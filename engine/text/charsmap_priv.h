/* SentencePiece's compiled table of character replacements ("precompiled_charsmap"): a double-array
 * trie of the sequences that are replaced, then their replacements, each ended by a NUL byte. */
#ifndef TSR_TEXT_CHARSMAP_PRIV_H
#define TSR_TEXT_CHARSMAP_PRIV_H

#include <stddef.h>
#include <stdint.h>

#include <tsr/shm/err.h>

struct tsr_charsmap {
    uint32_t *units; /* [n_units] */
    uint32_t n_units;
    char *texts; /* [texts_len], the last byte is NUL */
    size_t texts_len;
};

/* Copies blob[len]. -EINVAL: the lengths do not fit; -ENOMEM. */
int tsr_charsmap_init(struct tsr_charsmap *map, const void *blob, size_t len, struct tsr_err *err);
void tsr_charsmap_fini(struct tsr_charsmap *map);

/* A sequence of the table with which text[len] begins: the longest or the shortest; its length,
 * and *out its replacement. 0: there is none. */
size_t tsr_charsmap_find(const struct tsr_charsmap *map, const char *text, size_t len, int shortest,
                         const char **out);

#endif
