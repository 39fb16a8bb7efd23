/* What the files of this folder share: the connections of a door and their streams. */
#ifndef TSR_HTTP3_PRIV_H
#define TSR_HTTP3_PRIV_H

#include "cid_priv.h"
#include "memory_priv.h"
#include "queue_priv.h"
#include "timer_priv.h"
#include "tls_priv.h"
#include "waiting_priv.h"

#include <nghttp3/nghttp3.h>
#include <ngtcp2/ngtcp2.h>
#include <ngtcp2/ngtcp2_crypto.h>
#include <sys/queue.h>

#include <tsr/api/api.h>
#include <tsr/http3/http3.h>

struct tsr_peers;

enum {
    TSR_HTTP3_CLOSE_BYTES = 128,      /* of a CONNECTION_CLOSE packet that is kept */
    TSR_HTTP3_PAYLOAD_MAX = 16 << 10, /* of a datagram that is sent, whatever the link carries */
    TSR_HTTP3_INITIAL_MIN = 1200,     /* RFC 9000, 14.1 */
    TSR_HTTP3_STREAM_WINDOW = 256 << 10,
    TSR_HTTP3_CONN_WINDOW = 512 << 10,
    TSR_HTTP3_UNI_STREAMS = 8, /* control, two of QPACK, and some that mean nothing (greasing) */

    /* Of a turn, so that it is short whatever there is to do. The rest is done in the next ones. */
    TSR_HTTP3_TURN_EXPIRIES = 32,
    TSR_HTTP3_TURN_STALLS = 256,       /* streams whose time is over, looked at */
    TSR_HTTP3_TURN_DATAGRAMS = 64,     /* to established connections; more where one has begun */
    TSR_HTTP3_TURN_CONN_BYTES = 16384, /* of these to one of them, while others wait */
    TSR_HTTP3_TURN_SHAKING = 8,        /* connections that are not established, written to */
    TSR_HTTP3_TURN_KNOWN = 32,         /* datagrams of these, read */
    TSR_HTTP3_TURN_STRANGERS = 4,      /* and of no connection yet */
    TSR_HTTP3_TURN_REQUESTS = 32,      /* after which datagrams that may hold more wait ... */
    TSR_HTTP3_ASKING_MIN = 128,        /* ... which are those of more bytes */
    TSR_HTTP3_TURN_PARTS = 128,        /* streams written from, after which no other begins */

    TSR_HTTP3_CIPHERS = 4, /* as many as tls.c offers */
};

static const uint64_t tsr_http3_second = 1000000000u;

/* ---- One request and its answer ---- */

struct tsr_http3_field {
    nghttp3_rcbuf *name, *value;
};

/* How far a request is. */
enum tsr_http3_in { TSR_HTTP3_IN_HEAD, TSR_HTTP3_IN_BODY, TSR_HTTP3_IN_WHOLE };

/* How far its answer is. */
enum tsr_http3_answer { TSR_HTTP3_UNANSWERED, TSR_HTTP3_ANSWERING, TSR_HTTP3_ANSWERED };

struct tsr_http3_stream {
    struct tsr_http3_conn *conn;
    TAILQ_ENTRY(tsr_http3_stream) conn_at;
    TAILQ_ENTRY(tsr_http3_stream) moving_at;
    int64_t id;
    struct tsr_api_exchange *exchange; /* NULL: none is open */
    struct tsr_http3_field *fields;    /* [HEADERS_MAX], while the head comes */
    uint32_t n_fields;
    uint32_t head_bytes;
    struct tsr_http3_queue out; /* of the answer's body: until it is acknowledged */
    uint64_t since_ns;          /* when its time began */
    uint64_t moved;             /* bytes that came or were acknowledged since */
    uint64_t token_ns;          /* of the newest token that has not been sent; 0: none */
    enum tsr_http3_in in;
    enum tsr_http3_answer answer;
    bool is_head;   /* HEAD, or a status without a body */
    bool is_asked;  /* counts as a request of its address */
    bool acked;     /* tsr_api_sent() is due */
    bool shut_read; /* what still comes is of no use: to be said */
    bool given_up;  /* was reset from here */
};

TAILQ_HEAD(tsr_http3_streams, tsr_http3_stream);

/* ---- Connections ---- */

/* So many events a second. */
struct tsr_http3_budget {
    uint64_t second;
    uint32_t n;
};

TAILQ_HEAD(tsr_http3_conns, tsr_http3_conn);

/* What the connections of one address have together; as long as there are any. */
struct tsr_http3_peer {
    struct tsr_http3_account account;
    struct tsr_http3_budget datagrams;
    uint32_t conns;
    uint32_t handshakes; /* of these under way */
    uint32_t requests;   /* that have streams */
};

/* The client's control stream: where in a frame it is. */
struct tsr_http3_control {
    int64_t id; /* -1: there is none yet */
    uint64_t left;
    uint8_t head[16]; /* the frame's type and length, until both are whole */
    uint8_t head_bytes;
    bool begun;     /* its first frame has come */
    bool skips;     /* what is left of the frame */
    bool is_number; /* the frame is to hold one number, which has not begun */
};

