"""Healthy transformers written here: GPT, encoders, a vision transformer, a mixture of experts."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from diag.train.workload import Workload
from tests.corpus.case import healthy
from tests.corpus.data import CHARACTERS, characters, digits
from tests.corpus.nets import adam, classify, next_token


class Attention(nn.Module):
    """Causal or full self-attention by the functional."""

    def __init__(self, width: int, heads: int, causal: bool) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        size, length, width = x.shape
        q, k, v = self.qkv(x).reshape(size, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        return self.out(mixed.transpose(1, 2).reshape(size, length, width))


class Layer(nn.Module):
    """Pre-norm or post-norm transformer layer."""

    def __init__(self, width: int, heads: int = 4, causal: bool = True, pre_norm: bool = True) -> None:
        super().__init__()
        self.pre_norm = pre_norm
        self.attention = Attention(width, heads, causal)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        if self.pre_norm:
            x = x + self.attention(self.norm1(x))
            return x + self.mlp(self.norm2(x))
        x = self.norm1(x + self.attention(x))
        return self.norm2(x + self.mlp(x))


class GPT(nn.Module):
    """A small decoder with tied embeddings. rematerialize: checkpoint every layer."""

    def __init__(self, width: int = 64, depth: int = 4, pre_norm: bool = True, rematerialize: bool = False) -> None:
        super().__init__()
        self.rematerialize = rematerialize
        self.tokens = nn.Embedding(CHARACTERS, width)
        self.positions = nn.Embedding(64, width)
        self.layers = nn.ModuleList(Layer(width, pre_norm=pre_norm) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, CHARACTERS, bias=False)
        self.head.weight = self.tokens.weight
        for weight in self.parameters():
            if weight.ndim > 1:
                nn.init.normal_(weight, std=0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.tokens(tokens) + self.positions(torch.arange(tokens.shape[1]))
        for layer in self.layers:
            x = checkpoint(layer, x, use_reentrant=False) if self.rematerialize else layer(x)
        return self.head(self.norm(x))


class ViT(nn.Module):
    """Patches of 2x2 pixels, a class token, pre-norm layers."""

    def __init__(self, width: int = 48) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, width, 2, 2)
        self.start = nn.Parameter(torch.zeros(1, 1, width))
        self.positions = nn.Parameter(0.02 * torch.randn(1, 17, width))
        self.layers = nn.Sequential(*(Layer(width, causal=False) for _ in range(4)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.start.expand(len(x), -1, -1), x], dim=1) + self.positions
        return self.head(self.norm(self.layers(x))[:, 0])


class Encoder(nn.Module):
    """torch's own encoder over the rows of a digit."""

    def __init__(self, norm_first: bool, width: int = 48) -> None:
        super().__init__()
        self.stem = nn.Linear(8, width)
        self.positions = nn.Parameter(0.02 * torch.randn(8, width))
        layer = nn.TransformerEncoderLayer(width, 4, 96, batch_first=True, norm_first=norm_first)
        self.encoder = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False)
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(self.stem(x.reshape(-1, 8, 8)) + self.positions).mean(1))


class Experts(nn.Module):
    """Top-1 routing over four experts: some may get no sample."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.stem = nn.Linear(64, width)
        self.gate = nn.Linear(width, 4)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(width, 128), nn.ReLU(), nn.Linear(128, width)) for _ in range(4)
        )
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        weight, choice = self.gate(x).softmax(-1).max(-1)
        mixed = torch.zeros_like(x)
        for number, expert in enumerate(self.experts):
            rows = (choice == number).nonzero()[:, 0]
            if len(rows):
                mixed = mixed.index_add(0, rows, weight[rows, None] * expert(x[rows]))
        return self.head(x + mixed)


def _adamw(model: nn.Module, lr: float) -> Workload:
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, betas=(0.9, 0.95), weight_decay=0.1)
    return Workload(model, characters(), next_token, optimizer)


def _random_tokens() -> Workload:
    generator = torch.Generator().manual_seed(3)
    batches = [torch.randint(CHARACTERS, (16, 33), generator=generator) for _ in range(100)]
    return Workload(model := GPT(), batches, next_token, torch.optim.AdamW(model.parameters(), lr=1e-3))


def _warmed_post_norm() -> Workload:
    model = GPT(depth=4, pre_norm=False)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / 20))
    optimizer.register_step_post_hook(lambda *_: schedule.step())
    return Workload(model, characters(), next_token, optimizer)


CASES = [
    healthy("gpt-pre-norm", lambda: _adamw(GPT(), 2e-3), "functional attention, tied embeddings"),
    healthy("gpt-post-norm-warm-up", _warmed_post_norm, "a schedule that steps with the optimizer"),
    healthy("gpt-checkpointed", lambda: _adamw(GPT(rematerialize=True), 2e-3), "every layer runs again in backward"),
    healthy("gpt-random-tokens", _random_tokens, "nothing to learn: the loss cannot fall below log V", learns=False),
    healthy("vit", lambda: adam(ViT(), digits(image=True), 2e-3), "a class token that starts at zero"),
    healthy("encoder-pre-norm", lambda: adam(Encoder(True), digits(), 2e-3)),
    healthy("encoder-post-norm", lambda: adam(Encoder(False), digits(), 1e-3), "dropout inside"),
    healthy(
        "mixture-of-experts",
        lambda: Workload(m := Experts(), digits(), classify, torch.optim.AdamW(m.parameters(), 3e-3)),
        "an expert may sit out a step",
    ),
]
