#include "http3_priv.h"

#include <string.h>

#include <tsr/api/peers.h>

/* ---- What QUIC asks for ---- */

static ngtcp2_conn *conn_of_ref(ngtcp2_crypto_conn_ref *ref)
{
    return ((struct tsr_http3_conn *)ref->user_data)->quic;
}

static void on_rand(uint8_t *bytes, size_t size, const ngtcp2_rand_ctx *ctx)
{
    (void)ctx;
    tsr_http3_random(bytes, size);
}

static int on_new_id(ngtcp2_conn *quic, ngtcp2_cid *cid, uint8_t *token, size_t size, void *user)
{
    struct tsr_http3_conn *conn = user;
    struct tsr_http3 *http3 = conn->http3;
    (void)quic;
    cid->datalen = size;
    tsr_http3_random(cid->data, size);
    cid->data[0] = http3->options.queue;
    if (ngtcp2_crypto_generate_stateless_reset_token(token, http3->reset_secret,
                                                     sizeof http3->reset_secret, cid) != 0 ||
        !tsr_http3_cids_add(&http3->cids, &conn->owner, cid->data, size)) {
        return NGTCP2_ERR_CALLBACK_FAILURE;
    }
    return 0;
}

static int on_old_id(ngtcp2_conn *quic, const ngtcp2_cid *cid, void *user)
{
    struct tsr_http3_conn *conn = user;
    (void)quic;
    tsr_http3_cids_remove(&conn->http3->cids, &conn->owner, cid->data, cid->datalen);
    return 0;
}

/* With the next connection's first packet it shows that the address is its client's own. */
static int give_token(struct tsr_http3_conn *conn, const ngtcp2_path *path)
{
    struct tsr_http3 *http3 = conn->http3;
    uint8_t token[NGTCP2_CRYPTO_MAX_REGULAR_TOKENLEN];
    ngtcp2_ssize size = ngtcp2_crypto_generate_regular_token(
        token, http3->token_secret, sizeof http3->token_secret, path->remote.addr,
        path->remote.addrlen, http3->now_ns);
    return size < 0 ? NGTCP2_ERR_CALLBACK_FAILURE
                    : ngtcp2_conn_submit_new_token(conn->quic, token, (size_t)size);
}

/* After the handshake TLS has nothing to say any more (RFC 9001, 4.4 and 6). */
static int on_crypto(ngtcp2_conn *quic, ngtcp2_encryption_level level, uint64_t offset,
                     const uint8_t *data, size_t size, void *user)
{
    struct tsr_http3_conn *conn = user;
    if (!conn->tls) {
        ngtcp2_conn_set_tls_alert(quic, GNUTLS_A_UNEXPECTED_MESSAGE);
        return NGTCP2_ERR_CRYPTO;
    }
    return ngtcp2_crypto_recv_crypto_data_cb(quic, level, offset, data, size, user);
}

static void count_handshake(struct tsr_http3_conn *conn, int more)
{
    conn->http3->counts.handshakes += (uint64_t)more;
    conn->http3->of_peers[conn->peer].handshakes += (uint32_t)more;
}

/* Where these keys fail, there is no other way to say anything. */
static int on_client_initial(ngtcp2_conn *quic, const ngtcp2_cid *id, void *user)
{
    struct tsr_http3_conn *conn = user;
    int rc = ngtcp2_crypto_recv_client_initial_cb(quic, id, user);
    conn->has_keys = rc == 0;
    return rc;
}

static int on_handshake(ngtcp2_conn *quic, void *user)
{
    struct tsr_http3_conn *conn = user;
    conn->established = true;
    conn->http3->shaken = true;
    count_handshake(conn, -1);
    conn->http3->counts.established++;
    return give_token(conn, ngtcp2_conn_get_path(quic)) ? NGTCP2_ERR_CALLBACK_FAILURE : 0;
}

static int on_send_key(ngtcp2_conn *quic, ngtcp2_encryption_level level, void *user)
{
    struct tsr_http3_conn *conn = user;
    (void)quic;
    conn->http3->shaken = true;
    return level == NGTCP2_ENCRYPTION_LEVEL_1RTT ? tsr_http3_streams_open(conn) : 0;
}

