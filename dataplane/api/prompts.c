#include "prompts_priv.h"

#include <string.h>

#include "engine_priv.h"

static void add_input(struct tsr_api_exchange *x, size_t off, struct api_problem *problem)
{
    struct api_input input;
    if (api_payload_end(x, off, &input, problem)) {
        tsr_out_bytes(&x->inputs, &input, sizeof input);
        x->n_inputs++;
    }
}

const struct api_input *api_input_at(const struct tsr_api_exchange *x, uint32_t i)
{
    return (const struct api_input *)(const void *)x->inputs.bytes + i;
}

static void read_text(struct tsr_api_exchange *x, const struct api_fields *fields, const char *name,
                      const struct tsr_json_value *value)
{
    size_t size, off = api_payload_begin(x);
    const char *text = tsr_json_text(fields->json, value, &size);
    if (size == 0) {
        api_problem_invalid(fields->problem, name, "'%s' is empty: it must have some text", name);
        return;
    }
    tsr_out_bytes(&x->payload, text, size);
    add_input(x, off, fields->problem);
}

void api_ids_read(struct tsr_api_exchange *x, const struct api_fields *fields, const char *name,
                  const struct tsr_json_value *array)
{
    size_t off = api_payload_begin(x);
    const struct tsr_json_value *value = tsr_json_first(fields->json, array);
    for (uint32_t i = 0; value; value = tsr_json_next(fields->json, value), i++) {
        int64_t id;
        if (tsr_json_type_of(value) != TSR_JSON_NUMBER ||
            !tsr_json_integer(fields->json, value, &id) || id < 0 ||
            id >= x->engine->hello.vocabulary) {
            api_problem_invalid(fields->problem, name, "'%s': entry %u is no token id from 0 to %u",
                                name, i, x->engine->hello.vocabulary - 1);
            return;
        }
        const uint32_t token = (uint32_t)id;
        tsr_out_bytes(&x->payload, &token, sizeof token);
    }
    if (x->payload.size == off) {
        api_problem_invalid(fields->problem, name, "'%s' has a prompt without any token", name);
        return;
    }
    add_input(x, off, fields->problem);
}

static void read_list(struct tsr_api_exchange *x, const struct api_fields *fields, const char *name,
                      const struct tsr_json_value *list, uint32_t max)
{
    const struct tsr_json_value *value = tsr_json_first(fields->json, list);
    enum tsr_json_type type = tsr_json_type_of(value);
    if (tsr_json_count(list) > max) {
        api_problem_invalid(fields->problem, name, "'%s' has %u entries; %u is all that it may",
                            name, tsr_json_count(list), max);
        return;
    }
    if (type == TSR_JSON_ARRAY) {
        api_submit_of(x)->kind = TSR_PAYLOAD_TOKENS;
    }
    for (; value && !fields->problem->status; value = tsr_json_next(fields->json, value)) {
        if (tsr_json_type_of(value) != type ||
            (type != TSR_JSON_STRING && type != TSR_JSON_ARRAY)) {
            api_field_wrong(fields, name, "a string, or an array of strings or of token ids",
                            value);
        } else if (type == TSR_JSON_STRING) {
            read_text(x, fields, name, value);
        } else {
            api_ids_read(x, fields, name, value);
        }
    }
}

void api_prompts_read(struct tsr_api_exchange *x, const struct api_fields *fields, const char *name,
                      uint32_t max)
{
    const struct tsr_json_value *value = api_field(fields, name);
    if (fields->problem->status) {
        return;
    }
    api_submit_of(x)->kind = TSR_PAYLOAD_TEXT;
    if (!value) {
        api_problem_set(fields->problem, 400, "invalid_request_error", "missing_required_parameter",
                        name, "'%s' is missing", name);
    } else if (tsr_json_type_of(value) == TSR_JSON_STRING) {
        read_text(x, fields, name, value);
    } else if (tsr_json_type_of(value) != TSR_JSON_ARRAY) {
        api_field_wrong(fields, name, "a string, or an array of strings or of token ids", value);
    } else if (tsr_json_count(value) == 0) {
        api_problem_invalid(fields->problem, name, "'%s' is empty: it must have an entry", name);
    } else if (tsr_json_type_of(tsr_json_first(fields->json, value)) == TSR_JSON_NUMBER) {
        api_submit_of(x)->kind = TSR_PAYLOAD_TOKENS;
        api_ids_read(x, fields, name, value);
    } else {
        read_list(x, fields, name, value, max);
    }
    if (x->inputs.full) {
        api_problem_set(fields->problem, 503, "server_error", "overloaded", NULL,
                        "there is no memory for the request: try again");
    }
}
