/* A DPDK device as ports: EAL, buffers, queues, bursts. */
#include "host_priv.h"
#include "port_priv.h"
#include "steer_priv.h"
#include "touch_priv.h"

#include <errno.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <rte_dev.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_interrupts.h>
#include <rte_lcore.h>
#include <rte_log.h>
#include <rte_mbuf.h>

#include <tsr/shm/log.h>

enum {
    CACHE = 256,
    DESCRIPTORS = 1024,
    MTU_DEFAULT = 1500,
    ARGUMENTS_MAX = 16 + TSR_PORT_EAL_MAX,
    DEVICE_MAX = 512,
    EAL_MIB = 96,     /* what EAL and the drivers take beside the buffers */
    PACKET_HEAD = 52, /* what the kernel puts before a frame of AF_PACKET's (TPACKET2_HDRLEN) */
    XDP_HEAD = 256,   /* and before one of AF_XDP's (XDP_PACKET_HEADROOM) */
    BUFFER_HEAD =
        384, /* of a packet buffer in its pool: mempool's and mbuf's heads, headroom, alignment */
    BUFFER_MIN = 2048, /* what memif and most cards expect */
    TOUCH_MIB = 64,    /* of all that a peer brings */
};

/* One device; its first port owns it. */
struct device {
    uint16_t id;
    uint32_t queues;
    struct rte_mempool *pool;
    struct rte_device *handle;
    bool device_sums;
    bool interrupts; /* it was asked to, and has not refused */
    unsigned iface;  /* index of the kernel's interface under it; 0: none */
    struct tsr_steer steer;
};

struct dpdk_port {
    struct tsr_port port;
    struct device *device;
    uint16_t queue;
    int interrupt; /* an epoll descriptor; -1: the queue has none */
    uint32_t n_tx;
    struct rte_mbuf *tx[TSR_PORT_BURST];
    struct rte_mbuf *next; /* whose payload room() gave */
    FILE *maps;            /* with memif: where the peer's memory is */
    bool touched;          /* since its link was last seen down */
    struct tsr_host host;
};

/* What follows from the options before EAL is there. */
struct plan {
    char name[64];        /* the device's, without its arguments */
    char iface[IFNAMSIZ]; /* the kernel's interface under it; "" without one */
    bool is_pci, is_xdp, is_packet, is_memif;
    bool is_steered; /* by our own XDP program */
    uint16_t mtu;
    uint16_t buffer_bytes; /* data room of a packet buffer */
    uint32_t buffers;
    const struct tsr_port_options *options;
};

/* --- planning --- */

static int ask_interface(const char *iface, unsigned long what, struct ifreq *request)
{
    snprintf(request->ifr_name, sizeof request->ifr_name, "%s", iface);
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    int rc = fd < 0 || ioctl(fd, what, request) < 0 ? -errno : 0;
    if (fd >= 0) {
        close(fd);
    }
    return rc;
}

static int interface_mtu(const char *iface, struct tsr_err *err)
{
    struct ifreq request = {0};
    int rc = ask_interface(iface, SIOCGIFMTU, &request);
    return rc < 0
               ? tsr_err_set(err, rc, "The interface %s: %s. `ip link` lists those that are there.",
                             iface, strerror(-rc))
               : request.ifr_mtu;
}

/* net_af_xdp takes only queues that receive and send together, and one where there are none. */
static int plan_xdp_queues(const struct plan *plan, struct tsr_err *err)
{
    struct ethtool_channels channels = {.cmd = ETHTOOL_GCHANNELS};
    struct ifreq request = {.ifr_data = (char *)&channels};
    char text[16];
    int rc = ask_interface(plan->iface, SIOCETHTOOL, &request);
    tsr_port_argument(plan->options->device, "queue_count", text, sizeof text);
    unsigned long wanted = strtoul(text, NULL, 10);
    if (rc < 0 || channels.max_combined == 0) {
        return wanted <= 1 ? 0
                           : tsr_err_set(err, -EINVAL,
                                         "%s has no queues that receive and send together (veth "
                                         "has none), so net_af_xdp takes one: leave out "
                                         "queue_count=%lu.",
                                         plan->iface, wanted);
    }
    return wanted <= channels.combined_count
               ? 0
               : tsr_err_set(err, -EINVAL,
                             "%s has %u queues now and %lu are asked for: set more (ethtool -L %s "
                             "combined %lu; at most %u), or ask for less.",
                             plan->iface, channels.combined_count, wanted, plan->iface, wanted,
                             channels.max_combined);
}

