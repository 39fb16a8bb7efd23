/* What doctor asks the kernel about the interface under a port. */
#include "doctor_priv.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <tsr/memory/sysfs.h>

static int try_af_xdp(void)
{
    int fd = socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return errno;
    }
    close(fd);
    return 0;
}

static uint64_t status_bits(const char *root, const char *key)
{
    char line[256], path[512];
    uint64_t bits = 0;
    snprintf(path, sizeof path, "%s/proc/self/status", root);
    FILE *file = fopen(path, "re");
    while (file && fgets(line, sizeof line, file)) {
        if (strncmp(line, key, strlen(key)) == 0) {
            bits = strtoull(line + strlen(key), NULL, 16);
        }
    }
    if (file) {
        fclose(file);
    }
    return bits;
}

static bool ask_ethtool(int fd, const char *name, void *question)
{
    struct ifreq request = {.ifr_data = question};
    snprintf(request.ifr_name, sizeof request.ifr_name, "%s", name);
    return ioctl(fd, SIOCETHTOOL, &request) == 0;
}

static bool has_feature(int fd, const char *name, uint32_t command, uint32_t mask)
{
    struct ethtool_value value = {.cmd = command};
    return ask_ethtool(fd, name, &value) && value.data & mask;
}

static void look_at_link(struct tsr_doctor_link *link, const char *name)
{
    struct ethtool_channels channels = {.cmd = ETHTOOL_GCHANNELS};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    snprintf(link->name, sizeof link->name, "%s", name);
    link->tx_checksums = has_feature(fd, name, ETHTOOL_GTXCSUM, UINT32_MAX);
    link->tso = has_feature(fd, name, ETHTOOL_GTSO, UINT32_MAX);
    link->gso = has_feature(fd, name, ETHTOOL_GGSO, UINT32_MAX);
    link->lro = has_feature(fd, name, ETHTOOL_GFLAGS, ETH_FLAG_LRO);
    link->combined = ask_ethtool(fd, name, &channels) && channels.max_combined > 0;
    if (fd >= 0) {
        close(fd);
    }
}

/* Numbers of interfaces hold in one namespace: the other end is here only if it leads back. */
static void look_at_peer(struct tsr_doctor_port *port, const char *root)
{
    const char *format = "/sys/class/net/%s/%s";
    char name[IF_NAMESIZE];
    uint64_t own = 0, other = 0, back = 0;
    const char *link = port->link.name;
    if (tsr_sysfs_u64(root, &own, format, link, "ifindex") &&
        tsr_sysfs_u64(root, &other, format, link, "iflink") && own != other &&
        if_indextoname((unsigned)other, name) &&
        tsr_sysfs_u64(root, &back, format, name, "iflink") && back == own) {
        look_at_link(&port->peer, name);
    }
}

static uint32_t prefix_of(const struct sockaddr *mask, int family)
{
    const uint8_t *bytes = family == AF_INET
                               ? (const uint8_t *)&((const struct sockaddr_in *)mask)->sin_addr
                               : (const uint8_t *)&((const struct sockaddr_in6 *)mask)->sin6_addr;
    uint32_t n = 0;
    for (size_t i = 0; i < (family == AF_INET ? 4 : 16); i++) {
        n += (uint32_t)__builtin_popcount(bytes[i]);
    }
    return n;
}

static void add_address(struct tsr_doctor_port *port, const struct ifaddrs *a)
{
    int family = a->ifa_addr ? a->ifa_addr->sa_family : AF_UNSPEC;
    char ip[INET6_ADDRSTRLEN];
    const void *bytes =
        family == AF_INET    ? (const void *)&((struct sockaddr_in *)a->ifa_addr)->sin_addr
        : family == AF_INET6 ? (const void *)&((struct sockaddr_in6 *)a->ifa_addr)->sin6_addr
                             : NULL;
    if (!bytes || !a->ifa_netmask || strcmp(a->ifa_name, port->link.name) != 0 ||
        (family == AF_INET6 && IN6_IS_ADDR_LINKLOCAL((const struct in6_addr *)bytes)) ||
        port->n_addresses == TSR_DOCTOR_ADDRESSES_MAX) {
        return;
    }
    inet_ntop(family, bytes, ip, sizeof ip);
    snprintf(port->addresses[port->n_addresses++], TSR_DOCTOR_ADDRESS_BYTES, "%s/%u", ip,
             prefix_of(a->ifa_netmask, family));
}

void tsr_doctor_port_live(struct tsr_doctor_port *port, const char *root)
{
    char name[IF_NAMESIZE];
    struct ifaddrs *all = NULL;
    port->capabilities = status_bits(root, "CapEff:");
    port->bounding = status_bits(root, "CapBnd:");
    port->af_xdp = try_af_xdp();
    tsr_doctor_interface(root, port->device, name, sizeof name);
    if (!name[0]) {
        return;
    }
    look_at_link(&port->link, name);
    look_at_peer(port, root);
    if (getifaddrs(&all) == 0) {
        for (const struct ifaddrs *a = all; a; a = a->ifa_next) {
            add_address(port, a);
        }
        freeifaddrs(all);
    }
}
