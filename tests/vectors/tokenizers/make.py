#!/usr/bin/env python3
"""Trains small tokenizers of every kind with the packages `sentencepiece` and `tokenizers`, and writes what these make
of some texts: for each a folder with the files that a model would have, and golden.json.

    python3 -m venv V; V/bin/pip install sentencepiece tokenizers; V/bin/python tests/vectors/tokenizers/make.py

"tokenize" in golden.json are rows as in the outside vectors: text; ids with BOS or EOS where the files add one and with
special tokens recognised; ids_plain without the former; decoded, the text of ids without special tokens. Texts to train
on are the licences that every Debian has and the strings below."""
import io
import json
import pathlib
import random

import sentencepiece
from sentencepiece import sentencepiece_model_pb2 as proto
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

HERE = pathlib.Path(__file__).parent
STRANGE = [
    "naïve café Ångström ﬁ ligature Ⅷ ½ ㌔ ｱｲｳ ﾊﾟ ＡＢＣ　ｄｅｆ", "Привет, мир! Ёлки", "你好,世界!今天天气怎么样?",
    "日本語のテキスト 「引用」", "한국어 텍스트", "🙂🚀👩‍👩‍👧‍👦", "السلام عليكم", "हिन्दी पाठ", "def f(x):\n    return x**2\t# square",
    "1234567890 3.14159 2026-11-22", "e\u0301 a\u0308\u0323 \u0323\u0308a", "don't I'll WE'VE it's",
]
TEXTS = STRANGE + [
    "", " ", "  ", "\n", "\t\n ", "Hello, world!", " leading", "trailing ", "two  spaces   three", "                    end",
    "▁ literal ▁▁ blocks▁", "a\u200bb\u00a0c\u2003d\u3000e", "ab\0cd", "\ufeffbom", "\r\n windows\r\n", "<unk> <s> text</s>",
    "<|user|> hi<|end|>\n<|assistant|>", "<0x41><0xZZ>", "<|u|><|u|>x<|u|> y", "ab abab xyzab", "①②③ ①", "ǅ ß İ ﷺ",
    "x" * 70, " " * 33, "ab" * 40, "é" * 25, "The quick brown fox jumps over the lazy dog. " * 3,
]
CHARS = "abcdefgh \t\n  ABC.,!?'\"-12３①éäöüßñ▁　你好世界テのキﾊﾟｱ🙂\u200d\u0301\u0323Ⅷ½ﬁ\u00a0<>|/_"


def texts(seed):
    """The texts above, and some that nobody would write."""
    rng = random.Random(seed)
    return TEXTS + ["".join(rng.choice(CHARS) for _ in range(rng.randint(1, 40))) for _ in range(60)]


def corpus():
    lines = []
    for path in sorted(pathlib.Path("/usr/share/common-licenses").iterdir()):
        if path.is_file() and not path.is_symlink():
            lines += [line.strip() for line in path.read_text(errors="ignore").split("\n") if line.strip()]
    random.Random(1).shuffle(lines)
    return lines[:1500] + STRANGE * 4


def write(name, files, rows):
    folder = HERE / name
    folder.mkdir(exist_ok=True)
    for path, data in files.items():
        (folder / path).write_bytes(data if isinstance(data, bytes) else json.dumps(data, ensure_ascii=False).encode())
    text = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    (folder / "golden.json").write_text('{"tokenize": [\n' + text + "\n]}\n")


def with_sentencepiece(name, config, unused=0, **options):
    """unused: of how many pieces one is marked so, as SetVocabulary() does it."""
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(corpus()), model_writer=out, vocab_size=600, hard_vocab_limit=False, minloglevel=2,
        num_threads=1, **options)
    model = proto.ModelProto()
    model.ParseFromString(out.getvalue())
    model.trainer_spec.ClearField("input")
    for i, piece in enumerate(model.pieces):
        if unused and piece.type == piece.NORMAL and len(piece.piece) > 1 and i % unused == 0:
            piece.type = piece.UNUSED
    blob = model.SerializeToString()
    processor = sentencepiece.SentencePieceProcessor(model_proto=blob)
    rows = []
    for text in texts(name):
        if "<unk>" in text:  # a Hugging Face directory recognises control tokens, the library never
            continue
        plain = processor.encode(text)
        before = [processor.bos_id()] if processor.bos_id() >= 0 else []
        behind = [processor.eos_id()] if not before else []
        shown = [i for i in plain if i != processor.unk_id()]
        rows.append({"text": text, "ids": before + plain + behind, "ids_plain": plain, "decoded": processor.decode(shown)})
    write(name, {"tokenizer.model": blob, "tokenizer_config.json": config}, rows)


def with_tokenizers(name, tokenizer, trainer, byte_fallback=False, charsmap=None, added=()):
    tokenizer.train_from_iterator(corpus(), trainer)
    data = json.loads(tokenizer.to_str())
    model = data["model"]
    if byte_fallback:
        model["byte_fallback"] = True
        for piece in (f"<0x{byte:02X}>" for byte in range(256)):
            if isinstance(model["vocab"], dict):
                model["vocab"].setdefault(piece, max(model["vocab"].values()) + 1)
            else:
                model["vocab"].append([piece, 0.0])
    tokenizer = Tokenizer.from_str(json.dumps(data))
    for token in added:
        (tokenizer.add_special_tokens if token.special else tokenizer.add_tokens)([token])
    bos = tokenizer.token_to_id("<s>")
    if bos is not None:
        tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", bos)])
    rows = []
    for text in texts(name):
        ids = tokenizer.encode(text).ids
        rows.append({"text": text, "ids": ids, "ids_plain": tokenizer.encode(text, add_special_tokens=False).ids,
                     "decoded": tokenizer.decode(ids)})
    write(name, {"tokenizer.json": tokenizer.to_str().encode()}, rows)


