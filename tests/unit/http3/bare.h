/* QUIC laid bare: a server of HTTP/3 whose packets are not encrypted, and clients that write theirs
 * by hand, frame by frame, right or wrong. Far faster than with cryptography, and what a client may
 * not say can be said.
 *
 * What libngtcp2_crypto and http3's tls.c do is done here under the same names, which the linker
 * prefers. A packet is in the clear with a tag of sixteen zeros behind it. The handshake:
 *   client, Initial:    01, length in 3 bytes, transport parameters
 *   server, Initial:    02 000000; Handshake: zeros
 *   client, Handshake:  14 000000
 *   server, 1-RTT:      04 000000
 * Chance is a sequence that starts anew with each world. One file of a program includes it. */
#ifndef TSR_TEST_BARE_H
#define TSR_TEST_BARE_H

#include "http3_priv.h"

#include "fake_api.h"

#include <gnutls/crypto.h>

enum {
    BARE_CLIENTS = 2,
    BARE_TAG = 16,
    BARE_FLIGHT = 4000, /* more than may be sent to an address that is not validated */
    BARE_HELLO_MAX = 1024,
    BARE_CLIENT_ID = 5,
    BARE_PACKETS = 1024, /* of a space, that are remembered */
    BARE_PAYLOAD = 1472,
    BARE_IDS = 16,
    BARE_STREAMS = 32,
    BARE_ROOM = 64,
    BARE_UNIX_S = 784111777,
    BARE_ENCRYPTIONS = 256,        /* of a key: then it is updated */
    BARE_DECRYPTION_FAILURES = 32, /* RFC 9001, 6.6 */
};

/* ---- Instead of libngtcp2_crypto and tls.c ---- */

static uint64_t bare_chance;

__attribute__((visibility("default"))) int gnutls_rnd(gnutls_rnd_level_t level, void *data,
                                                      size_t size)
{
    (void)level;
    for (uint8_t *p = data; size; size--) {
        bare_chance = bare_chance * 6364136223846793005u + 1442695040888963407u;
        *p++ = (uint8_t)(bare_chance >> 56);
    }
    return 0;
}

enum bare_handshake { BARE_HELLO, BARE_FINISHED, BARE_DONE };

struct bare_tls {
    uint8_t message[BARE_HELLO_MAX];
    size_t size;
    enum bare_handshake awaits;
};

static ngtcp2_crypto_ctx bare_crypto(void)
{
    static uint8_t handle;
    return (ngtcp2_crypto_ctx){.aead = {&handle, BARE_TAG},
                               .md = {&handle},
                               .hp = {&handle},
                               .max_encryption = BARE_ENCRYPTIONS,
                               .max_decryption_failure = BARE_DECRYPTION_FAILURES};
}

static const uint8_t bare_iv[12], bare_secret[32];
static const ngtcp2_crypto_aead_ctx bare_aead;
static const ngtcp2_crypto_cipher_ctx bare_hp;

int ngtcp2_crypto_recv_client_initial_cb(ngtcp2_conn *quic, const ngtcp2_cid *id, void *user)
{
    (void)id, (void)user;
    ngtcp2_crypto_ctx crypto = bare_crypto();
    ngtcp2_conn_set_initial_crypto_ctx(quic, &crypto);
    return ngtcp2_conn_install_initial_key(quic, &bare_aead, bare_iv, &bare_hp, &bare_aead, bare_iv,
                                           &bare_hp, sizeof bare_iv);
}

int ngtcp2_crypto_version_negotiation_cb(ngtcp2_conn *quic, uint32_t version, const ngtcp2_cid *id,
                                         void *user)
{
    (void)id, (void)user;
    return ngtcp2_conn_install_vneg_initial_key(quic, version, &bare_aead, bare_iv, &bare_hp,
                                                &bare_aead, bare_iv, &bare_hp, sizeof bare_iv);
}

int ngtcp2_crypto_encrypt_cb(uint8_t *to, const ngtcp2_crypto_aead *aead,
                             const ngtcp2_crypto_aead_ctx *ctx, const uint8_t *text, size_t size,
                             const uint8_t *nonce, size_t nonce_size, const uint8_t *more,
                             size_t more_size)
{
    (void)aead, (void)ctx, (void)nonce, (void)nonce_size, (void)more, (void)more_size;
    memmove(to, text, size);
    memset(to + size, 0, BARE_TAG);
    return 0;
}

int ngtcp2_crypto_decrypt_cb(uint8_t *to, const ngtcp2_crypto_aead *aead,
                             const ngtcp2_crypto_aead_ctx *ctx, const uint8_t *bytes, size_t size,
                             const uint8_t *nonce, size_t nonce_size, const uint8_t *more,
                             size_t more_size)
{
    (void)aead, (void)ctx, (void)nonce, (void)nonce_size, (void)more, (void)more_size;
    if (size < BARE_TAG || bytes[size - 1] != 0) {
        return NGTCP2_ERR_DECRYPT;
    }
    memmove(to, bytes, size - BARE_TAG);
    return 0;
}

