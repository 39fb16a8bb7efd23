/* Runs in the kernel for each packet that comes on the interface: whole UDP datagrams to a
 * listening address and port go to the AF_XDP socket of their queue, the rest goes its usual way.
 * So does everything where no socket is left. */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/udp.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "steer_rules.h"

struct {
    __uint(type, BPF_MAP_TYPE_XSKMAP);
    __uint(max_entries, 64);
    __type(key, __u32);
    __type(value, __u32);
} xsks_map SEC(".maps"); /* the name that DPDK looks for */

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, struct tsr_steer_rules);
} tsr_rules SEC(".maps");

struct vlan_head {
    __be16 tag;
    __be16 protocol;
};

/* Family, address and port of a whole UDP datagram; 0: something else. */
static __always_inline int read_ipv4(void *at, void *end, struct tsr_steer_rule *to)
{
    struct iphdr *ip = at;
    if (ip + 1 > (struct iphdr *)end || ip->ihl < 5 || ip->protocol != IPPROTO_UDP ||
        ip->frag_off & bpf_htons(0x3fff)) {
        return 0;
    }
    struct udphdr *udp = at + ip->ihl * 4;
    if (udp + 1 > (struct udphdr *)end) {
        return 0;
    }
    __builtin_memcpy(to->ip, &ip->daddr, 4);
    to->port = udp->dest;
    to->family = 4;
    return 1;
}

static __always_inline int read_ipv6(void *at, void *end, struct tsr_steer_rule *to)
{
    struct ipv6hdr *ip = at;
    struct udphdr *udp = (struct udphdr *)(ip + 1);
    if (udp + 1 > (struct udphdr *)end || ip->nexthdr != IPPROTO_UDP) {
        return 0;
    }
    __builtin_memcpy(to->ip, &ip->daddr, 16);
    to->port = udp->dest;
    to->family = 6;
    return 1;
}

static __always_inline int is_same(const struct tsr_steer_rule *a, const struct tsr_steer_rule *b)
{
    return a->port == b->port && a->family == b->family && a->ip[0] == b->ip[0] &&
           a->ip[1] == b->ip[1];
}

SEC("xdp")
int tsr_steer(struct xdp_md *context)
{
    void *end = (void *)(long)context->data_end;
    struct ethhdr *ethernet = (void *)(long)context->data;
    struct tsr_steer_rule to = {};
    __u32 zero = 0;
    const struct tsr_steer_rules *rules = bpf_map_lookup_elem(&tsr_rules, &zero);
    if (!rules || ethernet + 1 > (struct ethhdr *)end) {
        return XDP_PASS;
    }
    void *at = ethernet + 1;
    __be16 protocol = ethernet->h_proto;
    __u16 vlan = 0;
    if (protocol == bpf_htons(ETH_P_8021Q)) {
        struct vlan_head *head = at;
        if (head + 1 > (struct vlan_head *)end) {
            return XDP_PASS;
        }
        vlan = bpf_ntohs(head->tag) & 0xfff;
        protocol = head->protocol;
        at = head + 1;
    }
    int is_udp = protocol == bpf_htons(ETH_P_IP)     ? read_ipv4(at, end, &to)
                 : protocol == bpf_htons(ETH_P_IPV6) ? read_ipv6(at, end, &to)
                                                     : 0;
    if (!is_udp || vlan != rules->vlan) {
        return XDP_PASS;
    }
    for (int i = 0; i < TSR_STEER_RULES_MAX && i < rules->n; i++) {
        if (is_same(&rules->rules[i], &to)) {
            return bpf_redirect_map(&xsks_map, context->rx_queue_index, XDP_PASS);
        }
    }
    return XDP_PASS;
}

char _license[] SEC("license") = "Apache-2.0"; /* no helper here asks for another */
