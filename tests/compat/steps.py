"""Rows: what belongs to a step, and what runs between steps."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import diag
from diag.trace import Trace
from tests.compat.loops import CLASSES, WIDTH, Batch, batches, job, loss_of, network, network_forward
from tests.compat.oracle import Oracle
from tests.compat.registry import Job, Snap, setup

GROUP = "Steps"


@setup("no_grad and eval() passes between steps", GROUP)
def evaluated() -> Job:
    one = job(model := network(), network_forward)
    inner = one.train

    def train(snap: Snap) -> None:
        def evaluating(batch: Batch) -> None:
            model.eval()
            with torch.no_grad():
                model(batch[0])
            with torch.inference_mode():
                model(batch[0])
            model.train()
            snap(batch)

        inner(evaluating)

    one.train = train
    return one


class Frozen(nn.Module):
    """A body under no_grad, and a head that trains."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = network().requires_grad_(False), nn.Linear(CLASSES, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            x = self.body(x)
        return self.head(x)


@setup("a part of the model under no_grad", GROUP)
def frozen() -> Job:
    def forward(note: Oracle, x: torch.Tensor) -> torch.Tensor:
        return note.linear("head", network_forward(note, x, "body."))

    model = Frozen()
    return job(model, forward, optimizer=torch.optim.SGD(model.head.parameters(), 0.3))


class Checkpointed(nn.Module):
    """Two segments that are run again in backward, the second with the stem, which the first pass shares."""

    def __init__(self, reentrant: bool) -> None:
        super().__init__()
        self.reentrant = reentrant
        self.stem, self.out = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, CLASSES)
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Tanh()) for _ in range(2))

    def last(self, x: torch.Tensor) -> torch.Tensor:
        return self.blocks[1](self.stem(x)).sigmoid()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = checkpoint(self.blocks[0], self.stem(x), use_reentrant=self.reentrant)
        return self.out(checkpoint(self.last, x, use_reentrant=self.reentrant))


def _checkpointed(reentrant: bool) -> Job:
    def forward(note: Oracle, x: torch.Tensor) -> torch.Tensor:
        x = note.linear("stem", x)
        x = note("blocks.0.1", note.linear("blocks.0.0", x).tanh())
        x = note("blocks.1.1", note.linear("blocks.1.0", note.linear("stem", x)).tanh())
        return note.linear("out", note("Checkpointed:sigmoid", 1 / (1 + torch.exp(-x))))

    model = Checkpointed(reentrant)
    return job(model, forward, fails_in=model.blocks[1][1])


@setup(
    "activation checkpointing, reentrant",
    GROUP,
    partly={
        "values": "the gradient of a function that runs in the checkpointed function itself, outside of the modules it "
        "calls, is not seen; everything else is"
    },
    absent=(("gradient", "Checkpointed:sigmoid"),),
)
def reentrant() -> Job:
    return _checkpointed(True)


@setup("activation checkpointing, not reentrant", GROUP)
def not_reentrant() -> Job:
    return _checkpointed(False)


@setup("gradient accumulation over uneven micro-batches", GROUP)
def accumulation() -> Job:
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)

    def train(snap: Snap) -> None:
        for x, y in batches():
            optimizer.zero_grad()
            for index, rows in enumerate((slice(0, 3), slice(3, None))):
                snap((x[rows], y[rows]), more=index > 0)
                (loss_of(model(x[rows]), y[rows]) / 2).backward()
            optimizer.step()

    def oracle(note: Oracle, batch: Batch) -> None:
        note.backward(loss_of(network_forward(note, note.cast(batch[0])), batch[1]) / 2)

    return Job(model, train, oracle, [optimizer])


@setup("closures (LBFGS)", GROUP)
def closures() -> Job:
    model = network()
    optimizer = torch.optim.LBFGS(model.parameters(), 0.1, max_iter=3)
    one = job(model, network_forward, optimizer=optimizer, cleared=True)

    def train(snap: Snap) -> None:
        for x, y in batches():
            passes = iter(range(100))

            def closure(x: torch.Tensor = x, y: torch.Tensor = y, passes: Iterator[int] = passes) -> torch.Tensor:
                snap((x, y), more=next(passes) > 0)
                optimizer.zero_grad()
                loss = loss_of(model(x), y)
                loss.backward()
                return loss

            optimizer.step(closure)

    one.train = train
    return one


@setup("two optimizers that share a pass", GROUP)
def sharing() -> Job:
    model = network()
    optimizers = [torch.optim.Adam(model[0].parameters(), 1e-2), torch.optim.SGD(model[2].parameters(), 0.1)]
    one = job(model, network_forward)

    def train(snap: Snap) -> None:
        for x, y in batches():
            snap((x, y))
            model.zero_grad()
            loss_of(model(x), y).backward()
            for optimizer in optimizers:
                optimizer.step()

    one.train, one.optimizers = train, optimizers
    return one


class Adversaries(nn.Module):
    """A generator and a discriminator, which is called twice when it trains."""

    def __init__(self) -> None:
        super().__init__()
        self.g = nn.Linear(WIDTH, WIDTH)
        self.d = nn.Sequential(nn.Linear(WIDTH, 8), nn.LeakyReLU(0.2), nn.Linear(8, 1))


def _adversaries(every: int) -> Job:
    model = Adversaries()
    optimizers = [torch.optim.SGD(one.parameters(), 0.1) for one in (model.d, model.g)]

    def train(snap: Snap) -> None:
        for x, _ in batches(4):
            for turn, optimizer in enumerate(optimizers):
                snap((x, turn))
                model.zero_grad()
                if turn:
                    loss = -model.d(model.g(x)).mean()
                else:
                    loss = model.d(model.g(x).detach()).mean() - model.d(x).tanh().mean()
                loss.backward()
                optimizer.step()

    def oracle(note: Oracle, batch: Any) -> None:
        x, turn = note.cast(batch[0]), batch[1]
        fake = note.linear("g", x)

        def judge(x: torch.Tensor) -> torch.Tensor:
            x = note.linear("d.0", x)
            return note.linear("d.2", note("d.1", torch.where(x > 0, x, 0.2 * x)))

        note.backward(-judge(fake).mean() if turn else judge(fake.detach()).mean() - judge(x).tanh().mean())

    @contextlib.contextmanager
    def watch() -> Iterator[Callable[[], Trace]]:
        with diag.watch(model, optimizers, every=every) as watch:
            yield lambda: watch.trace

    # Of what one optimizer's step leaves alone, nothing is reported in it.
    return Job(
        model,
        train,
        oracle,
        optimizers,
        watch,
        stepping=lambda step: (("d.", "g.")[step % 2],),
        measured=lambda step: every == 1 or step in (0, 1, 2, 4, 7),
    )


@setup("two optimizers that take turns (GAN)", GROUP)
def adversaries() -> Job:
    return _adversaries(1)


@setup("two optimizers that take turns, watched every second step", GROUP)
def seldom() -> Job:
    return _adversaries(2)


@setup("GradScaler", GROUP)
def scaled() -> Job:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), 0.3)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**12)
    one = job(model, network_forward, optimizer=optimizer)

    def train(snap: Snap) -> None:
        for x, y in batches():
            snap((x, y))
            optimizer.zero_grad()
            scaler.scale(loss_of(model(x), y)).backward()
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(model.parameters(), 100.0)
            scaler.step(optimizer)
            scaler.update()

    one.train = train
    return one
