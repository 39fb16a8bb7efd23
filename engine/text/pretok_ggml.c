/* The pre-tokenizers that GGUF files name, as the expressions of the tokenizer.json files which
 * those names stand for (the names are given by llama.cpp's converter from a hash of a reference
 * encoding). A GGUF does not carry a normalizer, and llama.cpp applies none: neither do we. */
#include <string.h>

#include "pretok_priv.h"

#define CONTRACTION "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define WORD        "[^\\r\\n\\p{L}\\p{N}]?\\p{L}+"
#define MARKS       " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*"
#define SPACES      "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
/* Llama 3's for jais-2: runs of spaces in powers of two. */
#define SPACES2                                                                                    \
    "\\s*[\\r\\n]+|\\s{512}(?!\\S)|\\s{256}(?!\\S)|\\s{128}(?!\\S)|\\s{64}(?!\\S)|\\s{32}(?!\\S)"  \
    "|\\s{16}(?!\\S)|\\s{8}(?!\\S)|\\s{4}(?!\\S)|\\s{1,2}(?!\\S)|\\s{1}"
#define UPPER       "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define LOWER       "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define CAMEL_LOWER "[^\\r\\n\\p{L}\\p{N}]?" UPPER "*" LOWER "+"
#define CAMEL_UPPER "[^\\r\\n\\p{L}\\p{N}]?" UPPER "+" LOWER "*"

const char tsr_pretok_gpt2[] =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

static const char LLAMA3[] = CONTRACTION "|" WORD "|\\p{N}{1,3}|" MARKS "|" SPACES;
static const char QWEN2[] = CONTRACTION "|" WORD "|\\p{N}|" MARKS "|" SPACES;
static const char QWEN35[] = CONTRACTION
    "|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|" SPACES;
static const char TEKKEN[] =
    CAMEL_LOWER "|" CAMEL_UPPER "|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|" SPACES;
static const char GPT4O[] = CAMEL_LOWER CONTRACTION
    "?|" CAMEL_UPPER CONTRACTION "?|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|" SPACES;
static const char BLOOM[] =
    " ?[^(\\s|.,!?\\x{2026}\\x{3002}\\x{FF0C}\\x{3001}\\x{964}\\x{6D4}\\x{60C})]+";
static const char BAILING[] = "'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}+|\\p{N}| "
                              "?[^\\s\\p{L}\\p{N}]++[\\r\\n]*|\\s*[\\r\\n]|\\s+(?!\\S)|\\s+";
static const char SEED[] = CONTRACTION "|" WORD "|\\p{N}{1}| ?[^\\s\\p{L}\\p{N}\\r\\n]+|" SPACES;
static const char JAIS2[] = CONTRACTION "|" WORD "|\\p{N}{1,3}|" MARKS "|" SPACES2;
static const char MINICPM5[] = CONTRACTION "|" WORD "|\\p{N}+|" MARKS "|" SPACES;
static const char UFAKZEKA[] = WORD "|\\p{N}|" MARKS "|" SPACES;
static const char YOUTU[] = CAMEL_LOWER CONTRACTION
    "?|" CAMEL_UPPER CONTRACTION "?|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|" SPACES;
static const char YOUTU_CJK[] =
    "[\\x{AC00}-\\x{D7A3}\\x{3131}-\\x{318E}]+"
    "|[\\x{FF01}\\x{2026}\\x{201C}\\x{201D}\\x{2018}\\x{2019}\\x{2014}\\x{FF1A}\\x{FF1B}\\x{FF0C}"
    "\\x{3001}-\\x{303F}\\x{FE30}-\\x{FE4F}]+"
    "|[\\x{3105}-\\x{312F}]+|[\\x{4E00}-\\x{9FA5}\\x{3040}-\\x{309F}\\x{30A0}-\\x{30FF}]+";
static const char EXAONE_MOE[] =
    CONTRACTION "|[^\\r\\n\\p{L}\\p{N}]?(?:\\p{L}\\p{M}*(?: \\p{L}\\p{M}*)*)+|\\p{N}"
                "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]?|\\s*[\\r\\n]|\\s+(?!\\S)|\\s+";
