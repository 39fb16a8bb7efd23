/* Chat templates: a bounded interpreter of the Jinja that published models use.
 *
 * A template is parsed once into an immutable tree, shared by all threads; each thread that renders
 * has its own scratch, which owns all memory that rendering uses. It behaves as Jinja2's sandbox
 * does under Hugging Face transformers: trim_blocks, lstrip_blocks, loop controls, raise_exception,
 * strftime_now, tojson, {% generation %}. What is not supported is an error that names line and
 * construct, never a wrong prompt. Parsing and rendering need up to 256 KiB of stack.
 *
 * Every character carries a mark: did it come from the request, or from the template? The spans of
 * the result say so, and tsr_tokenizer_encode() recognises special tokens only in what the template
 * wrote: a message that contains <|im_end|> does not end its turn. */
#ifndef TSR_TEXT_TEMPLATE_H
#define TSR_TEXT_TEMPLATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <tsr/shm/err.h>
#include <tsr/shm/wire.h>
#include <tsr/text/tokenizer.h>

enum {
    TSR_TEMPLATE_SOURCE_MAX = 1 << 20, /* longest template, in bytes */
};

struct tsr_template;
struct tsr_template_scratch;

/* Parses source (len bytes). -EINVAL, -ENOTSUP: a sentence with line and construct; -ENOMEM. */
int tsr_template_parse(struct tsr_template **out, const char *source, size_t len,
                       struct tsr_err *err);
void tsr_template_destroy(struct tsr_template *tmpl);

/* What a template can, as its source says. */
struct tsr_template_traits {
    bool tools;           /* it reads the variable `tools` */
    bool reasoning;       /* it writes or takes out <think> */
    enum tsr_tools calls; /* how it writes tool calls */
};

const struct tsr_template_traits *tsr_template_traits(const struct tsr_template *tmpl);

struct tsr_template_limits {
    size_t memory_bytes; /* of values; allocated with the scratch, touched as needed */
    size_t output_bytes; /* of the result */
    uint64_t steps;      /* expressions evaluated, iterations, and bytes handled by filters */
    uint32_t depth;      /* nesting of expressions, macros and values */
};

/* 64 MiB, 8 MiB, 50 million, 200. */
void tsr_template_limits_init(struct tsr_template_limits *limits);

int tsr_template_scratch_create(struct tsr_template_scratch **out,
                                const struct tsr_template_limits *limits, struct tsr_err *err);
void tsr_template_scratch_destroy(struct tsr_template_scratch *scratch);

struct tsr_template_message {
    const char *role;
    size_t role_len;
    const char *content;
    size_t content_len;
};

struct tsr_template_input {
    /* The simple way, NULL where json says it all: messages of role and content. Where they are
     * given, `tools` and `documents` are none, as in transformers. What json has of these names
     * wins. */
    const struct tsr_template_message *messages;
    size_t n_messages;
    bool add_generation_prompt;

    /* The model's own marks, trusted, NUL-terminated; NULL: undefined in the template, as in
     * transformers where a tokenizer has none. json's values win, and are trusted only where they
     * are the same text. */
    const char *bos_token;
    const char *eos_token;

    /* An object with any variables (messages, tools, documents, enable_thinking ...), handed to the
     * template as it is but for `continue_with` (wire.h, CHAT), UTF-8; an array stands for
     * messages; NULL: none. */
    const char *json;
    size_t json_len;

    int64_t now_s; /* seconds since 1970 that strftime_now() shows, UTC plus utc_offset_s */
    int32_t utc_offset_s;
};

struct tsr_template_output {
    const char *text; /* UTF-8, not NUL-terminated; lives in the scratch until its next use */
    size_t len;
    const struct tsr_text_span *spans; /* the text in order, neighbours differ in trust */
    size_t n_spans;
    bool in_reasoning; /* it ends with <think> and perhaps white space */
    bool continued;    /* it ends with the request's `continue_with` */
};

/* Renders. All strings of the request are untrusted, but for a message's role where it is one of
 * the known ones (system, user, assistant, tool, developer, function, ipython, model, observation):
 * templates build marks from those. Errors: -EINVAL: the template raised an exception (its own
 * words), failed as Jinja2 would, or the json is broken; -ENOTSUP: a construct that is not
 * supported; -E2BIG: a limit; each a sentence with the template's line. */
int tsr_template_render(const struct tsr_template *tmpl, struct tsr_template_scratch *scratch,
                        const struct tsr_template_input *input, struct tsr_template_output *out,
                        struct tsr_err *err);

#endif
