/* What steer.c tells the XDP program. Both include it. */
#ifndef TSR_PORT_STEER_RULES_H
#define TSR_PORT_STEER_RULES_H

#include <linux/types.h>

#define TSR_STEER_RULES_MAX 8
#define TSR_STEER_PROGRAM                                                                          \
    "tsr_steer" /* the program's and the map's name: at most 15 characters                         \
                 */
#define TSR_STEER_MAP "tsr_rules"

struct tsr_steer_rule {
    __u64 ip[2];
    __u16 port; /* network order */
    __u16 family;
    __u32 reserved;
};

struct tsr_steer_rules {
    __u16 n; /* 0: everything is the kernel's */
    __u16 vlan;
    __u32 reserved;
    struct tsr_steer_rule rules[TSR_STEER_RULES_MAX];
};

#endif
