/* Where else this door's service is: the value of the Alt-Svc header (RFC 7838). */
#ifndef TSR_URING_ALT_SVC_H
#define TSR_URING_ALT_SVC_H

#include <tsr/shm/err.h>

enum { TSR_ALT_SVC_BYTES = 256 };

/* text: the UDP port of HTTP/3 on this host, which is announced for a day; or the header's value as
 * it stands, `h3="other.example:443"; ma=3600` or `clear`. -EINVAL with a sentence. */
int tsr_alt_svc_read(const char *text, char value[TSR_ALT_SVC_BYTES], struct tsr_err *err);

#endif