static int plan_mtu(struct plan *plan, struct tsr_err *err)
{
    uint16_t wanted = plan->options->mtu;
    plan->mtu = wanted ? wanted : MTU_DEFAULT;
    if (!plan->iface[0]) {
        return 0;
    }
    int link = interface_mtu(plan->iface, err);
    if (link < 0) {
        return link;
    }
    if (wanted > link) {
        return tsr_err_set(
            err, -EINVAL,
            "The MTU %u is above that of %s, %d: raise that first (ip link set %s mtu "
            "%u), or ask for less.",
            wanted, plan->iface, link, plan->iface, wanted);
    }
    if (link < TSR_PORT_MTU_MIN) {
        return tsr_err_set(err, -EINVAL, "The MTU of %s is %d: QUIC needs %d.", plan->iface, link,
                           TSR_PORT_MTU_MIN);
    }
    if (!wanted) {
        plan->mtu = (uint16_t)(link < TSR_PORT_MTU_MAX ? link : TSR_PORT_MTU_MAX);
    }
    return 0;
}

/* net_af_packet copies a frame into one buffer without looking at its size: it must hold the
 * largest. */
static int plan_buffers(struct plan *plan, struct tsr_err *err)
{
    uint32_t frame = plan->mtu + TSR_ETHERNET_BYTES + TSR_VLAN_BYTES;
    uint32_t bytes = frame > BUFFER_MIN ? frame : BUFFER_MIN;
    if (plan->is_packet) {
        char text[16];
        tsr_port_argument(plan->options->device, "framesz", text, sizeof text);
        uint32_t framesz = text[0] ? (uint32_t)strtoul(text, NULL, 10) : 2048;
        if (framesz < frame + PACKET_HEAD || framesz > 32768) {
            return tsr_err_set(err, -EINVAL,
                               "net_af_packet's frames of %u bytes do not carry the MTU %u: add "
                               "framesz=%u,blocksz=%u to '%s'.",
                               framesz, plan->mtu, frame > 8000 ? 16384 : 4096,
                               frame > 8000 ? 16384 : 4096, plan->options->device);
        }
        bytes = framesz > bytes ? framesz : bytes;
    }
    if (plan->is_xdp && frame + XDP_HEAD > bytes) {
        bytes = frame + XDP_HEAD;
    }
    if (plan->is_xdp && bytes + BUFFER_HEAD > 4096) {
        return tsr_err_set(err, -EINVAL,
                           "AF_XDP's buffers are one page, which carries an MTU of at most 3,400 "
                           "bytes: that of %s is %u; set a smaller one (ip link set %s mtu 3400).",
                           plan->iface, plan->mtu, plan->iface);
    }
    plan->buffer_bytes = (uint16_t)(bytes + RTE_PKTMBUF_HEADROOM);
    plan->buffers = plan->options->buffers ? plan->options->buffers
                                           : plan->options->queues * TSR_PORT_BUFFERS_DEFAULT;
    if (plan->buffers < TSR_PORT_BUFFERS_MIN * plan->options->queues) {
        return tsr_err_set(err, -EINVAL, "%u packet buffers are too few for %u queues: give %u.",
                           plan->buffers, plan->options->queues,
                           TSR_PORT_BUFFERS_MIN * plan->options->queues);
    }
    return 0;
}

static int make_plan(struct plan *plan, const struct tsr_port_options *options, struct tsr_err *err)
{
    const char *device = options->device;
    char program[2];
    if (!device || !device[0] || strlen(device) >= DEVICE_MAX - 64) {
        return tsr_err_set(err, -EINVAL,
                           "No device is named for DPDK: give a PCI address, or a driver with its "
                           "arguments such as net_af_xdp0,iface=eth1.");
    }
    snprintf(plan->name, sizeof plan->name, "%.*s", (int)strcspn(device, ","), device);
    plan->options = options;
    plan->is_pci = strchr(plan->name, ':') != NULL;
    plan->is_xdp = tsr_port_is(device, "net_af_xdp");
    plan->is_packet = tsr_port_is(device, "net_af_packet");
    plan->is_memif = tsr_port_is(device, "net_memif");
    if (plan->is_xdp || plan->is_packet) {
        tsr_port_argument(device, "iface", plan->iface, sizeof plan->iface);
        tsr_port_argument(device, "xdp_prog", program, sizeof program);
        plan->is_steered = plan->is_xdp && !program[0];
        if (!plan->iface[0]) {
            return tsr_err_set(err, -EINVAL, "'%s' names no interface: add iface=NAME.", device);
        }
    }
    for (uint32_t i = 0; i < options->n_listen; i++) {
        const struct tsr_address *address = &options->listen[i].address;
        static const uint8_t unspecified[16];
        if (address->port == 0 || memcmp(address->ip, unspecified, sizeof unspecified) == 0) {
            return tsr_err_set(err, -EINVAL,
                               "A DPDK port listens on addresses and UDP ports that are named: "
                               "neither may be 0.");
        }
    }
    int rc = plan_mtu(plan, err);
    rc = rc || !plan->is_xdp ? rc : plan_xdp_queues(plan, err);
    return rc ? rc : plan_buffers(plan, err);
}