def charsmap():
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(corpus()), model_writer=out, vocab_size=600, hard_vocab_limit=False, minloglevel=2,
        normalization_rule_tsv=str(HERE / "rules.tsv"))
    model = proto.ModelProto()
    model.ParseFromString(out.getvalue())
    return model.normalizer_spec.precompiled_charsmap


def bpe(**options):
    return Tokenizer(models.BPE(unk_token="<unk>", **options))


def bpe_trainer(*special):
    return trainers.BpeTrainer(vocab_size=420, special_tokens=["<unk>", *special], show_progress=False, limit_alphabet=90)


def decoder(strip):
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    return decoders.Sequence(steps + ([decoders.Strip(" ", strip, 0)] if strip else []))


def main():
    llama = {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    rules = str(HERE / "rules.tsv")
    with_sentencepiece("spm-bpe-fallback", llama, model_type="bpe", byte_fallback=True, character_coverage=0.98,
                       normalization_rule_name="identity", remove_extra_whitespaces=False, split_digits=True)
    with_sentencepiece("spm-bpe-unk", llama, model_type="bpe", character_coverage=0.98, normalization_rule_tsv=rules,
                       user_defined_symbols=["<|u|>", "▁▁", "①", "ab"])
    with_sentencepiece("spm-bpe-unused", llama, unused=9, model_type="bpe", byte_fallback=True,
                       normalization_rule_name="identity", remove_extra_whitespaces=False)
    with_sentencepiece("spm-gemma", dict(llama, tokenizer_class="GemmaTokenizer"), model_type="bpe", byte_fallback=True,
                       add_dummy_prefix=False, remove_extra_whitespaces=False, normalization_rule_name="identity",
                       allow_whitespace_only_pieces=True, user_defined_symbols=["<|user|>", "▁▁", "▁▁▁", "\n\n"])
    with_sentencepiece("spm-t5", {"tokenizer_class": "T5Tokenizer", "eos_token": "</s>"}, model_type="unigram",
                       normalization_rule_tsv=rules, bos_id=-1, pad_id=0, eos_id=1, unk_id=2)
    with_sentencepiece("spm-unigram", llama, model_type="unigram", byte_fallback=True, normalization_rule_name="identity",
                       remove_extra_whitespaces=False, user_defined_symbols=["ab", "▁a", "①"], control_symbols=["<ctl>"])
    with_sentencepiece("spm-unigram-suffix", llama, unused=11, model_type="unigram", normalization_rule_name="identity",
                       treat_whitespace_as_suffix=True)
    with_sentencepiece("spm-char", llama, model_type="char", normalization_rule_name="identity", character_coverage=0.99)

    marks = [AddedToken("<|user|>", special=True, rstrip=True), AddedToken("<|end|>", special=True, rstrip=True),
             AddedToken("<|assistant|>", special=True, rstrip=True), AddedToken("<|u|>", lstrip=True)]
    tokenizer = bpe(fuse_unk=True, byte_fallback=True)
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoder(1)
    with_tokenizers("json-phi3", tokenizer, bpe_trainer("<s>", "</s>"), True, added=marks)
    tokenizer = bpe(fuse_unk=True, byte_fallback=True)
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.decoder = decoder(0)
    with_tokenizers("json-gemma", tokenizer, bpe_trainer("<s>"), True,
                    added=[AddedToken("▁▁", normalized=False), AddedToken("\n\n", normalized=True)])
    tokenizer = bpe(byte_fallback=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace("▁", "first", False)
    tokenizer.decoder = decoder(1)
    with_tokenizers("json-metaspace", tokenizer, bpe_trainer("<s>"), True, added=marks[:2])
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Precompiled(charsmap()), normalizers.Strip(False, True), normalizers.Replace(Regex(" {2,}"), "▁")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace("▁", "always")
    tokenizer.decoder = decoders.Metaspace("▁", "always")
    with_tokenizers("json-t5", tokenizer, trainers.UnigramTrainer(
        vocab_size=420, unk_token="<unk>", special_tokens=["<unk>", "</s>"], show_progress=False))
    tokenizer = bpe()
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKD(), normalizers.StripAccents(), normalizers.Lowercase(), normalizers.Strip()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation("merged_with_previous"), pre_tokenizers.Digits(True),
         pre_tokenizers.Metaspace("▁", "first")])
    tokenizer.decoder = decoders.Metaspace("▁", "never")
    with_tokenizers("json-words", tokenizer, bpe_trainer("<s>"), added=[AddedToken("ab", single_word=True)])
    tokenizer = bpe()
    tokenizer.pre_tokenizer = pre_tokenizers.Split(
        Regex(r"\b\w{1,3}|[[:alpha:]]+\B|[\w]+|[^\s\w]|\u4f60|\h+(?!\d)"), "merged_with_next")
    tokenizer.decoder = decoders.Fuse()
    with_tokenizers("json-regex", tokenizer, bpe_trainer("<s>"))


if __name__ == "__main__":
    main()
