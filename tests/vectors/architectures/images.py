"""Cases as the text part of a model with images, in the form published before transformers 4.52 (names begin with
language_model.model., config.json has a text_config). What such a model computes of a text is the same."""

import json
import pathlib
import shutil
import struct

HERE = pathlib.Path(__file__).parent
OUTSIDE = {
    ("gemma3-parameters", "gemma3-images"): {
        "architectures": ["Gemma3ForConditionalGeneration"], "boi_token_index": 4, "eoi_token_index": 5,
        "eos_token_id": [1, 106], "image_token_index": 6, "mm_tokens_per_image": 4, "model_type": "gemma3",
        "vision_config": {"hidden_size": 4, "model_type": "siglip_vision_model", "num_hidden_layers": 1}},
    ("mistral-nemo", "mistral3-images"): {
        "architectures": ["Mistral3ForConditionalGeneration"], "image_token_index": 6, "model_type": "mistral3",
        "multimodal_projector_bias": False, "projector_hidden_act": "gelu", "spatial_merge_size": 2,
        "vision_config": {"head_dim": 2, "hidden_size": 4, "model_type": "pixtral", "num_hidden_layers": 1},
        "vision_feature_layer": -1},
}
SPARE = ("vision_tower.patch_conv.weight", "multi_modal_projector.linear_1.weight")


def read(path):
    data = path.read_bytes()
    end = 8 + struct.unpack("<Q", data[:8])[0]
    return json.loads(data[8:end]), data[end:]


def write(path, header, data):
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


for (source, target), outside in OUTSIDE.items():
    source, target = HERE / source, HERE / target
    target.mkdir(exist_ok=True)
    header, data = read(source / "model.safetensors")
    renamed = {n if n == "__metadata__" else f"language_model.{n}": t for n, t in header.items()}
    at = len(data)
    for name in SPARE:
        renamed[name] = {"dtype": "BF16", "shape": [2, 4], "data_offsets": [at, at + 16]}
        at += 16
    write(target / "model.safetensors", renamed, data + bytes(16 * len(SPARE)))
    text = json.loads((source / "config.json").read_text())
    for key in ("architectures", "eos_token_id", "tie_word_embeddings"):  # as published: not stated within
        text.pop(key, None)
    (target / "config.json").write_text(json.dumps(outside | {"text_config": text}, indent=2) + "\n")
    for name in ("golden.json", "golden.safetensors"):
        shutil.copyfile(source / name, target / name)
