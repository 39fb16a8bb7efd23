/* The threads of the bypass door: one for each queue of its port, with an API (its own channel to
 * each engine), HTTP/3 and a loop of its own. They share nothing on the way of a token. What the
 * options bound in all is divided by the number of queues, rounded up; limits of keys hold for all
 * together.
 *
 * Order: create, start, give up what is left of rights (no thread can be made after that), run. */
#ifndef TSR_BYPASS_QUEUES_H
#define TSR_BYPASS_QUEUES_H

#include <stddef.h>
#include <stdint.h>

#include <tsr/bypass/loop.h>
#include <tsr/bypass/options.h>

struct tsr_bypass_queues;

/* options: of the program, and must stay, as must ports. loop: notify, signals, capture and files
 * of it are for the threads. */
int tsr_bypass_queues_create(struct tsr_bypass_queues **queues,
                             const struct tsr_bypass_options *options,
                             struct tsr_port *const *ports,
                             const struct tsr_bypass_loop_options *loop, struct tsr_err *err);

/* The threads are there, on their CPUs, the calling one as the first. */
int tsr_bypass_queues_start(struct tsr_bypass_queues *queues, struct tsr_err *err);

/* The calling thread serves the first queue. Returns as tsr_bypass_loop_run() when all have ended.
 */
int tsr_bypass_queues_run(struct tsr_bypass_queues *queues, struct tsr_err *err);

/* Ends threads that have been started and not run. NULL is allowed. */
void tsr_bypass_queues_destroy(struct tsr_bypass_queues *queues);

/* What was reserved, for a person: one line without an end. */
void tsr_bypass_queues_describe(const struct tsr_bypass_queues *queues, char *text, size_t size);

#endif
