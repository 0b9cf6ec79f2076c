"""Healthy networks that make or compare: autoencoders, a VAE, diffusion, a discriminator, contrastive pairs."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diag.train.workload import Workload
from tests.corpus.case import healthy
from tests.corpus.data import digits
from tests.corpus.nets import adam


def _coder(code: int) -> tuple[nn.Sequential, nn.Sequential]:
    encoder = nn.Sequential(nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, code))
    decoder = nn.Sequential(nn.Linear(code if code < 16 else code // 2, 48), nn.ReLU(), nn.Linear(48, 64), nn.Sigmoid())
    return encoder, decoder


def _autoencoder(criterion: str) -> Workload:
    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        made = model(batch[0])
        return F.binary_cross_entropy(made, batch[0]) if criterion == "bce" else F.mse_loss(made, batch[0])

    return adam(nn.Sequential(*_coder(8)), digits(scale="unit"), 5e-3, loss)


class VAE(nn.Module):
    """Returns the reconstruction, the mean and the log variance."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = _coder(16)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, log_variance = self.encoder(x).chunk(2, -1)
        return self.decoder(mean + torch.randn_like(mean) * (log_variance / 2).exp()), mean, log_variance


def _vae() -> Workload:
    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        made, mean, log_variance = model(batch[0])
        divergence = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum(-1).mean()
        return F.binary_cross_entropy(made, batch[0], reduction="none").sum(-1).mean() + divergence

    return adam(VAE(), digits(scale="unit"), 5e-3, loss)


class Denoiser(nn.Module):
    """Predicts the noise from a noisy digit and the time; its last layer starts at zero."""

    def __init__(self) -> None:
        super().__init__()
        self.time = nn.Sequential(nn.Linear(1, 32), nn.SiLU(), nn.Linear(32, 96))
        self.stem = nn.Linear(64, 96)
        self.body = nn.Sequential(nn.SiLU(), nn.Linear(96, 96), nn.SiLU(), nn.Linear(96, 96), nn.SiLU())
        self.head = nn.Linear(96, 64)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        return self.head(self.body(self.stem(x) + self.time(time)))


def _diffusion() -> Workload:
    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        time = torch.rand(len(batch[0]), 1)
        noise = torch.randn_like(batch[0])
        angle = time * torch.pi / 2
        return F.mse_loss(model(angle.cos() * batch[0] + angle.sin() * noise, time), noise)

    return adam(Denoiser(), digits(64), 3e-3, loss)


def _discriminator() -> Workload:
    generator = nn.Sequential(nn.Linear(16, 48), nn.ReLU(), nn.Linear(48, 64), nn.Sigmoid()).requires_grad_(False)
    model = nn.Sequential(nn.Linear(64, 64), nn.LeakyReLU(0.2), nn.Linear(64, 32), nn.LeakyReLU(0.2), nn.Linear(32, 1))

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        made = generator(torch.randn(len(batch[0]), 16))
        real, fake = model(batch[0]), model(made)
        return F.softplus(-real).mean() + F.softplus(fake).mean()

    return Workload(model, digits(scale="unit"), loss, torch.optim.Adam(model.parameters(), 2e-4, betas=(0.5, 0.999)))


class Tower(nn.Module):
    """An encoder to the unit sphere."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(64, 96), nn.ReLU(), nn.Linear(96, 32))

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(self.body(x), dim=-1)


def _contrastive() -> Workload:
    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        x = batch[0]
        one, other = model(x + 0.3 * torch.randn_like(x)), model(x + 0.3 * torch.randn_like(x))
        return F.cross_entropy(one @ other.T / 0.2, torch.arange(len(x)))

    return adam(Tower(), digits(), 2e-3, loss)


def _triplet() -> Workload:
    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        code = model(batch[0])
        distance = torch.cdist(code, code)
        same = batch[1][:, None] == batch[1][None]
        positive = (distance * same).amax(1)
        negative = (distance + 10 * same).amin(1)
        return F.relu(positive - negative + 0.5).mean()

    return adam(Tower(), digits(64), 2e-3, loss)


CASES = [
    healthy("autoencoder-mse", lambda: _autoencoder("mse"), "sigmoid outputs saturate because the pixels are 0"),
    healthy("autoencoder-bce", lambda: _autoencoder("bce"), "the loss has a floor: the pixels' own entropy"),
    healthy("vae", _vae, "tuple output, noise in the middle"),
    healthy("diffusion", _diffusion, "a zero head: no gradient in the body at the first step"),
    healthy("discriminator", _discriminator, "a model called twice a step"),
    healthy("contrastive", _contrastive, "a shared encoder called twice"),
    healthy("triplet-hard", _triplet, "a hinge: many terms have no gradient"),
]
