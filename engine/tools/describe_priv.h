/* A model's files as facts: one JSON object, which is printed as it is or for people. */
#ifndef TSR_TOOLS_DESCRIBE_PRIV_H
#define TSR_TOOLS_DESCRIBE_PRIV_H

#include <stdbool.h>
#include <stdio.h>

#include <jansson.h>

#include <tsr/shm/err.h>

/* Fills facts (an empty object; left empty where nothing can be said):
 *
 *   path, name, format, file_bytes, architecture, shape {config.json's keys}, parameters, context,
 *   types [{type, tensors, elements, bytes}], tokenizer {description, tokens, bos, eos, ends,
 *   adds_bos, adds_eos} or null, template {bytes} or null, memory [{weights, weights_bytes,
 *   kv_bytes_per_position, kv_positions, kv_bytes, buffer_bytes, need_bytes, fits}],
 *   memory_available, tensors [{name, type, dims, bytes}] where asked for, runs, unsupported
 *   [sentences].
 *
 * 0: all is told; why the model cannot be run is among the unsupported. -EINVAL and other errors: a
 * file is broken, and facts hold what was found before that. */
int tsr_describe(json_t *facts, const char *path, bool with_tensors, struct tsr_err *err);

/* The same for people. */
void tsr_describe_print(FILE *out, const json_t *facts);

#endif
