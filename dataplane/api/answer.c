#include <stdio.h>
#include <string.h>

#include "answer_priv.h"
#include "engine_priv.h"

const char *api_finish_name(enum api_finish finish)
{
    static const char *const names[] = {"stop", "stop", "length", "tool_calls"};
    return names[finish];
}

void api_split_begin(struct api_ask *ask, const struct tsr_split_sink *sink)
{
    const struct tsr_api_exchange *x = ask->exchange;
    bool reasons = (x->engine->hello.flags & TSR_HELLO_REASONING) != 0;
    if (x->wants.calls || reasons) {
        ask->split =
            tsr_split_init(ask->room, x->wants.calls ? x->wants.family : TSR_SPLIT_NO_CALLS,
                           reasons, ask->thinking);
    }
    if (x->wants.begun_bytes) {
        api_split_text(ask, x->extra.bytes + x->wants.begun_off, x->wants.begun_bytes, sink);
    }
}

void api_split_text(struct api_ask *ask, const char *text, size_t size,
                    const struct tsr_split_sink *sink)
{
    if (size == 0) {
        return;
    }
    if (ask->split) {
        tsr_split_feed(ask->split, text, size, sink, ask);
    } else {
        sink->content(ask, text, size);
    }
}

void api_split_end(struct api_ask *ask, const struct tsr_split_sink *sink)
{
    if (!ask->split) {
        return;
    }
    tsr_split_end(ask->split, sink, ask);
    if (tsr_split_call_count(ask->split) && ask->finish != API_FINISH_LENGTH) {
        ask->finish = API_FINISH_CALLS;
    }
}

bool api_split_is_reasoning(struct api_ask *ask)
{
    ask->thinking = true;
    return !ask->over;
}

bool api_split_is_content(struct api_ask *ask, const char *text, size_t size)
{
    ask->thinking = false;
    for (size_t i = 0; i < size; i++) {
        ask->text_chars += (text[i] & 0xc0) != 0x80;
        ask->visible |= text[i] != ' ' && text[i] != '\n' && text[i] != '\t' && text[i] != '\r';
    }
    return !ask->over;
}

bool api_split_is_call(struct api_ask *ask, uint32_t index)
{
    ask->thinking = false;
    return !ask->over && (index == 0 || !ask->exchange->wants.one_call);
}

void api_split_call_ended(struct api_ask *ask)
{
    /* Not where the engine has ended it, in the middle of the call. */
    if (ask->exchange->wants.one_call && ask->finish == API_FINISH_NONE) {
        ask->over = true;
        ask->finish = API_FINISH_CALLS;
    }
}

/* Mistral's templates take ids of nine letters and digits only. */
void api_call_id(struct tsr_api_exchange *x, char out[API_ID_MAX])
{
    char id[API_ID_MAX];
    if (x->wants.family == TSR_SPLIT_MISTRAL) {
        api_make_id(x->api, "", id);
        (void)snprintf(out, API_ID_MAX, "%.9s", id);
    } else {
        api_make_id(x->api, "call_", out);
    }
}
