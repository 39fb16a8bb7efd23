/* Follows one JSON array or object byte by byte and keeps nothing: where it ends, and whether it
 * can still become one. What is within strings is not looked at: models write newlines into them
 * as they are, and only the quotes count. */
#ifndef TSR_API_SCAN_PRIV_H
#define TSR_API_SCAN_PRIV_H

#include <stdbool.h>
#include <stdint.h>

#include "json_priv.h"

enum { TSR_SCAN_DEPTH_MAX = 128 };

struct tsr_scan {
    enum tsr_json_state state; /* WANT_NOTHING: whole */
    const char *literal;       /* what is still to come of it */
    uint32_t depth;
    bool is_key;                               /* the string being read is one */
    uint64_t objects[TSR_SCAN_DEPTH_MAX / 64]; /* bit d: what is open at depth d + 1 */
};

/* At a value: scan = (struct tsr_scan){0}. false: no JSON, or too deep. */
bool tsr_scan_byte(struct tsr_scan *scan, char c);

#endif
