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

#include <tsr/shm/err.h>

enum { TSR_DAEMON_OPTIONS_MAX = 128, TSR_DAEMON_CONFIG_BYTES_MAX = 1 << 20 };

enum tsr_daemon_option_kind {
    TSR_DAEMON_VALUE,  /* --name VALUE; once in a file; on a command line the last counts */
    TSR_DAEMON_LIST,   /* --name VALUE; as often as wanted */
    TSR_DAEMON_FLAG,   /* --name, --name=yes, --name=no */
    TSR_DAEMON_ACTION, /* --name, on the command line only: --check */
    TSR_DAEMON_LEAVE,  /* the same, and nothing else is looked at: --help */
};

struct tsr_daemon_option {
    const char *name;
    enum tsr_daemon_option_kind kind;
    int id; /* the daemon's own */
};

struct tsr_daemon_config {
    const struct tsr_daemon_option *options; /* a name of NULL ends them; --config is added */
    const char *file;                        /* of the daemon, "/etc/tessera/engine.conf" */
    /* Takes one option: 0, or a negative errno with a sentence. text is NULL for flags (which are
     * passed on only where they are yes) and actions; it stays until tsr_daemon_config_free(). */
    int (*set)(void *ctx, int id, const char *text, struct tsr_err *err);
    void *ctx;

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

void tsr_daemon_config_free(struct tsr_daemon_config *config);

#endif
