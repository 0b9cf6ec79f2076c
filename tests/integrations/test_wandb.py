"""The Weights & Biases writer, in runs of the real package that know no network."""

from __future__ import annotations

import json
import struct
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import torch.nn.functional as F

import diag
from diag.errors import DiagError, MissingExtraError, TargetError
from tests.integrations.networks import healthy_network, samples, sick_network

wandb = pytest.importorskip("wandb", reason="the extra `wandb` is not installed")

from diag.integrations.ending import hand_to  # noqa: E402 (after the package is known to be there)
from diag.integrations.wandb import LONGEST_TABLE, fitting, log  # noqa: E402


def watched(network: torch.nn.Module) -> diag.Watch:
    x, y = samples(64)
    optimizer = torch.optim.SGD(network.parameters(), 0.05)
    with diag.watch(network, optimizer, every=4) as watch:
        for _ in range(8):
            optimizer.zero_grad()
            F.cross_entropy(network(x), y).backward()
            optimizer.step()
    return watch


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A run of `mode="offline"`, in a folder of the test's."""
    for name, value in (("WANDB_ERROR_REPORTING", "false"), ("WANDB_CONSOLE", "off"), ("WANDB_SILENT", "true")):
        monkeypatch.setenv(name, value)
    for name in ("WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_ARTIFACT_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    run = wandb.init(project="diag", mode="offline", dir=str(tmp_path))
    yield run
    run.finish()


def table_of(run: Any) -> dict[str, Any]:
    (path,) = Path(run.dir).rglob("*.table.json")
    return json.loads(path.read_text())


def records(data: bytes) -> Iterator[Any]:
    """What a run's file holds: a LevelDB log, blocks of 32 KiB with the parts of protobuf records."""
    from wandb.proto import wandb_internal_pb2

    position, record = 7, b""
    while position + 7 <= len(data):
        left = 32768 - position % 32768
        if left < 7:
            position += left
            continue
        _, length, kind = struct.unpack("<IHB", data[position : position + 7])
        if position + 7 + length > len(data):
            return  # still being written
        record += data[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # a record, or its last part
            yield wandb_internal_pb2.Record.FromString(record)
            record = b""


def alerts(run: Any, folder: Path) -> list[Any]:
    """The alerts of a run, once its file is written to the end, which another process does."""
    run.finish()
    (path,) = folder.rglob("*.wandb")
    end = time.monotonic() + 60
    while time.monotonic() < end:
        stored = list(records(path.read_bytes()))
        if stored and stored[-1].WhichOneof("record_type") == "exit":
            return [one.alert for one in stored if one.WhichOneof("record_type") == "alert"]
        time.sleep(0.05)
    pytest.fail("the run's file was not ended within a minute")


@pytest.mark.slow
def test_a_sick_network(offline: Any, tmp_path: Path) -> None:
    torch.manual_seed(0)
    watch = watched(sick_network())
    log(watch)  # the current run
    frame, table = watch.trace.frame, table_of(offline)
    assert table["columns"] == list(frame.columns)
    assert len(table["data"]) == len(frame) > 100
    told = pd.DataFrame(table["data"], columns=table["columns"]).astype({"rms": "float64"})
    assert told["site"].tolist() == frame["site"].tolist()
    assert told["rms"].tolist() == pytest.approx(frame["rms"].tolist(), nan_ok=True)
    assert told["saturated_fraction"].isna().tolist() == frame["saturated_fraction"].isna().tolist()
    summary = dict(offline.summary)
    assert (summary["diag/healthy"], summary["diag/errors"], summary["diag/warnings"]) == (False, 1, 0)
    assert (summary["diag/measured_steps"], summary["diag/steps_in_table"]) == (2, 2)
    (finding,) = summary["diag/findings"]
    assert (finding["rule"], finding["site"]) == ("vanishing-gradient", "22")
    (alert,) = alerts(offline, tmp_path)
    assert (alert.title, alert.level) == ("diag: vanishing-gradient at 22", "ERROR")
    assert "norm falls from" in alert.text


@pytest.mark.slow
def test_a_healthy_network_alerts_nobody(offline: Any, tmp_path: Path) -> None:
    torch.manual_seed(0)
    hand_to(offline, watched(healthy_network()).diagnose())  # as a callback with writer=run does
    assert offline.summary["diag/healthy"] is True
    assert offline.summary["diag/errors"] == 0
    assert alerts(offline, tmp_path) == []


def test_of_a_long_trace_the_table_holds_evenly_spaced_steps() -> None:
    frame = pd.DataFrame({"step": [step for step in range(100) for _ in range(10)], "rms": 1.0})
    kept, steps = fitting(frame, longest=110)
    assert steps == 11
    assert kept["step"].unique().tolist() == [0, 10, 20, 30, 40, 50, 59, 69, 79, 89, 99]
    assert len(kept) == 110
    whole, steps = fitting(frame)
    assert len(frame) < LONGEST_TABLE and whole.equals(frame) and steps == 100
    assert fitting(frame, longest=5)[0]["step"].unique().tolist() == [0]
    assert fitting(frame.iloc[:0])[1] == 0


def test_wrong_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TargetError, match=r"takes a diag\.Watch, Trace or Diagnosis, got str"):
        log("trace")
    monkeypatch.setattr(wandb, "run", None)
    with pytest.raises(DiagError, match=r"found no run: call wandb\.init\(\) before it, or give it run="):
        log(diag.Trace())


def test_without_wandb_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(MissingExtraError, match=r"needs wandb, .*pip install 'diag\[wandb\]'"):
        log(diag.Trace())
