/* Splits an answer's text, as it comes, into reasoning, content and tool calls.
 *
 * What the families write: reasoning `<think> ... </think>`; tool calls
 *   Hermes, Qwen  <tool_call>\n{"name": "f", "arguments": {...}}\n</tool_call>, any number
 *   Llama 3       the whole answer {"name": "f", "parameters": {...}} (also after <|python_tag|>,
 * several by ';') Mistral       [TOOL_CALLS][{"name": "f", "arguments": {...}}, ...] and
 * [TOOL_CALLS]f[ARGS]{...} A piece of text that may still become a marker is held back, never
 * longer than the longest marker. What began like a call and is none (not JSON, no name) is given
 * as content, unchanged. Nothing is allocated after init; room for a held call is bounded (what
 * does not fit is content). */
#ifndef TSR_API_SPLIT_H
#define TSR_API_SPLIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum tsr_split_calls {
    TSR_SPLIT_NO_CALLS,
    TSR_SPLIT_HERMES,
    TSR_SPLIT_LLAMA3,
    TSR_SPLIT_MISTRAL,
};

/* Where the pieces go. Texts are whole UTF-8 characters where those that came were. */
struct tsr_split_sink {
    void (*reasoning)(void *ctx, const char *text, size_t size);
    void (*content)(void *ctx, const char *text, size_t size);
    void (*call)(void *ctx, uint32_t index, const char *name, size_t size); /* call begins */
    /* The arguments' JSON, in pieces as it comes, exactly as the model wrote it. */
    void (*arguments)(void *ctx, uint32_t index, const char *json, size_t size);
    void (*call_end)(void *ctx, uint32_t index);
};

struct tsr_split; /* split.c; tsr_split_bytes() says how much room one needs */

size_t tsr_split_bytes(void);

/* In room of the caller's (16-aligned). reasons: the family writes <think>; thinking: the answer
 * begins inside reasoning (the prompt ended with <think>). */
struct tsr_split *tsr_split_init(void *room, enum tsr_split_calls calls, bool reasons,
                                 bool thinking);

void tsr_split_feed(struct tsr_split *split, const char *text, size_t size,
                    const struct tsr_split_sink *sink, void *ctx);
void tsr_split_end(struct tsr_split *split, const struct tsr_split_sink *sink, void *ctx);

/* Calls begun so far. */
uint32_t tsr_split_call_count(const struct tsr_split *split);

#endif
