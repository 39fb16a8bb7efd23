/* Asks the engine a question and prints the answer as it comes: ask "What is the capital of
 * France?" */
#include <tessera.h>

#include <stdio.h>

int main(int argc, char **argv)
{
    struct tessera *t;
    struct tessera_error err;
    if (tessera_connect(&t, NULL, NULL, &err) != 0) {
        fprintf(stderr, "ask: %s\n", err.text);
        return 1;
    }

    const struct tessera_message chat[] = {
        {"system", "You answer in one sentence."},
        {"user", argc > 1 ? argv[1] : "What is the capital of France?"},
    };
    struct tessera_options options;
    tessera_options_init(&options);
    options.tokens_max = 64;

    int status = 1;
    if (!tessera_submit_chat(t, chat, 2, &options, &err)) {
        fprintf(stderr, "ask: %s\n", err.text);
    }
    struct tessera_event event;
    int got;
    while ((got = tessera_wait(t, &event, -1, &err)) > 0) {
        if (event.kind == TESSERA_TOKEN) {
            fwrite(event.text, 1, event.text_bytes, stdout);
            fflush(stdout);
        } else if (event.kind == TESSERA_DONE && event.reason != TESSERA_ERROR) {
            printf("\n[%u tokens, %.1f a second]\n", event.completion_tokens,
                   event.decode_ns ? 1e9 * (event.completion_tokens - 1) / (double)event.decode_ns
                                   : 0.0);
            status = 0;
        } else if (event.kind == TESSERA_DONE || event.kind == TESSERA_FAILED) {
            fprintf(stderr, "ask: %.*s\n", (int)event.text_bytes, event.text);
        }
    }
    if (got < 0) {
        fprintf(stderr, "ask: %s\n", err.text);
    }
    tessera_close(t);
    return status;
}
