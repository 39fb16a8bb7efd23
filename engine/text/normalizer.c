#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <utf8proc.h>

#include "normalizer_priv.h"
#include "text_priv.h"

#define SPACE "\xE2\x96\x81" /* U+2581 */

struct tsr_normalizer_step *tsr_normalizer_add(struct tsr_normalizer *normalizer,
                                               enum tsr_normalizer_kind kind, struct tsr_err *err)
{
    if (normalizer->n_steps == TSR_NORMALIZER_STEPS_MAX) {
        tsr_err_set(err, -ENOTSUP, "more than %d normalizers in sequence",
                    TSR_NORMALIZER_STEPS_MAX);
        return NULL;
    }
    struct tsr_normalizer_step *step = &normalizer->steps[normalizer->n_steps++];
    *step = (struct tsr_normalizer_step){.kind = kind};
    return step;
}

static int copy_text(char **out, size_t *out_len, const char *text, size_t len, struct tsr_err *err)
{
    *out = malloc(len + 1);
    if (!*out)
        return tsr_err_set(err, -ENOMEM, "no memory for a normalizer's text of %zu bytes", len);
    memcpy(*out, text, len);
    *out_len = len;
    return 0;
}

int tsr_normalizer_set_text(struct tsr_normalizer_step *step, const char *text, size_t len,
                            struct tsr_err *err)
{
    return copy_text(&step->text, &step->text_len, text, len, err);
}

int tsr_normalizer_set_pattern(struct tsr_normalizer_step *step, const char *pattern, size_t len,
                               bool literal, struct tsr_err *err)
{
    if (!literal)
        return tsr_regex_compile(&step->regex, pattern, len, false, err);
    if (len == 0)
        return tsr_err_set(err, -ENOTSUP, "a normalizer that replaces the empty text");
    return copy_text(&step->pattern, &step->pattern_len, pattern, len, err);
}

void tsr_normalizer_fini(struct tsr_normalizer *normalizer)
{
    for (unsigned i = 0; i < normalizer->n_steps; i++) {
        struct tsr_normalizer_step *step = &normalizer->steps[i];
        free(step->text);
        free(step->pattern);
        tsr_regex_fini(&step->regex);
        tsr_charsmap_fini(&step->map);
        tsr_added_fini(&step->user);
    }
    normalizer->n_steps = 0;
}

int tsr_normalizer_scratch_init(struct tsr_normalizer_scratch *scratch,
                                const struct tsr_normalizer *normalizer)
{
    *scratch = (struct tsr_normalizer_scratch){.n_steps = normalizer->n_steps};
    for (unsigned i = 0; i < normalizer->n_steps; i++) {
        if (!normalizer->steps[i].regex.code)
            continue;
        int rc = tsr_regex_scratch_init(&scratch->regex[i]);
        if (rc < 0) {
            tsr_normalizer_scratch_fini(scratch);
            return rc;
        }
    }
    return 0;
}

void tsr_normalizer_scratch_trim(struct tsr_normalizer_scratch *scratch)
{
    tsr_normalize_scratch_fini(&scratch->text[0]);
    tsr_normalize_scratch_fini(&scratch->text[1]);
}

void tsr_normalizer_scratch_fini(struct tsr_normalizer_scratch *scratch)
{
    tsr_normalizer_scratch_trim(scratch);
    for (unsigned i = 0; i < scratch->n_steps; i++)
        if (scratch->regex[i].match_data)
            tsr_regex_scratch_fini(&scratch->regex[i]);
    *scratch = (struct tsr_normalizer_scratch){0};
}

/* A text that a step changes, and where its result goes. */
struct job {
    const struct tsr_normalizer_step *step;
    struct tsr_normalize_scratch *out;
    struct tsr_regex_scratch *regex;
    const char *text;
    size_t begin, end;
    struct tsr_trust *trust;
    bool *cut; /* set where something is taken away from the beginning */
};

