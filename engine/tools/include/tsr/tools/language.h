/* The text side of a model's files: its tokenizer, its marks and its chat template. Works where
 * there are no weights: on a GGUF of metadata only, on a directory with only tokenizer files. */
#ifndef TSR_TOOLS_LANGUAGE_H
#define TSR_TOOLS_LANGUAGE_H

#include <tsr/text/template.h>
#include <tsr/text/tokenizer.h>

struct tsr_language {
    struct tsr_gguf *gguf; /* NULL for a directory */
    struct tsr_tokenizer *tokenizer;
    char *bos, *eos; /* texts of these tokens; NULL: none */
};

/* path: a GGUF file or a directory. -ENOENT where it holds no tokenizer; other errors of
 * tsr_gguf_open() and tsr_tokenizer_open(). */
int tsr_language_open(struct tsr_language *language, const char *path, struct tsr_err *err);
void tsr_language_close(struct tsr_language *language);

/* Text to ids [*n], to be freed. flags: enum tsr_encode_flag. Errors of tsr_tokenizer_encode(). */
int tsr_language_encode(const struct tsr_language *language, const struct tsr_text_span *spans,
                        size_t n_spans, unsigned flags, uint32_t **ids, size_t *n,
                        struct tsr_err *err);

/* The text of ids [*len], special tokens left out, to be freed. exact: bytes as they are, the way
 * back of an encoded text; else what cannot become UTF-8 is U+FFFD, as answers are shown. -EINVAL
 * where an id is not of the vocabulary; -ENOMEM. */
int tsr_language_decode(const struct tsr_language *language, const uint32_t *ids, size_t n,
                        bool exact, char **text, size_t *len, struct tsr_err *err);

/* A rendered prompt. */
struct tsr_prompt {
    struct tsr_template_output output;
    struct tsr_template *tmpl;
    struct tsr_template_scratch *scratch; /* owns output */
};

/* Renders json (an object, or an array of messages) by the template `source`, or by the model's own
 * where that is NULL. now_s, utc_offset_s: as of struct tsr_template_input. tsr_prompt_fini() it
 * whatever is returned. -ENOENT where the model has no template; errors of tsr_template_parse() and
 * tsr_template_render(). */
int tsr_language_render(const struct tsr_language *language, const char *source, size_t source_len,
                        const char *json, size_t json_len, int64_t now_s, int32_t utc_offset_s,
                        struct tsr_prompt *prompt, struct tsr_err *err);
void tsr_prompt_fini(struct tsr_prompt *prompt);

#endif