static const char SPARK[] = "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+"
                            "|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+"
                            "| ?[\\p{P}\\p{S}]+|[\\r\\n]|\\s+(?!\\S)|\\s+";
static const char DEEPSEEK3[] = "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+"
                                "|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+"
                                "| ?[\\p{P}\\p{S}]+[\\r\\n]*|" SPACES;
/* The letters of cased scripts, as deepseek-llm's tokenizer.json lists them (in escapes: some are
 * equivalent to others, and editors may exchange them). */
/* clang-format off */
static const char DEEPSEEK_LETTERS[] =
    "\\s?[A-Za-z\\x{B5}\\x{C0}-\\x{D6}\\x{D8}-\\x{F6}\\x{F8}-\\x{1BA}\\x{1BC}-\\x{1BF}"
    "\\x{1C4}-\\x{293}\\x{295}-\\x{2AF}\\x{370}-\\x{373}\\x{376}\\x{377}\\x{37B}-\\x{37D}"
    "\\x{37F}\\x{386}\\x{388}-\\x{38A}\\x{38C}\\x{38E}-\\x{3A1}\\x{3A3}-\\x{3F5}"
    "\\x{3F7}-\\x{481}\\x{48A}-\\x{52F}\\x{531}-\\x{556}\\x{10A0}-\\x{10C5}"
    "\\x{13A0}-\\x{13F5}\\x{13F8}-\\x{13FD}\\x{1C90}-\\x{1CBA}\\x{1CBD}-\\x{1CBF}"
    "\\x{1D00}-\\x{1D2B}\\x{1D6B}-\\x{1D77}\\x{1D79}-\\x{1D9A}\\x{1E00}-\\x{1F15}"
    "\\x{1F18}-\\x{1F1D}\\x{1F20}-\\x{1F45}\\x{1F48}-\\x{1F4D}\\x{1F50}-\\x{1F57}\\x{1F59}"
    "\\x{1F5B}\\x{1F5D}\\x{1F5F}-\\x{1F7D}\\x{1F80}-\\x{1FB4}\\x{1FB6}-\\x{1FBC}\\x{1FBE}"
    "\\x{1FC2}-\\x{1FC4}\\x{1FC6}-\\x{1FCC}\\x{1FD0}-\\x{1FD3}\\x{1FD6}-\\x{1FDB}"
    "\\x{1FE0}-\\x{1FEC}\\x{1FF2}-\\x{1FF4}\\x{1FF6}-\\x{1FFC}\\x{2102}\\x{2107}"
    "\\x{210A}-\\x{2113}\\x{2115}\\x{2119}-\\x{211D}\\x{2124}\\x{2126}\\x{2128}"
    "\\x{212A}-\\x{212D}\\x{212F}-\\x{2134}\\x{2139}\\x{213C}-\\x{213F}\\x{2145}-\\x{2149}"
    "\\x{214E}\\x{2183}\\x{2184}\\x{2C00}-\\x{2C7B}\\x{2C7E}-\\x{2CE4}\\x{2CEB}-\\x{2CEE}"
    "\\x{2CF2}\\x{2CF3}\\x{A640}-\\x{A66D}\\x{A680}-\\x{A69B}\\x{A722}-\\x{A76F}"
    "\\x{A771}-\\x{A787}\\x{A78B}-\\x{A78E}\\x{AB70}-\\x{ABBF}\\x{FB00}-\\x{FB06}"
    "\\x{FB13}-\\x{FB17}\\x{FF21}-\\x{FF3A}\\x{FF41}-\\x{FF5A}\\x{10400}-\\x{1044F}"
    "\\x{104B0}-\\x{104D3}\\x{104D8}-\\x{104FB}\\x{10C80}-\\x{10CB2}\\x{10CC0}-\\x{10CF2}"
    "\\x{118A0}-\\x{118DF}\\x{1E900}-\\x{1E943}]+";
/* clang-format on */
#define CJK_KANA   "[\\x{4E00}-\\x{9FA5}\\x{3040}-\\x{309F}\\x{30A0}-\\x{30FF}]+"
#define CJK_HANGUL "[\\x{4E00}-\\x{9FA5}\\x{800}-\\x{4E00}\\x{AC00}-\\x{D7FF}]+"

