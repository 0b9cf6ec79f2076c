"""Families of the transformers package that no rule was fitted on: tiny configurations, random weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from diag.train.workload import Workload
from tests.corpus.data import words
from tests.corpus.families.family import FAMILIES, Family
from tests.corpus.healthy_transformers import LLAMA, PAIR, SMALL, _adamw, _causal_loss, _image, _masked_loss, _model


def _text(name: str, loss: Callable[[nn.Module, Any], Tensor], lr: float = 1e-3, **config: Any) -> Workload:
    batches, vocabulary = words(8)
    return _adamw(_model(name, vocab_size=vocabulary, **config), batches, loss, lr)


def _decoder(model: nn.Module, tokens: Tensor) -> Tensor:
    return model(input_ids=tokens[:, :12], labels=tokens[:, 12:].contiguous()).loss


GPT = {"n_embd": 64, "n_layer": 3, "n_head": 4, "n_positions": 64}
TWO = {**LLAMA, "num_hidden_layers": 2, "head_dim": 16}
GIVEN: dict[str, tuple[str, Callable[[nn.Module, Any], Tensor], dict[str, Any]]] = {
    "gpt-neo": ("GPTNeoForCausalLM", _causal_loss, {"hidden_size": 64, "num_layers": 2, "num_heads": 4,
                "attention_types": [[["global", "local"], 1]], "max_position_embeddings": 64, "window_size": 8}),
    "gptj": ("GPTJForCausalLM", _causal_loss, {**GPT, "rotary_dim": 8}),
    "codegen": ("CodeGenForCausalLM", _causal_loss, {**GPT, "rotary_dim": 8}),
    "bloom": ("BloomForCausalLM", _causal_loss, {"hidden_size": 64, "n_layer": 3, "n_head": 4}),
    "falcon": ("FalconForCausalLM", _causal_loss, {"hidden_size": 64, "num_hidden_layers": 3,
               "num_attention_heads": 4}),
    "phi": ("PhiForCausalLM", _causal_loss, SMALL),
    "gemma": ("GemmaForCausalLM", _causal_loss, TWO),
    "mistral": ("MistralForCausalLM", _causal_loss, TWO),
    "olmo": ("OlmoForCausalLM", _causal_loss, SMALL),
    "stablelm": ("StableLmForCausalLM", _causal_loss, LLAMA),
    "qwen3": ("Qwen3ForCausalLM", _causal_loss, TWO),
    "mamba": ("MambaForCausalLM", _causal_loss, {"hidden_size": 48, "num_hidden_layers": 2, "state_size": 8}),
    "xlnet": ("XLNetLMHeadModel", _causal_loss, {"d_model": 64, "n_layer": 2, "n_head": 4, "d_inner": 128}),
    "mpnet": ("MPNetForMaskedLM", _masked_loss, SMALL),
    "fnet": ("FNetForMaskedLM", _masked_loss, {"hidden_size": 64, "num_hidden_layers": 3, "intermediate_size": 128}),
    "roformer": ("RoFormerForMaskedLM", _masked_loss, {**SMALL, "embedding_size": 64}),
    "convbert": ("ConvBertForMaskedLM", _masked_loss, {**SMALL, "embedding_size": 64}),
    "squeezebert": ("SqueezeBertForMaskedLM", _masked_loss, {**SMALL, "embedding_size": 64}),
    "mobilebert": ("MobileBertForMaskedLM", _masked_loss, {**SMALL, "embedding_size": 32, "num_hidden_layers": 2,
                   "true_hidden_size": 32, "intra_bottleneck_size": 32}),
    "modernbert": ("ModernBertForMaskedLM", _masked_loss, {**SMALL, "pad_token_id": 0}),
    "pegasus": ("PegasusForConditionalGeneration", _decoder, {**PAIR, "max_position_embeddings": 64,
                "decoder_start_token_id": 0}),
    "marian": ("MarianMTModel", _decoder, {**PAIR, "pad_token_id": 0, "decoder_start_token_id": 0,
               "max_position_embeddings": 64}),
}  # fmt: skip
PICTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "deit": ("DeiTForImageClassification", {"image_size": 8, "patch_size": 2, "num_channels": 1, **SMALL}),
    "beit": ("BeitForImageClassification", {"image_size": 8, "patch_size": 2, "num_channels": 1, **SMALL}),
    "dinov2": ("Dinov2ForImageClassification", {"image_size": 8, "patch_size": 2, "num_channels": 1,
               "hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4}),
    "poolformer": ("PoolFormerForImageClassification", {"num_channels": 1, "hidden_sizes": [16, 24, 32, 48],
                   "depths": [1, 1, 1, 1], "patch_sizes": [3, 3, 3, 3], "strides": [2, 2, 1, 1],
                   "padding": [1, 1, 1, 1], "num_encoder_blocks": 4}),
    "regnet": ("RegNetForImageClassification", {"num_channels": 1, "embedding_size": 16, "hidden_sizes": [16, 32],
               "depths": [1, 1], "groups_width": 8}),
    "mobilenet-v2": ("MobileNetV2ForImageClassification", {"num_channels": 1, "image_size": 8, "depth_multiplier": 0.25,
                     "depth_divisible_by": 4, "min_depth": 4, "output_stride": 8}),
}  # fmt: skip


def _add(name: str, build: Callable[[], Workload]) -> None:
    FAMILIES[name] = Family(name, {"base": build}, source=__name__)


for _name, (_kind, _loss, _config) in GIVEN.items():
    _add(_name, lambda kind=_kind, loss=_loss, config=_config: _text(kind, loss, **config))  # type: ignore[misc]
for _name, (_kind, _config) in PICTURES.items():
    _add(_name, lambda kind=_kind, config=_config: _image(kind, **config))  # type: ignore[misc]
