#include "client.h"

#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <gnutls/crypto.h>
#include <ngtcp2/ngtcp2_crypto_gnutls.h>

/* ---- What QUIC asks for ---- */

static ngtcp2_conn *conn_of_ref(ngtcp2_crypto_conn_ref *ref)
{
    return ((struct client *)ref->user_data)->quic;
}

static void on_rand(uint8_t *bytes, size_t size, const ngtcp2_rand_ctx *ctx)
{
    (void)ctx;
    gnutls_rnd(GNUTLS_RND_NONCE, bytes, size);
}

static void make_id(const struct client *c, ngtcp2_cid *cid, size_t size)
{
    cid->datalen = size;
    gnutls_rnd(GNUTLS_RND_NONCE, cid->data, size);
    memcpy(cid->data, &c->place.number, sizeof c->place.number);
}

static int on_new_id(ngtcp2_conn *quic, ngtcp2_cid *cid, uint8_t *token, size_t size, void *user)
{
    (void)quic;
    make_id(user, cid, size);
    gnutls_rnd(GNUTLS_RND_NONCE, token, NGTCP2_STATELESS_RESET_TOKENLEN);
    return 0;
}

static void end(struct answer *a)
{
    if (!a->is_over) {
        a->is_over = true;
        if (a->client->over) {
            a->client->over(a);
        }
    }
}

