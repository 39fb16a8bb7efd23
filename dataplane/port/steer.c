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

#include <tsr/shm/log.h>

#include "steer_rules.h"

enum { MAPS_MAX = 8 };

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

/* A descriptor of the program on the interface; -ENOENT where there is none. */
static int attached(int interface, struct bpf_prog_info *info, uint32_t *maps)
{
    uint32_t id = 0, size = sizeof *info;
    int rc = bpf_xdp_query_id(interface, 0, &id);
    int fd = rc < 0 ? rc : id ? bpf_prog_get_fd_by_id(id) : -ENOENT;
    if (fd < 0) {
        return fd;
    }
    *info = (struct bpf_prog_info){.nr_map_ids = MAPS_MAX, .map_ids = (uint64_t)(uintptr_t)maps};
    rc = bpf_obj_get_info_by_fd(fd, info, &size);
    if (rc < 0) {
        close(fd);
        return rc;
    }
    return fd;
}

static int take_off(int interface, const char *iface, struct tsr_err *err)
{
    struct bpf_prog_info info;
    uint32_t maps[MAPS_MAX];
    int fd = attached(interface, &info, maps);
    if (fd == -ENOENT) {
        return 0;
    }
    if (fd < 0) {
        return tsr_err_set(
            err, fd,
            "The kernel does not say which XDP program is on %s: %s. CAP_NET_ADMIN and "
            "CAP_BPF are needed.",
            iface, strerror(-fd));
    }
    close(fd);
    if (strcmp(info.name, TSR_STEER_PROGRAM) != 0) {
        return tsr_err_set(err, -EBUSY,
                           "The XDP program '%s' is on %s already: take it off (ip link set %s xdp "
                           "off), or give another interface.",
                           info.name, iface, iface);
    }
    tsr_log(TSR_LOG_WARN, "port: the steering program of a process that is gone is taken off %s",
            iface);
    int rc = bpf_xdp_detach(interface, 0, NULL);
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

/* The program's map of rules, among those that it uses. */
static int find_map(const struct bpf_prog_info *info, const uint32_t *ids)
{
    for (uint32_t i = 0; i < info->nr_map_ids && i < MAPS_MAX; i++) {
        struct bpf_map_info map = {0};
        uint32_t size = sizeof map;
        int fd = bpf_map_get_fd_by_id(ids[i]);
        if (fd >= 0 && bpf_obj_get_info_by_fd(fd, &map, &size) == 0 &&
            strcmp(map.name, TSR_STEER_MAP) == 0) {
            return fd;
        }
        if (fd >= 0) {
            close(fd);
        }
    }
    return -ENOENT;
}

int tsr_steer_set(const struct tsr_steer *steer, const struct tsr_port_options *options,
                  struct tsr_err *err)
{
    struct tsr_steer_rules rules = {.n = (uint16_t)options->n_listen, .vlan = options->vlan};
    struct bpf_prog_info info;
    uint32_t ids[MAPS_MAX], zero = 0;
    for (uint32_t i = 0; i < options->n_listen; i++) {
        const struct tsr_address *address = &options->listen[i].address;
        rules.rules[i] =
            (struct tsr_steer_rule){.port = htons(address->port), .family = address->family};
        memcpy(rules.rules[i].ip, address->ip, sizeof address->ip);
    }
    int program = attached(steer->interface, &info, ids);
    int map = program < 0 ? program : find_map(&info, ids);
    int rc = map < 0 ? map : bpf_map_update_elem(map, &zero, &rules, 0);
    if (program >= 0) {
        close(program);
    }
    if (map >= 0) {
        close(map);
    }
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

int tsr_steer_set(const struct tsr_steer *steer, const struct tsr_port_options *options,
                  struct tsr_err *err)
{
    (void)steer, (void)options;
    return tsr_err_set(err, -ENOTSUP, "This program was built without the steering program.");
}

void tsr_steer_close(struct tsr_steer *steer)
{
    (void)steer;
}

#endif