int ngtcp2_crypto_hp_mask_cb(uint8_t *to, const ngtcp2_crypto_cipher *hp,
                             const ngtcp2_crypto_cipher_ctx *ctx, const uint8_t *sample)
{
    (void)hp, (void)ctx, (void)sample;
    memset(to, 0, NGTCP2_HP_MASKLEN);
    return 0;
}

int ngtcp2_crypto_update_key_cb(ngtcp2_conn *quic, uint8_t *rx_secret, uint8_t *tx_secret,
                                ngtcp2_crypto_aead_ctx *rx, uint8_t *rx_iv,
                                ngtcp2_crypto_aead_ctx *tx, uint8_t *tx_iv, const uint8_t *old_rx,
                                const uint8_t *old_tx, size_t size, void *user)
{
    (void)quic, (void)old_rx, (void)old_tx, (void)user;
    *rx = *tx = bare_aead;
    memset(rx_secret, 0, size);
    memset(tx_secret, 0, size);
    memset(rx_iv, 0, sizeof bare_iv);
    memset(tx_iv, 0, sizeof bare_iv);
    return 0;
}

void ngtcp2_crypto_delete_crypto_aead_ctx_cb(ngtcp2_conn *quic, ngtcp2_crypto_aead_ctx *ctx,
                                             void *user)
{
    (void)quic, (void)ctx, (void)user;
}

void ngtcp2_crypto_delete_crypto_cipher_ctx_cb(ngtcp2_conn *quic, ngtcp2_crypto_cipher_ctx *ctx,
                                               void *user)
{
    (void)quic, (void)ctx, (void)user;
}

static int bare_alert(ngtcp2_conn *quic, uint8_t alert)
{
    ngtcp2_conn_set_tls_alert(quic, alert);
    return NGTCP2_ERR_CRYPTO;
}

/* Bytes of the server's Handshake messages. */
static size_t bare_flight = BARE_FLIGHT;

static int bare_take_hello(ngtcp2_conn *quic, const uint8_t *params, size_t size)
{
    static const uint8_t hello[4] = {2}, flight[BARE_FLIGHT];
    ngtcp2_crypto_ctx crypto = bare_crypto();
    int rc = ngtcp2_conn_decode_and_set_remote_transport_params(quic, params, size);
    if (rc != 0) {
        return rc;
    }
    ngtcp2_conn_set_crypto_ctx(quic, &crypto);
    rc = ngtcp2_conn_install_rx_handshake_key(quic, &bare_aead, bare_iv, sizeof bare_iv, &bare_hp);
    rc = rc ? rc
            : ngtcp2_conn_install_tx_handshake_key(quic, &bare_aead, bare_iv, sizeof bare_iv,
                                                   &bare_hp);
    rc = rc ? rc
            : ngtcp2_conn_submit_crypto_data(quic, NGTCP2_ENCRYPTION_LEVEL_INITIAL, hello,
                                             sizeof hello);
    rc = rc ? rc
            : ngtcp2_conn_submit_crypto_data(quic, NGTCP2_ENCRYPTION_LEVEL_HANDSHAKE, flight,
                                             bare_flight);
    return rc ? rc
              : ngtcp2_conn_install_tx_key(quic, bare_secret, sizeof bare_secret, &bare_aead,
                                           bare_iv, sizeof bare_iv, &bare_hp);
}

static int bare_take_finished(ngtcp2_conn *quic)
{
    static const uint8_t ticket[4] = {4};
    int rc = ngtcp2_conn_install_rx_key(quic, bare_secret, sizeof bare_secret, &bare_aead, bare_iv,
                                        sizeof bare_iv, &bare_hp);
    if (rc == 0) {
        ngtcp2_conn_tls_handshake_completed(quic);
        rc = ngtcp2_conn_submit_crypto_data(quic, NGTCP2_ENCRYPTION_LEVEL_1RTT, ticket,
                                            sizeof ticket);
    }
    return rc;
}

static int bare_take_message(ngtcp2_conn *quic, struct bare_tls *tls, ngtcp2_encryption_level level)
{
    enum { UNEXPECTED_MESSAGE = 10 };
    uint8_t type = tls->message[0];
    if (tls->awaits == BARE_HELLO && level == NGTCP2_ENCRYPTION_LEVEL_INITIAL && type == 0x01) {
        tls->awaits = BARE_FINISHED;
        return bare_take_hello(quic, tls->message + 4, tls->size - 4);
    }
    if (tls->awaits == BARE_FINISHED && level == NGTCP2_ENCRYPTION_LEVEL_HANDSHAKE &&
        type == 0x14) {
        tls->awaits = BARE_DONE;
        return bare_take_finished(quic);
    }
    return bare_alert(quic, UNEXPECTED_MESSAGE);
}

int ngtcp2_crypto_recv_crypto_data_cb(ngtcp2_conn *quic, ngtcp2_encryption_level level,
                                      uint64_t offset, const uint8_t *bytes, size_t size,
                                      void *user)
{
    enum { DECODE_ERROR = 50 };
    struct bare_tls *tls = ngtcp2_conn_get_tls_native_handle(quic);
    (void)offset, (void)user;
    for (; size; size--) {
        if (tls->size == sizeof tls->message) {
            return bare_alert(quic, DECODE_ERROR);
        }
        tls->message[tls->size++] = *bytes++;
        const uint8_t *m = tls->message;
        if (tls->size >= 4 && tls->size == 4 + ((size_t)m[1] << 16 | (size_t)m[2] << 8 | m[3])) {
            int rc = bare_take_message(quic, tls, level);
            if (rc != 0) {
                return rc;
            }
            tls->size = 0;
        }
    }
    return 0;
}

