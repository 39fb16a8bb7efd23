#include "tessera_priv.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static_assert(TESSERA_TOP_MAX == TSR_WIRE_TOP_LOGPROBS_MAX, "limits agree");
static_assert(TESSERA_STOPS_MAX == TSR_WIRE_STOPS_MAX, "limits agree");
static_assert(TESSERA_STOP_BYTES == TSR_WIRE_STOP_BYTES_MAX, "limits agree");
static_assert(TESSERA_BIASES_MAX == TSR_WIRE_BIAS_MAX, "limits agree");
static_assert((int)TESSERA_END == TSR_REASON_END && (int)TESSERA_WRITTEN == TSR_REASON_WRITTEN,
              "reasons agree");
static_assert((int)TESSERA_POOLING_LAST == TSR_POOLING_LAST &&
                  (int)TESSERA_TOOLS_MISTRAL == TSR_TOOLS_MISTRAL,
              "what HELLO says of the model agrees");
static_assert((int)TESSERA_CODE_BUSY == TSR_CODE_BUSY &&
                  (int)TESSERA_CODE_SHUTDOWN == TSR_CODE_SHUTDOWN,
              "codes agree");

enum { CREDIT_USUAL = 256, HANDSHAKE_MS_USUAL = 5000, REQUESTS_MAX = 65535 };

int tessera_fail(struct tessera_error *err, int code, const char *format, ...)
{
    if (err) {
        *err = (struct tessera_error){.code = code, .permille = -1};
        va_list args;
        va_start(args, format);
        vsnprintf(err->text, sizeof err->text, format, args);
        va_end(args);
    }
    return code;
}

int tessera_lost(const struct tessera *t, struct tessera_error *err)
{
    return tessera_fail(err, -EPIPE, "%s", t->link.lost.text);
}

void tessera_connect_options_init(struct tessera_connect_options *options)
{
    *options = (struct tessera_connect_options){
        .size = sizeof *options,
        .timeout_ms = HANDSHAKE_MS_USUAL,
        .credit = CREDIT_USUAL,
    };
}

static int prepare(struct tessera *t, struct tessera_error *err)
{
    uint32_t count = t->link.hello.requests_max;
    if (count == 0 || count > REQUESTS_MAX) {
        return tessera_fail(err, -EPROTO,
                            "the engine allows %u requests at once, which makes no sense",
                            (unsigned)count);
    }
    t->lives = calloc(count, sizeof *t->lives);
    if (!t->lives) {
        return tessera_fail(err, -ENOMEM, "no memory for %u requests", (unsigned)count);
    }
    for (uint32_t i = 0; i < count; i++) {
        t->lives[i].next_free = i + 1 < count ? i + 2 : 0;
    }
    t->first_free = 1;
    t->outbox_end = &t->outbox;
    t->kept_end = &t->kept;
    t->quiet_ns = tsr_clock_ns();
    return 0;
}

int tessera_connect(struct tessera **out, const char *path,
                    const struct tessera_connect_options *options, struct tessera_error *err)
{
    struct tessera_connect_options usual;
    if (!options) {
        tessera_connect_options_init(&usual);
        options = &usual;
    }
    *out = NULL;
    if (options->size != sizeof *options) {
        return tessera_fail(err, -EINVAL,
                            "the connect options were not made by tessera_connect_options_init()");
    }
    if (!path) {
        path = getenv("TESSERA_SOCKET");
    }
    if (!path || !*path) {
        path = TESSERA_SOCKET;
    }
    struct tessera *t = calloc(1, sizeof *t);
    if (!t) {
        return tessera_fail(err, -ENOMEM, "no memory for a connection");
    }
    t->wait_mode = options->wait_mode;
    t->credit = options->credit;
    struct tsr_link_refusal refusal;
    struct tsr_err why;
    int result = tsr_link_open(&t->link, path, options->name, options->timeout_ms, &refusal, &why);
    if (result) {
        tessera_fail(err, result, "%s", why.text);
        if (err) {
            err->retry_ms = (int)refusal.retry_ms;
            err->permille = refusal.loading ? (int)refusal.permille : -1;
        }
    } else {
        result = prepare(t, err);
    }
    if (result) {
        tessera_close(t);
        return result;
    }
    *out = t;
    return 0;
}

void tessera_close(struct tessera *t)
{
    if (!t) {
        return;
    }
    tsr_link_close(&t->link);
    tessera_outbox_clear(t);
    while (t->kept) {
        struct kept *next = t->kept->next;
        free(t->kept);
        t->kept = next;
    }
    free(t->shown);
    free(t->lives);
    free(t->pieces);
    free(t);
}

void tessera_info(struct tessera *t, struct tessera_info *info)
{
    const struct tsr_wire_hello *hello = &t->link.hello;
    *info = (struct tessera_info){
        .model = hello->model,
        .architecture = hello->architecture,
        .weights = hello->weights,
        .engine = hello->engine,
        .context_tokens = hello->context_tokens,
        .request_tokens_max = hello->request_tokens_max,
        .sequences_max = hello->sequences_max,
        .queue_max = hello->queue_max,
        .requests_max = hello->requests_max,
        .payload_bytes_max = hello->payload_bytes_max,
        .vocabulary = hello->vocabulary,
        .tokens_max_default = hello->tokens_max_default,
        .top_logprobs_max = hello->top_logprobs_max,
        .park_seconds = hello->park_seconds,
        .weights_bytes = hello->weights_bytes,
        .parameters = hello->parameters,
        .embedding_width = hello->embedding_width,
        .pooling = (enum tessera_pooling)hello->pooling,
        .has_chat = (hello->flags & TSR_HELLO_CHAT) != 0,
        .has_tools = (hello->flags & TSR_HELLO_TOOLS) != 0,
        .has_reasoning = (hello->flags & TSR_HELLO_REASONING) != 0,
        .tools = (enum tessera_tools)hello->tools,
        .may_poll = tsr_link_may_poll(&t->link),
    };
}

uint32_t tessera_live(const struct tessera *t)
{
    return t->live_count;
}

const char *tessera_reason_name(enum tessera_reason reason)
{
    return tsr_reason_name((uint32_t)reason);
}

const char *tessera_code_name(enum tessera_code code)
{
    return tsr_code_name((uint32_t)code);
}
