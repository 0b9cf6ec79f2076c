"""Healthy set-ups whose training is unusual: optimizers, schedules, frozen, unused, low-rank and sparse parameters."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diag.train.workload import Workload
from tests.corpus.case import healthy
from tests.corpus.data import digits, waves, words
from tests.corpus.nets import adam, classify, mlp, regress, sgd


def _with(make: Callable[[list[nn.Parameter]], torch.optim.Optimizer], depth: int = 4) -> Workload:
    model = mlp(depth, nn.ReLU, "he")
    return Workload(model, digits(), classify, make(list(model.parameters())))


def _warm_up() -> Workload:
    workload = _with(lambda p: torch.optim.Adam(p, lr=5e-3))
    assert workload.optimizer is not None
    schedule = torch.optim.lr_scheduler.LambdaLR(workload.optimizer, lambda step: min(1.0, step / 25))
    workload.optimizer.register_step_post_hook(lambda *_: schedule.step())
    return workload


def _frozen() -> Workload:
    model = mlp(4, nn.ReLU, "he")
    model[:-1].requires_grad_(False)
    return sgd(model, digits(), 0.1)


def _frozen_in_optimizer() -> Workload:
    model = mlp(4, nn.ReLU, "he")
    model[0].requires_grad_(False)
    optimizer = torch.optim.Adam((p for p in model.parameters() if p.requires_grad), lr=2e-3)
    return Workload(model, digits(), classify, optimizer)


class LowRank(nn.Module):
    """A frozen linear layer and a trained low-rank correction whose second factor starts at zero."""

    def __init__(self, base: nn.Linear, rank: int = 4) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.down = nn.Parameter(torch.randn(rank, base.in_features) / base.in_features**0.5)
        self.up = nn.Parameter(torch.zeros(base.out_features, rank))

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + x @ self.down.T @ self.up.T


def _lora() -> Workload:
    model = mlp(4, nn.ReLU, "he")
    for number, layer in enumerate(model):
        if isinstance(layer, nn.Linear):
            model[number] = LowRank(layer)
    return Workload(
        model, digits(), classify, torch.optim.Adam((p for p in model.parameters() if p.requires_grad), 1e-2)
    )


class Bag(nn.Module):
    """The mean of word vectors, sparse gradients."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.embed = nn.EmbeddingBag(vocabulary, 32, mode="mean", sparse=True)
        self.head = nn.Linear(32, vocabulary)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.embed(tokens))


class TwoOptimizers(torch.optim.SGD):
    """SGD which steps a SparseAdam for the embedding along with itself."""

    def __init__(self, dense: list[nn.Parameter], sparse: list[nn.Parameter]) -> None:
        super().__init__(dense, lr=1.0)
        self.sparse = torch.optim.SparseAdam(sparse, lr=1e-2)

    def zero_grad(self, set_to_none: bool = True) -> None:
        super().zero_grad(set_to_none)
        self.sparse.zero_grad(set_to_none)

    def step(self, closure=None):  # type: ignore[no-untyped-def]
        loss = super().step(closure)
        self.sparse.step()
        return loss


def _bag() -> Workload:
    batches, vocabulary = words(64, 9)

    def loss(model: nn.Module, batch: Tensor) -> Tensor:
        return F.cross_entropy(model(batch[:, :-1]), batch[:, -1])

    model = Bag(vocabulary)
    return Workload(model, batches, loss, TwoOptimizers(list(model.head.parameters()), list(model.embed.parameters())))


class Spare(nn.Module):
    """A pooler and a second head that this loss never uses."""

    def __init__(self) -> None:
        super().__init__()
        self.body = mlp(3, outputs=64, scheme="he")
        self.pooler = nn.Linear(64, 64)
        self.head = nn.Linear(64, 10)
        self.other_head = nn.Linear(64, 3)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = F.relu(self.body(x))
        return {"logits": self.head(x), "pooled": torch.tanh(self.pooler(x))}


def _spare() -> Workload:
    return adam(Spare(), digits(), 2e-3, lambda model, batch: F.cross_entropy(model(batch[0])["logits"], batch[1]))


