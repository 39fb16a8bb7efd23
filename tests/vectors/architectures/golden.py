"""Logits, greedy text and yardsticks of a model, in the form of ../shared/conformance/models."""

import json
import torch
from safetensors.torch import save_file

GREEDY = 24
GROUP = 64  # inputs that share a scale in the int8 yardstick


def nmse(x, ref):
    """sum((x - ref)^2) / sum((ref - mean over the row of ref)^2)"""
    x, ref = x.double(), ref.double()
    return float(((x - ref) ** 2).sum() / ((ref - ref.mean(-1, keepdim=True)) ** 2).sum())


def rounded(x):
    """x with every run of 64 inputs rounded to int8 under one absmax scale"""
    width = x.shape[-1]
    padded = torch.nn.functional.pad(x, (0, -width % GROUP)).unflatten(-1, (-1, GROUP))
    scale = padded.abs().amax(-1, keepdim=True) / 127
    scale = torch.where(scale == 0, torch.ones_like(scale), scale)
    return ((padded / scale).round() * scale).flatten(-2)[..., :width]


class RoundedLinear(torch.nn.Module):
    def __init__(self, linear):
        super().__init__()
        self.weight = torch.nn.Parameter(rounded(linear.weight.data), requires_grad=False)
        self.bias = linear.bias

    def forward(self, x):
        return torch.nn.functional.linear(rounded(x), self.weight, self.bias)


def round_linears(module):
    for name, child in module.named_children():
        if isinstance(child, torch.nn.Linear):
            setattr(module, name, RoundedLinear(child))
        else:
            round_linears(child)
    return module


def logits(model, ids):
    """[len(ids), vocabulary] of one pass over the whole"""
    with torch.no_grad():
        return model(input_ids=torch.tensor([ids]), use_cache=False).logits[0].double()


def greedy(load, prompt):
    """The ids that follow a prompt, each from a pass over the whole. Where transformers' cache gives other ids
    (dynamic rotary frequencies: the keys it holds were turned by those of their time), the text ends before."""
    model, ids, margins = load(torch.float64), list(prompt), []
    for _ in range(GREEDY):
        row = logits(model, ids)[-1]
        best = row.topk(2)
        margins.append(round(float((best.values[0] - best.values[1]) / row.std()), 6))
        ids.append(int(best.indices[0]))
    ids = ids[len(prompt):]
    same = next((i for i, (a, b) in enumerate(zip(ids, cached(load, prompt))) if a != b), GREEDY)
    return {"ids": ids[:same], "margin": margins[:same]}


def cached(load, prompt):
    """The same with transformers' cache; what reference.py holds itself has none, nor anything to remember."""
    model, past, ids, step = load(torch.float64), None, [], prompt
    if not hasattr(model, "generate"):
        return ids
    with torch.no_grad():
        for _ in range(GREEDY):
            out = model(input_ids=torch.tensor([step]), past_key_values=past, use_cache=True)
            past, step = out.past_key_values, [int(out.logits[0, -1].argmax())]
            ids += step
    return ids


def unsure(model, prompt, text):
    """The largest margin of an id in whose place the model would have put another."""
    rows = logits(model, prompt + text["ids"][:-1])[len(prompt) - 1:]
    return max([m for row, i, m in zip(rows, text["ids"], text["margin"]) if int(row.argmax()) != i], default=0)


def write(directory, name, prompts, load):
    """load(dtype) gives the model afresh: transformers' dynamic rotary frequencies remember the
    longest sequence seen."""
    expected = [logits(load(torch.float64), p) for p in prompts]
    yardstick = {
        "bf16": [logits(load(torch.bfloat16), p) for p in prompts],
        "int8": [logits(round_linears(load(torch.float64)), p) for p in prompts],
    }
    golden = {
        "model": name,
        "prompts": prompts,
        "greedy": [greedy(load, p) for p in prompts],
        "yardstick_nmse": {
            kind: sum(map(nmse, got, expected)) / len(prompts) for kind, got in yardstick.items()
        },
    }
    for prompt, text in zip(prompts, golden["greedy"]):
        margin = unsure(round_linears(load(torch.float64)), prompt, text)
        assert margin < 0.12, f"the int8 yardstick itself differs at a margin of {margin}: draw others"
    (directory / "golden.json").write_text(json.dumps(golden) + "\n")
    save_file({f"logits.{i}": x.float().contiguous() for i, x in enumerate(expected)},
              directory / "golden.safetensors")
    return golden
