"""Watching a model on an accelerator: nothing waits inside a step, and the numbers are those of the host."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest
import torch

import diag

# In a process of its own, since torch keeps a backend that is registered once. Each training runs on the host, then on
# the accelerator; of every step, what made the host wait and how much ran on the device. `late`: the device copies
# beside the host, as CUDA does, and what it copies has not arrived until it is waited for.
_SCRIPT = """
import json, sys
import torch, diag
from torch import nn
from diag.probe import arrivals
from diag.stats import device as by_operations
from tests.probe import accelerator as soft

by_operations.DEVICE_BLOCK = 200  # so that most tensors are measured in several blocks

arrivals._event, arrivals._staging = soft.Event, lambda shape, dtype: torch.empty(shape, dtype=dtype)

def build(layers, device):
    torch.manual_seed(0)
    body = [one for _ in range(layers) for one in (nn.Linear(16, 16), nn.Dropout(0.0), nn.ReLU())]
    model = nn.Sequential(nn.Linear(8, 16), nn.LayerNorm(16), nn.Tanh(), *body, nn.Linear(16, 4))
    batch, target = torch.randn(32, 8), torch.randint(4, (32,))
    for module in model.modules():
        for name, one in module._parameters.items():
            module._parameters[name] = nn.Parameter(one.detach().to(device))
    return model, batch.to(device), target.to(device)

def train(layers, how, device):
    arrivals.ASYNCHRONOUS = {"soft"} if how == "late" else set()
    model, batch, target = build(layers, device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)
    steps, watch = [], diag.watch(model, optimizer, every=3 if how == "seldom" else 1)
    if how != "plain":
        watch.__enter__()
    for _ in range(4):
        soft.waits.clear()
        soft.operations.clear()
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(batch), target)
        loss.backward()
        optimizer.step()
        if how != "plain":
            watch.step(loss)
        steps.append({"waits": list(soft.waits), "operations": len(soft.operations)})
    weights = [one.detach().cpu().flatten().tolist() for one in model.parameters()]
    if how == "plain":
        return {"weights": weights}
    watch.__exit__(None, None, None)
    trace = watch.trace
    frames = {
        name: json.loads(frame[~frame["site"].str.startswith("loss:")].to_json(orient="records", double_precision=15))
        for name, frame in (("rows", trace.frame), ("units", trace.units))
    }  # not what a loss is given, which of a subclass of Tensor is not read
    return {**frames, "losses": trace.steps["loss"].tolist(), "steps": steps, "weights": weights}

with soft.accelerator():
    trainings = json.loads(sys.argv[1])
    print(json.dumps([[train(*one, device) for device in ("cpu", soft.DEVICE)] for one in trainings]))
"""


Outcome = dict[str, Any]


@pytest.fixture(scope="module")
def trained() -> list[tuple[Outcome, Outcome]]:
    """On the host and on the accelerator: with late copies, with awaited ones in two depths, seldom, and unwatched."""
    trainings = [(2, "late"), (2, "awaited"), (5, "awaited"), (2, "seldom"), (2, "plain")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    command = [sys.executable, "-c", _SCRIPT, json.dumps(trainings)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return [(host, device) for host, device in json.loads(done.stdout)]


def test_nothing_waits_where_copies_run_beside(trained: list[tuple[Outcome, Outcome]]) -> None:
    _, device = trained[0]
    assert [step["waits"] for step in device["steps"]] == [[]] * 4
    assert min(step["operations"] for step in device["steps"]) > 100


def test_elsewhere_a_step_is_read_in_one_copy_whatever_the_depth(trained: list[tuple[Outcome, Outcome]]) -> None:
    for _, device in trained[1:3]:
        assert [step["waits"] for step in device["steps"]] == [["_to_copy between host and device"]] * 4


def test_losses_of_steps_that_are_not_measured_are_read_with_the_next_that_is(
    trained: list[tuple[Outcome, Outcome]],
) -> None:
    _, device = trained[3]
    copy = ["_to_copy between host and device"]
    assert [step["waits"] for step in device["steps"]] == [copy, [], [], copy]
    assert {row["step"] for row in device["rows"]} == {0, 3}


def test_the_numbers_are_those_of_the_host(trained: list[tuple[Outcome, Outcome]]) -> None:
    for host, device in trained[:4]:
        assert len(host["rows"]) == len(device["rows"]) > 50
        assert len(device["losses"]) == 4
        for one, other in zip(host["rows"], device["rows"], strict=True):
            assert one.keys() == other.keys()
            for name, value in one.items():
                if isinstance(value, float):
                    assert other[name] == pytest.approx(value, rel=2e-4, abs=1e-6), (one["site"], name)
                else:
                    assert other[name] == value, (one["site"], name)
        assert host["units"] == device["units"]
        assert host["losses"] == pytest.approx(device["losses"], rel=1e-6)


def test_training_goes_on_as_if_nobody_watched(trained: list[tuple[Outcome, Outcome]]) -> None:
    (_, late), *_, (_, plain) = trained
    assert late["weights"] == plain["weights"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here")
@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype:UserWarning")
def test_cuda_does_not_wait() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 4)).cuda()
    batch, target = torch.randn(32, 64).cuda(), torch.randint(4, (32,)).cuda()
    variance = model[0](batch).var(correction=0).item()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with diag.watch(model, optimizer) as watch:
        torch.cuda.set_sync_debug_mode("error")
        try:
            for _ in range(3):
                optimizer.zero_grad()
                loss = torch.nn.functional.cross_entropy(model(batch), target)
                loss.backward()
                optimizer.step()
                watch.step(loss)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    first = watch.trace.frame.query("kind == 'activation' and step == 0 and site == '0'")
    assert first["var"].item() == pytest.approx(variance, rel=1e-4)
