#include <tsr/tools/verify.h>

#include "report_priv.h"
#include "ways_priv.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *tsr_verify_name(enum tsr_weights weights)
{
    static const char *const names[] = {"file", "ref", "bf16", "f16", "int8"};
    return names[weights];
}

void tsr_verify_report(struct tsr_verify *v, enum tsr_verdict verdict, const char *what,
                       const char *tolerance, const char *format, ...)
{
    char measured[256];
    va_list args;
    va_start(args, format);
    vsnprintf(measured, sizeof measured, format, args);
    va_end(args);
    const struct tsr_check check = {verdict, what, measured, tolerance};
    v->failed += verdict == TSR_VERDICT_FAILS;
    v->report(v->ctx, &check);
}

/* What a precision may differ by; < 0: nothing is stated. */
struct tolerance {
    double nmse;   /* averaged over the prompts */
    double top;    /* of the stated highest logits */
    double margin; /* greedy ids must agree above it */
};

static struct tolerance tolerance_of(const struct tsr_golden *g, enum tsr_weights weights)
{
    const struct tolerance none = {-1, -1, INFINITY};
    if (g->kind == TSR_GOLDEN_SELF) {
        return (struct tolerance){0.05, -1, INFINITY};
    }
    switch (weights) {
    case TSR_WEIGHTS_REF:
        return g->kind == TSR_GOLDEN_EXACT ? (struct tolerance){1e-9, -1, -1}
                                           : (struct tolerance){-1, 2e-3, 0.01};
    case TSR_WEIGHTS_BF16:
    case TSR_WEIGHTS_FILE: /* keeps no less than bf16 */
        return g->bf16 > 0 ? (struct tolerance){2 * g->bf16, -1, 0.05} : none;
    case TSR_WEIGHTS_INT8:
        return g->int8 > 0 ? (struct tolerance){1.5 * g->int8, -1, 0.15} : none;
    default:
        return none;
    }
}

/* Error against expected rows, summed as they come. */
struct error {
    double difference, spread; /* sums of squares */
    double kl;                 /* sum over rows */
    uint64_t rows;
};

static void add_row(struct error *e, const float *ref, const float *x, uint32_t n)
{
    double mean = 0, most_ref = -INFINITY, most_x = -INFINITY, sum_ref = 0, sum_x = 0;
    for (uint32_t i = 0; i < n; i++) {
        mean += (double)ref[i] / n;
        most_ref = fmax(most_ref, (double)ref[i]);
        most_x = fmax(most_x, (double)x[i]);
    }
    for (uint32_t i = 0; i < n; i++) {
        double r = (double)ref[i], y = (double)x[i];
        e->difference += (y - r) * (y - r);
        e->spread += (r - mean) * (r - mean);
        sum_ref += exp(r - most_ref);
        sum_x += exp(y - most_x);
    }
    for (uint32_t i = 0; i < n; i++) {
        double p = (double)ref[i] - most_ref - log(sum_ref);
        e->kl += exp(p) * (p - ((double)x[i] - most_x - log(sum_x)));
    }
    e->rows++;
}

static double nmse(const struct error *e)
{
    return e->difference == 0 ? 0 : e->difference / e->spread;
}

/* A run of golden's prompts in one precision. */
struct against {
    const struct tsr_golden *golden;
    struct tolerance tolerance;
    struct error *errors; /* [n_prompts] */
    float *expected;      /* [vocab] */
    double top;           /* largest difference of a stated logit; < 0: none is stated */
    uint32_t greedy, same, wrong;
    char where[96]; /* the first wrong id */
};

static uint32_t best_of(const float *logits, uint32_t n)
{
    uint32_t best = 0;
    for (uint32_t i = 1; i < n; i++) {
        best = logits[i] > logits[best] ? i : best;
    }
    return best;
}

static void take_greedy(struct against *a, uint32_t i, uint32_t t, const float *logits)
{
    const struct tsr_golden_prompt *p = &a->golden->prompts[i];
    uint32_t best = best_of(logits, a->golden->vocab), want = p->ids[p->n + t];
    a->greedy++;
    a->same += best == want;
    if (best != want && p->margin[t] > a->tolerance.margin && a->wrong++ == 0) {
        snprintf(a->where, sizeof a->where, "; first after prompt %u: id %u is %u, margin %.3g", i,
                 t, best, p->margin[t]);
    }
}

static void take_row(void *ctx, uint32_t i, uint32_t position, const float *logits)
{
    struct against *a = ctx;
    const struct tsr_golden_prompt *p = &a->golden->prompts[i];
    if (tsr_golden_logits(a->golden, p, position, a->expected)) {
        add_row(&a->errors[i], a->expected, logits, a->golden->vocab);
    }
    if (position + 1 >= p->n && position + 1 - p->n < p->more) {
        take_greedy(a, i, position + 1 - p->n, logits);
    }
    for (uint32_t k = 0; position + 1 == p->n && k < p->n_top; k++) {
        double apart = fabs((double)logits[p->top[k]] - p->top_logits[k]);
        a->top = apart > a->top ? apart : a->top; /* what is not finite is counted elsewhere */
    }
}

