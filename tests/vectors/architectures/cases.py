"""The cases: configurations as published ones have them, only small."""

import copy
import random
import zlib
from dataclasses import dataclass, field

import torch


@dataclass
class Case:
    name: str
    config: dict
    lengths: tuple = (5, 19, 58)  # of the prompts
    matters: list = field(default_factory=list)  # changes of config.json that must change the last logits
    shards: int = 1
    norms_f32: bool = False
    fp8: torch.dtype = None  # of the scales
    draw: int = 0  # another one where golden.py refuses the first
    post_gain: float = 1.0  # of norms on what a layer adds: below 1 a deep model magnifies rounding less

    def __post_init__(self):
        self.seed = zlib.crc32(self.name.encode()) + self.draw
        rng = random.Random(self.seed)
        self.prompts = [[rng.randrange(3, self.config["vocab_size"]) for _ in range(n)] for n in self.lengths]


def changed(config, change):
    """config with {"a.b": value} set, or removed where value is None"""
    config = copy.deepcopy(config)
    for key, value in change.items():
        *path, last = key.split(".")
        at = config
        for name in path:
            at = at[name]
        if value is None:
            del at[last]
        else:
            at[last] = value
    return config


def common(kind, architecture, dtype, old, **more):
    """What all configurations state; `old`: the form before transformers 5."""
    config = {
        "architectures": [architecture],
        "bos_token_id": 1,
        "eos_token_id": 2,
        "hidden_act": "silu",
        "hidden_size": 40,
        "initializer_range": 0.02,
        "intermediate_size": 71,
        "max_position_embeddings": 512,
        "model_type": kind,
        "num_attention_heads": 4,
        "num_hidden_layers": 2,
        "num_key_value_heads": 2,
        "rms_norm_eps": 1e-05,
        "tie_word_embeddings": False,
        "torch_dtype" if old else "dtype": dtype,
        "transformers_version": "4.44.0" if old else "5.23.0",
        "use_cache": True,
        "vocab_size": 131,
    }
    return config | more


def internlm2_blank(c):
    """internlm/internlm2-7b, modeling_internlm2.py: names and shapes."""
    head_dim = c["hidden_size"] // c["num_attention_heads"]
    rows = (c["num_attention_heads"] + 2 * c["num_key_value_heads"]) * head_dim
    shapes = {"model.tok_embeddings.weight": (c["vocab_size"], c["hidden_size"]),
              "model.norm.weight": (c["hidden_size"],), "output.weight": (c["vocab_size"], c["hidden_size"])}
    for i in range(c["num_hidden_layers"]):
        for name, shape in {
            "attention.wqkv.weight": (rows, c["hidden_size"]),
            "attention.wo.weight": (c["hidden_size"], c["hidden_size"]),
            "attention_norm.weight": (c["hidden_size"],),
            "feed_forward.w1.weight": (c["intermediate_size"], c["hidden_size"]),
            "feed_forward.w2.weight": (c["hidden_size"], c["intermediate_size"]),
            "feed_forward.w3.weight": (c["intermediate_size"], c["hidden_size"]),
            "ffn_norm.weight": (c["hidden_size"],),
        }.items():
            shapes[f"model.layers.{i}.{name}"] = shape
    return {n: torch.empty(s) for n, s in shapes.items()}


def baichuan_blank(c):
    """baichuan-inc/Baichuan-7B, modeling_baichuan.py: names and shapes."""
    hidden, ffn = c["hidden_size"], c["intermediate_size"]
    shapes = {"model.embed_tokens.weight": (c["vocab_size"], hidden), "model.norm.weight": (hidden,),
              "lm_head.weight": (c["vocab_size"], hidden)}
    for i in range(c["num_hidden_layers"]):
        for name, shape in {
            "self_attn.W_pack.weight": (3 * hidden, hidden),
            "self_attn.o_proj.weight": (hidden, hidden),
            "input_layernorm.weight": (hidden,),
            "mlp.gate_proj.weight": (ffn, hidden),
            "mlp.up_proj.weight": (ffn, hidden),
            "mlp.down_proj.weight": (hidden, ffn),
            "post_attention_layernorm.weight": (hidden,),
        }.items():
            shapes[f"model.layers.{i}.{name}"] = shape
    return {n: torch.empty(s) for n, s in shapes.items()}


