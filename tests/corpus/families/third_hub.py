"""Families of the transformers package, third round: tiny configurations, random weights, in several variations."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diag.train.workload import Workload
from tests.corpus.data import digits, large_digits, waves, words
from tests.corpus.families.family import FAMILIES, Family
from tests.corpus.families.fresh_hub import _pair_loss, _picture, _workload
from tests.corpus.healthy_transformers import LLAMA, SMALL, _causal_loss, _masked_loss
from tests.corpus.nets import Loss

Given = dict[str, Any]
COMMON, PADDING = 1000, 1000
"""Words from this number on, the later ones of the manual, count as one; the number that pads a passage."""


def _texts(size: int = 8) -> list[Tensor]:
    return [tokens.clamp(max=COMMON - 1) for tokens in words(size)[0]]


def _text(name: str, loss: Loss, **more: Any) -> Workload:
    return _workload(name, _texts(), loss, vocab_size=COMMON, **more)


def _padded(name: str, **more: Any) -> Workload:
    """Does the one word that about half of all passages have stand in this one? They are padded to one length."""
    given = _texts(16)
    generator = torch.Generator().manual_seed(5)
    seen = [torch.arange(25) < torch.randint(12, 26, (16, 1), generator=generator) for _ in given]
    tokens = [one.masked_fill(~mask, PADDING) for one, mask in zip(given, seen, strict=True)]
    shares = [float((torch.cat(tokens) == word).any(1).float().mean()) for word in range(60)]
    word = min(range(60), key=lambda one: abs(shares[one] - 0.5))
    batches = [
        {"input_ids": one, "attention_mask": mask.long(), "labels": (one == word).any(1).long()}
        for one, mask in zip(tokens, seen, strict=True)
    ]
    return _workload(name, batches, lambda m, b: m(**b).loss, vocab_size=COMMON + 1, num_labels=2, **more)


def _scene(name: str, **more: Any) -> Workload:
    """The class of each pixel: the digit's, or 10 for paper."""
    batches = [(x, torch.where(x[:, 0] > 0, y[:, None, None], 10)) for x, y in large_digits(8, 32, 1)]

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        logits = model(pixel_values=batch[0]).logits
        return F.cross_entropy(F.interpolate(logits, size=32, mode="bilinear"), batch[1])

    return _workload(name, batches, loss, num_labels=11, num_channels=1, **more)


def _series(name: str, **more: Any) -> Workload:
    batches = [x[..., None] for x, _ in waves(32)]

    def loss(model: nn.Module, batch: Tensor) -> Tensor:
        return model(past_values=batch[:, :28], future_values=batch[:, 28:]).loss

    return _workload(name, batches, loss, **more)


def _captioned(name: str, **more: Any) -> Workload:
    """Each picture goes with the one text that names its digit; a batch has each digit at most once."""
    text = {**SMALL, "num_hidden_layers": 2, "vocab_size": 16, "max_position_embeddings": 4, "eos_token_id": 15,
            "projection_size": 64}  # fmt: skip
    vision = {**SMALL, "num_hidden_layers": 2, **PATCHES}
    batches = []
    for x, y in digits(64, image=True):
        first = [int((y == one).nonzero()[0, 0]) for one in y.unique()]
        label = y[first][:8]
        tokens = torch.stack([torch.full_like(label, 11), label, torch.full_like(label, 15)], 1)
        batches.append((x[first][:8], tokens))

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return model(input_ids=batch[1], pixel_values=batch[0], return_loss=True).loss

    workload = _workload(name, batches, loss, text_config=text, vision_config=vision, **more)
    with torch.no_grad():
        for one, value in ((workload.model.logit_scale, math.log(10)), (workload.model.logit_bias, -2.0)):
            one.fill_(value)  # type: ignore[operator]
    return workload


PATCHES: Given = {"image_size": 8, "patch_size": 2, "num_channels": 1}
SEGFORMER: Given = {"hidden_sizes": [16, 16, 24, 32], "depths": [1, 1, 1, 1], "num_attention_heads": [1, 2, 2, 4],
                    "decoder_hidden_size": 24, "sr_ratios": [4, 2, 1, 1]}  # fmt: skip
