#include <tsr/daemon/harden.h>

#include "threads_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <libgen.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/landlock.h>
#include <pwd.h>
#include <seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Sanitizers open files and make system calls of their own. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

/* ---- Identity ---- */

int tsr_harden_find_user(struct tsr_harden_user *user, const char *name, struct tsr_err *err)
{
    const char *const defaults[] = {"tessera", "nobody"};
    struct passwd *found = NULL;
    if (!name) {
        for (size_t i = 0; i < 2 && !found; i++) {
            found = getpwnam(defaults[i]);
        }
    } else {
        char *end = NULL;
        unsigned long number = strtoul(name, &end, 10);
        bool is_number = name[0] >= '0' && name[0] <= '9' && *end == '\0' && number < UINT32_MAX;
        found = is_number ? getpwuid((uid_t)number) : getpwnam(name);
        if (!found && is_number && number > 0) {
            *user = (struct tsr_harden_user){.uid = (uid_t)number, .gid = (gid_t)number};
            snprintf(user->name, sizeof user->name, "%lu", number);
            return 0;
        }
    }
    if (!found) {
        return tsr_err_set(err, -ENOENT,
                           "there is no user %s to run as: make one (adduser --system), or name "
                           "another with --user",
                           name ? name : "tessera or nobody");
    }
    *user = (struct tsr_harden_user){.uid = found->pw_uid, .gid = found->pw_gid};
    snprintf(user->name, sizeof user->name, "%s", found->pw_name);
    return 0;
}

static int drop_rights(void *unused)
{
    (void)unused;
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[2] = {{0}};
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    return syscall(SYS_capset, &header, none) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0
               ? -errno
               : 0;
}

int tsr_harden_identity(const struct tsr_harden_user *user, struct tsr_err *err)
{
    if (geteuid() == 0 && user->uid != 0) {
        if (setgroups(0, NULL) < 0 || setresgid(user->gid, user->gid, user->gid) < 0 ||
            setresuid(user->uid, user->uid, user->uid) < 0) {
            int rc = -errno;
            return tsr_err_set(err, rc, "cannot become user %s (uid %u, gid %u): %s", user->name,
                               user->uid, user->gid, strerror(-rc));
        }
        if (setuid(0) == 0 || seteuid(0) == 0) {
            return tsr_err_set(err, -EPERM, "became user %s, but could become root again",
                               user->name);
        }
    }
    struct tsr_err why = {0};
    int rc = tsr_threads_each(drop_rights, NULL, &why);
    if (rc < 0) {
        return tsr_err_set(err, rc, "cannot give up capabilities and new privileges: %s",
                           why.text[0] ? why.text : strerror(-rc));
    }
    struct rlimit none = {0, 0};
    if (setrlimit(RLIMIT_CORE, &none) < 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0) {
        rc = -errno;
        return tsr_err_set(err, rc, "cannot give up core dumps: %s", strerror(-rc));
    }
    return 0;
}

/* ---- Files: Landlock (Documentation/userspace-api/landlock.rst). glibc has no wrappers. ---- */

#ifndef SYS_landlock_create_ruleset
#define SYS_landlock_create_ruleset 444
#define SYS_landlock_add_rule       445
#define SYS_landlock_restrict_self  446
#endif

/* The ABI's struct as far as version 6; a kernel takes the part that it knows. */
struct ruleset_attr {
    uint64_t handled_access_fs;
    uint64_t handled_access_net; /* 4: TCP bind and connect */
    uint64_t scoped;             /* 6: abstract sockets, signals */
};

enum {
    FS_V1 = (1 << 13) - 1, /* LANDLOCK_ACCESS_FS_EXECUTE .. _MAKE_SYM */
    FS_REFER = 1 << 13,
    FS_TRUNCATE = 1 << 14,
    FS_IOCTL_DEV = 1 << 15,
};

