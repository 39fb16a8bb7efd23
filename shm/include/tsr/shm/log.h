/* The log hook: libraries say things through it, the program decides where they go (default:
 * stderr, at INFO and above). Never called on the token path. */
#ifndef TSR_SHM_LOG_H
#define TSR_SHM_LOG_H

enum tsr_log_level { TSR_LOG_DEBUG, TSR_LOG_INFO, TSR_LOG_WARN, TSR_LOG_ERROR };

typedef void tsr_log_fn(void *ctx, enum tsr_log_level level, const char *text);

/* Sets the sink for the whole process; call before threads start. NULL restores stderr. */
void tsr_log_set(tsr_log_fn *fn, void *ctx, enum tsr_log_level level_min);

/* One line, without a newline at its end. Thread-safe if the sink is. */
__attribute__((format(printf, 2, 3))) void tsr_log(enum tsr_log_level level, const char *format,
                                                   ...);

#endif
