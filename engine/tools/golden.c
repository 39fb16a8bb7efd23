#include <tsr/tools/golden.h>

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <jansson.h>

#include <tsr/model/safetensors.h>

struct files {
    struct tsr_safetensors *logits;
    struct tsr_tensors tensors;
};

/* Ids of a list; `what` and `i` say which one in errors. An absent list leaves NULL. */
static int read_ids(const json_t *list, const char *what, size_t i, struct tsr_golden_ids *out,
                    struct tsr_err *err)
{
    size_t n = json_array_size(list);
    *out = (struct tsr_golden_ids){0};
    if (!list || json_is_null(list)) {
        return 0;
    }
    if (!json_is_array(list) || n > UINT32_MAX) {
        return tsr_err_set(err, -EINVAL, "%s %zu is not a list of ids", what, i);
    }
    out->ids = malloc((n + 1) * sizeof *out->ids);
    if (!out->ids) {
        return tsr_err_set(err, -ENOMEM, "no memory for %zu ids", n);
    }
    for (size_t k = 0; k < n; k++) {
        const json_t *id = json_array_get(list, k);
        json_int_t value = json_integer_value(id);
        if (!json_is_integer(id) || value < 0 || value >= UINT32_MAX) {
            return tsr_err_set(err, -EINVAL, "%s %zu: element %zu is not a token id", what, i, k);
        }
        out->ids[k] = (uint32_t)value;
    }
    out->n = (uint32_t)n;
    return 0;
}

/* n finite numbers. */
static int read_numbers(const json_t *list, const char *what, size_t i, uint32_t n, double **out,
                        struct tsr_err *err)
{
    if (json_array_size(list) != n) {
        return tsr_err_set(err, -EINVAL, "%s %zu: %zu numbers where there are %u ids", what, i,
                           json_array_size(list), n);
    }
    *out = malloc(((size_t)n + 1) * sizeof **out);
    if (!*out) {
        return tsr_err_set(err, -ENOMEM, "no memory for %u numbers", n);
    }
    for (uint32_t k = 0; k < n; k++) {
        if (!json_is_number(json_array_get(list, k))) {
            return tsr_err_set(err, -EINVAL, "%s %zu: element %u is not a number", what, i, k);
        }
        (*out)[k] = json_number_value(json_array_get(list, k));
    }
    return 0;
}

static int read_prompt(struct tsr_golden_prompt *p, size_t i, const json_t *prompt,
                       const json_t *greedy, const json_t *top, struct tsr_err *err)
{
    struct tsr_golden_ids ids = {0}, more = {0}, best = {0};
    int rc = read_ids(prompt, "prompt", i, &ids, err);
    if (rc == 0 && ids.n == 0) {
        rc = tsr_err_set(err, -EINVAL, "prompt %zu has no ids", i);
    }
    rc = rc ? rc : read_ids(json_object_get(greedy, "ids"), "greedy", i, &more, err);
    rc = rc ? rc : read_ids(json_object_get(top, "ids"), "top", i, &best, err);
    uint32_t *all = rc ? NULL : realloc(ids.ids, ((size_t)ids.n + more.n) * sizeof *all);
    if (rc == 0 && !all) {
        rc = tsr_err_set(err, -ENOMEM, "no memory for prompt %zu", i);
    }
    if (rc < 0) {
        free(ids.ids);
        free(more.ids);
        free(best.ids);
        return rc;
    }
    if (more.n) {
        memcpy(all + ids.n, more.ids, more.n * sizeof *all);
    }
    free(more.ids);
    p->ids = all;
    p->n = ids.n;
    p->more = more.n;
    p->top = best.ids;
    p->n_top = best.n;
    rc = read_numbers(json_object_get(greedy, "margin"), "greedy", i, p->more, &p->margin, err);
    if (rc == 0) {
        rc = read_numbers(json_object_get(top, "logits"), "top", i, p->n_top, &p->top_logits, err);
    }
    return rc;
}

/* A copy with its length, NUL-terminated beyond it. */
static int copy_string(const json_t *value, char **out, size_t *len, struct tsr_err *err)
{
    *len = json_string_length(value);
    *out = malloc(*len + 1);
    if (!*out) {
        return tsr_err_set(err, -ENOMEM, "no memory for a text of %zu bytes", *len);
    }
    memcpy(*out, json_string_value(value), *len + 1);
    return 0;
}

static int read_text(struct tsr_golden_text *t, size_t i, const json_t *row, struct tsr_err *err)
{
    const json_t *text = json_object_get(row, "text"), *decoded = json_object_get(row, "decoded");
    if (!json_is_string(text)) {
        return tsr_err_set(err, -EINVAL, "tokenize %zu has no text", i);
    }
    int rc = copy_string(text, &t->text, &t->len, err);
    if (rc == 0 && json_is_string(decoded)) {
        rc = copy_string(decoded, &t->decoded, &t->decoded_len, err);
    }
    rc = rc ? rc : read_ids(json_object_get(row, "ids"), "tokenize", i, &t->ids, err);
    return rc ? rc : read_ids(json_object_get(row, "ids_plain"), "tokenize", i, &t->plain, err);
}