/* A new address of a client that has moved: the next connection may come from there. */
static int on_path(ngtcp2_conn *quic, uint32_t flags, const ngtcp2_path *path,
                   const ngtcp2_path *old, ngtcp2_path_validation_result result, void *user)
{
    (void)quic, (void)old;
    if (result == NGTCP2_PATH_VALIDATION_RESULT_SUCCESS &&
        (flags & NGTCP2_PATH_VALIDATION_FLAG_NEW_TOKEN)) {
        return give_token(user, path) ? NGTCP2_ERR_CALLBACK_FAILURE : 0;
    }
    return 0;
}

static int on_stream_data(ngtcp2_conn *quic, uint32_t flags, int64_t id, uint64_t offset,
                          const uint8_t *data, size_t size, void *user, void *stream)
{
    struct tsr_http3_conn *conn = user;
    (void)stream;
    bool fin = flags & NGTCP2_STREAM_DATA_FLAG_FIN;
    nghttp3_ssize n = ngtcp2_is_bidi_stream(id)
                          ? nghttp3_conn_read_stream(conn->http, id, data, size, fin)
                          : tsr_http3_control_read(conn, id, offset, data, size, fin);
    if (n < 0) {
        return tsr_http3_conn_fail(conn, nghttp3_err_infer_quic_app_error_code((int)n));
    }
    ngtcp2_conn_extend_max_stream_offset(quic, id, (uint64_t)n);
    ngtcp2_conn_extend_max_offset(quic, (uint64_t)n);
    return 0;
}

static int on_acked(ngtcp2_conn *quic, int64_t id, uint64_t offset, uint64_t size, void *user,
                    void *stream)
{
    struct tsr_http3_conn *conn = user;
    (void)quic, (void)offset, (void)stream;
    int rc = nghttp3_conn_add_ack_offset(conn->http, id, size);
    return rc == 0 || rc == NGHTTP3_ERR_STREAM_NOT_FOUND
               ? 0
               : tsr_http3_conn_fail(conn, nghttp3_err_infer_quic_app_error_code(rc));
}

static int on_stream_close(ngtcp2_conn *quic, uint32_t flags, int64_t id, uint64_t code, void *user,
                           void *stream)
{
    struct tsr_http3_conn *conn = user;
    struct tsr_http3 *http3 = conn->http3;
    (void)stream;
    bool broken = flags & NGTCP2_STREAM_CLOSE_FLAG_APP_ERROR_CODE_SET;
    int rc = nghttp3_conn_close_stream(conn->http, id, broken ? code : NGHTTP3_H3_NO_ERROR);
    if (rc != 0 && rc != NGHTTP3_ERR_STREAM_NOT_FOUND) {
        return tsr_http3_conn_fail(conn, nghttp3_err_infer_quic_app_error_code(rc));
    }
    if (ngtcp2_conn_is_local_stream(quic, id)) {
        return 0;
    }
    if (!ngtcp2_is_bidi_stream(id)) {
        ngtcp2_conn_extend_max_streams_uni(quic, 1);
        return 0;
    }
    if (broken && !tsr_http3_spend(http3, &conn->resets, http3->options.resets_max)) {
        return tsr_http3_conn_fail(conn, NGHTTP3_H3_EXCESSIVE_LOAD);
    }
    ngtcp2_conn_extend_max_streams_bidi(quic, 1);
    return 0;
}

static int on_more_streams(ngtcp2_conn *quic, uint64_t n, void *user)
{
    struct tsr_http3_conn *conn = user;
    (void)quic;
    if (conn->http) {
        nghttp3_conn_set_max_client_streams_bidi(conn->http, n);
    }
    return 0;
}

static int on_more_stream_data(ngtcp2_conn *quic, int64_t id, uint64_t n, void *user, void *stream)
{
    struct tsr_http3_conn *conn = user;
    (void)quic, (void)n, (void)stream;
    return nghttp3_conn_unblock_stream(conn->http, id) ? NGTCP2_ERR_CALLBACK_FAILURE : 0;
}

/* The client has given up its half, or this side has. */
static int stop_reading(struct tsr_http3_conn *conn, int64_t id)
{
    int rc = conn->http ? nghttp3_conn_shutdown_stream_read(conn->http, id) : 0;
    return rc == 0 || rc == NGHTTP3_ERR_STREAM_NOT_FOUND ? 0 : NGTCP2_ERR_CALLBACK_FAILURE;
}

