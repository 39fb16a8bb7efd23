#include "parts_priv.h"

#include <stdio.h>
#include <string.h>

#include "engine_priv.h"

static void write_head(const struct tsr_api_exchange *x, const char *object, struct tsr_out *out)
{
    tsr_out_text(out, "{\"id\":\"");
    tsr_out_text(out, x->id);
    tsr_out_text(out, "\",\"object\":\"");
    tsr_out_text(out, object);
    tsr_out_text(out, "\",\"created\":");
    tsr_out_int(out, x->created_s);
    tsr_out_text(out, ",\"model\":");
    tsr_out_bytes(out, x->engine->name_json.bytes, x->engine->name_json.size);
    tsr_out_text(out, ",");
}

struct tsr_out *api_event_begin(struct tsr_api_exchange *x, const char *object)
{
    struct tsr_out *out = api_whole(x->api);
    tsr_out_text(out, "data: ");
    write_head(x, object, out);
    return out;
}

void api_event_send(struct tsr_api_exchange *x, struct tsr_out *out)
{
    if (out->full) {
        x->torn = true;
    } else {
        api_body(x, out->bytes, out->size, x->token_ns);
    }
}

void api_stream_end(struct tsr_api_exchange *x, const char *object, bool details)
{
    if (x->wants.include_usage) {
        struct tsr_out *out = api_event_begin(x, object);
        tsr_out_text(out, "\"choices\":[],\"usage\":");
        api_usage_write(&x->usage, details, out);
        tsr_out_text(out, "}\n\n");
        api_event_send(x, out);
    }
    api_body(x, "data: [DONE]\n\n", 14, 0);
    api_end(x);
}

size_t api_text_piece(const char *text, size_t size)
{
    enum { PIECE = 16 << 10 };
    if (size <= PIECE) {
        return size;
    }
    size_t piece = PIECE;
    while (piece > PIECE - 4 && ((uint8_t)text[piece] & 0xc0) == 0x80) {
        piece--;
    }
    return piece;
}

struct tsr_out *api_object_begin(struct tsr_api_exchange *x, const char *object)
{
    struct tsr_out *out = api_whole(x->api);
    write_head(x, object, out);
    return out;
}

void api_piece_write(const struct tsr_out *escaped, struct tsr_out *out)
{
    tsr_out_text(out, "\"");
    api_append(escaped, out);
    tsr_out_text(out, "\"");
}

void api_append(const struct tsr_out *part, struct tsr_out *out)
{
    tsr_out_bytes(out, part->bytes, part->size);
    out->full |= part->full;
}

void api_usage_write(const struct api_usage *usage, bool details, struct tsr_out *out)
{
    tsr_out_format(out, "{\"prompt_tokens\":%u,\"completion_tokens\":%u,\"total_tokens\":%llu",
                   usage->prompt_tokens, usage->completion_tokens,
                   (unsigned long long)usage->prompt_tokens + usage->completion_tokens);
    tsr_out_format(out, ",\"prompt_tokens_details\":{\"cached_tokens\":%u}", usage->cached_tokens);
    if (details) {
        tsr_out_format(out, ",\"completion_tokens_details\":{\"reasoning_tokens\":%u}",
                       usage->reasoning_tokens);
    }
    tsr_out_text(out, "}");
}

const char *api_token_text(const struct api_token *token, size_t *size)
{
    struct tsr_wire_top top;
    const char *text;
    uint32_t at = 0;
    for (uint32_t i = 0; i < token->top_count && api_token_top(token, &at, &top, &text); i++) {
        if (top.token == token->token) {
            *size = top.text_bytes;
            return text;
        }
    }
    *size = token->text_bytes;
    return token->text;
}

double api_logprob(float logprob)
{
    return logprob >= -9999 ? (double)logprob : -9999;
}

void api_format_read(const struct api_fields *fields, const char *name)
{
    const struct tsr_json_value *value = api_field(fields, name);
    struct api_fields inner;
    char path[64];
    size_t size;
    if (!value) {
        return;
    }
    (void)snprintf(path, sizeof path, "%s%s", fields->path, name);
    api_fields_inner(&inner, fields, value, "%s.", path);
    const char *type = api_field_string(&inner, "type", &size);
    if (!fields->problem->status && (!type || !api_text_is(type, size, "text"))) {
        api_problem_unsupported(fields->problem, path,
                                "'%s' of type '%.*s' is not supported: this server answers in "
                                "plain text",
                                path, size < 40 ? (int)size : 40, type ? type : "");
    }
}

void api_verbosity_read(const struct api_fields *fields)
{
    size_t size;
    char param[sizeof fields->problem->param];
    const char *text = api_field_string(fields, "verbosity", &size);
    if (text && !api_text_is(text, size, "medium")) {
        (void)snprintf(param, sizeof param, "%sverbosity", fields->path);
        api_problem_unsupported(fields->problem, param,
                                "'%s' can be medium only: say in the prompt how long the answer "
                                "is to be",
                                param);
    }
}
