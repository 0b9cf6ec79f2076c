"""Faults of the graph: gradients cut off on the way, though the parameters are meant to be trained."""

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

CUT = "missing-gradient"


class Halves(nn.Module):
    """A narrow lower half and an upper half with something between them."""

    def __init__(self, between: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.lower = mlp(4, nn.ReLU, "he", outputs=6)
        self.upper = mlp(3, nn.ReLU, "he", inputs=6)
        self.between = between

    def forward(self, x: Tensor) -> Tensor:
        return self.upper(self.between(self.lower(x)))


class NoGrad(nn.Module):
    """The lower half runs under no_grad, as if it were frozen."""

    def __init__(self, cut: bool) -> None:
        super().__init__()
        self.cut = cut
        self.lower, self.upper = mlp(4, nn.ReLU, "he", outputs=6), mlp(3, nn.ReLU, "he", inputs=6)

    def forward(self, x: Tensor) -> Tensor:
        with torch.set_grad_enabled(not self.cut):
            code = self.lower(x)
        return self.upper(code)


class Encoded(nn.Module):
    """torch's own encoder over the rows of a digit, cut below the head."""

    def __init__(self, cut: bool) -> None:
        super().__init__()
        self.cut = cut
        self.stem = nn.Linear(8, 32)
        layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, dropout=0.0)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.encoder(self.stem(x.reshape(-1, 8, 8))).amax(1)
        return self.head(x.detach() if self.cut else x)


def _halves(between: Callable[[Tensor], Tensor]) -> Workload:
    return adam(Halves(between), digits(), 5e-3)


def _through_numpy(x: Tensor) -> Tensor:
    return torch.from_numpy(x.detach().numpy().copy())


def _rewrapped(x: Tensor) -> Tensor:
    return torch.tensor(x.tolist(), requires_grad=True)


def _frozen_zero_head(frozen: bool) -> Workload:
    model = mlp(4, nn.ReLU, "he")
    head = model[-1]
    assert isinstance(head, nn.Linear)
    nn.init.zeros_(head.weight)
    head.weight.requires_grad_(not frozen)
    return sgd(model, digits(), 0.1)


def _frozen_narrow(frozen: bool) -> Workload:
    model = Halves(lambda x: x)
    model.lower.requires_grad_(not frozen)
    return Workload(model, digits(), classify, torch.optim.Adam(model.parameters(), lr=5e-3))


class Branches(nn.Module):
    """Two branches of which one is multiplied by a gate of exactly zero."""

    def __init__(self, gate: float) -> None:
        super().__init__()
        self.main, self.head = mlp(4, nn.ReLU, "he", outputs=64), nn.Linear(64, 10)
        self.gate = gate

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.main(x) * self.gate)


def _wrong_output(wrong: bool) -> Workload:
    model = nn.ModuleDict({"first": mlp(3, nn.ReLU, "he"), "second": mlp(3, nn.ReLU, "he", inputs=10)})

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        with torch.no_grad():
            first = model["first"](batch[0])  # type: ignore[index]
        if not wrong:
            first = model["first"](batch[0])  # type: ignore[index]
        return F.cross_entropy(model["second"](first[:, :4] @ torch.eye(4, 10)), batch[1])  # type: ignore[index]

    return adam(model, digits(), 5e-3, loss)


HALVES_TWIN = partial(_halves, lambda x: x)
CASES = [
    faulty("cut-detach", partial(_halves, lambda x: x.detach()), CUT, "detach() between the halves", HALVES_TWIN),
    faulty(
        "cut-no-grad",
        lambda: adam(NoGrad(True), digits(), 5e-3),
        CUT,
        "no_grad around the lower half",
        lambda: adam(NoGrad(False), digits(), 5e-3),
    ),
    faulty("cut-numpy", partial(_halves, _through_numpy), CUT, "a round trip through numpy", HALVES_TWIN),
    faulty("cut-rewrapped", partial(_halves, _rewrapped), CUT, "torch.tensor() makes a new leaf", HALVES_TWIN),
    faulty("cut-data", partial(_halves, lambda x: x.data), CUT, "x.data between the halves", HALVES_TWIN),
    faulty(
        "cut-round",
        partial(_halves, torch.round),
        CUT + " vanishing-gradient",
        "round() has a gradient of exactly zero",
        HALVES_TWIN,
    ),
    faulty(
        "cut-threshold", partial(_halves, lambda x: (x > 0).float()), CUT, "a comparison has no gradient", HALVES_TWIN
    ),
    faulty(
        "cut-in-loss",
        partial(_wrong_output, True),
        CUT,
        "the first network runs under no_grad in the loss",
        partial(_wrong_output, False),
    ),
    faulty(
        "cut-transformer-detach",
        lambda: adam(Encoded(True), digits(), 3e-3),
        CUT,
        "detach() below the head",
        lambda: adam(Encoded(False), digits(), 3e-3),
    ),
    faulty(
        "cut-gate-zero",
        lambda: adam(Branches(0.0), digits(), 5e-3),
        CUT + " vanishing-gradient collapsed-signal dead-units",
        "multiplied by zero",
        lambda: adam(Branches(1.0), digits(), 5e-3),
    ),
    faulty(
        "frozen-zero-head",
        partial(_frozen_zero_head, True),
        CUT + " vanishing-gradient stalled-update collapsed-signal dead-units",
        "a zero head which is frozen",
        partial(_frozen_zero_head, False),
    ),
    faulty(
        "frozen-by-mistake",
        partial(_frozen_narrow, True),
        "stalled-update missing-gradient",
        "frozen parameters handed to the optimizer: looks like fine-tuning",
        partial(_frozen_narrow, False),
        hard=True,
    ),
]
