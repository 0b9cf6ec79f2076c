"""Rows: what tensors are made of."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from tests.compat.loops import CLASSES, ROWS, WIDTH, batches, job, loss_of, network, network_forward
from tests.compat.oracle import Oracle
from tests.compat.registry import Job, Snap, setup

GROUP = "Number formats"


def _autocast(dtype: torch.dtype) -> Job:
    """The oracle computes in the same precision, and only its statistics in float64."""
    model = network()

    def call(x: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", dtype=dtype):
            return model(x)

    def forward(note: Oracle, x: torch.Tensor) -> torch.Tensor:
        p = note.p
        with torch.autocast("cpu", dtype=dtype):
            x = note("1", torch.tanh(note("0", F.linear(x, p["0.weight"], p["0.bias"]))))
            return note("2", F.linear(x, p["2.weight"], p["2.bias"]))

    return job(model, forward, call=call, precision=None, tolerance=1e-5)


@setup("autocast, bfloat16", GROUP)
def bfloat16() -> Job:
    return _autocast(torch.bfloat16)


@setup("autocast, float16, with GradScaler", GROUP)
def float16() -> Job:
    one = _autocast(torch.float16)
    (optimizer,) = one.optimizers
    scaler = torch.amp.GradScaler("cpu", init_scale=256.0)

    def train(snap: Snap) -> None:
        for x, y in batches():
            snap((x, y))
            optimizer.zero_grad()
            with torch.autocast("cpu", dtype=torch.float16):
                out = one.model(x)
            scaler.scale(loss_of(out, y)).backward()
            scaler.step(optimizer)
            scaler.update()

    one.train = train
    one.tolerance = 5e-3  # unscaled gradients are rounded elsewhere in float16
    return one


@setup("float64", GROUP)
def float64() -> Job:
    data = [(x.double(), y) for x, y in batches()]
    return job(network().double(), network_forward, data=data, tolerance=1e-10)


@setup("bfloat16 throughout", GROUP)
def low() -> Job:
    def forward(note: Oracle, x: torch.Tensor) -> torch.Tensor:
        p = note.p
        x = note("1", torch.tanh(note("0", F.linear(x, p["0.weight"], p["0.bias"]))))
        return note("2", F.linear(x, p["2.weight"], p["2.bias"]))

    data = [(x.bfloat16(), y) for x, y in batches()]
    return job(network().bfloat16(), forward, data=data, precision=None, tolerance=1e-5)


class Complex(nn.Module):
    """A complex layer, and the magnitudes of what it returns."""

    def __init__(self) -> None:
        super().__init__()
        self.lin, self.out = nn.Linear(WIDTH, 8, dtype=torch.complex64), nn.Linear(8, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.lin(x).abs())


@setup("complex layers, by magnitude", GROUP)
def complexes() -> Job:
    def forward(note: Oracle, x: torch.Tensor) -> torch.Tensor:
        return note.linear("out", note.linear("lin", x).abs())

    data = [(torch.complex(x, x.flip(0)), y) for x, y in batches()]
    return job(Complex(), forward, data=data)


class Sparse(nn.Module):
    """Embeddings whose weight gradients are sparse."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.bag = nn.Embedding(20, WIDTH, sparse=True), nn.EmbeddingBag(20, WIDTH, sparse=True, mode="sum")
        self.out = nn.Linear(WIDTH, CLASSES)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.out(self.one(ids).sum(1) + self.bag(ids))


@setup("integer inputs, sparse gradients", GROUP)
def sparse() -> Job:
    def forward(note: Oracle, ids: torch.Tensor) -> torch.Tensor:
        one, bag = note.p["one.weight"][ids], note.p["bag.weight"][ids].sum(1)
        return note.linear("out", note("one", one).sum(1) + note("bag", bag))

    generator = torch.Generator().manual_seed(3)
    data = [(torch.randint(0, 20, (ROWS, 4), generator=generator), y) for _, y in batches()]
    model = Sparse()
    return job(model, forward, data=data, optimizer=torch.optim.SGD(model.parameters(), 0.3))
