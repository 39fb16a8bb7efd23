/* Splits an answer's text, as it comes, into reasoning, content and tool calls.
 *
 * What the families write (their templates; vLLM's and llama.cpp's parsers know them so):
 *
 *   reasoning     <think> ... </think> at the beginning, or without <think> where the prompt ended
 *                 with it. Newlines next to these marks are dropped
 *   Hermes, Qwen  <tool_call>{"name": "f", "arguments": {...}}</tool_call>, any number
 *   Llama 3       the whole answer {"name": "f", "parameters": {...}}, several by ';'; also behind
 *                 <|python_tag|>
 *   Mistral       [TOOL_CALLS][{"name": "f", "arguments": {...}}, ...], or any number of
 *                 [TOOL_CALLS]f{...} and [TOOL_CALLS]f[ARGS]{...}, with a [CALL_ID] or without
 *
 * Some of the marks are special tokens: the text must show them (TSR_SUBMIT_SHOW_SPECIAL). White
 * space may stand wherever JSON or a line break allows it. "name" and "arguments" come in either
 * order, and "parameters" means the same; where "name" is last, the arguments are held until then.
 *
 * What may still become a mark is held back, never longer than the longest one. What began like a
 * call and is none (not JSON, no name; for Llama also: other keys, no parameters) is content,
 * unchanged. A call is told of as soon as its name is known (for Llama: and its parameters begin).
 * If it breaks after that, it ends there, and the rest is content. White space around calls is
 * dropped where there is no other text. A call without arguments gets {}.
 *
 * Nothing is allocated; a call is held up to 8 KiB, what does not fit is content. How the text is
 * cut into pieces makes no difference but to the pieces that come out. */
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
