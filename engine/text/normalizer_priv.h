/* A tokenizer's normalizer: steps that change the text one after the other, before anything of it
 * becomes a token. */
#ifndef TSR_TEXT_NORMALIZER_PRIV_H
#define TSR_TEXT_NORMALIZER_PRIV_H

#include "added_priv.h"
#include "charsmap_priv.h"
#include "normalize_priv.h"
#include "regex_priv.h"

enum { TSR_NORMALIZER_STEPS_MAX = 16 };

enum tsr_normalizer_kind {
    TSR_STEP_FORM,          /* form */
    TSR_STEP_PREPEND,       /* text, before what is not empty */
    TSR_STEP_REPLACE,       /* pattern or regex by text */
    TSR_STEP_STRIP,         /* white space, left and right */
    TSR_STEP_STRIP_ACCENTS, /* combining marks */
    TSR_STEP_LOWERCASE,
    TSR_STEP_CHARSMAP,      /* map, as Hugging Face's "Precompiled" uses it */
    TSR_STEP_SENTENCEPIECE, /* map and white space, as SentencePiece does */
};

/* Where SentencePiece's dummy prefix goes. */
enum tsr_prefix_scheme {
    TSR_PREFIX_NEVER,
    TSR_PREFIX_FIRST,  /* before the stretch that begins the text */
    TSR_PREFIX_ALWAYS, /* before each stretch between special tokens */
};

struct tsr_normalizer_step {
    enum tsr_normalizer_kind kind;
    enum tsr_normal_form form;
    char *text; /* owned, as pattern is */
    size_t text_len;
    char *pattern; /* literal; NULL: regex */
    size_t pattern_len;
    struct tsr_regex regex;
    bool left, right;
    struct tsr_charsmap map;
    struct tsr_added user; /* pieces that SentencePiece leaves as they are */
    enum tsr_prefix_scheme prefix;
    bool remove_extra; /* white space at both ends, and of several spaces all but one */
    bool escape;       /* spaces become U+2581 */
    bool suffix;       /* the dummy prefix goes behind the text */
};

struct tsr_normalizer {
    unsigned n_steps;
    struct tsr_normalizer_step steps[TSR_NORMALIZER_STEPS_MAX];
};

struct tsr_normalizer_scratch {
    struct tsr_normalize_scratch text[2]; /* steps write into them by turns */
    bool cut;                             /* the last run took something away from the beginning */
    unsigned n_steps;
    struct tsr_regex_scratch regex[TSR_NORMALIZER_STEPS_MAX];
};

/* Appends a step of that kind, zeroed otherwise; NULL with a sentence: there are too many. */
struct tsr_normalizer_step *tsr_normalizer_add(struct tsr_normalizer *normalizer,
                                               enum tsr_normalizer_kind kind, struct tsr_err *err);

/* Copies a step's text. -ENOMEM. */
int tsr_normalizer_set_text(struct tsr_normalizer_step *step, const char *text, size_t len,
                            struct tsr_err *err);

/* What a TSR_STEP_REPLACE looks for: a literal, not empty, or a regular expression. */
int tsr_normalizer_set_pattern(struct tsr_normalizer_step *step, const char *pattern, size_t len,
                               bool literal, struct tsr_err *err);
void tsr_normalizer_fini(struct tsr_normalizer *normalizer);

int tsr_normalizer_scratch_init(struct tsr_normalizer_scratch *scratch,
                                const struct tsr_normalizer *normalizer);
void tsr_normalizer_scratch_fini(struct tsr_normalizer_scratch *scratch);

/* Frees what long texts made grow. */
void tsr_normalizer_scratch_trim(struct tsr_normalizer_scratch *scratch);

/* Runs all steps, of which there is one at least, on text[begin .. end), whose trust is `trust`
 * (offsets in text); *out is the result, in scratch. 0, -ENOTSUP (matching limit), -E2BIG, -ENOMEM.
 * Linear in the length but for regular expressions. */
int tsr_normalizer_run(const struct tsr_normalizer *normalizer,
                       struct tsr_normalizer_scratch *scratch, const char *text, size_t begin,
                       size_t end, struct tsr_trust *trust, struct tsr_normalize_scratch **out);

#endif