/* The refusal of a connection: an Initial packet that says CONNECTION_CLOSE. */
ngtcp2_ssize ngtcp2_crypto_write_connection_close(uint8_t *to, size_t capacity, uint32_t version,
                                                  const ngtcp2_cid *id, const ngtcp2_cid *own,
                                                  uint64_t code, const uint8_t *reason,
                                                  size_t reason_size)
{
    enum { REST = 1 + 2 + 1 + 4 + BARE_TAG }; /* from the token's length on */
    size_t size = 1 + 4 + 1 + id->datalen + 1 + own->datalen + REST;
    (void)reason, (void)reason_size;
    if (capacity < size || code >= 64) {
        return -1;
    }
    memset(to, 0, size);
    to[0] = version == NGTCP2_PROTO_VER_V2 ? 0xd0 : 0xc0;
    for (int i = 0; i < 4; i++) {
        to[1 + i] = (uint8_t)(version >> (24 - 8 * i));
    }
    to[5] = (uint8_t)id->datalen;
    memcpy(to + 6, id->data, id->datalen);
    uint8_t *at = to + 6 + id->datalen;
    *at = (uint8_t)own->datalen;
    memcpy(at + 1, own->data, own->datalen);
    at += 1 + own->datalen;
    at[1] = 0x40;
    at[2] = REST - 3; /* the packet's length; its number is 0 */
    at[4] = 0x1c;
    at[5] = (uint8_t)code;
    return (ngtcp2_ssize)size;
}

/* Each new id has one: the id again will do. */
int ngtcp2_crypto_generate_stateless_reset_token(uint8_t *token, const uint8_t *secret, size_t size,
                                                 const ngtcp2_cid *id)
{
    (void)secret, (void)size;
    memset(token, 0xaa, NGTCP2_STATELESS_RESET_TOKENLEN);
    memcpy(token, id->data, id->datalen < 8 ? id->datalen : 8);
    return 0;
}

/* Each new connection gets one: its address in the clear. */
ngtcp2_ssize ngtcp2_crypto_generate_regular_token(uint8_t *token, const uint8_t *secret,
                                                  size_t size, const ngtcp2_sockaddr *remote,
                                                  ngtcp2_socklen remote_size, ngtcp2_tstamp now_ns)
{
    (void)secret, (void)size, (void)now_ns;
    token[0] = NGTCP2_CRYPTO_TOKEN_MAGIC_REGULAR;
    memcpy(token + 1, remote, remote_size);
    return (ngtcp2_ssize)(1 + remote_size);
}

int ngtcp2_crypto_verify_regular_token(const uint8_t *token, size_t token_size,
                                       const uint8_t *secret, size_t size,
                                       const ngtcp2_sockaddr *remote, ngtcp2_socklen remote_size,
                                       ngtcp2_duration timeout, ngtcp2_tstamp now_ns)
{
    (void)secret, (void)size, (void)timeout, (void)now_ns;
    return token_size == 1 + remote_size && memcmp(token + 1, remote, remote_size) == 0 ? 0 : -1;
}

int tsr_http3_tls_create(struct tsr_http3_tls **tls, const char *certificate, const char *key,
                         const char *client_ca, struct tsr_err *err)
{
    (void)tls, (void)certificate, (void)key, (void)client_ca, (void)err;
    return 0;
}

void tsr_http3_tls_destroy(struct tsr_http3_tls *tls)
{
    (void)tls;
}

int tsr_http3_tls_reload(struct tsr_http3_tls *tls, struct tsr_err *err)
{
    (void)tls, (void)err;
    return 0;
}

gnutls_session_t tsr_http3_tls_open(struct tsr_http3_tls *tls, ngtcp2_crypto_conn_ref *ref,
                                    struct tsr_http3_credentials **credentials)
{
    (void)tls, (void)ref, (void)credentials;
    return calloc(1, sizeof(struct bare_tls));
}

void tsr_http3_tls_close(gnutls_session_t session, struct tsr_http3_credentials *credentials)
{
    (void)credentials;
    free(session);
}

/* ---- Bytes ---- */

struct bare_bytes {
    uint8_t bytes[BARE_PAYLOAD];
    size_t size;
};

/* What does not fit is left out: fuzzers ask for it, and a packet that is cut is worth trying. */
static void bare_put(struct bare_bytes *b, const void *bytes, size_t size)
{
    size = size < sizeof b->bytes - b->size ? size : sizeof b->bytes - b->size;
    memcpy(b->bytes + b->size, bytes, size);
    b->size += size;
}

static void bare_put_number(struct bare_bytes *b, uint64_t number, size_t size)
{
    uint8_t bytes[8];
    for (size_t i = 0; i < size; i++) {
        bytes[i] = (uint8_t)(number >> 8 * (size - 1 - i));
    }
    bare_put(b, bytes, size);
}

