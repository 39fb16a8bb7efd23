/* What both doors' programs do from start to end, and what they give up between. The order stands
 * in each door's main.c. */
#ifndef TSR_PROGRAM_PROGRAM_H
#define TSR_PROGRAM_PROGRAM_H

#include <tsr/daemon/harden.h>
#include <tsr/daemon/notify.h>
#include <tsr/program/options.h>
#include <tsr/shm/err.h>

/* First in a door's own struct. */
struct tsr_program {
    const char *name; /* "tessera-bypass" */
    int (*parse)(struct tsr_program *program, int argc, char **argv, struct tsr_err *err);
    int (*run)(struct tsr_program *program, struct tsr_err *err);
    void (*end)(struct tsr_program *program);
    struct tsr_program_options *options; /* the first in the door's own */

    struct tsr_harden_user user; /* whom it becomes */
    struct tsr_notify notify;
    int signals; /* a signalfd; not for --check */
};

/* All of main(): help and version, parse(), run(), end(). Returns the exit status: 2 where parse()
 * failed, 1 where run() did. */
int tsr_program_main(struct tsr_program *program, int argc, char **argv);

/* ---- In run(), in this order. 0, or a negative errno with a sentence ---- */

/* Finds the user; but for --check also catches signals, `another` (0: none) too, and reaches the
 * service manager. Before what is opened as who started it. */
int tsr_program_open(struct tsr_program *program, int another, struct tsr_err *err);

/* Becomes the user, and leaves the folders of certificates and keys, and that of a socket's file,
 * which will be removed (NULL: none). What is read after that can be read again later. */
int tsr_program_give_up_rights(const struct tsr_program *program, const char *socket,
                               struct tsr_err *err);

/* What was asked for and what it takes, on stderr. */
void tsr_program_describe(const struct tsr_program *program, const char *memory);

/* Leaves `calls` beside those that every daemon makes; NULL ends them. */
int tsr_program_give_up_calls(const struct tsr_program *program, const char *const *calls,
                              struct tsr_err *err);

/* Says so, on stdout behind the addresses and to the service manager: "HTTP/3 ", "127.0.0.1:8443".
 */
void tsr_program_ready(const struct tsr_program *program, const char *what, const char *address);

#endif
