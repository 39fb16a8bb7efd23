/* A server, its clients, and a link between them that loses, repeats, reorders and spoils datagrams
 * as a seed says. Time is what the world says it is. */
#ifndef TSR_TEST_WORLD_H
#define TSR_TEST_WORLD_H

#include <tsr/http3/http3.h>

#include "certificate.h"
#include "fake_api.h"

#include <nghttp3/nghttp3.h>
#include <ngtcp2/ngtcp2.h>
#include <ngtcp2/ngtcp2_crypto.h>
#include <ngtcp2/ngtcp2_crypto_gnutls.h>

#include <arpa/inet.h>
#include <netinet/in.h>

enum {
    PACKETS_MAX = 8192,
    PAYLOAD_MAX = 1472,
    CLIENTS_MAX = 256,
    ANSWERS_MAX = 160,
    RAW_MAX = 16,
    SERVER_PORT = 4433,
    UNIX_S = 784111777, /* Sun, 06 Nov 1994 08:49:37 GMT */
};

static const uint64_t ms = 1000000, second = 1000000000;

struct packet {
    uint64_t at_ns;
    struct tsr_path path; /* as its receiver sees it */
    bool to_server;
    uint8_t ecn;
    uint32_t size;
    uint8_t bytes[PAYLOAD_MAX];
};

struct answer {
    int64_t id;
    struct text head, body;
    bool ended, closed;
    uint64_t code; /* of closed */
    const char *request;
    size_t request_bytes, request_read;
};

struct raw {
    int64_t id;
    const uint8_t *bytes;
    size_t size, sent;
    bool fin;
};

struct world;

struct client {
    struct world *world;
    ngtcp2_crypto_conn_ref ref;
    ngtcp2_conn *quic;
    nghttp3_conn *http;
    gnutls_session_t tls;
    gnutls_certificate_credentials_t credentials;
    struct tsr_path path; /* as the client sees it */
    uint16_t nat_port;    /* as others see it; 0: the same */
    struct answer answers[ANSWERS_MAX];
    uint32_t n_answers;
    struct raw raws[RAW_MAX];
    uint32_t n_raws;
    bool is_raw; /* speaks no HTTP/3 by itself */
    bool established, gone, silent, retried, negotiated, reset;
    bool goaway;
    bool reads;         /* gives the server credit for what came */
    ngtcp2_ccerr error; /* the server's */
    uint8_t token[256];
    size_t token_size;
};

struct world {
    struct tsr_http3 *server;
    uint64_t now_ns;
    uint64_t seed;
    unsigned loss, repeat, reorder, spoil; /* of 1000 */
    uint64_t delay_ns;
    uint32_t room; /* datagrams that the server may send in this turn */
    size_t capacity;
    struct packet *packets;
    uint32_t n_packets;
    struct client *clients[CLIENTS_MAX];
    uint32_t n_clients;
    uint8_t buffer[PAYLOAD_MAX];
    struct packet last_sent;   /* by the server */
    uint64_t sent, sent_bytes; /* by the server */
    uint64_t came_bytes;
};

static inline uint32_t world_random(struct world *w, uint32_t below)
{
    w->seed = w->seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(w->seed >> 33) % below;
}

static inline void world_put(struct world *w, const struct packet *packet)
{
    if (w->n_packets == PACKETS_MAX) {
        return; /* lost */
    }
    struct packet *p = &w->packets[w->n_packets++];
    *p = *packet;
    p->at_ns = w->now_ns + w->delay_ns;
    if (world_random(w, 1000) < w->reorder) {
        p->at_ns += (1 + world_random(w, 20)) * ms;
    }
    if (world_random(w, 1000) < w->spoil) {
        p->bytes[world_random(w, p->size)] ^= (uint8_t)(1 + world_random(w, 255));
    }
}

