#include "http3_priv.h"

#include <ngtcp2/ngtcp2_crypto.h>

enum { TOKEN_BYTES = 256, TAG_BYTES = 16, KEY_BYTES_MAX = 32, NONCE_BYTES = 12, HEAD_BYTES = 16 };

/* A key of nobody's for the cipher of that connection; NULL: there is none. */
static struct tsr_http3_cipher *cipher_of(struct tsr_http3 *http3, ngtcp2_conn *quic)
{
    static const uint8_t key[KEY_BYTES_MAX];
    const ngtcp2_crypto_ctx *ctx = ngtcp2_conn_get_crypto_ctx(quic);
    for (uint32_t i = 0; i < TSR_HTTP3_CIPHERS; i++) {
        struct tsr_http3_cipher *cipher = &http3->ciphers[i];
        if (!cipher->key.native_handle) {
            cipher->aead = ctx->aead;
            if (ngtcp2_crypto_aead_ctx_encrypt_init(&cipher->key, &cipher->aead, key,
                                                    NONCE_BYTES) != 0) {
                return NULL;
            }
        }
        if (cipher->aead.native_handle == ctx->aead.native_handle) {
            return cipher;
        }
    }
    return NULL;
}

void tsr_http3_ciphers_fini(struct tsr_http3 *http3)
{
    for (uint32_t i = 0; i < TSR_HTTP3_CIPHERS && http3->ciphers[i].key.native_handle; i++) {
        ngtcp2_crypto_aead_ctx_free(&http3->ciphers[i].key);
    }
}

void tsr_http3_rehearse(struct tsr_http3 *http3)
{
    static const uint8_t text[TOKEN_BYTES], nonce[NONCE_BYTES], head[HEAD_BYTES];
    uint8_t sealed[TOKEN_BYTES + TAG_BYTES];
    struct tsr_http3_conn *conn = TAILQ_FIRST(&http3->serving);
    if (!conn) {
        return;
    }
    TAILQ_REMOVE(&http3->serving, conn, serving_at);
    TAILQ_INSERT_TAIL(&http3->serving, conn, serving_at);
    if (!conn->established || conn->is_failing) {
        return;
    }
    const struct tsr_http3_cipher *cipher = cipher_of(http3, conn->quic);
    if (cipher) {
        ngtcp2_crypto_encrypt(sealed, &cipher->aead, &cipher->key, text, sizeof text, nonce,
                              sizeof nonce, head, sizeof head);
    }
    tsr_http3_conn_ready(conn);
}
