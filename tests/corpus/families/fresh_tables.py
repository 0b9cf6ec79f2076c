"""Families for tables and flat inputs, second round: splines, operators, experts, equilibria, other likelihoods."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diag.train.workload import Workload
from tests.corpus.data import Batches, digits, records
from tests.corpus.families.family import MOMENTUM, SGD, SLOW_SGD, family, trained
from tests.corpus.nets import Loss, classify, mlp, regress

Act = type[nn.Module]
OTHER = {"turn": 31}


def _digits(model: nn.Module, lr: float, optimizer: str = "adam", turn: int = 0, loss: Loss = classify) -> Workload:
    batches = digits()
    return trained(model, batches[turn:] + batches[:turn], lr, loss, optimizer)


class Splines(nn.Module):
    """Each edge is a function of its own: a sum of bumps, beside a linear part of a smooth gate."""

    def __init__(self, inputs: int, outputs: int, bumps: int = 6) -> None:
        super().__init__()
        self.register_buffer("centers", torch.linspace(-2, 2, bumps))
        self.norm, self.base = nn.LayerNorm(inputs), nn.Linear(inputs, outputs)
        self.bumps = nn.Linear(inputs * bumps, outputs, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        spread = (self.norm(x)[..., None] - self.centers) / 0.8  # type: ignore[operator]
        return self.bumps(torch.exp(-(spread**2)).flatten(1)) + self.base(F.silu(x))


@family("edge-splines", wide={"width": 64}, deep={"depth": 4}, sgd={"optimizer": "sgd", "lr": 0.05})
def splines(width: int = 32, depth: int = 3, optimizer: str = "adam", lr: float = 3e-3) -> Workload:
    sizes = [64, *[width] * (depth - 1), 10]
    layers = [Splines(a, b) for a, b in itertools.pairwise(sizes)]
    return _digits(nn.Sequential(*layers), lr, optimizer)


class Crossed(nn.Module):
    """Embedded bins of each feature: pairwise products, a linear part and a deep part."""

    def __init__(self, width: int, act: Act) -> None:
        super().__init__()
        self.embed, self.linear = nn.Embedding(80, 8), nn.Embedding(80, 1)
        self.deep = nn.Sequential(
            nn.Linear(80, width), act(), nn.Linear(width, width), act(), nn.Linear(width, width), act(),
            nn.Linear(width, 1),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        bins = ((x.clamp(-1.9, 1.9) + 2) * 2).long() + 8 * torch.arange(10)
        each = self.embed(bins)
        pairs = (each.sum(1) ** 2 - (each**2).sum(1)).sum(-1, keepdim=True) / 20
        return self.linear(bins).mean(1) + pairs + self.deep(each.flatten(1))


@family("factorization-machine", wide={"width": 96}, elu={"act": nn.ELU}, adagrad={"optimizer": "adagrad", "lr": 0.03})
def crossed(width: int = 48, act: Act = nn.ReLU, optimizer: str = "adam", lr: float = 4e-3) -> Workload:
    return trained(Crossed(width, act), records(64), lr, regress, optimizer)


class Operator(nn.Module):
    """One network reads a function at ten places, another one a place; their product is what becomes of it there."""

    def __init__(self, act: Act, width: int) -> None:
        super().__init__()
        self.branch = mlp(3, act, "glorot", inputs=10, outputs=24, width=width)
        self.trunk = mlp(4, act, "glorot", inputs=1, outputs=24, width=width)

    def forward(self, x: Tensor) -> Tensor:
        return (self.branch(x[:, :10]) * self.trunk(x[:, 10:])).sum(-1, keepdim=True) / 5


def _integrals() -> Batches:
    """Coefficients give a function, a place, and its integral up to there."""
    generator = torch.Generator().manual_seed(8)
    line, out = torch.linspace(0, 1, 10), []
    for _ in range(100):
        a, b, t = (torch.randn(64, 1, generator=generator) for _ in range(3))
        t = torch.sigmoid(t)
        given = a * torch.cos(3 * line) + b * torch.sin(5 * line)
        out.append((torch.cat([given, t], -1), 2 * (a * torch.sin(3 * t) / 3 + b * (1 - torch.cos(5 * t)) / 5)))
    return out


@family("deep-operator", relu={"act": nn.ReLU}, wide={"width": 96}, momentum={"optimizer": "momentum", "lr": 0.05})
def operator(act: Act = nn.GELU, width: int = 48, optimizer: str = "adam", lr: float = 4e-3) -> Workload:
    return trained(Operator(act, width), _integrals(), lr, regress, optimizer)


class Train(nn.Module):
    """A linear layer whose weight is a product of small cores."""

    def __init__(self, rank: int) -> None:
        super().__init__()
        scale = (8 * rank) ** -0.5
        self.left = nn.Parameter(torch.randn(8, 8, rank) * scale)
        self.right = nn.Parameter(torch.randn(rank, 8, 8))
        self.bias = nn.Parameter(torch.zeros(64))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.einsum("bij,iar,rjc->bac", x.reshape(-1, 8, 8), self.left, self.right) / 8**0.5 * 1.4
        return x.flatten(1) + self.bias


@family("tensor-train", deep={"depth": 4}, rank={"rank": 8}, sgd=SGD)
def tensor_train(depth: int = 3, rank: int = 4, optimizer: str = "adam", lr: float = 5e-3) -> Workload:
    layers = [part for _ in range(depth) for part in (Train(rank), nn.ReLU())]
    return _digits(nn.Sequential(*layers, nn.Linear(64, 10)), lr, optimizer)


@family("survival", tanh={"act": nn.Tanh}, wide={"width": 128}, other=OTHER)
def survival(act: Act = nn.ReLU, width: int = 48, lr: float = 3e-3, turn: int = 0) -> Workload:
    """The partial likelihood: who is at risk longest; the digit is the time."""

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        order = batch[1].argsort(descending=True, stable=True)
        risk = model(batch[0][order])[:, 0]
        return -(risk - torch.logcumsumexp(risk, 0)).mean()

    return _digits(mlp(4, act, "he", outputs=1, width=width), lr, "adam", turn, loss)


@family("ordinal", silu={"act": nn.SiLU}, sgd=SGD, other=OTHER)
def ordinal(act: Act = nn.ReLU, optimizer: str = "adam", lr: float = 3e-3, turn: int = 0) -> Workload:
    """Nine answers to: is the digit above this one?"""

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        above = (batch[1][:, None] > torch.arange(9)).float()
        return F.binary_cross_entropy_with_logits(model(batch[0]), above)

    return _digits(mlp(4, act, "he", outputs=9), lr, optimizer, turn, loss)


@family("counts", wide={"width": 128}, softplus={"act": nn.Softplus}, momentum={"optimizer": "momentum", "lr": 3e-3})
def counts(width: int = 48, act: Act = nn.ReLU, optimizer: str = "adam", lr: float = 4e-3) -> Workload:
    """A Poisson likelihood of how many pixels are dark in each row."""

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        dark = (batch[0].reshape(-1, 8, 8) > 0).float().sum(-1)
        return F.poisson_nll_loss(model(batch[0]), dark, full=True)

    return _digits(mlp(4, act, outputs=8, width=width), lr, optimizer, loss=loss)


class Uncertain(nn.Module):
    """Weights are drawn anew in each pass, from means and deviations that are learned."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.randn(outputs, inputs) * (2 / inputs) ** 0.5)
        self.spread = nn.Parameter(torch.full((outputs, inputs), -5.0))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        deviation = F.softplus(self.spread)
        return F.linear(x, self.mean + deviation * torch.randn_like(self.mean), self.bias)


