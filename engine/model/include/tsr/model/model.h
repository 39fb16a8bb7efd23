/* A model file opened and checked: a GGUF file or a Hugging Face directory, and the program built
 * from it. */
#ifndef TSR_MODEL_MODEL_H
#define TSR_MODEL_MODEL_H

#include <tsr/model/program.h>
#include <tsr/shm/err.h>
#include <tsr/shm/wire.h>

struct tsr_gguf;

enum { TSR_MODEL_EOS_MAX = 16 };
#define TSR_MODEL_NO_TOKEN UINT32_MAX

/* How the files advise to sample: generation_config.json, or a GGUF's general.sampling.*. */
struct tsr_model_sampling {
    bool stated;               /* any of these; what is not stated is off */
    double temperature;        /* [1] */
    double top_p;              /* [1] */
    double min_p;              /* [0] */
    double repetition_penalty; /* [1] */
    uint32_t top_k;            /* [0] */
};

struct tsr_model {
    char *path;            /* as given */
    char name[128];        /* for people: general.name, or the last part of the path */
    struct tsr_gguf *gguf; /* the file's metadata (tokenizer, template), NULL for a directory */
    struct tsr_program program;
    uint64_t file_bytes; /* of all files */
    /* Tokens that end a text, each < program.vocab, ascending: eos_token_id of config.json and
     * generation_config.json; of a GGUF, its end-of-text, end-of-turn and end-of-message tokens. */
    uint32_t n_eos, eos[TSR_MODEL_EOS_MAX];
    uint32_t bos; /* TSR_MODEL_NO_TOKEN where the files name none */
    /* How embeddings are pooled, as a GGUF's {arch}.pooling_type or sentence-transformers'
     * modules.json and 1_Pooling/config.json state it; LAST where the files say nothing; NONE where
     * they state a way that is not supported: the sentence says which. */
    enum tsr_pooling pooling;
    char pooling_refusal[TSR_WIRE_SENTENCE_MAX];
    struct tsr_model_sampling sampling;
    void *priv; /* the readers' mappings */
};

/* Opens path (a .gguf file, or a directory with config.json), checks everything in it, builds its
 * program. The file stays mapped (read only) until tsr_model_close(); tensors' data may be read
 * until then. Errors: -ENOENT, -EINVAL (broken), -ENOTSUP (sound, but not supported), -ENOMEM; each
 * a sentence with file, tensor and numbers. */
int tsr_model_open(struct tsr_model *model, const char *path, struct tsr_err *err);

/* Gives the mapped tensors back to the page cache after they have been packed; metadata stays
 * readable. */
void tsr_model_drop_tensors(struct tsr_model *model);

void tsr_model_close(struct tsr_model *model);

#endif