/* The text of a case: its input is a text, {text}, or a chat {messages, rendered}. */
static int read_input(struct tsr_golden_text *t, size_t i, const json_t *one, struct tsr_err *err)
{
    const json_t *input = json_object_get(one, "input");
    const json_t *messages = json_object_get(input, "messages");
    const json_t *text = json_is_string(input) ? input : json_object_get(input, "rendered");
    text = text ? text : json_object_get(input, "text");
    if (!json_is_string(text)) {
        return tsr_err_set(err, -EINVAL, "case %zu: its input is neither a text nor a chat", i);
    }
    if (messages) {
        t->messages = json_dumps(messages, JSON_COMPACT | JSON_ENCODE_ANY);
        if (!t->messages) {
            return tsr_err_set(err, -ENOMEM, "no memory for the messages of case %zu", i);
        }
    }
    int rc = copy_string(text, &t->text, &t->len, err);
    return rc ? rc : read_ids(json_object_get(one, "ids"), "case", i, &t->ids, err);
}

static int allocate(struct tsr_golden *g, size_t n_prompts, size_t n_texts, struct tsr_err *err)
{
    if (n_prompts == 0 || n_prompts > UINT32_MAX || n_texts > UINT32_MAX) {
        return tsr_err_set(err, -EINVAL,
                           "holds neither `prompts` nor `cases`: it is no golden file");
    }
    g->prompts = calloc(n_prompts, sizeof *g->prompts);
    g->texts = calloc(n_texts + 1, sizeof *g->texts);
    if (!g->prompts || !g->texts) {
        return tsr_err_set(err, -ENOMEM, "no memory for %zu prompts", n_prompts);
    }
    g->n_prompts = (uint32_t)n_prompts;
    g->n_texts = (uint32_t)n_texts;
    return 0;
}

/* A yardstick is a positive number or absent. */
static int read_yardstick(const json_t *root, const char *key, double *out, struct tsr_err *err)
{
    const json_t *value = json_object_get(json_object_get(root, "yardstick_nmse"), key);
    *out = json_number_value(value);
    if (value && !(*out > 0 && isfinite(*out))) {
        return tsr_err_set(err, -EINVAL, "yardstick_nmse.%s is not a positive number", key);
    }
    return 0;
}

static int read_root(struct tsr_golden *g, const json_t *root, struct tsr_err *err)
{
    const json_t *cases = json_object_get(root, "cases"),
                 *prompts = json_object_get(root, "prompts");
    const json_t *greedy = json_object_get(root, "greedy"),
                 *rows = json_object_get(root, "tokenize");
    int rc = 0;
    if (cases) {
        g->kind = TSR_GOLDEN_FLOAT;
        rc = allocate(g, json_array_size(cases), json_array_size(cases), err);
        for (uint32_t i = 0; rc == 0 && i < g->n_prompts; i++) {
            const json_t *one = json_array_get(cases, i);
            rc = read_prompt(&g->prompts[i], i, json_object_get(one, "ids"),
                             json_object_get(one, "greedy"), json_object_get(one, "top"), err);
            rc = rc ? rc : read_input(&g->texts[i], i, one, err);
        }
        return rc;
    }
    rc = allocate(g, json_array_size(prompts), json_array_size(rows), err);
    for (uint32_t i = 0; rc == 0 && i < g->n_prompts; i++) {
        rc = read_prompt(&g->prompts[i], i, json_array_get(prompts, i), json_array_get(greedy, i),
                         NULL, err);
    }
    for (uint32_t i = 0; rc == 0 && i < g->n_texts; i++) {
        rc = read_text(&g->texts[i], i, json_array_get(rows, i), err);
    }
    rc = rc ? rc : read_yardstick(root, "bf16", &g->bf16, err);
    return rc ? rc : read_yardstick(root, "int8", &g->int8, err);
}

static int read_json(struct tsr_golden *g, const char *path, struct tsr_err *err)
{
    struct stat st;
    json_error_t where;
    if (stat(path, &st) < 0) {
        return tsr_err_set(err, -errno, "%s: cannot be opened: %s", path, strerror(errno));
    }
    if (!S_ISREG(st.st_mode) || st.st_size > TSR_GOLDEN_BYTES_MAX) {
        return tsr_err_set(err, -E2BIG, "%s: is no regular file of at most %d MiB", path,
                           TSR_GOLDEN_BYTES_MAX >> 20);
    }
    json_t *root = json_load_file(path, JSON_ALLOW_NUL | JSON_REJECT_DUPLICATES, &where);
    if (!root) {
        return tsr_err_set(err, -EINVAL, "%s: line %d, column %d: %s", path, where.line,
                           where.column, where.text);
    }
    int rc = read_root(g, root, err);
    json_decref(root);
    return rc < 0 ? tsr_err_prefix(err, "%s", path) : 0;
}

