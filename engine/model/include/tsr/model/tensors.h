/* The tensors of a model's files by name, whichever format they came from.
 *
 * A reader adds tensors whose bytes it has checked to lie inside its file; the directory refuses
 * names that occur twice and answers lookups. A tensor of a type that this build cannot compute
 * with is kept, with its type's name, so that it can be listed; it is an error only where a builder
 * asks for it. */
#ifndef TSR_MODEL_TENSORS_H
#define TSR_MODEL_TENSORS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <tsr/model/program.h>
#include <tsr/shm/err.h>

enum {
    TSR_TENSOR_NAME_MAX = 255, /* bytes of a tensor's name */
    TSR_TENSORS_MAX = 1 << 20, /* tensors of a model */
};

struct tsr_tensor_entry {
    struct tsr_tensor tensor; /* dtype is TSR_DTYPE_COUNT where this build cannot compute with it */
    const char *type;         /* as the format spells it: "BF16", "Q5_K", "F8_E4M3" */
    uint64_t elements;        /* product of the dimensions */
    uint64_t file_off;        /* of the first byte in its file, for reports */
    bool used;                /* a builder has taken it */
};

struct tsr_tensors {
    size_t n, capacity;
    struct tsr_tensor_entry *entries; /* sorted by name once tsr_tensors_seal() has returned 0 */
    bool sealed;
};

/* Makes room for n more. -E2BIG above TSR_TENSORS_MAX in all, -ENOMEM. The caller has checked n
 * against the size of the file that states it. */
int tsr_tensors_reserve(struct tsr_tensors *tensors, size_t n, struct tsr_err *err);

/* Adds a copy of entry, whose tensor's name (at most TSR_TENSOR_NAME_MAX printable ASCII bytes,
 * `name_size` of them, not NUL-terminated) is copied too. -EINVAL, -ENOMEM. */
int tsr_tensors_add(struct tsr_tensors *tensors, const struct tsr_tensor_entry *entry,
                    const char *name, size_t name_size, struct tsr_err *err);

/* Refuses (-EINVAL) tensors from index `first` on, of one file, whose bytes in it overlap. -ENOMEM.
 */
int tsr_tensors_check_disjoint(const struct tsr_tensors *tensors, size_t first,
                               struct tsr_err *err);

/* Sorts the directory and refuses (-EINVAL) a name that occurs twice. Before it, nothing is found;
 * after it, nothing may be added. Pointers to entries stay valid from here on. */
int tsr_tensors_seal(struct tsr_tensors *tensors, struct tsr_err *err);

/* The tensor of that name, or NULL. */
struct tsr_tensor_entry *tsr_tensors_find(const struct tsr_tensors *tensors, const char *name);

void tsr_tensors_fini(struct tsr_tensors *tensors);

/* Elements of a tensor of these dimensions; false where the product does not fit into 63 bits or
 * n_dims is above 4. */
bool tsr_tensor_elements(const uint64_t *dims, uint32_t n_dims, uint64_t *elements);

#endif
