"""Rows: training loops that are somebody else's."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from diag.trace import Trace
from tests.compat.loops import ROWS, Batch, batches, job, loss_of, network, network_forward
from tests.compat.oracle import Oracle
from tests.compat.registry import Job, Snap, setup

GROUP = "Frameworks"
LEAF_SPEC = ".*LeafSpec"  # of torch 2.13, for what Lightning 2.5 calls


def _loader(parts: list[Batch] | None = None) -> Any:
    parts = parts or batches()
    return DataLoader(TensorDataset(*(torch.cat(one) for one in zip(*parts, strict=True))), batch_size=ROWS)


def _by_callback(job: Job, callback: Any, callbacks: list[Any]) -> Job:
    """Watched by the framework's callback, which a watched training finds in `callbacks`."""

    @contextlib.contextmanager
    def watch() -> Iterator[Callable[[], Trace]]:
        callbacks.append(callback)
        yield lambda: callback.diagnosis.trace

    job.watch = watch
    return job


_tell: list[Snap] = []
"""Whom the running module tells of a step; no attribute of it, since it must pickle."""


def _lightning(manual: bool) -> Job:
    from lightning.pytorch import Trainer

    from diag.integrations.lightning import DiagCallback
    from tests.compat.lightning_modules import Automatic, Manual

    model = Manual(_tell) if manual else Automatic(_tell)
    callbacks: list[Any] = []

    def train(snap: Snap) -> None:
        quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
        _tell[:] = [snap]
        used = Trainer(
            accelerator="cpu", devices=1, max_epochs=1, enable_model_summary=False, callbacks=callbacks, **quiet
        )
        used.fit(model, _loader())

    def oracle(note: Oracle, batch: Batch) -> None:
        note.backward(loss_of(network_forward(note, note.cast(batch[0]), "net."), batch[1]))

    return _by_callback(Job(model, train, oracle, fails_in=model.net[2]), DiagCallback(every=1), callbacks)


@setup("Lightning, automatic optimization", GROUP, ignored=(LEAF_SPEC,), needs=("lightning",))
def lightning_automatic() -> Job:
    return _lightning(False)


@setup("Lightning, two optimizers that share a pass by hand", GROUP, ignored=(LEAF_SPEC,), needs=("lightning",))
def lightning_manual() -> Job:
    return _lightning(True)


class WithLoss(nn.Module):
    """The form that the Trainer of transformers takes."""

    def __init__(self) -> None:
        super().__init__()
        self.net = network()

    def forward(self, x: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        if _tell:
            _tell[0]((x, labels))
        logits = self.net(x)
        return {"loss": loss_of(logits, labels), "logits": logits}


@setup("transformers Trainer", GROUP, needs=("transformers", "accelerate"))
def transformers_trainer() -> Job:
    import transformers

    from diag.integrations.transformers import DiagCallback

    model = WithLoss()
    callbacks: list[Any] = []
    rows = [{"x": x, "labels": y} for x, y in _loader().dataset]

    def train(snap: Snap) -> None:
        _tell[:] = [snap]
        quiet: dict[str, Any] = {"report_to": [], "disable_tqdm": True, "logging_strategy": "no", "save_strategy": "no"}
        with tempfile.TemporaryDirectory() as folder:
            arguments = transformers.TrainingArguments(
                folder,
                seed=1,
                max_steps=3,
                per_device_train_batch_size=ROWS,
                learning_rate=1e-2,
                use_cpu=True,
                max_grad_norm=0.0,
                **quiet,
            )
            used = transformers.Trainer(model, arguments, train_dataset=rows, callbacks=callbacks)
            with callbacks[0] if callbacks else contextlib.nullcontext():
                used.train()

    def oracle(note: Oracle, batch: Batch) -> None:
        out = network_forward(note, note.cast(batch[0]), "net.")
        loss = loss_of(out, batch[1])
        note("WithLoss:cross_entropy", out.detach())
        note("WithLoss:cross_entropy[value]", loss.detach())
        note.backward(loss)

    return _by_callback(Job(model, train, oracle, fails_in=model.net[2]), DiagCallback(every=1), callbacks)


@setup("Accelerate, with accumulation", GROUP, needs=("accelerate",))
def accelerated() -> Job:
    import accelerate

    model = network()
    optimizer = torch.optim.SGD(model.parameters(), 0.3)
    one = job(model, network_forward, optimizer=optimizer)

    def train(snap: Snap) -> None:
        accelerator = accelerate.Accelerator(cpu=True, gradient_accumulation_steps=2)
        prepared, wrapped, loader = accelerator.prepare(model, optimizer, _loader(batches(6)))
        for index, (x, y) in enumerate(loader):
            snap((x, y), more=index % 2 > 0)
            with accelerator.accumulate(prepared):
                accelerator.backward(loss_of(prepared(x), y))
                wrapped.step()
                wrapped.zero_grad()

    def oracle(note: Oracle, batch: Batch) -> None:
        note.backward(loss_of(network_forward(note, note.cast(batch[0])), batch[1]) / 2)

    one.train, one.oracle = train, oracle
    return one
