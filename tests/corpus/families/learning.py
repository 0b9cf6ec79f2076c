"""Families told by how they learn: coordinates, pairs, teachers, rewards, weights made of signs or by networks."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diag.train.workload import Workload
from tests.corpus.data import CHARACTERS, Batches, characters, digits
from tests.corpus.families.family import SGD, family, trained
from tests.corpus.nets import classify, mlp


class Sine(nn.Module):
    def __init__(self, inputs: int, outputs: int, first: bool) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)
        bound = 1 / inputs if first else (6 / inputs) ** 0.5 / 10
        nn.init.uniform_(self.linear.weight, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        return torch.sin(10 * self.linear(x))


def _places() -> Batches:
    """Places in the unit square, and a smooth picture's brightness there."""
    generator = torch.Generator().manual_seed(5)
    out = []
    for _ in range(100):
        x = torch.rand(128, 2, generator=generator) * 2 - 1
        out.append((x, torch.sin(4 * x[:, :1]) * torch.cos(3 * x[:, 1:]) + 0.5 * x[:, :1] * x[:, 1:]))
    return out


@family("siren", deep={"depth": 4})
def siren(depth: int = 2, lr: float = 1e-3) -> Workload:
    model = nn.Sequential(Sine(2, 48, True), *(Sine(48, 48, False) for _ in range(depth)), nn.Linear(48, 1))
    return trained(model, _places(), lr, lambda m, b: F.mse_loss(m(b[0]), b[1]))


class Waves(nn.Module):
    """Fixed random Fourier features."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("frequency", torch.randn(2, 32) * 2)

    def forward(self, x: Tensor) -> Tensor:
        angle = x @ self.frequency  # type: ignore[operator]
        return torch.cat([angle.sin(), angle.cos()], -1)


@family("fourier-features", sgd={"optimizer": "momentum", "lr": 0.03})
def fourier(optimizer: str = "adam", lr: float = 2e-3) -> Workload:
    model = nn.Sequential(Waves(), *mlp(4, nn.ReLU, "he", outputs=1))
    return trained(model, _places(), lr, lambda m, b: F.mse_loss(m(b[0]), b[1]), optimizer)


@family("physics-informed", tanh={"act": nn.Tanh})
def physics(act: type[nn.Module] = nn.SiLU, lr: float = 3e-3) -> Workload:
    """u' = -2u, u(-1) = 2: the slope by autograd, so backward runs twice."""

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        x = batch[0][:, :1].clone().requires_grad_()
        u = model(x)
        (slope,) = torch.autograd.grad(u.sum(), x, create_graph=True)
        return (slope + 2 * u).square().mean() + (model(-torch.ones(1, 1)) - 2).square().mean()

    return trained(mlp(4, act, "glorot", inputs=1, outputs=1), _places(), lr, loss)


class Hyper(nn.Module):
    """A network that writes another one's weights, per batch of styles."""

    def __init__(self) -> None:
        super().__init__()
        self.write = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 16 * 10))
        self.body = mlp(2, inputs=64, outputs=16)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.write(x).reshape(-1, 10, 16) / 4
        return (weight @ torch.tanh(self.body(x))[..., None])[..., 0]


@family("hypernetwork", sgd=SGD)
def hyper(optimizer: str = "adam", lr: float = 3e-3) -> Workload:
    return trained(Hyper(), digits(), lr, optimizer=optimizer)


