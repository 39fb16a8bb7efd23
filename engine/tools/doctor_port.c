/* What a port of tessera-bypass lacks on this machine. */
#include "doctor_priv.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <libgen.h>
#include <linux/capability.h>
#include <linux/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <tsr/memory/sysfs.h>

#define PCI "/sys/bus/pci/devices"
#define NET "/sys/class/net"

enum {
    PATH_BYTES = 512,
    NAME_BYTES = 256,
    MTU_MIN = 1280,
    MTU_XDP_MAX = 3400,
    MIB_FIXED = 64, /* DPDK itself and its drivers */
    MIB_QUEUE = 40, /* 8192 packet buffers, of a page at most */
    MIB_PACKET = 4, /* two rings of net_af_packet, a queue */
    HUGE_MIB = 2,
};

enum kind { PORT_PCI, PORT_XDP, PORT_PACKET, PORT_TAP, PORT_SOCKET_FILE, PORT_OTHER };

static bool starts(const char *text, const char *with)
{
    return strncmp(text, with, strlen(with)) == 0;
}

static enum kind kind_of(const char *device)
{
    static const struct {
        const char *prefix;
        enum kind kind;
    } drivers[] = {{"net_af_xdp", PORT_XDP},        {"net_af_packet", PORT_PACKET},
                   {"net_tap", PORT_TAP},           {"net_memif", PORT_SOCKET_FILE},
                   {"net_vhost", PORT_SOCKET_FILE}, {"net_virtio_user", PORT_SOCKET_FILE}};
    char address[NAME_BYTES];
    for (size_t i = 0; i < sizeof drivers / sizeof *drivers; i++) {
        if (starts(device, drivers[i].prefix)) {
            return drivers[i].kind;
        }
    }
    tsr_doctor_pci(device, address, sizeof address);
    return address[0] ? PORT_PCI : PORT_OTHER;
}

void tsr_doctor_argument(const char *device, const char *key, char *value, size_t size)
{
    value[0] = '\0';
    for (const char *at = strchr(device, ','); at; at = strchr(at, ',')) {
        at++;
        if (starts(at, key) && at[strlen(key)] == '=') {
            at += strlen(key) + 1;
            snprintf(value, size, "%.*s", (int)strcspn(at, ","), at);
        }
    }
}

void tsr_doctor_pci(const char *device, char *address, size_t size)
{
    unsigned domain = 0, bus, slot, function;
    int end = 0;
    bool is_long =
        sscanf(device, "%4x:%2x:%2x.%1x%n", &domain, &bus, &slot, &function, &end) == 4 && end;
    if (!is_long) {
        domain = 0;
        end = 0;
        is_long = sscanf(device, "%2x:%2x.%1x%n", &bus, &slot, &function, &end) == 3 && end;
    }
    address[0] = '\0';
    if (is_long && (device[end] == '\0' || device[end] == ',')) {
        snprintf(address, size, "%04x:%02x:%02x.%x", domain, bus, slot, function);
    }
}

/* The first entry of the folder whose name begins with prefix, but for "." ones. */
static bool first_entry(const char *path, const char *prefix, char *name, size_t size)
{
    DIR *folder = opendir(path);
    struct dirent *entry;
    bool found = false;
    while (folder && !found && (entry = readdir(folder))) {
        found = entry->d_name[0] != '.' && starts(entry->d_name, prefix);
        if (found) {
            snprintf(name, size, "%s", entry->d_name);
        }
    }
    if (folder) {
        closedir(folder);
    }
    return found;
}

/* A card's interface lies in its folder, virtio's one level below. */
void tsr_doctor_interface(const char *root, const char *device, char *name, size_t size)
{
    char address[NAME_BYTES], path[2 * PATH_BYTES], virtio[NAME_BYTES];
    tsr_doctor_argument(device, "iface", name, size);
    tsr_doctor_pci(device, address, sizeof address);
    if (kind_of(device) != PORT_PCI) {
        return;
    }
    name[0] = '\0';
    snprintf(path, sizeof path, "%s" PCI "/%s/net", root, address);
    if (first_entry(path, "", name, size)) {
        return;
    }
    snprintf(path, sizeof path, "%s" PCI "/%s", root, address);
    if (first_entry(path, "virtio", virtio, sizeof virtio)) {
        snprintf(path, sizeof path, "%s" PCI "/%s/%s/net", root, address, virtio);
        first_entry(path, "", name, size);
    }
}

