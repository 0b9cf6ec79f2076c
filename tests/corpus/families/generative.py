"""Families that make data anew: adversaries, codes, flows, one pixel after the other, hidden patches."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diag.train.workload import Workload
from tests.corpus.data import digits
from tests.corpus.families.family import family, trained
from tests.corpus.nets import mlp


class Adversaries(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.generator = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 64), nn.Sigmoid())
        self.critic = nn.Sequential(nn.Linear(64, 64), nn.LeakyReLU(0.2), nn.Linear(64, 1))


@family("gan", learns=False, hinge={"hinge": True})
def gan(hinge: bool = False) -> Workload:
    """Both are trained in one step: the generator's loss sees a critic that stands still."""

    def loss(model: Adversaries, batch: tuple[Tensor, Tensor]) -> Tensor:
        made = model.generator(torch.randn(len(batch[0]), 16))
        real, fake = model.critic(batch[0]), model.critic(made.detach())
        still = {name: value.detach() for name, value in model.critic.named_parameters()}
        fooled = torch.func.functional_call(model.critic, still, (made,))
        if hinge:
            return F.relu(1 - real).mean() + F.relu(1 + fake).mean() - fooled.mean()
        return F.softplus(-real).mean() + F.softplus(fake).mean() + F.softplus(-fooled).mean()

    model = Adversaries()
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-4, betas=(0.5, 0.999))
    return Workload(model, digits(scale="unit"), loss, optimizer)  # type: ignore[arg-type]


class Quantized(nn.Module):
    """The code is replaced by its nearest entry of a book; gradients pass straight through."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = mlp(3, inputs=64, outputs=16), mlp(3, inputs=16, outputs=64)
        self.book = nn.Embedding(32, 4)
        nn.init.normal_(self.book.weight, std=0.3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        code = self.encoder(x).reshape(len(x), 4, 4)
        near = self.book(torch.cdist(code, self.book.weight.expand(len(x), -1, -1)).argmin(-1))
        commit = F.mse_loss(near, code.detach()) + 0.25 * F.mse_loss(code, near.detach())
        return self.decoder((code + (near - code).detach()).flatten(1)), commit


@family("vq-vae", adamw={"optimizer": "adamw"})
def quantized(optimizer: str = "adam", lr: float = 3e-3) -> Workload:
    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        made, commit = model(batch[0])
        return F.mse_loss(made, batch[0]) + commit

    return trained(Quantized(), digits(), lr, loss, optimizer)


class Coupling(nn.Module):
    def __init__(self, flip: bool) -> None:
        super().__init__()
        self.flip = flip
        self.net = nn.Sequential(nn.Linear(32, 48), nn.ReLU(), nn.Linear(48, 64))
        nn.init.zeros_(self.net[-1].weight)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        a, b = x.chunk(2, -1)[:: -1 if self.flip else 1]
        scale, shift = self.net(a).chunk(2, -1)
        scale = torch.tanh(scale)
        out = (a, b * scale.exp() + shift)
        return torch.cat(out[:: -1 if self.flip else 1], -1), scale.sum(-1)


class Flow(nn.Module):
    """Affine couplings whose last layers start at zero; returns minus the log likelihood per pixel."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.couplings = nn.ModuleList(Coupling(bool(number % 2)) for number in range(depth))

    def forward(self, x: Tensor) -> Tensor:
        volume = torch.zeros(len(x))
        for one in self.couplings:
            x, more = one(x)
            volume = volume + more
        return (0.5 * x.square().sum(-1) - volume).mean() / x.shape[-1]


@family("normalizing-flow", deep={"depth": 8})
def flow(depth: int = 4, lr: float = 3e-3) -> Workload:
    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return model(batch[0] + 0.1 * torch.randn_like(batch[0]))

    return trained(Flow(depth), digits(), lr, loss)


class Masked(nn.Linear):
    def __init__(self, inputs: int, outputs: int, strict: bool) -> None:
        super().__init__(inputs, outputs)
        a, b = torch.arange(inputs) % 64, torch.arange(outputs) % 64
        self.register_buffer("mask", (b[:, None] > a[None] if strict else b[:, None] >= a[None]).float())

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight * self.mask, self.bias)  # type: ignore[operator]


@family("autoregressive-masked", sgd={"optimizer": "momentum", "lr": 0.1})
def made(optimizer: str = "adam", lr: float = 1e-2) -> Workload:
    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        ink = (batch[0] > 0.5).float()
        return F.binary_cross_entropy_with_logits(model(ink), ink)

    model = nn.Sequential(Masked(64, 128, True), nn.ReLU(), Masked(128, 128, False), nn.ReLU(), Masked(128, 64, False))
    return trained(model, digits(scale="unit"), lr, loss, optimizer)


class HiddenPatches(nn.Module):
    """Most patches are left out; a decoder with a learned mask token fills them in."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.embed, self.places = nn.Linear(4, width), nn.Parameter(0.2 * torch.randn(16, width))
        layers = [nn.TransformerEncoderLayer(width, 4, 64, 0.0, batch_first=True, norm_first=True) for _ in range(3)]
        self.encoder, self.decoder = nn.Sequential(*layers[:2]), layers[2]
        self.token, self.head = nn.Parameter(torch.zeros(width)), nn.Linear(width, 4)

    def forward(self, patches: Tensor) -> Tensor:
        order = torch.rand(16).argsort()
        x = self.encoder((self.embed(patches) + self.places)[:, order[:8]])
        full = (self.token + self.places).expand(len(patches), -1, -1)
        full = full.index_copy(1, order[:8], x + self.places[order[:8]])
        return self.head(self.decoder(full))


@family("masked-autoencoder", adamw={"optimizer": "adamw"})
def masked(optimizer: str = "adam", lr: float = 3e-3) -> Workload:
    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        patches = F.unfold(batch[0], 2, stride=2).transpose(1, 2)
        return F.mse_loss(model(patches), patches)

    return trained(HiddenPatches(), digits(image=True), lr, loss, optimizer)
