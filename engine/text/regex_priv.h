/* Regular expressions of tokenizer files: Oniguruma's syntax, as Hugging Face's tokenizers use it,
 * run by PCRE2.
 *
 * Compiled (with the JIT where the system allows it) at load time only: after a seccomp filter
 * forbids executable mappings, matching still works. Texts must be valid UTF-8: nothing checks them
 * again. */
#ifndef TSR_TEXT_REGEX_PRIV_H
#define TSR_TEXT_REGEX_PRIV_H

#include <stdbool.h>
#include <stddef.h>

#include <tsr/shm/err.h>

struct tsr_regex {
    void *code; /* pcre2_code */
    bool jit;
    bool jit_failed; /* the machine forbids executable memory: matching is interpreted */
};

/* What one thread needs to match: one for each expression that may be in use at once. */
struct tsr_regex_scratch {
    void *match_data, *context, *jit_stack;
};

/* -EINVAL: the expression is broken; -ENOTSUP: a construct that PCRE2 would read differently; each
 * with the place. literal: pattern is plain text. */
int tsr_regex_compile(struct tsr_regex *regex, const char *pattern, size_t len, bool literal,
                      struct tsr_err *err);
void tsr_regex_fini(struct tsr_regex *regex);

int tsr_regex_scratch_init(struct tsr_regex_scratch *scratch);
void tsr_regex_scratch_fini(struct tsr_regex_scratch *scratch);

/* The first match in text[len] that begins at or after from. 1: found, [*begin, *end); 0: none;
 * -ENOTSUP: the matching limit was exceeded; -ENOMEM. */
int tsr_regex_find(const struct tsr_regex *regex, struct tsr_regex_scratch *scratch,
                   const char *text, size_t len, size_t from, size_t *begin, size_t *end);

#endif