static struct tsr_http3_stream *find(const struct tsr_http3_conn *conn, int64_t id)
{
    struct tsr_http3_stream *stream;
    TAILQ_FOREACH(stream, &conn->streams, conn_at)
    {
        if (stream->id == id) {
            return stream;
        }
    }
    return NULL;
}

/* A request that is not whole will not be: nor will its answer. */
static int on_stream_reset(ngtcp2_conn *quic, int64_t id, uint64_t size, uint64_t code, void *user,
                           void *user_stream)
{
    struct tsr_http3_conn *conn = user;
    (void)size, (void)code, (void)user_stream;
    if (!ngtcp2_is_bidi_stream(id)) {
        return conn->http && stop_reading(conn, id) ? NGTCP2_ERR_CALLBACK_FAILURE : 0;
    }
    struct tsr_http3_stream *stream = find(conn, id);
    if (stream && stream->in != TSR_HTTP3_IN_WHOLE) {
        tsr_http3_stream_cancel(stream);
    }
    if (!stream || stream->in != TSR_HTTP3_IN_WHOLE) {
        ngtcp2_conn_shutdown_stream_write(quic, 0, id, NGHTTP3_H3_REQUEST_INCOMPLETE);
    }
    return stop_reading(conn, id);
}

static int on_stop_reading(ngtcp2_conn *quic, int64_t id, uint64_t code, void *user, void *stream)
{
    (void)quic, (void)code, (void)stream;
    return stop_reading(user, id);
}

static const ngtcp2_callbacks callbacks = {
    .recv_client_initial = on_client_initial,
    .recv_crypto_data = on_crypto,
    .handshake_completed = on_handshake,
    .encrypt = ngtcp2_crypto_encrypt_cb,
    .decrypt = ngtcp2_crypto_decrypt_cb,
    .hp_mask = ngtcp2_crypto_hp_mask_cb,
    .recv_stream_data = on_stream_data,
    .acked_stream_data_offset = on_acked,
    .stream_close = on_stream_close,
    .rand = on_rand,
    .get_new_connection_id = on_new_id,
    .remove_connection_id = on_old_id,
    .update_key = ngtcp2_crypto_update_key_cb,
    .path_validation = on_path,
    .stream_reset = on_stream_reset,
    .extend_max_remote_streams_bidi = on_more_streams,
    .extend_max_stream_data = on_more_stream_data,
    .delete_crypto_aead_ctx = ngtcp2_crypto_delete_crypto_aead_ctx_cb,
    .delete_crypto_cipher_ctx = ngtcp2_crypto_delete_crypto_cipher_ctx_cb,
    .get_path_challenge_data = ngtcp2_crypto_get_path_challenge_data_cb,
    .stream_stop_sending = on_stop_reading,
    .version_negotiation = ngtcp2_crypto_version_negotiation_cb,
    .recv_tx_key = on_send_key,
};

/* ---- Its beginning ---- */

/* Payloads that paths often carry, and all that the link does: the largest that arrives is found by
 * trying (RFC 9000, 14.3). */
struct probes {
    uint16_t sizes[6];
    size_t n;
};

static struct probes probes_of(size_t payload_max)
{
    static const uint16_t usual[] = {1452, 2952, 3952, 5952, 8952};
    struct probes probes = {.n = 0};
    size_t last = TSR_HTTP3_INITIAL_MIN;
    for (size_t i = 0; i < sizeof usual / sizeof *usual && usual[i] <= payload_max; i++) {
        last = probes.sizes[probes.n++] = usual[i];
    }
    if (payload_max > last) {
        probes.sizes[probes.n++] = (uint16_t)payload_max;
    }
    return probes;
}

static ngtcp2_settings settings_of(const struct tsr_http3 *http3,
                                   const struct tsr_http3_hello *hello, size_t payload_max,
                                   const struct probes *probes)
{
    ngtcp2_settings s;
    ngtcp2_settings_default(&s);
    s.initial_ts = http3->now_ns;
    s.cc_algo = http3->options.bbr ? NGTCP2_CC_ALGO_BBR : NGTCP2_CC_ALGO_CUBIC;
    s.handshake_timeout = http3->options.handshake_s * tsr_http3_second;
    s.max_tx_udp_payload_size = payload_max;
    s.pmtud_probes = probes->sizes;
    s.pmtud_probeslen = probes->n;
    s.no_pmtud = probes->n == 0;
    s.token = hello->header.token;
    s.tokenlen = hello->header.tokenlen;
    s.token_type = hello->retried     ? NGTCP2_TOKEN_TYPE_RETRY
                   : hello->validated ? NGTCP2_TOKEN_TYPE_NEW_TOKEN
                                      : NGTCP2_TOKEN_TYPE_UNKNOWN;
    return s;
}

