#include "sampling_priv.h"

#include <stdio.h>
#include <string.h>

#include "engine_priv.h"

void api_submit_begin(struct tsr_api_exchange *x, enum tsr_payload_kind kind, uint16_t flags,
                      struct api_problem *problem)
{
    const struct tsr_wire_submit submit = {
        .tenant = x->engine->hello.flags & TSR_HELLO_TENANTS ? x->tenant : 0,
        .kind = (uint8_t)kind,
        .priority = x->priority,
        .flags = flags,
        .credit = x->api->options.credit_tokens,
        .deadline_ms = x->deadline_ms,
        .top_p = 1,
        .repetition_penalty = 1,
    };
    tsr_out_clear(&x->submit);
    tsr_out_bytes(&x->submit, &submit, sizeof submit);
    if (x->submit.full) {
        api_problem_set(problem, 503, "server_error", "overloaded", NULL,
                        "there is no memory for the request: try again");
    }
}

struct tsr_wire_submit *api_submit_of(struct tsr_api_exchange *x)
{
    return (struct tsr_wire_submit *)(void *)x->submit.bytes;
}

bool api_model_read(struct tsr_api_exchange *x, const struct api_fields *fields)
{
    size_t size;
    const char *name = api_field_string(fields, "model", &size);
    if (fields->problem->status) {
        return false;
    }
    x->engine = api_model_find(x->api, name ? name : "", size, fields->problem);
    return x->engine != NULL;
}

/* ---- Fields ---- */

#define TOP_P_MIN 1e-9f

/* What the model's files advise, as vLLM does. Without advice a request that says nothing of
 * sampling gets llama.cpp's defaults, since the whole distribution of a small model is mostly
 * noise; one that says anything gets OpenAI's for the rest: the distribution as it is. */
static void set_defaults(const struct api_fields *fields, const struct tsr_wire_hello *hello,
                         struct tsr_wire_submit *submit)
{
    const bool says = api_field(fields, "temperature") || api_field(fields, "top_p") ||
                      api_field(fields, "top_k") || api_field(fields, "min_p");
    if (hello->flags & TSR_HELLO_SAMPLING) {
        submit->temperature = hello->temperature;
        submit->top_p = hello->top_p;
        submit->min_p = hello->min_p;
        submit->top_k = hello->top_k;
        submit->repetition_penalty = hello->repetition_penalty;
        return;
    }
    submit->temperature = says ? 1 : 0.8f;
    submit->top_p = says ? 1 : 0.95f;
    submit->min_p = says ? 0 : 0.05f;
    submit->top_k = says ? 0 : 40;
    submit->repetition_penalty = 1;
}

static void read_numbers(const struct api_fields *fields, struct tsr_wire_submit *submit)
{
    int64_t top_k = 0;
    const struct tsr_json_value *value = api_field(fields, "top_k");
    api_field_number(fields, "temperature", 0, 2, &submit->temperature);
    api_field_number(fields, "top_p", 0, 1, &submit->top_p);
    submit->top_p = submit->top_p < TOP_P_MIN ? TOP_P_MIN : submit->top_p; /* 0: the best alone */
    api_field_number(fields, "min_p", 0, 1, &submit->min_p);
    api_field_number(fields, "repetition_penalty", 1e-3, 10, &submit->repetition_penalty);
    api_field_number(fields, "presence_penalty", -2, 2, &submit->presence_penalty);
    api_field_number(fields, "frequency_penalty", -2, 2, &submit->frequency_penalty);
    /* -1 is "off" in vLLM's words. */
    if (value && tsr_json_integer(fields->json, value, &top_k) && top_k == -1) {
        submit->top_k = 0;
    } else {
        api_field_uint32(fields, "top_k", 0, INT32_MAX, &submit->top_k);
    }
    bool ignore_eos = false;
    api_field_bool(fields, "ignore_eos", &ignore_eos);
    if (ignore_eos) {
        submit->flags |= TSR_SUBMIT_IGNORE_END;
    }
}

static void read_seed(const struct api_fields *fields, struct tsr_wire_submit *submit)
{
    const struct tsr_json_value *value = api_field(fields, "seed");
    int64_t seed;
    if (!value) {
        return;
    }
    if (!tsr_json_integer(fields->json, value, &seed)) {
        api_field_wrong(fields, "seed", "an integer", value);
        return;
    }
    submit->seed = (uint64_t)seed;
    submit->flags |= TSR_SUBMIT_SEEDED;
}

