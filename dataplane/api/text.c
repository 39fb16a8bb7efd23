/* /tokenize, /detokenize, /apply-template: text and ids, as vLLM's and llama.cpp's servers have
 * them where they agree. */
#include <string.h>

#include "engine_priv.h"
#include "messages_priv.h"
#include "parts_priv.h"
#include "prompts_priv.h"
#include "route_priv.h"

enum { IDS = API_OUT_TEXT, STRINGS = API_OUT_REASONING };

/* ---- Answers ---- */

static bool take_tokens(struct api_ask *ask, const void *record, const struct tsr_record_info *info)
{
    struct tsr_wire_tokens event;
    struct tsr_wire_piece piece;
    if (info->type != TSR_EV_TOKENS || info->bytes < sizeof event) {
        return false;
    }
    memcpy(&event, record, sizeof event);
    if (event.count > (info->bytes - sizeof event) / sizeof piece) {
        return false;
    }
    const uint8_t *pieces = (const uint8_t *)record + sizeof event;
    const char *text = (const char *)pieces + event.count * sizeof piece;
    size_t left = (size_t)((const char *)record + info->bytes - text);
    for (uint32_t i = 0; i < event.count; i++) {
        memcpy(&piece, pieces + i * sizeof piece, sizeof piece);
        size_t size = piece.text_bytes < left ? piece.text_bytes : left;
        tsr_out_format(&ask->outs[IDS], "%s%u", ask->pieces ? "," : "", piece.token);
        if (ask->exchange->wants.pieces) {
            tsr_out_text(&ask->outs[STRINGS], ask->pieces ? "," : "");
            tsr_out_string(&ask->outs[STRINGS], text, size);
        }
        text += size;
        left -= size;
        ask->pieces++;
    }
    return true;
}

static void tokens_end(struct tsr_api_exchange *x)
{
    struct tsr_out *out = api_whole(x->api);
    struct api_ask *ask = x->asks;
    tsr_out_format(out, "{\"count\":%u,\"max_model_len\":%u,\"tokens\":[", ask->pieces,
                   x->engine->hello.context_tokens);
    api_append(&ask->outs[IDS], out);
    tsr_out_text(out, "],\"token_strs\":");
    tsr_out_text(out, x->wants.pieces ? "[" : "null");
    api_append(&ask->outs[STRINGS], out);
    tsr_out_text(out, x->wants.pieces ? "]}" : "}");
    api_answer_json(x, out);
}

static bool take_text(struct api_ask *ask, const void *record, const struct tsr_record_info *info)
{
    struct tsr_wire_text event;
    if (info->type != TSR_EV_TEXT || info->bytes < sizeof event) {
        return false;
    }
    memcpy(&event, record, sizeof event);
    size_t most = info->bytes - sizeof event;
    tsr_out_escaped(&ask->outs[API_OUT_TEXT], (const char *)record + sizeof event,
                    event.text_bytes < most ? event.text_bytes : most);
    return true;
}

static void answer_text(struct tsr_api_exchange *x, const struct tsr_out *text)
{
    struct tsr_out *out = api_whole(x->api);
    tsr_out_text(out, "{\"prompt\":");
    api_piece_write(text, out);
    if (x->wants.echo) { /* llama.cpp's name for a detokenized text */
        tsr_out_text(out, ",\"content\":");
        api_piece_write(text, out);
    }
    tsr_out_text(out, "}");
    api_answer_json(x, out);
}

static void text_end(struct tsr_api_exchange *x)
{
    answer_text(x, &x->asks->outs[API_OUT_TEXT]);
}

static const struct api_style tokens_style = {.event = take_tokens, .end = tokens_end};
static const struct api_style text_style = {.event = take_text, .end = text_end};

/* ---- Requests ---- */

static bool begin(struct tsr_api_exchange *x, struct api_fields *fields, uint16_t flags)
{
    x->wants.choices = 1;
    api_fields_root(fields, x->json, fields->problem);
    if (api_model_read(x, fields)) {
        api_submit_begin(x, TSR_PAYLOAD_TEXT, flags, fields->problem);
    }
    return fields->problem->status == 0;
}

