/* Running sequences by every way in. */
#ifndef TSR_TOOLS_WAYS_PRIV_H
#define TSR_TOOLS_WAYS_PRIV_H

#include <tsr/tools/verify.h>

enum { WAYS_LIVE_MAX = 16 }; /* sequences in one step */

/* A sequence of rows, of a prompt or of it and what follows; logits of those from `first` on are
 * looked at. */
struct tsr_way_sequence {
    const uint32_t *ids;
    uint32_t rows, first;
    uint32_t prompt;
};

/* What to run, and what came of it. */
struct tsr_ways {
    const struct tsr_model *model;
    enum tsr_weights weights;
    const struct tsr_way_sequence *sequences;
    uint32_t n;
    /* Each looked-at row once, of the first way. */
    void (*row)(void *ctx, uint32_t prompt, uint32_t position, const float *logits);
    void *row_ctx;
    const struct tsr_verify *verify; /* for progress */

    uint64_t compared;  /* rows of these ... */
    uint64_t different; /* ... and those with other bytes */
    char where[96];     /* the first of them */
    uint64_t broken;    /* rows of the first way with a logit that is not finite */
};

/* What the executor needs for these sequences. */
void tsr_ways_options(const struct tsr_ways *ways, struct tsr_exec_options *options);

/* Only the first way, or all of them. 0; errors of tsr_exec_create(). */
int tsr_ways_run(struct tsr_ways *ways, bool all, struct tsr_err *err);

#endif
