#include <tsr/serve/textwork.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <tsr/shm/log.h>

/* In appliance mode the frontend wakes nobody: the thread looks this often. */
static const long nap_ns = 500000;

int tsr_textwork_create(struct tsr_textwork **out, const struct tsr_tokenizer *tokenizer,
                        uint32_t ids_max, size_t payload_bytes, struct tsr_err *err)
{
    *out = NULL;
    struct tsr_textwork *work = aligned_alloc(64, (sizeof *work + 63) & ~(size_t)63);
    if (!work) {
        return tsr_err_set(err, -ENOMEM, "no memory for the text thread");
    }
    memset(work, 0, sizeof *work);
    work->tokenizer = tokenizer;
    work->ids_max = ids_max;
    int rc = tsr_tokenizer_scratch_create(&work->scratch, tokenizer, payload_bytes, err);
    if (rc < 0) {
        goto fail;
    }
    const struct tsr_vocab *vocab = tsr_tokenizer_vocab(tokenizer);
    work->piece = malloc(tsr_detok_out_max(vocab));
    if (!work->piece) {
        rc = tsr_err_set(err, -ENOMEM, "no memory for the text of a token");
        goto fail;
    }
    work->bos = tsr_vocab_text_copy(vocab, vocab->bos);
    work->eos = tsr_vocab_text_copy(vocab, vocab->eos);

    const char *source = tsr_tokenizer_chat_template(tokenizer);
    struct tsr_err why = {0};
    if (source && tsr_template_parse(&work->tmpl, source, strlen(source), &why) < 0) {
        tsr_log(TSR_LOG_WARN, "the model's chat template cannot be used, chats are refused: %s",
                why.text);
        work->tmpl = NULL;
    }
    if (work->tmpl) {
        struct tsr_template_limits limits;
        tsr_template_limits_init(&limits);
        limits.output_bytes = 2 * payload_bytes + (1 << 20);
        rc = tsr_template_scratch_create(&work->tmpl_scratch, &limits, err);
        work->messages = calloc(TSR_WIRE_MESSAGES_MAX, sizeof *work->messages);
        if (rc == 0 && !work->messages) {
            rc = tsr_err_set(err, -ENOMEM, "no memory for %d messages", TSR_WIRE_MESSAGES_MAX);
        }
        if (rc < 0) {
            goto fail;
        }
    }
    *out = work;
    return 0;

fail:
    tsr_textwork_destroy(work);
    return rc;
}

void tsr_textwork_destroy(struct tsr_textwork *work)
{
    if (!work) {
        return;
    }
    tsr_textwork_stop(work);
    if (work->tmpl_scratch) {
        tsr_template_scratch_destroy(work->tmpl_scratch);
    }
    if (work->tmpl) {
        tsr_template_destroy(work->tmpl);
    }
    if (work->scratch) {
        tsr_tokenizer_scratch_destroy(work->scratch);
    }
    free(work->messages);
    free(work->piece);
    free(work->bos);
    free(work->eos);
    free(work);
}

static int render(struct tsr_textwork *work, const struct tsr_request *request,
                  struct tsr_template_output *out, struct tsr_err *err)
{
    if (!work->tmpl) {
        return tsr_err_set(err, -ENOTSUP,
                           "this model has no usable chat template; send the prompt as text");
    }
    struct tsr_wire_chat chat;
    int rc = tsr_wire_chat_open(&chat, request->payload, request->payload_bytes, err);
    if (rc < 0) {
        return rc;
    }
    size_t n = 0;
    struct tsr_wire_message message;
    while (n < TSR_WIRE_MESSAGES_MAX && tsr_wire_chat_next(&chat, &message) == 1) {
        work->messages[n++] = (struct tsr_template_message){
            .role = message.role,
            .role_len = message.role_bytes,
            .content = message.content,
            .content_len = message.content_bytes,
        };
    }
    const char *json = NULL;
    uint32_t json_len = 0;
    tsr_wire_chat_extra(&chat, &json, &json_len);
    const struct tsr_template_input input = {
        .messages = work->messages,
        .n_messages = n,
        .add_generation_prompt = !(request->flags & TSR_SUBMIT_NO_TURN),
        .bos_token = work->bos,
        .eos_token = work->eos,
        .json = json_len ? json : NULL,
        .json_len = json_len,
        .now_s = (int64_t)time(NULL),
    };
    return tsr_template_render(work->tmpl, work->tmpl_scratch, &input, out, err);
}

static enum tsr_code code_of(int rc)
{
    switch (rc) {
    case -E2BIG:
    case -ENOBUFS:
        return TSR_CODE_TOO_LARGE;
    case -EINVAL:
        return TSR_CODE_INVALID;
    case -ENOTSUP:
        return TSR_CODE_UNSUPPORTED;
    case -ENOMEM:
        return TSR_CODE_BUSY;
    default:
        return TSR_CODE_INTERNAL;
    }
}

/* How long the ids' text is; the frontend makes it again, part by part. */
static int measure(struct tsr_textwork *work, struct tsr_request *request, struct tsr_err *err)
{
    struct tsr_detok detok;
    uint64_t bytes = 0;
    tsr_detok_init(&detok, tsr_tokenizer_vocab(work->tokenizer),
                   request->flags & TSR_SUBMIT_SHOW_SPECIAL);
    for (uint32_t i = 0; i < request->n_tokens; i++) {
        bytes += tsr_detok_push(&detok, request->tokens[i], work->piece);
    }
    bytes += tsr_detok_flush(&detok, work->piece);
    request->text_total = (uint32_t)bytes;
    return bytes <= UINT32_MAX ? 0
                               : tsr_err_set(err, -E2BIG, "the text of %u tokens has %llu bytes",
                                             request->n_tokens, (unsigned long long)bytes);
}