static inline void world_send(struct world *w, bool to_server, const struct tsr_path *path,
                              const uint8_t *bytes, size_t size, uint8_t ecn)
{
    struct packet packet = {
        .path = {path->remote, path->local},
        .to_server = to_server,
        .ecn = ecn,
        .size = (uint32_t)size,
    };
    memcpy(packet.bytes, bytes, size);
    if (!to_server) {
        w->last_sent = packet;
        w->sent++;
        w->sent_bytes += size;
    }
    if (world_random(w, 1000) >= w->loss) {
        world_put(w, &packet);
    }
    if (world_random(w, 1000) < w->repeat) {
        world_put(w, &packet);
    }
}

static inline uint8_t *world_room(void *port, const struct tsr_path *path, size_t *capacity)
{
    struct world *w = port;
    (void)path;
    *capacity = w->capacity;
    return w->room ? w->buffer : NULL;
}

static inline void world_way_send(void *port, const struct tsr_path *path, size_t size, uint8_t ecn)
{
    struct world *w = port;
    w->room--;
    world_send(w, false, path, w->buffer, size, ecn);
}

static struct certificate world_certificate;

static inline void world_options(struct world *w, struct tsr_http3_options *o)
{
    tsr_http3_options_init(o);
    if (!world_certificate.folder[0]) {
        certificate_make(&world_certificate, 1);
    }
    o->certificate = world_certificate.certificate;
    o->key = world_certificate.key;
    o->way = (struct tsr_datagram_way){world_room, world_way_send};
    o->port = w;
    o->queue = 3;
    o->conns_max = CLIENTS_MAX;
    o->bytes_max = (size_t)256 << 20;
}

/* options: NULL: the defaults. */
static inline struct world *world_make(const struct tsr_http3_options *options)
{
    struct world *w = calloc(1, sizeof *w);
    struct tsr_http3_options o;
    struct tsr_err err = {0};
    w->packets = calloc(PACKETS_MAX, sizeof *w->packets);
    w->now_ns = 1000 * second;
    w->delay_ns = 5 * ms;
    w->capacity = PAYLOAD_MAX;
    w->seed = 1;
    if (options) {
        o = *options;
        o.port = w;
    } else {
        world_options(w, &o);
    }
    if (tsr_http3_create(&w->server, NULL, &o, &err) < 0) {
        fprintf(stderr, "%s\n", err.text);
        abort();
    }
    tsr_http3_step(w->server, w->now_ns, UNIX_S);
    return w;
}

static inline const struct tsr_http3_counts *world_counts(const struct world *w)
{
    return tsr_http3_counts(w->server);
}

/* ---- Clients ---- */

static inline ngtcp2_addr client_address(const struct tsr_address *a, struct sockaddr_in *to)
{
    *to = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(a->port)};
    memcpy(&to->sin_addr, a->ip, 4);
    return (ngtcp2_addr){(struct sockaddr *)to, sizeof *to};
}

static inline ngtcp2_path client_path(const struct tsr_path *path, struct sockaddr_in to[2])
{
    return (ngtcp2_path){.local = client_address(&path->local, &to[0]),
                         .remote = client_address(&path->remote, &to[1])};
}

static inline ngtcp2_conn *client_of_ref(ngtcp2_crypto_conn_ref *ref)
{
    return ((struct client *)ref->user_data)->quic;
}

static inline void client_rand(uint8_t *bytes, size_t size, const ngtcp2_rand_ctx *ctx)
{
    (void)ctx;
    gnutls_rnd(GNUTLS_RND_NONCE, bytes, size);
}

static inline int client_new_id(ngtcp2_conn *quic, ngtcp2_cid *cid, uint8_t *token, size_t size,
                                void *user)
{
    (void)quic, (void)user;
    cid->datalen = size;
    gnutls_rnd(GNUTLS_RND_NONCE, cid->data, size);
    gnutls_rnd(GNUTLS_RND_NONCE, token, NGTCP2_STATELESS_RESET_TOKENLEN);
    return 0;
}

static inline struct answer *client_answer(struct client *c, int64_t id)
{
    for (uint32_t i = 0; i < c->n_answers; i++) {
        if (c->answers[i].id == id) {
            return &c->answers[i];
        }
    }
    return NULL;
}

