#include "http3_priv.h"

#include <string.h>

#include <tsr/api/peers.h>

enum {
    TOKEN_S = 3600, /* of a former connection */
    RETRY_S = 10,
    RESET_BYTES_MIN = 41, /* RFC 9000, 10.3: looks like any other packet */
    RESET_BYTES_MAX = 80,
};

void tsr_http3_negotiate(struct tsr_http3 *http3, const struct tsr_datagram *datagram,
                         const ngtcp2_version_cid *id)
{
    if (datagram->size < TSR_HTTP3_INITIAL_MIN) {
        tsr_http3_drop(http3, datagram, TSR_HTTP3_DROP_SHORT);
        return;
    }
    if (!tsr_http3_spend(http3, &http3->stateless, http3->options.stateless_max)) {
        tsr_http3_drop(http3, datagram, TSR_HTTP3_DROP_LIMITED);
        return;
    }
    uint8_t random;
    tsr_http3_random(&random, sizeof random);
    /* The last one is reserved (RFC 9000, 15), so that clients do not rely on its absence. */
    const uint32_t versions[] = {NGTCP2_PROTO_VER_V1, NGTCP2_PROTO_VER_V2, 0x1a2a3a4a};
    size_t capacity;
    uint8_t *room = tsr_http3_room(http3, &datagram->path, &capacity);
    ngtcp2_ssize size = room ? ngtcp2_pkt_write_version_negotiation(
                                   room, capacity, random, id->scid, id->scidlen, id->dcid,
                                   id->dcidlen, versions, sizeof versions / sizeof *versions)
                             : 0;
    if (size > 0) {
        http3->counts.negotiations++;
        tsr_http3_send(http3, &datagram->path, (size_t)size, NGTCP2_ECN_NOT_ECT);
    }
}

static void reset(struct tsr_http3 *http3, const struct tsr_datagram *datagram,
                  const ngtcp2_version_cid *id)
{
    if (datagram->size <= RESET_BYTES_MIN || id->dcidlen != TSR_HTTP3_CID_BYTES ||
        id->dcid[0] != http3->options.queue) {
        tsr_http3_drop(http3, datagram, TSR_HTTP3_DROP_UNKNOWN);
        return;
    }
    if (!tsr_http3_spend(http3, &http3->stateless, http3->options.stateless_max)) {
        tsr_http3_drop(http3, datagram, TSR_HTTP3_DROP_LIMITED);
        return;
    }
    ngtcp2_cid cid;
    uint8_t token[NGTCP2_STATELESS_RESET_TOKENLEN], random[RESET_BYTES_MAX];
    ngtcp2_cid_init(&cid, id->dcid, id->dcidlen);
    tsr_http3_random(random, sizeof random);
    /* Smaller than what came, so that two ends do not go on for ever. */
    size_t bytes = datagram->size - 1 < RESET_BYTES_MAX ? datagram->size - 1 : RESET_BYTES_MAX;
    size_t capacity;
    uint8_t *room = tsr_http3_room(http3, &datagram->path, &capacity);
    if (!room || ngtcp2_crypto_generate_stateless_reset_token(
                     token, http3->reset_secret, sizeof http3->reset_secret, &cid) != 0) {
        return;
    }
    ngtcp2_ssize size =
        ngtcp2_pkt_write_stateless_reset(room, capacity, token, random, bytes - sizeof token);
    if (size > 0) {
        http3->counts.stateless_resets++;
        tsr_http3_send(http3, &datagram->path, (size_t)size, NGTCP2_ECN_NOT_ECT);
    }
}

static void retry(struct tsr_http3 *http3, const struct tsr_datagram *datagram,
                  const ngtcp2_pkt_hd *header)
{
    struct tsr_http3_sockaddrs sockaddrs;
    ngtcp2_path path = tsr_http3_path(&datagram->path, &sockaddrs);
    ngtcp2_cid id = {.datalen = TSR_HTTP3_CID_BYTES};
    uint8_t token[NGTCP2_CRYPTO_MAX_RETRY_TOKENLEN];
    tsr_http3_random(id.data, id.datalen);
    id.data[0] = http3->options.queue;
    ngtcp2_ssize size = ngtcp2_crypto_generate_retry_token(
        token, http3->token_secret, sizeof http3->token_secret, header->version, path.remote.addr,
        path.remote.addrlen, &id, &header->dcid, http3->now_ns);
    size_t capacity;
    uint8_t *room = size < 0 ? NULL : tsr_http3_room(http3, &datagram->path, &capacity);
    size = room ? ngtcp2_crypto_write_retry(room, capacity, header->version, &header->scid, &id,
                                            &header->dcid, token, (size_t)size)
                : 0;
    if (size > 0) {
        http3->counts.retries++;
        tsr_http3_send(http3, &datagram->path, (size_t)size, NGTCP2_ECN_NOT_ECT);
    }
}

static void refuse(struct tsr_http3 *http3, const struct tsr_datagram *datagram,
                   const ngtcp2_pkt_hd *header, uint64_t code)
{
    if (!tsr_http3_spend(http3, &http3->stateless, http3->options.stateless_max)) {
        tsr_http3_drop(http3, datagram, TSR_HTTP3_DROP_LIMITED);
        return;
    }
    size_t capacity;
    uint8_t *room = tsr_http3_room(http3, &datagram->path, &capacity);
    ngtcp2_ssize size =
        room ? ngtcp2_crypto_write_connection_close(room, capacity, header->version, &header->scid,
                                                    &header->dcid, code, NULL, 0)
             : 0;
    if (size > 0) {
        http3->counts.refused++;
        tsr_http3_send(http3, &datagram->path, (size_t)size, NGTCP2_ECN_NOT_ECT);
    }
}

