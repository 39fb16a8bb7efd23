#include <tsr/shm/log.h>

#include <stdarg.h>
#include <stdio.h>

static void log_to_stderr(void *ctx, enum tsr_log_level level, const char *text)
{
    (void)ctx;
    static const char *const names[] = {"debug", "info", "warning", "error"};
    fprintf(stderr, "tessera: %s: %s\n", names[level], text);
}

static tsr_log_fn *sink = log_to_stderr;
static void *sink_ctx;
static enum tsr_log_level sink_min = TSR_LOG_INFO;

void tsr_log_set(tsr_log_fn *fn, void *ctx, enum tsr_log_level level_min)
{
    sink = fn ? fn : log_to_stderr;
    sink_ctx = ctx;
    sink_min = level_min;
}

void tsr_log(enum tsr_log_level level, const char *format, ...)
{
    if (level < sink_min) {
        return;
    }
    char text[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    sink(sink_ctx, level, text);
}
