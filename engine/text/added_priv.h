/* Added tokens: found in the text as a whole, leftmost and longest first, before anything else is
 * done. */
#ifndef TSR_TEXT_ADDED_PRIV_H
#define TSR_TEXT_ADDED_PRIV_H

#include <stdint.h>

#include <tsr/shm/err.h>

#include "trust_priv.h"

enum { TSR_ADDED_BYTES_MAX = 1024 };

struct tsr_added_token {
    char *text; /* owned by the set */
    uint32_t len;
    uint32_t id;
    uint32_t order;      /* filled in: the how manieth of the set */
    bool lstrip, rstrip; /* takes the white space before, behind it */
    bool single_word;    /* only where no letter, digit or underscore touches it */
    bool guarded;        /* only where all its bytes are trusted */
};

/* Invariant after tsr_added_sort(): tokens ascend by bytes; those that begin with byte b are
 * [first[b], first[b + 1]). */
struct tsr_added {
    struct tsr_added_token *tokens;
    uint32_t n, cap;
    uint32_t first[257];
};

/* Copies the text. -EINVAL: empty or above TSR_ADDED_BYTES_MAX; -ENOMEM. A second token of the same
 * text replaces the first, at the latest when they are sorted. */
int tsr_added_add(struct tsr_added *added, const struct tsr_added_token *token,
                  struct tsr_err *err);
void tsr_added_sort(struct tsr_added *added);
void tsr_added_fini(struct tsr_added *added);

struct tsr_added_match {
    const struct tsr_added_token *token;
    size_t begin, end; /* with the white space that it takes */
};

/* The next token in text[len] at or after from; false: none. */
bool tsr_added_find(const struct tsr_added *added, const char *text, size_t len, size_t from,
                    struct tsr_trust *trust, struct tsr_added_match *match);

/* The length of the longest token with which text[len] begins; 0: none. For sets in which no token
 * is guarded. */
size_t tsr_added_prefix(const struct tsr_added *added, const char *text, size_t len);

#endif
