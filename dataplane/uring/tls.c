#include <tsr/uring/tls.h>

#include <errno.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <tsr/daemon/watch.h>
#include <tsr/shm/log.h>

struct records {
    struct records *next; /* of those that are free */
    uint32_t size;
    uint32_t sent;
    uint8_t bytes[TSR_TLS_RECORDS_BYTES];
};

struct tsr_tls {
    struct tsr_tls_files files;
    struct tsr_watch watch;
    SSL_CTX *context;
    BIO_METHOD *method;
    struct records *free;
    uint32_t uses; /* itself, and its connections */
};

struct tsr_tls_conn {
    struct tsr_tls *tls;
    SSL *ssl;
    const uint8_t *in; /* what was fed and is not taken yet */
    size_t in_bytes;
    struct records *out;
};

/* ---- Where OpenSSL reads and writes ---- */

static int bio_read(BIO *bio, char *to, size_t size, size_t *got)
{
    struct tsr_tls_conn *conn = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    if (conn->in_bytes == 0) {
        BIO_set_retry_read(bio);
        return -1;
    }
    *got = size < conn->in_bytes ? size : conn->in_bytes;
    memcpy(to, conn->in, *got);
    conn->in += *got;
    conn->in_bytes -= *got;
    return 1;
}

static struct records *take_records(struct tsr_tls *tls)
{
    struct records *records = tls->free;
    if (records) {
        tls->free = records->next;
    } else {
        records = malloc(sizeof *records);
    }
    if (records) {
        records->size = records->sent = 0;
    }
    return records;
}

static void leave_records(struct tsr_tls_conn *conn)
{
    if (conn->out) {
        conn->out->next = conn->tls->free;
        conn->tls->free = conn->out;
        conn->out = NULL;
    }
}

static int bio_write(BIO *bio, const char *from, size_t size, size_t *put)
{
    struct tsr_tls_conn *conn = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    if (!conn->out) {
        conn->out = take_records(conn->tls);
    }
    size_t room = conn->out ? sizeof conn->out->bytes - conn->out->size : 0;
    if (room == 0) {
        BIO_set_retry_write(bio);
        return -1;
    }
    *put = size < room ? size : room;
    memcpy(conn->out->bytes + conn->out->size, from, *put);
    conn->out->size += (uint32_t)*put;
    return 1;
}

static long bio_control(BIO *bio, int command, long number, void *pointer)
{
    (void)bio, (void)number, (void)pointer;
    return command == BIO_CTRL_FLUSH;
}

/* ---- Files ---- */

/* The sentence of OpenSSL's oldest error. */
static const char *reason(void)
{
    unsigned long code = ERR_get_error();
    const char *text = code ? ERR_reason_error_string(code) : NULL;
    ERR_clear_error();
    return text ? text : "unknown error";
}

bool tsr_tls_changed(const struct tsr_tls *tls)
{
    return tsr_watch_changed(&tls->watch);
}

/* Whether the file can be read at all, so that the sentence says so. */
static int readable(const char *option, const char *path, struct tsr_err *err)
{
    FILE *file = fopen(path, "re");
    if (!file) {
        return tsr_err_set(err, -errno, "%s %s: %s%s", option, path, strerror(errno),
                           errno == EACCES ? "; the door's user (--user) must be able to read it"
                                           : "");
    }
    fclose(file);
    return 0;
}

static int no_pass_phrase(char *buffer, int size, int writing, void *ctx)
{
    (void)buffer, (void)size, (void)writing, (void)ctx;
    return -1;
}

/* The whole flight of a handshake must fit into the records. */
static int check_chain(SSL_CTX *context, const char *path, struct tsr_err *err)
{
    X509 *leaf = SSL_CTX_get0_certificate(context);
    STACK_OF(X509) *chain = NULL;
    SSL_CTX_get0_chain_certs(context, &chain);
    int bytes = i2d_X509(leaf, NULL);
    for (int i = 0; chain && i < sk_X509_num(chain); i++) {
        bytes += i2d_X509(sk_X509_value(chain, i), NULL);
    }
    if (bytes > TSR_TLS_CHAIN_BYTES_MAX) {
        return tsr_err_set(err, -EINVAL,
                           "--tls-certificate %s: the chain has %d bytes, %d at most "
                           "are sent; leave out what clients know",
                           path, bytes, TSR_TLS_CHAIN_BYTES_MAX);
    }
    if (X509_cmp_current_time(X509_get0_notAfter(leaf)) < 0) {
        tsr_log(TSR_LOG_WARN, "--tls-certificate %s: it has expired, clients will refuse it", path);
    }
    return 0;
}