static inline int client_stream_data(ngtcp2_conn *quic, uint32_t flags, int64_t id, uint64_t offset,
                                     const uint8_t *data, size_t size, void *user, void *stream)
{
    struct client *c = user;
    (void)offset, (void)stream;
    ngtcp2_conn_extend_max_offset(quic, size);
    if (!c->http) {
        ngtcp2_conn_extend_max_stream_offset(quic, id, size);
        struct answer *a = client_answer(c, id);
        if (a) {
            text_put(&a->body, data, size);
            a->ended = a->ended || (flags & NGTCP2_STREAM_DATA_FLAG_FIN);
        }
        return 0;
    }
    nghttp3_ssize n = nghttp3_conn_read_stream(c->http, id, data, size,
                                               flags & NGTCP2_STREAM_DATA_FLAG_FIN ? 1 : 0);
    if (n < 0) {
        fprintf(stderr, "client: %s\n", nghttp3_strerror((int)n));
        return NGTCP2_ERR_CALLBACK_FAILURE;
    }
    ngtcp2_conn_extend_max_stream_offset(quic, id, (uint64_t)n);
    return 0;
}

static inline int client_acked(ngtcp2_conn *quic, int64_t id, uint64_t offset, uint64_t size,
                               void *user, void *stream)
{
    struct client *c = user;
    (void)quic, (void)offset, (void)stream;
    if (c->http) {
        nghttp3_conn_add_ack_offset(c->http, id, size);
    }
    return 0;
}

static inline int client_stream_close(ngtcp2_conn *quic, uint32_t flags, int64_t id, uint64_t code,
                                      void *user, void *stream)
{
    struct client *c = user;
    (void)quic, (void)stream;
    struct answer *a = client_answer(c, id);
    if (a) {
        a->closed = true;
        a->code = flags & NGTCP2_STREAM_CLOSE_FLAG_APP_ERROR_CODE_SET ? code : NGHTTP3_H3_NO_ERROR;
    }
    if (c->http) {
        nghttp3_conn_close_stream(c->http, id, code);
    }
    return 0;
}

static inline int client_stream_reset(ngtcp2_conn *quic, int64_t id, uint64_t size, uint64_t code,
                                      void *user, void *stream)
{
    struct client *c = user;
    (void)quic, (void)size, (void)stream;
    struct answer *a = client_answer(c, id);
    if (a) {
        a->code = code;
        a->closed = true;
    }
    if (c->http) {
        nghttp3_conn_shutdown_stream_read(c->http, id);
    }
    return 0;
}

static inline int client_handshake(ngtcp2_conn *quic, void *user)
{
    struct client *c = user;
    (void)quic;
    c->established = true;
    return 0;
}

static inline int client_recv_retry(ngtcp2_conn *quic, const ngtcp2_pkt_hd *hd, void *user)
{
    struct client *c = user;
    c->retried = true;
    return ngtcp2_crypto_recv_retry_cb(quic, hd, user);
}

static inline int client_recv_vn(ngtcp2_conn *quic, const ngtcp2_pkt_hd *hd, const uint32_t *sv,
                                 size_t nsv, void *user)
{
    struct client *c = user;
    (void)quic, (void)hd;
    for (size_t i = 0; i < nsv; i++) {
        c->negotiated = c->negotiated || sv[i] == NGTCP2_PROTO_VER_V1;
    }
    return 0;
}

static inline int client_recv_reset(ngtcp2_conn *quic, const ngtcp2_pkt_stateless_reset *sr,
                                    void *user)
{
    struct client *c = user;
    (void)quic, (void)sr;
    c->reset = true;
    return 0;
}

static inline int client_recv_token(ngtcp2_conn *quic, const uint8_t *token, size_t size,
                                    void *user)
{
    struct client *c = user;
    (void)quic;
    if (size <= sizeof c->token) {
        memcpy(c->token, token, size);
        c->token_size = size;
    }
    return 0;
}

