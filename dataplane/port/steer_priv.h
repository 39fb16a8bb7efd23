/* Our XDP program on a network interface: it takes what comes for the listening UDP ports out of
 * the kernel's way, and leaves everything else to the kernel. DPDK's af_xdp driver loads and
 * attaches it; here are the file that it asks for, and the rules that the program obeys. */
#ifndef TSR_PORT_STEER_PRIV_H
#define TSR_PORT_STEER_PRIV_H

#include <tsr/port/port.h>

struct tsr_steer {
    int object;    /* the program's file; to be named to the driver as /proc/self/fd/N */
    int claim;     /* held as long as the interface is ours */
    int interface; /* its index */
};

/* A program of ours that a dead process left on the interface is taken off first. Errors: -EBUSY
 * another process of ours, or another's program, is there; -EPERM: only root may see whose;
 * -ENOTSUP built without clang or libbpf.
 */
int tsr_steer_open(struct tsr_steer *steer, const char *iface, struct tsr_err *err);

/* After the driver, in this process, has attached the program. Until then it leaves everything to
 * the kernel. */
int tsr_steer_set(const struct tsr_port_options *options, struct tsr_err *err);

void tsr_steer_close(struct tsr_steer *steer);

#endif
