/* The executor against logits and greedy text of transformers (../shared/conformance/README.md has
 * the tolerances), by every way in: a prompt at once, in chunks of 1, 7 and 32, all prompts in one
 * step, 1, 2 and 4 workers. The ways give the same bytes as the first. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>

#include <tsr/exec/exec.h>
#include <tsr/model/safetensors.h>

#include "outside.h"

enum { PROMPTS_MAX = 16, TOKENS_MAX = 256, GREEDY = 24, PAGES = (TOKENS_MAX + 63) / 64 };

struct prompt {
    uint32_t n, more; /* ids of the prompt, greedy ids after it */
    uint32_t ids[TOKENS_MAX];
    double margin[GREEDY];
    float *ref;    /* [n, vocab] */
    float *logits; /* [n + more - 1, vocab]: ours, of the first way */
};

struct golden {
    uint32_t n, vocab;
    struct prompt prompts[PROMPTS_MAX];
    double bf16, int8; /* yardsticks */
};

static void read_golden(struct golden *g, const char *name)
{
    char path[256];
    snprintf(path, sizeof path, "models/%s/golden.json", name);
    json_t *root = outside_json(outside_path(path));
    assert_non_null(root);
    struct tsr_tensors tensors = {0};
    struct tsr_safetensors *file;
    snprintf(path, sizeof path, "models/%s/golden.safetensors", name);
    assert_int_equal(tsr_safetensors_open(&file, outside_path(path), &tensors, NULL), 0);
    assert_int_equal(tsr_tensors_seal(&tensors, NULL), 0);
    json_t *prompts = json_object_get(root, "prompts"), *greedy = json_object_get(root, "greedy");
    g->n = (uint32_t)json_array_size(prompts);
    assert_in_range(g->n, 1, PROMPTS_MAX);
    for (uint32_t i = 0; i < g->n; i++) {
        struct prompt *p = &g->prompts[i];
        json_t *ids = json_array_get(prompts, i), *after = json_array_get(greedy, i);
        json_t *more = json_object_get(after, "ids"), *margin = json_object_get(after, "margin");
        p->n = (uint32_t)json_array_size(ids);
        p->more = (uint32_t)json_array_size(more);
        assert_true(p->n + p->more <= TOKENS_MAX && p->more <= GREEDY);
        for (uint32_t t = 0; t < p->n + p->more; t++) {
            p->ids[t] = (uint32_t)json_integer_value(t < p->n ? json_array_get(ids, t)
                                                              : json_array_get(more, t - p->n));
        }
        for (uint32_t t = 0; t < p->more; t++) {
            p->margin[t] = json_number_value(json_array_get(margin, t));
        }
        char key[32];
        snprintf(key, sizeof key, "logits.%u", i);
        struct tsr_tensor_entry *expected = tsr_tensors_find(&tensors, key);
        assert_non_null(expected);
        g->vocab = (uint32_t)expected->tensor.dims[1];
        size_t bytes = (size_t)p->n * g->vocab * sizeof(float);
        p->ref = malloc(bytes);
        memcpy(p->ref, expected->tensor.data, bytes);
        p->logits = calloc((size_t)(p->n + p->more) * g->vocab, sizeof(float));
    }
    json_t *yardstick = json_object_get(root, "yardstick_nmse");
    g->bf16 = json_number_value(json_object_get(yardstick, "bf16"));
    g->int8 = json_number_value(json_object_get(yardstick, "int8"));
    json_decref(root);
    tsr_safetensors_close(file);
    tsr_tensors_fini(&tensors);
}

static void free_golden(struct golden *g)
{
    for (uint32_t i = 0; i < g->n; i++) {
        free(g->prompts[i].ref);
        free(g->prompts[i].logits);
    }
}

/* sum((x - ref)^2) / sum((ref - mean of its row)^2) */
static double nmse(const float *x, const float *ref, size_t rows, size_t columns)
{
    double error = 0, spread = 0;
    for (size_t r = 0; r < rows; r++, x += columns, ref += columns) {
        double mean = 0;
        for (size_t i = 0; i < columns; i++) {
            mean += (double)ref[i] / (double)columns;
        }
        for (size_t i = 0; i < columns; i++) {
            error += ((double)x[i] - (double)ref[i]) * ((double)x[i] - (double)ref[i]);
            spread += ((double)ref[i] - mean) * ((double)ref[i] - mean);
        }
    }
    return error / spread;
}

static struct tsr_exec *start(const struct tsr_model *model, enum tsr_weights weights,
                              enum tsr_isa isa, uint32_t workers)
{
    struct tsr_exec *exec;
    struct tsr_err err = {0};
    struct tsr_exec_options options = {.workers = workers,
                                       .weights = weights,
                                       .isa = isa,
                                       .rows_max = 512,
                                       .logit_rows_max = 512,
                                       .context = TOKENS_MAX};
    struct tsr_kv_shape shape = {model->program.layers, model->program.kv_heads,
                                 model->program.head_dim, 4};
    options.kv_bytes = PROMPTS_MAX * PAGES * tsr_kv_page_bytes(&shape);
    if (tsr_exec_create(&exec, model, &options, NULL, NULL, &err) < 0) {
        fail_msg("%s", err.text);
    }
    return exec;
}

/* Every prompt and its greedy ids (teacher-forced), in chunks of `chunk` rows, all prompts' next
 * chunks in one step where `together`. keep: into p->logits; else compared with it, byte for byte.
 */