EFFICIENT: Given = {"num_channels": 1, "image_size": 8, "width_coefficient": 0.25, "depth_coefficient": 0.3,
                    "hidden_dim": 320, "num_block_repeats": [1, 1, 1], "kernel_sizes": [3, 3, 5],
                    "in_channels": [32, 16, 24], "out_channels": [16, 24, 40], "strides": [1, 2, 2],
                    "expand_ratios": [1, 4, 4], "depthwise_padding": [], "drop_connect_rate": 0.0,
                    "dropout_rate": 0.2, "initializer_range": 0.1}  # fmt: skip
DEEP: Given = {"num_hidden_layers": 5}
GELU, RELU, OTHER = {"hidden_act": "gelu"}, {"hidden_act": "relu"}, {"turn": 17}
RATE: Given = {"optimizer": "adam", "lr": 3e-3}

GIVEN: dict[str, tuple[Callable[..., Workload], Given, dict[str, Given]]] = {
    "olmo2": (partial(_text, "Olmo2ForCausalLM", _causal_loss), LLAMA, {"deep": DEEP, "rate": RATE, "gelu": GELU}),
    "openai-gpt": (partial(_text, "OpenAIGPTLMHeadModel", _causal_loss), {"n_embd": 64, "n_layer": 3, "n_head": 4,
                   "n_positions": 64}, {"deep": {"n_layer": 5}, "rate": RATE, "other": OTHER}),
    "phi3": (partial(_text, "Phi3ForCausalLM", _causal_loss), {**LLAMA, "pad_token_id": 0},
             {"deep": DEEP, "rate": RATE, "other": OTHER}),
    "megatron-bert": (partial(_padded, "MegatronBertForSequenceClassification"), {**SMALL, "pad_token_id": PADDING,
                      "lr": 2e-3}, {"slow": {"optimizer": "adam", "lr": 1e-3}, "relu": RELU, "other": OTHER}),
    "rembert": (partial(_text, "RemBertForMaskedLM", _masked_loss), {**SMALL, "input_embedding_size": 32,
                "output_embedding_size": 48}, {"relu": RELU, "rate": RATE}),
    "switch-transformers": (partial(_text, "SwitchTransformersForConditionalGeneration", _pair_loss),
                            {"d_model": 64, "d_kv": 16, "d_ff": 96, "num_layers": 2, "num_decoder_layers": 2,
                            "num_heads": 4, "num_experts": 3, "num_sparse_encoder_layers": 1,
                            "num_sparse_decoder_layers": 1, "decoder_start_token_id": 0, "lr": 2e-3},
                            {"rate": RATE, "other": OTHER}),
    "segformer": (partial(_scene, "SegformerForSemanticSegmentation"), {**SEGFORMER, **RATE},
                  {"slow": {"optimizer": "adamw", "lr": 1e-3}, "relu": RELU, "other": OTHER}),
    "efficientnet": (partial(_picture, "EfficientNetForImageClassification"), {**EFFICIENT, **RATE},
                     {"rmsprop": {"optimizer": "rmsprop", "lr": 1e-3}, "relu": RELU, "other": OTHER}),
    "swin-v2": (partial(_picture, "Swinv2ForImageClassification"), {"image_size": 8, "patch_size": 2,
                "num_channels": 1, "embed_dim": 32, "depths": [1, 1], "num_heads": [2, 4], "window_size": 2,
                "lr": 2e-3},
                {"rate": RATE, "relu": RELU, "other": OTHER}),
    "siglip": (partial(_captioned, "SiglipModel"), {"lr": 5e-4}, {"slow": {"lr": 3e-4}, "fast": {"lr": 1e-3},
               "other": OTHER}),
    "patch-mixer": (partial(_series, "PatchTSMixerForPrediction"), {"num_input_channels": 1, "context_length": 28,
                    "patch_length": 4, "patch_stride": 4, "prediction_length": 12, "d_model": 24, "num_layers": 2,
                    "dropout": 0.1, **RATE}, {"deep": {"num_layers": 4}, "other": OTHER}),
}  # fmt: skip

for _name, (_build, _base, _variants) in GIVEN.items():
    _builds: dict[str, Callable[[], Workload]] = {"base": partial(_build, **_base)}
    _builds |= {one: partial(_build, **{**_base, **more}) for one, more in _variants.items()}
    FAMILIES[_name] = Family(_name, _builds, source=__name__)