static const char *const P_GPT2[] = {tsr_pretok_gpt2, NULL};
static const char *const P_LLAMA3[] = {LLAMA3, NULL};
static const char *const P_QWEN2[] = {QWEN2, NULL};
static const char *const P_QWEN35[] = {QWEN35, NULL};
static const char *const P_DIGITS_GPT2[] = {"\\p{N}", tsr_pretok_gpt2, NULL};
static const char *const P_TEKKEN[] = {TEKKEN, NULL};
static const char *const P_GPT4O[] = {GPT4O, NULL};
static const char *const P_FALCON[] = {"[\\p{P}\\$\\+<=>\\^~\\|`]+", tsr_pretok_gpt2,
                                       "[0-9][0-9][0-9]", NULL};
static const char *const P_DEFAULT[] = {"[\\p{P}\\$\\+<=>\\^~\\|]+", tsr_pretok_gpt2, "\\p{N}+",
                                        "[0-9][0-9][0-9]", NULL};
static const char *const P_DEEPSEEK_LLM[] = {
    "[\\r\\n]",
    DEEPSEEK_LETTERS,
    "\\s?[!-/:-~\\x{FF01}-\\x{FF0F}\\x{FF1A}-\\x{FF5E}\\x{2018}-\\x{201F}\\x{3000}-\\x{3002}]+",
    "\\s+$",
    CJK_HANGUL,
    "\\p{N}+",
    NULL};
static const char *const P_DEEPSEEK_CODER[] = {"[\\r\\n]", "\\s?\\p{L}+", "\\s?\\p{P}+",
                                               CJK_HANGUL, "\\p{N}",      NULL};
static const char *const P_DEEPSEEK3[] = {"\\p{N}{1,3}", CJK_KANA, DEEPSEEK3, NULL};
static const char *const P_BLOOM[] = {BLOOM, NULL};
static const char *const P_VIKING[] = {BLOOM, "\\p{N}", NULL};
static const char *const P_BAILING[] = {BAILING, NULL};
static const char *const P_SEED[] = {SEED, NULL};
static const char *const P_JAIS2[] = {JAIS2, NULL};
static const char *const P_MINICPM5[] = {"\\p{N}{1,3}", MINICPM5, NULL};
static const char *const P_UFAKZEKA[] = {UFAKZEKA, NULL};
static const char *const P_YOUTU[] = {YOUTU_CJK, YOUTU, NULL};
static const char *const P_EXAONE_MOE[] = {EXAONE_MOE, NULL};
static const char *const P_SPARK[] = {"\\p{N}{1,3}", CJK_KANA, SPARK, "\\p{N}", NULL};
static const char *const P_TINY_AYA[] = {"\\d{1,3}(?=(?:\\d{3})*\\b)", GPT4O, NULL};
static const char *const P_LAGUNA[] = {"[^\\n]+|[\\n]+", QWEN2, NULL};
static const char *const P_CHAMELEON[] = {"<sentinel:[0-9]+>",
                                          "(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z",
                                          "([\\t\\n]|    |  )",
                                          "\\p{N}",
                                          "[\\p{P}!-/:-@\\[-`{-~]",
                                          tsr_pretok_gpt2,
                                          NULL};
static const char *const P_SUPERBPE[] = {"\\p{N}+", "(?=(\\d{3})+(?!\\d))", NULL};