/* Where a link under the root leads to: the last part of its target. */
static bool link_end(const struct tsr_doctor *d, const char *link, char *name, size_t size)
{
    char path[PATH_BYTES], target[PATH_BYTES];
    snprintf(path, sizeof path, "%s%s", d->root, link);
    ssize_t n = readlink(path, target, sizeof target - 1);
    if (n < 0) {
        return false;
    }
    target[n] = '\0';
    snprintf(name, size, "%s", basename(target));
    return true;
}

static bool is_there(const struct tsr_doctor *d, const char *path, int how)
{
    char whole[PATH_BYTES];
    snprintf(whole, sizeof whole, "%s%s", d->root, path);
    return access(whole, how) == 0;
}

/* ---- Capabilities, locked memory, huge pages ---- */

static const struct {
    unsigned bit;
    const char *name;
    unsigned kinds; /* that need it */
} capabilities[] = {
    {CAP_NET_ADMIN, "NET_ADMIN", 1 << PORT_XDP | 1 << PORT_PACKET | 1 << PORT_TAP},
    {CAP_NET_RAW, "NET_RAW", 1 << PORT_XDP | 1 << PORT_PACKET},
    {CAP_BPF, "BPF", 1 << PORT_XDP},
    {CAP_PERFMON, "PERFMON", 1 << PORT_XDP},
};

static bool has(uint64_t set, unsigned capability)
{
    bool stands_in = capability == CAP_BPF || capability == CAP_PERFMON;
    return set >> capability & 1 || (stands_in && set >> CAP_SYS_ADMIN & 1);
}

static void check_capabilities(struct tsr_doctor *d, enum kind kind)
{
    const struct tsr_doctor_port *port = &d->port;
    char missing[NAME_BYTES] = "", forbidden[NAME_BYTES] = "";
    size_t at = 0, forbidden_at = 0;
    for (size_t i = 0; i < sizeof capabilities / sizeof *capabilities; i++) {
        if (!(capabilities[i].kinds >> kind & 1)) {
            continue;
        }
        const char *name = capabilities[i].name;
        if (!has(port->capabilities, capabilities[i].bit)) {
            at += (size_t)snprintf(missing + at, sizeof missing - at, "%sCAP_%s", at ? ", " : "",
                                   name);
        }
        if (!has(port->bounding, capabilities[i].bit)) {
            forbidden_at += (size_t)snprintf(
                forbidden + forbidden_at, sizeof forbidden - forbidden_at, " --cap-add=%s", name);
        }
    }
    if (forbidden[0]) {
        tsr_doctor_say(d, "capabilities", TSR_FINDING_MEND,
                       "%s: nobody has them here, root neither, as in most containers", missing);
        tsr_doctor_mend(d, "docker run%s IMAGE", forbidden);
    } else if (missing[0]) {
        tsr_doctor_say(d, "capabilities", TSR_FINDING_NOTE,
                       "the door needs %s to start: run it as root, or by its systemd unit; it "
                       "gives them up",
                       missing);
    } else {
        tsr_doctor_say(d, "capabilities", TSR_FINDING_FINE, "all that the device takes");
    }
}

static unsigned locked_mib(const struct tsr_doctor *d, enum kind kind)
{
    return kind == PORT_PCI      ? MIB_FIXED + d->port.queues * MIB_QUEUE
           : kind == PORT_XDP    ? d->port.queues * MIB_QUEUE
           : kind == PORT_PACKET ? d->port.queues * MIB_PACKET
                                 : 0;
}