struct tsr_http3_conn {
    struct tsr_http3_owner owner;
    struct tsr_http3 *http3;
    TAILQ_ENTRY(tsr_http3_conn) at;         /* of those that are open, or free */
    TAILQ_ENTRY(tsr_http3_conn) ready_at;   /* while is_ready */
    TAILQ_ENTRY(tsr_http3_conn) serving_at; /* while asked */
    struct tsr_http3_conns *ready_in;       /* of which of http3's lists */
    ngtcp2_crypto_conn_ref ref;
    ngtcp2_conn *quic;
    nghttp3_conn *http; /* NULL: before there are keys for it */
    gnutls_session_t tls;
    struct tsr_http3_credentials *credentials;
    struct tsr_http3_account account; /* of the libraries */
    ngtcp2_mem quic_mem;              /* which they keep pointers to */
    nghttp3_mem http_mem;
    struct tsr_http3_account answers;
    struct tsr_http3_streams streams;
    struct tsr_http3_control control;
    struct tsr_http3_budget resets, datagrams;
    ngtcp2_ccerr error; /* why it is closed, if is_failing */
    uint32_t peer;      /* of http3->peers and of_peers */
    uint32_t asked;     /* requests that have streams */
    bool has_keys;      /* for Initial packets at least */
    bool established;
    bool is_failing;
    bool is_ready; /* something may have to be sent */
    bool drained;  /* was told to end */
    bool excessive;
};

/* What is left of a connection for three times its probe timeout (RFC 9000, 10.2): its ids, and
 * what is answered to them. */
struct tsr_http3_closed {
    struct tsr_http3_owner owner;
    struct tsr_http3_closed *next; /* of those that are free */
    struct tsr_path path;
    uint32_t n_came; /* answered when it is a power of two */
    uint32_t size;   /* 0: draining, nothing is answered */
    uint8_t packet[TSR_HTTP3_CLOSE_BYTES];
};

/* What a rehearsal enciphers with. */
struct tsr_http3_cipher {
    ngtcp2_crypto_aead aead;
    ngtcp2_crypto_aead_ctx key;
};

struct tsr_http3 {
    struct tsr_api *api;
    struct tsr_http3_options options;
    uint64_t now_ns;
    uint64_t unix_s;
    char date[32];
    bool draining;
    bool no_room; /* the port had none in this turn */

    struct tsr_http3_region region;
    struct tsr_http3_tls *tls;
    struct tsr_peers *peers;
    struct tsr_http3_peer *of_peers; /* [conns_max] */
    struct tsr_http3_cids cids;
    struct tsr_http3_timers timers;
    struct tsr_http3_conn *conns; /* [conns_max] */
    struct tsr_http3_conns open, unused;
    struct tsr_http3_conns ready_first;          /* those that have a token */
    struct tsr_http3_conns ready, ready_shaking; /* established or not when they became ready */
    struct tsr_http3_conns serving;              /* those that have requests under way */
    struct tsr_http3_waiting known, strangers;   /* datagrams of handshakes */
    struct tsr_http3_waiting asking;             /* and those beyond a turn's requests */
    uint64_t requests_until;                     /* of counts.requests: the turn's end */
    uint64_t parts;                              /* times that a stream was written from */
    bool shaken;                     /* something of a handshake was done that costs much */
    struct tsr_http3_closed *closed; /* [conns_max] */
    struct tsr_http3_closed *closed_free;
    struct tsr_http3_streams moving; /* given time until they move, oldest first */
    struct tsr_http3_budget stateless;
    struct tsr_http3_counts counts;
    uint64_t tokens_ns[TSR_HTTP3_TOKENS_MAX]; /* published; sent by this turn */
    uint32_t n_tokens;
    struct tsr_http3_cipher ciphers[TSR_HTTP3_CIPHERS];
    uint8_t reset_secret[TSR_HTTP3_SECRET_BYTES], token_secret[TSR_HTTP3_SECRET_BYTES];
};

/* ---- address.c ---- */

struct tsr_http3_sockaddrs {
    ngtcp2_sockaddr_union local, remote;
};

/* The path points into sockaddrs. */
ngtcp2_path tsr_http3_path(const struct tsr_path *path, struct tsr_http3_sockaddrs *sockaddrs);
struct tsr_path tsr_http3_path_back(const ngtcp2_path *path);

/* ---- http3.c ---- */

/* false: more than max in this second. */
bool tsr_http3_spend(struct tsr_http3 *http3, struct tsr_http3_budget *budget, uint32_t max);
void tsr_http3_drop(struct tsr_http3 *http3, const struct tsr_datagram *datagram,
                    enum tsr_http3_drop why);

/* Room for one datagram; NULL: none in this turn, or, without http3->no_room, none on this path. */
uint8_t *tsr_http3_room(struct tsr_http3 *http3, const struct tsr_path *path, size_t *capacity);
void tsr_http3_send(struct tsr_http3 *http3, const struct tsr_path *path, size_t size, uint8_t ecn);
void tsr_http3_random(void *bytes, size_t size);