static ngtcp2_transport_params params_of(const struct tsr_http3 *http3,
                                         const struct tsr_http3_hello *hello)
{
    const struct tsr_http3_options *o = &http3->options;
    ngtcp2_transport_params p;
    ngtcp2_transport_params_default(&p);
    p.initial_max_stream_data_bidi_remote = TSR_HTTP3_STREAM_WINDOW;
    p.initial_max_stream_data_uni = TSR_HTTP3_STREAM_WINDOW;
    p.initial_max_data = TSR_HTTP3_CONN_WINDOW;
    p.initial_max_streams_bidi = o->streams_max;
    p.initial_max_streams_uni = TSR_HTTP3_UNI_STREAMS;
    p.max_idle_timeout = o->idle_s * tsr_http3_second;
    p.original_dcid = hello->original;
    p.original_dcid_present = 1;
    if (hello->retried) {
        p.retry_scid = hello->header.dcid;
        p.retry_scid_present = 1;
    }
    return p;
}

static void set_timer(struct tsr_http3_conn *conn)
{
    tsr_http3_timers_set(&conn->http3->timers, &conn->owner.timer,
                         ngtcp2_conn_get_expiry(conn->quic));
}

static bool open_quic(struct tsr_http3_conn *conn, const struct tsr_datagram *datagram,
                      const struct tsr_http3_hello *hello)
{
    struct tsr_http3 *http3 = conn->http3;
    struct tsr_http3_sockaddrs sockaddrs;
    ngtcp2_path path = tsr_http3_path(&datagram->path, &sockaddrs);
    size_t capacity;
    if (!tsr_http3_room(http3, &datagram->path, &capacity)) {
        return false;
    }
    const struct probes probes = probes_of(capacity);
    ngtcp2_settings settings = settings_of(http3, hello, capacity, &probes);
    ngtcp2_transport_params params = params_of(http3, hello);
    ngtcp2_cid id = {.datalen = TSR_HTTP3_CID_BYTES};
    if (on_new_id(NULL, &id, params.stateless_reset_token, id.datalen, conn) != 0) {
        return false;
    }
    params.stateless_reset_token_present = 1;
    /* The id that the client chose: until it knows ours. Two clients may choose the same one. */
    if (!tsr_http3_cids_add(&http3->cids, &conn->owner, hello->header.dcid.data,
                            hello->header.dcid.datalen)) {
        return false;
    }
    conn->quic_mem = (ngtcp2_mem){&conn->account, tsr_http3_malloc, tsr_http3_free,
                                  tsr_http3_calloc, tsr_http3_realloc};
    int rc =
        ngtcp2_conn_server_new(&conn->quic, &hello->header.scid, &id, &path, hello->header.version,
                               &callbacks, &settings, &params, &conn->quic_mem, conn);
    if (rc != 0) {
        conn->quic = NULL; /* what it leaves there has been freed */
    }
    return rc == 0;
}

static void close_tls(struct tsr_http3_conn *conn)
{
    if (conn->tls) {
        tsr_http3_tls_close(conn->tls, conn->credentials);
        conn->tls = NULL;
    }
}

static void free_conn(struct tsr_http3_conn *conn)
{
    struct tsr_http3 *http3 = conn->http3;
    tsr_http3_streams_close(conn);
    if (conn->quic) {
        ngtcp2_conn_del(conn->quic);
    }
    close_tls(conn);
    if (!conn->established) {
        count_handshake(conn, -1);
    }
    http3->of_peers[conn->peer].conns--;
    tsr_peers_leave(http3->peers, conn->peer);
    tsr_http3_cids_remove_all(&http3->cids, &conn->owner);
    tsr_http3_timers_set(&http3->timers, &conn->owner.timer, UINT64_MAX);
    if (conn->is_ready) {
        TAILQ_REMOVE(conn->ready_in, conn, ready_at);
    }
    http3->counts.conns--;
    TAILQ_REMOVE(&http3->open, conn, at);
    TAILQ_INSERT_HEAD(&http3->unused, conn, at);
}

