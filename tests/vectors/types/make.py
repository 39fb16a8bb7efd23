#!/usr/bin/env python3
"""Makes types.gguf and expected.safetensors beside it: two blocks of random bytes (finite scales) of each of ggml's
types, and their values as the Python package gguf (llama.cpp's; pip install gguf safetensors) computes them."""
import pathlib

import gguf
import numpy as np
from safetensors.numpy import save_file

here = pathlib.Path(__file__).parent
T = gguf.GGMLQuantizationType
# Where a block's f16 fields lie, so that no scale is infinite or NaN; the rest is random.
HALVES = {
    T.Q4_0: [0], T.Q4_1: [0, 2], T.Q5_0: [0], T.Q5_1: [0, 2], T.Q8_0: [0], T.Q2_K: [80, 82], T.Q3_K: [108],
    T.Q4_K: [0, 2], T.Q5_K: [0, 2], T.Q6_K: [208], T.IQ4_NL: [0], T.IQ4_XS: [0], T.MXFP4: [], T.NVFP4: [],
    T.TQ1_0: [52], T.TQ2_0: [64], T.IQ2_XXS: [0], T.IQ2_XS: [0], T.IQ2_S: [0], T.IQ3_XXS: [0], T.IQ3_S: [0],
    T.IQ1_S: [0], T.IQ1_M: [],
}
rng = np.random.default_rng(4)
writer = gguf.GGUFWriter(here / "types.gguf", "llama")
expected = {}
for kind, halves in HALVES.items():
    size, block_bytes = gguf.GGML_QUANT_SIZES[kind]
    blocks = rng.integers(0, 256, (512 // size, block_bytes), dtype=np.uint8)
    for at in halves:
        blocks[:, at + 1] &= 0xBF
    if kind == T.MXFP4:
        blocks[:, 0] = rng.integers(100, 140, len(blocks))
    if kind == T.IQ1_M:  # its f16 is spread over four words; 0x3... is finite
        blocks[:, 55] = blocks[:, 55] & 0x0F | 0x30
    data = blocks.reshape(1, -1)
    writer.add_tensor(kind.name, data, raw_dtype=kind)
    expected[kind.name] = gguf.quants.dequantize(data, kind).astype(np.float32)
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()
save_file(expected, here / "expected.safetensors")
