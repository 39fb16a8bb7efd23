/* Figures for /metrics: counters, gauges and histograms, in Prometheus' text format.
 *
 * A figure belongs to whoever registers it, is written by the thread of the tsr_api, and is read
 * when /metrics is asked for: the sum, where the door has several threads (struct tsr_api_options).
 * Observing costs a few nanoseconds and allocates nothing. */
#ifndef TSR_API_FIGURES_H
#define TSR_API_FIGURES_H

#include <stdint.h>

#include <tsr/shm/err.h>

struct tsr_api;

enum { TSR_HISTOGRAM_BOUNDS_MAX = 24 };

struct tsr_histogram {
    const double *bounds; /* ascending upper bounds; without +Inf */
    uint32_t n_bounds;    /* <= TSR_HISTOGRAM_BOUNDS_MAX */
    uint64_t counts[TSR_HISTOGRAM_BOUNDS_MAX + 1];
    double sum;
};

static inline void tsr_histogram_observe(struct tsr_histogram *histogram, double value)
{
    uint32_t i = 0;
    while (i < histogram->n_bounds && value > histogram->bounds[i]) {
        i++;
    }
    histogram->counts[i]++;
    histogram->sum += value;
}

/* For times within a door, in seconds: bounds from a microsecond to a tenth of a second. */
void tsr_histogram_init(struct tsr_histogram *histogram);

enum tsr_figure_kind {
    TSR_FIGURE_COUNTER,   /* value: const uint64_t * */
    TSR_FIGURE_GAUGE,     /* value: const uint64_t * */
    TSR_FIGURE_HISTOGRAM, /* value: const struct tsr_histogram * */
};

/* Figures of one name stand together: register them one after the other. */
struct tsr_figure {
    const char *name; /* "tessera:door_connections" */
    const char *help; /* one sentence without a newline */
    enum tsr_figure_kind kind;
    const char *labels; /* `kind="tls"`; NULL: none */
    const void *value;
};

enum { TSR_API_FIGURES_MAX = 128 };

/* Shows the figure under /metrics from now on. Its strings and value stay where they are as long as
 * the tsr_api lives. -ENOSPC. */
int tsr_api_add_figure(struct tsr_api *api, const struct tsr_figure *figure, struct tsr_err *err);

#endif