void tsr_http3_conn_forget(struct tsr_http3_conn *conn)
{
    free_conn(conn);
}

/* The caller has made sure that one is unused. */
void tsr_http3_conn_open(struct tsr_http3 *http3, const struct tsr_datagram *datagram,
                         const struct tsr_http3_hello *hello, uint32_t peer)
{
    struct tsr_http3_conn *conn = TAILQ_FIRST(&http3->unused);
    struct tsr_http3_peer *of_peer = &http3->of_peers[peer];
    if (of_peer->conns++ == 0) {
        of_peer->datagrams = (struct tsr_http3_budget){0};
    }
    TAILQ_REMOVE(&http3->unused, conn, at);
    *conn = (struct tsr_http3_conn){
        .http3 = http3,
        .ref = {conn_of_ref, conn},
        .account = {&http3->region, &of_peer->account, 0, http3->options.conn_bytes_max, false},
        .answers = {&http3->region, &of_peer->account, 0, http3->options.answer_bytes_max, false},
        .control = {.id = -1},
        .peer = peer,
    };
    TAILQ_INIT(&conn->streams);
    TAILQ_INSERT_TAIL(&http3->open, conn, at);
    ngtcp2_ccerr_default(&conn->error);
    http3->counts.conns++;
    http3->counts.accepted++;
    count_handshake(conn, 1);
    http3->shaken = true;
    conn->tls = tsr_http3_tls_open(http3->tls, &conn->ref, &conn->credentials);
    if (!conn->tls || !open_quic(conn, datagram, hello)) {
        tsr_http3_drop(http3, datagram, TSR_HTTP3_DROP_MEMORY);
        free_conn(conn);
        return;
    }
    ngtcp2_conn_set_tls_native_handle(conn->quic, conn->tls);
    tsr_http3_conn_read(conn, datagram);
}

/* ---- Its end ---- */

static struct tsr_http3_closed *take_closed(struct tsr_http3 *http3)
{
    struct tsr_http3_closed *closed = http3->closed_free;
    if (closed) {
        http3->closed_free = closed->next;
        closed->owner = (struct tsr_http3_owner){.is_closed = true};
        closed->size = closed->n_came = 0;
    }
    return closed;
}

void tsr_http3_closed_forget(struct tsr_http3 *http3, struct tsr_http3_closed *closed)
{
    tsr_http3_cids_remove_all(&http3->cids, &closed->owner);
    tsr_http3_timers_set(&http3->timers, &closed->owner.timer, UINT64_MAX);
    closed->next = http3->closed_free;
    http3->closed_free = closed;
}

static void send_copy(struct tsr_http3 *http3, const struct tsr_path *path, const uint8_t *bytes,
                      size_t size)
{
    size_t capacity;
    uint8_t *room = tsr_http3_room(http3, path, &capacity);
    if (room && size <= capacity) {
        memcpy(room, bytes, size);
        tsr_http3_send(http3, path, size, NGTCP2_ECN_NOT_ECT);
    }
}

/* The connection is replaced by what is left of it. packet: NULL where nothing is to be answered.
 */
static void replace(struct tsr_http3_conn *conn, const struct tsr_path *path, const uint8_t *packet,
                    size_t size)
{
    struct tsr_http3 *http3 = conn->http3;
    struct tsr_http3_closed *closed = take_closed(http3);
    if (closed) {
        uint64_t due_ns = http3->now_ns + 3 * ngtcp2_conn_get_pto(conn->quic);
        if (packet && size <= sizeof closed->packet) {
            memcpy(closed->packet, packet, size);
            closed->size = (uint32_t)size;
            closed->path = *path;
        }
        tsr_http3_cids_hand_over(&conn->owner, &closed->owner);
        tsr_http3_timers_set(&http3->timers, &closed->owner.timer, due_ns);
    }
    free_conn(conn);
}

/* Its answers go less and less often to who goes on sending (RFC 9000, 10.2.1), and only to where
 * they went before: who sends from elsewhere may be anyone. */
void tsr_http3_closed_read(struct tsr_http3 *http3, struct tsr_http3_closed *closed,
                           const struct tsr_datagram *datagram)
{
    tsr_http3_drop(http3, datagram, TSR_HTTP3_DROP_CLOSED);
    uint32_t n = ++closed->n_came;
    if (closed->size && (n & (n - 1)) == 0) {
        send_copy(http3, &closed->path, closed->packet, closed->size);
    }
}