/* --- EAL --- */

static bool is_eal_up;
static char last_line[256]; /* what DPDK said last, for the sentence of an error */

static ssize_t take_log(void *ctx, const char *text, size_t size)
{
    size_t line = size;
    (void)ctx;
    while (line && (text[line - 1] == '\n' || text[line - 1] == '.')) {
        line--;
    }
    if (line) {
        snprintf(last_line, sizeof last_line, "%.*s", (int)line, text);
        tsr_log(TSR_LOG_DEBUG, "dpdk: %s", last_line);
    }
    return (ssize_t)size;
}

static int first_cpu(void)
{
    cpu_set_t cpus;
    if (sched_getaffinity(0, sizeof cpus, &cpus) == 0) {
        for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
            if (CPU_ISSET((size_t)cpu, &cpus)) {
                return cpu;
            }
        }
    }
    return 0;
}

/* In memory alone: no files are left, and no second process can join. */
static int start_eal(const struct plan *plan, struct tsr_err *err)
{
    const struct tsr_port_options *options = plan->options;
    char core[32], mebibytes[16], pci[64];
    char *arguments[ARGUMENTS_MAX] = {"tessera", "--no-telemetry", "--lcores", core};
    int n = 4;
    if (is_eal_up) {
        return 0;
    }
    static const cookie_io_functions_t functions = {.write = take_log};
    FILE *log = fopencookie(NULL, "w", functions);
    if (log) {
        setvbuf(log, NULL, _IOLBF, 512);
        rte_openlog_stream(log);
    }
    snprintf(core, sizeof core, "0@%d", options->cpu < 0 ? first_cpu() : options->cpu);
    snprintf(pci, sizeof pci, "%s", plan->name);
    arguments[n++] = plan->is_pci ? "-a" : "--no-pci";
    if (plan->is_pci) {
        arguments[n++] = pci;
    }
    if (options->no_huge) {
        uint64_t bytes = (uint64_t)plan->buffers * (plan->buffer_bytes + 512u);
        snprintf(mebibytes, sizeof mebibytes, "%u", (unsigned)(bytes >> 20) + EAL_MIB);
        arguments[n++] = "--no-huge"; /* which DPDK 22.11 does not take beside --in-memory */
        arguments[n++] = "--no-shconf";
        arguments[n++] = "-m";
        arguments[n++] = mebibytes;
    } else {
        arguments[n++] = "--in-memory";
    }
    for (int i = 0; i < TSR_PORT_EAL_MAX && options->eal[i]; i++) {
        arguments[n++] = (char *)(uintptr_t)options->eal[i];
    }
    cpu_set_t before;
    bool moves = sched_getaffinity(0, sizeof before, &before) == 0 && options->cpu < 0;
    int rc = rte_eal_init(n, arguments);
    if (moves) {
        sched_setaffinity(0, sizeof before, &before);
    }
    if (rc < 0) {
        return tsr_err_set(err, rte_errno ? -rte_errno : -EIO,
                           "DPDK does not start (%s): %s. `tessera doctor` says what a port "
                           "needs; without huge pages ask for ordinary ones.",
                           rte_strerror(rte_errno), last_line);
    }
    is_eal_up = true;
    return 0;
}

/* --- the device --- */

