"""Faults that give NaN or infinity: born in forward, in backward only, in the step, in the data."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diag.train.workload import Workload
from tests.corpus.case import faulty
from tests.corpus.data import digits
from tests.corpus.nets import adam, classify, mlp, sgd

BORN = "non-finite"


class Middle(nn.Module):
    """Something between a body and a head."""

    def __init__(self, between: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.body, self.head = mlp(3, nn.ReLU, "he", outputs=32), mlp(2, nn.ReLU, "he", inputs=32)
        self.between = between

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.between(self.body(x)))


class InputNorm(nn.Module):
    """Standardizes each pixel over the batch; some pixels are always 0."""

    def __init__(self, eps: float) -> None:
        super().__init__()
        self.body, self.eps = mlp(4, nn.ReLU, "he"), eps

    def forward(self, x: Tensor) -> Tensor:
        return self.body((x - x.mean(0)) / (x.std(0) + self.eps))


class Masked(nn.Module):
    """Attention over the rows of a digit, of which a sample may be wholly masked."""

    def __init__(self, fill: float) -> None:
        super().__init__()
        self.qkv, self.head, self.fill = nn.Linear(8, 96), nn.Linear(32, 10), fill

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x.reshape(-1, 8, 8)).chunk(3, -1)
        mask = torch.zeros(len(x), 8, 8)
        mask[::4] = self.fill
        weights = (q @ k.transpose(1, 2) / 32**0.5 + mask).softmax(-1)
        return self.head((weights @ v).mean(1))


def _middle(between: Callable[[Tensor], Tensor], lr: float = 2e-3) -> Workload:
    return adam(Middle(between), digits(), lr)


def _loss(read: Callable[[Tensor, Tensor], Tensor]) -> Workload:
    return sgd(mlp(4, nn.ReLU, "he"), digits(), 0.05, lambda model, batch: read(model(batch[0]), batch[1]))


def _bad_data(at: int, value: float) -> Workload:
    batches = digits()
    if at >= 0:
        x, y = batches[at]
        batches[at] = (x.index_fill(0, torch.tensor([3]), value), y)
    return sgd(mlp(4, nn.ReLU, "he"), batches, 0.1)


def _eps(eps: float) -> Workload:
    model = mlp(4, nn.ReLU, "he")
    return Workload(model, digits(scale="unit"), classify, torch.optim.Adam(model.parameters(), lr=3e-3, eps=eps))


def _half(gain: float) -> Workload:
    model = mlp(5, nn.ReLU, "he", gain=gain).half()

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return F.cross_entropy(model(batch[0]).float(), batch[1])

    return sgd(model, [(x.half(), y) for x, y in digits()], 0.05, loss)


def _bad_weight(value: float) -> Workload:
    model = mlp(4, nn.ReLU, "he")
    with torch.no_grad():
        model[2].weight[0, 0] = value  # type: ignore[operator]
    return sgd(model, digits(), 0.1)


def _safe_log(logits: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(logits, targets)


def _naive_log(logits: Tensor, targets: Tensor) -> Tensor:
    scores = (logits * 40).exp()
    return -(scores / scores.sum(-1, keepdim=True)).log().gather(1, targets[:, None]).mean()


def _where(x: Tensor) -> Tensor:
    return torch.where(x > 0, x.sqrt(), torch.zeros_like(x))


def _dropped_sqrt(x: Tensor) -> Tensor:
    return F.dropout(x.abs(), 0.5).sqrt()


def _unit(x: Tensor) -> Tensor:
    x = F.relu(x - 2)
    return x / x.norm(dim=-1, keepdim=True)


def _distance_loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    code = model(batch[0])
    distance = (code[:, None] - code[None]).square().sum(-1).sqrt()
    return F.cross_entropy(code, batch[1]) + 0.01 * distance.mean()


def _late(at: int) -> Workload:
    counter = iter(range(10**6))

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        logits = model(batch[0])
        if next(counter) == at:
            logits = logits / 0.0
        return F.cross_entropy(logits, batch[1])

    return sgd(mlp(4, nn.ReLU, "he"), digits(), 0.1, loss)


MIDDLE_TWIN = partial(_middle, lambda x: x)
DATA_TWIN = partial(_bad_data, -1, 0.0)
CASES = [
    faulty("nan-log-negative", partial(_middle, torch.log), BORN, "log of a negative number, forward", MIDDLE_TWIN),
    faulty("nan-sqrt-negative", partial(_middle, torch.sqrt), BORN, "sqrt of a negative number, forward", MIDDLE_TWIN),
    faulty("inf-exp", partial(_middle, lambda x: (60 * x).exp()), BORN, "exp overflows, forward", MIDDLE_TWIN),
    faulty(
        "nan-divide-by-zero-std",
        lambda: sgd(InputNorm(0.0), digits(), 0.1),
        BORN,
        "0 / 0: a pixel that never varies",
        lambda: sgd(InputNorm(1.0), digits(), 0.1),
    ),
    faulty("nan-normalize-zero", partial(_middle, _unit), BORN, "0 / 0: a code of norm zero", MIDDLE_TWIN),
    faulty(
        "nan-naive-log-softmax",
        lambda: _loss(_naive_log),
        BORN,
        "exp overflows in a softmax written by hand",
        lambda: _loss(_safe_log),
    ),
    faulty(
        "nan-masked-row",
        lambda: adam(Masked(-torch.inf), digits(), 5e-3),
        BORN,
        "softmax over a row of -inf",
        lambda: adam(Masked(-5.0), digits(), 5e-3),
    ),
    faulty(
        "nan-backward-sqrt",
        partial(_middle, _dropped_sqrt),
        BORN,
        "the slope of sqrt at 0 is infinite, forward is fine",
        MIDDLE_TWIN,
    ),
    faulty(
        "nan-backward-where", partial(_middle, _where), BORN, "where() hides a NaN forward, not backward", MIDDLE_TWIN
    ),
    faulty(
        "nan-backward-distance",
        lambda: sgd(mlp(3, nn.ReLU, "he"), digits(), 0.1, _distance_loss),
        BORN,
        "a sample's distance to itself",
        lambda: sgd(mlp(3, nn.ReLU, "he"), digits(), 0.1),
    ),
    faulty(
        "nan-step-eps",
        partial(_eps, 0.0),
        BORN,
        "Adam with eps 0: 0 / 0 where a pixel is always 0",
        partial(_eps, 1e-8),
    ),
    faulty(
        "nan-step-lr",
        lambda: sgd(mlp(4, nn.ReLU, "he"), digits(), 1e38),
        BORN + " oversized-update diverging-loss",
        "the step overflows",
        lambda: sgd(mlp(4, nn.ReLU, "he"), digits(), 0.1),
    ),
    faulty("nan-data-7", partial(_bad_data, 7, torch.nan), BORN, "NaN in the eighth batch", DATA_TWIN),
    faulty("inf-data-0", partial(_bad_data, 0, torch.inf), BORN, "infinity in the first batch", DATA_TWIN),
    faulty("nan-weight", partial(_bad_weight, torch.nan), BORN, "one weight is NaN", partial(_bad_weight, 0.1)),
    faulty(
        "inf-half-overflow",
        partial(_half, 30.0),
        BORN + " exploding-activation exploding-gradient",
        "half precision overflows",
        partial(_half, 1.0),
    ),
    faulty("nan-late", partial(_late, 12), BORN, "division by zero in the thirteenth loss", partial(_late, -1)),
]
