/* The secret of tokens and stateless resets, kept in a file over restarts: then a door that has
 * been started again ends the connections of the one before at once, and knows its clients' tokens.
 */
#ifndef TSR_BYPASS_SECRET_H
#define TSR_BYPASS_SECRET_H

#include <stdint.h>

#include <tsr/http3/http3.h>
#include <tsr/shm/err.h>

/* Reads the file; where there is none it is made, for its owner alone. path NULL: a secret for this
 * run alone. -EPERM: others may read it; -EINVAL: it is no such file; -EIO; what open() gave. */
int tsr_bypass_secret_get(const char *path, uint8_t secret[TSR_HTTP3_SECRET_BYTES],
                          struct tsr_err *err);

#endif
