"""What else people attach to a network to see its layers, each as it is documented, at every step."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

AfterStep = Callable[[], None]


@contextlib.contextmanager
def naive(model: nn.Module, folder: Path) -> Iterator[AfterStep]:
    """The hooks of a tutorial: five numbers of every leaf's output and of its gradient, each read at once."""
    found: dict[str, list[float]] = {}

    def numbers(x: torch.Tensor) -> list[float]:
        x = x.detach()
        return [x.mean().item(), x.std().item(), x.min().item(), x.max().item(), (x == 0).float().mean().item()]

    handles = []
    for name, module in model.named_modules():
        if next(module.children(), None) is None:
            handles.append(module.register_forward_hook(lambda m, i, o, name=name: found.update({name: numbers(o)})))
            handles.append(
                module.register_full_backward_hook(
                    lambda m, i, o, name=name: found.update({f"{name}.grad": numbers(o[0])})
                )
            )
    yield found.clear
    for one in handles:
        one.remove()


@contextlib.contextmanager
def wandb_watch(model: nn.Module, folder: Path) -> Iterator[AfterStep]:
    """`wandb.watch(model, log="all", log_freq=1)`: histograms of parameters and their gradients; no activations."""
    wandb = pytest.importorskip("wandb")
    run = wandb.init(mode="offline", dir=str(folder), settings=wandb.Settings(silent=True, console="off"))
    run.watch(model, log="all", log_freq=1)
    yield lambda: run.log({})
    run.unwatch(model)
    run.finish()


@contextlib.contextmanager
def tensorboard(model: nn.Module, folder: Path) -> Iterator[AfterStep]:
    """`add_histogram` of every leaf's output and of its gradient."""
    pytest.importorskip("tensorboard")
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(folder))
    step = 0

    def see(name: str, output: torch.Tensor) -> None:
        writer.add_histogram(name, output.detach(), step)
        if output.requires_grad:
            output.register_hook(lambda gradient: writer.add_histogram(f"{name}.grad", gradient, step))

    def after() -> None:
        nonlocal step
        step += 1

    handles = [
        module.register_forward_hook(lambda m, i, o, name=name: see(name, o))
        for name, module in model.named_modules()
        if next(module.children(), None) is None
    ]
    yield after
    for one in handles:
        one.remove()
    writer.close()


@contextlib.contextmanager
def delve(model: nn.Module, folder: Path) -> Iterator[AfterStep]:
    """`SaturationTracker`, whose eigenvalues are computed once per `add_saturations`: here at the end only."""
    delve = pytest.importorskip("delve")
    tracker = delve.SaturationTracker(str(folder), save_to="csv", modules=model, device="cpu")
    yield lambda: None
    tracker.add_saturations()
    tracker.close()
    for module in model.modules():
        module._forward_hooks.clear()  # its close() leaves them


TOOLS = {"naive hooks": naive, "wandb.watch": wandb_watch, "TensorBoard histograms": tensorboard, "delve": delve}
