/* What the configuration file and the command line of tessera-engine say, checked. */
#ifndef TSR_SERVE_OPTIONS_H
#define TSR_SERVE_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include <tsr/daemon/config.h>
#include <tsr/exec/exec.h>
#include <tsr/shm/door.h>
#include <tsr/shm/err.h>

#define TSR_SERVE_SOCKET "/run/tessera/engine.sock"
#define TSR_SERVE_CONFIG "/etc/tessera/engine.conf"

enum {
    TSR_SERVE_SEQUENCES_DEFAULT = 64,
    TSR_SERVE_QUEUE_DEFAULT = 256,
    TSR_SERVE_SPIN_US_DEFAULT = 50,
    TSR_SERVE_PAYLOAD_BYTES_DEFAULT = 1 << 20,
    TSR_SERVE_NAME_MAX = 127, /* bytes */
};

enum tsr_serve_action {
    TSR_SERVE_RUN,
    TSR_SERVE_CHECK,   /* plan, say what would be done, and leave */
    TSR_SERVE_EXPLAIN, /* also load, and say which kernels were chosen */
    TSR_SERVE_HELP,
    TSR_SERVE_VERSION,
};

struct tsr_serve_options {
    enum tsr_serve_action action;
    struct tsr_daemon_config config; /* holds the file's strings; others point into argv */
    const char *model;               /* path */
    const char *name;                /* of the model, for clients; NULL: its own */
    const char *chat_template;       /* path; NULL: the model's own */
    const char *socket;              /* path */
    const char *user;                /* to become when started as root, NULL: the default */
    struct tsr_door_policy policy;

    struct tsr_exec_options exec;        /* exec.cpus points at cpus below */
    uint32_t cpus[TSR_EXEC_WORKERS_MAX]; /* of --cpus */
    uint32_t n_cpus;
    uint32_t chunk_rows;
    uint32_t sequences_max;
    uint32_t queue_max;
    uint32_t park_seconds;
    uint32_t tokens_default;
    uint32_t seconds_max;       /* longest that a request may take; 0: no limit */
    uint32_t spin_us;           /* shared mode: how long an idle frontend looks before it sleeps */
    uint64_t payload_bytes_max; /* of one request */
    uint64_t prompt_bytes;      /* memory for prompts; 0: by payload and context */
    bool no_sandbox;            /* no Landlock, no seccomp: for debuggers and sanitizers only */
    bool quiet;                 /* no progress on stderr */
};

/* Fills options from file and command line (argv must stay). -EINVAL with a sentence that names
 * option and value, or what tsr_daemon_config_read() said. The struct must not move afterwards;
 * tsr_daemon_config_free(&options->config) is the caller's, also after an error. */
int tsr_serve_options_parse(struct tsr_serve_options *options, int argc, char **argv,
                            struct tsr_err *err);

#endif
