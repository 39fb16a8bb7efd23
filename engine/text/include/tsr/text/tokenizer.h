/* Text to token ids: byte-level BPE, SentencePiece's BPE and unigram models, as a GGUF's metadata,
 * a Hugging Face tokenizer.json or a SentencePiece tokenizer.model describe them.
 *
 * A tokenizer is immutable after loading and shared by all threads; each thread that encodes has
 * its own scratch. Everything that needs executable memory (PCRE2's compiled expressions) is made
 * at load time, so that encoding works under a seccomp filter that forbids new executable mappings.
 *
 * Other kinds (WordPiece, WordLevel) and parts that are not known are refused with -ENOTSUP.
 */
#ifndef TSR_TEXT_TOKENIZER_H
#define TSR_TEXT_TOKENIZER_H

#include <tsr/shm/err.h>
#include <tsr/text/vocab.h>

struct tsr_gguf;
struct tsr_tokenizer;
struct tsr_tokenizer_scratch;

enum {
    TSR_ENCODE_BYTES_MAX = 16 << 20, /* most bytes of text in one call */
};

/* Loads the tokenizer of a model: from gguf's metadata where gguf is not NULL (path then only names
 * the file in errors), else from the directory path (tokenizer.json, and only where there is none
 * tokenizer.model; tokenizer_config.json, special_tokens_map.json, added_tokens.json,
 * generation_config.json, config.json, chat_template.jinja and chat_template.json where present).
 * gguf may be closed afterwards. Errors: -ENOENT, -EINVAL (broken), -ENOTSUP (sound, but a kind
 * that is not supported), -ENOMEM; each a sentence that names file, key and numbers. */
int tsr_tokenizer_open(struct tsr_tokenizer **out, const char *path, const struct tsr_gguf *gguf,
                       struct tsr_err *err);

/* The same from the text of a tokenizer.json alone; name stands for it in errors. */
int tsr_tokenizer_parse(struct tsr_tokenizer **out, const char *name, const char *json, size_t len,
                        struct tsr_err *err);

/* The same from a tokenizer.model alone; the dummy prefix goes before each stretch between special
 * tokens. */
int tsr_tokenizer_parse_model(struct tsr_tokenizer **out, const char *name, const void *data,
                              size_t len, struct tsr_err *err);

void tsr_tokenizer_close(struct tsr_tokenizer *tokenizer);

/* Valid until tsr_tokenizer_close(). */
const struct tsr_vocab *tsr_tokenizer_vocab(const struct tsr_tokenizer *tokenizer);

/* The model's own chat template (Jinja source, NUL-terminated), NULL where its files have none.
 * Valid until tsr_tokenizer_close(). */
const char *tsr_tokenizer_chat_template(const struct tsr_tokenizer *tokenizer);

/* Takes the file's text in its place. -ENOENT, -EINVAL, ... with a sentence that names the file;
 * the old one stays then. */
int tsr_tokenizer_read_chat_template(struct tsr_tokenizer *tokenizer, const char *path,
                                     struct tsr_err *err);

/* One line for people: kind, vocabulary, pre-tokenizer, added tokens. Valid until
 * tsr_tokenizer_close(). */
const char *tsr_tokenizer_describe(const struct tsr_tokenizer *tokenizer);

/* The id of a token by its exact text (special or not), TSR_TOKEN_NONE where there is none. */
uint32_t tsr_tokenizer_find(const struct tsr_tokenizer *tokenizer, const char *text, size_t len);

/* A stretch of text. trusted: it came from us or from the template, so that special tokens written
 * in it are tokens; otherwise they are text like any other. A special token is recognised only
 * where all its bytes are trusted. Spans are encoded as the one text that they make together: a
 * border between spans is no border between tokens. */
struct tsr_text_span {
    const char *text;
    size_t len;
    bool trusted;
};

enum tsr_encode_flag {
    TSR_ENCODE_ENDS =
        1, /* adds BOS and EOS where the files say so (a rendered chat template has its own) */
};

/* text_bytes: what scratch is sized for at once; longer texts make it grow inside
 * tsr_tokenizer_encode(). 0 or -ENOMEM. A scratch belongs to one thread at a time and to this
 * tokenizer, and must be destroyed before it. */
int tsr_tokenizer_scratch_create(struct tsr_tokenizer_scratch **out,
                                 const struct tsr_tokenizer *tokenizer, size_t text_bytes,
                                 struct tsr_err *err);
void tsr_tokenizer_scratch_destroy(struct tsr_tokenizer_scratch *scratch);

/* Encodes spans (any bytes; what is not UTF-8 is kept byte by byte) into ids[ids_max]; *n_ids is
 * their number, at most the number of bytes after normalization plus two. Time is bounded by O(n
 * log n) in the bytes; memory is allocated only to grow scratch, in proportion to the bytes.
 * Errors: -E2BIG (more than TSR_ENCODE_BYTES_MAX bytes, or 256 MiB when normalized), -ENOBUFS
 * (ids_max is too small; *n_ids is what was written), -ENOTSUP (a regular expression of the model's
 * file exceeded its matching limit on this text), -ENOMEM. */
int tsr_tokenizer_encode(const struct tsr_tokenizer *tokenizer,
                         struct tsr_tokenizer_scratch *scratch, const struct tsr_text_span *spans,
                         size_t n_spans, unsigned flags, uint32_t *ids, size_t ids_max,
                         size_t *n_ids, struct tsr_err *err);

#endif
