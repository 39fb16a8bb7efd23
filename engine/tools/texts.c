/* The texts of a golden file through tokenizer, decoder and template. */
#include <tsr/tools/verify.h>

#include "report_priv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <utf8proc.h>

#include <tsr/tools/language.h>

struct tally {
    uint32_t checked, wrong, left_out;
    char where[160]; /* the first wrong one */
};

/* A GGUF carries no normalizer: a text that is not in NFC becomes other ids there than in the
 * model's own files, and neither is wrong. */
static bool is_left_out(const struct tsr_language *language, const struct tsr_golden_text *text)
{
    utf8proc_uint8_t *nfc = NULL;
    utf8proc_ssize_t n =
        utf8proc_map((const utf8proc_uint8_t *)text->text, (utf8proc_ssize_t)text->len, &nfc,
                     UTF8PROC_STABLE | UTF8PROC_COMPOSE);
    bool changed = n >= 0 && ((size_t)n != text->len || memcmp(nfc, text->text, text->len) != 0);
    free(nfc);
    return language->gguf && changed;
}

static void count(struct tally *t, bool same, uint32_t i, const char *what, const char *why)
{
    t->checked++;
    if (!same && t->wrong++ == 0) {
        snprintf(t->where, sizeof t->where, "; first: %s of text %u%s%s", what, i, *why ? ": " : "",
                 why);
    }
}

static void check_ids(struct tally *t, const struct tsr_language *language,
                      const struct tsr_golden_text *text, uint32_t i, const char *what,
                      unsigned flags, const struct tsr_golden_ids *want)
{
    const struct tsr_text_span span = {.text = text->text, .len = text->len, .trusted = true};
    struct tsr_err err = {0};
    uint32_t *ids;
    size_t n = 0;
    if (!want->ids) {
        return;
    }
    int rc = tsr_language_encode(language, &span, 1, flags, &ids, &n, &err);
    bool same = rc == 0 && n == want->n && (n == 0 || memcmp(ids, want->ids, n * sizeof *ids) == 0);
    if (same || !is_left_out(language, text)) {
        count(t, same, i, what, err.text);
    } else {
        t->left_out++;
    }
    free(ids);
}

static void check_decoded(struct tally *t, const struct tsr_language *language,
                          const struct tsr_golden_text *text, uint32_t i)
{
    struct tsr_err err = {0};
    char *got = NULL;
    size_t len = 0;
    if (!text->decoded || !text->ids.ids) {
        return;
    }
    int rc = tsr_language_decode(language, text->ids.ids, text->ids.n, false, &got, &len, &err);
    bool same = rc == 0 && len == text->decoded_len && memcmp(got, text->decoded, len) == 0;
    count(t, same, i, "decoded ids", err.text);
    free(got);
}

static void check_rendered(struct tally *t, const struct tsr_language *language,
                           const struct tsr_golden_text *text, uint32_t i)
{
    struct tsr_err err = {0};
    struct tsr_prompt prompt;
    char *json = NULL;
    if (asprintf(&json, "{\"messages\":%s,\"add_generation_prompt\":true}", text->messages) < 0) {
        json = NULL;
    }
    int rc =
        json ? tsr_language_render(language, NULL, 0, json, strlen(json), 0, 0, &prompt, &err) : -1;
    bool same = rc == 0 && prompt.output.len == text->len &&
                memcmp(prompt.output.text, text->text, text->len) == 0;
    count(t, same, i, "prompt", err.text);
    if (json) {
        tsr_prompt_fini(&prompt);
    }
    free(json);
}

static void report(struct tsr_verify *v, const char *what, const struct tally *t)
{
    if (t->checked + t->left_out == 0) {
        return;
    }
    char left_out[96] = "";
    if (t->left_out) {
        snprintf(left_out, sizeof left_out, ", %u not in NFC left out: a GGUF has no normalizer",
                 t->left_out);
    }
    tsr_verify_report(v, t->wrong ? TSR_VERDICT_FAILS : TSR_VERDICT_HOLDS, what, "all",
                      "%u of %u equal%s%s", t->checked - t->wrong, t->checked, left_out, t->where);
}

void tsr_verify_texts(struct tsr_verify *v, const struct tsr_golden *golden,
                      const struct tsr_language *language)
{
    struct tally ids = {0}, decoded = {0}, rendered = {0};
    for (uint32_t i = 0; i < golden->n_texts; i++) {
        const struct tsr_golden_text *text = &golden->texts[i];
        unsigned ends = text->messages ? 0 : TSR_ENCODE_ENDS; /* a template writes its own */
        check_ids(&ids, language, text, i, "ids", ends, &text->ids);
        check_ids(&ids, language, text, i, "ids_plain", 0, &text->plain);
        check_decoded(&decoded, language, text, i);
        if (text->messages) {
            check_rendered(&rendered, language, text, i);
        }
    }
    report(v, "tokenizer", &ids);
    report(v, "decoder", &decoded);
    report(v, "template", &rendered);
}
