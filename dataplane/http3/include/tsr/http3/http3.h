/* HTTP/3 (RFC 9114, 9204) over QUIC (RFC 9000, 9001, 9002) between a port's datagrams and the
 * exchanges of api.h.
 *
 * No sockets and no clock: the loop says what came and what time it is, and is given datagrams by
 * the port's own functions (struct tsr_datagram_way). One thread owns a tsr_http3, the same one
 * that owns the tsr_api.
 *
 * A turn of a loop:
 *   tsr_http3_datagram() for what came, tsr_api_step(), tsr_api_flush(), tsr_http3_step(), the
 *   port's flush, tsr_http3_take_waiting().
 *
 * Memory: what QUIC and HTTP/3 need of it comes out of one region that is reserved at the start and
 * bounded for each connection; GnuTLS takes its own for each connection, and gives most of it back
 * after the handshake. */
#ifndef TSR_HTTP3_HTTP3_H
#define TSR_HTTP3_HTTP3_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <tsr/port/datagram.h>
#include <tsr/shm/err.h>

struct tsr_api;
struct tsr_http3;

enum {
    TSR_HTTP3_HEAD_MAX = 32 << 10, /* bytes of a head, as RFC 9114 4.2.2 counts; more: 431 */
    TSR_HTTP3_HEADERS_MAX = 100,   /* headers; more: 431 */
    TSR_HTTP3_CID_BYTES = 16,      /* of the connection ids given out; the first is the queue */
    TSR_HTTP3_SECRET_BYTES = 32,
    TSR_HTTP3_TOKENS_MAX = 4096, /* of a turn that are timed */
};

struct tsr_http3_options {
    const char *certificate, *key; /* PEM; the certificate with its chain */
    const char *client_ca;         /* PEM: clients must show a certificate of these; NULL: none */
    struct tsr_datagram_way way;   /* where datagrams go */
    void *port;                    /* its first argument, and that of dropped() */
    void (*dropped)(void *port, const struct tsr_datagram *datagram); /* is told each; NULL: none */
    uint8_t queue; /* of the port; stands in connection ids */
    /* Of tokens and stateless resets. All zero: drawn at the start, so that clients of an earlier
     * run learn of its end only by their timeout. */
    uint8_t secret[TSR_HTTP3_SECRET_BYTES];

    bool bbr; /* congestion control by BBR's second version in place of CUBIC (RFC 9438) [false] */
    uint32_t conns_max;      /* at once; more are refused [4096] */
    uint32_t handshakes_max; /* of these not finished; more are dropped [1024] */
    uint32_t retry_from;     /* handshakes under way from which on a client must show that its
                                address is its own (Retry); 0: always [128] */
    uint32_t streams_max;    /* requests of a connection at once [100] */
    uint32_t resets_max;     /* streams that a client gives up, each second and connection; more:
                                H3_EXCESSIVE_LOAD [100] */
    uint32_t stateless_max;  /* answers to what belongs to no connection, each second [1000] */

    /* Of one address (IPv6: of its first 64 bits). 0: as much as all together may [0] */
    struct tsr_http3_share {
        uint32_t conns;
        uint32_t handshakes; /* under way; from half of it on it must show that it is there */
        uint32_t requests;   /* that have streams; more are answered 429 */
        uint32_t datagrams;  /* to established connections, each second; more are not looked at */
        size_t bytes;        /* of the region; more: what wants it ends */
    } address;
    uint32_t datagrams_max; /* to an established connection, each second; 0: any number [50000] */
    uint32_t handshake_s;   /* [10] */
    uint32_t idle_s;        /* seconds without a packet [30] */
    uint32_t stall_s;       /* a request that comes and an answer that goes, each must ... [30] */
    uint32_t stall_bytes;   /* ... move as many bytes in that time, or all that there is [4096] */
    size_t conn_bytes_max;  /* of the libraries' memory for one connection; more: it ends [4 MiB] */
    size_t answer_bytes_max; /* queued or not acknowledged, of one connection; more: the answer is
                                given up [16 MiB] */
    size_t bytes_max;        /* of both, for all connections: the region [1 GiB] */
};

/* The defaults in brackets above. */
void tsr_http3_options_init(struct tsr_http3_options *options);

/* -EINVAL, -ENOMEM, or what reading the files gave, with a sentence. The api must outlive it. */
int tsr_http3_create(struct tsr_http3 **http3, struct tsr_api *api,
                     const struct tsr_http3_options *options, struct tsr_err *err);

/* Connections that are open are forgotten without a word, their requests cancelled. */
void tsr_http3_destroy(struct tsr_http3 *http3);

/* Reads certificate, key and client_ca again, for connections to come; on failure the old ones
 * stay. */
int tsr_http3_reload(struct tsr_http3 *http3, struct tsr_err *err);

/* A datagram has come; it may be changed. now_ns: CLOCK_MONOTONIC. */
void tsr_http3_datagram(struct tsr_http3 *http3, const struct tsr_datagram *datagram,
                        uint64_t now_ns);