class Flowing(nn.Module):
    """One block applied again and again in small steps, as an ordinary differential equation is solved."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = steps
        self.stem, self.field, self.head = nn.Linear(64, 32), mlp(2, nn.Tanh, inputs=32, outputs=32), nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for _ in range(self.steps):
            x = x + self.field(x) / self.steps
        return self.head(x)


@family("neural-ode", long={"steps": 16})
def ode(steps: int = 8, lr: float = 5e-3) -> Workload:
    return trained(Flowing(steps), digits(), lr)


class Tower(nn.Module):
    def __init__(self, norm: bool = False) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(64, 64), nn.BatchNorm1d(64) if norm else nn.Identity(), nn.ReLU(), nn.Linear(64, 32)
        )
        self.predict = nn.Sequential(nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 32)) if norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


@family("siamese", sgd={"optimizer": "sgd", "lr": 0.05})
def siamese(optimizer: str = "adam", lr: float = 2e-3) -> Workload:
    """One tower for both halves of a batch: same class near, other classes a margin apart."""

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        x, y = batch
        one, other = model(x[: len(x) // 2]), model(x[len(x) // 2 :])
        same = (y[: len(y) // 2] == y[len(y) // 2 :]).float()
        distance = ((one - other).square().sum(-1) + 1e-6).sqrt()
        return (same * distance**2 + 4 * (1 - same) * F.relu(2 - distance) ** 2).mean()

    batches = [(x[o], y[o]) for x, y in digits(64) if len(o := _paired(y))]
    return trained(Tower(), batches, lr, loss, optimizer)


def _paired(classes: Tensor) -> Tensor:
    """An order in which many pairs across the two halves share a class."""
    order = classes.argsort(stable=True)
    return torch.cat([order[::2], order[1::2]])


@family("simsiam", learns=False)
def simsiam() -> Workload:
    """One view predicts the other, which is detached on purpose."""

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        x = batch[0]
        one, other = (model(x + 0.3 * torch.randn_like(x)) for _ in range(2))
        ahead, back = model.predict(one), model.predict(other)  # type: ignore[operator]
        near = F.cosine_similarity(ahead, other.detach()) + F.cosine_similarity(back, one.detach())
        return 1 - near.mean() / 2

    return trained(Tower(True), digits(64), 0.05, loss, "sgd")


@family("barlow-twins", sgd={"optimizer": "sgd", "lr": 0.01})
def barlow(optimizer: str = "adam", lr: float = 2e-3) -> Workload:
    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        x = batch[0]
        views = [model(x + 0.3 * torch.randn_like(x)) for _ in range(2)]
        one, other = ((v - v.mean(0)) / (v.std(0) + 1e-4) for v in views)
        cross = one.T @ other / len(x)
        return (cross.diagonal() - 1).square().sum() + 0.01 * (cross - torch.diag(cross.diagonal())).square().sum()

    return trained(Tower(), digits(64), lr, loss, optimizer)


@family("prototypes", sgd={"optimizer": "sgd", "lr": 0.02})
def prototypes(optimizer: str = "adam", lr: float = 2e-3) -> Workload:
    """Few-shot: the class whose mean code is nearest."""

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        x, y = batch
        code = model(x)
        right = F.one_hot(y, 10).float()
        support, query = right[:64], code[64:]
        middle = support.T @ code[:64] / support.sum(0)[:, None].clamp(min=1)
        return F.cross_entropy(-torch.cdist(query, middle).square() / 4, y[64:])

    return trained(Tower(), digits(96), lr, loss, optimizer)


class Taught(nn.Module):
    """A small student beside a frozen teacher."""

    def __init__(self) -> None:
        super().__init__()
        self.teacher = mlp(3, nn.ReLU, "he", width=128).requires_grad_(False)
        self.student = mlp(3, nn.ReLU, "he", width=48)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            told = self.teacher(x)
        return self.student(x), told


@family("distillation", sgd=SGD)
def distilled(optimizer: str = "adam", lr: float = 3e-3) -> Workload:
    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        said, told = model(batch[0])
        return F.kl_div(said.log_softmax(-1), told.softmax(-1), reduction="batchmean")

    model = Taught()
    return trained(model, digits(), lr, loss, optimizer)


class ValueAndPolicy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.policy, self.value = mlp(2, nn.Tanh, outputs=32), nn.Linear(32, 10), nn.Linear(32, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = torch.tanh(self.body(x))
        return self.policy(x), self.value(x)[:, 0]


@family("actor-critic", learns=False)
def actor_critic() -> Workload:
    """Reward 1 for naming the digit."""

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        logits, value = model(batch[0])
        policy = torch.distributions.Categorical(logits=logits)
        action = policy.sample()
        better = (action == batch[1]).float() - value
        gain = policy.log_prob(action) * better.detach() + 0.01 * policy.entropy()
        return (0.5 * better.square() - gain).mean()

    return trained(ValueAndPolicy(), digits(64), 3e-3, loss)


@family("q-learning", learns=False)
def q_learning() -> Workload:
    """A bandit's values, toward a copy of the network that stands still."""
    model = mlp(3, nn.ReLU, "he")
    fixed = copy.deepcopy(model).requires_grad_(False)

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        x, y = batch
        value = model(x)
        action = torch.where(torch.rand(len(x)) < 0.3, torch.randint(10, (len(x),)), value.argmax(-1))
        target = (action == y).float() + 0.5 * fixed(x.roll(1, 0)).amax(-1)
        return F.smooth_l1_loss(value.gather(1, action[:, None])[:, 0], target)

    return trained(model, digits(64), 2e-3, loss)


class Pairs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inside, self.outside = nn.Embedding(CHARACTERS, 16), nn.Embedding(CHARACTERS, 16)
        nn.init.normal_(self.inside.weight, std=0.25)
        nn.init.normal_(self.outside.weight, std=0.25)

    def forward(self, word: Tensor, other: Tensor) -> Tensor:
        return (self.inside(word) * self.outside(other)).sum(-1)


@family("skip-gram", adagrad={"optimizer": "adagrad", "lr": 0.2})
def skip_gram(optimizer: str = "adam", lr: float = 2e-2) -> Workload:
    def loss(model: nn.Module, batch: Tensor) -> Tensor:
        near = model(batch[:, :-1], batch[:, 1:])
        drawn = batch.flatten()[torch.randperm(batch.numel())].reshape(batch.shape)
        return F.softplus(-near).mean() + F.softplus(model(batch, drawn)).mean()

    return trained(Pairs(), characters(), lr, loss, optimizer)


class Signs(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:  # type: ignore[no-untyped-def,override]
        ctx.save_for_backward(x)
        return x.sign()

    @staticmethod
    def backward(ctx, slope: Tensor) -> Tensor:  # type: ignore[no-untyped-def,override]
        (x,) = ctx.saved_tensors
        return slope * (x.abs() <= 1)


class Binary(nn.Linear):
    """Weights are signs forward; gradients pass through where they are below 1."""

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, Signs.apply(self.weight), self.bias) / self.in_features**0.5


@family("binary-weights", sgd={"optimizer": "sgd", "lr": 0.3})
def binary(optimizer: str = "adam", lr: float = 5e-3) -> Workload:
    layers: Iterable[nn.Module] = itertools.chain(
        *((Binary(64, 64), nn.BatchNorm1d(64), nn.Hardtanh()) for _ in range(3))
    )
    return trained(nn.Sequential(*layers, nn.Linear(64, 10)), digits(), lr, classify, optimizer)
