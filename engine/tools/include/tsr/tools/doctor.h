/* What of a machine holds the engine back, and the command that mends it. */
#ifndef TSR_TOOLS_DOCTOR_H
#define TSR_TOOLS_DOCTOR_H

#include <stdbool.h>
#include <stdint.h>

#include <tsr/memory/topology.h>
#include <tsr/tools/doctor_port.h>

enum { TSR_FINDINGS_MAX = 192, TSR_COMMAND_BYTES_MAX = 1024 };

enum tsr_finding_level {
    TSR_FINDING_FINE,
    TSR_FINDING_NOTE, /* cannot be mended from here, or need not */
    TSR_FINDING_MEND, /* command mends it */
};

struct tsr_finding {
    const char *name; /* of the check: "huge-pages" */
    enum tsr_finding_level level;
    char text[320];
    char command[TSR_COMMAND_BYTES_MAX]; /* for a shell; "" where there is none */
};

/* What no file says. tsr_doctor_live() fills it in; a test makes it up. */
struct tsr_doctor_live {
    bool is_root;                   /* commands need no sudo, memory can be locked */
    const char *kernels;            /* the instruction set that the engine uses here */
    uint64_t memlock_bytes, nofile; /* limits of this process; UINT64_MAX: none */
    int io_uring;                   /* 0, or the errno of setting one up */
    double read_bytes_s;            /* measured; 0: it was not */
    uint32_t read_threads;
    const char *socket;                 /* of the engine */
    int engine;                         /* 0, or the negative errno of reaching it */
    char engine_text[320];              /* its model, or why it was not reached */
    uint64_t need_bytes, weights_bytes; /* of the model that the machine is for; 0: none named */
};

struct tsr_doctor {
    const char *root; /* before every path of /proc and /sys: "" or a test's folder */
    struct tsr_doctor_live live;
    struct tsr_topology topology;
    struct tsr_doctor_port port;
    uint32_t n, n_mend;
    struct tsr_finding findings[TSR_FINDINGS_MAX];
};

/* Looks at this machine: limits, io_uring, the engine at live->socket (for a second at most) and,
 * where measures is true, how fast all CPUs together read memory (a third of a second). The caller
 * has set socket and the model's bytes. */
void tsr_doctor_live(struct tsr_doctor_live *live, const struct tsr_topology *topology,
                     bool measures);

/* Fills in findings from root, live and topology; of a port alone, from root, live and port, where
 * port.device is set. */
void tsr_doctor_look(struct tsr_doctor *doctor);

#endif