@family("bayes-by-backprop", deep={"depth": 4}, wide={"width": 128}, sgd=SGD)
def bayesian(depth: int = 3, width: int = 64, optimizer: str = "adam", lr: float = 3e-3) -> Workload:
    layers: list[nn.Module] = []
    for number in range(depth - 1):
        layers += [Uncertain(width if number else 64, width), nn.ReLU()]
    model = nn.Sequential(*layers, Uncertain(width, 10))

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        spreads = [F.softplus(one.spread) for one in model.modules() if isinstance(one, Uncertain)]
        return classify(model, batch) - 1e-6 * torch.stack([s.log().sum() for s in spreads]).sum()

    return _digits(model, lr, optimizer, loss=loss)


class Equilibrium(nn.Module):
    """The hidden state is iterated to where it no longer changes; gradients flow through the last step alone."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.into, self.again, self.norm = nn.Linear(64, width), nn.Linear(width, width), nn.LayerNorm(width)
        self.read = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 10))
        with torch.no_grad():
            self.again.weight.mul_(0.5)

    def forward(self, x: Tensor) -> Tensor:
        given = self.into(x)
        state = torch.zeros_like(given)
        with torch.no_grad():
            for _ in range(8):
                state = torch.tanh(self.norm(self.again(state) + given))
        return self.read(torch.tanh(self.norm(self.again(state) + given)))


@family("equilibrium", wide={"width": 96}, sgd=SGD, other=OTHER)
def equilibrium(width: int = 48, optimizer: str = "adam", lr: float = 4e-3, turn: int = 0) -> Workload:
    return _digits(Equilibrium(width), lr, optimizer, turn)


class ComplexLinear(nn.Module):
    """Numbers with two parts, and a threshold on their size."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.real, self.imaginary = nn.Linear(inputs, outputs), nn.Linear(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        a, b = x.chunk(2, -1)
        return torch.cat([self.real(a) - self.imaginary(b), self.real(b) + self.imaginary(a)], -1)


