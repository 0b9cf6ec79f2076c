"""Healthy models of the transformers package: tiny configurations with random weights, trained on text and digits."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diag.train.workload import Workload
from tests.corpus.case import Case, healthy
from tests.corpus.data import digits, large_digits, waves, words

MASKED, IGNORED = 3, -100
SMALL: dict[str, Any] = {"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 128}


def _model(name: str, **config: Any) -> nn.Module:
    """A model by its class name, with the configuration class it names."""
    transformers = pytest.importorskip("transformers")
    kind = getattr(transformers, name)
    return kind(kind.config_class(**config))


def _adamw(model: nn.Module, batches: list[Any], loss: Callable[[nn.Module, Any], Tensor], lr: float) -> Workload:
    return Workload(model, batches, loss, torch.optim.AdamW(model.parameters(), lr=lr))


def _masked_loss(model: nn.Module, tokens: Tensor) -> Tensor:
    hidden = torch.rand(tokens.shape) < 0.15
    labels = tokens.masked_fill(~hidden, IGNORED)
    return model(input_ids=tokens.masked_fill(hidden, MASKED), labels=labels).loss


def _causal_loss(model: nn.Module, tokens: Tensor) -> Tensor:
    return model(input_ids=tokens, labels=tokens).loss


def _pair_loss(model: nn.Module, tokens: Tensor) -> Tensor:
    return model(input_ids=tokens[:, :12], labels=tokens[:, 12:].contiguous()).loss


def _image_loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return F.cross_entropy(model(pixel_values=batch[0]).logits, batch[1])


def _text(name: str, loss: Callable[[nn.Module, Any], Tensor], lr: float = 1e-3, **config: Any) -> Workload:
    batches, vocabulary = words()
    return _adamw(_model(name, vocab_size=vocabulary, **config), batches, loss, lr)


def _image(name: str, lr: float = 1e-3, large: bool = False, **config: Any) -> Workload:
    batches = large_digits(16) if large else digits(image=True)
    return _adamw(_model(name, num_labels=10, **config), batches, _image_loss, lr)


def _wav2vec2() -> Workload:
    batches = [(F.interpolate(x[:, None], size=320, mode="linear")[:, 0], y) for x, y in waves(16)]
    model = _model(
        "Wav2Vec2ForSequenceClassification", **SMALL, num_labels=10, conv_dim=(32, 32, 32), conv_stride=(5, 2, 2),
        conv_kernel=(10, 3, 3), num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=4, mask_time_prob=0.0,
        layerdrop=0.0, classifier_proj_size=32,
    )  # fmt: skip
    return _adamw(model, batches, lambda m, b: m(input_values=b[0], labels=b[1]).loss, 1e-3)


def _whisper() -> Workload:
    model = _model(
        "WhisperForConditionalGeneration", vocab_size=16, d_model=64, encoder_layers=2, decoder_layers=2,
        encoder_attention_heads=4, decoder_attention_heads=4, encoder_ffn_dim=128, decoder_ffn_dim=128,
        num_mel_bins=8, max_source_positions=16, max_target_positions=8, pad_token_id=15, bos_token_id=14,
        eos_token_id=13, decoder_start_token_id=12,
    )  # fmt: skip
    batches = [(F.interpolate(x.reshape(-1, 8, 8), size=32), y) for x, y in digits()]

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        labels = torch.stack([batch[1], torch.full_like(batch[1], 13)], 1)
        return model(input_features=batch[0], labels=labels).loss

    return _adamw(model, batches, loss, 2e-3)


def _clip() -> Workload:
    text = {**SMALL, "num_hidden_layers": 2, "vocab_size": 16, "max_position_embeddings": 4, "eos_token_id": 15}
    vision = {**SMALL, "num_hidden_layers": 2, "image_size": 8, "patch_size": 2, "num_channels": 1}
    model = _model("CLIPModel", text_config=text, vision_config=vision, projection_dim=32)

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        image, label = batch[0][:10], batch[1][:10]
        tokens = torch.stack([torch.full_like(label, 11), label, torch.full_like(label, 15)], 1)
        return model(input_ids=tokens, pixel_values=image, return_loss=True).loss

    return _adamw(model, digits(image=True), loss, 2e-3)


LLAMA = {**SMALL, "num_key_value_heads": 2}
PAIR = {
    "d_model": 64, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4, "decoder_attention_heads": 4,
    "encoder_ffn_dim": 128, "decoder_ffn_dim": 128,
}  # fmt: skip
BUILDS: dict[str, Callable[[], Workload]] = {
    "bert-mlm": partial(_text, "BertForMaskedLM", _masked_loss, **SMALL),
    "roberta-mlm": partial(_text, "RobertaForMaskedLM", _masked_loss, **SMALL),
    "distilbert-mlm": partial(
        _text, "DistilBertForMaskedLM", _masked_loss, dim=64, n_layers=3, n_heads=4, hidden_dim=128
    ),
    "electra-mlm": partial(_text, "ElectraForMaskedLM", _masked_loss, embedding_size=32, **SMALL),
    "albert-mlm": partial(_text, "AlbertForMaskedLM", _masked_loss, embedding_size=32, **SMALL),
    "deberta-mlm": partial(_text, "DebertaV2ForMaskedLM", _masked_loss, **SMALL),
    "gpt2": partial(_text, "GPT2LMHeadModel", _causal_loss, n_embd=64, n_layer=4, n_head=4, n_positions=64),
    "gpt-neox": partial(_text, "GPTNeoXForCausalLM", _causal_loss, **SMALL),
    "opt": partial(
        _text,
        "OPTForCausalLM",
        _causal_loss,
        hidden_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        ffn_dim=128,
        word_embed_proj_dim=64,
    ),
    "llama": partial(_text, "LlamaForCausalLM", _causal_loss, **LLAMA),
    "qwen2": partial(_text, "Qwen2ForCausalLM", _causal_loss, **LLAMA),
    "mixtral": partial(_text, "MixtralForCausalLM", _causal_loss, num_local_experts=4, **LLAMA),
    "t5": partial(
        _text,
        "T5ForConditionalGeneration",
        _pair_loss,
        d_model=64,
        d_kv=16,
        d_ff=128,
        num_layers=2,
        num_heads=4,
        decoder_start_token_id=0,
    ),
    "bart": partial(_text, "BartForConditionalGeneration", _pair_loss, **PAIR),
    "vit": partial(_image, "ViTForImageClassification", image_size=8, patch_size=2, num_channels=1, **SMALL),
    "convnext": partial(
        _image,
        "ConvNextForImageClassification",
        2e-3,
        num_channels=1,
        patch_size=2,
        hidden_sizes=[32, 64],
        depths=[3, 3],
        num_stages=2,
    ),
    "resnet": partial(
        _image,
        "ResNetForImageClassification",
        3e-3,
        True,
        embedding_size=16,
        hidden_sizes=[32, 48],
        depths=[2, 2],
        layer_type="basic",
    ),
    "swin": partial(
        _image,
        "SwinForImageClassification",
        image_size=8,
        patch_size=1,
        num_channels=1,
        embed_dim=32,
        depths=[2, 2],
        num_heads=[2, 4],
        window_size=4,
    ),
    "wav2vec2": _wav2vec2,
    "whisper": _whisper,
    "clip": _clip,
}
HARD_TO_LEARN = frozenset({"wav2vec2"})
"""Healthy, but slower than a label check: ten classes of a noisy series."""

CASES: list[Case] = [
    healthy(f"transformers-{name}", build, "random weights", learns=name not in HARD_TO_LEARN)
    for name, build in BUILDS.items()
]