static void check_locked(struct tsr_doctor *d, enum kind kind)
{
    unsigned mib = locked_mib(d, kind);
    if (d->live.memlock_bytes / (1 << 20) >= mib || has(d->port.capabilities, CAP_IPC_LOCK)) {
        tsr_doctor_say(d, "memlock", TSR_FINDING_FINE, "%u MiB can be locked", mib);
        return;
    }
    tsr_doctor_say(d, "memlock", TSR_FINDING_MEND,
                   "%" PRIu64 " KiB may be locked, and the device takes %u MiB (the systemd unit "
                   "has no such limit; the command holds from the next login on)",
                   d->live.memlock_bytes / 1024, mib);
    tsr_doctor_mend(d,
                    "echo '* - memlock unlimited' | %stee /etc/security/limits.d/"
                    "tessera-memlock.conf",
                    tsr_doctor_sudo(d));
}

static void check_huge_pages(struct tsr_doctor *d)
{
    unsigned mib = MIB_FIXED + d->port.queues * MIB_QUEUE;
    uint64_t pages = 0, giga = 0, all = 0;
    if (d->port.no_huge) {
        tsr_doctor_say(d, "huge-pages", TSR_FINDING_FINE, "not wanted (--no-huge)");
        return;
    }
    tsr_sysfs_u64(d->root, &pages, "/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages");
    tsr_sysfs_u64(d->root, &all, "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages");
    tsr_sysfs_u64(d->root, &giga, "/sys/kernel/mm/hugepages/hugepages-1048576kB/free_hugepages");
    if (giga || pages * HUGE_MIB >= mib) {
        tsr_doctor_say(d, "huge-pages", TSR_FINDING_FINE, "%" PRIu64 " MiB are free, %u are taken",
                       giga * 1024 + pages * HUGE_MIB, mib);
        return;
    }
    tsr_doctor_say(d, "huge-pages", TSR_FINDING_MEND,
                   "%" PRIu64 " MiB are free, and the door takes %u, beside what the engine holds "
                   "(or start it with --no-huge)",
                   pages * HUGE_MIB, mib);
    tsr_doctor_mend(d, "echo %" PRIu64 " | %stee /proc/sys/vm/nr_hugepages",
                    all + mib / HUGE_MIB - pages, tsr_doctor_sudo(d));
}

/* ---- PCI devices ---- */

/* The kernel's driver stays, and the card is used beside it. */
static bool is_shared_driver(const char *driver)
{
    return strcmp(driver, "mlx5_core") == 0 || strcmp(driver, "mlx4_core") == 0;
}

static void list_cards(const struct tsr_doctor *d, char *list, size_t size)
{
    char path[PATH_BYTES], class[32], link[PATH_BYTES], driver[NAME_BYTES];
    snprintf(path, sizeof path, "%s" PCI, d->root);
    DIR *folder = opendir(path);
    struct dirent *entry;
    size_t at = 0;
    list[0] = '\0';
    while (folder && (entry = readdir(folder)) && at < size) {
        if (!tsr_sysfs_line(d->root, class, sizeof class, PCI "/%s/class", entry->d_name) ||
            !starts(class, "0x02")) {
            continue;
        }
        snprintf(link, sizeof link, PCI "/%s/driver", entry->d_name);
        bool bound = link_end(d, link, driver, sizeof driver);
        at += (size_t)snprintf(list + at, size - at, "%s%s (%s)", at ? ", " : "", entry->d_name,
                               bound ? driver : "no driver");
    }
    if (folder) {
        closedir(folder);
    }
}

static void list_addresses(const struct tsr_doctor_port *port, char *list, size_t size)
{
    size_t at = 0;
    list[0] = '\0';
    for (uint32_t i = 0; i < port->n_addresses && at < size; i++) {
        at += (size_t)snprintf(list + at, size - at, "%s%s", i ? ", " : "", port->addresses[i]);
    }
}

