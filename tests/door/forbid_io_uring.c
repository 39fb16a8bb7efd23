/* forbid_io_uring EPERM|ENOSYS PROGRAM ...: runs it as containers do whose seccomp profile has no
 * io_uring. */
#include <errno.h>
#include <seccomp.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    if (argc < 3) {
        return 2;
    }
    uint32_t error = strcmp(argv[1], "ENOSYS") == 0 ? ENOSYS : EPERM;
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
    if (!filter ||
        seccomp_rule_add(filter, SCMP_ACT_ERRNO(error), SCMP_SYS(io_uring_setup), 0) < 0 ||
        seccomp_load(filter) < 0) {
        return 77;
    }
    execv(argv[2], argv + 2);
    perror(argv[2]);
    return 1;
}