static int allow_below(int ruleset, const char *path, uint64_t access)
{
    struct stat st;
    int fd = open(path, O_PATH | O_CLOEXEC);
    if (fd < 0) {
        return -errno;
    }
    if (fstat(fd, &st) == 0 && !S_ISDIR(st.st_mode)) {
        access &= LANDLOCK_ACCESS_FS_READ_FILE;
    }
    struct landlock_path_beneath_attr rule = {.allowed_access = access, .parent_fd = fd};
    int rc = syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) < 0
                 ? -errno
                 : 0;
    close(fd);
    return rc;
}

/* What is missing, or what uid forbids, needs no rule. */
static int allow_reading(int ruleset, const char *path, struct tsr_err *err)
{
    int rc = allow_below(ruleset, path, LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR);
    return rc == 0 || rc == -ENOENT || rc == -EACCES
               ? 0
               : tsr_err_set(err, rc, "Landlock: cannot allow reading %s: %s", path, strerror(-rc));
}

static int allow_replaced(int ruleset, const char *path, struct tsr_err *err)
{
    char given[PATH_MAX], target[PATH_MAX];
    snprintf(given, sizeof given, "%s", path);
    int rc = allow_reading(ruleset, dirname(given), err);
    return rc || !realpath(path, target) ? rc : allow_reading(ruleset, dirname(target), err);
}

static int allow_files(int ruleset, const struct tsr_harden_files *files, struct tsr_err *err)
{
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < TSR_HARDEN_PATHS_MAX && files->read[i]; i++) {
        rc = allow_reading(ruleset, files->read[i], err);
    }
    for (size_t i = 0; rc == 0 && i < TSR_HARDEN_REPLACED_MAX; i++) {
        rc = files->replaced[i] ? allow_replaced(ruleset, files->replaced[i], err) : 0;
    }
    if (files->socket_dir) {
        allow_below(ruleset, files->socket_dir, LANDLOCK_ACCESS_FS_REMOVE_FILE);
    }
    return rc;
}

static int restrict_thread(void *ruleset)
{
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
                   syscall(SYS_landlock_restrict_self, *(int *)ruleset, 0) < 0
               ? -errno
               : 0;
}

int tsr_harden_files(const struct tsr_harden_files *files, char *notes, size_t notes_size,
                     struct tsr_err *err)
{
    notes[0] = '\0';
    if (SANITIZED) {
        snprintf(notes, notes_size, "built with sanitizers: files are not restricted");
        return 0;
    }
    long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    if (abi < 1) {
        snprintf(notes, notes_size,
                 "this kernel has no Landlock (%s): files are guarded by uid and seccomp alone",
                 strerror(errno));
        return 0;
    }
    struct ruleset_attr attr = {.handled_access_fs = FS_V1};
    size_t size = sizeof attr.handled_access_fs;
    attr.handled_access_fs |= abi >= 2 ? FS_REFER : 0;
    attr.handled_access_fs |= abi >= 3 ? FS_TRUNCATE : 0;
    attr.handled_access_fs |= abi >= 5 ? FS_IOCTL_DEV : 0;
    if (abi >= 4) {
        attr.handled_access_net = 3;
        size = 2 * sizeof(uint64_t);
    }
    if (abi >= 6) {
        attr.scoped = 3;
        size = 3 * sizeof(uint64_t);
    }
    int ruleset = (int)syscall(SYS_landlock_create_ruleset, &attr, size, 0);
    if (ruleset < 0) {
        int rc = -errno;
        return tsr_err_set(err, rc, "Landlock (ABI %ld): cannot make a ruleset: %s", abi,
                           strerror(-rc));
    }
    int rc = allow_files(ruleset, files, err);
    if (rc < 0) {
        close(ruleset);
        return rc;
    }
    struct tsr_err why = {0};
    rc = tsr_threads_each(restrict_thread, &ruleset, &why);
    close(ruleset);
    if (rc < 0) {
        return tsr_err_set(err, rc, "Landlock: cannot restrict the process: %s",
                           why.text[0] ? why.text : strerror(-rc));
    }
    return 0;
}

