/* Answers in parts: what TSR_SUBMIT_ANSWERS ask for instead of a generation, an event at a time.
 *
 * For the frontend's thread; nothing allocates or makes a system call. */
#ifndef TSR_SERVE_PARTS_H
#define TSR_SERVE_PARTS_H

#include <stdbool.h>
#include <stdint.h>

#include <tsr/serve/request.h>

struct tsr_frontend;

/* Of how many ids, floats or bytes the whole consists; request->sent of them were said. */
uint32_t tsr_parts_total(const struct tsr_frontend *frontend, const struct tsr_request *request);

/* Says the next part and adds it to request->sent, which is less than the total; false where the
 * ring has no room. */
bool tsr_parts_say(struct tsr_frontend *frontend, struct tsr_request *request);

/* With which the request is done when all is said. */
enum tsr_reason tsr_parts_reason(const struct tsr_request *request);

#endif