/* net_af_xdp gets our steering program, unless it is given another. */
static int probe(struct device *device, const struct plan *plan, struct tsr_err *err)
{
    char arguments[DEVICE_MAX];
    snprintf(arguments, sizeof arguments, "%s", plan->options->device);
    if (plan->is_steered) {
        int rc = tsr_steer_open(&device->steer, plan->iface, err);
        if (rc < 0) {
            return rc;
        }
        snprintf(arguments, sizeof arguments, "%s,xdp_prog=/proc/self/fd/%d", plan->options->device,
                 device->steer.object);
    }
    bool is_there = plan->is_pci && rte_eth_dev_get_port_by_name(plan->name, &device->id) == 0;
    int rc = is_there ? 0 : rte_dev_probe(arguments);
    if (rc == 0 && rte_eth_dev_get_port_by_name(plan->name, &device->id) < 0) {
        rc = -ENODEV;
    }
    return rc < 0 ? tsr_err_set(err, rc,
                                "The device '%s' cannot be opened: %s (%s). `tessera doctor "
                                "--device %s` says what it lacks.",
                                plan->options->device, rte_strerror(-rc), last_line, plan->name)
                  : 0;
}

static int make_pool(struct device *device, const struct plan *plan, struct tsr_err *err)
{
    char name[RTE_MEMPOOL_NAMESIZE];
    snprintf(name, sizeof name, "tessera%u", device->id);
    device->pool = rte_pktmbuf_pool_create(name, plan->buffers, CACHE, 0, plan->buffer_bytes,
                                           rte_eth_dev_socket_id(device->id));
    return device->pool
               ? 0
               : tsr_err_set(err, -ENOMEM,
                             "%u packet buffers of %u bytes cannot be had: %s. Reserve more "
                             "huge pages, or ask for fewer buffers.",
                             plan->buffers, plan->buffer_bytes, rte_strerror(rte_errno));
}

static int configure(struct device *device, const struct plan *plan,
                     const struct rte_eth_dev_info *info)
{
    const uint64_t tx = RTE_ETH_TX_OFFLOAD_IPV4_CKSUM | RTE_ETH_TX_OFFLOAD_UDP_CKSUM;
    const uint64_t rx = RTE_ETH_RX_OFFLOAD_IPV4_CKSUM | RTE_ETH_RX_OFFLOAD_UDP_CKSUM;
    struct rte_eth_conf conf = {.intr_conf.rxq = device->interrupts};
    uint16_t queues = (uint16_t)device->queues, n_rx = DESCRIPTORS, n_tx = DESCRIPTORS;
    device->device_sums = (info->tx_offload_capa & tx) == tx;
    conf.txmode.offloads = device->device_sums ? tx : 0;
    conf.rxmode.offloads = info->rx_offload_capa & rx;
    if (queues > 1 && info->flow_type_rss_offloads) {
        conf.rxmode.mq_mode = RTE_ETH_MQ_RX_RSS;
        conf.rx_adv_conf.rss_conf.rss_hf =
            info->flow_type_rss_offloads & (RTE_ETH_RSS_IP | RTE_ETH_RSS_UDP);
    }
    int rc = rte_eth_dev_configure(device->id, queues, queues, &conf);
    if (rc == 0 && !plan->iface[0] && !plan->is_memif && plan->mtu != MTU_DEFAULT) {
        rc = rte_eth_dev_set_mtu(device->id, plan->mtu);
    }
    if (rc == 0) {
        rc = rte_eth_dev_adjust_nb_rx_tx_desc(device->id, &n_rx, &n_tx);
    }
    unsigned node = (unsigned)rte_eth_dev_socket_id(device->id);
    for (uint16_t q = 0; rc == 0 && q < queues; q++) {
        rc = rte_eth_rx_queue_setup(device->id, q, n_rx, node, NULL, device->pool);
        rc = rc ? rc : rte_eth_tx_queue_setup(device->id, q, n_tx, node, NULL);
    }
    return rc;
}

/* net_vhost takes a guest's descriptors away in another thread as the guest goes. net_tap does not
 * read a queue before a signal, which the first thread takes for all. */
static bool may_interrupt(const struct plan *plan)
{
    const char *device = plan->options->device;
    bool has = !plan->is_xdp && !plan->is_packet && !plan->is_memif; /* their drivers have none */
    return has && !tsr_port_is(device, "net_vhost") &&
           !(tsr_port_is(device, "net_tap") && plan->options->queues > 1);
}

static int configure_and_start(struct device *device, const struct plan *plan,
                               const struct rte_eth_dev_info *info)
{
    int rc = configure(device, plan, info);
    return rc ? rc : rte_eth_dev_start(device->id);
}

