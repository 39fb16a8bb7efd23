/* Holds a model against a golden file, or against itself: each check is a measure beside its
 * tolerance. Every precision runs by every way in: a prompt at once, in chunks of 1, 7 and 32,
 * several prompts in one step in chunks of changing size; each on 1, 2 and 4 workers. All ways must
 * give the bytes of the first, which is each prompt at once on a worker a CPU. Of a big model only
 * the shortest prompts are run by the other ways. */
#ifndef TSR_TOOLS_VERIFY_H
#define TSR_TOOLS_VERIFY_H

#include <tsr/exec/exec.h>
#include <tsr/model/model.h>
#include <tsr/tools/golden.h>

struct tsr_language;

enum tsr_verdict {
    TSR_VERDICT_HOLDS,
    TSR_VERDICT_FAILS,
    TSR_VERDICT_FIGURE, /* nothing states a tolerance */
};

/* One check, for the time of the call: "int8 logits", "nmse 0.00089", "<= 0.0018". */
struct tsr_check {
    enum tsr_verdict verdict;
    const char *what, *measured, *tolerance;
};

struct tsr_verify {
    const struct tsr_model *model;
    void (*report)(void *ctx, const struct tsr_check *check);
    /* NULL: none. done: 0 .. 1 of what is named, called often. */
    void (*progress)(void *ctx, const char *what, double done);
    void *ctx;
    uint32_t failed; /* checks that did not hold */
};

/* "ref", "bf16", "int8", "file" (as the engine packs by default) ... */
const char *tsr_verify_name(enum tsr_weights weights);

/* Whether everything that will be run fits: -ENOMEM with need and supply, -EINVAL where golden is
 * of another vocabulary. Prompts may be longer than the model's context: what they give is stated.
 * Allocates nothing. */
int tsr_verify_fits(const struct tsr_verify *v, const struct tsr_golden *golden,
                    enum tsr_weights weights, struct tsr_err *err);

/* The logits and greedy ids of golden (teacher-forced), with the tolerance of this precision: ref
 * nmse <= 1e-9 and every greedy id; bf16 and file 2 x and int8 1.5 x the yardstick, greedy ids
 * above a margin of 0.05 and 0.15; of `cases` ref the top logits within 2e-3, greedy above 0.01;
 * against our own reference nmse <= 0.05, which only what is broken exceeds. 0 where all was run,
 * whatever was found; else a negative errno. */
int tsr_verify_logits(struct tsr_verify *v, const struct tsr_golden *golden,
                      enum tsr_weights weights, struct tsr_err *err);

/* The logits of the reference path for golden (kind TSR_GOLDEN_SELF) with its vocab, its prompts'
 * ids and logit_rows: fills in the rest. free(*logits) after golden's last use. Errors of
 * tsr_exec_create(). */
int tsr_verify_reference(struct tsr_verify *v, struct tsr_golden *golden, float **logits,
                         struct tsr_err *err);

/* The texts of golden: their ids, with and without BOS, decoded again, and chats rendered. */
void tsr_verify_texts(struct tsr_verify *v, const struct tsr_golden *golden,
                      const struct tsr_language *language);

#endif
