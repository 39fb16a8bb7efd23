#include "self_priv.h"

#include "report_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
    IDS_MAX = 64,    /* of a prompt */
    LOGITS_MAX = 16, /* its last positions, whose logits are held against the reference path */
};

/* In the normal forms NFC and NFKC, with single blanks: what no normalizer changes. */
static const char *const texts[] = {
    "The capital of France is Paris, a city of 2,102,650 people (2023) on the river Seine.",
    "for (int i = 0; i < 10; i++) { sum += values[i] * 3.5; } // it's done",
    "Ein Bär läuft über die Straße. Où est la bibliothèque? ¿Qué hora es?",
    "Привет, мир! Как дела? 今天天气怎么样? 日本語のテキスト",
};
enum { TEXTS = sizeof texts / sizeof *texts };

static const char chat[] = "{\"messages\":[{\"role\":\"user\",\"content\":\"Hello\"},"
                           "{\"role\":\"assistant\",\"content\":\"Hello. How can I help?\"},"
                           "{\"role\":\"user\",\"content\":\"Why is the sky blue?\"}],"
                           "\"add_generation_prompt\":true}";
static const char chat_last[] = "Why is the sky blue?";

void tsr_verify_no_language(struct tsr_verify *v, const struct tsr_err *why)
{
    tsr_verify_report(v, why->code == -ENOENT ? TSR_VERDICT_FIGURE : TSR_VERDICT_FAILS, "tokenizer",
                      "readable", "%s", why->text);
}

static bool has(const uint32_t *ids, size_t n, uint32_t id)
{
    for (size_t i = 0; i < n; i++) {
        if (ids[i] == id) {
            return true;
        }
    }
    return false;
}

/* Each text to ids and back; one that needs the unknown token cannot come back and counts for
 * nothing. */
static void check_texts(struct tsr_verify *v, const struct tsr_language *language)
{
    const struct tsr_vocab *vocab = tsr_tokenizer_vocab(language->tokenizer);
    uint32_t back = 0, tried = 0;
    struct tsr_err err = {0};
    for (size_t i = 0; i < TEXTS; i++) {
        const struct tsr_text_span span = {.text = texts[i], .len = strlen(texts[i])};
        uint32_t *ids = NULL;
        char *text = NULL;
        size_t n = 0, len = 0;
        int rc = tsr_language_encode(language, &span, 1, 0, &ids, &n, &err);
        rc = rc ? rc : tsr_language_decode(language, ids, n, true, &text, &len, &err);
        if (rc < 0 || vocab->unk == TSR_TOKEN_NONE || !has(ids, n, vocab->unk)) {
            tried++;
            back += rc == 0 && len == span.len && memcmp(text, span.text, len) == 0;
        }
        free(ids);
        free(text);
    }
    tsr_verify_report(v, back == tried ? TSR_VERDICT_HOLDS : TSR_VERDICT_FAILS, "tokenizer", "all",
                      "%u of %u texts come back%s%s", back, tried, err.code ? "; " : "", err.text);
}

static void check_template(struct tsr_verify *v, const struct tsr_language *language)
{
    struct tsr_prompt prompt;
    struct tsr_err err = {0};
    int rc = tsr_language_render(language, NULL, 0, chat, sizeof chat - 1, 0, 0, &prompt, &err);
    bool whole =
        rc == 0 && memmem(prompt.output.text, prompt.output.len, chat_last, sizeof chat_last - 1);
    if (rc == 0) {
        tsr_verify_report(v, whole ? TSR_VERDICT_HOLDS : TSR_VERDICT_FAILS, "template", "renders",
                          "a chat of 3 messages is %zu bytes", prompt.output.len);
    } else {
        tsr_verify_report(v, rc == -ENOENT ? TSR_VERDICT_FIGURE : TSR_VERDICT_FAILS, "template",
                          "renders", "%s", err.text);
    }
    tsr_prompt_fini(&prompt);
}

static uint32_t positions(const struct tsr_model *model)
{
    return model->program.context < IDS_MAX ? model->program.context : IDS_MAX;
}

/* Ids spread over the vocabulary, for a model without a tokenizer. */
static void spread(struct tsr_golden_prompt *p, uint32_t i, uint32_t vocab, uint32_t most)
{
    uint32_t state = 2463534242u + i;
    p->n = i ? most : 1 + most / 2;
    for (uint32_t k = 0; k < p->n; k++) { /* xorshift32: Marsaglia, J. Stat. Software 8 (14) */
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        p->ids[k] = state % vocab;
    }
}

static int make_prompt(struct tsr_golden_prompt *p, uint32_t i, const struct tsr_model *model,
                       const struct tsr_language *language, struct tsr_err *err)
{
    uint32_t most = positions(model), *ids = NULL;
    size_t n = 0;
    p->ids = malloc(IDS_MAX * sizeof *p->ids);
    if (!p->ids) {
        return tsr_err_set(err, -ENOMEM, "no memory for %d ids", IDS_MAX);
    }
    if (language) {
        const struct tsr_text_span span = {.text = texts[i], .len = strlen(texts[i])};
        int rc = tsr_language_encode(language, &span, 1, TSR_ENCODE_ENDS, &ids, &n, err);
        if (rc < 0) {
            return rc;
        }
    }
    p->n = (uint32_t)(n < most ? n : most);
    for (uint32_t k = 0; k < p->n; k++) {
        p->ids[k] = ids[k];
    }
    free(ids);
    if (p->n == 0) {
        spread(p, i, model->program.vocab, most);
    }
    p->logit_rows = p->n < LOGITS_MAX ? p->n : LOGITS_MAX;
    for (uint32_t k = 0; k < p->n; k++) {
        if (p->ids[k] >= model->program.vocab) {
            return tsr_err_set(err, -EINVAL, "the tokenizer gives id %u, but the model has %u",
                               p->ids[k], model->program.vocab);
        }
    }
    return 0;
}

int tsr_verify_self(struct tsr_verify *v, const struct tsr_language *language,
                    const struct tsr_err *no_language, enum tsr_weights weights,
                    struct tsr_err *err)
{
    struct tsr_golden_prompt prompts[TEXTS] = {0};
    struct tsr_golden golden = {.kind = TSR_GOLDEN_SELF,
                                .vocab = v->model->program.vocab,
                                .n_prompts = TEXTS,
                                .prompts = prompts};
    float *logits = NULL;
    int rc = 0;
    if (language) {
        check_texts(v, language);
        check_template(v, language);
    } else {
        tsr_verify_no_language(v, no_language);
    }
    for (uint32_t i = 0; rc == 0 && i < TEXTS; i++) {
        rc = make_prompt(&prompts[i], i, v->model, language, err);
    }
    rc = rc ? rc : tsr_verify_fits(v, &golden, TSR_WEIGHTS_REF, err);
    rc = rc ? rc : tsr_verify_fits(v, &golden, weights, err);
    rc = rc ? rc : tsr_verify_reference(v, &golden, &logits, err);
    rc = rc ? rc : tsr_verify_logits(v, &golden, weights, err);
    free(logits);
    for (uint32_t i = 0; i < TEXTS; i++) {
        free(prompts[i].ids);
    }
    return rc;
}
