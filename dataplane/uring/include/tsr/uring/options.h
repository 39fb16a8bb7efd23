/* What the command line and the configuration file of tessera-dataplane say, checked. */
#ifndef TSR_URING_OPTIONS_H
#define TSR_URING_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include <tsr/api/api.h>
#include <tsr/daemon/config.h>
#include <tsr/http1/http1.h>
#include <tsr/shm/err.h>
#include <tsr/uring/alt_svc.h>
#include <tsr/uring/sockets.h>
#include <tsr/uring/tls.h>

#define TSR_URING_CONFIG "/etc/tessera/dataplane.conf"
#define TSR_URING_ENGINE "/run/tessera/engine.sock"
#define TSR_URING_LISTEN "127.0.0.1:8000"

enum { TSR_URING_NAMES_MAX = 64 };

enum tsr_uring_action {
    TSR_URING_RUN,
    TSR_URING_CHECK, /* say what would be done, and leave */
    TSR_URING_MAKE_KEY,
    TSR_URING_HELP,
    TSR_URING_VERSION,
};

struct tsr_uring_options {
    enum tsr_uring_action action;
    const char *key_name; /* of --make-key */
    const char *user;     /* to become when started as root, NULL: the default */
    struct tsr_sockets sockets;
    struct tsr_tls_files tls;
    struct tsr_api_options api;
    const char *hosts[TSR_URING_NAMES_MAX];
    const char *origins[TSR_URING_NAMES_MAX];
    struct tsr_http1_options http1;
    char alt_svc[TSR_ALT_SVC_BYTES];
    uint32_t per_address; /* connections of one address; UINT32_MAX: half of all */
    uint32_t handshake_s;
    uint32_t drain_s;
    bool spin;
    bool sandbox;
    bool quiet;

    struct tsr_daemon_config config;
};

/* argv must stay, and the struct where it is.
 * -EINVAL with a sentence that names option and value. */
int tsr_uring_options_parse(struct tsr_uring_options *options, int argc, char **argv,
                            struct tsr_err *err);

/* Whether the options go together; after all sockets are known. -EINVAL. */
int tsr_uring_options_check(const struct tsr_uring_options *options, struct tsr_err *err);

void tsr_uring_options_help(FILE *out);

#endif