static int start(struct device *device, const struct plan *plan, struct tsr_err *err)
{
    struct rte_eth_dev_info info;
    int rc = rte_eth_dev_info_get(device->id, &info);
    if (rc < 0) {
        return tsr_err_set(err, rc, "The device '%s' says nothing of itself: %s.", plan->name,
                           rte_strerror(-rc));
    }
    device->handle = info.device;
    if (device->queues > info.max_rx_queues || device->queues > info.max_tx_queues) {
        return tsr_err_set(
            err, -EINVAL,
            "%s has %u queues and %u are asked for (net_af_packet: qpairs=, net_af_xdp: "
            "queue_count=).",
            plan->name, info.max_rx_queues, device->queues);
    }
    device->interrupts = may_interrupt(plan);
    rc = configure_and_start(device, plan, &info);
    if (rc < 0 && device->interrupts) {
        device->interrupts = false;
        rc = configure_and_start(device, plan, &info);
    }
    if (rc < 0) {
        return tsr_err_set(err, rc,
                           "The device '%s' does not start with %u queues and MTU %u: %s (%s).",
                           plan->name, device->queues, plan->mtu, rte_strerror(-rc), last_line);
    }
    rte_eth_allmulticast_enable(device->id); /* IPv6 asks groups for neighbours */
    tsr_log(
        TSR_LOG_INFO,
        "port %s: driver %s, MTU %u, %u queues, %u buffers of %u bytes (%u MiB), checksums by %s",
        plan->name, info.driver_name, plan->mtu, device->queues, plan->buffers, plan->buffer_bytes,
        (unsigned)((uint64_t)plan->buffers * (plan->buffer_bytes + 256u) >> 20),
        device->device_sums ? "the device" : "software");
    return 0;
}

static void close_device(struct device *device)
{
    if (device->handle) {
        rte_eth_dev_stop(device->id);
        rte_eth_dev_close(device->id);
        rte_dev_remove(device->handle);
    }
    rte_mempool_free(device->pool);
    tsr_steer_close(&device->steer);
    free(device);
}

static int open_device(struct device *device, const struct plan *plan, struct tsr_err *err)
{
    int rc = probe(device, plan, err);
    rc = rc ? rc : make_pool(device, plan, err);
    rc = rc ? rc : start(device, plan, err);
    return rc || !plan->is_steered ? rc : tsr_steer_set(plan->options, err);
}

/* --- receiving --- */

static void flush(struct dpdk_port *p)
{
    uint16_t sent = 0;
    if (p->n_tx) {
        sent = rte_eth_tx_burst(p->device->id, p->queue, p->tx, (uint16_t)p->n_tx);
    }
    p->n_tx -= sent;
    p->port.counts.tx_packets += sent;
    if (sent && p->n_tx) {
        memmove(p->tx, p->tx + sent, p->n_tx * sizeof p->tx[0]);
    }
}

/* Takes the buffer, in any case. */
static bool put(struct dpdk_port *p, struct rte_mbuf *m)
{
    if (m->data_len < TSR_FRAME_MIN) {
        uint16_t missing = (uint16_t)(TSR_FRAME_MIN - m->data_len);
        memset(rte_pktmbuf_append(m, missing), 0, missing);
    }
    if (p->n_tx == TSR_PORT_BURST) {
        flush(p);
    }
    if (p->n_tx == TSR_PORT_BURST) {
        tsr_port_drop(&p->port, TSR_PORT_DROP_FULL, NULL, 0);
        rte_pktmbuf_free(m);
        return false;
    }
    p->port.counts.tx_bytes += m->data_len;
    p->tx[p->n_tx++] = m;
    return true;
}

/* The answer lies in the buffer that the question came in. */
static void answer(struct dpdk_port *p, struct rte_mbuf *m, uint32_t bytes)
{
    m->data_len = (uint16_t)bytes;
    m->pkt_len = bytes;
    m->ol_flags = 0;
    p->port.counts.answered += put(p, m);
}

static unsigned checked(const struct rte_mbuf *m)
{
    uint64_t ip = m->ol_flags & RTE_MBUF_F_RX_IP_CKSUM_MASK;
    uint64_t udp = m->ol_flags & RTE_MBUF_F_RX_L4_CKSUM_MASK;
    /* NONE: right, though the sum is not in the packet; such come from guests on this machine */
    return (ip == RTE_MBUF_F_RX_IP_CKSUM_GOOD || ip == RTE_MBUF_F_RX_IP_CKSUM_NONE
                ? TSR_FRAME_IP_GOOD
                : 0u) |
           (udp == RTE_MBUF_F_RX_L4_CKSUM_GOOD || udp == RTE_MBUF_F_RX_L4_CKSUM_NONE
                ? TSR_FRAME_UDP_GOOD
                : 0u);
}

