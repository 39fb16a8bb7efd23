/* The first things that a daemon does. */
#ifndef TSR_DAEMON_START_H
#define TSR_DAEMON_START_H

#include <tsr/shm/err.h>

/* So that no file or socket takes the place of a standard stream that is closed; using the stream
 * still fails. */
void tsr_start_standard(void);

/* SIGTERM, SIGINT, SIGHUP and `another` (0: none) come as a descriptor (signalfd, not blocking),
 * which is returned; not those that were ignored at the start (under nohup, or in the background of
 * a script). SIGPIPE is ignored. Call it before threads start. A negative errno with a sentence. */
int tsr_start_signals(int another, struct tsr_err *err);

#endif
