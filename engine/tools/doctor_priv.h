/* What the files of doctor share. */
#ifndef TSR_TOOLS_DOCTOR_PRIV_H
#define TSR_TOOLS_DOCTOR_PRIV_H

#include <stddef.h>

#include <tsr/tools/doctor.h>

/* A finding. Those beyond the room, which no machine has, take the last one's place. */
__attribute__((format(printf, 4, 5))) void tsr_doctor_say(struct tsr_doctor *d, const char *name,
                                                          enum tsr_finding_level level,
                                                          const char *format, ...);

/* The command that mends what was said last. */
__attribute__((format(printf, 2, 3))) void tsr_doctor_mend(struct tsr_doctor *d, const char *format,
                                                           ...);

/* "sudo ", where the caller needs it. */
const char *tsr_doctor_sudo(const struct tsr_doctor *d);

/* What a port needs, instead of what the engine does. */
void tsr_doctor_look_port(struct tsr_doctor *d);

/* The value of ",key=value" among a device's arguments; "" where it is not there. */
void tsr_doctor_argument(const char *device, const char *key, char *value, size_t size);

/* Its address with the domain ("0000:03:00.0"), of a PCI device; else "". */
void tsr_doctor_pci(const char *device, char *address, size_t size);

/* The network interface that the device lies on, or is bound to; "" without one. */
void tsr_doctor_interface(const char *root, const char *device, char *name, size_t size);

#endif
