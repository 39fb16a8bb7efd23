/* tls.h against a client of OpenSSL's own, without sockets. */
#include <errno.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include <tsr/shm/log.h>
#include <tsr/uring/tls.h>

static char dir[] = "/tmp/tessera-test-XXXXXX";

static const char *in_dir(const char *name)
{
    static char paths[16][64];
    static int at;
    char *path = paths[at++ % 16];
    snprintf(path, sizeof paths[0], "%s/%s", dir, name);
    return path;
}

/* A self-signed certificate NAME.pem and its key NAME.key; padding: bytes of a comment in it. */
static void make_pair(const char *name, size_t padding)
{
    char file[32];
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *x509 = X509_new();
    X509_NAME *subject = X509_get_subject_name(x509);
    X509_set_version(x509, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(x509), 1);
    X509_gmtime_adj(X509_getm_notBefore(x509), -3600);
    X509_gmtime_adj(X509_getm_notAfter(x509), 3600);
    X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, (const unsigned char *)name, -1, -1, 0);
    X509_set_issuer_name(x509, subject);
    X509_set_pubkey(x509, key);
    if (padding) {
        char *text = calloc(1, padding + 1);
        memset(text, 'x', padding);
        X509_EXTENSION *comment = X509V3_EXT_conf_nid(NULL, NULL, NID_netscape_comment, text);
        X509_add_ext(x509, comment, -1);
        X509_EXTENSION_free(comment);
        free(text);
    }
    assert_true(X509_sign(x509, key, EVP_sha256()) > 0);
    snprintf(file, sizeof file, "%s.pem", name);
    FILE *out = fopen(in_dir(file), "w");
    PEM_write_X509(out, x509);
    fclose(out);
    snprintf(file, sizeof file, "%s.key", name);
    out = fopen(in_dir(file), "w");
    PEM_write_PrivateKey(out, key, NULL, NULL, 0, NULL, NULL);
    fclose(out);
    X509_free(x509);
    EVP_PKEY_free(key);
}

struct client {
    SSL_CTX *context;
    SSL *ssl;
};

