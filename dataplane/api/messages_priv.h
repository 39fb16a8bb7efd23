/* Chats: from a request's messages, tools and template variables to a CHAT payload. All goes by its
 * JSON object (wire.h): the template sees messages as the request had them, but with content as one
 * text, `developer` as `system`, and arguments of calls as objects. */
#ifndef TSR_API_MESSAGES_PRIV_H
#define TSR_API_MESSAGES_PRIV_H

#include "sampling_priv.h"

/* The payload's frame: begin writes up to `"messages":`, end closes the object. */
size_t api_chat_payload_begin(struct tsr_api_exchange *x);
void api_chat_payload_end(struct tsr_api_exchange *x, size_t off);

/* The array of `messages`. */
void api_messages_write(struct tsr_api_exchange *x, const struct api_fields *fields,
                        struct tsr_out *out);

/* Content as one JSON string: a string, or parts of text. */
void api_content_write(const struct api_fields *fields, const char *name, bool may_lack,
                       struct tsr_out *out);

/* A call's arguments, which come in a string: as the object that it should be. Models also write
 * what is none, and are to be told so by the tool's answer: that stays a string. */
void api_arguments_write(struct tsr_api_exchange *x, const char *text, size_t size,
                         struct tsr_out *out);

/* The role as the template is to see it; NULL with a problem. */
const char *api_role_read(const struct api_fields *message);

/* chat_template_kwargs, documents, reasoning_effort: as further members. */
void api_template_write(const struct api_fields *fields, struct tsr_out *out);

/* add_generation_prompt as a flag of SUBMIT. */
uint16_t api_turn_flag(const struct api_fields *fields);

/* Whether the model can chat at all. */
bool api_chat_possible(const struct tsr_api_exchange *x, struct api_problem *problem);

/* ---- tools.c ---- */

/* tools, tool_choice, parallel_tool_calls: as further members of the payload's object; what the
 * answer may hold goes into x->wants. flat: a tool's name is in the tool itself, as responses have
 * it, not in its `function`. */
void api_tools_read(struct tsr_api_exchange *x, const struct api_fields *fields, bool flat,
                    struct tsr_out *out);

#endif
