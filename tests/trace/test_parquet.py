"""A trace on disk reads back as it was; what cannot be read is said in one line."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch import nn

import diag
from diag.errors import TraceError
from diag.trace import Trace, load, save, schema


@pytest.fixture(scope="module")
def trace() -> Trace:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 2))
    optimizer = torch.optim.SGD(model.parameters(), 1 / 3)
    with diag.watch(model, optimizer) as watch:
        for factor in (1.0, 1e-20, float("inf")):
            optimizer.zero_grad()
            (model(torch.randn(5, 6)).square().mean() * factor).backward()
            optimizer.step()
    return watch.trace


def assert_same(left: Trace, right: Trace) -> None:
    for name in ("frame", "steps", "sites", "units"):
        pd.testing.assert_frame_equal(getattr(left, name), getattr(right, name), check_exact=True)
    assert left.coverage == right.coverage
    assert left.meta == right.meta


def test_it_reads_back_bit_for_bit(trace: Trace, tmp_path: Path) -> None:
    path = save(trace, tmp_path / "run.parquet")
    assert path == tmp_path / "run.parquet"
    assert_same(load(path), trace)
    losses = load(path).steps["loss"].to_numpy()
    assert 0 < losses[1] < 1e-18
    assert np.isinf(losses[2])


def test_every_table_has_the_types_of_the_schema(trace: Trace, tmp_path: Path) -> None:
    for one in (trace, load(save(trace, tmp_path / "a"))):
        for name in ("frame", "steps", "sites", "units"):
            columns = getattr(schema, name.upper())
            table = getattr(one, name)
            assert list(table.columns) == schema.names(columns)
            assert {key: str(value) for key, value in table.dtypes.items()} == schema.dtypes(columns)


def test_what_was_not_measured_stays_missing(trace: Trace, tmp_path: Path) -> None:
    frame = load(save(trace, tmp_path / "a")).frame
    weights = frame[frame["kind"] == "weight"]
    assert weights["dead_units"].isna().all()
    assert frame.loc[frame["site"] == "0", "saturated_fraction"].isna().all()
    assert not frame["count"].isna().any()
    sites = load(tmp_path / "a").sites
    assert sites.loc[sites["kind"] == "output", "optimized"].isna().all()


def test_an_empty_trace(tmp_path: Path) -> None:
    assert_same(load(save(Trace(), tmp_path / "empty")), Trace())


def test_saving_replaces_a_file_whole_and_leaves_no_other(trace: Trace, tmp_path: Path) -> None:
    path = tmp_path / "run"
    path.write_bytes(b"old")
    save(trace, path)
    save(Trace(), path)
    assert load(path).frame.empty
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes on this system")
def test_a_pipe_stays_one(trace: Trace, tmp_path: Path) -> None:
    path, copy = tmp_path / "pipe", tmp_path / "copy"
    os.mkfifo(path)
    reader = threading.Thread(target=lambda: copy.write_bytes(path.read_bytes()))
    reader.start()
    save(trace, path)
    reader.join()
    assert path.is_fifo()
    assert_same(load(copy), trace)


def with_header(path: Path, change: Any) -> Path:
    table = pq.read_table(save(Trace(), path))
    metadata = dict(table.schema.metadata)
    header = change(json.loads(metadata.pop(b"diag")))
    if header is not None:
        metadata[b"diag"] = header if isinstance(header, bytes) else json.dumps(header).encode()
    pq.write_table(table.replace_schema_metadata(metadata), path)
    return path


def without(key: str) -> Any:
    return lambda header: {name: value for name, value in header.items() if name != key}


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda header: None, "not a trace of diag"),
        (lambda header: {**header, "version": schema.SCHEMA_VERSION + 1}, "upgrade diag"),
        (lambda header: b"{", "damaged"),
        (lambda header: [1], "damaged"),
        (lambda header: {**header, "version": "x"}, "damaged"),
        (lambda header: {**header, "steps": {"step": [1]}}, "damaged: KeyError: 'loss'"),
        (lambda header: {**header, "units": None}, "damaged"),
        (lambda header: {**header, "coverage": 3}, "damaged"),
        (without("coverage"), "damaged: KeyError: 'coverage'"),
        (without("sites"), "damaged: KeyError: 'sites'"),
    ],
)
def test_a_damaged_header(change: Any, message: str, tmp_path: Path) -> None:
    assert_one_line(with_header(tmp_path / "run", change), message)


def test_missing_columns(tmp_path: Path) -> None:
    table = pq.read_table(save(Trace(), tmp_path / "run"))
    pq.write_table(table.drop_columns(["rms"]), tmp_path / "run")
    assert_one_line(tmp_path / "run", "damaged")


def test_files_that_are_no_trace(trace: Trace, tmp_path: Path) -> None:
    whole = save(trace, tmp_path / "whole").read_bytes()
    (tmp_path / "text").write_text("hello")
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "cut").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "mangled").write_bytes(whole[:4] + b"\0" * 400 + whole[404:])
    for name in ("text", "empty", "cut", "mangled"):
        assert_one_line(tmp_path / name, "not a trace that can be read")
    assert_one_line(tmp_path / "none", "no trace at")
    assert_one_line(tmp_path, "is a folder")
    pq.write_table(pa.table({"a": [1]}), tmp_path / "other")
    assert_one_line(tmp_path / "other", "not a trace of diag")


def assert_one_line(path: Path, message: str) -> None:
    with pytest.raises(TraceError) as caught:
        load(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_place_that_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "missing" / "run", tmp_path / "folder"):
        with pytest.raises(TraceError, match="cannot write the trace to"):
            save(Trace(), path)
    assert [one.name for one in tmp_path.iterdir()] == ["folder"]