static inline int client_more_stream_data(ngtcp2_conn *quic, int64_t id, uint64_t n, void *user,
                                          void *stream)
{
    struct client *c = user;
    (void)quic, (void)n, (void)stream;
    if (c->http) {
        nghttp3_conn_unblock_stream(c->http, id);
    }
    return 0;
}

/* nghttp3's side */

static inline int client_field(nghttp3_conn *http, int64_t id, int32_t token, nghttp3_rcbuf *name,
                               nghttp3_rcbuf *value, uint8_t flags, void *user, void *stream)
{
    struct client *c = user;
    (void)http, (void)token, (void)flags, (void)stream;
    nghttp3_vec n = nghttp3_rcbuf_get_buf(name), v = nghttp3_rcbuf_get_buf(value);
    text_format(&client_answer(c, id)->head, "%.*s: %.*s\n", (int)n.len, (char *)n.base, (int)v.len,
                (char *)v.base);
    return 0;
}

static inline int client_data(nghttp3_conn *http, int64_t id, const uint8_t *data, size_t size,
                              void *user, void *stream)
{
    struct client *c = user;
    (void)http, (void)stream;
    text_put(&client_answer(c, id)->body, data, size);
    if (c->reads) {
        ngtcp2_conn_extend_max_stream_offset(c->quic, id, size);
    }
    return 0;
}

static inline int client_end(nghttp3_conn *http, int64_t id, void *user, void *stream)
{
    struct client *c = user;
    (void)http, (void)stream;
    client_answer(c, id)->ended = true;
    return 0;
}

static inline int client_stop(nghttp3_conn *http, int64_t id, uint64_t code, void *user,
                              void *stream)
{
    struct client *c = user;
    (void)http, (void)stream;
    ngtcp2_conn_shutdown_stream_read(c->quic, 0, id, code);
    return 0;
}

static inline int client_shutdown(nghttp3_conn *http, int64_t id, void *user)
{
    struct client *c = user;
    (void)http, (void)id;
    c->goaway = true;
    return 0;
}

static inline nghttp3_ssize client_body(nghttp3_conn *http, int64_t id, nghttp3_vec *vec, size_t n,
                                        uint32_t *flags, void *user, void *stream)
{
    struct answer *a = client_answer(user, id);
    (void)http, (void)n, (void)stream;
    size_t size = a->request_bytes - a->request_read;
    size = size < 10000 ? size : 10000;
    vec[0] = (nghttp3_vec){(uint8_t *)a->request + a->request_read, size};
    a->request_read += size;
    if (a->request_read == a->request_bytes) {
        *flags |= NGHTTP3_DATA_FLAG_EOF;
    }
    return size ? 1 : 0;
}

struct client_options {
    bool raw;
    const char *alpn; /* "": none */
    uint32_t version;
    const uint8_t *token;
    size_t token_size;
    uint64_t stream_window;
    const char *certificate, *key;
    uint64_t uni_streams; /* 0: as many as there are */
    uint16_t port;        /* 0: a new one */
    uint8_t host;         /* last byte of its address; 0: 2 */
};

static inline gnutls_session_t client_tls(struct client *c, const struct client_options *o)
{
    const char *alpn = o->alpn ? o->alpn : "h3";
    const gnutls_datum_t protocol = {(unsigned char *)alpn, (unsigned)strlen(alpn)};
    gnutls_session_t tls;
    gnutls_init(&tls, GNUTLS_CLIENT | GNUTLS_NO_END_OF_EARLY_DATA);
    gnutls_priority_set_direct(tls,
                               "%DISABLE_TLS13_COMPAT_MODE:NORMAL:-VERS-ALL:+VERS-TLS1.3:"
                               "-CIPHER-ALL:+AES-128-GCM:-GROUP-ALL:+GROUP-X25519",
                               NULL);
    ngtcp2_crypto_gnutls_configure_client_session(tls);
    gnutls_session_set_ptr(tls, &c->ref);
    gnutls_certificate_allocate_credentials(&c->credentials);
    if (o->certificate) {
        gnutls_certificate_set_x509_key_file(c->credentials, o->certificate, o->key,
                                             GNUTLS_X509_FMT_PEM);
    }
    gnutls_credentials_set(tls, GNUTLS_CRD_CERTIFICATE, c->credentials);
    if (*alpn) {
        gnutls_alpn_set_protocols(tls, &protocol, 1, 0);
    }
    gnutls_server_name_set(tls, GNUTLS_NAME_DNS, "localhost", 9);
    return tls;
}

