"""The cases as GGUF, by llama.cpp's own converter: make_gguf.py LLAMA_CPP [NAME...], LLAMA_CPP its source folder."""

import json
import pathlib
import sys
import tempfile

sys.dont_write_bytecode = True
HERE = pathlib.Path(__file__).parent
llama_cpp = pathlib.Path(sys.argv[1])
sys.path[:0] = [str(llama_cpp / "gguf-py"), str(llama_cpp)]

import torch
import gguf
from conversion import ModelBase, ModelType, TextModel, get_model_architecture, get_model_class
from conversion.baichuan import BaichuanModel

TYPES = {"float32": gguf.LlamaFileType.ALL_F32, "float16": gguf.LlamaFileType.MOSTLY_F16,
         "bfloat16": gguf.LlamaFileType.MOSTLY_BF16}

# Left out is what a GGUF does not carry: windows of mistral and qwen2, dynamic scaling, YaRN's mscale and
# truncate, Gemma's query_pre_attn_scalar and pattern, which layers of SmolLM3 turn, ALiBi but for 40 layers,
# Baichuan 2's normalised head.
NAMES = ["mistral-nemo", "qwen1.5-mha", "qwen3-yarn", "yi", "llama-biases", "llama-linear", "phi3-longrope-short",
         "phi3-longrope-long", "gemma", "gemma2-head-scale", "gemma3-every-6", "olmo2", "granite", "smollm3-every-4",
         "internlm2", "baichuan-7b", "baichuan-13b-40"]


def set_vocab(model):
    """A vocabulary of no meaning: the cases have none."""
    n = model.hparams["vocab_size"]
    model.gguf_writer.add_tokenizer_model("llama")
    model.gguf_writer.add_tokenizer_pre("default")
    model.gguf_writer.add_token_list(["<unk>", "<s>", "</s>"] + [f"t{i}" for i in range(3, n)])
    model.gguf_writer.add_token_scores([0.0] * n)
    kinds = gguf.TokenType
    model.gguf_writer.add_token_types([kinds.UNKNOWN, kinds.CONTROL, kinds.CONTROL] + [kinds.NORMAL] * (n - 3))
    model.gguf_writer.add_bos_token_id(1)
    model.gguf_writer.add_eos_token_id(2)


def convert(name):
    stored = HERE / name
    with tempfile.TemporaryDirectory() as directory:
        directory = pathlib.Path(directory)
        for file in stored.glob("model*.safetensors*"):
            (directory / file.name).symlink_to(file)
        (directory / "config.json").symlink_to(stored / "config.json")
        hparams = ModelBase.load_hparams(directory, False)
        vocab = {str(i): i for i in range(hparams["vocab_size"])}  # the converter of Gemma 3 counts it
        (directory / "tokenizer.json").write_text(json.dumps({"model": {"vocab": vocab}, "added_tokens": []}))
        kind = get_model_class(get_model_architecture(hparams, ModelType.TEXT))
        kind.set_vocab = set_vocab
        dtype = str(hparams.get("dtype") or hparams.get("torch_dtype")).removeprefix("torch.")
        with torch.inference_mode():
            kind(directory, TYPES[dtype], stored / "model.gguf").write()


packed = BaichuanModel.modify_tensors


def modify_tensors(self, data, name, bid):
    """The converter's own calls itself without end for all but W_pack (at the version in README.md)."""
    yield from packed(self, data, name, bid) if "W_pack" in name else TextModel.modify_tensors(self, data, name, bid)


BaichuanModel.modify_tensors = modify_tensors
for one in sys.argv[2:] or NAMES:
    convert(one)
    print(one, (HERE / one / "model.gguf").stat().st_size >> 10, "KiB")
