/* The kernel keeps capabilities, no_new_privs and Landlock's domains for each thread. Threads that
 * a library has started must give up what the process gives up. */
#ifndef TSR_DAEMON_THREADS_PRIV_H
#define TSR_DAEMON_THREADS_PRIV_H

#include <tsr/shm/err.h>

/* Runs act(arg) in every thread of the process, the calling one last; the others run it in a
 * handler of SIGRTMIN, so it may only make system calls. No thread may start meanwhile but from one
 * that has run it. Returns the first negative value of act(); -EBUSY: a thread does not take the
 * signal. */
int tsr_threads_each(int (*act)(void *arg), void *arg, struct tsr_err *err);

#endif
