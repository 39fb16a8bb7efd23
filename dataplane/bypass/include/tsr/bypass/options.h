/* What the command line and the configuration file of tessera-bypass say, checked. */
#ifndef TSR_BYPASS_OPTIONS_H
#define TSR_BYPASS_OPTIONS_H

#include <stdint.h>

#include <tsr/bypass/loop.h>
#include <tsr/http3/http3.h>
#include <tsr/port/port.h>
#include <tsr/program/options.h>
#include <tsr/shm/err.h>

#define TSR_BYPASS_CONFIG "/etc/tessera/bypass.conf"
#define TSR_BYPASS_LISTEN "127.0.0.1:8443"

struct tsr_bypass_options {
    struct tsr_program_options program; /* first */
    const char *secret;                 /* file of HTTP/3's secret; NULL: one for this run */
    const char *capture;                /* file for dropped packets; NULL: none */
    struct tsr_port_options port;
    struct tsr_port_listen gateways[2]; /* of IPv4 and IPv6; part of port after parsing, as ... */
    uint32_t vlan, mtu, n_eal;          /* ... these are */
    struct tsr_http3_options http3;     /* way and port are for the program to fill in */
    uint32_t cpus[TSR_PORT_QUEUES_MAX]; /* of the queues, one each, */
    uint32_t n_cpus;                    /* or none */
    enum tsr_bypass_idle idle;
};

/* argv must stay, and the struct where it is. -EINVAL with a sentence that names option and value.
 */
int tsr_bypass_options_parse(struct tsr_bypass_options *options, int argc, char **argv,
                             struct tsr_err *err);

/* "127.0.0.1:8443", "[::1]:8443". */
enum { TSR_BYPASS_ADDRESS_BYTES = 64 };
void tsr_bypass_address_text(const struct tsr_address *address,
                             char text[TSR_BYPASS_ADDRESS_BYTES]);

#endif
