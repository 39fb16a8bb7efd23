/* What the command line and the configuration file of tessera-dataplane say, checked. */
#ifndef TSR_URING_OPTIONS_H
#define TSR_URING_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include <tsr/http1/http1.h>
#include <tsr/program/options.h>
#include <tsr/shm/err.h>
#include <tsr/uring/alt_svc.h>
#include <tsr/uring/sockets.h>

#define TSR_URING_CONFIG "/etc/tessera/dataplane.conf"
#define TSR_URING_LISTEN "127.0.0.1:8000"

struct tsr_uring_options {
    struct tsr_program_options program; /* first */
    const char *key_name;               /* of --make-key, the action that is its own */
    struct tsr_sockets sockets;
    struct tsr_http1_options http1;
    char alt_svc[TSR_ALT_SVC_BYTES];
    uint32_t per_address; /* connections of one address */
    uint32_t handshake_s;
    bool spin;
};

/* argv must stay, and the struct where it is.
 * -EINVAL with a sentence that names option and value. */
int tsr_uring_options_parse(struct tsr_uring_options *options, int argc, char **argv,
                            struct tsr_err *err);

/* Whether the options go together; after all sockets are known. -EINVAL. */
int tsr_uring_options_check(const struct tsr_uring_options *options, struct tsr_err *err);

#endif