/* RFC 9000, 16 */
static void bare_put_varint(struct bare_bytes *b, uint64_t n)
{
    if (n < 1u << 6) {
        bare_put_number(b, n, 1);
    } else if (n < 1u << 14) {
        bare_put_number(b, n | 1u << 14, 2);
    } else if (n < 1u << 30) {
        bare_put_number(b, n | 1u << 31, 4);
    } else {
        bare_put_number(b, n | (uint64_t)3 << 62, 8);
    }
}

/* What the server writes must be right: this is no place for doubt. */
static const uint8_t *bare_take(const uint8_t **at, const uint8_t *end, uint64_t size)
{
    const uint8_t *bytes = *at;
    if ((uint64_t)(end - bytes) < size) {
        fprintf(stderr, "the server wrote a packet that is cut\n");
        abort();
    }
    *at += size;
    return bytes;
}

static uint64_t bare_take_number(const uint8_t **at, const uint8_t *end, size_t size)
{
    const uint8_t *bytes = bare_take(at, end, size);
    uint64_t n = 0;
    for (size_t i = 0; i < size; i++) {
        n = n << 8 | bytes[i];
    }
    return n;
}

static uint64_t bare_take_varint(const uint8_t **at, const uint8_t *end)
{
    const uint8_t *first = *at;
    size_t size = (size_t)1 << (*bare_take(&first, end, 1) >> 6);
    return bare_take_number(at, end, size) & (UINT64_MAX >> (64 - 8 * size + 2));
}

/* ---- A world of one server and some clients ---- */

enum bare_type { BARE_INITIAL, BARE_ZERO_RTT, BARE_HANDSHAKE, BARE_RETRY, BARE_ONE_RTT };

struct bare_space {
    uint64_t next;    /* number of the client's next packet */
    uint64_t largest; /* + 1, of the server's */
    uint8_t came[BARE_PACKETS / 8];
};

struct bare_stream {
    int64_t id; /* -1: none */
    uint64_t sent;
    uint64_t reset, stopped; /* codes; UINT64_MAX: not */
    bool ended;
    struct text body; /* what came in order */
};

struct bare_client {
    struct bare *bare;
    struct tsr_path path; /* as the server sees it */
    uint32_t version;
    uint8_t own_id[BARE_CLIENT_ID];
    uint8_t ids[BARE_IDS][NGTCP2_MAX_CIDLEN]; /* the server's; the first one is used */
    size_t id_bytes;
    uint32_t n_ids;
    struct bare_space spaces[3]; /* Initial, Handshake, application */
    uint8_t token[256];
    size_t token_bytes;
    uint8_t challenge[8];
    struct bare_stream streams[BARE_STREAMS];
    struct bare_bytes datagram; /* what is collected for the next one */
    bool validated;             /* its address, or it may be */
    bool established, confirmed, closed, retried, negotiated, challenged, key_phase;
    bool close_is_http;
    uint64_t close_code, close_frame;
    uint64_t came, went; /* bytes from the server and to it */
    uint32_t n_crypto;   /* bytes of the server's, Handshake */
};

struct bare {
    struct tsr_http3 *server;
    uint64_t now_ns;
    uint32_t room; /* datagrams that the server may still send in this turn */
    size_t capacity;
    uint8_t out[BARE_PAYLOAD];
    struct bare_client clients[BARE_CLIENTS];
};

static size_t bare_space_of(enum bare_type type)
{
    return type == BARE_INITIAL ? 0 : type == BARE_HANDSHAKE ? 1 : 2;
}

/* ---- Reading what the server says ---- */

static struct bare_stream *bare_stream(struct bare_client *c, int64_t id)
{
    for (uint32_t i = 0; i < BARE_STREAMS; i++) {
        struct bare_stream *s = &c->streams[i];
        if (s->id == -1) {
            s->id = id;
        }
        if (s->id == id) {
            return s;
        }
    }
    return NULL;
}

static void bare_take_stream(struct bare_client *c, uint8_t type, const uint8_t **at,
                             const uint8_t *end)
{
    struct bare_stream *s = bare_stream(c, (int64_t)bare_take_varint(at, end));
    uint64_t offset = type & 4 ? bare_take_varint(at, end) : 0;
    uint64_t size = type & 2 ? bare_take_varint(at, end) : (uint64_t)(end - *at);
    const uint8_t *bytes = bare_take(at, end, size);
    if (s && offset <= s->body.size && offset + size >= s->body.size) {
        size_t old = s->body.size - (size_t)offset;
        text_put(&s->body, bytes + old, (size_t)size - old);
        s->ended = s->ended || type & 1;
    }
}

static void bare_take_id(struct bare_client *c, const uint8_t **at, const uint8_t *end)
{
    bare_take_varint(at, end);
    bare_take_varint(at, end);
    uint64_t size = bare_take_number(at, end, 1);
    const uint8_t *id = bare_take(at, end, size);
    bare_take(at, end, NGTCP2_STATELESS_RESET_TOKENLEN);
    if (size == c->id_bytes && c->n_ids < BARE_IDS) {
        memcpy(c->ids[c->n_ids++], id, size);
    }
}