UNKNOWN = {"internlm2": internlm2_blank, "baichuan": baichuan_blank}  # to transformers

OLD, NEW = True, False


def llama(dtype, old, **more):
    return common("llama", "LlamaForCausalLM", dtype, old, attention_bias=False, attention_dropout=0.0,
                  mlp_bias=False, pretraining_tp=1, **more)


def qwen(kind, architecture, dtype, old, **more):
    return common(kind, architecture, dtype, old, attention_dropout=0.0, **more)


def gemma(kind, architecture, dtype, old, **more):
    return common(kind, architecture, dtype, old, attention_bias=False, pad_token_id=0,
                  hidden_activation="gelu_pytorch_tanh", rms_norm_eps=1e-06, tie_word_embeddings=True,
                  **{"head_dim": 20, "num_hidden_layers": 4, "intermediate_size": 61, **more})


def baichuan(architecture, **more):
    """Only 7B states max_position_embeddings, only Baichuan 2 z_loss_weight."""
    config = common("baichuan", architecture, "bfloat16", OLD, pad_token_id=0, **{
        "transformers_version": "4.29.2", "rms_norm_eps": 1e-06, **more})
    del config["num_key_value_heads"]
    if config["max_position_embeddings"] is None:
        del config["max_position_embeddings"]
    return config


def phi3(old, **more):
    return common("phi3", "Phi3ForCausalLM", "bfloat16", old, attention_bias=False, attention_dropout=0.0,
                  embd_pdrop=0.0, resid_pdrop=0.0, hidden_size=60, num_attention_heads=3,
                  num_key_value_heads=1, intermediate_size=67, max_position_embeddings=256,
                  original_max_position_embeddings=48, pad_token_id=0, **more)


def internlm2(**more):
    return common("internlm2", "InternLM2ForCausalLM", "bfloat16", OLD, attn_implementation="eager", bias=False,
                  auto_map={"AutoConfig": "configuration_internlm2.InternLM2Config"}, pad_token_id=2,
                  rope_theta=1000000.0, rope_scaling={"factor": 2.0, "type": "dynamic"}, **more)


LONGROPE = {"long_factor": [1.0, 1.1, 1.3, 1.8, 2.7, 4.1, 6.0, 9.5, 13.0, 20.0],
            "short_factor": [1.0, 1.02, 1.05, 1.1, 1.2, 1.3, 1.5, 1.8, 2.1, 2.5]}

