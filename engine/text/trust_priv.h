/* Which bytes of a text are trusted: the stretches in order. */
#ifndef TSR_TEXT_TRUST_PRIV_H
#define TSR_TEXT_TRUST_PRIV_H

#include <stdbool.h>
#include <stddef.h>

struct tsr_trust_range {
    size_t end; /* begins where the one before ends, the first at 0 */
    bool trusted;
};

/* Invariant: ranges ascend, and neighbours differ in trust. */
struct tsr_trust {
    struct tsr_trust_range *ranges;
    size_t n, cap;
    size_t at;   /* the range that was looked at last: questions mostly ascend */
    size_t base; /* added to what is asked: the text in question is the part from there on */
};

void tsr_trust_reset(struct tsr_trust *trust);

/* Appends a stretch up to end, which must not lie before the last one's. -ENOMEM. */
int tsr_trust_append(struct tsr_trust *trust, size_t end, bool trusted);

/* Whether all bytes of [begin, end) are trusted; true for an empty stretch. */
bool tsr_trust_over(struct tsr_trust *trust, size_t begin, size_t end);

/* Takes away what is behind end. */
void tsr_trust_cut(struct tsr_trust *trust, size_t end);

void tsr_trust_fini(struct tsr_trust *trust);

#endif
