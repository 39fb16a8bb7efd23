#include "command_priv.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <tsr/tools/language.h>
#include <tsr/tools/verify.h>

#include "self_priv.h"

static const char help[] =
    "tessera verify MODEL [OPTIONS]: holds a model against expected results\n"
    "\n"
    "Runs the prompts of a golden file (golden.json, and golden.safetensors beside it) and prints\n"
    "each measure beside its tolerance: logits, greedy ids (teacher-forced), texts tokenized and\n"
    "decoded, and that every way in gives the same bytes: a prompt at once, in chunks of 1, 7 and\n"
    "32, among others in one step, on 1, 2 and 4 threads. Without a golden file, or one in "
    "MODEL's\n"
    "own folder, the model is held against itself: the ways in against each other, the engine's\n"
    "precision against the reference path in f32, the tokenizer there and back, the template.\n"
    "\n"
    "      --against FILE    the golden file [MODEL/golden.json, where there is one]\n"
    "      --weights FORMAT  one precision: ref, bf16, int8, or file (as the engine packs them)\n"
    "                        [each that the golden file states a tolerance for, and file where\n"
    "                        that is none of them; file without a golden file]\n"
    "\n"
    "Tolerances of the logits' nmse: ref 1e-9; bf16 and file 2 times, int8 1.5 times what the "
    "golden\n"
    "file says of the other implementation in bf16 and int8. Greedy ids: all (ref), those whose\n"
    "margin is above 0.05 (bf16, file) or 0.15 (int8). Exits 0 only if all holds, else 1.\n";

struct task {
    const char *model, *against;
    bool one_weights;
    enum tsr_weights weights; /* with one_weights */
    char line[96];            /* progress as it stands on the terminal's line; "": none */
};

static void wipe(struct task *task)
{
    if (task->line[0]) {
        fprintf(stderr, "\r\033[K");
        task->line[0] = '\0';
    }
}

static void on_check(void *ctx, const struct tsr_check *check)
{
    static const char *const verdicts[] = {"holds", "FAILS", "-"};
    wipe(ctx);
    printf("%-13s %-6s %s (tolerance: %s)\n", check->what, verdicts[check->verdict],
           check->measured, check->tolerance);
    fflush(stdout);
}

static void on_progress(void *ctx, const char *what, double done)
{
    struct task *task = ctx;
    char line[sizeof task->line];
    snprintf(line, sizeof line, "%3d %% %s", (int)(done * 100), what);
    if (isatty(STDERR_FILENO) && strcmp(line, task->line) != 0) {
        fprintf(stderr, "\r\033[K%s", line);
        memcpy(task->line, line, sizeof line);
    }
}

/* Whether a weight is of a type that the engine packs otherwise than as bf16. */
static bool keeps_own_format(const struct tsr_model *model)
{
    for (uint32_t i = 0; i < model->program.n_weights; i++) {
        enum tsr_dtype dtype = model->program.weights[i].tensor->dtype;
        if (dtype != TSR_DTYPE_F32 && dtype != TSR_DTYPE_BF16) {
            return true;
        }
    }
    return false;
}

/* The precisions to run; their number. */
static uint32_t choose(const struct task *task, const struct tsr_golden *golden,
                       const struct tsr_model *model, enum tsr_weights kinds[4])
{
    uint32_t n = 0;
    if (task->one_weights) {
        kinds[n++] = task->weights;
        return n;
    }
    kinds[n++] = TSR_WEIGHTS_REF;
    if (golden->bf16 > 0) {
        kinds[n++] = TSR_WEIGHTS_BF16;
    }
    if (golden->int8 > 0) {
        kinds[n++] = TSR_WEIGHTS_INT8;
    }
    if (golden->kind == TSR_GOLDEN_FLOAT || keeps_own_format(model)) {
        kinds[n++] = TSR_WEIGHTS_FILE;
    }
    return n;
}

