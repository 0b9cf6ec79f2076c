"""What a rank does in the tests of test_ranks.py; each scenario returns what is to be checked."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import diag
from diag.probe import loss_graph
from tests.compat.loops import batches, loss_of, network
from tests.distributed.setups import mine
from tests.integrations.networks import samples, sick_network

STEPS = 6


def train(model: nn.Module, watched: nn.Module, before_step: Callable[[int], None] = lambda step: None) -> Any:
    """Some steps on this rank's part of the batches; the watch, and the error that ended it."""
    optimizer = torch.optim.SGD(model.parameters(), 0.3)
    error = ""
    watch = diag.watch(watched, optimizer)
    try:
        with watch:
            for step, batch in enumerate(batches(STEPS)):
                before_step(step)
                x, y = mine(batch)
                optimizer.zero_grad()
                loss_of(model(x), y).backward()
                optimizer.step()
    except RuntimeError as raised:
        error = str(raised)
    return watch, error


def told(watch: Any, error: str = "", **more: Any) -> dict[str, Any]:
    """What the test looks at."""
    trace = watch.trace
    rows = trace.frame[(trace.frame["site"] == "0") & (trace.frame["kind"] == "activation")]
    notes = [one for one in trace.coverage["notes"] if "rank" in one]
    found = [one.rule for one in watch.diagnose().findings if one.severity == "error"]
    return {
        "notes": notes, "count": rows["count"].tolist(), "rms": rows["rms"].tolist(), "error": error,
        "steps": len(trace.steps), "findings": found, **more,
    }  # fmt: skip


def inner() -> dict[str, Any]:
    """The module within the wrapper is watched."""
    model = network()
    return told(*train(DistributedDataParallel(model), model))


def alone() -> dict[str, Any]:
    """Ranks that train models of their own."""
    model = network()
    return told(*train(model, model))


def one_watches() -> dict[str, Any]:
    """Only rank 0 watches."""
    model = DistributedDataParallel(network())
    if dist.get_rank() == 0:
        began = time.monotonic()
        return told(*train(model, model), seconds=time.monotonic() - began)
    for x, y in map(mine, batches(STEPS)):
        loss_of(model(x), y).backward()
    return {}


def dead_units() -> dict[str, Any]:
    """Of four units one is zero on every rank, and one more on each that fires on another."""
    model = nn.Sequential(nn.Linear(2, 4, bias=False), nn.ReLU())
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0], [1.0, 1.0]]))
    wrapped = DistributedDataParallel(model)
    x = torch.eye(2)[dist.get_rank() % 2].expand(3, 2)
    with diag.watch(wrapped) as watch:
        for _ in range(12):
            wrapped(x).sum().backward()
            watch.step()
    trace = watch.trace
    rows = trace.frame[(trace.frame["site"] == "1") & (trace.frame["kind"] == "activation")]
    units = trace.units[trace.units["site"] == "1"]
    return {"dead_units": rows["dead_units"].tolist(), "dead": units["dead"].tolist(), "units": rows["units"].tolist()}


def sick() -> dict[str, Any]:
    """A network that does not learn: rank 0 says so, once."""
    model = sick_network()
    wrapped = DistributedDataParallel(model)
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    x, y = samples(64)
    with diag.watch(wrapped, optimizer) as watch:
        for _ in range(20):
            optimizer.zero_grad()
            F.cross_entropy(wrapped(mine((x, y))[0]), mine((x, y))[1]).backward()
            optimizer.step()
    return told(watch)


def paused() -> dict[str, Any]:
    """A watch that is entered twice counts nothing twice."""
    model = DistributedDataParallel(network())
    optimizer = torch.optim.SGD(model.parameters(), 0.3)
    watch = diag.watch(model, optimizer)
    for _ in range(2):
        with watch:
            for x, y in map(mine, batches(2)):
                optimizer.zero_grad()
                loss_of(model(x), y).backward()
                optimizer.step()
    return told(watch)


class Pair(nn.Module):
    """The usual network; it returns what is hidden too."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = network()

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        hidden = self.layers[1](self.layers[0](x))
        return hidden, self.layers[2](hidden)


def given(model: nn.Module, of_rank: Callable[[Any], Any] = lambda batch: batch) -> dict[str, Any]:
    """What the loss is given, of a loop that holds outputs itself, since the watch holds none."""
    optimizer = torch.optim.SGD(model.parameters(), 0.3)
    kept, loss_graph._SMALL = loss_graph._SMALL, 0
    with diag.watch(model, optimizer) as watch:
        for x, y in map(of_rank, batches(3)):
            optimizer.zero_grad()
            out = model(x)
            loss_of(out[1], y).backward()
            optimizer.step()
    loss_graph._SMALL = kept
    rows = watch.trace.frame
    return rows[rows["site"] == "loss:cross_entropy"][["count", "mean", "rms"]].to_dict("list")


def handed_on() -> dict[str, Any]:
    """Outputs that go through a function of the wrapper's before the user has them."""
    found = {}
    for option in ("gradient_as_bucket_view", "find_unused_parameters", "static_graph"):
        torch.manual_seed(7)
        found[option] = given(DistributedDataParallel(Pair(), **{option: True}), mine)
    return found


def dies(who: int) -> dict[str, Any]:
    """One rank is gone in the fourth step, without a word."""

    def perhaps(step: int) -> None:
        if step == 3 and dist.get_rank() == who:
            os._exit(1)

    began = time.monotonic()
    model = DistributedDataParallel(network())
    watch, error = train(model, model, perhaps)
    return told(watch, error, seconds=time.monotonic() - began)


SCENARIOS: dict[str, Callable[[], dict[str, Any]]] = {
    one.__name__: one for one in (inner, alone, one_watches, dead_units, sick, paused, handed_on)
}


def main(folder: Path, *arguments: str) -> None:
    """All scenarios of living ranks, or the one in which the given rank dies."""
    dist.init_process_group("gloo")
    found: dict[str, Any] = {}
    if arguments:
        torch.manual_seed(7)
        found["dies"] = dies(int(arguments[0]))
    else:
        for name, scenario in SCENARIOS.items():
            torch.manual_seed(7)
            found[name] = scenario()
            dist.barrier()
    (folder / f"{dist.get_rank()}.json").write_text(json.dumps(found))
    if arguments:
        os._exit(0)  # the group of a dead rank cannot be taken apart in peace
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