/* clang-format off */
static const struct tsr_pretok_ggml TABLE[] = {
    {"default",          P_DEFAULT,        false, false},
    {"gpt-2",            P_GPT2,           false, false},
    {"phi-2",            P_GPT2,           false, false},
    {"mpt",              P_GPT2,           false, false},
    {"olmo",             P_GPT2,           false, false},
    {"jais",             P_GPT2,           false, false},
    {"trillion",         P_GPT2,           false, false},
    {"exaone4",          P_GPT2,           false, false},
    {"mellum",           P_GPT2,           false, false},
    {"gigachat",         P_GPT2,           false, false},
    {"a.x-4.0",          P_GPT2,           false, false},
    {"granite-docling",  P_GPT2,           false, false},
    {"starcoder",        P_DIGITS_GPT2,    false, false},
    {"refact",           P_DIGITS_GPT2,    false, false},
    {"command-r",        P_DIGITS_GPT2,    false, false},
    {"smollm",           P_DIGITS_GPT2,    false, false},
    {"codeshell",        P_DIGITS_GPT2,    false, false},
    {"exaone",           P_DIGITS_GPT2,    false, false},
    {"minerva-7b",       P_DIGITS_GPT2,    false, false},
    {"llama-bpe",        P_LLAMA3,         true,  true},
    {"llama3",           P_LLAMA3,         true,  true},
    {"llama-v3",         P_LLAMA3,         true,  true},
    {"falcon3",          P_LLAMA3,         true,  true},
    {"falcon-h1",        P_LLAMA3,         true,  true},
    {"pixtral",          P_LLAMA3,         true,  true},
    {"midm-2.0",         P_LLAMA3,         true,  true},
    {"lfm2",             P_LLAMA3,         true,  true},
    {"dbrx",             P_LLAMA3,         false, false},
    {"smaug-bpe",        P_LLAMA3,         false, false},
    {"glm4",             P_LLAMA3,         false, false},
    {"qwen2",            P_QWEN2,          false, false},
    {"deepseek-r1-qwen", P_QWEN2,          false, false},
    {"stablelm2",        P_QWEN2,          false, false},
    {"hunyuan",          P_QWEN2,          false, false},
    {"megrez",           P_QWEN2,          false, false},
    {"grok-2",           P_QWEN2,          false, false},
    {"qwen35",           P_QWEN35,         false, false},
    {"tekken",           P_TEKKEN,         true,  true},
    {"gpt-4o",           P_GPT4O,          false, false},
    {"llama4",           P_GPT4O,          false, false},
    {"minimax-m2",       P_GPT4O,          false, false},
    {"falcon",           P_FALCON,         false, false},
    {"deepseek-llm",     P_DEEPSEEK_LLM,   false, false},
    {"deepseek-coder",   P_DEEPSEEK_CODER, false, false},
    {"deepseek-v3",      P_DEEPSEEK3,      false, false},
    {"hunyuan-dense",    P_DEEPSEEK3,      false, false},
    {"bloom",            P_BLOOM,          false, false},
    {"gpt3-finnish",     P_BLOOM,          false, false},
    {"poro-chat",        P_BLOOM,          false, false},
    {"viking",           P_VIKING,         false, false},
    {"bailingmoe",       P_BAILING,        false, false},
    {"bailingmoe2",      P_BAILING,        false, false},
    {"seed-coder",       P_SEED,           false, false},
    {"superbpe",         P_SUPERBPE,       false, false},
    {"jina-v5-nano",     P_LLAMA3,         true,  true},
    {"chatglm-bpe",      P_LLAMA3,         false, false},
    {"kormo",            P_QWEN2,          false, false},
    {"f2llmv2",          P_QWEN2,          false, false},
    {"solar-open",       P_QWEN2,          false, false},
    {"kanana2",          P_GPT4O,          false, false},
    {"talkie",           P_GPT4O,          false, false},
    {"llada-moe",        P_BAILING,        false, false},
    {"hy_v4",            P_DEEPSEEK3,      false, false},
    {"joyai-llm",        P_DEEPSEEK3,      false, false},
    {"mellum2",          P_DIGITS_GPT2,    false, false},
    {"jais-2",           P_JAIS2,          false, false},
    {"minicpm5",         P_MINICPM5,       true,  false},
    {"ufakzeka",         P_UFAKZEKA,       false, false},
    {"youtu",            P_YOUTU,          true,  false},
    {"exaone-moe",       P_EXAONE_MOE,     false, false},
    {"spark2_5",         P_SPARK,          false, false},
    {"tiny_aya",         P_TINY_AYA,       false, false},
    {"cohere2moe",       P_TINY_AYA,       false, false},
    {"laguna",           P_LAGUNA,         false, false},
    {"chameleon",        P_CHAMELEON,      false, true},
};
/* clang-format on */

const struct tsr_pretok_ggml *tsr_pretok_ggml_find(const char *name, size_t len)
{
    for (size_t i = 0; i < sizeof(TABLE) / sizeof(TABLE[0]); i++)
        if (strlen(TABLE[i].name) == len && memcmp(TABLE[i].name, name, len) == 0)
            return &TABLE[i];
    return NULL;
}