static int on_stream_data(ngtcp2_conn *quic, uint32_t flags, int64_t id, uint64_t offset,
                          const uint8_t *data, size_t size, void *user, void *stream)
{
    struct client *c = user;
    struct answer *a = stream;
    (void)offset;
    ngtcp2_conn_extend_max_offset(quic, size);
    if (!c->http) {
        ngtcp2_conn_extend_max_stream_offset(quic, id, size);
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

static int on_acked(ngtcp2_conn *quic, int64_t id, uint64_t offset, uint64_t size, void *user,
                    void *stream)
{
    struct client *c = user;
    (void)quic, (void)offset, (void)stream;
    if (c->http) {
        nghttp3_conn_add_ack_offset(c->http, id, size);
    }
    return 0;
}

static int on_stream_close(ngtcp2_conn *quic, uint32_t flags, int64_t id, uint64_t code, void *user,
                           void *stream)
{
    struct client *c = user;
    struct answer *a = stream;
    (void)quic;
    if (!(flags & NGTCP2_STREAM_CLOSE_FLAG_APP_ERROR_CODE_SET)) {
        code = NGHTTP3_H3_NO_ERROR;
    }
    if (c->http) {
        nghttp3_conn_close_stream(c->http, id, code);
    }
    if (a) {
        a->closed = true;
        a->code = code;
        end(a);
    }
    return 0;
}

static int on_stream_reset(ngtcp2_conn *quic, int64_t id, uint64_t size, uint64_t code, void *user,
                           void *stream)
{
    struct client *c = user;
    struct answer *a = stream;
    (void)quic, (void)size;
    if (a) {
        a->code = code;
        a->closed = true;
        end(a);
    }
    if (c->http) {
        nghttp3_conn_shutdown_stream_read(c->http, id);
    }
    return 0;
}

static int on_handshake(ngtcp2_conn *quic, void *user)
{
    struct client *c = user;
    (void)quic;
    c->established = true;
    return 0;
}

static int on_retry(ngtcp2_conn *quic, const ngtcp2_pkt_hd *hd, void *user)
{
    struct client *c = user;
    c->retried = true;
    return ngtcp2_crypto_recv_retry_cb(quic, hd, user);
}

static int on_negotiation(ngtcp2_conn *quic, const ngtcp2_pkt_hd *hd, const uint32_t *sv,
                          size_t nsv, void *user)
{
    struct client *c = user;
    (void)quic, (void)hd;
    for (size_t i = 0; i < nsv; i++) {
        c->negotiated = c->negotiated || sv[i] == NGTCP2_PROTO_VER_V1;
    }
    return 0;
}

static int on_stateless_reset(ngtcp2_conn *quic, const ngtcp2_pkt_stateless_reset *sr, void *user)
{
    struct client *c = user;
    (void)quic, (void)sr;
    c->reset = true;
    return 0;
}

static int on_token(ngtcp2_conn *quic, const uint8_t *token, size_t size, void *user)
{
    struct client *c = user;
    (void)quic;
    if (size <= sizeof c->token) {
        memcpy(c->token, token, size);
        c->token_size = size;
    }
    return 0;
}

static int on_more_stream_data(ngtcp2_conn *quic, int64_t id, uint64_t n, void *user, void *stream)
{
    struct client *c = user;
    (void)quic, (void)n, (void)stream;
    if (c->http) {
        nghttp3_conn_unblock_stream(c->http, id);
    }
    return 0;
}

/* ---- What HTTP/3 asks for ---- */

static int on_field(nghttp3_conn *http, int64_t id, int32_t token, nghttp3_rcbuf *name,
                    nghttp3_rcbuf *value, uint8_t flags, void *user, void *stream)
{
    struct answer *a = stream;
    (void)http, (void)id, (void)flags, (void)user;
    nghttp3_vec n = nghttp3_rcbuf_get_buf(name), v = nghttp3_rcbuf_get_buf(value);
    if (a && token == NGHTTP3_QPACK_TOKEN__STATUS) {
        a->status = (unsigned)atoi((const char *)v.base);
    }
    if (a) {
        text_put(&a->head, n.base, n.len);
        text_put(&a->head, ": ", 2);
        text_put(&a->head, v.base, v.len);
        text_put(&a->head, "\n", 1);
    }
    return 0;
}

static int on_data(nghttp3_conn *http, int64_t id, const uint8_t *data, size_t size, void *user,
                   void *stream)
{
    struct client *c = user;
    struct answer *a = stream;
    (void)http;
    if (a && c->heard) {
        c->heard(a, data, size);
    } else if (a) {
        text_put(&a->body, data, size);
    }
    if (c->reads) {
        ngtcp2_conn_extend_max_stream_offset(c->quic, id, size);
    }
    return 0;
}

static int on_end(nghttp3_conn *http, int64_t id, void *user, void *stream)
{
    struct answer *a = stream;
    (void)http, (void)id, (void)user;
    if (a) {
        a->ended = true;
        end(a);
    }
    return 0;
}

static int on_stop(nghttp3_conn *http, int64_t id, uint64_t code, void *user, void *stream)
{
    struct client *c = user;
    (void)http, (void)stream;
    ngtcp2_conn_shutdown_stream_read(c->quic, 0, id, code);
    return 0;
}

static int on_shutdown(nghttp3_conn *http, int64_t id, void *user)
{
    struct client *c = user;
    (void)http, (void)id;
    c->goaway = true;
    return 0;
}

static nghttp3_ssize on_read(nghttp3_conn *http, int64_t id, nghttp3_vec *vec, size_t n,
                             uint32_t *flags, void *user, void *stream)
{
    enum { PIECE = 10000 };
    struct answer *a = stream;
    (void)http, (void)id, (void)n, (void)user;
    size_t size = a->request_bytes - a->request_read;
    size = size < PIECE ? size : PIECE;
    vec[0] = (nghttp3_vec){(uint8_t *)a->request + a->request_read, size};
    a->request_read += size;
    if (a->request_read == a->request_bytes) {
        *flags |= NGHTTP3_DATA_FLAG_EOF;
    }
    return size ? 1 : 0;
}

/* ---- Beginning and end ---- */

static socklen_t write_name(ngtcp2_sockaddr_union *to, const struct tsr_address *a)
{
    memset(to, 0, sizeof *to);
    if (a->family == 4) {
        to->in.sin_family = AF_INET;
        to->in.sin_port = htons(a->port);
        memcpy(&to->in.sin_addr, a->ip, 4);
        return sizeof to->in;
    }
    to->in6.sin6_family = AF_INET6;
    to->in6.sin6_port = htons(a->port);
    memcpy(&to->in6.sin6_addr, a->ip, 16);
    return sizeof to->in6;
}

ngtcp2_path client_path(const struct tsr_path *path, ngtcp2_sockaddr_union to[2])
{
    socklen_t local = write_name(&to[0], &path->local), remote = write_name(&to[1], &path->remote);
    return (ngtcp2_path){.local = {&to[0].sa, local}, .remote = {&to[1].sa, remote}};
}

static gnutls_session_t open_tls(struct client *c, const struct client_options *o)
{
    const char *alpn = o->alpn ? o->alpn : "h3", *name = o->name ? o->name : "localhost";
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
    gnutls_server_name_set(tls, GNUTLS_NAME_DNS, name, strlen(name));
    return tls;
}

static int open_http(struct client *c)
{
    static const nghttp3_callbacks callbacks = {
        .recv_data = on_data,
        .recv_header = on_field,
        .end_stream = on_end,
        .stop_sending = on_stop,
        .shutdown = on_shutdown,
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

static int on_key(ngtcp2_conn *quic, ngtcp2_encryption_level level, void *user)
{
    struct client *c = user;
    (void)quic;
    return level == NGTCP2_ENCRYPTION_LEVEL_1RTT && !c->is_raw && open_http(c)
               ? NGTCP2_ERR_CALLBACK_FAILURE
               : 0;
}

static const ngtcp2_callbacks callbacks = {
    .client_initial = ngtcp2_crypto_client_initial_cb,
    .recv_crypto_data = ngtcp2_crypto_recv_crypto_data_cb,
    .handshake_completed = on_handshake,
    .recv_version_negotiation = on_negotiation,
    .encrypt = ngtcp2_crypto_encrypt_cb,
    .decrypt = ngtcp2_crypto_decrypt_cb,
    .hp_mask = ngtcp2_crypto_hp_mask_cb,
    .recv_stream_data = on_stream_data,
    .acked_stream_data_offset = on_acked,
    .stream_close = on_stream_close,
    .recv_stateless_reset = on_stateless_reset,
    .recv_retry = on_retry,
    .rand = on_rand,
    .get_new_connection_id = on_new_id,
    .update_key = ngtcp2_crypto_update_key_cb,
    .stream_reset = on_stream_reset,
    .extend_max_stream_data = on_more_stream_data,
    .recv_new_token = on_token,
    .delete_crypto_aead_ctx = ngtcp2_crypto_delete_crypto_aead_ctx_cb,
    .delete_crypto_cipher_ctx = ngtcp2_crypto_delete_crypto_cipher_ctx_cb,
    .get_path_challenge_data = ngtcp2_crypto_get_path_challenge_data_cb,
    .version_negotiation = ngtcp2_crypto_version_negotiation_cb,
    .recv_rx_key = on_key,
};

static void open_quic(struct client *c, const struct client_options *o)
{
    ngtcp2_settings settings;
    ngtcp2_transport_params params;
    ngtcp2_settings_default(&settings);
    ngtcp2_transport_params_default(&params);
    settings.initial_ts = *c->place.now_ns;
    settings.token = o->token;
    settings.tokenlen = o->token_size;
    settings.token_type = NGTCP2_TOKEN_TYPE_NEW_TOKEN;
    params.initial_max_streams_uni = o->uni_streams ? o->uni_streams : 100;
    params.initial_max_stream_data_bidi_local = o->stream_window ? o->stream_window : 256 << 10;
    params.initial_max_stream_data_uni = 256 << 10;
    params.initial_max_data = 1 << 20;
    params.max_idle_timeout = o->idle_ns ? o->idle_ns : 60 * NGTCP2_SECONDS;
    params.active_connection_id_limit = 7;
    ngtcp2_cid dcid = {.datalen = 18}, scid;
    gnutls_rnd(GNUTLS_RND_NONCE, dcid.data, dcid.datalen);
    make_id(c, &scid, CLIENT_ID_BYTES);
    ngtcp2_sockaddr_union to[2];
    ngtcp2_path path = client_path(&c->place.path, to);
    if (ngtcp2_conn_client_new(&c->quic, &dcid, &scid, &path,
                               o->version ? o->version : NGTCP2_PROTO_VER_V1, &callbacks, &settings,
                               &params, NULL, c) != 0) {
        abort();
    }
}

struct client *client_create(const struct client_place *place, const struct client_options *options)
{
    static const struct client_options none;
    const struct client_options *o = options ? options : &none;
    struct client *c = calloc(1, sizeof *c);
    if (!c) {
        abort();
    }
    *c = (struct client){.place = *place, .ref = {conn_of_ref, c}, .is_raw = o->raw, .reads = true};
    open_quic(c, o);
    c->tls = open_tls(c, o);
    ngtcp2_conn_set_tls_native_handle(c->quic, c->tls);
    return c;
}

static void free_answer(struct answer *a)
{
    free(a->head.bytes);
    free(a->body.bytes);
    free(a);
}

void client_free(struct client *c)
{
    if (c->http) {
        nghttp3_conn_del(c->http);
    }
    ngtcp2_conn_del(c->quic);
    gnutls_deinit(c->tls);
    gnutls_certificate_free_credentials(c->credentials);
    for (uint32_t i = 0; i < c->n_answers; i++) {
        free_answer(c->answers[i]);
    }
    free(c->answers);
    free(c);
}

/* ---- Asking ---- */

static struct answer *make_answer(struct client *c)
{
    if (c->n_answers == c->answers_max) {
        c->answers_max = c->answers_max ? 2 * c->answers_max : 4;
        c->answers = realloc(c->answers, c->answers_max * sizeof *c->answers);
    }
    struct answer *a = calloc(1, sizeof *a);
    if (!c->answers || !a) {
        abort();
    }
    a->client = c;
    a->at = c->n_answers;
    c->answers[c->n_answers++] = a;
    text_put(&a->head, "", 0);
    text_put(&a->body, "", 0);
    return a;
}

void client_forget(struct answer *a)
{
    struct client *c = a->client;
    ngtcp2_conn_set_stream_user_data(c->quic, a->id, NULL); /* if it is still there */
    if (c->http) {
        nghttp3_conn_set_stream_user_data(c->http, a->id, NULL);
    }
    c->answers[a->at] = c->answers[--c->n_answers];
    c->answers[a->at]->at = a->at;
    free_answer(a);
}

struct answer *client_try(struct client *c, const char *const (*fields)[2], size_t n,
                          const char *body, size_t size)
{
    static const nghttp3_data_reader reader = {on_read};
    enum { FIELDS_MAX = 200 };
    nghttp3_nv nv[FIELDS_MAX];
    int64_t id;
    if (n > FIELDS_MAX || !c->http) {
        abort();
    }
    if (ngtcp2_conn_open_bidi_stream(c->quic, &id, NULL) != 0) {
        return NULL;
    }
    struct answer *a = make_answer(c);
    ngtcp2_conn_set_stream_user_data(c->quic, id, a);
    a->id = id;
    a->request = body;
    a->request_bytes = size;
    for (size_t i = 0; i < n; i++) {
        nv[i] = (nghttp3_nv){(const uint8_t *)fields[i][0], (const uint8_t *)fields[i][1],
                             strlen(fields[i][0]), strlen(fields[i][1]), NGHTTP3_NV_FLAG_NONE};
    }
    if (nghttp3_conn_submit_request(c->http, id, nv, n, body ? &reader : NULL, a) != 0) {
        abort();
    }
    return a;
}

struct answer *client_ask_with(struct client *c, const char *const (*fields)[2], size_t n,
                               const char *body, size_t size)
{
    struct answer *a = client_try(c, fields, n, body, size);
    if (!a) {
        fprintf(stderr, "no stream\n");
        abort();
    }
    return a;
}

struct answer *client_ask(struct client *c, const char *method, const char *path, const char *body)
{
    const char *const fields[][2] = {
        {":method", method}, {":scheme", "https"}, {":authority", "localhost"}, {":path", path}};
    return client_ask_with(c, fields, 4, body, body ? strlen(body) : 0);
}

struct answer *client_say(struct client *c, bool uni, const void *bytes, size_t size, bool fin)
{
    struct answer *a = make_answer(c);
    if (c->n_raws == CLIENT_RAW_MAX || (uni ? ngtcp2_conn_open_uni_stream(c->quic, &a->id, a)
                                            : ngtcp2_conn_open_bidi_stream(c->quic, &a->id, a))) {
        abort();
    }
    c->raws[c->n_raws++] = (struct raw){a->id, bytes, size, 0, fin};
    return a;
}

/* ---- Datagrams ---- */

static void fail(struct client *c, int rc)
{
    if (rc == NGTCP2_ERR_DRAINING) {
        c->error = *ngtcp2_conn_get_ccerr(c->quic);
    }
    c->gone = true;
}

static bool next_raw(struct client *c, struct raw **next)
{
    for (uint32_t i = 0; i < c->n_raws; i++) {
        *next = &c->raws[i];
        if ((*next)->sent < (*next)->size || (*next)->fin) {
            return true;
        }
    }
    return false;
}

static ngtcp2_ssize write_one(struct client *c, uint8_t *bytes, size_t capacity, ngtcp2_path *path,
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
        if (id < 0 && c->established && next_raw(c, &raw)) {
            id = raw->id;
            vec[0] = (nghttp3_vec){(uint8_t *)raw->bytes + raw->sent, raw->size - raw->sent};
            n = 1;
            fin = raw->fin;
        }
        ngtcp2_ssize taken = -1;
        ngtcp2_ssize size = ngtcp2_conn_writev_stream(
            c->quic, path, info, bytes, capacity, &taken,
            NGTCP2_WRITE_STREAM_FLAG_MORE | (fin ? NGTCP2_WRITE_STREAM_FLAG_FIN : 0u), id,
            (const ngtcp2_vec *)(const void *)vec, (size_t)n, *c->place.now_ns);
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

static uint8_t *room_for(struct client *c, size_t *capacity)
{
    uint8_t *bytes = c->place.way.room(c->place.port, &c->place.path, capacity);
    *capacity = *capacity < CLIENT_PAYLOAD_MAX ? *capacity : CLIENT_PAYLOAD_MAX;
    return bytes;
}

bool client_write(struct client *c)
{
    bool room = true;
    while (!c->gone && !c->silent) {
        size_t capacity;
        uint8_t *bytes = room_for(c, &capacity);
        ngtcp2_path_storage where;
        ngtcp2_pkt_info info;
        if (!bytes) {
            room = false;
            break;
        }
        ngtcp2_path_storage_zero(&where);
        ngtcp2_ssize size = write_one(c, bytes, capacity, &where.path, &info);
        if (size < 0) {
            fail(c, (int)size);
        }
        if (size <= 0) {
            break;
        }
        c->place.way.send(c->place.port, &c->place.path, (size_t)size, info.ecn);
    }
    if (!c->gone) {
        ngtcp2_conn_update_pkt_tx_time(c->quic, *c->place.now_ns);
    }
    return room;
}

void client_read(struct client *c, const struct tsr_datagram *datagram)
{
    ngtcp2_sockaddr_union to[2];
    ngtcp2_path path = client_path(&datagram->path, to);
    const ngtcp2_pkt_info info = {datagram->ecn};
    int rc = c->gone ? 0
                     : ngtcp2_conn_read_pkt(c->quic, &path, &info, datagram->bytes, datagram->size,
                                            *c->place.now_ns);
    if (rc != 0) {
        fail(c, rc);
    }
}

uint64_t client_expiry_ns(const struct client *c)
{
    return c->gone || c->silent ? UINT64_MAX : ngtcp2_conn_get_expiry(c->quic);
}

void client_expire(struct client *c)
{
    if (!c->gone && ngtcp2_conn_handle_expiry(c->quic, *c->place.now_ns) != 0) {
        c->gone = true;
    }
}

void client_close(struct client *c)
{
    ngtcp2_ccerr why;
    ngtcp2_path_storage where;
    ngtcp2_pkt_info info;
    size_t capacity;
    uint8_t *bytes = c->gone ? NULL : room_for(c, &capacity);
    if (bytes) {
        ngtcp2_ccerr_default(&why);
        ngtcp2_ccerr_set_application_error(&why, NGHTTP3_H3_NO_ERROR, NULL, 0);
        ngtcp2_path_storage_zero(&where);
        ngtcp2_ssize size = ngtcp2_conn_write_connection_close(c->quic, &where.path, &info, bytes,
                                                               capacity, &why, *c->place.now_ns);
        if (size > 0) {
            c->place.way.send(c->place.port, &c->place.path, (size_t)size, info.ecn);
        }
    }
    c->gone = true;
}