static void ask(struct tsr_api_exchange *x, const struct api_input *input,
                const struct api_style *style, struct api_problem *problem)
{
    if (problem->status || !api_choices_add(x, input, problem)) {
        api_refuse(x, problem);
        return;
    }
    x->style = style;
    api_ask_all(x);
}

static void chat_payload(struct tsr_api_exchange *x, const struct api_fields *fields,
                         struct api_input *input)
{
    if (!api_chat_possible(x, fields->problem)) {
        return;
    }
    api_submit_of(x)->kind = TSR_PAYLOAD_CHAT;
    api_submit_of(x)->flags |= api_turn_flag(fields);
    size_t off = api_chat_payload_begin(x);
    api_messages_write(x, fields, &x->payload);
    api_tools_read(x, fields, false, &x->payload);
    api_template_write(fields, &x->payload);
    api_chat_payload_end(x, off);
    api_payload_end(x, off, input, fields->problem);
}

/* vLLM's `prompt` gets the model's special tokens unless told otherwise, llama.cpp's `content` does
 * not; special tokens that the text spells are recognised by both. */
static void text_payload(struct tsr_api_exchange *x, const struct api_fields *fields,
                         struct api_input *input)
{
    size_t size;
    bool is_content = api_field(fields, "prompt") == NULL && api_field(fields, "content") != NULL;
    const char *name = is_content ? "content" : "prompt";
    bool bos = !is_content;
    const char *text = api_field_string(fields, name, &size);
    api_field_bool(fields, is_content ? "add_special" : "add_special_tokens", &bos);
    if (!fields->problem->status && size == 0) {
        api_problem_set(fields->problem, 400, "invalid_request_error", "missing_required_parameter",
                        name, "'%s' must have some text, or 'messages' some message", name);
    }
    api_submit_of(x)->flags |= (uint16_t)(TSR_SUBMIT_SPECIAL | (bos ? 0 : TSR_SUBMIT_NO_BOS));
    size_t off = api_payload_begin(x);
    tsr_out_bytes(&x->payload, text ? text : "", size);
    api_payload_end(x, off, input, fields->problem);
}

void api_tokenize(struct tsr_api_exchange *x)
{
    struct api_problem problem = {0};
    struct api_fields fields = {.problem = &problem};
    struct api_input input = {0};
    if (begin(x, &fields, TSR_SUBMIT_TOKENIZE)) {
        api_field_bool(&fields, "return_token_strs", &x->wants.pieces);
        if (x->wants.pieces) {
            api_submit_of(x)->flags |= TSR_SUBMIT_PIECES;
        }
        if (api_field(&fields, "messages")) {
            chat_payload(x, &fields, &input);
        } else {
            text_payload(x, &fields, &input);
        }
    }
    ask(x, &input, &tokens_style, &problem);
}

void api_detokenize(struct tsr_api_exchange *x)
{
    struct api_problem problem = {0};
    struct api_fields fields = {.problem = &problem};
    x->wants.echo = true;
    if (begin(x, &fields, TSR_SUBMIT_DETOKENIZE | TSR_SUBMIT_SHOW_SPECIAL)) {
        const struct tsr_json_value *tokens = api_field_array(&fields, "tokens");
        if (!problem.status && tokens && tsr_json_count(tokens) == 0) {
            static const struct tsr_out nothing;
            answer_text(x, &nothing);
            return;
        }
        if (!problem.status && !tokens) {
            api_problem_set(&problem, 400, "invalid_request_error", "missing_required_parameter",
                            "tokens", "'tokens' is missing");
        }
        api_submit_of(x)->kind = TSR_PAYLOAD_TOKENS;
        if (!problem.status) {
            api_ids_read(x, &fields, "tokens", tokens);
        }
    }
    ask(x, problem.status ? NULL : api_input_at(x, 0), &text_style, &problem);
}

void api_apply_template(struct tsr_api_exchange *x)
{
    struct api_problem problem = {0};
    struct api_fields fields = {.problem = &problem};
    struct api_input input = {0};
    if (begin(x, &fields, TSR_SUBMIT_RENDER)) {
        chat_payload(x, &fields, &input);
    }
    ask(x, &input, &text_style, &problem);
}
