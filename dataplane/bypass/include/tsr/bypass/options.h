/* What the command line and the configuration file of tessera-bypass say, checked. */
#ifndef TSR_BYPASS_OPTIONS_H
#define TSR_BYPASS_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include <tsr/api/api.h>
#include <tsr/bypass/loop.h>
#include <tsr/daemon/config.h>
#include <tsr/http3/http3.h>
#include <tsr/port/port.h>
#include <tsr/shm/err.h>

#define TSR_BYPASS_CONFIG "/etc/tessera/bypass.conf"
#define TSR_BYPASS_ENGINE "/run/tessera/engine.sock"
#define TSR_BYPASS_LISTEN "127.0.0.1:8443"

enum { TSR_BYPASS_NAMES_MAX = 64 };

enum tsr_bypass_action {
    TSR_BYPASS_RUN,
    TSR_BYPASS_CHECK, /* say what would be done, and leave */
    TSR_BYPASS_HELP,
    TSR_BYPASS_VERSION,
};

struct tsr_bypass_options {
    enum tsr_bypass_action action;
    const char *secret;  /* file of HTTP/3's secret; NULL: one for this run */
    const char *capture; /* file for dropped packets; NULL: none */
    const char *user;    /* to become when started as root, NULL: the default */
    struct tsr_port_options port;
    struct tsr_port_listen gateways[2]; /* of IPv4 and IPv6; part of port.listen after parsing */
    struct tsr_api_options api;
    const char *hosts[TSR_BYPASS_NAMES_MAX];
    const char *origins[TSR_BYPASS_NAMES_MAX];
    struct tsr_http3_options http3; /* way and port are for the program to fill in */
    uint32_t drain_s;
    uint32_t cpus[TSR_PORT_QUEUES_MAX]; /* of the queues, one each, */
    uint32_t n_cpus;                    /* or none */
    enum tsr_bypass_idle idle;
    bool sandbox;
    bool quiet;

    struct tsr_daemon_config config;
};

/* argv must stay, and the struct where it is. -EINVAL with a sentence that names option and value.
 */
int tsr_bypass_options_parse(struct tsr_bypass_options *options, int argc, char **argv,
                             struct tsr_err *err);

void tsr_bypass_options_help(FILE *out);

/* "127.0.0.1:8443", "[::1]:8443". */
enum { TSR_BYPASS_ADDRESS_BYTES = 64 };
void tsr_bypass_address_text(const struct tsr_address *address,
                             char text[TSR_BYPASS_ADDRESS_BYTES]);

#endif
