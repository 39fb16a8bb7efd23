/* A model's configuration, whichever format it came from: the keys of config.json, answered from
 * that file or from a GGUF's metadata. One table in config.c says which metadata key stands for
 * which; a builder knows only the names below.
 *
 * Keys are config.json's, with a dot for a member of an object ("rope_scaling.factor"). The two
 * forms in which transformers writes rotary parameters (rope_theta and rope_scaling before version
 * 5, rope_parameters since) are read by the same names: "rope_theta" and "rope_scaling.*"; where
 * they stand by type of layer, "rope_scaling.full_attention.*". Where a file describes a model of
 * several kinds of input, its text_config is read first.
 *
 * A configuration remembers what it has been asked. What changes a model's results and has not been
 * asked for is refused at the end: tsr_config_check_read(). */
#ifndef TSR_MODEL_CONFIG_H
#define TSR_MODEL_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <tsr/model/gguf.h>
#include <tsr/shm/err.h>

struct tsr_config;

/* From a config.json's text (copied). -EINVAL where it is not JSON, not an object, or, with
 * is_model, states no model_type (generation_config.json does not); -E2BIG above the limits. */
int tsr_config_from_json(struct tsr_config **config, const char *text, size_t size, bool is_model,
                         struct tsr_err *err);

/* From a GGUF's metadata; gguf must outlive the result. -EINVAL where general.architecture is
 * missing. */
int tsr_config_from_gguf(struct tsr_config **config, const struct tsr_gguf *gguf,
                         struct tsr_err *err);

void tsr_config_close(struct tsr_config *config); /* NULL is allowed */

/* Whether rows of attn_q and attn_k may be permuted and tensors have llama.cpp's names. */
bool tsr_config_is_gguf(const struct tsr_config *config);

/* model_type, or general.architecture: "llama", "qwen2". */
const char *tsr_config_architecture(const struct tsr_config *config);

/* Whether the key is present and not null. */
bool tsr_config_has(const struct tsr_config *config, const char *key);

/* Whether the key is present and null: where an absent key has a default that is not "none". */
bool tsr_config_is_null(const struct tsr_config *config, const char *key);

/* The value of key. Where it is absent: `fallback`, if that is not NULL, else -EINVAL. A value of
 * another kind, or outside the stated range, is -EINVAL; the sentence names the key as the file
 * spells it, and the value. */
int tsr_config_u32(const struct tsr_config *config, const char *key, uint32_t min, uint32_t max,
                   const uint32_t *fallback, uint32_t *value, struct tsr_err *err);
/* Finite numbers only; min < value < max, both exclusive. */
int tsr_config_float(const struct tsr_config *config, const char *key, double min, double max,
                     const double *fallback, double *value, struct tsr_err *err);
int tsr_config_bool(const struct tsr_config *config, const char *key, const bool *fallback,
                    bool *value, struct tsr_err *err);
/* value: NUL-terminated, valid as long as config. */
int tsr_config_string(const struct tsr_config *config, const char *key, const char *fallback,
                      const char **value, struct tsr_err *err);

/* Exactly n numbers of a list in config.json, min < value < max. -EINVAL where there is no such
 * list. */
int tsr_config_floats(const struct tsr_config *config, const char *key, double min, double max,
                      float *values, uint32_t n, struct tsr_err *err);

/* A list with a value for each of n layers, below n_names: the number of a name (exactly n), or,
 * where names is NULL, a whole number (n of them or more); numbers and bools of a GGUF's array
 * count themselves. 1; 0 where the key is absent; -EINVAL, -ENOTSUP (another value). */
int tsr_config_choices(const struct tsr_config *config, const char *key, const char *const *names,
                       uint32_t n_names, uint8_t *values, uint32_t n, struct tsr_err *err);

/* -ENOTSUP, with its name, where the file states a key that nobody has asked for and that is known,
 * or in a GGUF likely, to change what a model computes. */
int tsr_config_check_read(const struct tsr_config *config, struct tsr_err *err);

/* What every decoder of the Llama family states, checked for sense. */
struct tsr_hparams {
    uint32_t hidden, layers, ffn, vocab, context;
    uint32_t heads, kv_heads, head_dim; /* kv_heads divides heads; head_dim is even */
    float eps;                          /* of the norms, > 0 */
};

/* Reads them. What h holds before stands for keys that a config.json leaves out (0: none does; then
 * kv_heads is heads and head_dim is hidden / heads). vocab is 0 where a GGUF does not state it: the
 * embedding's rows then say. -EINVAL with a sentence that names keys and numbers. */
int tsr_config_hparams(const struct tsr_config *config, struct tsr_hparams *h, struct tsr_err *err);

/* Token ids of a key that may be a number or a list of numbers ("eos_token_id"): their number, at
 * most max, written to ids; 0 where absent; -EINVAL where broken. */
int tsr_config_tokens(const struct tsr_config *config, const char *key, uint32_t *ids, int max,
                      struct tsr_err *err);

#endif