static int copy(const struct job *job, size_t begin, size_t end)
{
    return tsr_normalize_copy(job->out, job->text, begin, end, job->trust);
}

/* Puts bytes in the place of text[begin, end), as trusted as that is. */
static int replace(const struct job *job, size_t begin, size_t end, const char *bytes, size_t len)
{
    *job->cut |= job->out->len == 0 && len == 0 && begin < end;
    return tsr_normalize_put(job->out, bytes, len, tsr_trust_over(job->trust, begin, end));
}

static int prepend(const struct job *job)
{
    if (job->begin == job->end)
        return 0;
    int rc = tsr_normalize_put(job->out, job->step->text, job->step->text_len, true);
    return rc < 0 ? rc : copy(job, job->begin, job->end);
}

static int replace_literal(const struct job *job)
{
    const struct tsr_normalizer_step *step = job->step;
    size_t at = job->begin, n = step->pattern_len;
    for (const char *found; at < job->end; at = (size_t)(found - job->text) + n) {
        const char *text = job->text + at;
        found = n <= 4 ? tsr_text_find(text, job->end - at, step->pattern, n)
                       : memmem(text, job->end - at, step->pattern, n);
        if (!found)
            break;
        size_t begin = (size_t)(found - job->text);
        int rc = copy(job, at, begin);
        if (rc == 0)
            rc = replace(job, begin, begin + n, step->text, step->text_len);
        if (rc < 0)
            return rc;
    }
    return copy(job, at, job->end);
}

/* Within [begin, end), which is valid UTF-8. */
static int replace_matches(const struct job *job, size_t begin, size_t end)
{
    const char *text = job->text + begin;
    size_t len = end - begin, at = 0, from = 0;
    while (from <= len) {
        size_t first, last;
        int rc = tsr_regex_find(&job->step->regex, job->regex, text, len, from, &first, &last);
        if (rc < 0)
            return rc;
        if (rc == 0)
            break;
        rc = copy(job, begin + at, begin + first);
        if (rc == 0)
            rc = replace(job, begin + first, begin + last, job->step->text, job->step->text_len);
        if (rc < 0)
            return rc;
        at = from = last;
        if (first == last) { /* go on behind the next character */
            do
                from++;
            while (from < len && ((unsigned char)text[from] & 0xC0) == 0x80);
        }
    }
    return copy(job, begin + at, end);
}

static int replace_regex(const struct job *job)
{
    const uint8_t *p = (const uint8_t *)job->text;
    for (size_t at = job->begin; at < job->end;) {
        size_t valid = at + tsr_utf8_valid(p + at, job->end - at), bad = valid;
        int rc = valid > at ? replace_matches(job, at, valid) : 0;
        while (bad < job->end && tsr_utf8_step(p + bad, job->end - bad) <= 0)
            bad++;
        if (rc == 0)
            rc = copy(job, valid, bad);
        if (rc < 0)
            return rc;
        at = bad;
    }
    return 0;
}

static int strip(const struct job *job)
{
    size_t begin = job->begin, end = job->end;
    unsigned width;
    while (job->step->left && begin < end &&
           tsr_text_is_white_space(tsr_text_char(job->text + begin, end - begin, &width)))
        begin += width;
    replace(job, job->begin, begin, "", 0);
    while (job->step->right && begin < end &&
           tsr_text_is_white_space(tsr_text_char_before(job->text + begin, end - begin, &width)))
        end -= width;
    return copy(job, begin, end);
}

/* Each character by itself: left out where it is a mark, or in lower case. */
static int each_char(const struct job *job)
{
    bool lower = job->step->kind == TSR_STEP_LOWERCASE;
    for (size_t at = job->begin; at < job->end;) {
        unsigned width;
        uint32_t c = tsr_text_char(job->text + at, job->end - at, &width), codes[3];
        char bytes[3 * 4];
        unsigned n = lower ? tsr_text_lower(c, codes) : 0, len = 0;
        for (unsigned i = 0; i < n; i++)
            len += tsr_text_put(codes[i], bytes + len);
        int rc = lower || tsr_text_is_mark(c) ? replace(job, at, at + width, bytes, len)
                                              : copy(job, at, at + width);
        if (rc < 0)
            return rc;
        at += width;
    }
    return 0;
}

