/* The parts of the splitter: split.c finds markers and says what text is, split_call.c reads a
 * call's JSON. Text goes byte by byte through take(); what may still turn out to be something else
 * is held, whole, since its first byte. */
#ifndef TSR_API_SPLIT_PRIV_H
#define TSR_API_SPLIT_PRIV_H

#include <tsr/api/split.h>

#include "scan_priv.h"

enum {
    TSR_SPLIT_HELD_MAX = 8192,
    TSR_SPLIT_NAME_MAX = 256, /* bytes of a function's name */
    TSR_SPLIT_KEY_MAX = 16,   /* no key that counts is longer */
};

enum tsr_split_state {
    SPLIT_START, /* nothing but white space so far (held) */
    SPLIT_CONTENT,
    SPLIT_THINK_START, /* reasoning, nothing but newlines so far (dropped) */
    SPLIT_THINK,       /* newlines held: those before </think> are dropped */
    SPLIT_THOUGHT,     /* behind </think>: newlines dropped */
    SPLIT_OPEN,        /* behind a marker of calls */
    SPLIT_NAME,        /* Mistral: a name without JSON around it */
    SPLIT_ID,          /* Mistral: behind [CALL_ID] */
    SPLIT_ARGS,        /* Mistral: behind [ARGS] */
    SPLIT_OBJECT,      /* {"name": ..., "arguments": ...} */
    SPLIT_BARE,        /* Mistral: arguments behind a name */
    SPLIT_LIST,        /* Mistral: in the list, a call is wanted */
    SPLIT_LIST_NEXT,   /* Mistral: in the list, behind a call */
    SPLIT_AFTER,       /* behind a call: white space and separators held */
};

enum tsr_split_text {
    SPLIT_NO_TEXT,
    SPLIT_TEXT_REASONING,
    SPLIT_TEXT_CONTENT,
    SPLIT_TEXT_ARGUMENTS
};

enum tsr_split_key { SPLIT_KEY_OTHER, SPLIT_KEY_NAME, SPLIT_KEY_ARGUMENTS, SPLIT_KEY_KNOWN };

struct tsr_split {
    enum tsr_split_calls calls;
    enum tsr_split_state state;
    bool may_think;   /* <think> may still come */
    bool in_list;     /* Mistral: the call is one of a list */
    bool wants_close; /* Hermes: </tool_call> has not come yet */
    uint32_t n_calls;

    /* A call: not yet told of (its text is held), or told of and open. */
    bool told;
    struct tsr_scan scan;
    char key[TSR_SPLIT_KEY_MAX];
    uint32_t key_size;
    enum tsr_split_key key_kind; /* of the value that comes or is being read */
    bool in_value;
    bool has_arguments;
    uint32_t name_from, name_size;           /* in held[]; size 0: not known */
    uint32_t arguments_from, arguments_size; /* in held[], where they come before the name */

    uint32_t mark; /* what may be a marker begins at held[mark - 1]; 0: nothing */
    uint32_t held_size;
    char held[TSR_SPLIT_HELD_MAX];

    /* During a feed: where it goes, and the run of bytes that are of one kind and not sent yet. */
    const struct tsr_split_sink *sink;
    void *ctx;
    enum tsr_split_text run_kind;
    const char *run;
    size_t run_size;
};

/* One more byte, at p. */
void tsr_split_take(struct tsr_split *split, const char *p);

/* Holds the byte at p; false: there is no room, and it was taken as what follows content. */
bool tsr_split_hold(struct tsr_split *split, const char *p);

/* Sends the byte at p, or what is held. */
void tsr_split_send(struct tsr_split *split, enum tsr_split_text kind, const char *p);
void tsr_split_send_held(struct tsr_split *split, enum tsr_split_text kind);
void tsr_split_flush(struct tsr_split *split);

/* What is held is no call: it is content, and so is the byte at p, unless it begins a marker. A
 * call that was told of ends. */
void tsr_split_refuse(struct tsr_split *split, const char *p);

/* A call's object, or the arguments behind a name, begin; and each byte of them. */
void tsr_split_open_object(struct tsr_split *split, const char *p);
void tsr_split_open_bare(struct tsr_split *split, const char *p);
void tsr_split_take_object(struct tsr_split *split, const char *p);
void tsr_split_take_bare(struct tsr_split *split, const char *p);

/* Ends the call that was told of, if one is open. */
void tsr_split_end_call(struct tsr_split *split);

#endif