static inline int client_open_http(struct client *c)
{
    static const nghttp3_callbacks callbacks = {
        .recv_data = client_data,
        .recv_header = client_field,
        .end_stream = client_end,
        .stop_sending = client_stop,
        .shutdown = client_shutdown,
    };
    nghttp3_settings settings;
    int64_t a, b, d;
    nghttp3_settings_default(&settings);
    settings.qpack_max_dtable_capacity = 4096;
    settings.qpack_blocked_streams = 10;
    return nghttp3_conn_client_new(&c->http, &callbacks, &settings, NULL, c) != 0 ||
           ngtcp2_conn_open_uni_stream(c->quic, &a, NULL) != 0 ||
           ngtcp2_conn_open_uni_stream(c->quic, &b, NULL) != 0 ||
           ngtcp2_conn_open_uni_stream(c->quic, &d, NULL) != 0 ||
           nghttp3_conn_bind_control_stream(c->http, a) != 0 ||
           nghttp3_conn_bind_qpack_streams(c->http, b, d) != 0;
}

static inline int client_key(ngtcp2_conn *quic, ngtcp2_encryption_level level, void *user)
{
    struct client *c = user;
    (void)quic;
    return level == NGTCP2_ENCRYPTION_LEVEL_1RTT && !c->is_raw && client_open_http(c)
               ? NGTCP2_ERR_CALLBACK_FAILURE
               : 0;
}

static inline struct client *client_make(struct world *w, const struct client_options *options)
{
    static const ngtcp2_callbacks callbacks = {
        .client_initial = ngtcp2_crypto_client_initial_cb,
        .recv_crypto_data = ngtcp2_crypto_recv_crypto_data_cb,
        .handshake_completed = client_handshake,
        .recv_version_negotiation = client_recv_vn,
        .encrypt = ngtcp2_crypto_encrypt_cb,
        .decrypt = ngtcp2_crypto_decrypt_cb,
        .hp_mask = ngtcp2_crypto_hp_mask_cb,
        .recv_stream_data = client_stream_data,
        .acked_stream_data_offset = client_acked,
        .stream_close = client_stream_close,
        .recv_stateless_reset = client_recv_reset,
        .recv_retry = client_recv_retry,
        .rand = client_rand,
        .get_new_connection_id = client_new_id,
        .update_key = ngtcp2_crypto_update_key_cb,
        .stream_reset = client_stream_reset,
        .extend_max_stream_data = client_more_stream_data,
        .recv_new_token = client_recv_token,
        .delete_crypto_aead_ctx = ngtcp2_crypto_delete_crypto_aead_ctx_cb,
        .delete_crypto_cipher_ctx = ngtcp2_crypto_delete_crypto_cipher_ctx_cb,
        .get_path_challenge_data = ngtcp2_crypto_get_path_challenge_data_cb,
        .version_negotiation = ngtcp2_crypto_version_negotiation_cb,
        .recv_rx_key = client_key,
    };
    static const struct client_options none;
    const struct client_options *o = options ? options : &none;
    struct client *c = calloc(1, sizeof *c);
    if (!c || w->n_clients == CLIENTS_MAX) {
        abort();
    }
    uint16_t port = o->port ? o->port : (uint16_t)(10000 + w->n_clients);
    *c = (struct client){
        .world = w,
        .ref = {client_of_ref, c},
        .path = {.local = {.ip = {10, 0, 0, o->host ? o->host : 2}, .port = port, .family = 4},
                 .remote = {.ip = {10, 0, 0, 1}, .port = SERVER_PORT, .family = 4}},
        .is_raw = o->raw,
        .reads = true,
    };
    w->clients[w->n_clients++] = c;
    ngtcp2_settings settings;
    ngtcp2_transport_params params;
    ngtcp2_settings_default(&settings);
    ngtcp2_transport_params_default(&params);
    settings.initial_ts = w->now_ns;
    settings.token = o->token;
    settings.tokenlen = o->token_size;
    settings.token_type = NGTCP2_TOKEN_TYPE_NEW_TOKEN;
    params.initial_max_streams_uni = o->uni_streams ? o->uni_streams : 100;
    params.initial_max_stream_data_bidi_local = o->stream_window ? o->stream_window : 256 << 10;
    params.initial_max_stream_data_uni = 256 << 10;
    params.initial_max_data = 1 << 20;
    params.max_idle_timeout = 60 * second;
    params.active_connection_id_limit = 7;
    ngtcp2_cid dcid = {.datalen = 18}, scid = {.datalen = 17};
    gnutls_rnd(GNUTLS_RND_NONCE, dcid.data, dcid.datalen);
    gnutls_rnd(GNUTLS_RND_NONCE, scid.data, scid.datalen);
    struct sockaddr_in to[2];
    ngtcp2_path path = client_path(&c->path, to);
    if (ngtcp2_conn_client_new(&c->quic, &dcid, &scid, &path,
                               o->version ? o->version : NGTCP2_PROTO_VER_V1, &callbacks, &settings,
                               &params, NULL, c) != 0) {
        abort();
    }
    c->tls = client_tls(c, o);
    ngtcp2_conn_set_tls_native_handle(c->quic, c->tls);
    return c;
}

