/* The dropped packets on demand: a file that is opened at the start, before rights are given up. */
#ifndef TSR_BYPASS_CAPTURE_PRIV_H
#define TSR_BYPASS_CAPTURE_PRIV_H

#include <stdint.h>

#include <tsr/port/port.h>
#include <tsr/shm/err.h>

/* What is kept of these ports replaces the content of the file. */
int tsr_bypass_capture_write(int fd, struct tsr_port *const *ports, uint32_t queues,
                             struct tsr_err *err);

#endif