static void bare_take_ack(uint8_t type, const uint8_t **at, const uint8_t *end)
{
    bare_take_varint(at, end);
    bare_take_varint(at, end);
    uint64_t ranges = bare_take_varint(at, end);
    for (uint64_t n = 1 + 2 * ranges + (type == 3 ? 3 : 0); n; n--) {
        bare_take_varint(at, end);
    }
}

static void bare_take_token(struct bare_client *c, const uint8_t **at, const uint8_t *end,
                            uint64_t size)
{
    const uint8_t *token = bare_take(at, end, size);
    if (size <= sizeof c->token) {
        memcpy(c->token, token, size);
        c->token_bytes = size;
    }
}

static void bare_take_close(struct bare_client *c, uint8_t type, const uint8_t **at,
                            const uint8_t *end)
{
    c->closed = true;
    c->close_is_http = type == 0x1d;
    c->close_code = bare_take_varint(at, end);
    c->close_frame = type == 0x1c ? bare_take_varint(at, end) : 0;
    bare_take(at, end, bare_take_varint(at, end));
}

static void bare_take_stream_end(struct bare_client *c, uint8_t type, const uint8_t **at,
                                 const uint8_t *end)
{
    struct bare_stream *s = bare_stream(c, (int64_t)bare_take_varint(at, end));
    uint64_t code = bare_take_varint(at, end);
    if (type == 4) {
        bare_take_varint(at, end);
    }
    if (s) {
        *(type == 4 ? &s->reset : &s->stopped) = code;
    }
}

static void bare_take_frame(struct bare_client *c, const uint8_t **at, const uint8_t *end)
{
    /* How many numbers each of the plain ones has. */
    static const uint8_t numbers[0x20] = {
        [0x10] = 1, [0x11] = 2, [0x12] = 1, [0x13] = 1, [0x14] = 1,
        [0x15] = 2, [0x16] = 1, [0x17] = 1, [0x19] = 1};
    uint8_t type = *bare_take(at, end, 1);
    switch (type) {
    case 0x02:
    case 0x03:
        bare_take_ack(type, at, end);
        break;
    case 0x04:
    case 0x05:
        bare_take_stream_end(c, type, at, end);
        break;
    case 0x06:
        bare_take_varint(at, end);
        uint64_t size = bare_take_varint(at, end);
        bare_take(at, end, size);
        c->n_crypto += (uint32_t)size;
        break;
    case 0x07:
        bare_take_token(c, at, end, bare_take_varint(at, end));
        break;
    case 0x18:
        bare_take_id(c, at, end);
        break;
    case 0x1a:
        memcpy(c->challenge, bare_take(at, end, sizeof c->challenge), sizeof c->challenge);
        c->challenged = true;
        break;
    case 0x1b:
        bare_take(at, end, sizeof c->challenge);
        break;
    case 0x1c:
    case 0x1d:
        bare_take_close(c, type, at, end);
        break;
    case 0x1e:
        c->confirmed = true;
        break;
    default:
        if ((type & 0xf8) == 0x08) {
            bare_take_stream(c, type, at, end);
            break;
        }
        if (type > 1 && (type >= sizeof numbers || !numbers[type])) {
            fprintf(stderr, "the server wrote a frame of type 0x%x\n", type);
            abort();
        }
        for (uint32_t i = 0; i < numbers[type < sizeof numbers ? type : 0]; i++) {
            bare_take_varint(at, end);
        }
    }
}

static void bare_take_number_of_packet(struct bare_space *space, uint64_t low, size_t size)
{
    uint64_t window = (uint64_t)1 << 8 * size;
    uint64_t number = (space->largest & ~(window - 1)) | low;
    if (number + window / 2 < space->largest) {
        number += window;
    } else if (number > space->largest + window / 2 && number >= window) {
        number -= window;
    }
    space->largest = number + 1 > space->largest ? number + 1 : space->largest;
    if (number < BARE_PACKETS) {
        space->came[number / 8] |= (uint8_t)(1u << number % 8);
    }
}

static void bare_take_payload(struct bare_client *c, enum bare_type type, uint8_t first,
                              const uint8_t **at, const uint8_t *end)
{
    size_t size = (first & 3u) + 1;
    uint64_t number = bare_take_number(at, end, size);
    end -= BARE_TAG;
    bare_take_number_of_packet(&c->spaces[bare_space_of(type)], number, size);
    while (*at < end) {
        if (**at == 0) {
            ++*at; /* PADDING */
        } else {
            bare_take_frame(c, at, end);
        }
    }
    *at = end + BARE_TAG;
}

static enum bare_type bare_long_type(uint8_t first, uint32_t version)
{
    uint32_t bits = first >> 4 & 3u;
    return (enum bare_type)(version == NGTCP2_PROTO_VER_V2 ? (bits + 3) % 4 : bits);
}