static inline void client_free(struct client *c)
{
    if (c->http) {
        nghttp3_conn_del(c->http);
    }
    ngtcp2_conn_del(c->quic);
    gnutls_deinit(c->tls);
    gnutls_certificate_free_credentials(c->credentials);
    for (uint32_t i = 0; i < c->n_answers; i++) {
        free(c->answers[i].head.bytes);
        free(c->answers[i].body.bytes);
    }
    free(c);
}

/* A request; body: NULL: none. Fields beyond the pseudo ones come as pairs. */
static inline struct answer *client_ask_with(struct client *c, const char *const (*fields)[2],
                                             size_t n, const char *body, size_t size)
{
    static const nghttp3_data_reader reader = {client_body};
    nghttp3_nv nv[200];
    struct answer *a = &c->answers[c->n_answers++];
    if (c->n_answers > ANSWERS_MAX || ngtcp2_conn_open_bidi_stream(c->quic, &a->id, NULL) != 0) {
        fprintf(stderr, "no stream\n");
        abort();
    }
    a->request = body;
    a->request_bytes = size;
    text_put(&a->head, "", 0);
    text_put(&a->body, "", 0);
    for (size_t i = 0; i < n; i++) {
        nv[i] = (nghttp3_nv){(const uint8_t *)fields[i][0], (const uint8_t *)fields[i][1],
                             strlen(fields[i][0]), strlen(fields[i][1]), NGHTTP3_NV_FLAG_NONE};
    }
    if (nghttp3_conn_submit_request(c->http, a->id, nv, n, body ? &reader : NULL, NULL) != 0) {
        abort();
    }
    return a;
}

static inline struct answer *client_ask(struct client *c, const char *method, const char *path,
                                        const char *body)
{
    const char *const fields[][2] = {
        {":method", method}, {":scheme", "https"}, {":authority", "localhost"}, {":path", path}};
    return client_ask_with(c, fields, 4, body, body ? strlen(body) : 0);
}

/* Bytes on a new stream. */
static inline struct answer *client_say(struct client *c, bool uni, const void *bytes, size_t size,
                                        bool fin)
{
    struct answer *a = &c->answers[c->n_answers++];
    if (c->n_answers > ANSWERS_MAX || c->n_raws == RAW_MAX ||
        (uni ? ngtcp2_conn_open_uni_stream(c->quic, &a->id, NULL)
             : ngtcp2_conn_open_bidi_stream(c->quic, &a->id, NULL)) != 0) {
        abort();
    }
    text_put(&a->body, "", 0);
    c->raws[c->n_raws++] = (struct raw){a->id, bytes, size, 0, fin};
    return a;
}