/* ---- Calls ---- */

/* What every daemon of ours does; what one does beside it, it names itself. */
static const char *const common_calls[] = {
    /* waiting and time */
    "futex",
    "epoll_wait",
    "epoll_pwait",
    "epoll_ctl",
    "epoll_create1",
    "poll",
    "ppoll",
    "clock_gettime",
    "clock_nanosleep",
    "nanosleep",
    "gettimeofday",
    "restart_syscall",
    "sched_yield",
    "getcpu",
    "rseq",
    /* files and sockets that are open */
    "getsockopt",
    "getpeername",
    "recvmsg",
    "recvfrom",
    "sendmsg",
    "sendto",
    "shutdown",
    "fcntl",
    "fstat",
    "lseek",
    "close",
    "read",
    "write",
    "writev",
    "getrandom",
    /* memory; mmap and mprotect stand below */
    "brk",
    "munmap",
    "madvise",
    "mremap",
    "mincore",
    /* ends, signals, and what abort() and the SIGBUS guard need */
    "exit",
    "exit_group",
    "rt_sigreturn",
    "rt_sigprocmask",
    "rt_sigaction",
    "sigaltstack",
    "getpid",
    "gettid",
    "set_robust_list",
    /* looking at itself */
    "sched_getaffinity",
    "getrusage",
    "uname",
    "getuid",
    "geteuid",
    "getgid",
    "getegid",
};

static int allow_call(scmp_filter_ctx filter, const char *name)
{
    int nr = seccomp_syscall_resolve_name(name);
    if (nr == SCMP_SYS(socket)) {
        return seccomp_rule_add(filter, SCMP_ACT_ALLOW, nr, 1, SCMP_A0(SCMP_CMP_EQ, AF_UNIX, 0));
    }
    return nr == __NR_SCMP_ERROR ? 0 : seccomp_rule_add(filter, SCMP_ACT_ALLOW, nr, 0);
}

static int allow_calls(scmp_filter_ctx filter, const char *const *calls)
{
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < sizeof common_calls / sizeof *common_calls; i++) {
        rc = allow_call(filter, common_calls[i]);
    }
    for (; rc == 0 && *calls; calls++) {
        rc = allow_call(filter, *calls);
    }
    if (rc < 0) {
        return rc;
    }
    const int mapping[] = {SCMP_SYS(mmap), SCMP_SYS(mprotect)};
    for (size_t i = 0; i < 2; i++) {
        rc = seccomp_rule_add(filter, SCMP_ACT_ALLOW, mapping[i], 1,
                              SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
        if (rc < 0) {
            return rc;
        }
    }
    rc = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(prctl), 1,
                          SCMP_A0(SCMP_CMP_EQ, PR_SET_NAME, 0));
    if (rc < 0) {
        return rc;
    }
    /* abort() signals its own process. */
    return seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1,
                            SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)getpid(), 0));
}

int tsr_harden_calls(const char *const *calls, char *notes, size_t notes_size, struct tsr_err *err)
{
    notes[0] = '\0';
    if (SANITIZED) {
        snprintf(notes, notes_size, "built with sanitizers: system calls are not restricted");
        return 0;
    }
    if (prctl(PR_GET_SECCOMP, 0, 0, 0, 0) < 0) {
        snprintf(notes, notes_size, "this kernel has no seccomp: system calls are not restricted");
        return 0;
    }
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(EPERM));
    if (!filter) {
        return tsr_err_set(err, -ENOMEM, "seccomp: no memory for a filter");
    }
    int rc = seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1);
    rc = rc < 0 ? rc : allow_calls(filter, calls);
    rc = rc < 0 ? rc : seccomp_load(filter);
    seccomp_release(filter);
    if (rc < 0) {
        return tsr_err_set(err, rc, "seccomp: cannot restrict system calls: %s", strerror(-rc));
    }
    return 0;
}