static void check_driver(struct tsr_doctor *d, const char *address)
{
    const struct tsr_doctor_port *port = &d->port;
    char link[PATH_BYTES], driver[NAME_BYTES] = "", list[NAME_BYTES];
    snprintf(link, sizeof link, PCI "/%s/driver", address);
    bool bound = link_end(d, link, driver, sizeof driver);
    if (strcmp(driver, "vfio-pci") == 0 || is_shared_driver(driver)) {
        tsr_doctor_say(d, "driver", TSR_FINDING_FINE, "%s", driver);
        return;
    }
    list_addresses(port, list, sizeof list);
    tsr_doctor_say(d, "driver", TSR_FINDING_MEND, "%s, not vfio-pci%s%s%s%s",
                   bound ? driver : "none",
                   port->link.name[0] ? ": the kernel loses the interface " : "", port->link.name,
                   list[0] ? " and what comes to " : "", list);
    const char *sudo = tsr_doctor_sudo(d);
    char unbind[2 * PATH_BYTES] = "";
    if (bound) {
        snprintf(unbind, sizeof unbind, " && echo %s | %stee " PCI "/%s/driver/unbind", address,
                 sudo, address);
    }
    tsr_doctor_mend(d,
                    "%smodprobe vfio-pci && echo vfio-pci | %stee " PCI "/%s/driver_override%s && "
                    "echo %s | %stee /sys/bus/pci/drivers_probe",
                    sudo, sudo, address, unbind, address, sudo);
}

/* Devices of the group that others drive: vfio gives nobody a part of a group. Bridges may stay. */
static void list_companions(const struct tsr_doctor *d, const char *group, const char *address,
                            char *list, size_t size)
{
    char path[PATH_BYTES], link[PATH_BYTES], driver[NAME_BYTES], class[32] = "";
    snprintf(path, sizeof path, "%s/sys/kernel/iommu_groups/%s/devices", d->root, group);
    DIR *folder = opendir(path);
    struct dirent *entry;
    size_t at = 0;
    list[0] = '\0';
    while (folder && (entry = readdir(folder)) && at < size) {
        snprintf(link, sizeof link, PCI "/%s/driver", entry->d_name);
        tsr_sysfs_line(d->root, class, sizeof class, PCI "/%s/class", entry->d_name);
        if (entry->d_name[0] != '.' && strcmp(entry->d_name, address) != 0 &&
            !starts(class, "0x0604") && link_end(d, link, driver, sizeof driver) &&
            strcmp(driver, "vfio-pci") != 0) {
            at += (size_t)snprintf(list + at, size - at, "%s%s", at ? " " : "", entry->d_name);
        }
    }
    if (folder) {
        closedir(folder);
    }
}

static void say_no_iommu(struct tsr_doctor *d)
{
    const char *sudo = tsr_doctor_sudo(d);
    tsr_doctor_say(d, "iommu", TSR_FINDING_MEND,
                   "the device is in no IOMMU group, and vfio-pci needs one: switch VT-d or AMD-Vi "
                   "on in the firmware, or a virtual IOMMU in the hypervisor; Intel's also wants "
                   "the kernel's parameter");
    tsr_doctor_mend(d,
                    "%ssed -i 's/^GRUB_CMDLINE_LINUX=\"/&intel_iommu=on iommu=pt /' "
                    "/etc/default/grub && %supdate-grub && %sreboot",
                    sudo, sudo, sudo);
}

static void check_group(struct tsr_doctor *d, const char *address)
{
    char link[PATH_BYTES], group[NAME_BYTES], list[NAME_BYTES], path[PATH_BYTES];
    const char *sudo = tsr_doctor_sudo(d);
    snprintf(link, sizeof link, PCI "/%s/iommu_group", address);
    if (!link_end(d, link, group, sizeof group)) {
        say_no_iommu(d);
        return;
    }
    list_companions(d, group, address, list, sizeof list);
    if (list[0]) {
        tsr_doctor_say(d, "iommu", TSR_FINDING_MEND,
                       "IOMMU group %s is given away whole, and its other devices have drivers of "
                       "the kernel; the command takes them away",
                       group);
        tsr_doctor_mend(d,
                        "for d in %s; do echo vfio-pci | %stee " PCI "/$d/driver_override; echo $d "
                        "| %stee " PCI "/$d/driver/unbind /sys/bus/pci/drivers_probe; done",
                        list, sudo, sudo);
        return;
    }
    tsr_doctor_say(d, "iommu", TSR_FINDING_FINE, "group %s holds nothing else", group);
    snprintf(path, sizeof path, "/dev/vfio/%s", group);
    if (is_there(d, path, F_OK) && !is_there(d, path, R_OK | W_OK)) {
        tsr_doctor_say(d, "vfio", TSR_FINDING_MEND,
                       "%s is not ours to open: run the door as root, or give it to the systemd "
                       "unit's user",
                       path);
        tsr_doctor_mend(d,
                        "echo 'SUBSYSTEM==\"vfio\", GROUP=\"tessera-bypass\", MODE=\"0660\"' | "
                        "%stee /etc/udev/rules.d/90-tessera.rules && %sudevadm trigger "
                        "--subsystem-match=vfio",
                        sudo, sudo);
    }
}

