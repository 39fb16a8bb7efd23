#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "pretok_priv.h"
#include "text_priv.h"

static struct tsr_pretok_stage *add_stage(struct tsr_pretok *pretok, enum tsr_pretok_kind kind,
                                          struct tsr_err *err)
{
    if (pretok->n_stages == TSR_PRETOK_STAGES_MAX) {
        tsr_err_set(err, -ENOTSUP, "more than %d pre-tokenizers in sequence",
                    TSR_PRETOK_STAGES_MAX);
        return NULL;
    }
    struct tsr_pretok_stage *stage = &pretok->stages[pretok->n_stages++];
    *stage = (struct tsr_pretok_stage){.kind = kind};
    return stage;
}

int tsr_pretok_add_split(struct tsr_pretok *pretok, const char *pattern, size_t len, bool literal,
                         enum tsr_pretok_behavior behavior, bool invert, struct tsr_err *err)
{
    struct tsr_pretok_stage *stage = add_stage(pretok, TSR_PRETOK_SPLIT, err);
    if (!stage)
        return -ENOTSUP;
    stage->behavior = behavior;
    stage->invert = invert;
    return tsr_regex_compile(&stage->regex, pattern, len, literal, err);
}

int tsr_pretok_add_prefix_space(struct tsr_pretok *pretok, struct tsr_err *err)
{
    return add_stage(pretok, TSR_PRETOK_PREFIX_SPACE, err) ? 0 : -ENOTSUP;
}

int tsr_pretok_add_metaspace(struct tsr_pretok *pretok, const char *space, size_t len, bool split,
                             enum tsr_prefix_scheme prefix, struct tsr_err *err)
{
    struct tsr_pretok_stage *stage = add_stage(pretok, TSR_PRETOK_METASPACE, err);
    if (!stage)
        return -ENOTSUP;
    if (len == 0 || len > TSR_METASPACE_MAX ||
        tsr_utf8_step((const uint8_t *)space, len) != (int)len)
        return tsr_err_set(err, -EINVAL, "Metaspace: the replacement is no single character");
    memcpy(stage->space, space, len);
    stage->space_len = (uint8_t)len;
    stage->split = split;
    stage->prefix = prefix;
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

/* first: the piece begins the whole text. */
static int run_stage(const struct run *run, unsigned i, const char *text, size_t len, bool first);

/* Joins the parts of one stage, matches and what lies between them, into its pieces. */
struct joiner {
    const struct run *run;
    unsigned next_stage;
    enum tsr_pretok_behavior behavior;
    const char *text;
    bool first;        /* text begins the whole text */
    size_t begin, end; /* the piece not yet passed on; empty where begin = end */
    bool last_match;   /* whether the last part was a match */
    bool any;
};

static int pass_on(struct joiner *j)
{
    size_t begin = j->begin, len = j->end - j->begin;
    j->begin = j->end;
    return len ? run_stage(j->run, j->next_stage, j->text + begin, len, j->first && begin == 0) : 0;
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

static int run_split(const struct run *run, unsigned i, const char *text, size_t len, bool first)
{
    const struct tsr_pretok_stage *stage = &run->pretok->stages[i];
    struct joiner j = {
        .run = run, .next_stage = i + 1, .behavior = stage->behavior, .text = text, .first = first};
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

/* Room for the piece that a stage makes. */
static char *reserve(struct tsr_pretok_scratch *scratch, unsigned i, size_t len)
{
    if (scratch->prefixed_cap[i] < len) {
        size_t cap = 2 * len + 64;
        char *grown = realloc(scratch->prefixed[i], cap);
        if (!grown)
            return NULL;
        scratch->prefixed[i] = grown;
        scratch->prefixed_cap[i] = cap;
    }
    return scratch->prefixed[i];
}

static int run_prefix(const struct run *run, unsigned i, const char *text, size_t len, bool first)
{
    if (text[0] == ' ')
        return run_stage(run, i + 1, text, len, first);
    char *piece = reserve(run->scratch, i, len + 1);
    if (!piece)
        return -ENOMEM;
    piece[0] = ' ';
    memcpy(piece + 1, text, len);
    return run_stage(run, i + 1, piece, len + 1, first);
}

/* Writes text[len] with each space replaced; the length. */
static size_t put_spaces(const struct tsr_pretok_stage *stage, const char *text, size_t len,
                         char *out)
{
    size_t n = 0;
    for (size_t at = 0; at < len;) {
        const char *space = memchr(text + at, ' ', len - at);
        size_t word = space ? (size_t)(space - text) - at : len - at;
        memcpy(out + n, text + at, word);
        n += word;
        at += word;
        if (space) {
            memcpy(out + n, stage->space, stage->space_len);
            n += stage->space_len;
            at++;
        }
    }
    return n;
}

static int run_metaspace(const struct run *run, unsigned i, const char *text, size_t len,
                         bool first)
{
    const struct tsr_pretok_stage *stage = &run->pretok->stages[i];
    size_t space = stage->space_len;
    bool prefix =
        stage->prefix == TSR_PREFIX_ALWAYS || (stage->prefix == TSR_PREFIX_FIRST && first);
    bool has_one = text[0] == ' ' || (len >= space && memcmp(text, stage->space, space) == 0);
    char *piece = reserve(run->scratch, i, space * (len + 1));
    if (!piece)
        return -ENOMEM;
    size_t n = 0;
    if (prefix && !has_one) {
        memcpy(piece, stage->space, space);
        n = space;
    }
    n += put_spaces(stage, text, len, piece + n);
    if (!stage->split)
        return run_stage(run, i + 1, piece, n, first);
    for (size_t at = 0, end; at < n; at = end) {
        size_t own = n - at >= space && memcmp(piece + at, stage->space, space) == 0 ? space : 0;
        const char *next = tsr_text_find(piece + at + own, n - at - own, stage->space, space);
        end = next ? (size_t)(next - piece) : n;
        int rc = run_stage(run, i + 1, piece + at, end - at, first && at == 0);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int run_stage(const struct run *run, unsigned i, const char *text, size_t len, bool first)
{
    if (i == run->pretok->n_stages)
        return run->fn(run->ctx, text, len);
    switch (run->pretok->stages[i].kind) {
    case TSR_PRETOK_SPLIT:
        return run_split(run, i, text, len, first);
    case TSR_PRETOK_PREFIX_SPACE:
        return run_prefix(run, i, text, len, first);
    case TSR_PRETOK_METASPACE:
        return run_metaspace(run, i, text, len, first);
    }
    return 0;
}

int tsr_pretok_run(const struct tsr_pretok *pretok, struct tsr_pretok_scratch *scratch,
                   const char *text, size_t len, bool first, tsr_pretok_piece_fn *fn, void *ctx)
{
    struct run run = {.pretok = pretok, .scratch = scratch, .fn = fn, .ctx = ctx};
    return len ? run_stage(&run, 0, text, len, first) : 0;
}