static void bare_take_long(struct bare_client *c, const uint8_t **at, const uint8_t *end)
{
    uint8_t first = *bare_take(at, end, 1);
    uint32_t version = (uint32_t)bare_take_number(at, end, 4);
    bare_take(at, end, bare_take_number(at, end, 1));
    uint64_t size = bare_take_number(at, end, 1);
    const uint8_t *id = bare_take(at, end, size);
    if (version == 0) {
        c->negotiated = true;
        *at = end;
        return;
    }
    if (!c->confirmed && size <= NGTCP2_MAX_CIDLEN) {
        memcpy(c->ids[0], id, size);
        c->id_bytes = size;
        c->n_ids = c->n_ids ? c->n_ids : 1;
    }
    enum bare_type type = bare_long_type(first, version);
    if (type == BARE_RETRY) {
        bare_take_token(c, at, end, (uint64_t)(end - *at) - BARE_TAG);
        c->retried = true;
        *at = end;
        return;
    }
    if (type == BARE_INITIAL) {
        bare_take(at, end, bare_take_varint(at, end));
    }
    size = bare_take_varint(at, end);
    const uint8_t *packet = bare_take(at, end, size);
    bare_take_payload(c, type, first, &packet, packet + size);
}

/* What a server says that has no connection (a refusal, a stateless reset) is not in the clear. */
static void bare_take_datagram(struct bare_client *c, const uint8_t *at, size_t size)
{
    const uint8_t *end = at + size;
    while (at < end && (at[0] & 0x80 || c->n_ids)) {
        if (at[0] & 0x80) {
            bare_take_long(c, &at, end);
            continue;
        }
        if (size < 1 + BARE_CLIENT_ID || memcmp(at + 1, c->own_id, BARE_CLIENT_ID) != 0) {
            return;
        }
        uint8_t first = *at;
        at += 1 + BARE_CLIENT_ID;
        bare_take_payload(c, BARE_ONE_RTT, first, &at, end);
    }
}

static uint8_t *bare_room(void *port, const struct tsr_path *path, size_t *capacity)
{
    struct bare *b = port;
    (void)path;
    *capacity = b->capacity;
    return b->room ? b->out : NULL;
}

static void bare_way_send(void *port, const struct tsr_path *path, size_t size, uint8_t ecn)
{
    struct bare *b = port;
    (void)ecn;
    b->room--;
    if (size > b->capacity) {
        abort();
    }
    for (uint32_t i = 0; i < BARE_CLIENTS; i++) {
        struct bare_client *c = &b->clients[i];
        if (memcmp(&c->path.remote, &path->remote, sizeof path->remote) == 0) {
            c->came += size;
            if (!c->validated && c->came > 3 * c->went) {
                fprintf(stderr, "more than three times of what came goes to who knows whom\n");
                abort();
            }
            bare_take_datagram(c, b->out, size);
        }
    }
}

/* ---- Writing ---- */

/* A turn of the server, in which it sends what it wants to and there is room for. */
static void bare_turn(struct bare *b)
{
    b->now_ns += 1000000; /* pacing lets little go at one time */
    do {
        tsr_http3_step(b->server, b->now_ns, BARE_UNIX_S);
    } while (tsr_http3_take_waiting(b->server, b->now_ns));
    b->room = BARE_ROOM;
}

static void bare_datagram(struct bare_client *c, const uint8_t *bytes, size_t size)
{
    struct bare *b = c->bare;
    uint8_t *exact = malloc(size ? size : 1); /* so that a sanitizer sees its end */
    if (!exact) {
        abort();
    }
    memcpy(exact, bytes, size);
    const struct tsr_datagram datagram = {.path = c->path, .bytes = exact, .size = (uint32_t)size};
    c->went += size;
    tsr_http3_datagram(b->server, &datagram, b->now_ns);
    free(exact);
}

/* What was collected. */
static void bare_send(struct bare_client *c)
{
    if (c->datagram.size) {
        struct bare_bytes datagram = c->datagram;
        c->datagram.size = 0;
        bare_datagram(c, datagram.bytes, datagram.size);
    }
}

/* ... in a datagram that is large enough for Initial packets. */
static void bare_send_filled(struct bare_client *c)
{
    struct bare_bytes *d = &c->datagram;
    if (d->size < TSR_HTTP3_INITIAL_MIN) {
        memset(d->bytes + d->size, 0, TSR_HTTP3_INITIAL_MIN - d->size);
        d->size = TSR_HTTP3_INITIAL_MIN;
    }
    bare_send(c);
}

/* How a packet differs from what it should be. */
struct bare_odd {
    uint8_t first;     /* bits of the first byte that are turned over */
    uint64_t skip;     /* packet numbers left out */
    uint32_t id;       /* which of the server's ids */
    const uint8_t *to; /* another id, of id_bytes */
    bool spoiled;      /* does not decrypt */
};

static void bare_put_long_head(struct bare_bytes *p, struct bare_client *c, enum bare_type type,
                               const uint8_t *id, size_t size)
{
    bare_put_number(p, c->version, 4);
    bare_put_number(p, c->id_bytes, 1);
    bare_put(p, id, c->id_bytes);
    bare_put_number(p, BARE_CLIENT_ID, 1);
    bare_put(p, c->own_id, BARE_CLIENT_ID);
    if (type == BARE_INITIAL) {
        size_t token = c->retried || !c->n_ids ? c->token_bytes : 0;
        bare_put_varint(p, token);
        bare_put(p, c->token, token);
    }
    bare_put_number(p, (size + 4 + BARE_TAG) | 1u << 14, 2);
}