static void check_pci(struct tsr_doctor *d)
{
    char address[NAME_BYTES], class[32], list[NAME_BYTES], link[PATH_BYTES], driver[NAME_BYTES];
    tsr_doctor_pci(d->port.device, address, sizeof address);
    if (!tsr_sysfs_line(d->root, class, sizeof class, PCI "/%s/class", address)) {
        list_cards(d, list, sizeof list);
        tsr_doctor_say(d, "device", TSR_FINDING_MEND,
                       "there is no PCI device %s; network cards: %s", address,
                       list[0] ? list : "none");
        tsr_doctor_mend(d, "grep -l ^0x02 " PCI "/*/class");
        return;
    }
    if (!starts(class, "0x02")) {
        tsr_doctor_say(d, "device", TSR_FINDING_NOTE, "%s is no network card (PCI class %s)",
                       address, class);
    } else {
        tsr_doctor_say(d, "device", TSR_FINDING_FINE, "%s", address);
    }
    check_driver(d, address);
    snprintf(link, sizeof link, PCI "/%s/driver", address);
    if (!link_end(d, link, driver, sizeof driver) || !is_shared_driver(driver)) {
        check_group(d, address);
    }
}

/* ---- Interfaces of the kernel ---- */

static void check_up(struct tsr_doctor *d, const char *name)
{
    char flags[32] = "", carrier[8] = "1";
    tsr_sysfs_line(d->root, flags, sizeof flags, NET "/%s/flags", name);
    tsr_sysfs_line(d->root, carrier, sizeof carrier, NET "/%s/carrier", name);
    if (!(strtoul(flags, NULL, 16) & IFF_UP)) {
        tsr_doctor_say(d, "link", TSR_FINDING_MEND, "%s is down", name);
        tsr_doctor_mend(d, "%sip link set %s up", tsr_doctor_sudo(d), name);
    } else if (carrier[0] == '0') {
        tsr_doctor_say(d, "link", TSR_FINDING_NOTE,
                       "%s is up, but has no carrier: no cable, or its other end is down", name);
    } else {
        tsr_doctor_say(d, "link", TSR_FINDING_FINE, "%s is up", name);
    }
}

static void check_mtu(struct tsr_doctor *d, const char *name, bool is_xdp)
{
    uint64_t mtu = 0;
    tsr_sysfs_u64(d->root, &mtu, NET "/%s/mtu", name);
    uint64_t wanted = mtu < MTU_MIN ? MTU_MIN : is_xdp && mtu > MTU_XDP_MAX ? MTU_XDP_MAX : mtu;
    if (mtu == wanted) {
        tsr_doctor_say(d, "mtu", TSR_FINDING_FINE, "%" PRIu64, mtu);
        return;
    }
    tsr_doctor_say(d, "mtu", TSR_FINDING_MEND,
                   mtu < MTU_MIN ? "%" PRIu64 " on %s: QUIC needs %" PRIu64
                                 : "%" PRIu64 " on %s: AF_XDP's buffers carry at most %" PRIu64,
                   mtu, name, wanted);
    tsr_doctor_mend(d, "%sip link set %s mtu %" PRIu64, tsr_doctor_sudo(d), name, wanted);
}