static void count_close(struct tsr_http3_conn *conn)
{
    struct tsr_http3_counts *counts = &conn->http3->counts;
    if (conn->error.type == NGTCP2_CCERR_TYPE_APPLICATION) {
        counts->closed_http += conn->error.error_code != NGHTTP3_H3_NO_ERROR;
        counts->excessive += conn->error.error_code == NGHTTP3_H3_EXCESSIVE_LOAD;
    } else {
        counts->closed_transport++;
    }
}

static void close_conn(struct tsr_http3_conn *conn)
{
    uint8_t packet[NGTCP2_MAX_UDP_PAYLOAD_SIZE];
    ngtcp2_path_storage where;
    ngtcp2_pkt_info info;
    ngtcp2_path_storage_zero(&where);
    count_close(conn);
    ngtcp2_ssize size =
        conn->has_keys
            ? ngtcp2_conn_write_connection_close(conn->quic, &where.path, &info, packet,
                                                 sizeof packet, &conn->error, conn->http3->now_ns)
            : 0;
    if (size <= 0) {
        free_conn(conn);
        return;
    }
    struct tsr_path path = tsr_http3_path_back(&where.path);
    send_copy(conn->http3, &path, packet, (size_t)size);
    replace(conn, &path, packet, (size_t)size);
}

int tsr_http3_conn_fail(struct tsr_http3_conn *conn, uint64_t code)
{
    if (!conn->is_failing) {
        conn->is_failing = true;
        ngtcp2_ccerr_set_application_error(&conn->error, code, NULL, 0);
        tsr_http3_conn_ready(conn);
    }
    return NGTCP2_ERR_CALLBACK_FAILURE;
}

/* What one of the library's functions returned that is not 0; conn may be gone afterwards. */
static void take_error(struct tsr_http3_conn *conn, int rc)
{
    struct tsr_http3 *http3 = conn->http3;
    switch (rc) {
    case NGTCP2_ERR_IDLE_CLOSE:
    case NGTCP2_ERR_HANDSHAKE_TIMEOUT:
        http3->counts.timeouts++;
        free_conn(conn);
        return;
    case NGTCP2_ERR_DROP_CONN:
    case NGTCP2_ERR_RETRY: /* is decided before a connection is made */
        free_conn(conn);
        return;
    case NGTCP2_ERR_DRAINING:
    case NGTCP2_ERR_CLOSING:
        replace(conn, NULL, NULL, 0);
        return;
    default:
        break;
    }
    if (!conn->is_failing) {
        conn->is_failing = true;
        if (conn->account.overdrawn) {
            ngtcp2_ccerr_set_application_error(&conn->error, NGHTTP3_H3_EXCESSIVE_LOAD, NULL, 0);
        } else if (rc == NGTCP2_ERR_CRYPTO) {
            ngtcp2_ccerr_set_tls_alert(&conn->error, ngtcp2_conn_get_tls_alert(conn->quic), NULL,
                                       0);
        } else {
            ngtcp2_ccerr_set_liberr(&conn->error, rc, NULL, 0);
        }
    }
    close_conn(conn);
}

void tsr_http3_conn_drain(struct tsr_http3_conn *conn)
{
    if (!conn->http) {
        tsr_http3_conn_fail(conn, NGHTTP3_H3_NO_ERROR);
        return;
    }
    if (!conn->drained) {
        conn->drained = true;
        if (nghttp3_conn_shutdown(conn->http) != 0) {
            tsr_http3_conn_fail(conn, NGHTTP3_H3_INTERNAL_ERROR);
        }
    }
    tsr_http3_conn_ready(conn);
}

/* ---- Datagrams ---- */

static void make_ready(struct tsr_http3_conn *conn, struct tsr_http3_conns *list)
{
    conn->is_ready = true;
    conn->ready_in = list;
    TAILQ_INSERT_TAIL(list, conn, ready_at);
}

void tsr_http3_conn_keep_place(struct tsr_http3_conn *conn)
{
    if (!conn->is_ready) {
        conn->is_ready = true;
        TAILQ_INSERT_HEAD(conn->ready_in, conn, ready_at);
    }
}

void tsr_http3_conn_ready(struct tsr_http3_conn *conn)
{
    struct tsr_http3 *http3 = conn->http3;
    if (!conn->is_ready) {
        make_ready(conn, conn->established ? &http3->ready : &http3->ready_shaking);
    }
}

