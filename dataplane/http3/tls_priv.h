/* TLS 1.3 for QUIC by GnuTLS: the server's certificate, who may connect, ALPN. */
#ifndef TSR_HTTP3_TLS_PRIV_H
#define TSR_HTTP3_TLS_PRIV_H

#include <gnutls/gnutls.h>
#include <ngtcp2/ngtcp2_crypto.h>

#include <tsr/shm/err.h>

struct tsr_http3_tls;
struct tsr_http3_credentials; /* of one reading of the files; lives as long as its sessions */

/* The paths are kept; client_ca may be NULL. -EINVAL, -ENOMEM, -ENOENT ..., with a sentence. */
int tsr_http3_tls_create(struct tsr_http3_tls **tls, const char *certificate, const char *key,
                         const char *client_ca, struct tsr_err *err);
void tsr_http3_tls_destroy(struct tsr_http3_tls *tls);
int tsr_http3_tls_reload(struct tsr_http3_tls *tls, struct tsr_err *err);

/* NULL: no memory. */
gnutls_session_t tsr_http3_tls_open(struct tsr_http3_tls *tls, ngtcp2_crypto_conn_ref *ref,
                                    struct tsr_http3_credentials **credentials);
void tsr_http3_tls_close(gnutls_session_t session, struct tsr_http3_credentials *credentials);

#endif
