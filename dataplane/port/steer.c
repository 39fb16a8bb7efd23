#include "steer_priv.h"

#include <errno.h>
#include <net/if.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#ifdef TSR_STEER_OBJECT

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <dirent.h>
#include <stdlib.h>

#include <tsr/shm/log.h>

#include "steer_rules.h"

/* steer.bpf.c, compiled */
__asm__(".section .rodata\n"
        "tsr_steer_object:\n"
        ".incbin \"" TSR_STEER_OBJECT "\"\n"
        "tsr_steer_object_end:\n"
        ".previous\n");
extern const uint8_t tsr_steer_object[], tsr_steer_object_end[];

static int write_object(struct tsr_err *err)
{
    size_t size = (size_t)(tsr_steer_object_end - tsr_steer_object);
    int fd = memfd_create("tessera-steer", MFD_CLOEXEC);
    if (fd < 0 || write(fd, tsr_steer_object, size) != (ssize_t)size) {
        int code = -errno;
        if (fd >= 0) {
            close(fd);
        }
        return tsr_err_set(err, code, "No memory for the steering program: %s.", strerror(-code));
    }
    return fd;
}

/* A name in the network namespace, free again when its process has ended. */
static int claim(int interface, const char *iface, struct tsr_err *err)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    int n = snprintf(name.sun_path + 1, sizeof name.sun_path - 1, "tessera-steer/%d", interface);
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && bind(fd, (struct sockaddr *)&name,
                        (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n)) == 0) {
        return fd;
    }
    int code = -errno;
    if (fd >= 0) {
        close(fd);
    }
    return tsr_err_set(err, code == -EADDRINUSE ? -EBUSY : code,
                       "The interface %s is in use by another process of Tessera's: end that, or "
                       "give this one another interface.",
                       iface);
}

/* What the program on the interface is called; -ENOENT where there is none. */
static int attached(int interface, struct bpf_prog_info *info)
{
    uint32_t id = 0, size = sizeof *info;
    int rc = bpf_xdp_query_id(interface, 0, &id);
    int fd = rc < 0 ? rc : id ? bpf_prog_get_fd_by_id(id) : -ENOENT;
    if (fd < 0) {
        return fd;
    }
    rc = bpf_obj_get_info_by_fd(fd, info, &size);
    close(fd);
    return rc;
}

static int take_off(int interface, const char *iface, struct tsr_err *err)
{
    struct bpf_prog_info info = {0};
    int rc = attached(interface, &info);
    if (rc == -ENOENT) {
        return 0;
    }
    if (rc < 0) {
        return tsr_err_set(err, rc,
                           "An XDP program is on %s, and only root may see whose: %s. Take it off "
                           "(ip link set %s xdp off), or start as root.",
                           iface, strerror(-rc), iface);
    }
    if (strcmp(info.name, TSR_STEER_PROGRAM) != 0) {
        return tsr_err_set(err, -EBUSY,
                           "The XDP program '%s' is on %s already: take it off (ip link set %s xdp "
                           "off), or give another interface.",
                           info.name, iface, iface);
    }
    tsr_log(TSR_LOG_WARN, "port: the steering program of a process that is gone is taken off %s",
            iface);
    rc = bpf_xdp_detach(interface, 0, NULL);
    return rc < 0 ? tsr_err_set(err, rc, "The XDP program cannot be taken off %s: %s.", iface,
                                strerror(-rc))
                  : 0;
}

static int print(enum libbpf_print_level level, const char *format, va_list arguments)
{
    char line[256];
    int n = vsnprintf(line, sizeof line, format, arguments);
    (void)level;
    line[strcspn(line, "\n")] = 0;
    tsr_log(TSR_LOG_DEBUG, "%s", line);
    return n;
}

int tsr_steer_open(struct tsr_steer *steer, const char *iface, struct tsr_err *err)
{
    *steer = (struct tsr_steer){-1, -1, (int)if_nametoindex(iface)};
    libbpf_set_print(print);
    steer->claim = claim(steer->interface, iface, err);
    int rc = steer->claim < 0 ? steer->claim : take_off(steer->interface, iface, err);
    if (rc == 0) {
        rc = steer->object = write_object(err);
    }
    if (rc < 0) {
        tsr_steer_close(steer);
    }
    return rc < 0 ? rc : 0;
}

/* The rules of the program that the driver loaded last, among this process's descriptors: to ask
 * the kernel for a map by its number takes CAP_SYS_ADMIN. */
static int find_rules(void)
{
    DIR *folder = opendir("/proc/self/fd");
    struct dirent *entry;
    uint32_t newest = 0;
    int found = -ENOENT;
    while (folder && (entry = readdir(folder))) {
        struct bpf_map_info map = {0};
        uint32_t size = sizeof map;
        int fd = atoi(entry->d_name);
        if (bpf_obj_get_info_by_fd(fd, &map, &size) == 0 && map.type == BPF_MAP_TYPE_ARRAY &&
            strcmp(map.name, TSR_STEER_MAP) == 0 && map.id > newest) {
            newest = map.id;
            found = fd;
        }
    }
    if (folder) {
        closedir(folder);
    }
    return found;
}

int tsr_steer_set(const struct tsr_port_options *options, struct tsr_err *err)
{
    struct tsr_steer_rules rules = {.n = (uint16_t)options->n_listen, .vlan = options->vlan};
    uint32_t zero = 0;
    for (uint32_t i = 0; i < options->n_listen; i++) {
        const struct tsr_address *address = &options->listen[i].address;
        rules.rules[i] =
            (struct tsr_steer_rule){.port = htons(address->port), .family = address->family};
        memcpy(rules.rules[i].ip, address->ip, sizeof address->ip);
    }
    int map = find_rules();
    int rc = map < 0 ? map : bpf_map_update_elem(map, &zero, &rules, 0);
    return rc < 0 ? tsr_err_set(err, rc, "The steering program cannot be told its rules: %s.",
                                strerror(-rc))
                  : 0;
}

void tsr_steer_close(struct tsr_steer *steer)
{
    if (steer->object >= 0) {
        close(steer->object);
    }
    if (steer->claim >= 0) {
        close(steer->claim);
    }
    steer->object = steer->claim = -1;
}

#else

int tsr_steer_open(struct tsr_steer *steer, const char *iface, struct tsr_err *err)
{
    *steer = (struct tsr_steer){-1, -1, -1};
    return tsr_err_set(err, -ENOTSUP,
                       "This program was built without the steering program for %s: install clang "
                       "and libbpf-dev and build it again, or name one of your own by xdp_prog=.",
                       iface);
}

int tsr_steer_set(const struct tsr_port_options *options, struct tsr_err *err)
{
    (void)options;
    return tsr_err_set(err, -ENOTSUP, "This program was built without the steering program.");
}

void tsr_steer_close(struct tsr_steer *steer)
{
    (void)steer;
}

#endif