static inline void client_error(struct client *c, int rc)
{
    if (rc == NGTCP2_ERR_DRAINING) {
        c->error = *ngtcp2_conn_get_ccerr(c->quic);
    }
    c->gone = true;
}

static inline bool client_raw_next(struct client *c, struct raw **next)
{
    for (uint32_t i = 0; i < c->n_raws; i++) {
        *next = &c->raws[i];
        if ((*next)->sent < (*next)->size || (*next)->fin) {
            return true;
        }
    }
    return false;
}

static inline ngtcp2_ssize client_write_one(struct client *c, uint8_t *bytes, ngtcp2_path *path,
                                            ngtcp2_pkt_info *info)
{
    for (;;) {
        int64_t id = -1;
        int fin = 0;
        nghttp3_vec vec[4];
        nghttp3_ssize n = 0;
        struct raw *raw = NULL;
        if (c->http) {
            n = nghttp3_conn_writev_stream(c->http, &id, &fin, vec, 4);
            if (n < 0) {
                abort();
            }
        }
        if (id < 0 && c->established && client_raw_next(c, &raw)) {
            id = raw->id;
            vec[0] = (nghttp3_vec){(uint8_t *)raw->bytes + raw->sent, raw->size - raw->sent};
            n = 1;
            fin = raw->fin;
        }
        ngtcp2_ssize taken = -1;
        ngtcp2_ssize size = ngtcp2_conn_writev_stream(
            c->quic, path, info, bytes, PAYLOAD_MAX, &taken,
            NGTCP2_WRITE_STREAM_FLAG_MORE | (fin ? NGTCP2_WRITE_STREAM_FLAG_FIN : 0u), id,
            (const ngtcp2_vec *)(const void *)vec, (size_t)n, c->world->now_ns);
        if (taken >= 0 && raw) {
            raw->sent += (size_t)taken;
            raw->fin = raw->fin && raw->sent < raw->size;
        } else if (taken >= 0) {
            nghttp3_conn_add_write_offset(c->http, id, (size_t)taken);
        }
        if (size == NGTCP2_ERR_STREAM_SHUT_WR || size == NGTCP2_ERR_STREAM_NOT_FOUND) {
            if (raw) {
                raw->sent = raw->size;
                raw->fin = false;
            } else {
                nghttp3_conn_shutdown_stream_write(c->http, id);
            }
        } else if (size == NGTCP2_ERR_STREAM_DATA_BLOCKED) {
            if (raw) {
                return 0;
            }
            nghttp3_conn_block_stream(c->http, id);
        } else if (size != NGTCP2_ERR_WRITE_MORE) {
            return size;
        }
    }
}

static inline void client_write(struct client *c)
{
    while (!c->gone && !c->silent) {
        uint8_t bytes[PAYLOAD_MAX];
        ngtcp2_path_storage where;
        ngtcp2_pkt_info info;
        ngtcp2_path_storage_zero(&where);
        ngtcp2_ssize size = client_write_one(c, bytes, &where.path, &info);
        if (size < 0) {
            client_error(c, (int)size);
        }
        if (size <= 0) {
            break;
        }
        struct tsr_path seen = c->path;
        seen.local.port = c->nat_port ? c->nat_port : seen.local.port;
        world_send(c->world, true, &seen, bytes, (size_t)size, info.ecn);
    }
    if (!c->gone) {
        ngtcp2_conn_update_pkt_tx_time(c->quic, c->world->now_ns);
    }
}

static inline void client_read(struct client *c, struct packet *p)
{
    struct sockaddr_in to[2];
    ngtcp2_path path = client_path(&p->path, to);
    const ngtcp2_pkt_info info = {p->ecn};
    int rc = c->gone
                 ? 0
                 : ngtcp2_conn_read_pkt(c->quic, &path, &info, p->bytes, p->size, c->world->now_ns);
    if (rc != 0) {
        client_error(c, rc);
    }
}