/* What the token in its first packet says of a client. false: it has been answered. */
static bool check_token(struct tsr_http3 *http3, const struct tsr_datagram *datagram,
                        struct tsr_http3_hello *hello)
{
    const ngtcp2_pkt_hd *header = &hello->header;
    struct tsr_http3_sockaddrs sockaddrs;
    ngtcp2_path path = tsr_http3_path(&datagram->path, &sockaddrs);
    hello->original = header->dcid;
    if (!header->tokenlen) {
        return true;
    }
    if (header->token[0] == NGTCP2_CRYPTO_TOKEN_MAGIC_RETRY) {
        hello->retried =
            ngtcp2_crypto_verify_retry_token(
                &hello->original, header->token, header->tokenlen, http3->token_secret,
                sizeof http3->token_secret, header->version, path.remote.addr, path.remote.addrlen,
                &header->dcid, RETRY_S * tsr_http3_second, http3->now_ns) == 0;
        if (!hello->retried) { /* RFC 9000, 8.1.2 */
            refuse(http3, datagram, header, NGTCP2_INVALID_TOKEN);
        }
        return hello->retried;
    }
    hello->validated =
        header->token[0] == NGTCP2_CRYPTO_TOKEN_MAGIC_REGULAR &&
        ngtcp2_crypto_verify_regular_token(
            header->token, header->tokenlen, http3->token_secret, sizeof http3->token_secret,
            path.remote.addr, path.remote.addrlen, TOKEN_S * tsr_http3_second, http3->now_ns) == 0;
    if (!hello->validated) { /* as if there were none */
        hello->header.token = NULL;
        hello->header.tokenlen = 0;
    }
    return true;
}

/* false: it is none that may come first. */
static bool read_header(struct tsr_http3 *http3, const struct tsr_datagram *datagram,
                        ngtcp2_pkt_hd *header)
{
    if (ngtcp2_accept(header, datagram->bytes, datagram->size) == 0 &&
        header->type == NGTCP2_PKT_INITIAL) {
        return true;
    }
    tsr_http3_drop(http3, datagram,
                   datagram->size < TSR_HTTP3_INITIAL_MIN ? TSR_HTTP3_DROP_SHORT
                                                          : TSR_HTTP3_DROP_UNKNOWN);
    return false;
}

void tsr_http3_stranger(struct tsr_http3 *http3, const struct tsr_datagram *datagram,
                        const ngtcp2_version_cid *id)
{
    ngtcp2_pkt_hd header;
    if (!(datagram->bytes[0] & 0x80)) {
        reset(http3, datagram, id);
    } else if (read_header(http3, datagram, &header) &&
               !tsr_http3_waiting_put(&http3->strangers, datagram)) {
        tsr_http3_drop(http3, datagram, TSR_HTTP3_DROP_BUSY);
    }
}

/* Under load a client must show that its address is its own. */
static bool wants_retry(const struct tsr_http3 *http3)
{
    return http3->counts.handshakes >= http3->options.retry_from ||
           http3->strangers.n >= TSR_HTTP3_WAITING_MAX / 2;
}

/* As far as its address may have one more. */
static void open_for(struct tsr_http3 *http3, const struct tsr_datagram *datagram,
                     const struct tsr_http3_hello *hello)
{
    const struct tsr_http3_share *share = &http3->options.address;
    struct tsr_http3_sockaddrs sockaddrs;
    ngtcp2_path path = tsr_http3_path(&datagram->path, &sockaddrs);
    uint32_t i;
    if (tsr_peers_enter(http3->peers, path.remote.addr, &i) != 0) {
        tsr_http3_drop(http3, datagram, TSR_HTTP3_DROP_ADDRESS);
        return;
    }
    const struct tsr_http3_peer *peer = &http3->of_peers[i];
    bool shown = hello->retried || hello->validated;
    if (peer->handshakes >= share->handshakes) {
        tsr_http3_drop(http3, datagram, TSR_HTTP3_DROP_ADDRESS_HANDSHAKES);
    } else if (peer->account.used > share->bytes / 8 * 7) {
        tsr_http3_drop(http3, datagram, TSR_HTTP3_DROP_ADDRESS_MEMORY);
    } else if (peer->handshakes >= (share->handshakes + 1) / 2 && !shown) {
        retry(http3, datagram, &hello->header);
    } else {
        tsr_http3_conn_open(http3, datagram, hello, i);
        return;
    }
    tsr_peers_leave(http3->peers, i);
}

void tsr_http3_accept(struct tsr_http3 *http3, const struct tsr_datagram *datagram)
{
    const struct tsr_http3_options *o = &http3->options;
    struct tsr_http3_hello hello = {.retried = false};
    if (!read_header(http3, datagram, &hello.header) || !check_token(http3, datagram, &hello)) {
        return;
    }
    if (http3->draining || TAILQ_EMPTY(&http3->unused)) {
        refuse(http3, datagram, &hello.header, NGTCP2_CONNECTION_REFUSED);
    } else if (wants_retry(http3) && !hello.retried && !hello.validated) {
        retry(http3, datagram, &hello.header);
    } else if (http3->counts.handshakes >= o->handshakes_max) {
        tsr_http3_drop(http3, datagram, TSR_HTTP3_DROP_HANDSHAKES);
    } else if (http3->region.used > http3->region.size / 8 * 7) {
        tsr_http3_drop(http3, datagram, TSR_HTTP3_DROP_MEMORY);
    } else {
        open_for(http3, datagram, &hello);
    }
}
