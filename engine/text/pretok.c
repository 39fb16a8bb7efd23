#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "pretok_priv.h"

int tsr_pretok_add_split(struct tsr_pretok *pretok, const char *pattern, size_t len, bool literal,
                         enum tsr_pretok_behavior behavior, bool invert, struct tsr_err *err)
{
    if (pretok->n_stages == TSR_PRETOK_STAGES_MAX)
        return tsr_err_set(err, -ENOTSUP, "more than %d pre-tokenizers in sequence",
                           TSR_PRETOK_STAGES_MAX);
    struct tsr_pretok_stage *stage = &pretok->stages[pretok->n_stages];
    *stage = (struct tsr_pretok_stage){.behavior = behavior, .invert = invert};
    int rc = tsr_regex_compile(&stage->regex, pattern, len, literal, err);
    if (rc < 0)
        return rc;
    pretok->n_stages++;
    return 0;
}

int tsr_pretok_add_prefix_space(struct tsr_pretok *pretok, struct tsr_err *err)
{
    if (pretok->n_stages == TSR_PRETOK_STAGES_MAX)
        return tsr_err_set(err, -ENOTSUP, "more than %d pre-tokenizers in sequence",
                           TSR_PRETOK_STAGES_MAX);
    pretok->stages[pretok->n_stages++] = (struct tsr_pretok_stage){.prefix_space = true};
    return 0;
}

void tsr_pretok_fini(struct tsr_pretok *pretok)
{
    for (unsigned i = 0; i < pretok->n_stages; i++)
        tsr_regex_fini(&pretok->stages[i].regex);
    pretok->n_stages = 0;
}

int tsr_pretok_scratch_init(struct tsr_pretok_scratch *scratch, const struct tsr_pretok *pretok)
{
    *scratch = (struct tsr_pretok_scratch){0};
    for (unsigned i = 0; i < pretok->n_stages; i++) {
        int rc = tsr_regex_scratch_init(&scratch->regex[i]);
        if (rc < 0) {
            tsr_pretok_scratch_fini(scratch);
            return rc;
        }
        scratch->n_stages++;
    }
    return 0;
}

void tsr_pretok_scratch_fini(struct tsr_pretok_scratch *scratch)
{
    for (unsigned i = 0; i < scratch->n_stages; i++) {
        tsr_regex_scratch_fini(&scratch->regex[i]);
        free(scratch->prefixed[i]);
    }
    *scratch = (struct tsr_pretok_scratch){0};
}

struct run {
    const struct tsr_pretok *pretok;
    struct tsr_pretok_scratch *scratch;
    tsr_pretok_piece_fn *fn;
    void *ctx;
};

static int run_stage(const struct run *run, unsigned i, const char *text, size_t len);

/* Joins the parts of one stage, matches and what lies between them, into its pieces. */
struct joiner {
    const struct run *run;
    unsigned next_stage;
    enum tsr_pretok_behavior behavior;
    const char *text;
    size_t begin, end; /* the piece not yet passed on; empty where begin = end */
    bool last_match;   /* whether the last part was a match */
    bool any;
};

static int pass_on(struct joiner *j)
{
    size_t begin = j->begin, len = j->end - j->begin;
    j->begin = j->end;
    return len ? run_stage(j->run, j->next_stage, j->text + begin, len) : 0;
}

static int join_part(struct joiner *j, size_t begin, size_t end, bool match)
{
    bool join = false;
    switch (j->behavior) {
    case TSR_PRETOK_ISOLATED:
        break;
    case TSR_PRETOK_REMOVED:
        if (match)
            return 0;
        break;
    case TSR_PRETOK_MERGED_WITH_PREVIOUS:
        join = match && j->any && !j->last_match;
        break;
    case TSR_PRETOK_MERGED_WITH_NEXT:
        join = !match && j->any && j->last_match;
        break;
    case TSR_PRETOK_CONTIGUOUS:
        join = j->any && match == j->last_match;
        break;
    }
    int rc = 0;
    if (!join) {
        rc = pass_on(j);
        j->begin = begin;
    }
    j->end = end;
    j->last_match = match;
    j->any = true;
    return rc;
}

static int run_split(const struct run *run, unsigned i, const char *text, size_t len)
{
    const struct tsr_pretok_stage *stage = &run->pretok->stages[i];
    struct joiner j = {.run = run, .next_stage = i + 1, .behavior = stage->behavior, .text = text};
    size_t at = 0, from = 0, last_end = SIZE_MAX;
    while (from <= len) {
        size_t begin, end;
        int rc =
            tsr_regex_find(&stage->regex, &run->scratch->regex[i], text, len, from, &begin, &end);
        if (rc < 0)
            return rc;
        if (rc == 0)
            break;
        if (begin == end && begin == last_end) { /* no empty match right behind a match */
            do
                from++;
            while (from < len && ((unsigned char)text[from] & 0xC0) == 0x80);
            continue;
        }
        if (begin > at && (rc = join_part(&j, at, begin, stage->invert)) < 0)
            return rc;
        if ((rc = join_part(&j, begin, end, !stage->invert)) < 0)
            return rc;
        at = from = last_end = end;
    }
    int rc = at < len ? join_part(&j, at, len, stage->invert) : 0;
    return rc < 0 ? rc : pass_on(&j);
}

static int run_prefix(const struct run *run, unsigned i, const char *text, size_t len)
{
    if (text[0] == ' ')
        return run_stage(run, i + 1, text, len);
    struct tsr_pretok_scratch *scratch = run->scratch;
    if (scratch->prefixed_cap[i] < len + 1) {
        size_t cap = 2 * len + 64;
        char *grown = realloc(scratch->prefixed[i], cap);
        if (!grown)
            return -ENOMEM;
        scratch->prefixed[i] = grown;
        scratch->prefixed_cap[i] = cap;
    }
    scratch->prefixed[i][0] = ' ';
    memcpy(scratch->prefixed[i] + 1, text, len);
    return run_stage(run, i + 1, scratch->prefixed[i], len + 1);
}

static int run_stage(const struct run *run, unsigned i, const char *text, size_t len)
{
    if (i == run->pretok->n_stages)
        return run->fn(run->ctx, text, len);
    return run->pretok->stages[i].prefix_space ? run_prefix(run, i, text, len)
                                               : run_split(run, i, text, len);
}

int tsr_pretok_run(const struct tsr_pretok *pretok, struct tsr_pretok_scratch *scratch,
                   const char *text, size_t len, tsr_pretok_piece_fn *fn, void *ctx)
{
    struct run run = {.pretok = pretok, .scratch = scratch, .fn = fn, .ctx = ctx};
    return len ? run_stage(&run, 0, text, len) : 0;
}