static enum tsr_verdict verdict_of(double measured, double tolerance)
{
    return tolerance < 0           ? TSR_VERDICT_FIGURE
           : measured <= tolerance ? TSR_VERDICT_HOLDS
                                   : TSR_VERDICT_FAILS; /* not a number fails too */
}

static void report_ways(struct tsr_verify *v, const struct tsr_ways *w)
{
    char what[32];
    const char *name = tsr_verify_name(w->weights);
    snprintf(what, sizeof what, "%s ways in", name);
    tsr_verify_report(v, w->different ? TSR_VERDICT_FAILS : TSR_VERDICT_HOLDS, what, "0",
                      "%llu of %llu rows differ%s%s", (unsigned long long)w->different,
                      (unsigned long long)w->compared, w->different ? ", first: " : "", w->where);
    if (w->broken) {
        snprintf(what, sizeof what, "%s finite", name);
        tsr_verify_report(v, TSR_VERDICT_FAILS, what, "0",
                          "%llu rows have logits that are not finite",
                          (unsigned long long)w->broken);
    }
}

static void report_against(struct tsr_verify *v, const struct against *a, enum tsr_weights weights)
{
    const struct tsr_golden *g = a->golden;
    const struct tolerance *t = &a->tolerance;
    const char *name = tsr_verify_name(weights);
    char what[32], limit[64] = "none stated";
    double mean = 0, kl = 0, rows = 0;
    for (uint32_t i = 0; i < g->n_prompts; i++) {
        mean += nmse(&a->errors[i]) / g->n_prompts;
        kl += a->errors[i].kl;
        rows += (double)a->errors[i].rows;
    }
    snprintf(what, sizeof what, "%s logits", name);
    if (t->nmse >= 0) {
        snprintf(limit, sizeof limit, "nmse <= %.3g", t->nmse);
    }
    tsr_verify_report(v, verdict_of(mean, t->nmse), what, limit, "nmse %.3g, mean KL %.3g", mean,
                      kl / rows);
    if (a->top >= 0) {
        snprintf(what, sizeof what, "%s top logits", name);
        snprintf(limit, sizeof limit, "none stated");
        if (t->top >= 0) {
            snprintf(limit, sizeof limit, "<= %.3g", t->top);
        }
        tsr_verify_report(v, verdict_of(a->top, t->top), what, limit, "within %.3g", a->top);
    }
    if (a->greedy == 0) {
        return;
    }
    snprintf(what, sizeof what, "%s greedy", name);
    if (isinf(t->margin)) {
        snprintf(limit, sizeof limit, "none stated");
    } else if (t->margin < 0) {
        snprintf(limit, sizeof limit, "all");
    } else {
        snprintf(limit, sizeof limit, "all of margin > %.2g", t->margin);
    }
    tsr_verify_report(v,
                      a->wrong           ? TSR_VERDICT_FAILS
                      : isinf(t->margin) ? TSR_VERDICT_FIGURE
                                         : TSR_VERDICT_HOLDS,
                      what, limit, "%u of %u equal%s", a->same, a->greedy, a->where);
}

/* golden's prompts as *n sequences, to be freed; NULL: no memory. A prompt and its answer are one,
 * but where the model's rotary frequencies depend on the length: golden's answers are computed anew
 * with each id, so then each is a sequence of that length. */
static struct tsr_way_sequence *sequences_of(const struct tsr_golden *g,
                                             const struct tsr_program *program, uint32_t *n)
{
    size_t most = 0;
    for (uint32_t i = 0; i < g->n_prompts; i++) {
        most += 1 + (size_t)g->prompts[i].more;
    }
    struct tsr_way_sequence *s = calloc(most, sizeof *s);
    *n = 0;
    for (uint32_t i = 0; s && i < g->n_prompts; i++) {
        const struct tsr_golden_prompt *p = &g->prompts[i];
        uint32_t rows = p->n + (p->more ? p->more - 1 : 0);
        bool is_one = tsr_program_turns_alike(program, p->n, rows);
        s[(*n)++] = (struct tsr_way_sequence){.ids = p->ids,
                                              .rows = is_one ? rows : p->n,
                                              .first = p->n - p->logit_rows,
                                              .prompt = i};
        for (uint32_t end = p->n + 1; !is_one && end <= rows; end++) {
            s[(*n)++] = (struct tsr_way_sequence){p->ids, end, end - 1, i};
        }
    }
    return s;
}

