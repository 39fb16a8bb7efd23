/* A model's facts for people. */
#include "describe_priv.h"

#include <string.h>

#include "command_priv.h"

static const json_t *get(const json_t *object, const char *key)
{
    return json_object_get(object, key);
}

static long long number(const json_t *object, const char *key)
{
    return json_integer_value(json_object_get(object, key));
}

/* "12.3 MB" */
static const char *bytes(long long count, char out[24])
{
    static const char *const units[] = {"B", "kB", "MB", "GB", "TB"};
    double value = (double)count;
    size_t unit = 0;
    while (value >= 1000 && unit + 1 < sizeof units / sizeof *units) {
        value /= 1000;
        unit++;
    }
    snprintf(out, 24, unit && value < 100 ? "%.1f %s" : "%.0f %s", value, units[unit]);
    return out;
}

static void print_text(FILE *out, const json_t *value)
{
    command_write_text(out, json_string_value(value), json_string_length(value));
}

static void print_shape(FILE *out, const json_t *shape)
{
    const char *key;
    json_t *value;
    fprintf(out, "shape         ");
    size_t column = 0;
    json_object_foreach((json_t *)shape, key, value)
    {
        if (column > 72) {
            fprintf(out, "\n              ");
            column = 0;
        }
        fprintf(out, "%s%s ", column ? "  " : "", key);
        column += strlen(key) + 10;
        if (json_is_string(value)) {
            print_text(out, value);
        } else {
            fprintf(out, "%.7g", json_number_value(value));
        }
    }
    fputc('\n', out);
}

static void print_types(FILE *out, const json_t *types)
{
    const json_t *row;
    char size[24];
    size_t i;
    json_array_foreach(types, i, row)
    {
        fprintf(out, "%-14s%-8s tensors %lld, elements %lld, %s\n", i ? "" : "types",
                json_string_value(get(row, "type")), number(row, "tensors"),
                number(row, "elements"), bytes(number(row, "bytes"), size));
    }
}

static void print_token(FILE *out, const char *what, const json_t *token)
{
    if (json_is_object(token)) {
        fprintf(out, "; %s %lld \"", what, number(token, "id"));
        print_text(out, get(token, "text"));
        fputc('"', out);
    }
}

static void print_language(FILE *out, const json_t *facts)
{
    const json_t *tokenizer = get(facts, "tokenizer"), *tmpl = get(facts, "template"), *end;
    size_t i;
    fprintf(out, "tokenizer     ");
    if (json_is_object(tokenizer)) {
        print_text(out, get(tokenizer, "description"));
        print_token(out, json_is_true(get(tokenizer, "adds_bos")) ? "BOS, added," : "BOS",
                    get(tokenizer, "bos"));
        print_token(out, json_is_true(get(tokenizer, "adds_eos")) ? "EOS, added," : "EOS",
                    get(tokenizer, "eos"));
        json_array_foreach(get(tokenizer, "ends"), i, end)
        {
            print_token(out, "ends", end);
        }
        fputc('\n', out);
    } else {
        fprintf(out, "none that can be used\n");
    }
    if (json_is_object(tmpl)) {
        fprintf(out, "template      %lld bytes\n", number(tmpl, "bytes"));
    } else {
        fprintf(out, "template      none\n");
    }
}

static void print_memory(FILE *out, const json_t *facts)
{
    const json_t *row;
    char size[5][24];
    size_t i;
    json_array_foreach(get(facts, "memory"), i, row)
    {
        if (i == 0) {
            fprintf(out, "memory        %-8s %10s %12s %10s %10s %10s   of %s\n", "weights as",
                    "packed", "KV/position", "KV pool", "buffers", "needed",
                    bytes(number(facts, "memory_available"), size[0]));
        }
        fprintf(
            out, "              %-10s %10s %12s %10s %10s %10s%s\n",
            json_string_value(get(row, "weights")), bytes(number(row, "weights_bytes"), size[0]),
            bytes(number(row, "kv_bytes_per_position"), size[1]),
            bytes(number(row, "kv_bytes"), size[2]), bytes(number(row, "buffer_bytes"), size[3]),
            bytes(number(row, "need_bytes"), size[4]),
            json_is_true(get(row, "fits")) ? "" : "   does not fit");
    }
}

static void print_tensors(FILE *out, const json_t *tensors)
{
    const json_t *row, *dim;
    size_t i, d;
    json_array_foreach(tensors, i, row)
    {
        fprintf(out, "tensor        ");
        print_text(out, get(row, "name"));
        fprintf(out, "  %s [", json_string_value(get(row, "type")));
        json_array_foreach(get(row, "dims"), d, dim)
        {
            fprintf(out, "%s%lld", d ? ", " : "", json_integer_value(dim));
        }
        fprintf(out, "]\n");
    }
}

void tsr_describe_print(FILE *out, const json_t *facts)
{
    const json_t *sentence;
    char size[24];
    size_t i;
    fprintf(out, "model         ");
    print_text(out, get(facts, get(facts, "name") ? "name" : "path"));
    if (get(facts, "format")) {
        fprintf(out, ": %s, %s", json_string_value(get(facts, "format")),
                bytes(number(facts, "file_bytes"), size));
    }
    if (get(facts, "architecture")) {
        fprintf(out, "\narchitecture  ");
        print_text(out, get(facts, "architecture"));
        if (get(facts, "parameters")) {
            fprintf(out, ", %.1f M parameters", (double)number(facts, "parameters") / 1e6);
        }
        if (get(facts, "context")) {
            fprintf(out, ", context %lld", number(facts, "context"));
        }
    }
    fputc('\n', out);
    if (get(facts, "shape")) {
        print_shape(out, get(facts, "shape"));
    }
    print_types(out, get(facts, "types"));
    print_language(out, facts);
    print_memory(out, facts);
    print_tensors(out, get(facts, "tensors"));
    json_array_foreach(get(facts, "unsupported"), i, sentence)
    {
        fprintf(out, "%-14s", i ? "" : "unsupported");
        print_text(out, sentence);
        fputc('\n', out);
    }
}