/* vLLM's: smaller is sooner, 0 is usual. The wire's: larger is sooner, 128 is usual. */
static void read_priority(const struct api_fields *fields, struct tsr_api_exchange *x,
                          struct tsr_wire_submit *submit)
{
    const struct tsr_json_value *value = api_field(fields, "priority");
    int64_t asked;
    if (!value) {
        return;
    }
    if (!tsr_json_integer(fields->json, value, &asked)) {
        api_field_wrong(fields, "priority", "an integer", value);
        return;
    }
    int64_t priority = asked > 128 ? 0 : asked < -127 ? 255 : 128 - asked;
    submit->priority = (uint8_t)(priority < x->priority_max ? priority : x->priority_max);
}

static void read_biases(const struct api_fields *fields, struct tsr_api_exchange *x)
{
    const struct tsr_json_value *object = api_field_object(fields, "logit_bias");
    if (!object) {
        return;
    }
    uint32_t count = tsr_json_count(object);
    if (count > TSR_WIRE_BIAS_MAX) {
        api_problem_invalid(fields->problem, "logit_bias",
                            "'logit_bias' has %u entries; %d is all that there may be", count,
                            TSR_WIRE_BIAS_MAX);
        return;
    }
    const struct tsr_json_value *value = tsr_json_first(fields->json, object);
    for (; value && !fields->problem->status; value = tsr_json_next(fields->json, value)) {
        size_t size;
        const char *key = tsr_json_key(fields->json, value, &size);
        uint64_t token = 0;
        for (size_t i = 0; i < size && token <= UINT32_MAX; i++) {
            token = key[i] >= '0' && key[i] <= '9' ? token * 10 + (uint64_t)(key[i] - '0')
                                                   : UINT64_MAX / 16;
        }
        double number = tsr_json_type_of(value) == TSR_JSON_NUMBER
                            ? tsr_json_number(fields->json, value)
                            : 1000;
        if (size == 0 || token >= x->engine->hello.vocabulary) {
            api_problem_invalid(fields->problem, "logit_bias",
                                "'logit_bias' names '%.*s', which is no token id below %u",
                                size < 40 ? (int)size : 40, key, x->engine->hello.vocabulary);
        } else if (!(number >= -100 && number <= 100)) {
            api_problem_invalid(fields->problem, "logit_bias",
                                "'logit_bias' of token %llu must be a number from -100 to 100",
                                (unsigned long long)token);
        }
        const struct tsr_wire_bias bias = {.token = (uint32_t)token, .bias = (float)number};
        tsr_out_bytes(&x->submit, &bias, sizeof bias);
    }
    api_submit_of(x)->bias_count = (uint16_t)count;
}

static void add_stop(const struct api_fields *fields, const struct tsr_json_value *value,
                     struct tsr_api_exchange *x)
{
    size_t size = 0;
    if (tsr_json_type_of(value) != TSR_JSON_STRING) {
        api_field_wrong(fields, "stop", "a string or an array of strings", value);
        return;
    }
    const char *text = tsr_json_text(fields->json, value, &size);
    if (size == 0 || size > TSR_WIRE_STOP_BYTES_MAX) {
        api_problem_invalid(fields->problem, "stop",
                            "a stop string of %zu bytes: each must have 1 to %d", size,
                            TSR_WIRE_STOP_BYTES_MAX);
        return;
    }
    const uint16_t bytes = (uint16_t)size;
    tsr_out_bytes(&x->submit, &bytes, sizeof bytes);
    tsr_out_bytes(&x->submit, text, size);
    api_submit_of(x)->stop_count++;
    api_submit_of(x)->stop_bytes += (uint32_t)(sizeof bytes + size);
}

static void read_stops(const struct api_fields *fields, struct tsr_api_exchange *x)
{
    const struct tsr_json_value *value = api_field(fields, "stop");
    if (value && tsr_json_type_of(value) == TSR_JSON_ARRAY) {
        if (tsr_json_count(value) > TSR_WIRE_STOPS_MAX) {
            api_problem_invalid(fields->problem, "stop",
                                "'stop' has %u strings; %d is all that there may be",
                                tsr_json_count(value), TSR_WIRE_STOPS_MAX);
            return;
        }
        value = tsr_json_first(fields->json, value);
        for (; value && !fields->problem->status; value = tsr_json_next(fields->json, value)) {
            add_stop(fields, value, x);
        }
    } else if (value) {
        add_stop(fields, value, x);
    }
}