/* The end of the grapheme cluster that begins at `at`. */
static size_t grapheme_end(const struct job *job, size_t at)
{
    utf8proc_int32_t state = 0;
    unsigned width;
    uint32_t c = tsr_text_char(job->text + at, job->end - at, &width);
    for (at += width; at < job->end && c < 0x110000u; at += width) {
        uint32_t next = tsr_text_char(job->text + at, job->end - at, &width);
        if (next >= 0x110000u ||
            utf8proc_grapheme_break_stateful((utf8proc_int32_t)c, (utf8proc_int32_t)next, &state))
            break;
        c = next;
    }
    return at;
}

/* The `tokenizers` library replaces a cluster of up to five bytes by what the shortest sequence at
 * its beginning becomes, else its characters likewise. */
static int charsmap(const struct job *job)
{
    enum { CLUSTER_MAX = 6 };
    for (size_t at = job->begin; at < job->end;) {
        size_t end = grapheme_end(job, at);
        const char *with;
        if (end - at < CLUSTER_MAX &&
            tsr_charsmap_find(&job->step->map, job->text + at, end - at, true, &with)) {
            int rc = replace(job, at, end, with, strlen(with));
            if (rc < 0)
                return rc;
            at = end;
        }
        while (at < end) {
            unsigned width;
            tsr_text_char(job->text + at, end - at, &width);
            bool found = tsr_charsmap_find(&job->step->map, job->text + at, width, true, &with);
            int rc = found ? replace(job, at, at + width, with, strlen(with))
                           : copy(job, at, at + width);
            if (rc < 0)
                return rc;
            at += width;
        }
    }
    return 0;
}

/* What SentencePiece makes of the beginning of text[at, end): bytes of the text or of the map. */
struct piece {
    const char *text;
    size_t len;
    size_t taken;
};

static struct piece next_piece(const struct job *job, size_t at)
{
    const char *text = job->text + at, *with;
    size_t len = job->end - at, n = tsr_added_prefix(&job->step->user, text, len);
    if (n)
        return (struct piece){text, n, n};
    n = tsr_charsmap_find(&job->step->map, text, len, false, &with);
    if (n)
        return (struct piece){with, strlen(with), n};
    unsigned width;
    tsr_text_char(text, len, &width);
    return (struct piece){text, width, width};
}

