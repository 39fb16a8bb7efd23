#include <tsr/tools/language.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <tsr/model/gguf.h>
#include <tsr/text/detok.h>

int tsr_language_open(struct tsr_language *language, const char *path, struct tsr_err *err)
{
    struct stat st;
    *language = (struct tsr_language){0};
    if (stat(path, &st) < 0) {
        return tsr_err_set(err, -errno, "%s: cannot be opened: %s", path, strerror(errno));
    }
    int rc = S_ISDIR(st.st_mode) ? 0 : tsr_gguf_open(&language->gguf, path, err);
    if (rc == 0 && language->gguf && !tsr_gguf_has(language->gguf, "tokenizer.ggml.model")) {
        rc = tsr_err_set(err, -ENOENT, "%s: carries no tokenizer", path);
    }
    rc = rc ? rc : tsr_tokenizer_open(&language->tokenizer, path, language->gguf, err);
    if (rc < 0) {
        tsr_language_close(language);
        return rc;
    }
    const struct tsr_vocab *vocab = tsr_tokenizer_vocab(language->tokenizer);
    language->bos = tsr_vocab_text_copy(vocab, vocab->bos);
    language->eos = tsr_vocab_text_copy(vocab, vocab->eos);
    return 0;
}

void tsr_language_close(struct tsr_language *language)
{
    if (language->tokenizer) {
        tsr_tokenizer_close(language->tokenizer);
    }
    tsr_gguf_close(language->gguf);
    free(language->bos);
    free(language->eos);
    *language = (struct tsr_language){0};
}

int tsr_language_encode(const struct tsr_language *language, const struct tsr_text_span *spans,
                        size_t n_spans, unsigned flags, uint32_t **ids, size_t *n,
                        struct tsr_err *err)
{
    struct tsr_tokenizer_scratch *scratch = NULL;
    size_t bytes = 0, max = 0;
    for (size_t i = 0; i < n_spans; i++) {
        bytes += spans[i].len;
    }
    *ids = NULL;
    int rc = tsr_tokenizer_scratch_create(&scratch, language->tokenizer, bytes, err);
    if (rc < 0) {
        return rc;
    }
    /* An id a byte and the ends are nearly always enough; a normalizer may make a text longer. */
    rc = -ENOBUFS;
    for (max = bytes + 16; rc == -ENOBUFS && max < 64 * (bytes + 16); max *= 4) {
        free(*ids);
        *ids = malloc(max * sizeof **ids);
        rc = *ids ? tsr_tokenizer_encode(language->tokenizer, scratch, spans, n_spans, flags, *ids,
                                         max, n, err)
                  : tsr_err_set(err, -ENOMEM, "no memory for %zu ids", max);
    }
    tsr_tokenizer_scratch_destroy(scratch);
    if (rc < 0) {
        free(*ids);
        *ids = NULL;
    }
    return rc;
}

/* Bytes that the ids can become at most; 0 and *bad where one is not of the vocabulary. */
static size_t room(const struct tsr_vocab *vocab, const uint32_t *ids, size_t n, size_t *bad)
{
    size_t bytes = tsr_detok_out_max(vocab);
    for (size_t i = 0; i < n; i++) {
        size_t len = 0;
        if (!tsr_vocab_text(vocab, ids[i], &len)) {
            *bad = i;
            return 0;
        }
        bytes += 3 * len; /* a byte may become U+FFFD */
    }
    return bytes;
}

int tsr_language_decode(const struct tsr_language *language, const uint32_t *ids, size_t n,
                        bool exact, char **text, size_t *len, struct tsr_err *err)
{
    const struct tsr_vocab *vocab = tsr_tokenizer_vocab(language->tokenizer);
    struct tsr_detok detok;
    size_t bad = 0, at = 0, bytes = room(vocab, ids, n, &bad);
    if (bytes == 0) {
        return tsr_err_set(err, -EINVAL, "id %zu is %u, but the vocabulary has %u tokens", bad,
                           ids[bad], vocab->n_tokens);
    }
    *text = malloc(bytes);
    if (!*text) {
        return tsr_err_set(err, -ENOMEM, "no memory for a text of up to %zu bytes", bytes);
    }
    tsr_detok_init(&detok, vocab, false);
    detok.exact = exact;
    for (size_t i = 0; i < n; i++) {
        at += tsr_detok_push(&detok, ids[i], *text + at);
    }
    *len = at + tsr_detok_flush(&detok, *text + at);
    return 0;
}

int tsr_language_render(const struct tsr_language *language, const char *source, size_t source_len,
                        const char *json, size_t json_len, int64_t now_s, int32_t utc_offset_s,
                        struct tsr_prompt *prompt, struct tsr_err *err)
{
    const struct tsr_template_input input = {
        .bos_token = language->bos,
        .eos_token = language->eos,
        .json = json,
        .json_len = json_len,
        .now_s = now_s,
        .utc_offset_s = utc_offset_s,
    };
    struct tsr_template_limits limits;
    *prompt = (struct tsr_prompt){0};
    if (!source) {
        source = tsr_tokenizer_chat_template(language->tokenizer);
        source_len = source ? strlen(source) : 0;
    }
    if (!source) {
        return tsr_err_set(err, -ENOENT, "the model's files hold no chat template");
    }
    tsr_template_limits_init(&limits);
    int rc = tsr_template_parse(&prompt->tmpl, source, source_len, err);
    rc = rc ? rc : tsr_template_scratch_create(&prompt->scratch, &limits, err);
    return rc ? rc
              : tsr_template_render(prompt->tmpl, prompt->scratch, &input, &prompt->output, err);
}

void tsr_prompt_fini(struct tsr_prompt *prompt)
{
    tsr_template_destroy(prompt->tmpl);
    tsr_template_scratch_destroy(prompt->scratch);
    *prompt = (struct tsr_prompt){0};
}