static void open_client(struct client *client, int version_max, const char *alpn, const char *name)
{
    char file[32];
    client->context = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_max_proto_version(client->context, version_max);
    client->ssl = SSL_new(client->context);
    SSL_set_bio(client->ssl, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
    SSL_set_connect_state(client->ssl);
    if (alpn) {
        SSL_set_alpn_protos(client->ssl, (const unsigned char *)alpn, (unsigned)strlen(alpn));
    }
    if (name) {
        snprintf(file, sizeof file, "%s.pem", name);
        assert_int_equal(SSL_use_certificate_file(client->ssl, in_dir(file), SSL_FILETYPE_PEM), 1);
        snprintf(file, sizeof file, "%s.key", name);
        assert_int_equal(SSL_use_PrivateKey_file(client->ssl, in_dir(file), SSL_FILETYPE_PEM), 1);
    }
}

static void close_client(struct client *client)
{
    SSL_free(client->ssl);
    SSL_CTX_free(client->context);
}

/* Carries the server's records to the client. */
static size_t carry_back(struct client *client, struct tsr_tls_conn *conn)
{
    size_t size;
    const void *records = tsr_tls_records(conn, &size);
    if (size) {
        BIO_write(SSL_get_rbio(client->ssl), records, (int)size);
        tsr_tls_sent(conn, size);
    }
    return size;
}

/* Both sides until the server has decided, in pieces of `piece` bytes: its return. */
static int shake_hands(struct client *client, struct tsr_tls_conn *conn, size_t piece,
                       struct tsr_err *err)
{
    char bytes[4096];
    int done = 0;
    for (int turn = 0; turn < 5000 && done == 0; turn++) {
        SSL_do_handshake(client->ssl);
        int n = BIO_read(SSL_get_wbio(client->ssl), bytes, (int)piece);
        if (n > 0) {
            tsr_tls_feed(conn, bytes, (size_t)n);
            done = tsr_tls_handshake(conn, err);
        }
        carry_back(client, conn);
    }
    SSL_do_handshake(client->ssl);
    return done;
}

static struct tsr_tls *open_tls(const char *name, const char *client_ca)
{
    char pem[32], key[32];
    struct tsr_tls *tls = NULL;
    snprintf(pem, sizeof pem, "%s.pem", name);
    snprintf(key, sizeof key, "%s.key", name);
    struct tsr_tls_files files = {in_dir(pem), in_dir(key), client_ca};
    struct tsr_err err = {0};
    if (tsr_tls_create(&tls, &files, &err) < 0) {
        fail_msg("%s", err.text);
    }
    return tls;
}

static void test_tls_carries_bytes(void **state)
{
    (void)state;
    static const size_t pieces[] = {1, 7, 100, 4096};
    for (size_t i = 0; i < 4; i++) {
        struct tsr_tls *tls = open_tls("a", NULL);
        struct tsr_tls_conn *conn = tsr_tls_accept(tls);
        struct client client;
        char bytes[4096], plain[4096];
        open_client(&client, TLS1_3_VERSION, "\x02h2\x08http/1.1", NULL);
        assert_int_equal(shake_hands(&client, conn, pieces[i], NULL), 1);

        assert_int_equal(SSL_write(client.ssl, "hello", 5), 5);
        size_t got = 0;
        for (int n; (n = BIO_read(SSL_get_wbio(client.ssl), bytes, (int)pieces[i])) > 0;) {
            int64_t read;
            tsr_tls_feed(conn, bytes, (size_t)n);
            while ((read = tsr_tls_read(conn, plain + got, sizeof plain - got)) > 0) {
                got += (size_t)read;
            }
            assert_int_equal(read, 0);
        }
        assert_int_equal(got, 5);
        assert_memory_equal(plain, "hello", 5);

        tsr_tls_rest(conn);
        assert_int_equal(tsr_tls_write(conn, "answer", 6), 6);
        carry_back(&client, conn);
        assert_int_equal(SSL_read(client.ssl, plain, sizeof plain), 6);
        assert_memory_equal(plain, "answer", 6);
        tsr_tls_shut(conn);
        carry_back(&client, conn);
        assert_int_equal(SSL_read(client.ssl, plain, sizeof plain), 0);
        assert_int_equal(SSL_get_error(client.ssl, 0), SSL_ERROR_ZERO_RETURN);

        SSL_shutdown(client.ssl);
        int n = BIO_read(SSL_get_wbio(client.ssl), bytes, sizeof bytes);
        tsr_tls_feed(conn, bytes, (size_t)n);
        assert_int_equal(tsr_tls_read(conn, plain, sizeof plain), -EPIPE);
        tsr_tls_destroy(tls); /* before its connection */
        tsr_tls_close(conn);
        close_client(&client);
    }
}

/* A reader that does not read bounds what is encrypted, and every byte comes once. */
static void test_tls_write_is_bounded(void **state)
{
    (void)state;
    enum { BYTES = 1 << 20 };
    struct tsr_tls *tls = open_tls("a", NULL);
    struct tsr_tls_conn *conn = tsr_tls_accept(tls);
    struct client client;
    uint8_t *bytes = malloc(BYTES), *came = malloc(BYTES);
    size_t put = 0, got = 0, waiting;
    for (size_t i = 0; i < BYTES; i++) {
        bytes[i] = (uint8_t)(i * 7 + i / 251);
    }
    open_client(&client, TLS1_3_VERSION, NULL, NULL);
    assert_int_equal(shake_hands(&client, conn, 4096, NULL), 1);
    while (got < BYTES) {
        for (int64_t n; (n = tsr_tls_write(conn, bytes + put, BYTES - put)) > 0;) {
            put += (size_t)n;
        }
        tsr_tls_records(conn, &waiting);
        assert_true(waiting > 0 && waiting <= TSR_TLS_RECORDS_BYTES);
        carry_back(&client, conn);
        for (int n; (n = SSL_read(client.ssl, came + got, BYTES)) > 0;) {
            got += (size_t)n;
        }
    }
    assert_int_equal(got, BYTES);
    assert_memory_equal(bytes, came, BYTES);
    free(bytes);
    free(came);
    tsr_tls_close(conn);
    tsr_tls_destroy(tls);
    close_client(&client);
}

static void test_tls_refuses_other_protocols(void **state)
{
    (void)state;
    static const struct {
        int version;
        const char *alpn;
    } cases[] = {{TLS1_2_VERSION, NULL}, {TLS1_3_VERSION, "\x02h2"}};
    struct tsr_tls *tls = open_tls("a", NULL);
    for (size_t i = 0; i < 2; i++) {
        struct tsr_tls_conn *conn = tsr_tls_accept(tls);
        struct client client;
        struct tsr_err err = {0};
        open_client(&client, cases[i].version, cases[i].alpn, NULL);
        assert_int_equal(shake_hands(&client, conn, 4096, &err), -EPROTO);
        assert_non_null(strstr(err.text, "TLS handshake"));
        tsr_tls_close(conn);
        close_client(&client);
    }
    struct tsr_tls_conn *conn = tsr_tls_accept(tls);
    tsr_tls_feed(conn, "GET / HTTP/1.1\r\n\r\n", 18);
    assert_int_equal(tsr_tls_handshake(conn, NULL), -EPROTO);
    tsr_tls_close(conn);
    tsr_tls_destroy(tls);
}

static void test_tls_client_certificates(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        int wanted;
    } cases[] = {{NULL, -EPROTO}, {"b", 1}, {"a", -EPROTO}};
    struct tsr_tls *tls = open_tls("a", in_dir("b.pem"));
    for (size_t i = 0; i < 3; i++) {
        struct tsr_tls_conn *conn = tsr_tls_accept(tls);
        struct client client;
        open_client(&client, TLS1_3_VERSION, NULL, cases[i].name);
        assert_int_equal(shake_hands(&client, conn, 4096, NULL), cases[i].wanted);
        tsr_tls_close(conn);
        close_client(&client);
    }
    tsr_tls_destroy(tls);
}