/* Appends a piece with its spaces escaped. */
static int put_piece(const struct job *job, const struct piece *piece, size_t at)
{
    bool trusted = tsr_trust_over(job->trust, at, at + piece->taken);
    for (size_t i = 0; i < piece->len;) {
        size_t n = 0;
        while (i + n < piece->len && !(job->step->escape && piece->text[i + n] == ' '))
            n++;
        int rc = tsr_normalize_put(job->out, piece->text + i, n, trusted);
        i += n;
        if (rc == 0 && i < piece->len) {
            rc = tsr_normalize_put(job->out, SPACE, 3, trusted);
            i++;
        }
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int put_space(const struct job *job)
{
    return tsr_normalize_put(job->out, job->step->escape ? SPACE : " ", job->step->escape ? 3 : 1,
                             true);
}

static void cut_spaces(const struct job *job)
{
    const char *space = job->step->escape ? SPACE : " ";
    size_t n = strlen(space), len = job->out->len;
    while (len >= n && memcmp(job->out->text + len - n, space, n) == 0)
        len -= n;
    job->out->len = len;
    tsr_trust_cut(&job->out->trust, len);
}

/* Normalizer::Normalize() of SentencePiece. */
static int sentencepiece(const struct job *job)
{
    const struct tsr_normalizer_step *step = job->step;
    bool dummy =
        step->prefix == TSR_PREFIX_ALWAYS || (step->prefix == TSR_PREFIX_FIRST && job->begin == 0);
    size_t at = job->begin;
    while (step->remove_extra && at < job->end) {
        struct piece piece = next_piece(job, at);
        if (piece.len != 1 || piece.text[0] != ' ')
            break;
        at += piece.taken;
    }
    if (at == job->end)
        return 0;
    int rc = dummy && !step->suffix ? put_space(job) : 0;
    bool after_space = step->remove_extra;
    while (rc == 0 && at < job->end) {
        struct piece piece = next_piece(job, at);
        while (after_space && piece.len > 0 && piece.text[0] == ' ') {
            piece.text++;
            piece.len--;
        }
        if (piece.len > 0)
            after_space = step->remove_extra && piece.text[piece.len - 1] == ' ';
        rc = put_piece(job, &piece, at);
        at += piece.taken;
    }
    if (step->remove_extra)
        cut_spaces(job);
    return rc == 0 && dummy && step->suffix ? put_space(job) : rc;
}

/* Without a map, and where no space is taken away, SentencePiece only escapes spaces. */
static int escape_spaces(const struct job *job)
{
    const struct tsr_normalizer_step *step = job->step;
    bool dummy =
        step->prefix == TSR_PREFIX_ALWAYS || (step->prefix == TSR_PREFIX_FIRST && job->begin == 0);
    if (job->begin == job->end)
        return 0;
    int rc = dummy && !step->suffix ? put_space(job) : 0;
    for (size_t at = job->begin, end; rc == 0 && at < job->end; at = end) {
        const char *space = memchr(job->text + at, ' ', job->end - at);
        size_t word = space ? (size_t)(space - job->text) : job->end;
        end = word + (space != NULL);
        rc = copy(job, at, word);
        if (rc == 0 && space)
            rc = replace(job, word, end, SPACE, 3);
    }
    return rc == 0 && dummy && step->suffix ? put_space(job) : rc;
}

static int run_step(const struct job *job)
{
    const struct tsr_normalizer_step *step = job->step;
    switch (step->kind) {
    case TSR_STEP_FORM:
        return tsr_normalize(job->out, step->form, job->text, job->begin, job->end, job->trust);
    case TSR_STEP_PREPEND:
        return prepend(job);
    case TSR_STEP_REPLACE:
        return step->pattern ? replace_literal(job) : replace_regex(job);
    case TSR_STEP_STRIP:
        return strip(job);
    case TSR_STEP_STRIP_ACCENTS:
    case TSR_STEP_LOWERCASE:
        return each_char(job);
    case TSR_STEP_CHARSMAP:
        return charsmap(job);
    case TSR_STEP_SENTENCEPIECE:
        return step->escape && !step->remove_extra && step->map.n_units == 0 ? escape_spaces(job)
                                                                             : sentencepiece(job);
    }
    return 0;
}

int tsr_normalizer_run(const struct tsr_normalizer *normalizer,
                       struct tsr_normalizer_scratch *scratch, const char *text, size_t begin,
                       size_t end, struct tsr_trust *trust, struct tsr_normalize_scratch **out)
{
    scratch->cut = false;
    for (unsigned i = 0; i < normalizer->n_steps; i++) {
        *out = &scratch->text[i & 1];
        tsr_normalize_reset(*out);
        struct job job = {.step = &normalizer->steps[i],
                          .out = *out,
                          .regex = &scratch->regex[i],
                          .text = text,
                          .begin = begin,
                          .end = end,
                          .trust = trust,
                          .cut = &scratch->cut};
        int rc = run_step(&job);
        if (rc < 0)
            return rc;
        text = (*out)->text;
        begin = 0;
        end = (*out)->len;
        trust = &(*out)->trust;
    }
    return 0;
}