void tsr_http3_conn_first(struct tsr_http3_conn *conn)
{
    struct tsr_http3_conns *first = &conn->http3->ready_first;
    if (conn->is_ready && conn->ready_in == first) {
        return;
    }
    if (conn->is_ready) {
        TAILQ_REMOVE(conn->ready_in, conn, ready_at);
    }
    make_ready(conn, first);
}

static bool spend_datagram(struct tsr_http3_conn *conn)
{
    struct tsr_http3 *http3 = conn->http3;
    const struct tsr_http3_options *o = &http3->options;
    return tsr_http3_spend(http3, &conn->datagrams, o->datagrams_max) &&
           tsr_http3_spend(http3, &http3->of_peers[conn->peer].datagrams, o->address.datagrams);
}

void tsr_http3_conn_read(struct tsr_http3_conn *conn, const struct tsr_datagram *datagram)
{
    struct tsr_http3_sockaddrs sockaddrs;
    ngtcp2_path path = tsr_http3_path(&datagram->path, &sockaddrs);
    const ngtcp2_pkt_info info = {datagram->ecn};
    if (conn->established && !spend_datagram(conn)) {
        tsr_http3_drop(conn->http3, datagram, TSR_HTTP3_DROP_RATE);
        return;
    }
    int rc = ngtcp2_conn_read_pkt(conn->quic, &path, &info, datagram->bytes, datagram->size,
                                  conn->http3->now_ns);
    if (rc == NGTCP2_ERR_DROP_CONN || rc == NGTCP2_ERR_RETRY) {
        tsr_http3_drop(conn->http3, datagram, TSR_HTTP3_DROP_INITIAL);
    }
    if (rc != 0) {
        take_error(conn, rc);
        return;
    }
    if (conn->established) { /* its keys live on in QUIC; the rest is two thirds of its memory */
        ngtcp2_conn_set_tls_native_handle(conn->quic, NULL);
        close_tls(conn);
    }
    tsr_http3_streams_settle(conn);
    tsr_http3_conn_ready(conn);
}

void tsr_http3_conn_expire(struct tsr_http3_conn *conn)
{
    int rc = ngtcp2_conn_handle_expiry(conn->quic, conn->http3->now_ns);
    if (rc != 0) {
        take_error(conn, rc);
        return;
    }
    tsr_http3_conn_ready(conn); /* writing sets its timer again */
}

/* The client wants no more of an answer. */
static void stop_writing(struct tsr_http3_conn *conn, int64_t id)
{
    struct tsr_http3_stream *stream = find(conn, id);
    nghttp3_conn_shutdown_stream_write(conn->http, id);
    if (stream) {
        tsr_http3_stream_cancel(stream);
    }
}

/* QUIC has taken so many bytes of the parts that nghttp3 gave of a stream. */
static int take_written(struct tsr_http3_conn *conn, int64_t id, const nghttp3_vec *parts, size_t n,
                        size_t taken)
{
    if (nghttp3_conn_add_write_offset(conn->http, id, taken) != 0) {
        return tsr_http3_conn_fail(conn, NGHTTP3_H3_INTERNAL_ERROR);
    }
    struct tsr_http3_stream *stream = find(conn, id);
    if (stream && taken == nghttp3_vec_len(parts, n)) {
        tsr_http3_stream_sent(stream);
    }
    return 0;
}

/* One datagram into bytes. Its size; 0: there is nothing, or it may not be sent yet; or an error of
 * either library, with conn->error set. */
