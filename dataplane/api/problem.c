#include "api_priv.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static void set(struct api_problem *problem, unsigned status, const char *type, const char *code,
                const char *param, const char *format, va_list args)
{
    if (problem->status) {
        return;
    }
    problem->status = status;
    problem->type = type;
    problem->code = code;
    (void)snprintf(problem->param, sizeof problem->param, "%s", param ? param : "");
    (void)vsnprintf(problem->text, sizeof problem->text, format, args);
}

void api_problem_set(struct api_problem *problem, unsigned status, const char *type,
                     const char *code, const char *param, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    set(problem, status, type, code, param, format, args);
    va_end(args);
}

void api_problem_invalid(struct api_problem *problem, const char *param, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    set(problem, 400, "invalid_request_error", "invalid_value", param, format, args);
    va_end(args);
}

void api_problem_unsupported(struct api_problem *problem, const char *param, const char *format,
                             ...)
{
    va_list args;
    va_start(args, format);
    set(problem, 400, "invalid_request_error", "unsupported_parameter", param, format, args);
    va_end(args);
}

void api_problem_of_code(struct api_problem *problem, uint32_t code, uint32_t retry_ms,
                         const char *text, size_t size)
{
    static const struct {
        unsigned status;
        const char *type, *code;
    } answers[] = {
        [TSR_CODE_INVALID] = {400, "invalid_request_error", "invalid_value"},
        [TSR_CODE_TOO_LARGE] = {400, "invalid_request_error", "context_length_exceeded"},
        [TSR_CODE_BUSY] = {429, "rate_limit_error", "engine_busy"},
        [TSR_CODE_UNSUPPORTED] = {400, "invalid_request_error", "unsupported"},
        [TSR_CODE_FORBIDDEN] = {403, "permission_error", "forbidden"},
        [TSR_CODE_SHUTDOWN] = {503, "server_error", "engine_unavailable"},
        [TSR_CODE_LIMIT] = {429, "rate_limit_error", "engine_limit"},
    };
    if (code >= sizeof answers / sizeof answers[0] || !answers[code].status) {
        api_problem_set(problem, 500, "server_error", "engine_error", NULL, "%.*s", (int)size,
                        text);
        return;
    }
    api_problem_set(problem, answers[code].status, answers[code].type, answers[code].code, NULL,
                    "%.*s", (int)size, text);
    if (answers[code].status == 429 || answers[code].status == 503) {
        problem->retry_s = retry_ms / 1000 + 1;
    }
}

void api_problem_late(struct api_problem *problem)
{
    api_problem_set(problem, 504, "timeout_error", "deadline_exceeded", NULL,
                    "the deadline passed before the answer was complete");
}

static void write_or_null(struct tsr_out *out, const char *text)
{
    if (text && *text) {
        tsr_out_string(out, text, strlen(text));
    } else {
        tsr_out_text(out, "null");
    }
}

void api_problem_write(const struct api_problem *problem, struct tsr_out *out)
{
    tsr_out_text(out, "{\"error\":{\"message\":");
    tsr_out_string(out, problem->text, strlen(problem->text));
    tsr_out_text(out, ",\"type\":");
    write_or_null(out, problem->type);
    tsr_out_text(out, ",\"param\":");
    write_or_null(out, problem->param);
    tsr_out_text(out, ",\"code\":");
    write_or_null(out, problem->code);
    tsr_out_text(out, "}}");
}