/* ---- accept.c ---- */

/* A datagram that belongs to no connection: is dropped, answered, or waits. */
void tsr_http3_stranger(struct tsr_http3 *http3, const struct tsr_datagram *datagram,
                        const ngtcp2_version_cid *id);

/* One that has waited: the first of a connection, unless something is against it. */
void tsr_http3_accept(struct tsr_http3 *http3, const struct tsr_datagram *datagram);
void tsr_http3_negotiate(struct tsr_http3 *http3, const struct tsr_datagram *datagram,
                         const ngtcp2_version_cid *id);

/* ---- conn.c ---- */

/* What address validation has said of a client's first packet. */
struct tsr_http3_hello {
    ngtcp2_pkt_hd header;
    ngtcp2_cid original; /* the id that the client chose first */
    bool retried;
    bool validated; /* by a token of a former connection */
};

/* It is of this peer now, which was entered for it. */
void tsr_http3_conn_open(struct tsr_http3 *http3, const struct tsr_datagram *datagram,
                         const struct tsr_http3_hello *hello, uint32_t peer);
void tsr_http3_conn_read(struct tsr_http3_conn *conn, const struct tsr_datagram *datagram);

/* Sends what it has; false: it may have more. */
bool tsr_http3_conn_write(struct tsr_http3_conn *conn);
void tsr_http3_conn_expire(struct tsr_http3_conn *conn);

/* Something may have to be sent. */
void tsr_http3_conn_ready(struct tsr_http3_conn *conn);

/* There was no room for what it has: it is where it was, the first of its list. */
void tsr_http3_conn_keep_place(struct tsr_http3_conn *conn);

/* Something may have to be sent: a token, which goes before all that others have to send. */
void tsr_http3_conn_first(struct tsr_http3_conn *conn);

/* Closes with an error of HTTP/3, in the next step. Always returns the libraries'
 * NGTCP2_ERR_CALLBACK_FAILURE. */
int tsr_http3_conn_fail(struct tsr_http3_conn *conn, uint64_t code);

/* It has no request under way and shall end. */
void tsr_http3_conn_drain(struct tsr_http3_conn *conn);

/* Gone without a word. */
void tsr_http3_conn_forget(struct tsr_http3_conn *conn);

/* A datagram came for it. */
void tsr_http3_closed_read(struct tsr_http3 *http3, struct tsr_http3_closed *closed,
                           const struct tsr_datagram *datagram);
void tsr_http3_closed_forget(struct tsr_http3 *http3, struct tsr_http3_closed *closed);

/* ---- stream.c ---- */

/* nghttp3's side of a connection; a negative code of ngtcp2. */
int tsr_http3_streams_open(struct tsr_http3_conn *conn);
void tsr_http3_streams_close(struct tsr_http3_conn *conn);

/* The client gave up its request, or wants no answer. */
void tsr_http3_stream_cancel(struct tsr_http3_stream *stream);

/* Its time to move bytes begins anew. */
void tsr_http3_stream_moves(struct tsr_http3_stream *stream);

/* All that its answer has so far is in packets. */
void tsr_http3_stream_sent(struct tsr_http3_stream *stream);

/* Says what is due to the API and to QUIC, of all streams of the connection. */
void tsr_http3_streams_settle(struct tsr_http3_conn *conn);

/* For how long a stream may stand still. */
uint64_t tsr_http3_stall_ns(const struct tsr_http3 *http3);

/* Gives up streams whose time is over. */
void tsr_http3_streams_expire(struct tsr_http3 *http3);

/* ---- rehearse.c ---- */

void tsr_http3_ciphers_fini(struct tsr_http3 *http3);

/* ---- control.c ---- */

/* The next bytes of a client's unidirectional stream. Like nghttp3_conn_read_stream(): the bytes
 * that are done with, or a negative code of nghttp3. */
nghttp3_ssize tsr_http3_control_read(struct tsr_http3_conn *conn, int64_t id, uint64_t offset,
                                     const uint8_t *data, size_t size, bool fin);

/* ---- answer.c ---- */

extern const struct tsr_api_door tsr_http3_door; /* stream: struct tsr_http3_stream */

/* Answers for the API. `why` is one sentence without quotes. */
void tsr_http3_refuse(struct tsr_http3_stream *stream, unsigned status, const char *why);

/* ---- head.c ---- */

/* What a head that nghttp3 has found right asks for. The texts point into its fields. */
struct tsr_http3_asked {
    struct tsr_api_request request;
    struct tsr_api_header headers[TSR_HTTP3_HEADERS_MAX];
};

/* 0; or a status, and why; or -1: malformed, the stream is to be reset (RFC 9114, 4.1.2). */
int tsr_http3_head_understand(const struct tsr_http3_stream *stream, bool whole,
                              struct tsr_http3_asked *asked, const char **why);

#endif