@family("complex-valued", deep={"depth": 4}, wide={"width": 64}, momentum=MOMENTUM)
def complex_valued(depth: int = 3, width: int = 32, optimizer: str = "adam", lr: float = 3e-3) -> Workload:
    """The picture's Fourier transform is what it sees."""

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        waves = torch.fft.fft2(batch[0].reshape(-1, 8, 8), norm="ortho").flatten(1)
        return F.cross_entropy(model(torch.cat([waves.real, waves.imag], -1)), batch[1])

    layers = [part for i in range(depth) for part in (ComplexLinear(width if i else 64, width), nn.ReLU())]
    return _digits(nn.Sequential(*layers, nn.Linear(2 * width, 10)), lr, optimizer, loss=loss)


class Experts(nn.Module):
    """A gate weighs what several small networks say."""

    def __init__(self, count: int, act: Act) -> None:
        super().__init__()
        self.gate = nn.Linear(64, count)
        self.experts = nn.ModuleList(mlp(3, act, "he", width=32, outputs=32) for _ in range(count))
        self.head = nn.Sequential(nn.ReLU(), nn.Linear(32, 10))

    def forward(self, x: Tensor) -> Tensor:
        weight = self.gate(x).softmax(-1)
        said = torch.stack([one(x) for one in self.experts], 1)
        return self.head((weight[..., None] * said).sum(1))


@family("soft-experts", many={"count": 6}, gelu={"act": nn.GELU}, sgd=SGD)
def experts(count: int = 3, act: Act = nn.ReLU, optimizer: str = "adam", lr: float = 3e-3) -> Workload:
    return _digits(Experts(count, act), lr, optimizer)


class Isomorphism(nn.Module):
    """Sums over neighbours on the grid of pixels, each followed by a perceptron with batch norm."""

    def __init__(self, depth: int, width: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(
                nn.Linear(3 if i == 0 else width, width), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(width, width)
            )
            for i in range(depth)
        )
        self.head = nn.Linear(width * depth, 10)

    def forward(self, x: Tensor) -> Tensor:
        place = torch.stack(torch.meshgrid(*[torch.linspace(-1, 1, 8)] * 2, indexing="ij"), -1).reshape(64, 2)
        x, seen = torch.cat([x[..., None], place.expand(len(x), -1, -1)], -1), []
        for layer in self.layers:
            grid = x.reshape(len(x), 8, 8, -1)
            around = F.pad(grid, (0, 0, 1, 1, 1, 1))
            near = around[:, 2:, 1:-1] + around[:, :-2, 1:-1] + around[:, 1:-1, 2:] + around[:, 1:-1, :-2]
            x = layer((grid + near / 2).reshape(len(x), 64, -1))
            seen.append(F.relu(x).mean(1))
        return self.head(torch.cat(seen, -1))


@family("graph-isomorphism", deep={"depth": 4}, wide={"width": 64}, momentum={"optimizer": "momentum", "lr": 0.1})
def isomorphism(depth: int = 3, width: int = 32, optimizer: str = "adam", lr: float = 6e-3) -> Workload:
    return _digits(Isomorphism(depth, width), lr, optimizer)


class Zeroed(nn.Module):
    """A residual branch behind a learned gate that starts at zero, without any norm."""

    def __init__(self, width: int, act: Act) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(width, width), act(), nn.Linear(width, width))
        self.gate = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.gate * self.body(x)


@family("gated-from-zero", deep={"depth": 12}, gelu={"act": nn.GELU}, sgd=SLOW_SGD)
def rezero(depth: int = 6, act: Act = nn.ReLU, optimizer: str = "adam", lr: float = 3e-3) -> Workload:
    parts = [nn.Linear(64, 48), *(Zeroed(48, act) for _ in range(depth)), nn.ReLU(), nn.Linear(48, 10)]
    return _digits(nn.Sequential(*parts), lr, optimizer)
