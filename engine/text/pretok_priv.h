/* Pre-tokenizing: cutting text into the pieces within which merges may happen. */
#ifndef TSR_TEXT_PRETOK_PRIV_H
#define TSR_TEXT_PRETOK_PRIV_H

#include "normalizer_priv.h"
#include "regex_priv.h"

enum { TSR_PRETOK_STAGES_MAX = 16 };

/* What becomes of the places that a stage's expression matches. */
enum tsr_pretok_behavior {
    TSR_PRETOK_ISOLATED,
    TSR_PRETOK_REMOVED,
    TSR_PRETOK_MERGED_WITH_PREVIOUS,
    TSR_PRETOK_MERGED_WITH_NEXT,
    TSR_PRETOK_CONTIGUOUS,
};

enum { TSR_METASPACE_MAX = 4 };

enum tsr_pretok_kind {
    TSR_PRETOK_SPLIT,        /* by regex, as behavior says */
    TSR_PRETOK_PREFIX_SPACE, /* puts a space before each piece that has none */
    TSR_PRETOK_METASPACE,    /* spaces become `space`, before which pieces are cut where split */
};

struct tsr_pretok_stage {
    enum tsr_pretok_kind kind;
    char space[TSR_METASPACE_MAX]; /* one character */
    uint8_t space_len;
    bool split;
    enum tsr_prefix_scheme prefix; /* whether `space` goes before a piece that has none */
    enum tsr_pretok_behavior behavior;
    bool invert; /* what does not match counts as the match */
    struct tsr_regex regex;
};

/* Stages run one after the other, each on every piece that the one before made, by itself. */
struct tsr_pretok {
    unsigned n_stages;
    struct tsr_pretok_stage stages[TSR_PRETOK_STAGES_MAX];
};

struct tsr_pretok_scratch {
    unsigned n_stages;
    struct tsr_regex_scratch regex[TSR_PRETOK_STAGES_MAX];
    char *prefixed[TSR_PRETOK_STAGES_MAX]; /* the piece that a stage other than a split makes */
    size_t prefixed_cap[TSR_PRETOK_STAGES_MAX];
};

int tsr_pretok_add_split(struct tsr_pretok *pretok, const char *pattern, size_t len, bool literal,
                         enum tsr_pretok_behavior behavior, bool invert, struct tsr_err *err);
int tsr_pretok_add_prefix_space(struct tsr_pretok *pretok, struct tsr_err *err);
int tsr_pretok_add_metaspace(struct tsr_pretok *pretok, const char *space, size_t len, bool split,
                             enum tsr_prefix_scheme prefix, struct tsr_err *err);
void tsr_pretok_fini(struct tsr_pretok *pretok);

/* GPT-2's expression, which ByteLevel pre-tokenizers use. */
extern const char tsr_pretok_gpt2[];

/* What goes with a pre-tokenizer that GGUF files name in tokenizer.ggml.pre. */
struct tsr_pretok_ggml {
    const char *name;
    const char *const *patterns; /* NULL-terminated, each isolates its matches */
    bool whole_first;            /* the family's tokenizer.json says ignore_merges */
    bool add_bos;                /* what holds where the file does not say */
};

/* NULL: unknown. */
const struct tsr_pretok_ggml *tsr_pretok_ggml_find(const char *name, size_t len);

int tsr_pretok_scratch_init(struct tsr_pretok_scratch *scratch, const struct tsr_pretok *pretok);
void tsr_pretok_scratch_fini(struct tsr_pretok_scratch *scratch);

/* Called for each piece, in order; a negative result ends the run and is its result. */
typedef int tsr_pretok_piece_fn(void *ctx, const char *text, size_t len);

/* Cuts text[len], valid UTF-8; first: it begins the whole text. 0, or what a callback returned, or
 * -ENOTSUP (matching limit), -ENOMEM. */
int tsr_pretok_run(const struct tsr_pretok *pretok, struct tsr_pretok_scratch *scratch,
                   const char *text, size_t len, bool first, tsr_pretok_piece_fn *fn, void *ctx);

#endif