def _autocast() -> Workload:
    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return F.cross_entropy(model(batch[0]), batch[1])

    return sgd(mlp(5, nn.ReLU, "he"), digits(), 0.1, loss)


def _bf16() -> Workload:
    model = mlp(4, nn.ReLU, "he").to(torch.bfloat16)
    return sgd(model, [(x.bfloat16(), y) for x, y in digits()], 0.1)


def _double() -> Workload:
    return sgd(mlp(4, nn.ReLU, "he").double(), [(x.double(), y) for x, y in digits()], 0.1)


def _multitask() -> Workload:
    model = mlp(4, nn.ReLU, "he", outputs=11)

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        out = model(batch[0])
        return F.cross_entropy(out[:, :10], batch[1]) + 0.1 * F.mse_loss(out[:, 10], batch[1].float() / 10)

    return adam(model, digits(), 3e-3, loss)


def _large_targets() -> Workload:
    model = mlp(3, nn.ReLU, outputs=1)
    return adam(model, [(x, 10.0 * y[:, None].float()) for x, y in digits()], 1e-2, regress)


def _penalty() -> Workload:
    model = mlp(3, nn.Softplus, "glorot")

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        x = batch[0].clone().requires_grad_()
        value = F.cross_entropy(model(x), batch[1])
        (slope,) = torch.autograd.grad(value, x, create_graph=True)
        return value + 0.1 * slope.square().sum()

    return adam(model, digits(), 5e-3, loss)


def _imbalanced() -> Workload:
    model = mlp(3, nn.ReLU, "he", outputs=1)
    batches = [(x, (y == 3).float()[:, None]) for x, y in digits(64)]
    return adam(model, batches, 3e-3, lambda m, b: F.binary_cross_entropy_with_logits(m(b[0]), b[1]))


def _policy() -> Workload:
    model = mlp(3, nn.Tanh, "glorot")

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        policy = torch.distributions.Categorical(logits=model(batch[0]))
        action = policy.sample()
        reward = (action == batch[1]).float()
        return -(policy.log_prob(action) * (reward - reward.mean())).mean()

    return adam(model, digits(64), 3e-3, loss)


CASES = [
    healthy("train-adamw", lambda: _with(lambda p: torch.optim.AdamW(p, lr=2e-3, weight_decay=0.1))),
    healthy("train-momentum", lambda: _with(lambda p: torch.optim.SGD(p, lr=0.02, momentum=0.9, nesterov=True))),
    healthy("train-rmsprop", lambda: _with(lambda p: torch.optim.RMSprop(p, lr=1e-3))),
    healthy("train-adagrad", lambda: _with(lambda p: torch.optim.Adagrad(p, lr=2e-2))),
    healthy(
        "train-lbfgs",
        lambda: _with(lambda p: torch.optim.LBFGS(p, lr=0.1, max_iter=2, history_size=5), 2),
        "step(closure)",
    ),
    healthy("train-warm-up", _warm_up, "the first update is exactly zero: the learning rate rises from 0"),
    healthy(
        "train-slow-and-sure",
        lambda: _with(lambda p: torch.optim.SGD(p, lr=5e-3)),
        "a small learning rate that still learns",
    ),
    healthy("train-frozen-body", _frozen, "only the head is trained"),
    healthy("train-frozen-first", _frozen_in_optimizer),
    healthy("train-lora", _lora, "low-rank factors that start at zero"),
    healthy("train-sparse-bag", _bag, "sparse gradients, two optimizers in one"),
    healthy("train-spare-heads", _spare, "a pooler and a head that this loss does not use"),
    healthy("train-autocast", _autocast),
    healthy("train-bf16", _bf16),
    healthy("train-float64", _double),
    healthy("train-multitask", _multitask),
    healthy("train-large-targets", _large_targets, "targets up to 90: the loss starts at thousands"),
    healthy("train-gradient-penalty", _penalty, "double backward"),
    healthy("train-imbalanced", _imbalanced),
    healthy("train-policy-gradient", _policy, "a loss whose value means nothing", learns=False),
    healthy("train-mnist1d", lambda: adam(mlp(4, inputs=40), waves(64), 3e-3)),
]
