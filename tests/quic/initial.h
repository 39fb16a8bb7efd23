/* A client's first packets (RFC 9000, 17.2.2; RFC 9001, 5) by hand, so that they can be made by the
 * thousand, and with whatever frames: an attacker needs no state for them. */
#ifndef TSR_TEST_QUIC_INITIAL_H
#define TSR_TEST_QUIC_INITIAL_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>

enum { INITIAL_BYTES = 1200, INITIAL_ID_BYTES = 8, INITIAL_HELLO_MAX = 512 };

struct initial {
    uint8_t dcid[20];
    uint8_t dcid_bytes;
    uint8_t scid[INITIAL_ID_BYTES];
    const uint8_t *token;
    size_t token_bytes;
    uint8_t number;        /* of the packet */
    const uint8_t *frames; /* the rest of the packet is padding */
    size_t frames_bytes;
};

static inline void initial_random(void *bytes, size_t size)
{
    if (gnutls_rnd(GNUTLS_RND_NONCE, bytes, size) < 0) {
        abort();
    }
}

/* HKDF-Expand-Label (RFC 8446, 7.1) without context. */
static inline void initial_expand(const uint8_t secret[32], const char *label, uint8_t *out,
                                  size_t size)
{
    uint8_t info[32] = {0, (uint8_t)size, (uint8_t)(6 + strlen(label))};
    size_t n = 3 + 6 + strlen(label) + 1;
    memcpy(info + 3, "tls13 ", 6);
    memcpy(info + 9, label, strlen(label));
    const gnutls_datum_t key = {(unsigned char *)secret, 32}, text = {info, (unsigned)n};
    if (gnutls_hkdf_expand(GNUTLS_MAC_SHA256, &key, &text, out, size) < 0) {
        abort();
    }
}

/* Of AES-128-GCM. */
struct initial_keys {
    uint8_t key[16], iv[12], hp[16];
};

static inline void initial_keys_of(struct initial_keys *keys, const uint8_t secret[32])
{
    initial_expand(secret, "quic key", keys->key, sizeof keys->key);
    initial_expand(secret, "quic iv", keys->iv, sizeof keys->iv);
    initial_expand(secret, "quic hp", keys->hp, sizeof keys->hp);
}

/* RFC 9001, 5.2: anyone can, who sees the id. */
static inline void initial_derive(struct initial_keys *keys, const uint8_t *dcid, size_t size)
{
    static const uint8_t salt[20] = {0x38, 0x76, 0x2c, 0xf7, 0xf5, 0x59, 0x34, 0xb3, 0x4d, 0x17,
                                     0x9a, 0xe6, 0xa4, 0xc8, 0x0c, 0xad, 0xcc, 0xbb, 0x7f, 0x0a};
    const gnutls_datum_t id = {(unsigned char *)dcid, (unsigned)size};
    const gnutls_datum_t with = {(unsigned char *)salt, sizeof salt};
    uint8_t first[32], secret[32];
    if (gnutls_hkdf_extract(GNUTLS_MAC_SHA256, &id, &with, first) < 0) {
        abort();
    }
    initial_expand(first, "client in", secret, sizeof secret);
    initial_keys_of(keys, secret);
}

/* One block of AES-128. */
static inline void initial_mask(const uint8_t key[16], const uint8_t sample[16], uint8_t mask[16])
{
    uint8_t none[16] = {0};
    const gnutls_datum_t k = {(unsigned char *)key, 16}, iv = {none, sizeof none};
    gnutls_cipher_hd_t cipher;
    if (gnutls_cipher_init(&cipher, GNUTLS_CIPHER_AES_128_CBC, &k, &iv) < 0 ||
        gnutls_cipher_encrypt2(cipher, sample, 16, mask, 16) < 0) {
        abort();
    }
    gnutls_cipher_deinit(cipher);
}

/* Protects a packet in place (RFC 9001, 5.3 and 5.4): bytes[0, head) end with the packet's number,
 * of number_bytes; the frames behind it are so many that there is room for the tag of 16 bytes. */
static inline void initial_protect(const struct initial_keys *keys, uint8_t *bytes, size_t head,
                                   uint32_t number, size_t number_bytes, size_t frames)
{
    enum { TAG = 16 };
    uint8_t iv[12], mask[16];
    size_t sealed = frames + TAG;
    const gnutls_datum_t key = {(unsigned char *)keys->key, sizeof keys->key};
    gnutls_aead_cipher_hd_t aead;
    memcpy(iv, keys->iv, sizeof iv);
    for (size_t i = 0; i < 4; i++) {
        iv[11 - i] ^= (uint8_t)(number >> 8 * i);
    }
    if (gnutls_aead_cipher_init(&aead, GNUTLS_CIPHER_AES_128_GCM, &key) < 0 ||
        gnutls_aead_cipher_encrypt(aead, iv, sizeof iv, bytes, head, TAG, bytes + head, frames,
                                   bytes + head, &sealed) < 0) {
        abort();
    }
    gnutls_aead_cipher_deinit(aead);
    initial_mask(keys->hp, bytes + head - number_bytes + 4, mask);
    bytes[0] ^= mask[0] & (bytes[0] & 0x80 ? 0x0f : 0x1f);
    for (size_t i = 0; i < number_bytes; i++) {
        bytes[head - number_bytes + i] ^= mask[1 + i];
    }
}

