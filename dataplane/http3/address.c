#include "http3_priv.h"

#include <netinet/in.h>
#include <string.h>

static ngtcp2_addr sockaddr_of(const struct tsr_address *address, ngtcp2_sockaddr_union *to)
{
    if (address->family == 6) {
        to->in6 = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_port = htons(address->port)};
        memcpy(&to->in6.sin6_addr, address->ip, 16);
        return (ngtcp2_addr){&to->sa, sizeof to->in6};
    }
    to->in = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(address->port)};
    memcpy(&to->in.sin_addr, address->ip, 4);
    return (ngtcp2_addr){&to->sa, sizeof to->in};
}

ngtcp2_path tsr_http3_path(const struct tsr_path *path, struct tsr_http3_sockaddrs *to)
{
    return (ngtcp2_path){
        .local = sockaddr_of(&path->local, &to->local),
        .remote = sockaddr_of(&path->remote, &to->remote),
    };
}

static struct tsr_address address_of(const ngtcp2_addr *from)
{
    struct tsr_address address = {.family = 4};
    if (from->addr->sa_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)(const void *)from->addr;
        address.family = 6;
        address.port = ntohs(in6->sin6_port);
        memcpy(address.ip, &in6->sin6_addr, 16);
    } else {
        const struct sockaddr_in *in = (const struct sockaddr_in *)(const void *)from->addr;
        address.port = ntohs(in->sin_port);
        memcpy(address.ip, &in->sin_addr, 4);
    }
    return address;
}

struct tsr_path tsr_http3_path_back(const ngtcp2_path *path)
{
    return (struct tsr_path){address_of(&path->local), address_of(&path->remote)};
}