static int load_pair(SSL_CTX *context, const struct tsr_tls_files *files, struct tsr_err *err)
{
    SSL_CTX_set_default_passwd_cb(context, no_pass_phrase);
    int rc = readable("--tls-certificate", files->certificate, err);
    rc = rc ? rc : readable("--tls-key", files->key, err);
    if (rc < 0) {
        return rc;
    }
    if (SSL_CTX_use_certificate_chain_file(context, files->certificate) != 1) {
        return tsr_err_set(err, -EINVAL, "--tls-certificate %s: no certificate in PEM: %s",
                           files->certificate, reason());
    }
    if (SSL_CTX_use_PrivateKey_file(context, files->key, SSL_FILETYPE_PEM) != 1) {
        return tsr_err_set(err, -EINVAL,
                           "--tls-key %s: not the certificate's key in PEM without a pass phrase: "
                           "%s",
                           files->key, reason());
    }
    return check_chain(context, files->certificate, err);
}

static int load_client_ca(SSL_CTX *context, const char *path, struct tsr_err *err)
{
    static const unsigned char name[] = "tessera";
    if (!path) {
        return 0;
    }
    int rc = readable("--tls-client-ca", path, err);
    if (rc < 0) {
        return rc;
    }
    STACK_OF(X509_NAME) *names = SSL_load_client_CA_file(path);
    if (!names || SSL_CTX_load_verify_locations(context, path, NULL) != 1) {
        return tsr_err_set(err, -EINVAL, "--tls-client-ca %s: no certificates in PEM: %s", path,
                           reason());
    }
    SSL_CTX_set_client_CA_list(context, names);
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    SSL_CTX_set_session_id_context(context, name, sizeof name - 1);
    return 0;
}

/* http/1.1, or nothing said. */
static int choose_protocol(SSL *ssl, const unsigned char **out, unsigned char *out_bytes,
                           const unsigned char *in, unsigned in_bytes, void *ctx)
{
    static const unsigned char ours[] = "\x08http/1.1";
    unsigned char *chosen;
    (void)ssl, (void)ctx;
    if (SSL_select_next_proto(&chosen, out_bytes, ours, sizeof ours - 1, in, in_bytes) !=
        OPENSSL_NPN_NEGOTIATED) {
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    }
    *out = chosen;
    return SSL_TLSEXT_ERR_OK;
}

int tsr_tls_reload(struct tsr_tls *tls, struct tsr_err *err)
{
    tsr_watch_note(&tls->watch);
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());
    if (!context) {
        return tsr_err_set(err, -ENOMEM, "no memory for TLS");
    }
    SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF); /* tickets hold the state */
    SSL_CTX_set_num_tickets(context, 1);
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_alpn_select_cb(context, choose_protocol, NULL);
    int rc = load_pair(context, &tls->files, err);
    rc = rc ? rc : load_client_ca(context, tls->files.client_ca, err);
    if (rc < 0) {
        SSL_CTX_free(context);
        return rc;
    }
    SSL_CTX_free(tls->context);
    tls->context = context;
    return 0;
}

static void release(struct tsr_tls *tls)
{
    if (--tls->uses) {
        return;
    }
    while (tls->free) {
        struct records *next = tls->free->next;
        free(tls->free);
        tls->free = next;
    }
    SSL_CTX_free(tls->context);
    BIO_meth_free(tls->method);
    free(tls);
}

int tsr_tls_create(struct tsr_tls **out, const struct tsr_tls_files *files, struct tsr_err *err)
{
    struct tsr_tls *tls = calloc(1, sizeof *tls);
    if (!tls) {
        return tsr_err_set(err, -ENOMEM, "no memory for TLS");
    }
    tls->uses = 1;
    tls->files = *files;
    tsr_watch_add(&tls->watch, files->certificate);
    tsr_watch_add(&tls->watch, files->key);
    tsr_watch_add(&tls->watch, files->client_ca);
    tls->method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "tessera");
    int rc = -ENOMEM;
    if (tls->method && BIO_meth_set_read_ex(tls->method, bio_read) &&
        BIO_meth_set_write_ex(tls->method, bio_write) &&
        BIO_meth_set_ctrl(tls->method, bio_control)) {
        rc = tsr_tls_reload(tls, err);
    } else {
        tsr_err_set(err, rc, "no memory for TLS");
    }
    if (rc < 0) {
        release(tls);
        return rc;
    }
    *out = tls;
    return 0;
}

