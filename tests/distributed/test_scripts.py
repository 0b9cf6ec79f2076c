"""`diag watch` under torchrun: one report of the whole, whatever becomes of a rank."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from diag.probe.distributed import VARIABLE
from diag.trace import Trace, load
from tests.distributed.launch import ROOT

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name != "posix", reason="there is no SIGKILL, and torchrun has no gloo, on this system"),
]
SCRIPT = Path(__file__).with_name("script.py")
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]


@dataclass
class Run:
    """What a run left behind."""

    code: int
    out: str
    err: str
    files: list[str]

    @property
    def reports(self) -> int:
        """How many summaries there are."""
        return self.err.count("\nobserved: ")


def run(folder: Path, who: int, how: str, *, ranks: bool = True) -> Run:
    """`diag watch` of the script, by two ranks or by one process."""
    watch = ["-m", "diag", "watch", "--html", "page.html", "--trace", "trace.parquet", str(SCRIPT), str(who), how]
    paths = [str(ROOT), *filter(None, sys.path)]
    settings = {"OMP_NUM_THREADS": "1", "DIAG_BACKEND": "torch", VARIABLE: "5", "PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, *(TORCHRUN if ranks else []), *watch]
    environment = {**os.environ, **settings}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)
    return Run(done.returncode, done.stdout, done.stderr, sorted(one.name for one in folder.iterdir()))


def same(one: Trace, other: Trace) -> None:
    """The same rows, but for rounding; each rank has looked beside its own loss."""
    keys = ["step", "site", "call", "kind"]
    frames = [each.frame[~each.frame["site"].str.startswith("loss:cross_entropy[")] for each in (one, other)]
    rows, expected = (frame.set_index(keys).sort_index() for frame in frames)
    assert rows.index.equals(expected.index)
    assert (rows["count"] == expected["count"]).all()
    # An update is rounded as the weight is, which may be a million times as large.
    slack = 1e-3 * expected["rms"] + np.where(expected.index.get_level_values("kind") == "update", 1e-7, 0)
    for column in ("rms", "mean"):
        assert ((rows[column] - expected[column]).abs() <= slack).all(), column


@pytest.mark.parametrize("how", ["destroys", pytest.param("ends", marks=pytest.mark.nightly)])
def test_the_first_rank_reports_of_the_whole_batch(how: str, tmp_path: Path) -> None:
    for name in ("ranks", "alone"):
        (tmp_path / name).mkdir()
    found = run(tmp_path / "ranks", -1, how)
    assert found.reports == 1, found.err
    assert found.err.count("vanishing-gradient at ") == 1
    assert "the 2 ranks by themselves, each with its part of the batch" in " ".join(found.err.split())
    assert sorted(found.out.splitlines()) == ["rank 0 is done", "rank 1 is done"]
    assert found.files == ["page.html", "trace.parquet"]
    assert found.code == 1
    assert "exitcode: 1) local_rank: 0" in found.err
    alone = run(tmp_path / "alone", -1, how, ranks=False)
    assert alone.code == 1
    same(load(tmp_path / "ranks" / "trace.parquet"), load(tmp_path / "alone" / "trace.parquet"))


def test_a_rank_that_raises_is_named(tmp_path: Path) -> None:
    found = run(tmp_path, 1, "raises")
    assert found.code == 1
    assert found.reports == 1, found.err
    assert "failed on rank 1: ValueError: no such sample\n" in found.err
    assert found.files == ["page.html", "trace.parquet"]
    left = load(tmp_path / "trace.parquet")
    assert "rank 1 ended with ValueError: no such sample" in left.coverage["notes"]
    first = left.frame[(left.frame["site"] == "0") & (left.frame["kind"] == "activation")]
    assert first["count"].tolist()[:12] == [32 * 8] * 12


@pytest.mark.nightly  # of a watch by hand it is tested for every change
@pytest.mark.parametrize("who", [1, 0])
def test_a_rank_that_is_killed_leaves_a_report_of_the_other(who: int, tmp_path: Path) -> None:
    found = run(tmp_path, who, "is killed")
    assert found.code == 1
    assert found.reports == 1, found.err
    files = ["page.html", "trace.parquet"] if who == 1 else ["page.rank1.html", "trace.rank1.parquet"]
    assert found.files == files
    left = load(tmp_path / files[1])
    assert len(left.steps) >= 12
    gone = "rank 1 is missing: nothing came from it within 5 s" if who == 1 else "rank 0 has died"
    assert any(gone in note for note in left.coverage["notes"])
