"""Holds llama.cpp to the goldens of the GGUF forms: check_gguf.py [NAME...]. Needs llama_cpp_python; LLAMA_CPP_LIB_PATH
names another build of the library."""

import json
import pathlib
import sys

sys.dont_write_bytecode = True

import numpy as np
import torch
from llama_cpp import llama_cpp as ll
from safetensors.torch import load_file

from golden import nmse

HERE = pathlib.Path(__file__).parent


def logits(model, ids):
    """[len(ids), vocabulary] in f32 with the KV cache in f32"""
    options = ll.llama_context_default_params()
    options.n_ctx = options.n_batch = options.n_ubatch = 256
    options.type_k = options.type_v = 0  # GGML_TYPE_F32
    options.flash_attn_type = 0
    options.n_threads = options.n_threads_batch = 1
    state = ll.llama_init_from_model(model, options)
    batch = ll.llama_batch_init(len(ids), 0, 1)
    batch.n_tokens = len(ids)
    for i, one in enumerate(ids):
        batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.seq_id[i][0], batch.logits[i] = one, i, 1, 0, 1
    assert ll.llama_decode(state, batch) == 0
    vocab = ll.llama_vocab_n_tokens(ll.llama_model_get_vocab(model))
    out = np.ctypeslib.as_array(ll.llama_get_logits(state), (len(ids), vocab)).copy()
    ll.llama_batch_free(batch)
    ll.llama_free(state)
    return torch.from_numpy(out)


# llama.cpp takes longrope's short factors where the context, at least 256, is not above the original length.
longer = (ll.llama_model_kv_override * 2)()
longer[0].tag, longer[0].key = 0, b"phi3.rope.scaling.original_context_length"
longer[0].value.val_i64 = 256

ll.llama_backend_init()
silent = ll.llama_log_callback(lambda *_: None)
ll.llama_log_set(silent, None)
for file in sorted(HERE.glob("*/model.gguf")):
    name = file.parent.name
    if sys.argv[1:] and name not in sys.argv[1:]:
        continue
    golden = json.loads((file.parent / "golden.json").read_text())
    expected = load_file(file.parent / "golden.safetensors")
    options = ll.llama_model_default_params()
    if name == "phi3-longrope-short":
        options.kv_overrides = longer
    model = ll.llama_model_load_from_file(str(file).encode(), options)
    errors = [nmse(logits(model, p), expected[f"logits.{i}"]) for i, p in enumerate(golden["prompts"])]
    print(name, *(f"{e:.2g}" for e in errors), "yardsticks", *(f"{y:.2g}" for y in golden["yardstick_nmse"].values()))
    ll.llama_model_free(model)