static ngtcp2_ssize write_one(struct tsr_http3_conn *conn, uint8_t *bytes, size_t capacity,
                              ngtcp2_path *path, ngtcp2_pkt_info *info)
{
    enum { PARTS = 16 };
    for (;;) {
        int64_t id = -1;
        int fin = 0;
        conn->http3->parts++;
        nghttp3_vec parts[PARTS];
        nghttp3_ssize n = 0;
        if (conn->http && ngtcp2_conn_get_max_data_left(conn->quic)) {
            n = nghttp3_conn_writev_stream(conn->http, &id, &fin, parts, PARTS);
            if (n < 0) {
                return tsr_http3_conn_fail(conn, nghttp3_err_infer_quic_app_error_code((int)n));
            }
        }
        ngtcp2_ssize taken = -1;
        ngtcp2_ssize size = ngtcp2_conn_writev_stream(
            conn->quic, path, info, bytes, capacity, &taken,
            NGTCP2_WRITE_STREAM_FLAG_MORE | (fin ? NGTCP2_WRITE_STREAM_FLAG_FIN : 0u), id,
            (const ngtcp2_vec *)(const void *)parts, (size_t)n, conn->http3->now_ns);
        if (taken >= 0 && take_written(conn, id, parts, (size_t)n, (size_t)taken) != 0) {
            return NGTCP2_ERR_CALLBACK_FAILURE;
        }
        switch (size) {
        case NGTCP2_ERR_WRITE_MORE:
            break;
        case NGTCP2_ERR_STREAM_DATA_BLOCKED:
            nghttp3_conn_block_stream(conn->http, id);
            break;
        case NGTCP2_ERR_STREAM_SHUT_WR:
        case NGTCP2_ERR_STREAM_NOT_FOUND:
            stop_writing(conn, id);
            break;
        default:
            return size;
        }
    }
}

/* To where the room was asked for, or, for probes of other paths, to another room. */
static void send_one(struct tsr_http3_conn *conn, const struct tsr_path *asked,
                     const uint8_t *bytes, size_t size, const ngtcp2_path *where, uint8_t ecn)
{
    struct tsr_http3 *http3 = conn->http3;
    struct tsr_path path = tsr_http3_path_back(where);
    if (memcmp(&path, asked, sizeof path) == 0) {
        tsr_http3_send(http3, &path, size, ecn);
        return;
    }
    uint8_t copy[TSR_HTTP3_PAYLOAD_MAX];
    memcpy(copy, bytes, size);
    send_copy(http3, &path, copy, size);
}

/* What may be sent at once: less of it while others wait. */
static size_t bytes_of_turn(const struct tsr_http3_conn *conn)
{
    size_t quantum = ngtcp2_conn_get_send_quantum(conn->quic);
    bool alone = TAILQ_EMPTY(&conn->http3->ready_first) && TAILQ_EMPTY(&conn->http3->ready);
    return alone || quantum < TSR_HTTP3_TURN_CONN_BYTES ? quantum : TSR_HTTP3_TURN_CONN_BYTES;
}

/* The link does not know where it is, and may learn it without a word of its own. */
static void try_later(struct tsr_http3_conn *conn)
{
    const uint64_t later_ns = 20000000;
    tsr_http3_timers_set(&conn->http3->timers, &conn->owner.timer, conn->http3->now_ns + later_ns);
}

/* A packet that is not full is the last of a turn: whether there is more is looked at in the next
 * turn, when it is on its way. */
bool tsr_http3_conn_write(struct tsr_http3_conn *conn)
{
    struct tsr_http3 *http3 = conn->http3;
    if (conn->is_failing || (conn->drained && conn->established && TAILQ_EMPTY(&conn->streams))) {
        tsr_http3_conn_fail(conn, NGHTTP3_H3_NO_ERROR);
        close_conn(conn);
        return true;
    }
    tsr_http3_streams_settle(conn);
    const size_t full = ngtcp2_conn_get_path_max_tx_udp_payload_size(conn->quic);
    size_t most = bytes_of_turn(conn), sent = 0, size = full;
    bool whole = false, is_lost = false;
    while (sent < most && size >= full) {
        struct tsr_path asked = tsr_http3_path_back(ngtcp2_conn_get_path(conn->quic));
        size_t capacity;
        uint8_t *bytes = tsr_http3_room(http3, &asked, &capacity);
        if (!bytes) {
            is_lost = !http3->no_room;
            break;
        }
        ngtcp2_path_storage where;
        ngtcp2_pkt_info info;
        ngtcp2_path_storage_zero(&where);
        ngtcp2_ssize rc = write_one(conn, bytes, capacity, &where.path, &info);
        if (rc < 0) {
            take_error(conn, (int)rc);
            return true;
        }
        whole = rc == 0;
        if (whole) {
            break;
        }
        size = (size_t)rc;
        send_one(conn, &asked, bytes, size, &where.path, info.ecn);
        sent += size;
    }
    ngtcp2_conn_update_pkt_tx_time(conn->quic, http3->now_ns);
    if (is_lost) {
        try_later(conn);
    } else {
        set_timer(conn);
    }
    return whole || is_lost;
}
