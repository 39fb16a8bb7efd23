/* Changing a text of any bytes with its trust carried along: what the stages of a normalizer share,
 * and the first of them, Unicode's normalization forms. */
#ifndef TSR_TEXT_NORMALIZE_PRIV_H
#define TSR_TEXT_NORMALIZE_PRIV_H

#include <stdint.h>

#include "trust_priv.h"

enum tsr_normal_form {
    TSR_NORMAL_NONE,
    TSR_NORMAL_NFC,
    TSR_NORMAL_NFD,
    TSR_NORMAL_NFKC,
    TSR_NORMAL_NFKD,
};

/* The result and what making it needs; grows with the text. */
struct tsr_normalize_scratch {
    char *text;
    size_t len, cap;
    struct tsr_trust trust; /* of text */
    int32_t *code, *sorted; /* code points of a stretch */
    size_t code_n, code_cap, sorted_cap;
};

/* A text is not normalized to more bytes: a file says what is put in the place of what. */
enum { TSR_NORMALIZED_BYTES_MAX = 256 << 20 };

/* Appends text[at, end), with the trust that it has. 0, -E2BIG or -ENOMEM. */
int tsr_normalize_copy(struct tsr_normalize_scratch *scratch, const char *text, size_t at,
                       size_t end, struct tsr_trust *trust);

/* Appends other bytes. 0, -E2BIG or -ENOMEM. */
int tsr_normalize_put(struct tsr_normalize_scratch *scratch, const char *bytes, size_t len,
                      bool trusted);

/* Empties the result. */
void tsr_normalize_reset(struct tsr_normalize_scratch *scratch);

/* Normalizes text[begin .. end), whose trust is `trust` (offsets in text). What is not UTF-8 stays
 * as it is. Linear in the length, also for any order of combining marks. 0, -E2BIG or -ENOMEM. */
int tsr_normalize(struct tsr_normalize_scratch *scratch, enum tsr_normal_form form,
                  const char *text, size_t begin, size_t end, struct tsr_trust *trust);

void tsr_normalize_scratch_fini(struct tsr_normalize_scratch *scratch);

#endif
