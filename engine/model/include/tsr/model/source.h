/* A model's files, opened and checked one by one, before any architecture is asked of them: what a
 * program is built from, and all that is needed to describe a model that this build cannot run. */
#ifndef TSR_MODEL_SOURCE_H
#define TSR_MODEL_SOURCE_H

#include <tsr/model/config.h>
#include <tsr/model/gguf.h>
#include <tsr/model/safetensors.h>
#include <tsr/model/tensors.h>
#include <tsr/shm/err.h>
#include <tsr/shm/wire.h>

enum { TSR_SOURCE_FILES_MAX = 1024 }; /* safetensors files of a directory, parts of a GGUF */

struct tsr_source {
    struct tsr_config *config;     /* config.json, or the GGUF's metadata */
    struct tsr_config *generation; /* generation_config.json; NULL where there is none */
    struct tsr_gguf *gguf;         /* of several parts the first; NULL for a directory */
    struct tsr_tensors *tensors;   /* of all files, sealed */
    uint64_t file_bytes;           /* of the files that hold tensors */

    size_t n_files; /* the directory's safetensors files; 0 for a GGUF */
    struct tsr_safetensors **files;
    size_t n_parts; /* of a GGUF in several files, which then own source->gguf; else 0 */
    struct tsr_gguf **parts;
    struct tsr_tensors own; /* what `tensors` points to for a directory, and for several parts */

    enum tsr_pooling pooling; /* of embeddings; NONE: in a way that is not supported, and: */
    char pooling_refusal[TSR_WIRE_SENTENCE_MAX]; /* which */
};

/* Opens path: a GGUF file or any part of one (NAME-00001-of-00003.gguf), or a directory with
 * config.json and model.safetensors or model.safetensors.index.json and the files that it names.
 * -ENOENT, -EINVAL, -ENOTSUP, -ENOMEM, each with a sentence that begins with the file. */
int tsr_source_open(struct tsr_source *source, const char *path, struct tsr_err *err);

/* Builds the program of the architecture that the configuration names; zero *program first,
 * tsr_program_fini() it whatever is returned. It reads source's tensors until source is closed.
 * -EINVAL, -ENOTSUP, -ENOMEM. */
int tsr_source_build(const struct tsr_source *source, struct tsr_program *program,
                     struct tsr_err *err);

/* Drops the tensors' pages from the process; they are read again when touched. */
void tsr_source_drop(struct tsr_source *source);

void tsr_source_close(struct tsr_source *source);

#endif