static int run_golden(struct task *task, struct tsr_verify *v, const struct tsr_language *language,
                      const struct tsr_err *no_language, struct tsr_err *err)
{
    struct tsr_golden golden;
    enum tsr_weights kinds[4];
    int rc = tsr_golden_open(&golden, task->against, err);
    if (rc < 0) {
        return rc;
    }
    printf("against       %s: %u prompts, %u texts\n", task->against, golden.n_prompts,
           golden.n_texts);
    uint32_t n = choose(task, &golden, v->model, kinds);
    for (uint32_t i = 0; rc == 0 && i < n; i++) {
        rc = tsr_verify_fits(v, &golden, kinds[i], err);
    }
    if (rc == 0 && language) {
        tsr_verify_texts(v, &golden, language);
    } else if (rc == 0 && golden.n_texts) {
        tsr_verify_no_language(v, no_language);
    }
    for (uint32_t i = 0; rc == 0 && i < n; i++) {
        rc = tsr_verify_logits(v, &golden, kinds[i], err);
    }
    tsr_golden_close(&golden);
    return rc;
}

static int run(struct task *task, struct tsr_err *err)
{
    struct tsr_model model;
    struct tsr_language language;
    struct tsr_err no_language = {0};
    char own[PATH_MAX];
    int rc = tsr_model_open(&model, task->model, err);
    if (rc < 0) {
        return rc;
    }
    snprintf(own, sizeof own, "%s/golden.json", task->model);
    if (!task->against && access(own, F_OK) == 0) {
        task->against = own;
    }
    struct tsr_verify verify = {
        .model = &model, .report = on_check, .progress = on_progress, .ctx = task};
    bool speaks = tsr_language_open(&language, task->model, &no_language) == 0;
    printf("model         ");
    command_write_text(stdout, model.name, strlen(model.name));
    printf(": %s, %.1f M parameters\n", model.program.architecture,
           (double)model.program.parameters / 1e6);
    if (task->against) {
        rc = run_golden(task, &verify, speaks ? &language : NULL, &no_language, err);
    } else {
        rc = tsr_verify_self(&verify, speaks ? &language : NULL, &no_language,
                             task->one_weights ? task->weights : TSR_WEIGHTS_FILE, err);
    }
    wipe(task);
    if (speaks) {
        tsr_language_close(&language);
    }
    tsr_model_close(&model);
    if (rc == 0 && verify.failed) {
        return tsr_err_set(err, -EDOM, "%s: %u check%s not hold", task->model, verify.failed,
                           verify.failed == 1 ? " does" : "s do");
    }
    return rc;
}

static bool parse_weights(struct task *task, const char *name)
{
    const enum tsr_weights all[] = {TSR_WEIGHTS_REF, TSR_WEIGHTS_BF16, TSR_WEIGHTS_INT8,
                                    TSR_WEIGHTS_FILE, TSR_WEIGHTS_F16};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        if (strcmp(tsr_verify_name(all[i]), name) == 0) {
            task->one_weights = true;
            task->weights = all[i];
            return true;
        }
    }
    return false;
}

int command_verify(int argc, char **argv)
{
    static const struct option options[] = {
        {"against", 1, NULL, 'a'}, {"weights", 1, NULL, 'w'}, {"help", 0, NULL, 'h'}, {0}};
    struct task task = {0};
    int option;
    while ((option = getopt_long(argc, argv, "h", options, NULL)) != -1) {
        switch (option) {
        case 'a':
            task.against = optarg;
            break;
        case 'w':
            if (!parse_weights(&task, optarg)) {
                return command_usage(
                    "verify", "--weights wants ref, bf16, int8, file or f16, not '%s'", optarg);
            }
            break;
        case 'h':
            fputs(help, stdout);
            return COMMAND_DONE;
        default:
            return command_usage("verify", "the command line was not understood");
        }
    }
    struct tsr_err err = {0};
    task.model = command_model("verify", argc - optind, argv + optind);
    if (!task.model) {
        return COMMAND_USAGE;
    }
    return run(&task, &err) < 0 ? command_fail(&err) : COMMAND_DONE;
}
