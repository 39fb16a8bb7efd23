/* Certificates that sign themselves, in files of a folder of their own. */
#ifndef TSR_TEST_CERTIFICATE_H
#define TSR_TEST_CERTIFICATE_H

#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct certificate {
    char folder[64], certificate[80], key[80];
};

static inline void certificate_write(const char *path, const gnutls_datum_t *pem)
{
    FILE *file = fopen(path, "we");
    if (!file || fwrite(pem->data, 1, pem->size, file) != pem->size || fclose(file) != 0) {
        abort();
    }
    gnutls_free(pem->data);
}

/* Over the files of an earlier one, if c has been made before. */
static inline void certificate_make(struct certificate *c, unsigned serial)
{
    gnutls_x509_privkey_t key;
    gnutls_x509_crt_t crt;
    gnutls_datum_t pem;
    const unsigned char number[] = {(unsigned char)serial};
    if (!c->folder[0]) {
        snprintf(c->folder, sizeof c->folder, "/tmp/tsr_http3_XXXXXX");
        if (!mkdtemp(c->folder)) {
            abort();
        }
        snprintf(c->certificate, sizeof c->certificate, "%s/cert.pem", c->folder);
        snprintf(c->key, sizeof c->key, "%s/key.pem", c->folder);
    }
    gnutls_x509_privkey_init(&key);
    gnutls_x509_crt_init(&crt);
    if (gnutls_x509_privkey_generate(key, GNUTLS_PK_ECDSA,
                                     GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), 0) < 0) {
        abort();
    }
    gnutls_x509_crt_set_version(crt, 3);
    gnutls_x509_crt_set_serial(crt, number, sizeof number);
    gnutls_x509_crt_set_activation_time(crt, time(NULL) - 3600);
    gnutls_x509_crt_set_expiration_time(crt, time(NULL) + 86400);
    gnutls_x509_crt_set_dn_by_oid(crt, GNUTLS_OID_X520_COMMON_NAME, 0, "localhost", 9);
    gnutls_x509_crt_set_key(crt, key);
    gnutls_x509_crt_sign2(crt, crt, key, GNUTLS_DIG_SHA256, 0);
    if (gnutls_x509_crt_export2(crt, GNUTLS_X509_FMT_PEM, &pem) < 0) {
        abort();
    }
    certificate_write(c->certificate, &pem);
    if (gnutls_x509_privkey_export2(key, GNUTLS_X509_FMT_PEM, &pem) < 0) {
        abort();
    }
    certificate_write(c->key, &pem);
    gnutls_x509_crt_deinit(crt);
    gnutls_x509_privkey_deinit(key);
}

static inline void certificate_remove(struct certificate *c)
{
    if (c->folder[0]) {
        unlink(c->certificate);
        unlink(c->key);
        rmdir(c->folder);
        c->folder[0] = '\0';
    }
}

#endif
