/* A model held against itself, where there is no golden file. */
#ifndef TSR_TOOLS_SELF_PRIV_H
#define TSR_TOOLS_SELF_PRIV_H

#include <tsr/tools/language.h>
#include <tsr/tools/verify.h>

/* Says that texts cannot be checked, and why; no tokenizer files at all are no failure. */
void tsr_verify_no_language(struct tsr_verify *v, const struct tsr_err *why);

/* A few texts there and back, a chat rendered (language NULL: why not is in no_language), and
 * `weights` by every way in against the reference path. Errors as of tsr_verify_logits(). */
int tsr_verify_self(struct tsr_verify *v, const struct tsr_language *language,
                    const struct tsr_err *no_language, enum tsr_weights weights,
                    struct tsr_err *err);

#endif
