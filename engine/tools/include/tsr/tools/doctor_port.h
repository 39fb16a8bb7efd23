/* What a port of tessera-bypass needs of the machine: what no file says of it. */
#ifndef TSR_TOOLS_DOCTOR_PORT_H
#define TSR_TOOLS_DOCTOR_PORT_H

#include <stdbool.h>
#include <stdint.h>

enum {
    TSR_DOCTOR_LISTEN_MAX = 8,
    TSR_DOCTOR_ADDRESSES_MAX = 64,
    TSR_DOCTOR_ADDRESS_BYTES = 64,
    TSR_DOCTOR_LINK_BYTES = 16,
    TSR_DOCTOR_DEVICE_BYTES = 512,
};

/* What an interface does to packets before they reach the wire, or us. */
struct tsr_doctor_link {
    char name[TSR_DOCTOR_LINK_BYTES]; /* "": there is none, or none that we see */
    bool tx_checksums, tso, gso;      /* it hands such packets on unfinished, where it is virtual */
    bool lro;
    bool combined; /* receive and send queues are counted together */
};

struct tsr_doctor_port {
    /* As the options of tessera-bypass; the caller sets them. */
    const char *device; /* NULL: no port was asked about */
    const char *listen[TSR_DOCTOR_LISTEN_MAX];
    uint32_t n_listen, queues;
    bool no_huge;

    /* Found by tsr_doctor_port_live(). */
    uint64_t capabilities, bounding; /* bits; of this process, and what it could ever have */
    int af_xdp;                      /* 0, or the errno of making such a socket */
    struct tsr_doctor_link link;     /* under the device */
    struct tsr_doctor_link peer;     /* its other end, where that is virtual */
    uint32_t n_addresses;            /* that the kernel has on it, but for link-local ones */
    char addresses[TSR_DOCTOR_ADDRESSES_MAX][TSR_DOCTOR_ADDRESS_BYTES]; /* "192.0.2.2/24" */
};

/* Looks at the interface under port->device; root as in struct tsr_doctor. */
void tsr_doctor_port_live(struct tsr_doctor_port *port, const char *root);

#endif