static void read_stream(const struct api_fields *fields, struct api_wants *wants)
{
    api_field_bool(fields, "stream", &wants->stream);
    const struct tsr_json_value *value = api_field(fields, "stream_options");
    if (!value) {
        return;
    }
    struct api_fields inner;
    api_fields_inner(&inner, fields, value, "stream_options.");
    api_field_bool(&inner, "include_usage", &wants->include_usage);
    if (!wants->stream) {
        api_problem_invalid(fields->problem, "stream_options",
                            "'stream_options' is for streams: set 'stream' to true, or leave it "
                            "out");
    }
}

/* What changes nothing here (nothing is stored); of another type it is somebody's mistake. */
static void check_idle(const struct api_fields *fields)
{
    static const char *const strings[] = {"user", "safety_identifier", "prompt_cache_key",
                                          "service_tier"};
    bool store = false;
    api_field_bool(fields, "store", &store);
    for (size_t i = 0; i < sizeof strings / sizeof strings[0]; i++) {
        (void)api_field_string(fields, strings[i], &(size_t){0});
    }
    const struct tsr_json_value *metadata = api_field_object(fields, "metadata");
    const struct tsr_json_value *value = metadata ? tsr_json_first(fields->json, metadata) : NULL;
    for (; value; value = tsr_json_next(fields->json, value)) {
        if (tsr_json_type_of(value) != TSR_JSON_STRING) {
            api_field_wrong(fields, "metadata", "an object of strings", value);
        }
    }
}

/* What other servers have and would change the answer. */
static void refuse_others(const struct api_fields *fields)
{
    static const char *const names[] = {"guided_json",
                                        "guided_regex",
                                        "guided_choice",
                                        "guided_grammar",
                                        "structured_outputs",
                                        "grammar",
                                        "json_schema",
                                        "use_beam_search",
                                        "min_tokens",
                                        "stop_token_ids",
                                        "bad_words",
                                        "allowed_token_ids",
                                        "prompt_logprobs",
                                        "truncate_prompt_tokens",
                                        "include_stop_str_in_output",
                                        "logits_processors",
                                        "mirostat",
                                        "dry_multiplier",
                                        "xtc_probability",
                                        "dynatemp_range"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        api_field_unsupported(fields, names[i]);
    }
}

void api_sampling_read(struct tsr_api_exchange *x, const struct api_fields *fields)
{
    struct tsr_wire_submit *submit = api_submit_of(x);
    uint32_t choices = 1;
    set_defaults(fields, &x->engine->hello, submit);
    read_numbers(fields, submit);
    read_seed(fields, submit);
    read_priority(fields, x, submit);
    read_stream(fields, &x->wants);
    api_field_uint32(fields, "n", 1, API_CHOICES_MAX, &choices);
    x->wants.choices = choices;
    read_biases(fields, x);
    read_stops(fields, x);
    check_idle(fields);
    refuse_others(fields);
    while (x->submit.size % 8) {
        tsr_out_bytes(&x->submit, "", 1);
    }
    if (x->submit.full) {
        api_problem_set(fields->problem, 503, "server_error", "overloaded", NULL,
                        "there is no memory for the request: try again");
    }
}

/* ---- Payloads ---- */

size_t api_payload_begin(struct tsr_api_exchange *x)
{
    while (x->payload.size % 8) {
        tsr_out_bytes(&x->payload, "", 1);
    }
    return x->payload.size;
}

bool api_payload_end(struct tsr_api_exchange *x, size_t off, struct api_input *input,
                     struct api_problem *problem)
{
    size_t size = x->payload.size - off;
    if (x->payload.full) {
        api_problem_set(problem, 503, "server_error", "overloaded", NULL,
                        "there is no memory for the request: try again");
    } else if (size > x->engine->hello.payload_bytes_max) {
        api_problem_set(problem, 400, "invalid_request_error", "context_length_exceeded", NULL,
                        "the prompt has %zu bytes; the engine takes %u", size,
                        x->engine->hello.payload_bytes_max);
    }
    *input = (struct api_input){.off = off, .bytes = (uint32_t)size};
    return problem->status == 0;
}

bool api_choices_add(struct tsr_api_exchange *x, const struct api_input *input,
                     struct api_problem *problem)
{
    uint32_t first = x->asks_live;
    for (uint32_t i = 0; i < x->wants.choices && !problem->status; i++) {
        struct api_ask *ask = api_ask_add(x, input, problem);
        if (ask) {
            ask->index = first + i;
        }
    }
    return problem->status == 0;
}