/* ---- Time ---- */

static inline uint64_t world_next(const struct world *w)
{
    uint64_t next = tsr_http3_wake_ns(w->server);
    for (uint32_t i = 0; i < w->n_packets; i++) {
        next = w->packets[i].at_ns < next ? w->packets[i].at_ns : next;
    }
    for (uint32_t i = 0; i < w->n_clients; i++) {
        const struct client *c = w->clients[i];
        uint64_t at = c->gone || c->silent ? UINT64_MAX : ngtcp2_conn_get_expiry(c->quic);
        next = at < next ? at : next;
    }
    return next < w->now_ns ? w->now_ns : next;
}

static inline void world_deliver(struct world *w, struct packet *p)
{
    if (p->to_server) {
        w->came_bytes += p->size;
        const struct tsr_datagram datagram = {p->path, p->bytes, p->size, p->ecn};
        tsr_http3_datagram(w->server, &datagram, w->now_ns);
        return;
    }
    for (uint32_t i = 0; i < w->n_clients; i++) {
        struct client *c = w->clients[i];
        if (!c->silent && (c->nat_port ? c->nat_port : c->path.local.port) == p->path.local.port) {
            struct packet own = *p;
            own.path.local.port = c->path.local.port;
            client_read(c, &own);
        }
    }
}

static inline void world_turn(struct world *w)
{
    w->room = 64;
    for (uint32_t i = 0; i < w->n_packets;) {
        if (w->packets[i].at_ns <= w->now_ns) {
            struct packet p = w->packets[i];
            memmove(&w->packets[i], &w->packets[i + 1], (--w->n_packets - i) * sizeof *w->packets);
            world_deliver(w, &p);
        } else {
            i++;
        }
    }
    tsr_http3_step(w->server, w->now_ns, UNIX_S);
    for (uint32_t i = 0; i < w->n_clients; i++) {
        struct client *c = w->clients[i];
        if (!c->gone && !c->silent && ngtcp2_conn_get_expiry(c->quic) <= w->now_ns &&
            ngtcp2_conn_handle_expiry(c->quic, w->now_ns) != 0) {
            c->gone = true;
        }
        client_write(c);
    }
}

/* Runs for so long at most, or until done() says so. */
static inline bool world_run(struct world *w, uint64_t for_ns, bool (*done)(struct world *))
{
    uint64_t end_ns = w->now_ns + for_ns;
    world_turn(w);
    while (!done || !done(w)) {
        uint64_t next = world_next(w);
        if (next > end_ns) {
            w->now_ns = end_ns;
            world_turn(w);
            return false;
        }
        w->now_ns = next > w->now_ns ? next : w->now_ns + 1000; /* a turn takes its time */
        world_turn(w);
    }
    return true;
}

static inline bool world_established(struct world *w)
{
    for (uint32_t i = 0; i < w->n_clients; i++) {
        if (!w->clients[i]->established && !w->clients[i]->gone) {
            return false;
        }
    }
    return true;
}

static inline bool world_answered(struct world *w)
{
    for (uint32_t i = 0; i < w->n_clients; i++) {
        const struct client *c = w->clients[i];
        for (uint32_t k = 0; k < c->n_answers && !c->gone; k++) {
            if (!c->answers[k].ended && !c->answers[k].closed) {
                return false;
            }
        }
    }
    return true;
}

static inline void world_free(struct world *w)
{
    tsr_http3_destroy(w->server);
    for (uint32_t i = 0; i < w->n_clients; i++) {
        client_free(w->clients[i]);
    }
    free(w->packets);
    free(w);
}

/* A connection that is ready to be used. */
static inline struct client *world_connect(struct world *w, const struct client_options *options)
{
    struct client *c = client_make(w, options);
    world_run(w, 10 * second, world_established);
    return c;
}

#endif
