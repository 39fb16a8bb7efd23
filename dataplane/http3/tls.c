#include "tls_priv.h"

#include <errno.h>
#include <gnutls/x509.h>
#include <ngtcp2/ngtcp2_crypto_gnutls.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct tsr_http3_credentials {
    gnutls_certificate_credentials_t certificate;
    gnutls_datum_t tickets; /* the key of session tickets: those of former files end with them */
    bool asks_client;
    uint32_t uses; /* the newest, and sessions */
};

struct tsr_http3_tls {
    const char *certificate, *key, *client_ca;
    gnutls_priority_t priority;
    struct tsr_http3_credentials *newest;
};

/* RFC 9001, 4.2 and 5.3: TLS 1.3 without its middlebox mode; each suite has a header protection. */
static const char priorities[] =
    "NORMAL:%DISABLE_TLS13_COMPAT_MODE:-VERS-ALL:+VERS-TLS1.3:-CIPHER-ALL:+AES-128-GCM:"
    "+AES-256-GCM:+CHACHA20-POLY1305:+AES-128-CCM:-GROUP-ALL:+GROUP-X25519:+GROUP-SECP256R1:"
    "+GROUP-SECP384R1:+GROUP-SECP521R1";

static void release(struct tsr_http3_credentials *credentials)
{
    if (credentials && --credentials->uses == 0) {
        gnutls_certificate_free_credentials(credentials->certificate);
        gnutls_free(credentials->tickets.data);
        free(credentials);
    }
}

/* Whether the file can be read at all, so that the sentence says so. */
static int readable(const char *option, const char *path, struct tsr_err *err)
{
    FILE *file = path ? fopen(path, "re") : NULL;
    if (!path) {
        return tsr_err_set(err, -EINVAL, "HTTP/3 needs %s: QUIC is always encrypted", option);
    }
    if (!file) {
        return tsr_err_set(err, -errno, "%s %s: %s%s", option, path, strerror(errno),
                           errno == EACCES ? "; the door's user (--user) must be able to read it"
                                           : "");
    }
    fclose(file);
    return 0;
}

static int load(const struct tsr_http3_tls *tls, struct tsr_http3_credentials *credentials,
                struct tsr_err *err)
{
    int rc = gnutls_certificate_allocate_credentials(&credentials->certificate);
    rc = rc ? rc : gnutls_session_ticket_key_generate(&credentials->tickets);
    if (rc < 0) {
        return tsr_err_set(err, -ENOMEM, "no memory for TLS");
    }
    rc = gnutls_certificate_set_x509_key_file2(credentials->certificate, tls->certificate, tls->key,
                                               GNUTLS_X509_FMT_PEM, NULL,
                                               GNUTLS_PKCS_PLAIN); /* no pass phrase is asked for */
    if (rc < 0) {
        return tsr_err_set(err, -EINVAL,
                           "--tls-certificate %s and --tls-key %s: not a certificate in PEM with "
                           "its key, without a pass phrase: %s",
                           tls->certificate, tls->key, gnutls_strerror(rc));
    }
    if (!tls->client_ca) {
        return 0;
    }
    credentials->asks_client = true;
    rc = gnutls_certificate_set_x509_trust_file(credentials->certificate, tls->client_ca,
                                                GNUTLS_X509_FMT_PEM);
    return rc > 0 ? 0
                  : tsr_err_set(err, -EINVAL, "--tls-client-ca %s: no certificates in PEM: %s",
                                tls->client_ca, rc ? gnutls_strerror(rc) : "there are none");
}

int tsr_http3_tls_reload(struct tsr_http3_tls *tls, struct tsr_err *err)
{
    int rc = readable("--tls-certificate", tls->certificate, err);
    rc = rc ? rc : readable("--tls-key", tls->key, err);
    rc = rc || !tls->client_ca ? rc : readable("--tls-client-ca", tls->client_ca, err);
    if (rc < 0) {
        return rc;
    }
    struct tsr_http3_credentials *credentials = calloc(1, sizeof *credentials);
    if (!credentials) {
        return tsr_err_set(err, -ENOMEM, "no memory for TLS");
    }
    credentials->uses = 1;
    rc = load(tls, credentials, err);
    if (rc < 0) {
        release(credentials);
        return rc;
    }
    release(tls->newest);
    tls->newest = credentials;
    return 0;
}