/* Who comes asks for our address first. */
static void meet_peer(struct dpdk_port *p)
{
    if (p->maps && !p->touched) {
        p->touched = true;
        tsr_touch(p->maps, "memif", (uint64_t)TOUCH_MIB << 20);
    }
}

static void take_packet(struct dpdk_port *p, struct rte_mbuf *m, tsr_port_take_fn *take, void *ctx)
{
    struct tsr_host_result result;
    p->port.counts.rx_packets++;
    p->port.counts.rx_bytes += m->pkt_len;
    if (m->nb_segs > 1 && rte_pktmbuf_linearize(m) < 0) {
        tsr_port_drop(&p->port, TSR_PORT_DROP_BIG, rte_pktmbuf_mtod(m, uint8_t *), m->data_len);
        rte_pktmbuf_free(m);
        return;
    }
    uint8_t *bytes = rte_pktmbuf_mtod(m, uint8_t *);
    uint32_t capacity = m->data_len + (uint32_t)rte_pktmbuf_tailroom(m);
    tsr_host_take(&p->host, &result, bytes, m->data_len, capacity, checked(m));
    if (result.answer_bytes) {
        meet_peer(p);
        answer(p, m, result.answer_bytes);
        return;
    }
    if (result.drop != TSR_PORT_TAKEN) {
        tsr_port_drop(&p->port, result.drop, bytes, m->data_len);
    } else if (result.is_datagram) {
        p->port.counts.rx_datagrams++;
        take(ctx, &result.datagram);
    }
    rte_pktmbuf_free(m);
}

static uint32_t dpdk_poll(struct tsr_port *port, tsr_port_take_fn *take, void *ctx)
{
    struct dpdk_port *p = (struct dpdk_port *)port;
    struct rte_mbuf *rx[TSR_PORT_BURST];
    uint32_t n = rte_eth_rx_burst(p->device->id, p->queue, rx, TSR_PORT_BURST);
    p->host.now_ns = port->now_ns;
    for (uint32_t i = 0; i < n; i++) {
        if (i + 1 < n) {
            rte_prefetch0(rte_pktmbuf_mtod(rx[i + 1], void *));
        }
        take_packet(p, rx[i], take, ctx);
    }
    return n;
}

/* --- sending --- */

static void ask(struct dpdk_port *p, const struct tsr_path *path)
{
    struct rte_mbuf *m = rte_pktmbuf_alloc(p->device->pool);
    uint32_t bytes = m ? tsr_host_ask(&p->host, path, rte_pktmbuf_mtod(m, uint8_t *)) : 0;
    if (!bytes) {
        rte_pktmbuf_free(m);
        return;
    }
    m->data_len = (uint16_t)bytes;
    m->pkt_len = bytes;
    put(p, m);
}

static uint8_t *refuse_room(struct dpdk_port *p, enum tsr_port_drop drop)
{
    tsr_port_drop(&p->port, drop, NULL, 0);
    return NULL;
}

static uint8_t *dpdk_room(struct tsr_port *port, const struct tsr_path *path, size_t *capacity)
{
    struct dpdk_port *p = (struct dpdk_port *)port;
    *capacity = tsr_host_reach(&p->host, path);
    if (!*capacity) {
        ask(p, path);
        return refuse_room(p, TSR_PORT_DROP_NEIGHBOUR);
    }
    if (p->n_tx == TSR_PORT_BURST) {
        flush(p);
    }
    if (p->n_tx == TSR_PORT_BURST) {
        return refuse_room(p, TSR_PORT_DROP_FULL);
    }
    if (!p->next) {
        p->next = rte_pktmbuf_alloc(p->device->pool);
    }
    if (!p->next) {
        return refuse_room(p, TSR_PORT_DROP_MEMORY);
    }
    return rte_pktmbuf_mtod(p->next, uint8_t *) +
           tsr_frame_head_bytes(path->remote.family, p->host.vlan);
}