static uint32_t count_queues(const struct tsr_doctor *d, const char *name, const char *kind)
{
    char path[PATH_BYTES];
    uint32_t n = 0;
    do {
        snprintf(path, sizeof path, NET "/%s/queues/%s-%u", name, kind, n);
    } while (is_there(d, path, F_OK) && ++n);
    return n;
}

static void mend_queues(struct tsr_doctor *d, const struct tsr_doctor_link *link, const char *name)
{
    uint32_t n = d->port.queues;
    if (link->combined) {
        tsr_doctor_mend(d, "%sethtool -L %s combined %u", tsr_doctor_sudo(d), name, n);
    } else {
        tsr_doctor_mend(d, "%sethtool -L %s rx %u tx %u", tsr_doctor_sudo(d), name, n, n);
    }
}

/* Packets on a queue that the door does not have go to the kernel, which serves nobody there. */
static void check_queues(struct tsr_doctor *d, const char *name)
{
    const struct tsr_doctor_port *port = &d->port;
    uint32_t n = count_queues(d, name, "rx"), peers = count_queues(d, port->peer.name, "tx");
    if (n != port->queues) {
        tsr_doctor_say(d, "queues", TSR_FINDING_MEND,
                       "%s receives by %u queues, and the door has %u%s", name, n, port->queues,
                       n > port->queues ? ": what comes by the others is lost" : "");
        mend_queues(d, &port->link, name);
    }
    if (port->peer.name[0] && peers > port->queues) {
        tsr_doctor_say(d, "queues", TSR_FINDING_MEND,
                       "%s, the other end of %s, sends by %u queues: %s takes no XDP program with "
                       "fewer of its own",
                       port->peer.name, name, peers, name);
        mend_queues(d, &port->peer, port->peer.name);
    } else if (n == port->queues) {
        tsr_doctor_say(d, "queues", TSR_FINDING_FINE, "%u, as the door has", n);
    }
}

/* A card finishes packets before the wire; what is virtual hands them over as they are. */
static void check_offloads(struct tsr_doctor *d, const char *name, bool is_xdp)
{
    const struct tsr_doctor_port *port = &d->port;
    const struct tsr_doctor_link *peer = &port->peer;
    uint64_t own = 0, other = 0;
    tsr_sysfs_u64(d->root, &own, NET "/%s/ifindex", name);
    tsr_sysfs_u64(d->root, &other, NET "/%s/iflink", name);
    if (is_xdp && port->link.lro) {
        tsr_doctor_say(d, "offloads", TSR_FINDING_MEND,
                       "%s joins packets (LRO), and XDP programs take none such", name);
        tsr_doctor_mend(d, "%sethtool -K %s lro off", tsr_doctor_sudo(d), name);
    } else if (own == other) {
        tsr_doctor_say(d, "offloads", TSR_FINDING_FINE, "packets come whole");
    } else if (!peer->name[0]) {
        tsr_doctor_say(d, "offloads", TSR_FINDING_NOTE,
                       "the other end of %s, interface %" PRIu64 " of another namespace, must hand "
                       "over whole packets; there: ethtool -K NAME tx off gso off tso off",
                       name, other);
    } else if (peer->tx_checksums || peer->gso || peer->tso) {
        tsr_doctor_say(d, "offloads", TSR_FINDING_MEND,
                       "%s, the other end of %s, hands over packets without checksums, or joined",
                       peer->name, name);
        tsr_doctor_mend(d, "%sethtool -K %s tx off gso off tso off", tsr_doctor_sudo(d),
                        peer->name);
    } else {
        tsr_doctor_say(d, "offloads", TSR_FINDING_FINE, "%s hands over whole packets", peer->name);
    }
}

/* "192.0.2.2" of "192.0.2.2/24:443", "2001:db8::2" of "[2001:db8::2/64]:443"; prefix: "/24" or "".
 * false where it is no address. */