int tsr_http3_tls_create(struct tsr_http3_tls **out, const char *certificate, const char *key,
                         const char *client_ca, struct tsr_err *err)
{
    struct tsr_http3_tls *tls = calloc(1, sizeof *tls);
    if (!tls || gnutls_priority_init(&tls->priority, priorities, NULL) < 0) {
        free(tls);
        return tsr_err_set(err, -ENOMEM, "no memory for TLS");
    }
    tls->certificate = certificate;
    tls->key = key;
    tls->client_ca = client_ca;
    int rc = tsr_http3_tls_reload(tls, err);
    if (rc < 0) {
        tsr_http3_tls_destroy(tls);
        return rc;
    }
    *out = tls;
    return 0;
}

void tsr_http3_tls_destroy(struct tsr_http3_tls *tls)
{
    if (tls) {
        release(tls->newest);
        gnutls_priority_deinit(tls->priority);
        free(tls);
    }
}

/* GnuTLS checks ALPN only where the client speaks of it; with QUIC it must (RFC 9001, 8.1). */
static int check_protocol(gnutls_session_t session, unsigned type, unsigned when, unsigned incoming,
                          const gnutls_datum_t *message)
{
    gnutls_datum_t protocol;
    (void)type, (void)when, (void)message;
    if (incoming && gnutls_alpn_get_selected_protocol(session, &protocol) < 0) {
        return GNUTLS_E_NO_APPLICATION_PROTOCOL;
    }
    return 0;
}

static int ask_client(gnutls_session_t session)
{
    static const unsigned char client[] = GNUTLS_KP_TLS_WWW_CLIENT;
    static gnutls_typed_vdata_st purpose = {
        .type = GNUTLS_DT_KEY_PURPOSE_OID,
        .data = (unsigned char *)client,
    };
    gnutls_certificate_server_set_request(session, GNUTLS_CERT_REQUIRE);
    gnutls_session_set_verify_cert2(session, &purpose, 1, 0);
    return 0;
}

/* Without GNUTLS_ENABLE_EARLY_DATA: what comes in 0-RTT may come twice, and requests cost. */
gnutls_session_t tsr_http3_tls_open(struct tsr_http3_tls *tls, ngtcp2_crypto_conn_ref *ref,
                                    struct tsr_http3_credentials **credentials)
{
    static const gnutls_datum_t h3 = {(unsigned char *)"h3", 2};
    gnutls_session_t session;
    if (gnutls_init(&session, GNUTLS_SERVER | GNUTLS_NO_END_OF_EARLY_DATA) < 0) {
        return NULL;
    }
    struct tsr_http3_credentials *newest = tls->newest;
    int rc = gnutls_priority_set(session, tls->priority);
    rc = rc ? rc : gnutls_session_ticket_enable_server(session, &newest->tickets);
    rc = rc ? rc : ngtcp2_crypto_gnutls_configure_server_session(session);
    rc = rc ? rc : gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, newest->certificate);
    rc = rc ? rc
            : gnutls_alpn_set_protocols(session, &h3, 1,
                                        GNUTLS_ALPN_MANDATORY | GNUTLS_ALPN_SERVER_PRECEDENCE);
    rc = rc || !newest->asks_client ? rc : ask_client(session);
    if (rc < 0) {
        gnutls_deinit(session);
        return NULL;
    }
    gnutls_handshake_set_hook_function(session, GNUTLS_HANDSHAKE_CLIENT_HELLO, GNUTLS_HOOK_POST,
                                       check_protocol);
    gnutls_session_set_ptr(session, ref);
    newest->uses++;
    *credentials = newest;
    return session;
}

void tsr_http3_tls_close(gnutls_session_t session, struct tsr_http3_credentials *credentials)
{
    gnutls_deinit(session);
    release(credentials);
}
