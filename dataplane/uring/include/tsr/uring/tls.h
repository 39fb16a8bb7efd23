/* TLS 1.3 (RFC 8446) between bytes and bytes, by OpenSSL. No sockets: what came is fed, what is to
 * be sent is asked for. One thread.
 *
 * A connection that is idle holds no buffers: those of records exist while records wait. */
#ifndef TSR_URING_TLS_H
#define TSR_URING_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <tsr/shm/err.h>

struct tsr_tls;
struct tsr_tls_conn;

struct tsr_tls_files {
    const char *certificate; /* PEM: the server's, then those that lead to a root */
    const char *key;         /* PEM, without a pass phrase */
    const char *client_ca;   /* PEM: clients must show a certificate of these; NULL: none asked */
};

enum {
    TSR_TLS_RECORDS_BYTES = 32 << 10, /* room for what waits to be sent, of a connection */
    TSR_TLS_CHAIN_BYTES_MAX = 12 << 10,
};

/* The paths stay the caller's, unchanged. -EINVAL, -ENOENT, -EACCES, -ENOMEM, with a sentence. */
int tsr_tls_create(struct tsr_tls **tls, const struct tsr_tls_files *files, struct tsr_err *err);
void tsr_tls_destroy(struct tsr_tls *tls); /* connections may outlive it */

/* Reads the files again, for connections to come; on failure the old ones stay. */
int tsr_tls_reload(struct tsr_tls *tls, struct tsr_err *err);

/* Whether the files are others than those that were read last, or tried to. */
bool tsr_tls_changed(const struct tsr_tls *tls);

/* ---- One connection ---- */

/* NULL: no memory. */
struct tsr_tls_conn *tsr_tls_accept(struct tsr_tls *tls);
void tsr_tls_close(struct tsr_tls_conn *conn);

/* Bytes that came. To be followed by tsr_tls_handshake() until it returns 1, and then by
 * tsr_tls_read(), each until it returns 0: then all has been taken. */
void tsr_tls_feed(struct tsr_tls_conn *conn, const void *bytes, size_t size);

/* 1: done; 0: more bytes are wanted; -EPROTO: failed, err says why (records may hold an alert). */
int tsr_tls_handshake(struct tsr_tls_conn *conn, struct tsr_err *err);

/* Plain bytes: > 0; 0: no more now; -EPIPE: the peer has ended; -EPROTO: broken. */
int64_t tsr_tls_read(struct tsr_tls_conn *conn, void *plain, size_t size);

/* Makes records of plain bytes: how many of them fitted; -EPROTO: broken. */
int64_t tsr_tls_write(struct tsr_tls_conn *conn, const void *plain, size_t size);

/* Says that nothing more will come (close_notify). */
void tsr_tls_shut(struct tsr_tls_conn *conn);

/* Bytes to be sent; they stay where they are until so many have been sent. */
const void *tsr_tls_records(const struct tsr_tls_conn *conn, size_t *size);
void tsr_tls_sent(struct tsr_tls_conn *conn, size_t size);

/* Nothing is under way: gives memory back. */
void tsr_tls_rest(struct tsr_tls_conn *conn);

#endif
