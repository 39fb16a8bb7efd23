#include <tsr/model/config.h>

#include <errno.h>

enum {
    HIDDEN_MAX = 1 << 20, /* columns of any buffer */
    LAYERS_MAX = 1 << 12,
    HEADS_MAX = 1 << 14,
    VOCAB_MAX = 1 << 24,
};

int tsr_config_hparams(const struct tsr_config *config, struct tsr_hparams *h, struct tsr_err *err)
{
    static const uint32_t none = 0;
    const bool is_gguf = tsr_config_is_gguf(config);
    const double eps_fallback = (double)h->eps;
    double eps = 0.0;
    const struct {
        const char *key;
        uint32_t *value, max;
        const uint32_t *fallback; /* where h does not say; NULL: it must be stated */
    } figures[] = {
        {"hidden_size", &h->hidden, HIDDEN_MAX, NULL},
        {"num_hidden_layers", &h->layers, LAYERS_MAX, NULL},
        {"intermediate_size", &h->ffn, HIDDEN_MAX, NULL},
        {"vocab_size", &h->vocab, VOCAB_MAX, is_gguf ? &none : NULL},
        {"max_position_embeddings", &h->context, INT32_MAX, NULL},
        {"num_attention_heads", &h->heads, HEADS_MAX, NULL},
        {"num_key_value_heads", &h->kv_heads, HEADS_MAX, &h->heads},
        {"head_dim", &h->head_dim, HIDDEN_MAX, &none},
    };
    int rc = 0;
    for (size_t i = 0; i < sizeof figures / sizeof *figures && rc == 0; i++) {
        const uint32_t known = *figures[i].value;
        rc =
            tsr_config_u32(config, figures[i].key, 1, figures[i].max,
                           known && !is_gguf ? &known : figures[i].fallback, figures[i].value, err);
    }
    if (rc == 0) {
        rc = tsr_config_float(config, "rms_norm_eps", 0.0, 1.0,
                              eps_fallback > 0.0 && !is_gguf ? &eps_fallback : NULL, &eps, err);
    }
    if (rc < 0) {
        return rc;
    }
    h->eps = (float)eps;
    if (!(h->eps > 0.0f)) {
        return tsr_err_set(err, -EINVAL, "rms_norm_eps is %g, which is 0 in 32 bits", eps);
    }
    if (h->head_dim == 0) {
        if (h->hidden % h->heads != 0) {
            return tsr_err_set(err, -EINVAL,
                               "the hidden size %u is not a multiple of %u attention heads, and no "
                               "head_dim is stated",
                               h->hidden, h->heads);
        }
        h->head_dim = h->hidden / h->heads;
    }
    uint32_t value_dim;
    rc = tsr_config_u32(config, "v_head_dim", 1, HIDDEN_MAX, &h->head_dim, &value_dim, err);
    if (rc < 0) {
        return rc;
    }
    if (value_dim != h->head_dim) {
        return tsr_err_set(err, -ENOTSUP,
                           "keys of %u and values of %u dimensions a head are not supported",
                           h->head_dim, value_dim);
    }
    if (h->head_dim % 2 != 0) {
        return tsr_err_set(err, -EINVAL, "heads of %u dimensions are odd: they cannot be rotated",
                           h->head_dim);
    }
    if (h->heads % h->kv_heads != 0) {
        return tsr_err_set(err, -EINVAL, "%u attention heads are not a multiple of %u KV heads",
                           h->heads, h->kv_heads);
    }
    if ((uint64_t)h->heads * h->head_dim > HIDDEN_MAX) {
        return tsr_err_set(err, -EINVAL, "%u heads of %u dimensions are more than %d columns",
                           h->heads, h->head_dim, HIDDEN_MAX);
    }
    return 0;
}
