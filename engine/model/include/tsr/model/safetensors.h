/* Reader of one safetensors file (github.com/huggingface/safetensors, "Format"): 8 bytes of header
 * length, a JSON header, the tensors' bytes. Checked at open: the header's length, depth and number
 * of values; per tensor, that shape times type is end - begin, that its bytes lie in the file, and
 * that no two tensors overlap. */
#ifndef TSR_MODEL_SAFETENSORS_H
#define TSR_MODEL_SAFETENSORS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <tsr/model/tensors.h>
#include <tsr/shm/err.h>

enum { TSR_SAFETENSORS_HEADER_MAX = 100000000 }; /* bytes; the format's own limit */

struct tsr_safetensors;

/* Maps the file and adds its tensors to `tensors`, which the caller seals after the last file.
 * Names in
 * "__metadata__" are not read. -ENOENT and other errors of open(); -EINVAL (broken), -ENOMEM. */
int tsr_safetensors_open(struct tsr_safetensors **file, const char *path,
                         struct tsr_tensors *tensors, struct tsr_err *err);

/* The same for bytes in memory, which stay the caller's and must outlive the result. */
int tsr_safetensors_parse(struct tsr_safetensors **file, const void *data, size_t size,
                          struct tsr_tensors *tensors, struct tsr_err *err);

void tsr_safetensors_close(struct tsr_safetensors *file); /* NULL is allowed */

uint64_t tsr_safetensors_bytes(const struct tsr_safetensors *file); /* size of the file */

/* Whether a tensor's data lies in this file's bytes. */
bool tsr_safetensors_holds(const struct tsr_safetensors *file, const struct tsr_tensor *tensor);

/* Tells the system that the file's pages are not needed for now; they read back from the file when
 * touched. */
void tsr_safetensors_drop(struct tsr_safetensors *file);

#endif