static void run(struct tsr_exec *exec, struct golden *g, uint32_t chunk, bool together, bool keep)
{
    uint32_t pages[PROMPTS_MAX][PAGES], at[PROMPTS_MAX] = {0};
    struct tsr_kv_seq seq[PROMPTS_MAX];
    for (uint32_t i = 0; i < g->n; i++) {
        tsr_kv_seq_init(&seq[i], pages[i], PAGES);
        assert_int_equal(tsr_kv_reserve(tsr_exec_kv(exec), &seq[i], TOKENS_MAX), 0);
    }
    for (uint32_t done = 0, turn = 0; done < g->n; turn++) {
        struct tsr_span spans[PROMPTS_MAX];
        uint32_t whose[PROMPTS_MAX], n = 0, logit = 0;
        done = 0;
        for (uint32_t i = 0; i < g->n; i++) {
            const struct prompt *p = &g->prompts[i];
            uint32_t rows = p->n + p->more - 1 - at[i];
            if (rows == 0) {
                done++;
            } else if (n == 0 || together) {
                uint32_t size = together ? 1 + (chunk + turn + i) % (2 * chunk) : chunk;
                rows = rows < size ? rows : size;
                spans[n] = (struct tsr_span){&seq[i], p->ids + at[i], rows, at[i], rows};
                whose[n++] = i;
            }
        }
        if (n == 0) {
            break;
        }
        tsr_exec_step(exec, spans, n);
        for (uint32_t s = 0; s < n; s++) {
            struct prompt *p = &g->prompts[whose[s]];
            for (uint32_t r = 0; r < spans[s].rows; r++, logit++) {
                float *mine = p->logits + (size_t)(at[whose[s]] + r) * g->vocab;
                const float *got = tsr_exec_logits(exec, logit);
                if (keep) {
                    memcpy(mine, got, g->vocab * sizeof *mine);
                } else {
                    assert_memory_equal(mine, got, g->vocab * sizeof *mine);
                }
            }
            at[whose[s]] += spans[s].rows;
        }
    }
    for (uint32_t i = 0; i < g->n; i++) {
        tsr_kv_release(tsr_exec_kv(exec), &seq[i]);
    }
}

static void check_greedy(const struct golden *g, double margin)
{
    for (uint32_t i = 0; i < g->n; i++) {
        const struct prompt *p = &g->prompts[i];
        for (uint32_t t = 0; t < p->more; t++) {
            const float *row = p->logits + (size_t)(p->n - 1 + t) * g->vocab;
            uint32_t best = 0;
            for (uint32_t v = 1; v < g->vocab; v++) {
                best = row[v] > row[best] ? v : best;
            }
            if (p->margin[t] > margin) {
                assert_int_equal(best, p->ids[p->n + t]);
            }
        }
    }
}

static void check(const char *file, const char *name)
{
    struct golden g;
    struct tsr_model model;
    struct tsr_err err = {0};
    read_golden(&g, name);
    if (tsr_model_open(&model, outside_path(file), &err) < 0) {
        fail_msg("%s", err.text);
    }
    const struct {
        const char *name;
        enum tsr_weights weights;
        enum tsr_isa isa;
        double limit, margin;
    } kinds[] = {
        {"ref", TSR_WEIGHTS_REF, TSR_ISA_REF, 1e-9, -1},
        {"bf16", TSR_WEIGHTS_BF16, TSR_ISA_BEST, 2 * g.bf16, 0.05},
        {"int8", TSR_WEIGHTS_INT8, TSR_ISA_BEST, 1.5 * g.int8, 0.15},
    };
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        for (uint32_t workers = 1; workers <= 4; workers *= 2) {
            struct tsr_exec *exec = start(&model, kinds[k].weights, kinds[k].isa, workers);
            run(exec, &g, TOKENS_MAX, false, workers == 1);
            run(exec, &g, 1, false, false);
            run(exec, &g, 7, false, false);
            run(exec, &g, 32, false, false);
            run(exec, &g, 7, true, false);
            tsr_exec_destroy(exec);
        }
        double sum = 0;
        for (uint32_t i = 0; i < g.n; i++) {
            sum += nmse(g.prompts[i].logits, g.prompts[i].ref, g.prompts[i].n, g.vocab) / g.n;
        }
        printf("%-16s %-4s nmse %.3g (limit %.3g)\n", file, kinds[k].name, sum, kinds[k].limit);
        assert_true(sum <= kinds[k].limit);
        check_greedy(&g, kinds[k].margin);
    }
    tsr_model_close(&model);
    free_golden(&g);
}

static void test_exec_conformance_llama2(void **unused)
{
    (void)unused;
    check("models/llama2", "llama2");
    check("gguf/llama2.gguf", "llama2");
}

static void test_exec_conformance_llama3(void **unused)
{
    (void)unused;
    check("models/llama3", "llama3");
    check("gguf/llama3.gguf", "llama3");
}

static void test_exec_conformance_qwen2(void **unused)
{
    (void)unused;
    check("models/qwen2", "qwen2");
    check("gguf/qwen2.gguf", "qwen2");
}

int main(void)
{
    outside_path("models");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exec_conformance_llama2),
        cmocka_unit_test(test_exec_conformance_llama3),
        cmocka_unit_test(test_exec_conformance_qwen2),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