static int keep_rendered(struct tsr_request *request, const struct tsr_template_output *rendered,
                         struct tsr_err *err)
{
    size_t room = request->tokens_cap * sizeof *request->tokens;
    if (rendered->len > room) {
        return tsr_err_set(err, -E2BIG,
                           "the rendered chat has %zu bytes; one that was sent in %u can have %zu",
                           rendered->len, request->payload_bytes, room);
    }
    memcpy(request->tokens, rendered->text, rendered->len);
    request->text_total = (uint32_t)rendered->len;
    return 0;
}

static int tokenize(struct tsr_textwork *work, struct tsr_request *request,
                    const struct tsr_template_output *text, unsigned flags, struct tsr_err *err)
{
    size_t n = 0;
    int rc = tsr_tokenizer_encode(work->tokenizer, work->scratch, text->spans, text->n_spans, flags,
                                  request->tokens, request->tokens_cap, &n, err);
    if (rc == -ENOBUFS) {
        tsr_err_set(err, rc, "the prompt has more than %u tokens, which is all that one can have",
                    request->tokens_cap);
    }
    for (size_t i = 0; i < n && rc == 0; i++) {
        if (request->tokens[i] >= work->ids_max) {
            rc = tsr_err_set(err, -EINVAL,
                             "token %zu of the prompt is %u of the tokenizer, but the model has %u",
                             i, request->tokens[i], work->ids_max);
        }
    }
    request->n_tokens = (uint32_t)n;
    return rc;
}

static int do_text(struct tsr_textwork *work, struct tsr_request *request, struct tsr_err *err)
{
    const struct tsr_text_span span = {
        .text = (const char *)request->payload,
        .len = request->payload_bytes,
        .trusted = request->flags & TSR_SUBMIT_SPECIAL,
    };
    const struct tsr_template_output text = {.spans = &span, .n_spans = 1};
    return tokenize(work, request, &text, request->flags & TSR_SUBMIT_NO_BOS ? 0 : TSR_ENCODE_ENDS,
                    err);
}

static int do_chat(struct tsr_textwork *work, struct tsr_request *request, struct tsr_err *err)
{
    struct tsr_template_output rendered;
    int rc = render(work, request, &rendered, err);
    if (rc < 0) {
        return rc;
    }
    request->in_reasoning = rendered.in_reasoning;
    request->continued = rendered.continued;
    return request->flags & TSR_SUBMIT_RENDER
               ? keep_rendered(request, &rendered, err)
               : tokenize(work, request, &rendered, 0, err); /* the template writes its own ends */
}

void tsr_textwork_do(struct tsr_textwork *work, struct tsr_request *request)
{
    if (atomic_load_explicit(&request->dead, memory_order_relaxed)) {
        return;
    }
    struct tsr_err err = {0};
    int rc = request->kind == TSR_PAYLOAD_TOKENS ? measure(work, request, &err)
             : request->kind == TSR_PAYLOAD_CHAT ? do_chat(work, request, &err)
                                                 : do_text(work, request, &err);
    request->code = rc < 0 ? code_of(rc) : TSR_CODE_OK;
    request->sentence[0] = '\0';
    if (rc < 0) {
        size_t len = strnlen(err.text, sizeof request->sentence - 1);
        memcpy(request->sentence, err.text, len);
        request->sentence[len] = '\0';
    }
}

static void *run(void *ctx)
{
    struct tsr_textwork *work = ctx;
    struct tsr_frontend *f = work->frontend;
    struct tsr_lane_item item;
    pthread_setname_np(pthread_self(), "text");
    while (!atomic_load_explicit(&work->stop, memory_order_acquire)) {
        if (tsr_lane_pop(&f->to_text, &item)) {
            tsr_textwork_do(work, item.pointer);
            tsr_lane_push(&f->from_text, item);
            tsr_sleeper_wake(&f->sleeper);
        } else if (f->options.spin) {
            clock_nanosleep(CLOCK_MONOTONIC, 0, &(struct timespec){.tv_nsec = nap_ns}, NULL);
        } else {
            uint32_t armed = tsr_sleeper_arm(&work->sleeper);
            if (!tsr_lane_has_item(&f->to_text) &&
                !atomic_load_explicit(&work->stop, memory_order_seq_cst)) {
                tsr_sleeper_wait(&work->sleeper, armed, UINT64_MAX);
            }
            tsr_sleeper_awake(&work->sleeper);
        }
    }
    return NULL;
}

int tsr_textwork_start(struct tsr_textwork *work, struct tsr_frontend *frontend,
                       struct tsr_err *err)
{
    work->frontend = frontend;
    frontend->text_sleeper = &work->sleeper;
    int rc = pthread_create(&work->thread, NULL, run, work);
    if (rc != 0) {
        return tsr_err_set(err, -rc, "cannot start the text thread: %s", strerror(rc));
    }
    work->running = true;
    return 0;
}

void tsr_textwork_stop(struct tsr_textwork *work)
{
    if (!work->running) {
        return;
    }
    atomic_store_explicit(&work->stop, true, memory_order_seq_cst);
    tsr_sleeper_wake(&work->sleeper);
    pthread_join(work->thread, NULL);
    work->running = false;
}