static void dpdk_send(struct tsr_port *port, const struct tsr_path *path, size_t size, uint8_t ecn)
{
    struct dpdk_port *p = (struct dpdk_port *)port;
    struct rte_mbuf *m = p->next;
    uint32_t head = tsr_frame_head_bytes(path->remote.family, p->host.vlan);
    bool is_ipv4 = path->remote.family == 4;
    p->next = NULL;
    tsr_host_write(&p->host, path, rte_pktmbuf_mtod(m, uint8_t *) + head, (uint32_t)size, ecn);
    m->data_len = (uint16_t)(head + size);
    m->pkt_len = m->data_len;
    if (p->host.device_sums) {
        m->l3_len = is_ipv4 ? TSR_IPV4_BYTES : TSR_IPV6_BYTES;
        m->l2_len = (head - TSR_UDP_BYTES - (is_ipv4 ? TSR_IPV4_BYTES : TSR_IPV6_BYTES)) & 0x7f;
        m->ol_flags |= RTE_MBUF_F_TX_UDP_CKSUM |
                       (is_ipv4 ? RTE_MBUF_F_TX_IPV4 | RTE_MBUF_F_TX_IP_CKSUM : RTE_MBUF_F_TX_IPV6);
    }
    port->counts.tx_datagrams += put(p, m);
}

static void dpdk_flush(struct tsr_port *port)
{
    flush((struct dpdk_port *)port);
}

/* --- interrupts --- */

/* Queues may share an interrupt, which then is the first one's. */
static bool is_shared(const struct dpdk_port *p)
{
    int fd = rte_eth_dev_rx_intr_ctl_q_get_fd(p->device->id, p->queue);
    bool shared = false;
    for (uint16_t q = 0; q < p->queue; q++) {
        shared |= rte_eth_dev_rx_intr_ctl_q_get_fd(p->device->id, q) == fd;
    }
    return shared;
}

/* By DPDK's epoll, which knows what each driver wants read after an interrupt. */
static int open_interrupt(const struct dpdk_port *p)
{
    bool has = p->device->interrupts && !is_shared(p);
    int fd = has ? epoll_create1(EPOLL_CLOEXEC) : -1;
    if (fd >= 0 &&
        rte_eth_dev_rx_intr_ctl_q(p->device->id, p->queue, fd, RTE_INTR_EVENT_ADD, NULL) < 0) {
        close(fd);
        fd = -1;
    }
    return fd;
}

static void close_interrupt(const struct dpdk_port *p)
{
    if (p->interrupt >= 0) {
        rte_eth_dev_rx_intr_ctl_q(p->device->id, p->queue, p->interrupt, RTE_INTR_EVENT_DEL, NULL);
        close(p->interrupt);
    }
}

/* What has interrupted before is taken off the descriptor: its packets are found by the look that
 * follows. */
static bool dpdk_arm(struct tsr_port *port)
{
    struct dpdk_port *p = (struct dpdk_port *)port;
    struct rte_epoll_event before;
    if (p->interrupt < 0) {
        return false;
    }
    int rc = rte_eth_dev_rx_intr_enable(p->device->id, p->queue);
    if (rc < 0 && rc != -ENOTSUP) { /* ENOTSUP: there is no turning it off, as with net_tap */
        return false;
    }
    rte_epoll_wait(p->interrupt, &before, 1, 0);
    port->fd = p->interrupt;
    return true;
}

static void dpdk_disarm(struct tsr_port *port)
{
    struct dpdk_port *p = (struct dpdk_port *)port;
    if (port->fd >= 0) {
        rte_eth_dev_rx_intr_disable(p->device->id, p->queue);
        port->fd = -1;
    }
}

static int dpdk_check(struct tsr_port *port, struct tsr_err *err)
{
    struct dpdk_port *p = (struct dpdk_port *)port;
    unsigned iface = p->device->iface;
    char name[IF_NAMESIZE];
    struct rte_eth_link link;
    if (p->maps && rte_eth_link_get_nowait(p->device->id, &link) == 0 && !link.link_status) {
        p->touched = false; /* the next peer brings memory of its own */
    }
    if (!iface || if_indextoname(iface, name) || errno != ENXIO) {
        return 0;
    }
    return tsr_err_set(err, -ENODEV,
                       "The interface under the port is gone (its index was %u): start again when "
                       "it is back.",
                       iface);
}

static uint64_t dpdk_missed(struct tsr_port *port)
{
    struct rte_eth_stats stats;
    struct dpdk_port *p = (struct dpdk_port *)port;
    if (p->queue != 0 || rte_eth_stats_get(p->device->id, &stats) != 0) {
        return port->counts
            .rx_missed; /* the device counts for all queues: the first port says it */
    }
    return stats.imissed + stats.rx_nombuf;
}

/* --- creating --- */