/* Puts a packet behind what is collected for the next datagram. */
static void bare_packet(struct bare_client *c, enum bare_type type, const struct bare_odd *odd,
                        const void *frames, size_t size)
{
    static const struct bare_odd even;
    struct bare_bytes *p = &c->datagram;
    struct bare_space *space = &c->spaces[bare_space_of(type)];
    odd = odd ? odd : &even;
    c->validated = c->validated || type == BARE_HANDSHAKE || c->token_bytes;
    const uint8_t *id = odd->to ? odd->to : c->ids[odd->id < c->n_ids ? odd->id : 0];
    uint8_t bits = (uint8_t)(c->version == NGTCP2_PROTO_VER_V2 ? (type + 1) % 4 : type);
    uint8_t first = (uint8_t)(type == BARE_ONE_RTT ? 0x43 | c->key_phase << 2 : 0xc3 | bits << 4);
    bare_put_number(p, first ^ odd->first, 1);
    if (type == BARE_ONE_RTT) {
        bare_put(p, id, c->id_bytes);
    } else {
        bare_put_long_head(p, c, type, id, size);
    }
    space->next += odd->skip;
    bare_put_number(p, space->next++, 4);
    bare_put(p, frames, size);
    bare_put_number(p, 0, BARE_TAG - 8);
    bare_put_number(p, odd->spoiled, 8);
}

/* What came in a space is acknowledged, all or nothing of it being new. */
static void bare_put_ack(struct bare_bytes *f, const struct bare_space *space)
{
    struct bare_bytes ranges = {.size = 0};
    uint64_t at = space->largest < BARE_PACKETS ? space->largest : BARE_PACKETS;
    uint64_t n = 0, first = 0, last = 0;
    while (at) {
        uint64_t gap = 0, run = 0;
        for (; at && !(space->came[(at - 1) / 8] >> (at - 1) % 8 & 1); at--) {
            gap++;
        }
        last = n || !at ? last : at - 1;
        for (; at && space->came[(at - 1) / 8] >> (at - 1) % 8 & 1; at--) {
            run++;
        }
        if (run && n) {
            bare_put_varint(&ranges, gap - 1);
            bare_put_varint(&ranges, run - 1);
        } else if (run) {
            first = run - 1;
        }
        n += run > 0;
    }
    if (n) {
        bare_put_varint(f, 2);
        bare_put_varint(f, last);
        bare_put_varint(f, 0);
        bare_put_varint(f, n - 1);
        bare_put_varint(f, first);
        bare_put(f, ranges.bytes, ranges.size);
    }
}

/* Frames in a 1-RTT packet of its own. */
static void bare_say(struct bare_client *c, const void *frames, size_t size)
{
    bare_packet(c, BARE_ONE_RTT, NULL, frames, size);
    bare_send(c);
}

/* A STREAM frame with the next bytes of a stream. */
static void bare_put_stream(struct bare_bytes *f, struct bare_client *c, int64_t id,
                            const void *bytes, size_t size, bool fin)
{
    struct bare_stream *s = bare_stream(c, id);
    bare_put_varint(f, 0x0e | fin);
    bare_put_varint(f, (uint64_t)id);
    bare_put_varint(f, s ? s->sent : 0);
    bare_put_varint(f, size);
    bare_put(f, bytes, size);
    if (s) {
        s->sent += size;
    }
}

static void bare_say_stream(struct bare_client *c, int64_t id, const void *bytes, size_t size,
                            bool fin)
{
    struct bare_bytes f = {.size = 0};
    bare_put_stream(&f, c, id, bytes, size, fin);
    bare_say(c, f.bytes, f.size);
}

/* ---- Beginning ---- */

static void bare_put_param(struct bare_bytes *p, uint64_t id, uint64_t value)
{
    struct bare_bytes v = {.size = 0};
    bare_put_varint(&v, value);
    bare_put_varint(p, id);
    bare_put_varint(p, v.size);
    bare_put(p, v.bytes, v.size);
}

/* Transport parameters (RFC 9000, 18.2) that are right. */
static void bare_put_params(struct bare_bytes *p, const struct bare_client *c)
{
    bare_put_varint(p, 0x0f);
    bare_put_varint(p, BARE_CLIENT_ID);
    bare_put(p, c->own_id, BARE_CLIENT_ID);
    bare_put_param(p, 0x01, 60000);
    bare_put_param(p, 0x04, 1 << 20);
    bare_put_param(p, 0x05, 256 << 10);
    bare_put_param(p, 0x07, 256 << 10);
    bare_put_param(p, 0x09, 10);
    bare_put_param(p, 0x0e, 3);
}

