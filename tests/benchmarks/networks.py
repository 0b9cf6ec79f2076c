"""The networks on which the cost of watching is measured, each with one fixed batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CLASSES = 10


@dataclass(frozen=True)
class Network:
    """build: the model. inputs: one batch. pairs: plain and watched steps to compare, fewer where a step is long.

    small: a plain step takes milliseconds.
    """

    build: Callable[[], nn.Module]
    inputs: Callable[[], Tensor]
    pairs: int
    small: bool = False

    def trainer(self, device: str = "cpu") -> tuple[nn.Module, Callable[[], None]]:
        """A model from seed 0 and a function that takes one step of stochastic gradient descent."""
        torch.manual_seed(0)
        model, inputs = self.build().to(device), self.inputs().to(device)
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
        outputs = model(inputs).flatten(0, -2)
        target = torch.randint(outputs.shape[-1], (len(outputs),)).to(device)

        def step() -> None:
            optimizer.zero_grad()
            F.cross_entropy(model(inputs).flatten(0, -2), target).backward()
            optimizer.step()

        return model, step


def _mlp(depth: int, width: int, activation: type[nn.Module]) -> nn.Module:
    layers = [layer for _ in range(depth) for layer in (nn.Linear(width, width), activation())]
    return nn.Sequential(*layers, nn.Linear(width, CLASSES))


def _cnn(depth: int, channels: int) -> nn.Module:
    layers: list[nn.Module] = []
    for index in range(depth):
        before = channels if index else 3
        layers += [nn.Conv2d(before, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, CLASSES))


class _Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before_attention, self.before_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        split = self.qkv(self.before_attention(x)).unflatten(-1, (3, self.heads, -1))
        q, k, v = split.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).flatten(2))
        return x + self.mlp(self.before_mlp(x))


class _GPT(nn.Module):
    def __init__(self, depth: int, width: int, length: int, tokens: int) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(tokens, width), nn.Embedding(length, width)
        self.blocks = nn.Sequential(*(_Block(width, heads=4) for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, tokens, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.tokens(x) + self.positions(torch.arange(x.shape[1], device=x.device))
        return self.head(self.norm(self.blocks(x)))


NETWORKS = {
    "MLP 20x256 relu": Network(lambda: _mlp(20, 256, nn.ReLU), lambda: torch.randn(128, 256), pairs=100, small=True),
    "MLP 10x1024 tanh": Network(lambda: _mlp(10, 1024, nn.Tanh), lambda: torch.randn(256, 1024), pairs=20),
    "CNN 8x64": Network(lambda: _cnn(8, 64), lambda: torch.randn(64, 3, 32, 32), pairs=5),
    "GPT 6x256": Network(lambda: _GPT(6, 256, 128, 512), lambda: torch.randint(512, (8, 128)), pairs=12),
}

LARGE = {
    # The shape of GPT-2 small, which a GPU is for: of the four above most steps are launches.
    "GPT 12x768": Network(lambda: _GPT(12, 768, 512, 50257), lambda: torch.randint(50257, (8, 512)), pairs=12),
}
"""Also measured where a GPU is."""