static void dpdk_destroy(struct tsr_port **ports, uint32_t queues)
{
    struct device *device = ((struct dpdk_port *)ports[0])->device;
    for (uint32_t i = 0; i < queues; i++) {
        struct dpdk_port *p = (struct dpdk_port *)ports[i];
        if (p) {
            rte_pktmbuf_free_bulk(p->tx, p->n_tx);
            rte_pktmbuf_free(p->next);
            close_interrupt(p);
            if (p->maps) {
                fclose(p->maps);
            }
            free(p);
        }
        ports[i] = NULL;
    }
    close_device(device);
}

/* A thread that EAL does not know takes each buffer from the pool's ring, past the caches. */
static int dpdk_adopt(struct tsr_port *port, struct tsr_err *err)
{
    (void)port;
    return rte_lcore_id() != LCORE_ID_ANY || rte_thread_register() == 0
               ? 0
               : tsr_err_set(err, rte_errno ? -rte_errno : -EIO,
                             "DPDK takes no further thread: %s.", rte_strerror(rte_errno));
}

static void dpdk_hear(struct tsr_port *port, const struct tsr_datagram *datagram)
{
    struct dpdk_port *p = (struct dpdk_port *)port;
    const struct tsr_path *path = &datagram->path;
    tsr_host_hear(&p->host, path->remote.family, path->local.ip, path->remote.ip, datagram->hop);
}

static const struct tsr_port_kind_table dpdk_kind = {
    .adopt = dpdk_adopt,
    .hear = dpdk_hear,
    .destroy = dpdk_destroy,
    .poll = dpdk_poll,
    .room = dpdk_room,
    .send = dpdk_send,
    .flush = dpdk_flush,
    .arm = dpdk_arm,
    .disarm = dpdk_disarm,
    .check = dpdk_check,
    .missed = dpdk_missed,
};

static int init_port(struct dpdk_port *p, const struct plan *plan, struct device *device,
                     uint16_t queue, struct tsr_err *err)
{
    const struct tsr_port_options *options = plan->options;
    struct rte_ether_addr mac;
    p->port.kind = &dpdk_kind;
    p->port.fd = -1;
    p->device = device;
    p->queue = queue;
    p->interrupt = open_interrupt(p);
    p->maps = plan->is_memif ? tsr_touch_open() : NULL;
    p->host.n_listen = p->port.n_listen = options->n_listen;
    p->host.vlan = options->vlan;
    p->host.mtu = plan->mtu;
    p->host.is_alone = !plan->is_xdp;
    p->host.device_sums = device->device_sums;
    for (uint32_t i = 0; i < options->n_listen; i++) {
        p->host.listen[i] = options->listen[i];
        p->port.listen[i] = options->listen[i].address;
    }
    int rc = rte_eth_macaddr_get(device->id, &mac);
    if (rc < 0) {
        return tsr_err_set(err, rc, "The device '%s' has no Ethernet address: %s.", plan->name,
                           rte_strerror(-rc));
    }
    memcpy(p->host.mac, mac.addr_bytes, sizeof p->host.mac);
    return tsr_host_init(&p->host, err);
}

int tsr_port_dpdk_create(struct tsr_port **ports, const struct tsr_port_options *options,
                         struct tsr_err *err)
{
    struct plan plan = {0};
    struct tsr_err own = {0};
    err = err ? err : &own;
    memset(ports, 0, options->queues * sizeof *ports);
    int rc = make_plan(&plan, options, err);
    rc = rc ? rc : start_eal(&plan, err);
    if (rc < 0) {
        return rc;
    }
    struct device *device = calloc(1, sizeof *device);
    if (!device) {
        return tsr_err_set(err, -ENOMEM, "No memory for a device's state.");
    }
    device->queues = options->queues;
    device->iface = plan.iface[0] ? if_nametoindex(plan.iface) : 0;
    device->steer.object = device->steer.claim = -1;
    rc = open_device(device, &plan, err);
    for (uint32_t q = 0; rc == 0 && q < options->queues; q++) {
        struct dpdk_port *p = calloc(1, sizeof *p);
        ports[q] = p ? &p->port : NULL;
        rc = p ? init_port(p, &plan, device, (uint16_t)q, err)
               : tsr_err_set(err, -ENOMEM, "No memory for a port's state.");
    }
    if (rc < 0 && ports[0]) {
        dpdk_destroy(ports, options->queues);
    } else if (rc < 0) {
        close_device(device);
    }
    return rc;
}
