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

void tsr_textwork_do(struct tsr_textwork *work, struct tsr_request *request)
{
    if (atomic_load_explicit(&request->dead, memory_order_relaxed)) {
        return;
    }
    struct tsr_err err = {0};
    struct tsr_text_span text = {
        .text = (const char *)request->payload,
        .len = request->payload_bytes,
        .trusted = request->flags & TSR_SUBMIT_SPECIAL,
    };
    struct tsr_template_output rendered = {.spans = &text, .n_spans = 1};
    unsigned flags = request->flags & TSR_SUBMIT_NO_BOS ? 0 : TSR_ENCODE_ENDS;
    int rc = 0;
    if (request->kind == TSR_PAYLOAD_CHAT) {
        flags = 0; /* the template writes its own */
        rc = render(work, request, &rendered, &err);
    }
    size_t n = 0;
    if (rc == 0) {
        rc = tsr_tokenizer_encode(work->tokenizer, work->scratch, rendered.spans, rendered.n_spans,
                                  flags, request->tokens, request->tokens_cap, &n, &err);
    }
    if (rc == -ENOBUFS) {
        tsr_err_set(&err, rc, "the prompt has more than %u tokens, which is all that one can have",
                    request->tokens_cap);
    }
    for (size_t i = 0; i < n && rc == 0; i++) {
        if (request->tokens[i] >= work->ids_max) {
            rc = tsr_err_set(&err, -EINVAL,
                             "token %zu of the prompt is %u of the tokenizer, but the model has %u",
                             i, request->tokens[i], work->ids_max);
        }
    }
    request->n_tokens = (uint32_t)n;
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