static void bare_client_init(struct bare *b, uint32_t n)
{
    struct bare_client *c = &b->clients[n];
    struct bare_stream *streams = c->streams;
    memset(c, 0, sizeof *c);
    c->bare = b;
    c->path = (struct tsr_path){
        .local = {.ip = {10, 0, 0, 1}, .port = 443, .family = 4},
        .remote = {.ip = {10, 0, 0, 2}, .port = (uint16_t)(5000 + n), .family = 4}};
    c->version = NGTCP2_PROTO_VER_V1;
    memcpy(c->own_id, "cli 0", BARE_CLIENT_ID);
    c->own_id[4] = (uint8_t)('0' + n);
    memcpy(c->ids[0], "first id", 8);
    c->ids[0][7] = (uint8_t)('0' + n);
    c->id_bytes = 8;
    for (uint32_t i = 0; i < BARE_STREAMS; i++) {
        streams[i].id = -1;
        streams[i].reset = streams[i].stopped = UINT64_MAX;
    }
}

/* The client's first packet, with these transport parameters. */
static void bare_hello(struct bare_client *c, const void *params, size_t size)
{
    struct bare_bytes f = {.size = 0};
    bare_put_varint(&f, 6);
    bare_put_varint(&f, 0);
    bare_put_varint(&f, 4 + size);
    bare_put_number(&f, 1, 1);
    bare_put_number(&f, size, 3);
    bare_put(&f, params, size);
    size_t whole = 1150 - c->token_bytes;
    if (f.size < whole) {
        memset(f.bytes + f.size, 0, whole - f.size);
        f.size = whole;
    }
    bare_packet(c, BARE_INITIAL, NULL, f.bytes, f.size);
    bare_send_filled(c);
    bare_turn(c->bare);
}

/* The client's part of the handshake after its first packet; as often as the server needs it to
 * send all. */
static void bare_finish(struct bare_client *c)
{
    struct bare_bytes f = {.size = 0};
    bare_put_ack(&f, &c->spaces[1]);
    bare_put(&f, "\x06\x00\x04\x14\x00\x00\x00", 7);
    bare_packet(c, BARE_HANDSHAKE, NULL, f.bytes, f.size);
    bare_send(c);
    bare_turn(c->bare);
    bare_turn(c->bare);
    c->established = c->confirmed;
}

static bool bare_connect(struct bare_client *c)
{
    struct bare_bytes params = {.size = 0};
    bare_put_params(&params, c);
    bare_hello(c, params.bytes, params.size);
    if (c->retried && c->n_ids == 1 && !c->n_crypto) {
        bare_hello(c, params.bytes, params.size);
    }
    if (c->n_crypto) {
        bare_finish(c);
    }
    return c->established;
}

static void bare_options(struct tsr_http3_options *o)
{
    tsr_http3_options_init(o);
    o->way = (struct tsr_datagram_way){bare_room, bare_way_send};
    o->queue = 3;
    o->conns_max = 4;
    o->bytes_max = (size_t)16 << 20;
    o->datagrams_max = UINT32_MAX;
    o->address = (struct tsr_http3_share){
        .conns = o->conns_max,
        .handshakes = o->handshakes_max,
        .requests = UINT32_MAX,
        .datagrams = UINT32_MAX,
        .bytes = o->bytes_max,
    };
}

/* A server that has been closed is as good as a new one, and far cheaper. */
static void bare_renew(struct tsr_http3 *server, const struct tsr_http3_options *options)
{
    server->options = *options;
    server->draining = server->no_room = false;
    server->stateless = (struct tsr_http3_budget){0};
    server->counts = (struct tsr_http3_counts){0};
    for (uint32_t i = 0; i < options->conns_max; i++) {
        server->of_peers[i].account.max = options->address.bytes;
    }
}

static void bare_create(struct bare *b)
{
    struct tsr_http3_options o;
    struct tsr_err err = {0};
    bare_options(&o);
    if (tsr_http3_create(&b->server, NULL, &o, &err) < 0) {
        fprintf(stderr, "%s\n", err.text);
        abort();
    }
}

/* What is reserved, and the number of connections of an address, is as bare_options() says. */
static void bare_open(struct bare *b, const struct tsr_http3_options *options)
{
    struct tsr_http3_options o = *options;
    o.port = b;
    if (!b->server) {
        bare_create(b);
    }
    bare_renew(b->server, &o);
    bare_chance = 1;
    b->now_ns = UINT64_C(1000000000000);
    b->room = BARE_ROOM;
    b->capacity = BARE_PAYLOAD;
    for (uint32_t i = 0; i < BARE_CLIENTS; i++) {
        bare_client_init(b, i);
    }
    bare_turn(b);
}

/* Nothing of a connection may be left when it is gone. */
static void bare_close(struct bare *b)
{
    struct tsr_http3 *server = b->server;
    bare_turn(b);
    while (!TAILQ_EMPTY(&server->open)) {
        tsr_http3_conn_forget(TAILQ_FIRST(&server->open));
    }
    b->now_ns += 1000 * tsr_http3_second; /* what is left of closed ones goes */
    bare_turn(b);
    if (server->region.used || server->counts.conns || server->counts.handshakes ||
        tsr_http3_wake_ns(server) != UINT64_MAX) {
        fprintf(stderr, "%zu bytes are left of connections\n", server->region.used);
        abort();
    }
    for (uint32_t i = 0; i < BARE_CLIENTS; i++) {
        for (uint32_t k = 0; k < BARE_STREAMS; k++) {
            free(b->clients[i].streams[k].body.bytes);
        }
    }
    fake_reset();
}

#endif