static const char *name_seen(struct tsr_tls *tls)
{
    static char name[64];
    struct tsr_tls_conn *conn = tsr_tls_accept(tls);
    struct client client;
    open_client(&client, TLS1_3_VERSION, NULL, NULL);
    assert_int_equal(shake_hands(&client, conn, 4096, NULL), 1);
    X509 *peer = SSL_get1_peer_certificate(client.ssl);
    X509_NAME_get_text_by_NID(X509_get_subject_name(peer), NID_commonName, name, sizeof name);
    X509_free(peer);
    tsr_tls_close(conn);
    close_client(&client);
    return name;
}

static void copy(const char *from, const char *to)
{
    char command[256];
    snprintf(command, sizeof command, "cp %s/%s %s/%s", dir, from, dir, to);
    assert_int_equal(system(command), 0);
}

static void test_tls_reload_keeps_what_works(void **state)
{
    (void)state;
    struct tsr_err err = {0};
    copy("a.pem", "c.pem");
    copy("a.key", "c.key");
    struct tsr_tls *tls = open_tls("c", NULL);
    struct tsr_tls_conn *old = tsr_tls_accept(tls);
    assert_string_equal(name_seen(tls), "a");
    assert_false(tsr_tls_changed(tls));

    copy("b.pem", "c.pem"); /* the key is not there yet */
    assert_true(tsr_tls_changed(tls));
    assert_int_equal(tsr_tls_reload(tls, &err), -EINVAL);
    assert_non_null(strstr(err.text, "--tls-key"));
    assert_false(tsr_tls_changed(tls)); /* said once */
    assert_string_equal(name_seen(tls), "a");

    copy("b.key", "c.key");
    assert_true(tsr_tls_changed(tls));
    assert_int_equal(tsr_tls_reload(tls, &err), 0);
    assert_string_equal(name_seen(tls), "b");

    struct client client; /* a connection of before goes on */
    open_client(&client, TLS1_3_VERSION, NULL, NULL);
    assert_int_equal(shake_hands(&client, old, 4096, NULL), 1);
    close_client(&client);
    tsr_tls_close(old);
    tsr_tls_destroy(tls);
}

static void test_tls_refuses_files(void **state)
{
    (void)state;
    const struct {
        struct tsr_tls_files files;
        int code;
        const char *says;
    } cases[] = {
        {{in_dir("none.pem"), in_dir("a.key"), NULL}, -ENOENT, "none.pem"},
        {{in_dir("a.pem"), in_dir("none.key"), NULL}, -ENOENT, "none.key"},
        {{in_dir("a.key"), in_dir("a.key"), NULL}, -EINVAL, "--tls-certificate"},
        {{in_dir("a.pem"), in_dir("b.key"), NULL}, -EINVAL, "--tls-key"},
        {{in_dir("a.pem"), in_dir("a.key"), in_dir("a.key")}, -EINVAL, "--tls-client-ca"},
        {{in_dir("big.pem"), in_dir("big.key"), NULL}, -EINVAL, "chain"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tsr_tls *tls = NULL;
        struct tsr_err err = {0};
        assert_int_equal(tsr_tls_create(&tls, &cases[i].files, &err), cases[i].code);
        assert_non_null(strstr(err.text, cases[i].says));
    }
}

static int set_up(void **state)
{
    (void)state;
    if (!mkdtemp(dir)) {
        return -1;
    }
    make_pair("a", 0);
    make_pair("b", 0);
    make_pair("big", TSR_TLS_CHAIN_BYTES_MAX);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    char command[64];
    snprintf(command, sizeof command, "rm -r %s", dir);
    return system(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tls_carries_bytes),
        cmocka_unit_test(test_tls_write_is_bounded),
        cmocka_unit_test(test_tls_refuses_other_protocols),
        cmocka_unit_test(test_tls_client_certificates),
        cmocka_unit_test(test_tls_reload_keeps_what_works),
        cmocka_unit_test(test_tls_refuses_files),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