static int find_logits(struct tsr_golden *g, uint32_t i, struct tsr_err *err)
{
    struct files *files = g->priv;
    struct tsr_golden_prompt *p = &g->prompts[i];
    char key[32];
    snprintf(key, sizeof key, "logits.%u", i);
    const struct tsr_tensor_entry *entry = tsr_tensors_find(&files->tensors, key);
    if (!entry) {
        return tsr_err_set(err, -EINVAL, "has no tensor '%s'", key);
    }
    const struct tsr_tensor *t = &entry->tensor;
    if (t->dtype != TSR_DTYPE_F32 || t->n_dims != 2 || t->dims[0] < 1 || t->dims[0] > p->n ||
        t->dims[1] < 1 || t->dims[1] > UINT32_MAX || (g->vocab && t->dims[1] != g->vocab)) {
        return tsr_err_set(err, -EINVAL,
                           "tensor '%s' is not F32 of [1 to %u positions, the vocabulary]", key,
                           p->n);
    }
    g->vocab = (uint32_t)t->dims[1];
    p->logit_rows = (uint32_t)t->dims[0];
    p->logits = t->data;
    return 0;
}

static int check_ids(const struct tsr_golden *g, struct tsr_err *err)
{
    for (uint32_t i = 0; i < g->n_prompts; i++) {
        const struct tsr_golden_prompt *p = &g->prompts[i];
        for (uint32_t k = 0; k < p->n + p->more; k++) {
            if (p->ids[k] >= g->vocab) {
                return tsr_err_set(err, -EINVAL, "prompt %u: id %u, but the logits are of %u", i,
                                   p->ids[k], g->vocab);
            }
        }
        for (uint32_t k = 0; k < p->n_top; k++) {
            if (p->top[k] >= g->vocab) {
                return tsr_err_set(err, -EINVAL, "prompt %u: top id %u, but the logits are of %u",
                                   i, p->top[k], g->vocab);
            }
        }
    }
    return 0;
}

/* golden.json's name with .safetensors for its ending. */
static int open_logits(struct tsr_golden *g, const char *path, struct tsr_err *err)
{
    static const char ending[] = ".json";
    struct files *files = calloc(1, sizeof *files);
    size_t len = strlen(path), stem = len - (sizeof ending - 1);
    char *name = malloc(len + sizeof ".safetensors");
    g->priv = files;
    if (!files || !name) {
        free(name);
        return tsr_err_set(err, -ENOMEM, "%s: no memory", path);
    }
    bool ends = len > sizeof ending - 1 && strcmp(path + stem, ending) == 0;
    sprintf(name, "%.*s.safetensors", (int)(ends ? stem : len), path);
    int rc = tsr_safetensors_open(&files->logits, name, &files->tensors, err);
    if (rc == 0) {
        rc = tsr_tensors_seal(&files->tensors, err);
        for (uint32_t i = 0; rc == 0 && i < g->n_prompts; i++) {
            rc = find_logits(g, i, err);
        }
        rc = rc < 0 ? tsr_err_prefix(err, "%s", name) : check_ids(g, err);
    }
    free(name);
    return rc;
}

int tsr_golden_open(struct tsr_golden *golden, const char *path, struct tsr_err *err)
{
    *golden = (struct tsr_golden){0};
    int rc = read_json(golden, path, err);
    rc = rc ? rc : open_logits(golden, path, err);
    if (rc < 0) {
        tsr_golden_close(golden);
    }
    return rc;
}

void tsr_golden_close(struct tsr_golden *golden)
{
    struct files *files = golden->priv;
    for (uint32_t i = 0; i < golden->n_prompts; i++) {
        struct tsr_golden_prompt *p = &golden->prompts[i];
        free(p->ids);
        free(p->margin);
        free(p->top);
        free(p->top_logits);
    }
    for (uint32_t i = 0; i < golden->n_texts; i++) {
        struct tsr_golden_text *t = &golden->texts[i];
        free(t->messages);
        free(t->text);
        free(t->decoded);
        free(t->ids.ids);
        free(t->plain.ids);
    }
    free(golden->prompts);
    free(golden->texts);
    if (files) {
        tsr_safetensors_close(files->logits);
        tsr_tensors_fini(&files->tensors);
        free(files);
    }
    *golden = (struct tsr_golden){0};
}

bool tsr_golden_logits(const struct tsr_golden *golden, const struct tsr_golden_prompt *p,
                       uint32_t position, float *out)
{
    uint32_t first = p->n - p->logit_rows;
    if (position < first || position >= p->n) {
        return false;
    }
    size_t bytes = golden->vocab * sizeof *out;
    memcpy(out, p->logits + (position - first) * bytes, bytes);
    return true;
}
