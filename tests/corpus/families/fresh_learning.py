"""Families told by how they learn, second round: contrasts, margins, noise, flows of probability, attacks, adapters."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diag.train.workload import Workload
from tests.corpus.data import digits
from tests.corpus.families.family import OPTIMIZERS, family, trained
from tests.corpus.nets import Loss, classify, mlp

Act = type[nn.Module]
OTHER = {"turn": 43}


def _trained(
    model: nn.Module, loss: Loss, lr: float, optimizer: str = "adam", turn: int = 0, size: int = 64
) -> Workload:
    batches = digits(size)
    return trained(model, batches[turn:] + batches[:turn], lr, loss, optimizer)


class Tower(nn.Module):
    """A body and a projection on top of it."""

    def __init__(self, width: int, act: Act, outputs: int = 24) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(64, width), act(), nn.Linear(width, width), act())
        self.project = nn.Sequential(nn.Linear(width, width), act(), nn.Linear(width, outputs))

    def forward(self, x: Tensor) -> Tensor:
        return self.project(self.body(x))


def _views(x: Tensor, noise: float = 0.4) -> Tensor:
    return torch.cat([x + noise * torch.randn_like(x) for _ in range(2)])


@family("two-views", wide={"width": 128}, gelu={"act": nn.GELU}, sgd={"optimizer": "sgd", "lr": 0.3})
def two_views(width: int = 64, act: Act = nn.ReLU, optimizer: str = "adam", lr: float = 2e-3) -> Workload:
    """A picture's two noisy views are to be nearer to each other than to all others'."""

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        code = F.normalize(model(_views(batch[0], 0.8)), dim=-1)
        near = (code @ code.T / 0.2).fill_diagonal_(-1e4)
        return F.cross_entropy(near, torch.arange(len(code)).roll(len(code) // 2))

    return _trained(Tower(width, act), loss, lr, optimizer)


@family("variance-covariance", wide={"width": 128}, momentum={"optimizer": "momentum", "lr": 0.01}, other=OTHER)
def variances(width: int = 64, optimizer: str = "adam", lr: float = 2e-3, turn: int = 0) -> Workload:
    """Views agree, each code varies, no two codes do so together."""

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        one, other = model(_views(batch[0])).chunk(2)
        total = 5 * F.mse_loss(one, other)
        for code in (one, other):
            centered = code - code.mean(0)
            spread = (centered.square().mean(0) + 1e-4).sqrt()
            shared = centered.T @ centered / len(code)
            total = total + 5 * F.relu(1 - spread).mean() + (shared - shared.diag().diag()).square().sum() / 24
        return total

    return _trained(Tower(width, nn.ReLU), loss, lr, optimizer, turn)


class Angular(nn.Module):
    """Classes are directions; the right one's angle gets a margin."""

    def __init__(self, act: Act) -> None:
        super().__init__()
        self.tower, self.classes = Tower(64, act), nn.Linear(24, 10, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(self.tower(x), dim=-1) @ F.normalize(self.classes.weight, dim=-1).T


@family("angular-margin", leaky={"act": nn.LeakyReLU}, sgd={"optimizer": "sgd", "lr": 0.1}, other=OTHER)
def angular(act: Act = nn.ReLU, optimizer: str = "adam", lr: float = 2e-3, turn: int = 0) -> Workload:
    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        cosine = model(batch[0])
        return F.cross_entropy(8 * (cosine - 0.2 * F.one_hot(batch[1], 10)), batch[1])

    return _trained(Angular(act), loss, lr, optimizer, turn)


class Choices(nn.Module):
    """A code of eight choices among four, drawn softly; the decoder sees what was chosen."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.encoder = mlp(3, nn.ReLU, "he", outputs=32, width=width)
        self.decoder = mlp(3, nn.ReLU, "he", inputs=32, outputs=64, width=width)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.encoder(x).reshape(len(x), 8, 4)
        return self.decoder(F.gumbel_softmax(logits, 1.0).flatten(1)), logits.softmax(-1)


@family("discrete-code", wide={"width": 128}, adamw={"optimizer": "adamw"}, other=OTHER)
def choices(width: int = 64, optimizer: str = "adam", lr: float = 4e-3, turn: int = 0) -> Workload:
    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        made, chosen = model(batch[0])
        toward = (chosen * (chosen + 1e-8).log()).sum(-1).mean() / 64
        return F.mse_loss(made, batch[0]) + 0.1 * toward

    return _trained(Choices(width), loss, lr, optimizer, turn)


@family("denoising-score", silu={"act": nn.SiLU}, wide={"width": 192}, other=OTHER)
def score(act: Act = nn.ReLU, width: int = 96, lr: float = 2e-3, turn: int = 0) -> Workload:
    """Noise of several sizes is told from the noisy picture and the size."""

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        x = batch[0]
        size = torch.exp(torch.rand(len(x), 1) * 2 - 1)
        noise = torch.randn_like(x)
        given = torch.cat([(x + size * noise) / (1 + size**2).sqrt(), size.log()], -1)
        return F.mse_loss(model(given), noise)

    return _trained(mlp(4, act, "he", inputs=65, outputs=64, width=width, gain=0.8), loss, lr, "adam", turn)


@family("flow-matching", tanh={"act": nn.Tanh}, wide={"width": 192}, adamw={"optimizer": "adamw"})
def flow_matching(act: Act = nn.SiLU, width: int = 96, optimizer: str = "adam", lr: float = 3e-3) -> Workload:
    """The velocity on straight lines from noise to pictures."""

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        x, noise, t = batch[0], torch.randn_like(batch[0]), torch.rand(len(batch[0]), 1)
        return F.mse_loss(model(torch.cat([torch.lerp(noise, x, t), t], -1)), x - noise)

    return _trained(mlp(4, act, "glorot", inputs=65, outputs=64, width=width), loss, lr, optimizer)


class Coder(nn.Module):
    def __init__(self, width: int, act: Act) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Linear(64, width), nn.LayerNorm(width), act(), nn.Linear(width, width), act(), nn.Linear(width, 8)
        )
        self.decoder = mlp(3, act, inputs=8, outputs=64, width=width)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        code = self.encoder(x)
        return code, self.decoder(code)


@family("kernel-autoencoder", wide={"width": 128}, gelu={"act": nn.GELU}, momentum={"optimizer": "momentum", "lr": 0.1})
def kernel_autoencoder(width: int = 64, act: Act = nn.ReLU, optimizer: str = "adam", lr: float = 4e-3) -> Workload:
    """The codes are drawn toward a normal law by a kernel's discrepancy."""

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return (1 / (1 + torch.cdist(a, b).square() / 16)).mean()

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        code, made = model(batch[0])
        drawn = torch.randn_like(code)
        apart = kernel(code, code) + kernel(drawn, drawn) - 2 * kernel(code, drawn)
        return F.mse_loss(made, batch[0]) + 0.2 * apart

    return _trained(Coder(width, act), loss, lr, optimizer)


@family("attacked", silu={"act": nn.SiLU}, wide={"width": 128}, sgd={"optimizer": "sgd", "lr": 0.1})
def attacked(act: Act = nn.ReLU, width: int = 64, optimizer: str = "adam", lr: float = 3e-3) -> Workload:
    """Each input is moved where it hurts before it is learned from."""

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        x = batch[0].clone().requires_grad_()
        (slope,) = torch.autograd.grad(classify(model, (x, batch[1])), x)
        return classify(model, ((x + 0.1 * slope.sign()).detach(), batch[1]))

    return _trained(mlp(4, act, "he", width=width), loss, lr, optimizer, size=32)


@family("mixed-up", norm={"norm": True}, elu={"act": nn.ELU}, momentum={"optimizer": "momentum", "lr": 0.02})
def mixed(act: Act = nn.ReLU, norm: bool = False, optimizer: str = "adam", lr: float = 3e-3) -> Workload:
    """Pictures and labels are blended by pairs."""

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        x, y = batch
        part, order = torch.rand(len(x), 1) / 2, torch.randperm(len(x))
        target = F.one_hot(y, 10).float()
        return F.cross_entropy(model(torch.lerp(x, x[order], part)), torch.lerp(target, target[order], part))

    model = mlp(5, act, "he", norm=nn.BatchNorm1d if norm else None)
    return _trained(model, loss, lr, optimizer, size=32)


class Adapted(nn.Module):
    """Small bottlenecks are trained between the fixed layers of a network that was trained on other labels."""

    def __init__(self, act: Act, inner: int) -> None:
        super().__init__()
        self.fixed = nn.ModuleList(nn.Linear(64, 64) for _ in range(3)).requires_grad_(False)
        self.adapters = nn.ModuleList(
            nn.Sequential(nn.Linear(64, inner), act(), nn.Linear(inner, 64)) for _ in range(3)
        )
        self.head = nn.Linear(64, 10)
        for layer in self.fixed:
            nn.init.orthogonal_(layer.weight, 1.2)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        for layer, adapter in zip(self.fixed, self.adapters, strict=True):
            x = torch.tanh(layer(x))
            x = x + adapter(x)
        return self.head(x)


@family("adapters", gelu={"act": nn.GELU}, wide={"inner": 32}, momentum={"optimizer": "momentum", "lr": 0.05})
def adapters(act: Act = nn.ReLU, inner: int = 16, optimizer: str = "adam", lr: float = 4e-3) -> Workload:
    model = Adapted(act, inner)
    batches = digits()
    free = [one for one in model.parameters() if one.requires_grad]
    return Workload(model, batches, classify, OPTIMIZERS[optimizer](free, lr=lr))


class Averaged(nn.Module):
    """An online network predicts what a slow copy of it says of another view."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.online = nn.Sequential(
            nn.Linear(64, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, 32), nn.BatchNorm1d(32)
        )
        self.predict = nn.Sequential(nn.Linear(32, width), nn.ReLU(), nn.Linear(width, 32))
        self.target = copy.deepcopy(self.online).requires_grad_(False)

    @torch.no_grad()
    def follow(self, rate: float = 0.05) -> None:
        for slow, fast in zip(self.target.parameters(), self.online.parameters(), strict=True):
            slow.lerp_(fast, rate)


@family("slow-target", wide={"width": 128}, momentum={"optimizer": "momentum", "lr": 0.05}, other=OTHER)
def slow_target(width: int = 64, optimizer: str = "adam", lr: float = 2e-3, turn: int = 0) -> Workload:
    def loss(model: Averaged, batch: tuple[Tensor, Tensor]) -> Tensor:
        if model.training:
            model.follow()
        one, other = _views(batch[0], 0.3).chunk(2)
        with torch.no_grad():
            told = model.target(other)
        return 1 - F.cosine_similarity(model.predict(model.online(one)), told).mean()

    batches = digits(64)
    model = Averaged(width)
    held = [one for one in model.parameters() if one.requires_grad]
    return Workload(
        model, batches[turn:] + batches[:turn], loss, OPTIMIZERS[optimizer](held, lr=lr)  # type: ignore[arg-type]
    )  # fmt: skip