static int check_vocab(const struct tsr_model *model, const struct tsr_golden *g,
                       struct tsr_err *err)
{
    const struct tsr_program *p = &model->program;
    if (g->vocab != p->vocab) {
        return tsr_err_set(err, -EINVAL, "the golden logits are of %u ids, the model's of %u",
                           g->vocab, p->vocab);
    }
    return 0;
}

int tsr_verify_fits(const struct tsr_verify *v, const struct tsr_golden *golden,
                    enum tsr_weights weights, struct tsr_err *err)
{
    int rc = check_vocab(v->model, golden, err);
    if (rc < 0) {
        return rc;
    }
    struct tsr_exec_options options;
    struct tsr_exec_plan plan;
    uint32_t n;
    struct tsr_way_sequence *s = sequences_of(golden, &v->model->program, &n);
    const struct tsr_ways ways = {.model = v->model, .weights = weights, .sequences = s, .n = n};
    if (!s) {
        return tsr_err_set(err, -ENOMEM, "no memory for %u prompts", golden->n_prompts);
    }
    tsr_ways_options(&ways, &options);
    uint64_t kept = 0; /* our own reference's logits */
    for (uint32_t i = 0; golden->kind == TSR_GOLDEN_SELF && i < golden->n_prompts; i++) {
        kept += (uint64_t)golden->prompts[i].logit_rows * golden->vocab * sizeof(float);
    }
    free(s);
    rc = tsr_exec_plan(&plan, v->model, &options, err);
    if ((rc == 0 || rc == -ENOMEM) && plan.need_bytes + kept > plan.available_bytes) {
        return tsr_err_set(err, -ENOMEM,
                           "to run it as %s %.2f GB are needed, %.2f GB of memory are available",
                           tsr_verify_name(weights), (double)(plan.need_bytes + kept) / 1e9,
                           (double)plan.available_bytes / 1e9);
    }
    return rc;
}

int tsr_verify_logits(struct tsr_verify *v, const struct tsr_golden *golden,
                      enum tsr_weights weights, struct tsr_err *err)
{
    int rc = check_vocab(v->model, golden, err);
    if (rc < 0) {
        return rc;
    }
    struct against a = {.golden = golden,
                        .tolerance = tolerance_of(golden, weights),
                        .top = -1,
                        .errors = calloc(golden->n_prompts, sizeof *a.errors),
                        .expected = malloc(golden->vocab * sizeof *a.expected)};
    uint32_t n;
    struct tsr_way_sequence *sequences = sequences_of(golden, &v->model->program, &n);
    struct tsr_ways ways = {.model = v->model,
                            .weights = weights,
                            .sequences = sequences,
                            .n = n,
                            .row = take_row,
                            .row_ctx = &a,
                            .verify = v};
    if (!a.errors || !a.expected || !sequences) {
        rc = tsr_err_set(err, -ENOMEM, "no memory for %u prompts", golden->n_prompts);
    }
    rc = rc ? rc : tsr_ways_run(&ways, true, err);
    if (rc == 0) {
        report_against(v, &a, weights);
        report_ways(v, &ways);
    }
    free(sequences);
    free(a.errors);
    free(a.expected);
    return rc;
}

static void keep_row(void *ctx, uint32_t i, uint32_t position, const float *logits)
{
    const struct tsr_golden *g = ctx;
    const struct tsr_golden_prompt *p = &g->prompts[i];
    size_t bytes = g->vocab * sizeof *logits;
    memcpy((uint8_t *)p->logits + (position - (p->n - p->logit_rows)) * bytes, logits, bytes);
}

int tsr_verify_reference(struct tsr_verify *v, struct tsr_golden *golden, float **logits,
                         struct tsr_err *err)
{
    uint64_t rows = 0;
    for (uint32_t i = 0; i < golden->n_prompts; i++) {
        rows += golden->prompts[i].logit_rows;
    }
    *logits = malloc(rows * golden->vocab * sizeof **logits);
    uint32_t n;
    struct tsr_way_sequence *sequences = sequences_of(golden, &v->model->program, &n);
    if (!*logits || !sequences) {
        free(sequences);
        return tsr_err_set(err, -ENOMEM, "no memory for the logits of %llu positions",
                           (unsigned long long)rows);
    }
    float *next = *logits;
    for (uint32_t i = 0; i < golden->n_prompts; i++) {
        golden->prompts[i].logits = (const uint8_t *)next;
        next += (size_t)golden->prompts[i].logit_rows * golden->vocab;
    }
    struct tsr_ways ways = {.model = v->model,
                            .weights = TSR_WEIGHTS_REF,
                            .sequences = sequences,
                            .n = n,
                            .row = keep_row,
                            .row_ctx = golden,
                            .verify = v};
    int rc = tsr_ways_run(&ways, false, err);
    free(sequences);
    return rc;
}
