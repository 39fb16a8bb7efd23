"""Small random models with golden logits: see README.md. make.py [NAME...] makes all, or those named."""

import json
import math
import pathlib
import sys
import tempfile

sys.dont_write_bytecode = True

import torch
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM

import cases
import golden
import reference

HERE = pathlib.Path(__file__).parent
STORED = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def random_weight(name, x, case, config):
    """Sizes that let every part matter: queries and keys of length enough for uneven attention, norms and
    biases unlike 1 and 0, embeddings of about 1 after the model's own factor, and of 0.3 where they are the head
    too, that a token is not followed by itself."""
    noise = torch.randn(x.shape, dtype=torch.float64)
    if x.ndim == 1 and name.endswith("bias"):
        return 0.3 * noise
    if x.ndim == 1:
        gain = 1.6 if "q_norm" in name or "k_norm" in name else case.post_gain if "post_" in name else 1.0
        return gain * (1 + 0.2 * noise) - (1 if config["model_type"].startswith("gemma") else 0)
    if "embed" in name:
        gemma = config["model_type"].startswith("gemma")
        factor = math.sqrt(config["hidden_size"]) if gemma else config.get("embedding_multiplier", 1)
        return (0.3 if config["tie_word_embeddings"] else 1.0) * noise / factor
    gain = {"q_proj": 1.6, "k_proj": 1.6, "wqkv": 1.6, "W_pack": 1.4, "qkv_proj": 1.4}
    gain = next((g for part, g in gain.items() if part in name), 1.2)
    return gain * noise / math.sqrt(x.shape[1])


def blank(config):
    """Names and shapes of a model's tensors, in a model of that configuration."""
    if config["model_type"] in cases.UNKNOWN:
        return cases.UNKNOWN[config["model_type"]](config)
    config = {k: v for k, v in config.items() if k != "quantization_config"}
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config))
    tied = config["tie_word_embeddings"]
    return {n: x for n, x in model.state_dict().items() if not (tied and n == "lm_head.weight")}


def to_fp8(stored, scale_dtype):
    """Matrices of the layers as E4M3 with one factor for 128 x 128 (partial at the edges), as DeepSeek-V3 and
    Qwen3-FP8 are published: name.weight and name.weight_scale_inv."""
    out = {}
    for name, x in stored.items():
        if x.ndim == 1 or "layers" not in name:
            out[name] = x.to(torch.bfloat16)
            continue
        rows, cols = (math.ceil(n / 128) for n in x.shape)
        scale = torch.empty(rows, cols, dtype=scale_dtype)
        eight = torch.empty(x.shape, dtype=torch.float8_e4m3fn)
        for i in range(rows):
            for j in range(cols):
                block = slice(128 * i, 128 * i + 128), slice(128 * j, 128 * j + 128)
                scale[i, j] = x[block].abs().max() / 448
                eight[block] = (x[block] / scale[i, j].double()).clamp(-448, 448).to(torch.float8_e4m3fn)
        out[name], out[name + "_scale_inv"] = eight, scale
    return out


def write_weights(directory, stored, shards):
    if shards == 1:
        save_file(stored, directory / "model.safetensors", metadata={"format": "pt"})
        return
    where = {}
    for shard in range(shards):
        file = f"model-{shard + 1:05}-of-{shards:05}.safetensors"
        part = dict(list(stored.items())[shard::shards])
        save_file(part, directory / file, metadata={"format": "pt"})
        where |= dict.fromkeys(part, file)
    size = sum(x.numel() * x.element_size() for x in stored.values())
    index = {"metadata": {"total_size": size}, "weight_map": dict(sorted(where.items()))}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index, indent=1) + "\n")


def check_features(directory, case, expected):
    """Each thing that a case tries must show in its logits: with it taken away they are others."""
    config = json.loads((directory / "config.json").read_text())
    for change in case.matters:
        with tempfile.TemporaryDirectory() as other:
            other = pathlib.Path(other)
            for file in directory.glob("model*"):
                (other / file.name).symlink_to(file)
            (other / "config.json").write_text(json.dumps(cases.changed(config, change)))
            got = golden.logits(reference.load(other, torch.float64), case.prompts[-1])
        error = golden.nmse(got, expected)
        print(f"    without {json.dumps(change)}: nmse {error:.2g}")
        assert error > 1e-3, "this case does not try what it says"


def make(case):
    directory = HERE / case.name
    directory.mkdir(exist_ok=True)
    for old in directory.iterdir():
        old.unlink()
    torch.manual_seed(case.seed)
    stored = {n: random_weight(n, x, case, case.config) for n, x in sorted(blank(case.config).items())}
    if case.fp8:
        stored = to_fp8(stored, case.fp8)
    else:
        name = case.config.get("dtype", case.config.get("torch_dtype"))
        stored = {n: x.to(STORED["float32" if case.norms_f32 and x.ndim == 1 else name])
                  for n, x in stored.items()}
    write_weights(directory, {n: x.contiguous() for n, x in stored.items()}, case.shards)
    (directory / "config.json").write_text(json.dumps(case.config, indent=2) + "\n")
    result = golden.write(directory, case.name, case.prompts, lambda dtype: reference.load(directory, dtype))
    y = result["yardstick_nmse"]
    print(f"{case.name}: {sum(f.stat().st_size for f in directory.iterdir()) >> 10} KiB, "
          f"bf16 {y['bf16']:.2g}, int8 {y['int8']:.2g}, different greedy ids "
          f"{[len(set(g['ids'])) for g in result['greedy']]}", flush=True)
    expected = golden.logits(reference.load(directory, torch.float64), case.prompts[-1])
    check_features(directory, case, expected)


if __name__ == "__main__":
    torch.set_num_threads(1)
    chosen = [c for c in cases.CASES if c.name in sys.argv[1:] or len(sys.argv) == 1]
    for one in chosen:
        make(one)
