/* The options of a daemon: a configuration file, and the command line over it.
 *
 * Both use the same names. A line of the file is `name = value`; a flag's value is yes or no; lines
 * that begin with # or ; are comments, and so is what follows " ;". An option that stands on the
 * command line replaces all that the file says of it (`--spin=no` undoes `spin = yes`). The file
 * is what --config names, else the daemon's own, where it exists.
 *
 * One thread, at start. */
#ifndef TSR_DAEMON_CONFIG_H
#define TSR_DAEMON_CONFIG_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <tsr/shm/err.h>

enum { TSR_DAEMON_OPTIONS_MAX = 128, TSR_DAEMON_CONFIG_BYTES_MAX = 1 << 20 };

/* What an option is, and what becomes of its value. VALUE ... SIZE stand once in a file, and on a
 * command line the last counts; LIST and NAMES as often as wanted. */
enum tsr_daemon_option_kind {
    TSR_DAEMON_VALUE,  /* --name VALUE: what set() makes of it */
    TSR_DAEMON_TEXT,   /* const char * */
    TSR_DAEMON_NUMBER, /* uint32_t, from low to high */
    TSR_DAEMON_SIZE,   /* uint64_t or size_t, the same; --help shows the default in M */
    TSR_DAEMON_LIST,   /* --name VALUE: what set() makes of each */
    TSR_DAEMON_NAMES,  /* const char *[high]; how many is the uint32_t at count_at */
    TSR_DAEMON_FLAG,   /* --name, --name=yes, --name=no: bool, true for yes */
    TSR_DAEMON_ACTION, /* --name, on the command line only: an enum, which becomes low */
    TSR_DAEMON_LEAVE,  /* the same, and nothing else is looked at: --help; these stand last */
};

struct tsr_daemon_option {
    const char *name;
    enum tsr_daemon_option_kind kind;
    size_t at;          /* of the value, from ctx on */
    const char *value;  /* what --help calls it, "FILE"; NULL: there is none */
    const char *help;   /* lines, joined by \n; # stands for the default */
    const char *above;  /* the section of --help that begins with it; "": one without a title */
    uint64_t low, high; /* as the kind says */
    size_t count_at;
    /* Instead of what the kind says. text: NULL for flags (which are passed on only where they are
     * yes) and actions; it stays until tsr_daemon_config_free(). 0, or a negative errno with a
     * sentence. */
    int (*set)(void *at, const char *text, struct tsr_err *err);
};

struct tsr_daemon_config {
    const struct tsr_daemon_option *options; /* a name of NULL ends them; --config is added */
    const char *file;                        /* of the daemon, "/etc/tessera/engine.conf" */
    const char *head, *tail;                 /* of --help */
    void *ctx;                               /* what the options are set in */

    struct tsr_daemon_text *texts; /* of the file; NULL at first */
};

/* Reads file and command line (argv, which must stay) and sets each option: those of the file
 * first. -EINVAL with a sentence that names option and value, and for a file its line; for a file
 * that cannot be read what the kernel said. */
int tsr_daemon_config_read(struct tsr_daemon_config *config, int argc, char **argv,
                           struct tsr_err *err);

/* As if `text`, of `bytes` bytes, stood in the file `name` and nothing on the command line. */
int tsr_daemon_config_text(struct tsr_daemon_config *config, const char *name, const char *text,
                           size_t bytes, struct tsr_err *err);

/* The manual, with the values that ctx has now as defaults. */
void tsr_daemon_config_help(const struct tsr_daemon_config *config, FILE *out);

void tsr_daemon_config_free(struct tsr_daemon_config *config);

#endif
