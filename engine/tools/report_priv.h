/* How verify's files say what they found. */
#ifndef TSR_TOOLS_REPORT_PRIV_H
#define TSR_TOOLS_REPORT_PRIV_H

#include <tsr/tools/verify.h>

/* Hands a check to v->report, and counts it where it fails. */
__attribute__((format(printf, 5, 6))) void
tsr_verify_report(struct tsr_verify *v, enum tsr_verdict verdict, const char *what,
                  const char *tolerance, const char *format, ...);

#endif
