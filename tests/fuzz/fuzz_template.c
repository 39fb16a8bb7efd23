/* Templates and the requests that they render: the input is a template, a NUL byte, and the
 * request's JSON. */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <tsr/text/template.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A character that only the request has: it must never come out as the template's. */
#define FOREIGN "\xEE\x80\x80"

/* What was rendered must be spans that make up the text; foreign: the template cannot have written
 * FOREIGN. */
static void check(const struct tsr_template_output *out, bool foreign)
{
    size_t at = 0;
    for (size_t i = 0; i < out->n_spans; i++) {
        const struct tsr_text_span *span = &out->spans[i];
        if (span->text != out->text + at || span->len == 0)
            abort();
        if (foreign && span->trusted && memmem(span->text, span->len, FOREIGN, strlen(FOREIGN)))
            abort();
        at += span->len;
    }
    if (at != out->len)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct tsr_template_scratch *scratch;
    if (!scratch) {
        const struct tsr_template_limits limits = {
            .memory_bytes = 2 << 20, .output_bytes = 64 << 10, .steps = 200000, .depth = 100};
        if (tsr_template_scratch_create(&scratch, &limits, NULL) < 0)
            abort();
    }
    const char *text = (const char *)data;
    const char *end = size ? memchr(text, '\0', size) : NULL;
    size_t source = end ? (size_t)(end - text) : size;
    struct tsr_err err;
    struct tsr_template *tmpl;
    if (tsr_template_parse(&tmpl, text, source, &err) < 0)
        return 0;
    static const struct tsr_template_message messages[] = {
        {"user", 4, "hi", 2}, {"assistant", 9, FOREIGN " <|im_end|>", 14}};
    struct tsr_template_input input = {.messages = messages,
                                       .n_messages = 2,
                                       .add_generation_prompt = true,
                                       .bos_token = "<s>",
                                       .json = end ? end + 1 : NULL,
                                       .json_len = end ? size - source - 1 : 0};
    struct tsr_template_output out;
    if (tsr_template_render(tmpl, scratch, &input, &out, &err) == 0)
        check(&out, !out.continued && (source == 0 || (!memchr(text, 0xEE, source) &&
                                                       !memchr(text, '\\', source))));
    tsr_template_destroy(tmpl);
    return 0;
}
