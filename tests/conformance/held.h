/* Models held to golden files, as `tessera verify` does it; for tests only. A folder of cases, each
 * a Hugging Face directory with golden.json, becomes one CMocka test a case. */
#ifndef TSR_TESTS_HELD_H
#define TSR_TESTS_HELD_H

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <tsr/model/model.h>
#include <tsr/tools/verify.h>

enum { HELD_MAX = 64, HELD_PATH_MAX = 4096 };

/* A case: its folder, and a GGUF of the same weights or "". */
struct held {
    char name[64], directory[HELD_PATH_MAX], gguf[HELD_PATH_MAX];
};

static inline void held_report(void *name, const struct tsr_check *check)
{
    printf("%-24s %-12s %-40s %s%s\n", (const char *)name, check->what, check->measured,
           check->tolerance, check->verdict == TSR_VERDICT_FAILS ? "  FAILS" : "");
}

/* In the first `n_kinds` precisions. */
static inline void held_model(const char *path, const char *name, const struct tsr_golden *golden,
                              size_t n_kinds)
{
    static const enum tsr_weights kinds[] = {TSR_WEIGHTS_REF, TSR_WEIGHTS_BF16, TSR_WEIGHTS_INT8};
    struct tsr_model model;
    struct tsr_err err = {0};
    if (tsr_model_open(&model, path, &err) < 0) {
        fail_msg("%s", err.text);
    }
    struct tsr_verify verify = {.model = &model, .report = held_report, .ctx = (void *)name};
    for (size_t k = 0; k < n_kinds; k++) {
        if (tsr_verify_logits(&verify, golden, kinds[k], &err) < 0) {
            fail_msg("%s: %s", path, err.text);
        }
    }
    assert_int_equal(verify.failed, 0);
    tsr_model_close(&model);
}

static inline void held_test(void **state)
{
    const struct held *h = *state;
    struct tsr_golden golden;
    struct tsr_err err = {0};
    char path[HELD_PATH_MAX + 16], name[80];
    snprintf(path, sizeof path, "%s/golden.json", h->directory);
    if (tsr_golden_open(&golden, path, &err) < 0) {
        fail_msg("%s", err.text);
    }
    held_model(h->directory, h->name, &golden, 3);
    if (h->gguf[0]) {
        snprintf(name, sizeof name, "%s.gguf", h->name);
        held_model(h->gguf, name, &golden, 1); /* of the same program and weights */
    }
    tsr_golden_close(&golden);
}

static inline int held_order(const void *a, const void *b)
{
    return strcmp(((const struct held *)a)->name, ((const struct held *)b)->name);
}

/* The cases in `folder`, in the order of their names. GGUFs are model.gguf in the cases' folders,
 * or NAME.gguf in `ggufs`. */
static inline size_t held_find(struct held *cases, const char *folder, const char *ggufs)
{
    size_t n = 0;
    DIR *dir = opendir(folder);
    for (struct dirent *e; dir && (e = readdir(dir)) && n < HELD_MAX;) {
        struct held *h = &cases[n];
        char golden[HELD_PATH_MAX + 16];
        snprintf(h->name, sizeof h->name, "%s", e->d_name);
        snprintf(h->directory, sizeof h->directory, "%s/%s", folder, e->d_name);
        if (ggufs) {
            snprintf(h->gguf, sizeof h->gguf, "%s/%s.gguf", ggufs, e->d_name);
        } else {
            snprintf(h->gguf, sizeof h->gguf, "%s/model.gguf", h->directory);
        }
        snprintf(golden, sizeof golden, "%s/golden.json", h->directory);
        if (access(h->gguf, R_OK) < 0) {
            h->gguf[0] = '\0';
        }
        n += access(golden, R_OK) == 0;
    }
    if (dir) {
        closedir(dir);
    }
    qsort(cases, n, sizeof *cases, held_order);
    return n;
}

static inline int held_run(const char *group, struct held *cases, size_t n)
{
    static struct CMUnitTest tests[HELD_MAX];
    for (size_t i = 0; i < n; i++) {
        tests[i] = (struct CMUnitTest){
            .name = cases[i].name, .test_func = held_test, .initial_state = &cases[i]};
    }
    return _cmocka_run_group_tests(group, tests, n, NULL, NULL);
}

#endif