static bool read_listen(const char *text, char *ip, char *prefix)
{
    uint8_t bytes[16];
    bool v6 = text[0] == '[';
    text += v6;
    size_t n = strcspn(text, v6 ? "/]" : "/:");
    snprintf(ip, INET6_ADDRSTRLEN, "%.*s", (int)n, text);
    bool good = inet_pton(v6 ? AF_INET6 : AF_INET, ip, bytes) == 1;
    if (good) {
        inet_ntop(v6 ? AF_INET6 : AF_INET, bytes, ip, INET6_ADDRSTRLEN);
    }
    text += n;
    snprintf(prefix, TSR_DOCTOR_ADDRESS_BYTES, "%.*s",
             text[0] == '/' ? (int)strcspn(text, ":]") : 0, text);
    return good;
}

/* As the kernel has it, with its prefix; NULL. */
static const char *find_address(const struct tsr_doctor_port *port, const char *ip)
{
    for (uint32_t i = 0; i < port->n_addresses; i++) {
        if (starts(port->addresses[i], ip) && port->addresses[i][strlen(ip)] == '/') {
            return port->addresses[i];
        }
    }
    return NULL;
}

static void check_listen(struct tsr_doctor *d, const char *name, bool is_xdp, const char *listen)
{
    char ip[INET6_ADDRSTRLEN], prefix[TSR_DOCTOR_ADDRESS_BYTES];
    const char *sudo = tsr_doctor_sudo(d);
    if (!read_listen(listen, ip, prefix)) {
        tsr_doctor_say(d, "address", TSR_FINDING_NOTE,
                       "%s is no address with a port, as 192.0.2.2/24:443 or [2001:db8::2/64]:443",
                       listen);
        return;
    }
    const char *found = find_address(&d->port, ip);
    if (is_xdp && !found) {
        tsr_doctor_say(d, "address", TSR_FINDING_MEND,
                       "the kernel has no %s on %s, and it is the kernel that is asked for it "
                       "(ARP, neighbour discovery)",
                       ip, name);
        tsr_doctor_mend(d, "%sip address add %s%s dev %s", sudo, ip,
                        prefix[0]         ? prefix
                        : strchr(ip, ':') ? "/64"
                                          : "/24",
                        name);
    } else if (!is_xdp && found) {
        tsr_doctor_say(d, "address", TSR_FINDING_MEND,
                       "the kernel has %s on %s too, and answers there that nobody listens", found,
                       name);
        tsr_doctor_mend(d, "%sip address del %s dev %s", sudo, found, name);
    } else {
        tsr_doctor_say(d, "address", TSR_FINDING_FINE, "%s is %s", ip,
                       is_xdp ? "the kernel's too" : "the door's alone");
    }
}

static void check_addresses(struct tsr_doctor *d, const char *name, bool is_xdp)
{
    const struct tsr_doctor_port *port = &d->port;
    char list[NAME_BYTES];
    for (uint32_t i = 0; i < port->n_listen; i++) {
        check_listen(d, name, is_xdp, port->listen[i]);
    }
    if (port->n_listen) {
        return;
    }
    list_addresses(port, list, sizeof list);
    if (is_xdp && port->n_addresses == 0) {
        tsr_doctor_say(d, "address", TSR_FINDING_MEND,
                       "the kernel has none on %s, and is asked for those of the door (ARP, "
                       "neighbour discovery)",
                       name);
        tsr_doctor_mend(d, "%sip address add ADDRESS/PREFIX dev %s", tsr_doctor_sudo(d), name);
    } else if (!is_xdp && port->n_addresses) {
        tsr_doctor_say(d, "address", TSR_FINDING_NOTE,
                       "the kernel has %s on %s: the door cannot have the same", list, name);
    } else {
        tsr_doctor_say(d, "address", TSR_FINDING_FINE, "%s", list[0] ? list : "none of the kernel");
    }
}

static void check_xdp(struct tsr_doctor *d)
{
    const struct tsr_doctor_port *port = &d->port;
    if (port->af_xdp == 0) {
        tsr_doctor_say(d, "af_xdp", TSR_FINDING_FINE, "this kernel has it");
    } else if (port->af_xdp == EAFNOSUPPORT) {
        tsr_doctor_say(d, "af_xdp", TSR_FINDING_MEND,
                       "this kernel is built without AF_XDP (CONFIG_XDP_SOCKETS); Debian's has it");
        tsr_doctor_mend(d, "%sapt-get install linux-image-amd64 && %sreboot", tsr_doctor_sudo(d),
                        tsr_doctor_sudo(d));
    }
}

