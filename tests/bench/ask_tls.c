/* The same question again and again on one connection of HTTP/1.1 over TLS 1.3, by a client that
 * spins: what quic_client is held against.
 *
 *     ask_tls ADDRESS PORT PATH REQUESTS
 *
 * Prints a line as quic_client does. A tenth of the requests come before and do not count. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <gnutls/gnutls.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

__attribute__((noreturn)) static void fail(const char *what, const char *why)
{
    fprintf(stderr, "ask_tls: %s: %s\n", what, why);
    exit(1);
}

static int dial(const char *ip, const char *port)
{
    static const int one = 1;
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || inet_pton(AF_INET, ip, &to.sin_addr) != 1 ||
        connect(fd, (struct sockaddr *)&to, sizeof to) < 0) {
        fail(ip, strerror(errno));
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    return fd;
}

static gnutls_session_t shake_hands(int fd)
{
    gnutls_certificate_credentials_t credentials;
    gnutls_session_t tls;
    int rc;
    gnutls_certificate_allocate_credentials(&credentials);
    gnutls_init(&tls, GNUTLS_CLIENT | GNUTLS_NONBLOCK);
    gnutls_priority_set_direct(tls, "NORMAL:-VERS-ALL:+VERS-TLS1.3:-CIPHER-ALL:+AES-128-GCM", NULL);
    gnutls_credentials_set(tls, GNUTLS_CRD_CERTIFICATE, credentials);
    gnutls_server_name_set(tls, GNUTLS_NAME_DNS, "localhost", 9);
    gnutls_transport_set_int(tls, fd);
    do {
        rc = gnutls_handshake(tls);
    } while (rc < 0 && !gnutls_error_is_fatal(rc));
    if (rc < 0) {
        fail("handshake", gnutls_strerror(rc));
    }
    return tls;
}

/* Until a whole answer of known length is there. */
static void take_answer(gnutls_session_t tls)
{
    char bytes[8192];
    size_t size = 0, whole = SIZE_MAX;
    while (size < whole) {
        ssize_t n = gnutls_record_recv(tls, bytes + size, sizeof bytes - 1 - size);
        if (n == GNUTLS_E_AGAIN || n == GNUTLS_E_INTERRUPTED) {
            continue;
        }
        if (n <= 0) {
            fail("answer", n ? gnutls_strerror((int)n) : "the connection was closed");
        }
        size += (size_t)n;
        bytes[size] = '\0';
        const char *body = strstr(bytes, "\r\n\r\n"),
                   *length = strcasestr(bytes, "\r\ncontent-length:");
        if (body && length && whole == SIZE_MAX) {
            whole = (size_t)(body + 4 - bytes) + strtoul(length + 17, NULL, 10);
        }
    }
    if (strncmp(bytes, "HTTP/1.1 200", 12) != 0) {
        fail("answer", bytes);
    }
}

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
    char request[512];
    size_t n = argc == 5 ? strtoul(argv[4], NULL, 10) : 0, warm = n / 10;
    uint64_t *ns = calloc(n + 1, sizeof *ns);
    if (!n || !ns) {
        fail("usage", "ask_tls ADDRESS PORT PATH REQUESTS");
    }
    int size =
        snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n", argv[3]);
    int fd = dial(argv[1], argv[2]);
    gnutls_session_t tls = shake_hands(fd);
    for (size_t i = 0; i < warm + n; i++) {
        uint64_t asked_ns = now_ns();
        while (gnutls_record_send(tls, request, (size_t)size) == GNUTLS_E_AGAIN) {
        }
        take_answer(tls);
        ns[i < warm ? 0 : i - warm] = now_ns() - asked_ns;
    }
    qsort(ns, n, sizeof *ns, by_value);
    printf("answers good=%zu bad=0 of=%zu p50=%.2f p99=%.2f max=%.2f\n", n, n,
           (double)ns[n / 2] / 1e3, (double)ns[n * 99 / 100] / 1e3, (double)ns[n - 1] / 1e3);
    close(fd);
    return 0;
}
