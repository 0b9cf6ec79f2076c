"""The TensorBoard writer, read back with TensorBoard's own reader."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

import diag
from diag.errors import DiagError, MissingExtraError, TargetError
from tests.integrations.networks import healthy_network, samples, sick_network
from tests.probe.conftest import assert_nothing_left

pytest.importorskip("tensorboard", reason="the extra `tensorboard` is not installed")

from diag.integrations.ending import Ending, hand_to
from diag.integrations.tensorboard import write


def watched(network: torch.nn.Module, steps: int = 12, every: int = 2) -> diag.Watch:
    x, y = samples(64)
    optimizer = torch.optim.SGD(network.parameters(), 0.05)
    with diag.watch(network, optimizer, every=every) as watch:
        for _ in range(steps):
            optimizer.zero_grad()
            F.cross_entropy(network(x), y).backward()
            optimizer.step()
    assert_nothing_left()
    return watch


@pytest.fixture(scope="module")
def sick() -> diag.Watch:
    torch.manual_seed(0)
    return watched(sick_network())


def read(folder: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0}).Reload()


def text_of(events: Any, tag: str) -> str:
    (event,) = events.Tensors(tag)
    return event.tensor_proto.string_val[0].decode()


def test_each_number_of_a_sick_network_and_its_finding(sick: diag.Watch, tmp_path: Path) -> None:
    write(sick, tmp_path)
    events, trace = read(tmp_path), sick.trace
    tags = events.Tags()["scalars"]
    for kind, name in (("gradient", "gradient_rms"), ("activation", "activation_rms")):
        rows = trace.kind(kind)
        assert {f"diag/{name}/{site}" for site in rows["site"]} == {tag for tag in tags if f"/{name}/" in tag}
        bottom = rows[rows["site"] == "0"]
        points = events.Scalars(f"diag/{name}/0")
        assert [one.step for one in points] == bottom["step"].tolist() == [0, 2, 4, 6, 8, 10]
        assert [one.value for one in points] == pytest.approx(bottom["rms"].tolist(), rel=1e-6)
    assert events.Scalars("diag/gradient_rms/0")[0].value < 1e-8 < events.Scalars("diag/gradient_rms/24")[0].value
    shares = trace.kind("activation").query("site == '23'")["saturated_fraction"].tolist()
    assert [one.value for one in events.Scalars("diag/saturated/23")] == pytest.approx(shares, abs=1e-7)
    assert not [tag for tag in tags if tag.startswith("diag/saturated/") and tag.endswith("/22")]  # a linear layer
    told = text_of(events, "diag/findings/text_summary")
    assert "error: vanishing" in told and "norm falls from" in told and "Remedy" in told


def test_dead_units_of_a_relu_network(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = healthy_network().eval()
    with torch.no_grad():
        network[0].bias[:8] = -100.0  # type: ignore[union-attr, index]
    write(watched(network, steps=24, every=1).trace, tmp_path, prefix="")
    events = read(tmp_path)
    assert events.Scalars("dead/1")[-1].value == pytest.approx(8 / 32, abs=0.07)
    assert "saturated/1" not in events.Tags()["scalars"]
    assert "healthy" in text_of(events, "findings/text_summary")


def test_a_writer_of_the_users_stays_open_and_its_own_things_stay(sick: diag.Watch, tmp_path: Path) -> None:
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(tmp_path))
    writer.add_scalar("mine", 1.0, 0)
    write(sick.diagnose(), writer, prefix="run/")
    assert "run/gradient_rms/0" in read(tmp_path).Tags()["scalars"]  # written out without a close
    writer.add_scalar("mine", 2.0, 1)
    writer.close()
    events = read(tmp_path)
    assert [one.value for one in events.Scalars("mine")] == [1.0, 2.0]


def test_what_was_not_measured_is_not_written(tmp_path: Path) -> None:
    x, y = samples(64)
    network = healthy_network()
    with diag.watch(network) as watch:
        F.cross_entropy(network(x * float("nan")), y).backward()
        watch.step()
    write(watch, tmp_path)
    events = read(tmp_path)
    written = [tag for tag in events.Tags()["scalars"] if "rms" in tag]
    assert [tag for tag in written if not tag.endswith(("[target]", "[pairing]"))] == []
    assert "non-finite" in text_of(events, "diag/findings/text_summary")


def test_a_trace_of_nothing(tmp_path: Path) -> None:
    write(diag.Trace(), tmp_path)
    events = read(tmp_path)
    assert events.Tags()["scalars"] == []
    assert "could not judge" in text_of(events, "diag/findings/text_summary")


def test_a_callback_hands_its_diagnosis_to_folders_writers_and_loggers(sick: diag.Watch, tmp_path: Path) -> None:
    from torch.utils.tensorboard import SummaryWriter

    class Logger:
        @property
        def experiment(self) -> SummaryWriter:
            return SummaryWriter(str(tmp_path / "logger"))

    found = sick.diagnose()
    for name, writer in (("folder", tmp_path / "folder"), ("logger", Logger())):
        ending = Ending(writer=writer)
        hand_to(ending.writer, found)
        assert "diag/gradient_rms/0" in read(tmp_path / name).Tags()["scalars"]


@pytest.mark.parametrize(
    ("source", "writer", "message"),
    [
        (3, ".", "takes a diag.Watch, Trace or Diagnosis, got int: give it what diag.watch returns"),
        (diag.Trace(), 3, "takes a SummaryWriter or a log folder, got int: give it the folder's name"),
    ],
)
def test_wrong_arguments(source: Any, writer: Any, message: str) -> None:
    with pytest.raises(TargetError, match=message):
        write(source, writer)


def test_without_tensorboard_the_extra_is_named(
    sick: diag.Watch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [one for one in sys.modules if one.split(".")[0] == "tensorboard"]:
        monkeypatch.delitem(sys.modules, name)
    for name in [one for one in sys.modules if one.startswith("torch.utils.tensorboard")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(MissingExtraError, match=r"needs tensorboard, .*pip install 'diag\[tensorboard\]'"):
        write(sick, tmp_path)
    with pytest.raises(DiagError, match=r"writer=FOLDER needs tensorboard"):
        Ending(writer=tmp_path)
