/* A client of HTTP/3, one connection: of the same libraries as the door, on any way for datagrams
 * and on any clock. It trusts every certificate. What goes wrong on this side aborts: it is for
 * tests and benchmarks alone. */
#ifndef TSR_TEST_QUIC_CLIENT_H
#define TSR_TEST_QUIC_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <gnutls/gnutls.h>
#include <nghttp3/nghttp3.h>
#include <ngtcp2/ngtcp2.h>
#include <ngtcp2/ngtcp2_crypto.h>

#include <tsr/port/datagram.h>

#include "text.h"

enum {
    CLIENT_PAYLOAD_MAX = 8952,
    CLIENT_ID_BYTES = 17, /* of the ids that it gives itself; the first four are its number */
    CLIENT_RAW_MAX = 16,
};

struct client;

/* A request, and what came. */
struct answer {
    struct client *client;
    int64_t id;
    uint32_t at; /* in client->answers */
    unsigned status;
    struct text head, body; /* a field a line; client->heard may take the body instead */
    bool ended;             /* is whole */
    bool closed;            /* its stream has ended, or was reset */
    uint64_t code;          /* of closed */
    bool is_over;           /* either */
    const char *request;
    size_t request_bytes, request_read;
    uint64_t asked_ns, heard_ns; /* the owner's, as user */
    void *user;
};

/* Bytes for a stream, past HTTP/3. */
struct raw {
    int64_t id;
    const uint8_t *bytes;
    size_t size, sent;
    bool fin;
};

struct client_options {
    bool raw;         /* speaks no HTTP/3 by itself */
    const char *name; /* of the server; NULL: localhost */
    const char *alpn; /* NULL: h3; "": none */
    uint32_t version;
    const uint8_t *token;
    size_t token_size;
    uint64_t stream_window;
    const char *certificate, *key;
    uint64_t uni_streams; /* 0: as many as there are */
    uint64_t idle_ns;     /* 0: a minute */
    uint16_t port;        /* where world.h makes the path: 0: a new one */
    uint8_t host;         /* and last byte of its address; 0: 2 */
};

/* Where it is. */
struct client_place {
    struct tsr_path path; /* as the client sees it */
    struct tsr_datagram_way way;
    void *port;             /* the way's first argument */
    const uint64_t *now_ns; /* what time it is, as the owner keeps it */
    uint32_t number;        /* stands in its ids */
};

struct client {
    struct client_place place;
    uint16_t nat_port; /* as others see its port, where the way has a NAT (world.h); 0: the same */
    ngtcp2_crypto_conn_ref ref;
    ngtcp2_conn *quic;
    nghttp3_conn *http;
    gnutls_session_t tls;
    gnutls_certificate_credentials_t credentials;
    struct answer **answers;
    uint32_t n_answers, answers_max;
    struct raw raws[CLIENT_RAW_MAX];
    uint32_t n_raws;
    bool is_raw;
    bool established, gone, silent, retried, negotiated, reset;
    bool goaway;
    bool reads;         /* gives the server credit for what came */
    ngtcp2_ccerr error; /* the server's */
    uint8_t token[256];
    size_t token_size;

    /* The owner's; NULL: a body is kept with its answer. */
    void (*heard)(struct answer *answer, const uint8_t *bytes, size_t size);
    void (*over)(struct answer *answer); /* once; from within the libraries: nothing may be asked */
    void *user;
};

/* options NULL: the defaults. Nothing is sent before client_write(). */
struct client *client_create(const struct client_place *place,
                             const struct client_options *options);
void client_free(struct client *client);

/* A new path's addresses, as ngtcp2 wants them; it points into `to`. */
ngtcp2_path client_path(const struct tsr_path *path, ngtcp2_sockaddr_union to[2]);

/* A request; body NULL: none, else it must stay. Fields are pairs, pseudo ones among them. NULL:
 * the server allows no more streams now. The answer is the client's. */
struct answer *client_try(struct client *client, const char *const (*fields)[2], size_t n,
                          const char *body, size_t size);

/* The same, and aborts where there is no stream. */
struct answer *client_ask_with(struct client *client, const char *const (*fields)[2], size_t n,
                               const char *body, size_t size);
struct answer *client_ask(struct client *client, const char *method, const char *path,
                          const char *body);

/* Bytes on a new stream, past HTTP/3; they must stay. */
struct answer *client_say(struct client *client, bool uni, const void *bytes, size_t size,
                          bool fin);

/* An answer that is over is not needed any more. */
void client_forget(struct answer *answer);

/* A datagram came. */
void client_read(struct client *client, const struct tsr_datagram *datagram);

/* Sends what may be sent now. False: there was no room for it. */
bool client_write(struct client *client);

/* When client_expire() is due; UINT64_MAX: never. */
uint64_t client_expiry_ns(const struct client *client);
void client_expire(struct client *client);

/* Says good-bye; it is gone then. */
void client_close(struct client *client);

#endif
