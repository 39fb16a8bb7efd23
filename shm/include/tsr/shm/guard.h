/* The SIGBUS guard: what keeps a failing page of a shared region from killing the process.
 *
 * A read of shared memory can raise SIGBUS although its size is sealed: the system has no page
 * left, or the page is poisoned. The guard's handler then replaces the whole region's mapping with
 * private zeroed memory and marks the region as failed; the interrupted instruction goes on and
 * reads zeros, which the readers' checks take for a silent or a lying peer. So the guard costs
 * nothing where no page fails, and needs no special copy function: indices, headers and payloads
 * are covered alike.
 *
 * A SIGBUS outside all guarded regions goes to the handler that was installed before. The handler
 * needs the system calls mmap and rt_sigreturn on every thread that reads regions. */
#ifndef TSR_SHM_GUARD_H
#define TSR_SHM_GUARD_H

#include <tsr/shm/err.h>

#include <stdbool.h>
#include <stddef.h>

enum { TSR_GUARD_REGIONS_MAX = 4096 };

/* Installs the handler for the whole process, once; later calls do nothing. Any thread. */
int tsr_guard_install(struct tsr_err *err);

/* Registers [base, base + bytes). Returns a slot, or -ENOSPC when TSR_GUARD_REGIONS_MAX are
 * registered. */
int tsr_guard_add(void *base, size_t bytes);

/* Forgets a slot; call before unmapping, when no thread reads the region any more. -1 is ignored.
 */
void tsr_guard_remove(int slot);

/* Whether a page of the slot's region failed since it was added. No system call. */
bool tsr_guard_failed(int slot);

#endif