static void check_interface(struct tsr_doctor *d, enum kind kind)
{
    char name[TSR_DOCTOR_LINK_BYTES], path[PATH_BYTES];
    bool is_xdp = kind == PORT_XDP;
    tsr_doctor_interface(d->root, d->port.device, name, sizeof name);
    snprintf(path, sizeof path, NET "/%s", name);
    if (!name[0] || !is_there(d, path, F_OK)) {
        tsr_doctor_say(d, "device", TSR_FINDING_MEND,
                       name[0] ? "there is no interface %s here"
                               : "no interface is named: add ,iface=NAME%s",
                       name);
        tsr_doctor_mend(d, "ip -brief link");
        return;
    }
    tsr_doctor_say(d, "device", TSR_FINDING_FINE, "%s", name);
    if (is_xdp) {
        check_xdp(d);
    }
    check_up(d, name);
    check_mtu(d, name, is_xdp);
    if (is_xdp) {
        check_queues(d, name);
    }
    check_offloads(d, name, is_xdp);
    check_addresses(d, name, is_xdp);
}

/* ---- Links to processes and guests ---- */

static void check_node(struct tsr_doctor *d, const char *file)
{
    if (!is_there(d, file, F_OK)) {
        tsr_doctor_say(d, "device", TSR_FINDING_MEND, "there is no %s", file);
        tsr_doctor_mend(d, "%smodprobe -a tun vhost_net", tsr_doctor_sudo(d));
    } else if (!is_there(d, file, R_OK | W_OK)) {
        tsr_doctor_say(d, "device", TSR_FINDING_NOTE, "%s takes root to open: start the door so",
                       file);
    } else {
        tsr_doctor_say(d, "device", TSR_FINDING_FINE, "%s", file);
    }
}

static void check_socket(struct tsr_doctor *d, const char *file)
{
    char folder[PATH_BYTES];
    snprintf(folder, sizeof folder, "%s", file);
    if (file[0] != '/' || is_there(d, dirname(folder), W_OK)) {
        tsr_doctor_say(d, "device", TSR_FINDING_FINE, "%s", d->port.device);
        return;
    }
    tsr_doctor_say(d, "device", TSR_FINDING_MEND,
                   "the folder of %s is not there, or not ours to write to", file);
    tsr_doctor_mend(d, "%sinstall -d -o \"$(id -un)\" %s", tsr_doctor_sudo(d), folder);
}

static void check_files(struct tsr_doctor *d, enum kind kind)
{
    static const char *const keys[] = {"socket", "path", "iface"};
    char file[PATH_BYTES] = "/dev/net/tun";
    for (size_t i = 0; kind == PORT_SOCKET_FILE && i < sizeof keys / sizeof *keys; i++) {
        tsr_doctor_argument(d->port.device, keys[i], file, sizeof file);
        if (file[0]) {
            break;
        }
    }
    if (starts(file, "/dev/")) {
        check_node(d, file);
    } else {
        check_socket(d, file);
    }
}

void tsr_doctor_look_port(struct tsr_doctor *d)
{
    enum kind kind = kind_of(d->port.device);
    switch (kind) {
    case PORT_PCI:
        check_pci(d);
        break;
    case PORT_XDP:
    case PORT_PACKET:
        check_interface(d, kind);
        break;
    case PORT_TAP:
    case PORT_SOCKET_FILE:
        check_files(d, kind);
        break;
    case PORT_OTHER:
        tsr_doctor_say(d, "device", TSR_FINDING_NOTE,
                       "%s is neither a PCI address nor a driver of which more is known here",
                       d->port.device);
        break;
    }
    check_capabilities(d, kind);
    check_locked(d, kind);
    check_huge_pages(d);
}