void tsr_tls_destroy(struct tsr_tls *tls)
{
    if (tls) {
        release(tls);
    }
}

/* ---- One connection ---- */

struct tsr_tls_conn *tsr_tls_accept(struct tsr_tls *tls)
{
    struct tsr_tls_conn *conn = calloc(1, sizeof *conn);
    SSL *ssl = conn ? SSL_new(tls->context) : NULL;
    BIO *bio = ssl ? BIO_new(tls->method) : NULL;
    if (!bio) {
        ERR_clear_error();
        SSL_free(ssl);
        free(conn);
        return NULL;
    }
    BIO_set_data(bio, conn);
    BIO_set_init(bio, 1);
    SSL_set_bio(ssl, bio, bio);
    SSL_set_accept_state(ssl);
    conn->ssl = ssl;
    conn->tls = tls;
    tls->uses++;
    return conn;
}

void tsr_tls_close(struct tsr_tls_conn *conn)
{
    leave_records(conn);
    SSL_free(conn->ssl);
    release(conn->tls);
    free(conn);
}

void tsr_tls_feed(struct tsr_tls_conn *conn, const void *bytes, size_t size)
{
    conn->in = bytes;
    conn->in_bytes = size;
}

int tsr_tls_handshake(struct tsr_tls_conn *conn, struct tsr_err *err)
{
    ERR_clear_error();
    int rc = SSL_do_handshake(conn->ssl);
    if (rc == 1) {
        return 1;
    }
    if (SSL_get_error(conn->ssl, rc) == SSL_ERROR_WANT_READ) {
        return 0;
    }
    return tsr_err_set(err, -EPROTO, "TLS handshake: %s", reason());
}

int64_t tsr_tls_read(struct tsr_tls_conn *conn, void *plain, size_t size)
{
    size_t got;
    ERR_clear_error();
    int rc = SSL_read_ex(conn->ssl, plain, size, &got);
    if (rc == 1) {
        return (int64_t)got;
    }
    switch (SSL_get_error(conn->ssl, rc)) {
    case SSL_ERROR_WANT_READ:
        return 0;
    case SSL_ERROR_ZERO_RETURN:
        return -EPIPE;
    default:
        ERR_clear_error();
        return -EPROTO;
    }
}

/* A record is whole or not begun: what does not fit behind its overhead is left for later. */
int64_t tsr_tls_write(struct tsr_tls_conn *conn, const void *plain, size_t size)
{
    enum { OVERHEAD = 256, LEAST = 1024 };
    size_t done = 0;
    ERR_clear_error();
    while (done < size) {
        size_t room = TSR_TLS_RECORDS_BYTES / 2;
        room -= conn->out && conn->out->size < room ? conn->out->size : conn->out ? room : 0;
        if (room < OVERHEAD + LEAST) {
            break;
        }
        size_t part = size - done < room - OVERHEAD ? size - done : room - OVERHEAD;
        size_t put;
        if (SSL_write_ex(conn->ssl, (const uint8_t *)plain + done, part, &put) != 1) {
            ERR_clear_error();
            return -EPROTO;
        }
        done += put;
    }
    return (int64_t)done;
}

void tsr_tls_shut(struct tsr_tls_conn *conn)
{
    ERR_clear_error();
    SSL_shutdown(conn->ssl);
    ERR_clear_error();
}

const void *tsr_tls_records(const struct tsr_tls_conn *conn, size_t *size)
{
    *size = conn->out ? conn->out->size - conn->out->sent : 0;
    return conn->out ? conn->out->bytes + conn->out->sent : NULL;
}

void tsr_tls_sent(struct tsr_tls_conn *conn, size_t size)
{
    conn->out->sent += (uint32_t)size;
    if (conn->out->sent == conn->out->size) {
        leave_records(conn);
    }
}

void tsr_tls_rest(struct tsr_tls_conn *conn)
{
    SSL_free_buffers(conn->ssl);
}
