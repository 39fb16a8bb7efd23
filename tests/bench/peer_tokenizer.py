#!/usr/bin/env python3
"""What the package `tokenizers` needs for the same text: peer_tokenizer.py MODEL TEXT [REPEATS]. MODEL is a directory with
tokenizer.json, or a GGUF with Llama 3's vocabulary (pre-tokenizer llama-bpe), of which it makes one. Prints a line of
megabytes a second of one thread's time, cold and warm; exits 77 where the package or what it needs is missing."""
import os
import pathlib
import struct
import sys
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"
try:
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers
except ImportError:
    sys.exit(77)

LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
          r"|\s+(?!\S)|\s+")
SIZES = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}


def metadata(path):
    data, at, found = path.read_bytes(), 8, {}

    def number(kind):
        nonlocal at
        value = struct.unpack_from("<" + kind, data, at)[0]
        at += struct.calcsize("<" + kind)
        return value

    def text():
        nonlocal at
        n = number("Q")
        at += n
        return data[at - n:at].decode("utf-8", "replace")

    def value(kind):
        if kind == 8:
            return text()
        if kind == 9:
            of, n = number("I"), number("Q")
            return [value(of) for _ in range(n)]
        return number(SIZES[kind])

    number("Q")
    for _ in range(number("Q")):
        key = text()
        found[key] = value(number("I"))
    return found


def load(path):
    if path.is_dir():
        return Tokenizer.from_file(str(path / "tokenizer.json"))
    found = metadata(path)
    if found.get("tokenizer.ggml.pre") not in ("llama-bpe", "llama3", "llama-v3"):
        sys.exit(77)
    vocab = {token: i for i, token in enumerate(found["tokenizer.ggml.tokens"])}
    merges = [tuple(merge.split(" ")) for merge in found["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(models.BPE(vocab, merges, ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(LLAMA3), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    return tokenizer


def main():
    model, file = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    repeats = int(sys.argv[3]) if len(sys.argv) > 3 else 5
    text = file.read_bytes().decode("utf-8", "ignore")
    tokenizer = load(model)
    times = []
    for _ in range(repeats + 1):
        begin = time.thread_time()
        n = len(tokenizer.encode(text, add_special_tokens=False).ids)
        times.append(time.thread_time() - begin)
    mb = len(text.encode()) / 1e6
    warm = sorted(times[1:])[repeats // 2]
    print(f"{'English, tokenizers':24} {mb:8.2f} MB  {n:8} tokens  cold {mb / times[0]:7.1f} MB/s  warm {mb / warm:7.1f} MB/s")


main()