/* The queue whose connection a datagram belongs to: the one that its connection id names, where it
 * is of a kind that carries an id given out here; else `here`, since connections begin where they
 * come. It may name one that is not there. */
uint32_t tsr_http3_queue_of(const struct tsr_datagram *datagram, uint32_t here);

/* Sends what there is to be sent, and does what is due. unix_s: for the Date header. Returns the
 * number of datagrams sent. */
uint32_t tsr_http3_step(struct tsr_http3 *http3, uint64_t now_ns, uint64_t unix_s);

/* For a caller that polls, after a turn that had nothing to do: makes the next step go the way of a
 * token on one of the connections that wait for one, in turn, without sending anything. So what
 * that takes is in the CPU's caches when a token comes, however long the last one was ago. */
void tsr_http3_rehearse(struct tsr_http3 *http3);

/* Of each answer to which the last step has sent new tokens, as datagrams to the port: when the
 * newest of them was published (CLOCK_MONOTONIC). Returns how many; valid until the next step. */
uint32_t tsr_http3_tokens(const struct tsr_http3 *http3, const uint64_t **published_ns);

/* Reads what waits: datagrams with requests beyond those of a turn, a number of them, and those of
 * handshakes, until one costly thing has been done (keys, a signature).
 * So nothing that is sent waits for more than one. Returns the number of datagrams read; what is to
 * be answered is sent by the next step. */
uint32_t tsr_http3_take_waiting(struct tsr_http3 *http3, uint64_t now_ns);

/* When it wants tsr_http3_step() to be called at the latest; 0: at once. UINT64_MAX: no matter. */
uint64_t tsr_http3_wake_ns(const struct tsr_http3 *http3);

/* The door is closing: no new connections, no new requests (GOAWAY); connections close when their
 * answers are whole, or nothing of them has been acknowledged for 3 seconds. Sent by the next
 * step. */
void tsr_http3_drain(struct tsr_http3 *http3);

/* ---- Figures ---- */

/* Why a datagram was dropped. */
enum tsr_http3_drop {
    TSR_HTTP3_DROP_MALFORMED,          /* no QUIC packet, or one that may not come first */
    TSR_HTTP3_DROP_SHORT,              /* the first of a connection, in less than 1,200 bytes */
    TSR_HTTP3_DROP_UNKNOWN,            /* of no connection, and not worth an answer */
    TSR_HTTP3_DROP_CLOSED,             /* of a connection that has ended */
    TSR_HTTP3_DROP_HANDSHAKES,         /* handshakes_max */
    TSR_HTTP3_DROP_INITIAL,            /* the first of a connection, which does not begin one */
    TSR_HTTP3_DROP_ADDRESS,            /* its address has as many connections as it may, ... */
    TSR_HTTP3_DROP_ADDRESS_HANDSHAKES, /* ... handshakes under way, ... */
    TSR_HTTP3_DROP_ADDRESS_MEMORY,     /* ... or nearly as much memory */
    TSR_HTTP3_DROP_MEMORY,             /* the region is nearly full */
    TSR_HTTP3_DROP_RATE,               /* datagrams_max, or its address's */
    TSR_HTTP3_DROP_LIMITED,            /* stateless_max */
    TSR_HTTP3_DROP_BUSY,               /* of a handshake, and too many of these wait */
    TSR_HTTP3_DROPS,
};

/* What each is called in a label. */
extern const char *const tsr_http3_drop_names[TSR_HTTP3_DROPS];

struct tsr_http3_counts {
    uint64_t conns;            /* open */
    uint64_t handshakes;       /* of these not finished */
    uint64_t accepted;         /* connections in all */
    uint64_t established;      /* of these, handshakes that were finished */
    uint64_t refused;          /* answered CONNECTION_REFUSED */
    uint64_t retries;          /* Retry packets */
    uint64_t negotiations;     /* Version Negotiation packets */
    uint64_t stateless_resets; /* sent */
    uint64_t closed_transport; /* connections that were closed for an error of QUIC */
    uint64_t closed_http;      /* for one of HTTP/3, H3_EXCESSIVE_LOAD among them */
    uint64_t excessive;        /* for H3_EXCESSIVE_LOAD */
    uint64_t timeouts;         /* connections idle, and handshakes late */
    uint64_t requests;         /* heads that were whole and right */
    uint64_t whole;            /* that have come to their last byte, and had no answer before */
    uint64_t bad_requests;     /* refused by HTTP/3 itself: malformed, too large, too slow */
    uint64_t cancelled;        /* requests that their clients gave up */
    uint64_t datagrams_in, datagrams_out, bytes_in, bytes_out;
    uint64_t no_room; /* times that the port had no room */
    uint64_t drops[TSR_HTTP3_DROPS];
    uint64_t bytes; /* of the region in use */
};

/* Counted from the start; they stay where they are. */
const struct tsr_http3_counts *tsr_http3_counts(const struct tsr_http3 *http3);

/* The sizes of what was reserved, for a person: one line without an end. */
void tsr_http3_describe(const struct tsr_http3 *http3, char *text, size_t size);

#endif
