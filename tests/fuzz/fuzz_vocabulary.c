/* Vocabularies: the input is a GGUF or a tokenizer.model; its last bytes are a text as well. */
#include <tsr/model/gguf.h>

#include "encode.h"

enum { TEXT_MAX = 200 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int open_gguf(struct tsr_tokenizer **tokenizer, const uint8_t *data, size_t size)
{
    struct tsr_gguf *gguf;
    struct tsr_err err;
    int rc = tsr_gguf_parse(&gguf, data, size, &err);
    if (rc < 0)
        return rc;
    rc = tsr_tokenizer_open(tokenizer, "fuzz", gguf, &err);
    tsr_gguf_close(gguf);
    return rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char text[] = " Hello  world \xE2\x96\x81<s> caf\xC3\xA9 \xEF\xBC\xA1\xFF\n 123";
    struct tsr_err err;
    struct tsr_tokenizer *tokenizer;
    int rc = size >= 4 && memcmp(data, "GGUF", 4) == 0
                 ? open_gguf(&tokenizer, data, size)
                 : tsr_tokenizer_parse_model(&tokenizer, "fuzz", data, size, &err);
    if (rc < 0)
        return 0;
    size_t len = size < TEXT_MAX ? size : TEXT_MAX;
    encode(tokenizer, text, sizeof(text) - 1);
    encode(tokenizer, (const char *)data + size - len, len);
    tsr_tokenizer_close(tokenizer);
    return 0;
}
