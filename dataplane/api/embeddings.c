/* /v1/embeddings: a list of inputs, some of them asked at once. */
#include <math.h>
#include <string.h>

#include "engine_priv.h"
#include "parts_priv.h"
#include "prompts_priv.h"
#include "route_priv.h"

enum {
    AT_ONCE = 16,
    FLOAT_CHARS = 16, /* of a number in JSON, with its comma, at most */
};

static float *values_of(const struct tsr_api_exchange *x, uint32_t index)
{
    return (float *)(void *)x->extra.bytes + (size_t)index * x->engine->hello.embedding_width;
}

static bool take_embedding(struct api_ask *ask, const void *record,
                           const struct tsr_record_info *info)
{
    struct tsr_wire_embedding event;
    if (info->type != TSR_EV_EMBEDDING || info->bytes < sizeof event) {
        return false;
    }
    memcpy(&event, record, sizeof event);
    uint32_t width = ask->exchange->engine->hello.embedding_width;
    if (event.first > width || event.count > width - event.first ||
        event.count > (info->bytes - sizeof event) / sizeof(float)) {
        return false;
    }
    memcpy(values_of(ask->exchange, ask->index) + event.first,
           (const uint8_t *)record + sizeof event, event.count * sizeof(float));
    return true;
}

static void next_input(struct api_ask *ask)
{
    struct tsr_api_exchange *x = ask->exchange;
    if (x->next_input < x->n_inputs) {
        const struct api_input *input = api_input_at(x, x->next_input);
        api_ask_again(ask, x->next_input++, input->off, input->bytes);
    }
}

/* ---- The answer ---- */

static void write_base64(const uint8_t *bytes, size_t size, struct tsr_out *out)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < size; i += 3) {
        size_t left = size - i;
        uint32_t word = (uint32_t)bytes[i] << 16 | (left > 1 ? (uint32_t)bytes[i + 1] << 8 : 0) |
                        (left > 2 ? bytes[i + 2] : 0);
        const char four[4] = {digits[word >> 18], digits[word >> 12 & 63],
                              left > 1 ? digits[word >> 6 & 63] : '=',
                              left > 2 ? digits[word & 63] : '='};
        tsr_out_bytes(out, four, sizeof four);
    }
}

static void write_values(const struct tsr_api_exchange *x, const float *values, struct tsr_out *out)
{
    uint32_t width = x->engine->hello.embedding_width;
    if (x->wants.base64) {
        tsr_out_text(out, "\"");
        write_base64((const uint8_t *)values, width * sizeof *values, out);
        tsr_out_text(out, "\"");
        return;
    }
    for (uint32_t i = 0; i < width; i++) {
        double value = isfinite(values[i]) ? (double)values[i] : 0;
        tsr_out_format(out, "%s%.9g", i ? "," : "[", value);
    }
    tsr_out_text(out, "]");
}

static void end(struct tsr_api_exchange *x)
{
    struct tsr_out *out = api_whole(x->api);
    tsr_out_text(out, "{\"object\":\"list\",\"data\":[");
    for (uint32_t i = 0; i < x->n_inputs; i++) {
        tsr_out_format(out, "%s{\"object\":\"embedding\",\"index\":%u,\"embedding\":", i ? "," : "",
                       i);
        write_values(x, values_of(x, i), out);
        tsr_out_text(out, "}");
    }
    tsr_out_text(out, "],\"model\":");
    tsr_out_bytes(out, x->engine->name_json.bytes, x->engine->name_json.size);
    tsr_out_format(out, ",\"usage\":{\"prompt_tokens\":%u,\"total_tokens\":%u}}",
                   x->usage.prompt_tokens, x->usage.prompt_tokens);
    api_answer_json(x, out);
}

static const struct api_style style = {.event = take_embedding, .ask_end = next_input, .end = end};

/* ---- The request ---- */

static void read_format(struct tsr_api_exchange *x, const struct api_fields *fields)
{
    uint32_t width = x->engine->hello.embedding_width, dimensions = width;
    size_t size;
    const char *format = api_field_string(fields, "encoding_format", &size);
    if (format && api_text_is(format, size, "base64")) {
        x->wants.base64 = true;
    } else if (format && !api_text_is(format, size, "float")) {
        api_problem_invalid(fields->problem, "encoding_format",
                            "'encoding_format' is '%.*s'; it can be float or base64",
                            size < 40 ? (int)size : 40, format);
    }
    api_field_uint32(fields, "dimensions", 1, UINT32_MAX, &dimensions);
    if (dimensions != width) {
        api_problem_unsupported(fields->problem, "dimensions",
                                "'dimensions' is %u; embeddings of the model '%s' have %u",
                                dimensions, x->engine->name, width);
    }
}

/* Room for all values; an answer must not become larger than answers may. */
static void make_room(struct tsr_api_exchange *x, struct api_problem *problem)
{
    uint64_t floats = (uint64_t)x->n_inputs * x->engine->hello.embedding_width;
    if (floats > API_ANSWER_BYTES_MAX / FLOAT_CHARS) {
        api_problem_invalid(problem, "input",
                            "%u inputs make an answer that is too large: send %llu at a time",
                            x->n_inputs,
                            (unsigned long long)(API_ANSWER_BYTES_MAX / FLOAT_CHARS /
                                                 x->engine->hello.embedding_width));
        return;
    }
    static const float zeros[256];
    for (uint64_t i = 0; i < floats; i += 256) {
        tsr_out_bytes(&x->extra, zeros, (floats - i < 256 ? floats - i : 256) * sizeof *zeros);
    }
    if (x->extra.full) {
        api_problem_set(problem, 503, "server_error", "overloaded", NULL,
                        "there is no memory for the answer: try again");
    }
}

void api_embeddings(struct tsr_api_exchange *x)
{
    struct api_problem problem = {0};
    struct api_fields fields;
    api_fields_root(&fields, x->json, &problem);
    if (api_model_read(x, &fields) && x->engine->hello.embedding_width == 0) {
        api_problem_unsupported(&problem, "model", "the model '%s' makes no embeddings",
                                x->engine->name);
    }
    if (!problem.status) {
        api_submit_begin(x, TSR_PAYLOAD_TEXT, TSR_SUBMIT_EMBED, &problem);
    }
    if (!problem.status) {
        x->wants.choices = 1;
        read_format(x, &fields);
        api_prompts_read(x, &fields, "input", API_INPUTS_MAX);
    }
    if (!problem.status) {
        make_room(x, &problem);
    }
    while (!problem.status && x->next_input < x->n_inputs && x->next_input < AT_ONCE) {
        api_choices_add(x, api_input_at(x, x->next_input++), &problem);
    }
    if (problem.status) {
        api_refuse(x, &problem);
        return;
    }
    x->style = &style;
    api_ask_all(x);
}
