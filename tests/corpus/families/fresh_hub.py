"""Families of the transformers package, second round: tiny configurations, random weights, in several variations."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from diag.train.workload import Workload
from tests.corpus.data import digits, large_digits, waves, words
from tests.corpus.families.family import FAMILIES, OPTIMIZERS, Family
from tests.corpus.healthy_transformers import LLAMA, PAIR, SMALL, _causal_loss, _image_loss, _masked_loss, _model
from tests.corpus.nets import Loss

Given = dict[str, Any]


def _workload(
    name: str, batches: list[Any], loss: Loss, optimizer: str = "adamw", lr: float = 1e-3, turn: int = 0, **more: Any
) -> Workload:
    model = _model(name, **more)
    return Workload(
        model, batches[turn:] + batches[:turn], loss, OPTIMIZERS[optimizer](model.parameters(), lr=lr)
    )  # fmt: skip


def _text(name: str, loss: Loss, **more: Any) -> Workload:
    batches, vocabulary = words(8)
    return _workload(name, batches, loss, vocab_size=vocabulary, **more)


def _pair_loss(model: nn.Module, tokens: Tensor) -> Tensor:
    return model(input_ids=tokens[:, :12], labels=tokens[:, 12:].contiguous()).loss


def _picture(name: str, large: bool = False, **more: Any) -> Workload:
    batches = large_digits(16) if large else digits(image=True)
    return _workload(name, batches, _image_loss, num_labels=10, **more)


def _sound(name: str, **more: Any) -> Workload:
    batches = [(F.interpolate(x.reshape(-1, 1, 64), size=320, mode="linear")[:, 0], y) for x, y in digits(16)]
    own = {"num_labels": 10, "conv_dim": (32, 32, 32), "conv_stride": (5, 2, 2), "conv_kernel": (10, 3, 3),
           "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4, "mask_time_prob": 0.0, "layerdrop": 0.0,
           "classifier_proj_size": 32}  # fmt: skip
    return _workload(name, batches, lambda m, b: m(input_values=b[0], labels=b[1]).loss, **{**own, **more})


def _series(name: str, **more: Any) -> Workload:
    """The second half of a wave from its first."""
    batches = [x[..., None] for x, _ in waves(32)]

    def loss(model: nn.Module, batch: Tensor) -> Tensor:
        return model(past_values=batch[:, :28], future_values=batch[:, 28:]).loss

    return _workload(name, batches, loss, **more)


TWO = {**LLAMA, "num_hidden_layers": 2, "head_dim": 16}
GPT = {"n_embd": 64, "n_layer": 3, "n_head": 4, "n_positions": 64}
MPT = {"d_model": 64, "n_layers": 3, "n_heads": 4, "max_seq_len": 64}
PVT = {"num_channels": 1, "image_size": 16, "hidden_sizes": [16, 32, 48, 64], "depths": [1, 1, 1, 1],
       "num_attention_heads": [1, 2, 2, 4], "strides": [2, 2, 2, 1], "patch_sizes": [3, 3, 3, 3],
       "sr_ratios": [2, 1, 1, 1], "mlp_ratios": [2, 2, 2, 2]}  # fmt: skip
PATCHES = {"image_size": 8, "patch_size": 2, "num_channels": 1}
DEEP: Given = {"num_hidden_layers": 5}
GELU, RELU, OTHER = {"hidden_act": "gelu"}, {"hidden_act": "relu"}, {"turn": 45}
RATE: Given = {"optimizer": "adam", "lr": 3e-3}
SGD: Given = {"optimizer": "momentum", "lr": 0.05}

_causal = partial(_text, loss=_causal_loss)
_masked = partial(_text, loss=_masked_loss)
_pair = partial(_text, loss=_pair_loss)

GIVEN: dict[str, tuple[Callable[..., Workload], Given, dict[str, Given]]] = {
    "gemma2": (partial(_causal, "Gemma2ForCausalLM"), {**TWO, "sliding_window": 16, "query_pre_attn_scalar": 16},
               {"deep": {"num_hidden_layers": 4}, "other": OTHER}),
    "granite": (partial(_causal, "GraniteForCausalLM"), LLAMA, {"gelu": GELU, "rate": RATE}),
    "gpt-bigcode": (partial(_causal, "GPTBigCodeForCausalLM"), GPT,
                    {"deep": {"n_layer": 5}, "rate": RATE}),
    "mpt": (partial(_causal, "MptForCausalLM"), MPT, {"deep": {"n_layers": 5}, "other": OTHER}),
    "biogpt": (partial(_causal, "BioGptForCausalLM"), SMALL, {"relu": RELU, "rate": RATE}),
    "ernie": (partial(_masked, "ErnieForMaskedLM"), SMALL, {"relu": RELU, "rate": RATE}),
    "blenderbot": (partial(_pair, "BlenderbotForConditionalGeneration"), {**PAIR, "max_position_embeddings": 64,
                   "decoder_start_token_id": 0}, {"rate": RATE, "other": OTHER,
                   "relu": {"activation_function": "relu"}}),
    "levit": (partial(_picture, "LevitForImageClassificationWithTeacher", large=True), {"image_size": 32,
              "hidden_sizes": [16, 32, 48], "num_attention_heads": [2, 2, 2], "depths": [1, 1, 1],
              "key_dim": [8, 8, 8], "drop_path_rate": 0}, {"rate": RATE, "other": OTHER}),
    "pvt-v2": (partial(_picture, "PvtV2ForImageClassification"), {**PVT, "image_size": 8},
               {"rate": RATE, "relu": RELU, "other": OTHER}),
    "focalnet": (partial(_picture, "FocalNetForImageClassification"), {**PATCHES, "embed_dim": 24, "depths": [1, 1],
                 "focal_levels": [2, 2], "focal_windows": [3, 3], "hidden_sizes": [24, 48]},
                 {"rate": RATE, "relu": RELU, "other": OTHER}),
    "convnext-v2": (partial(_picture, "ConvNextV2ForImageClassification"), {"num_channels": 1, "patch_size": 2,
                    "hidden_sizes": [24, 48], "depths": [2, 2], "num_stages": 2},
                    {"rate": RATE, "relu": RELU, "other": OTHER}),
    "big-transfer": (partial(_picture, "BitForImageClassification"), {"num_channels": 1, "embedding_size": 16,
                     "hidden_sizes": [32, 64], "depths": [1, 1], "num_groups": 8, "layer_type": "preactivation"},
                     {"rate": RATE, "sgd": SGD, "other": OTHER}),
    "hubert": (partial(_sound, "HubertForSequenceClassification"), SMALL, {"rate": RATE, "other": OTHER}),
    "patch-series": (partial(_series, "PatchTSTForPrediction"), {"num_input_channels": 1, "context_length": 28,
                     "patch_length": 4, "patch_stride": 4, "prediction_length": 12, "d_model": 32,
                     "num_attention_heads": 4, "num_hidden_layers": 2, "ffn_dim": 64},
                     {"deep": {"num_hidden_layers": 4}, "rate": RATE}),
}  # fmt: skip

for _name, (_build, _base, _variants) in GIVEN.items():
    _builds = {"base": partial(_build, **_base)}
    _builds |= {one: partial(_build, **{**_base, **more}) for one, more in _variants.items()}
    FAMILIES[_name] = Family(_name, _builds, source=__name__)