CASES = [
    Case("mistral-nemo",
         common("mistral", "MistralForCausalLM", "bfloat16", OLD, head_dim=20, rope_theta=1000000.0,
                sliding_window=None, attention_dropout=0.0),
         matters=[{"rope_theta": 10000.0}]),
    Case("qwen1.5-mha",
         qwen("qwen2", "Qwen2ForCausalLM", "bfloat16", OLD, num_key_value_heads=4, vocab_size=1009,
              tie_word_embeddings=True, rope_theta=1000000.0, max_window_layers=21, sliding_window=512, use_sliding_window=False),
         lengths=(4, 21)),
    Case("qwen2-windows",
         qwen("qwen2", "Qwen2ForCausalLM", "float16", OLD, num_hidden_layers=3, tie_word_embeddings=True,
              rope_theta=1000000.0, max_window_layers=1, sliding_window=8, use_sliding_window=True),
         matters=[{"use_sliding_window": False}, {"max_window_layers": 0}, {"max_window_layers": 2},
                  {"sliding_window": 9}]),
    Case("qwen2-layer-types",
         qwen("qwen2", "Qwen2ForCausalLM", "bfloat16", NEW, num_hidden_layers=3, max_window_layers=28,
              layer_types=["sliding_attention", "full_attention", "sliding_attention"],
              rope_parameters={"rope_theta": 1000000.0, "rope_type": "default"}, sliding_window=11,
              use_sliding_window=True),
         matters=[{"layer_types": None}]),
    Case("qwen3-yarn",
         qwen("qwen3", "Qwen3ForCausalLM", "bfloat16", OLD, attention_bias=False, head_dim=20,
              tie_word_embeddings=True, rope_theta=1000000.0, max_window_layers=2, sliding_window=None,
              use_sliding_window=False, max_position_embeddings=128,
              rope_scaling={"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}),
         matters=[{"rope_scaling": None}, {"rope_scaling.factor": 2.0}]),
    Case("yi",
         llama("bfloat16", OLD, intermediate_size=271, rope_theta=5000000.0, rope_scaling=None,
               pad_token_id=0), shards=2),
    Case("llama-biases",
         llama("bfloat16", NEW, head_dim=10, rope_parameters={"rope_theta": 500000.0, "rope_type": "default"})
         | {"attention_bias": True, "mlp_bias": True}, norms_f32=True),
    Case("llama-linear",
         llama("float16", OLD, head_dim=20, rope_theta=10000.0, rope_scaling={"type": "linear", "factor": 4.0}),
         matters=[{"rope_scaling": None}]),
    Case("llama-dynamic",
         llama("bfloat16", OLD, head_dim=20, rope_theta=10000.0, max_position_embeddings=48,
               rope_scaling={"type": "dynamic", "factor": 2.0}),
         lengths=(5, 19, 58, 83), matters=[{"rope_scaling": None}, {"rope_scaling.factor": 4.0}]),
    Case("llama-yarn-mscale",
         llama("bfloat16", OLD, head_dim=20, rope_theta=10000.0, max_position_embeddings=1024,
               rope_scaling={"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 256,
                             "beta_fast": 4, "beta_slow": 1, "mscale": 1.0, "mscale_all_dim": 0.4}),
         matters=[{"rope_scaling.mscale": None}, {"rope_scaling.mscale_all_dim": 1.0},
                  {"rope_scaling.beta_fast": 32}]),
    Case("llama-yarn-factor",
         llama("bfloat16", NEW, head_dim=20, max_position_embeddings=1024,
               rope_parameters={"rope_theta": 10000.0, "rope_type": "yarn", "factor": 4.0,
                                "original_max_position_embeddings": 256, "attention_factor": 1.3,
                                "beta_fast": 3.0, "beta_slow": 0.7, "truncate": False}),
         matters=[{"rope_parameters.attention_factor": None}, {"rope_parameters.truncate": True}]),
    Case("phi3-longrope-short",
         phi3(OLD, rope_theta=10000.0, rope_scaling={"type": "longrope", **LONGROPE}, sliding_window=300),
         lengths=(5, 12, 24),
         matters=[{"original_max_position_embeddings": 24, "max_position_embeddings": 128},
                  {"original_max_position_embeddings": 23}]),
    Case("phi3-longrope-long",
         phi3(NEW, rope_parameters={"rope_type": "longrope", "rope_theta": 10000.0,
                                    "original_max_position_embeddings": 48, "partial_rotary_factor": 0.8,
                                    **{k: v[1:9] for k, v in LONGROPE.items()}},
              partial_rotary_factor=0.8, sliding_window=None, tie_word_embeddings=True),
         lengths=(49, 71)),
    Case("gemma",
         gemma("gemma", "GemmaForCausalLM", "bfloat16", OLD, hidden_act="gelu", num_hidden_layers=2,
               num_key_value_heads=1, rope_theta=10000.0),
         lengths=(5, 37)),
    Case("gemma2",
         gemma("gemma2", "Gemma2ForCausalLM", "bfloat16", OLD, attn_logit_softcapping=3.0,
               final_logit_softcapping=0.7, query_pre_attn_scalar=11, rope_theta=10000.0, sliding_window=8,
               hidden_act="gelu_pytorch_tanh", cache_implementation="hybrid"),
         matters=[{"attn_logit_softcapping": 50.0}, {"final_logit_softcapping": 30.0},
                  {"query_pre_attn_scalar": 20}, {"sliding_window": 9}]),
    Case("gemma2-head-scale",  # as 2B and 9B; a GGUF has no query_pre_attn_scalar
         gemma("gemma2", "Gemma2ForCausalLM", "bfloat16", OLD, attn_logit_softcapping=3.0,
               final_logit_softcapping=0.7, query_pre_attn_scalar=20, rope_theta=10000.0, sliding_window=11,
               hidden_act="gelu_pytorch_tanh", cache_implementation="hybrid", num_hidden_layers=2),
         lengths=(5, 37)),
    Case("gemma3-linear",
         gemma("gemma3_text", "Gemma3ForCausalLM", "bfloat16", OLD, attn_logit_softcapping=None,
               final_logit_softcapping=None, query_pre_attn_scalar=14, rope_theta=1000000.0,
               rope_local_base_freq=10000.0, rope_scaling={"factor": 8.0, "rope_type": "linear"},
               sliding_window=8, sliding_window_pattern=2),
         matters=[{"rope_scaling": None}, {"sliding_window_pattern": 3}, {"rope_local_base_freq": 1000.0},
                  {"sliding_window": 9}], draw=5),
    Case("gemma3-parameters",
         gemma("gemma3_text", "Gemma3ForCausalLM", "bfloat16", NEW, attn_logit_softcapping=None,
               final_logit_softcapping=0.6, query_pre_attn_scalar=14, sliding_window=7,
               layer_types=["full_attention", "sliding_attention", "full_attention", "sliding_attention"],
               rope_parameters={"full_attention": {"factor": 4.0, "rope_theta": 1000000.0, "rope_type": "linear"},
                                "sliding_attention": {"rope_theta": 10000.0, "rope_type": "default"}}),
         matters=[{"rope_parameters.full_attention.rope_type": "default"}, {"layer_types": None},
                  {"final_logit_softcapping": None}]),
    Case("gemma3-every-6",  # as 4B; a GGUF has neither query_pre_attn_scalar nor the pattern
         gemma("gemma3_text", "Gemma3ForCausalLM", "bfloat16", OLD, attn_logit_softcapping=None,
               final_logit_softcapping=None, query_pre_attn_scalar=10, rope_theta=1000000.0, head_dim=10,
               rope_local_base_freq=10000.0, rope_scaling={"factor": 8.0, "rope_type": "linear"},
               sliding_window=9, sliding_window_pattern=6, num_hidden_layers=7, num_key_value_heads=1,
               intermediate_size=31),
         lengths=(5, 37), matters=[{"rope_scaling": None}, {"sliding_window_pattern": 5}], post_gain=0.4),
    Case("olmo2",
         common("olmo2", "Olmo2ForCausalLM", "float32", OLD, attention_bias=False, intermediate_size=51,
                rope_scaling=None, rope_theta=500000.0, rms_norm_eps=1e-06)),
    Case("granite",
         common("granite", "GraniteForCausalLM", "bfloat16", OLD, attention_bias=False, mlp_bias=False,
                attention_multiplier=0.4, embedding_multiplier=6.0, logits_scaling=4.0, residual_multiplier=0.7,
                rope_scaling=None, rope_theta=10000.0, tie_word_embeddings=True), shards=3,
         matters=[{"attention_multiplier": 0.31}, {"embedding_multiplier": 5.0}, {"logits_scaling": 1.0},
                  {"residual_multiplier": 1.0}]),
    Case("smollm3-sliding-off",
         common("smollm3", "SmolLM3ForCausalLM", "bfloat16", OLD, attention_bias=False, mlp_bias=False,
                num_hidden_layers=3, pad_token_id=0, no_rope_layer_interval=4, no_rope_layers=[1, 0, 1], rope_scaling=None,
                rope_theta=5000000.0, sliding_window=8, use_sliding_window=False, tie_word_embeddings=True),
         matters=[{"no_rope_layers": [1, 1, 1]}, {"use_sliding_window": True}]),
    Case("smollm3-every-4",  # as published; a GGUF does not say which layers
         common("smollm3", "SmolLM3ForCausalLM", "bfloat16", OLD, attention_bias=False, mlp_bias=False,
                num_hidden_layers=5, no_rope_layer_interval=4, no_rope_layers=[1, 1, 1, 0, 1], rope_scaling=None,
                rope_theta=5000000.0, sliding_window=None, use_sliding_window=False, tie_word_embeddings=True,
                intermediate_size=31, pad_token_id=0),
         lengths=(5, 37), matters=[{"no_rope_layers": [1, 1, 1, 1, 1]}]),
    Case("internlm2", internlm2(num_hidden_layers=2, max_position_embeddings=64), lengths=(5, 40)),
    Case("internlm2-dynamic", internlm2(num_hidden_layers=1, max_position_embeddings=48), lengths=(58,),
         matters=[{"rope_scaling": None}]),
    Case("baichuan-7b",  # layers as published: for llama.cpp others than 32 do not turn
         baichuan("BaiChuanForCausalLM", hidden_size=24, num_attention_heads=3, num_hidden_layers=32,
                  intermediate_size=11),
         lengths=(5, 30), draw=1),
    Case("baichuan-13b",
         baichuan("BaichuanForCausalLM", max_position_embeddings=None, model_max_length=512, hidden_size=48,
                  num_attention_heads=6, gradient_checkpointing=False),
         matters=[{"max_position_embeddings": 512}, {"num_attention_heads": 8}]),
    Case("baichuan-13b-40",  # as published: a GGUF says ALiBi by 40 layers
         baichuan("BaichuanForCausalLM", max_position_embeddings=None, model_max_length=512, hidden_size=18,
                  num_attention_heads=3, num_hidden_layers=40, intermediate_size=11),
         lengths=(5, 30), matters=[{"max_position_embeddings": 512}]),
    Case("baichuan2-7b",
         baichuan("BaichuanForCausalLM", model_max_length=512, z_loss_weight=0),
         matters=[{"z_loss_weight": None}]),
    Case("baichuan2-13b",
         baichuan("BaichuanForCausalLM", max_position_embeddings=None, model_max_length=512, z_loss_weight=0,
                  gradient_checkpointing=False),
         matters=[{"z_loss_weight": None}, {"max_position_embeddings": 512}]),
    Case("qwen3-fp8",
         qwen("qwen3", "Qwen3ForCausalLM", "bfloat16", OLD, attention_bias=False, hidden_size=136, head_dim=68,
              num_attention_heads=2, num_key_value_heads=1, intermediate_size=139, num_hidden_layers=1,
              max_window_layers=1,
              rope_scaling=None, rope_theta=1000000.0, sliding_window=None, use_sliding_window=False,
              tie_word_embeddings=True, quantization_config={
                  "activation_scheme": "dynamic", "fmt": "e4m3", "quant_method": "fp8",
                  "weight_block_size": [128, 128]}),
         lengths=(5, 31), fp8=torch.bfloat16),
    Case("llama-fp8",
         llama("bfloat16", NEW, hidden_size=132, head_dim=66, num_attention_heads=2, num_key_value_heads=1,
               num_hidden_layers=1, intermediate_size=130,
               rope_parameters={"rope_theta": 10000.0, "rope_type": "default"}, quantization_config={
                   "activation_scheme": "dynamic", "modules_to_not_convert": ["lm_head"],
                   "quant_method": "fp8", "weight_block_size": [128, 128]}),
         lengths=(5, 31), fp8=torch.float32),
]