/* INITIAL_BYTES of a datagram. */
static inline void initial_write(const struct initial *initial, uint8_t *bytes)
{
    uint8_t *at = bytes;
    *at++ = 0xc0; /* long, Initial, a number of one byte */
    memcpy(at, "\x00\x00\x00\x01", 4);
    at += 4;
    *at++ = initial->dcid_bytes;
    memcpy(at, initial->dcid, initial->dcid_bytes);
    at += initial->dcid_bytes;
    *at++ = INITIAL_ID_BYTES;
    memcpy(at, initial->scid, INITIAL_ID_BYTES);
    at += INITIAL_ID_BYTES;
    *at++ = (uint8_t)(0x40 | initial->token_bytes >> 8);
    *at++ = (uint8_t)initial->token_bytes;
    if (initial->token_bytes) {
        memcpy(at, initial->token, initial->token_bytes);
        at += initial->token_bytes;
    }
    size_t rest = INITIAL_BYTES - (size_t)(at - bytes) - 2;
    *at++ = (uint8_t)(0x40 | rest >> 8);
    *at++ = (uint8_t)rest;
    *at++ = initial->number;
    struct initial_keys keys;
    initial_derive(&keys, initial->dcid, initial->dcid_bytes);
    memset(at, 0, INITIAL_BYTES - (size_t)(at - bytes));
    memcpy(at, initial->frames, initial->frames_bytes);
    initial_protect(&keys, bytes, (size_t)(at - bytes), initial->number, 1, rest - 1 - 16);
}

/* ---- A ClientHello (RFC 8446, 4.1.2) as a CRYPTO frame ---- */

struct initial_text {
    uint8_t bytes[INITIAL_HELLO_MAX];
    size_t size;
};

static inline void initial_put(struct initial_text *text, const void *bytes, size_t size)
{
    memcpy(text->bytes + text->size, bytes, size);
    text->size += size;
}

/* What a length of so many bytes stands before begins here. */
static inline size_t initial_begin(struct initial_text *text, size_t bytes)
{
    text->size += bytes;
    return text->size;
}

static inline void initial_end(struct initial_text *text, size_t begin, size_t bytes)
{
    size_t size = text->size - begin;
    for (size_t i = 1; i <= bytes; i++, size >>= 8) {
        text->bytes[begin - i] = (uint8_t)size;
    }
}

static inline void initial_extension(struct initial_text *text, uint16_t type, const void *bytes,
                                     size_t size)
{
    const uint8_t head[4] = {(uint8_t)(type >> 8), (uint8_t)type, (uint8_t)(size >> 8),
                             (uint8_t)size};
    initial_put(text, head, sizeof head);
    initial_put(text, bytes, size);
}

/* Right in all, so that the server shakes hands: it has to make a key and to sign. The key of the
 * client is X25519's base point, which is a valid one. Returns the frame's bytes. */
static inline size_t initial_hello(const uint8_t scid[INITIAL_ID_BYTES],
                                   uint8_t frame[INITIAL_HELLO_MAX])
{
    uint8_t random[32], share[2 + 2 + 2 + 32] = {0, 36, 0, 29, 0, 32, 9};
    uint8_t quic[2 + INITIAL_ID_BYTES + 3] = {15, INITIAL_ID_BYTES};
    struct initial_text t = {.size = 0};
    memcpy(quic + 2, scid, INITIAL_ID_BYTES);
    memcpy(quic + 2 + INITIAL_ID_BYTES, "\x09\x01\x03", 3); /* it allows 3 unidirectional streams */
    initial_random(random, sizeof random);
    initial_put(&t, "\x06\x00", 2); /* CRYPTO, from its beginning */
    size_t crypto = initial_begin(&t, 2);
    initial_put(&t, "\x01", 1);
    size_t hello = initial_begin(&t, 3);
    initial_put(&t, "\x03\x03", 2);
    initial_put(&t, random, sizeof random);
    initial_put(&t, "\x00\x00\x02\x13\x01\x01\x00", 7); /* TLS_AES_128_GCM_SHA256 */
    size_t extensions = initial_begin(&t, 2);
    initial_extension(&t, 43, "\x02\x03\x04", 3);             /* TLS 1.3 */
    initial_extension(&t, 10, "\x00\x02\x00\x1d", 4);         /* X25519 */
    initial_extension(&t, 13, "\x00\x04\x04\x03\x08\x04", 6); /* ECDSA, RSA-PSS */
    initial_extension(&t, 51, share, sizeof share);
    initial_extension(&t, 16, "\x00\x03\x02h3", 5);
    initial_extension(&t, 57, quic, sizeof quic);
    initial_end(&t, extensions, 2);
    initial_end(&t, hello, 3);
    initial_end(&t, crypto, 2);
    t.bytes[crypto - 2] |= 0x40; /* a variable-length integer of two bytes */
    memcpy(frame, t.bytes, t.size);
    return t.size;
}

/* A whole first datagram of a new client with ids of its own. */
static inline void initial_make(uint8_t bytes[INITIAL_BYTES])
{
    uint8_t frame[INITIAL_HELLO_MAX];
    struct initial initial = {.dcid_bytes = 16, .frames = frame};
    initial_random(initial.dcid, initial.dcid_bytes);
    initial_random(initial.scid, sizeof initial.scid);
    initial.frames_bytes = initial_hello(initial.scid, frame);
    initial_write(&initial, bytes);
}

#endif
