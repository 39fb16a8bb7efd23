"""Loads a model from its directory: by transformers where it has the architecture, else by the formulas
of the published code, written anew."""

import json
import math
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn.functional import normalize, silu
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.modeling_outputs import CausalLMOutput


def tensors(directory):
    """All stored tensors, FP8 ones multiplied out: weight [i, j] * scale_inv [i / 128, j / 128] (DeepSeek-V3,
    inference/kernel.py, weight_dequant)."""
    found = {}
    for file in sorted(directory.glob("model*.safetensors")):
        found |= load_file(file)
    for name in [n for n in found if n.endswith("_scale_inv")]:
        weight = found[name.removesuffix("_scale_inv")].double()
        scale = found.pop(name).double()
        for dim in (0, 1):
            scale = scale.repeat_interleave(128, dim).narrow(dim, 0, weight.shape[dim])
        found[name.removesuffix("_scale_inv")] = weight * scale
    return found


def internlm2(stored, config):
    """InternLM2's tensors as Llama's. Rows of wqkv: for each KV head its queries' heads, its key, its value
    (internlm/internlm2-7b, modeling_internlm2.py, InternLM2Attention.forward: "b q (h gs d) -> b q h gs d")."""
    names = {"tok_embeddings": "embed_tokens", "attention_norm": "input_layernorm",
             "ffn_norm": "post_attention_layernorm", "attention.wo": "self_attn.o_proj",
             "feed_forward.w1": "mlp.gate_proj", "feed_forward.w2": "mlp.down_proj",
             "feed_forward.w3": "mlp.up_proj"}
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    head_dim = config["hidden_size"] // heads
    out = {}
    for name, x in stored.items():
        if "wqkv" in name:
            x = x.unflatten(0, (kv_heads, heads // kv_heads + 2, head_dim))
            for part, rows in ("q", x[:, :-2]), ("k", x[:, -2]), ("v", x[:, -1]):
                key = name.replace("attention.wqkv", f"self_attn.{part}_proj")
                out[key] = rows.reshape(-1, *x.shape[3:])
        elif name == "output.weight":
            out["lm_head.weight"] = x
        else:
            for theirs, ours in names.items():
                name = name.replace(theirs, ours)
            out[name] = x
    return out


def alibi_slopes(heads):
    """baichuan-inc/Baichuan2-13B-Base, modeling_baichuan.py, _get_interleave (Press et al., arXiv 2108.12409):
    2^(-8 i / n) for n a power of two; else those of the power below, then every other one of twice that."""
    below = 2 ** math.floor(math.log2(heads))
    slopes = [2 ** (-8 * (i + 1) / below) for i in range(below)]
    if below < heads:
        slopes += alibi_slopes(2 * below)[0::2][:heads - below]
    return slopes


class Baichuan(nn.Module):
    """baichuan-inc's Baichuan-7B, Baichuan-13B-Base, Baichuan2-7B-Base, Baichuan2-13B-Base,
    modeling_baichuan.py: Llama's layer with q, k and v packed in that order (W_pack); in 13B ALiBi in place of
    rotation; in Baichuan 2 the head's rows normalised to length 1 (NormHead)."""

    def __init__(self, config, stored, dtype, alibi, norm_head):
        super().__init__()
        self.config, self.alibi, self.dtype = config, alibi, dtype
        self.w = {name: x.to(dtype) for name, x in stored.items() if x.ndim == 1}
        self.embed = nn.Embedding.from_pretrained(stored["model.embed_tokens.weight"].to(dtype))
        for name, x in stored.items():
            if x.ndim == 2 and "embed_tokens" not in name:
                layer = nn.Linear(x.shape[1], x.shape[0], bias=False)
                layer.weight = nn.Parameter(x.to(dtype), requires_grad=False)
                setattr(self, name.replace(".", "_"), layer)
        if norm_head:
            self.lm_head_weight.weight.data = normalize(self.lm_head_weight.weight.data)

    def norm(self, x, name):
        variance = x.float().pow(2).mean(-1, keepdim=True)
        return self.w[name] * (x * torch.rsqrt(variance + self.config["rms_norm_eps"])).to(self.dtype)

    def rotated(self, x):
        n, dim = x.shape[-2:]
        frequency = 1 / 10000 ** (torch.arange(0, dim, 2).float() / dim)
        angle = torch.outer(torch.arange(n).float(), frequency).repeat(1, 2)
        half = torch.cat((-x[..., dim // 2:], x[..., :dim // 2]), -1)
        return x * angle.cos().to(x.dtype) + half * angle.sin().to(x.dtype)

    def attend(self, x, layer):
        heads, n = self.config["num_attention_heads"], len(x)
        dim = self.config["hidden_size"] // heads
        packed = getattr(self, f"model_layers_{layer}_self_attn_W_pack_weight")(x)
        q, k, v = packed.view(n, 3, heads, dim).permute(1, 2, 0, 3)
        if not self.alibi:
            q, k = self.rotated(q), self.rotated(k)
        scores = q @ k.mT / math.sqrt(dim)
        if self.alibi:
            position = torch.arange(n)
            distance = position[None, :] - position[:, None]  # <= 0 where seen
            scores = scores + (torch.tensor(alibi_slopes(heads))[:, None, None] * distance).to(x.dtype)
        scores = scores.masked_fill(torch.ones(n, n).triu(1).bool(), -math.inf)
        out = torch.softmax(scores, -1, dtype=torch.promote_types(x.dtype, torch.float32)).to(x.dtype) @ v
        return getattr(self, f"model_layers_{layer}_self_attn_o_proj_weight")(out.transpose(0, 1).flatten(1))

    def forward(self, input_ids, use_cache=False):
        x = self.embed(input_ids[0])
        for layer in range(self.config["num_hidden_layers"]):
            name = f"model.layers.{layer}."
            gate, up, down = (getattr(self, f"model_layers_{layer}_mlp_{part}_proj_weight")
                              for part in ("gate", "up", "down"))
            x = x + self.attend(self.norm(x, name + "input_layernorm.weight"), layer)
            y = self.norm(x, name + "post_attention_layernorm.weight")
            x = x + down(silu(gate(y)) * up(y))
        return CausalLMOutput(logits=self.lm_head_weight(self.norm(x, "model.norm.weight"))[None])


def load(directory, dtype):
    config = json.loads((directory / "config.json").read_text())
    if config["model_type"] == "baichuan":
        # Only 7B's configuration states max_position_embeddings, only Baichuan 2's z_loss_weight.
        return Baichuan(config, tensors(directory), dtype, alibi="max_position_embeddings" not in config,
                        norm_head="z_loss_weight" in config)
    options = {"dtype": dtype, "attn_implementation": "eager"}
    if config["model_type"] != "internlm2" and "quantization_config" not in config:
        return AutoModelForCausalLM.from_pretrained(directory, **options).eval()
    stored = tensors(directory)
    if config["model_type"] == "internlm2":
        stored = internlm2(stored, config)
        config |= {"model_type": "llama", "attention_bias": config["bias"]}
    config.pop("quantization_config", None)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config), **options)
    if config["tie_word_embeddings"]:
        stored["lm_head.weight"] = stored["model.embed_tokens.weight"]
    model.load_state_dict(stored)
    return model.eval()
