/* Tokenizer files and texts: the input is a tokenizer.json, a NUL byte, and a text. Where the
 * vocabulary has all bytes, what was encoded must come back. */
#include "encode.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *json = (const char *)data;
    const char *end = size ? memchr(json, '\0', size) : NULL;
    size_t len = end ? (size_t)(end - json) : size;
    struct tsr_err err;
    struct tsr_tokenizer *tokenizer;
    if (tsr_tokenizer_parse(&tokenizer, "fuzz", json, len, &err) < 0)
        return 0;
    if (end)
        encode(tokenizer, end + 1, size - len - 1);
    tsr_tokenizer_close(tokenizer);
    return 0;
}
