"""Records: whole, exact, and safe to read."""

from __future__ import annotations

import math
import zipfile
from pathlib import Path

import pandas as pd
import pytest

from diag.suite.errors import RunError
from diag.suite.record import Record, packed

TABLE = pd.DataFrame({"step": [0, 1], "loss": [0.1, math.inf], "site": ["a", "b"]})


def record() -> Record:
    content = {"experiment": "f", "parameters": {"x": 1}}
    metrics = {"third": 1 / 3, "inf": math.inf, "nan": math.nan, "tiny": 5e-324}
    return Record("a case", 3, content, metrics, {"train": 1.0}, {"torch": "2"}, {"curves": packed(TABLE)})


def test_it_reads_back_bit_for_bit(tmp_path: Path) -> None:
    path = tmp_path / "one.trial"
    path.write_bytes(record().to_bytes())
    loaded = Record.load(path)
    assert (loaded.case, loaded.seed, loaded.fields) == ("a case", 3, {"experiment": "f", "x": 1})
    assert loaded.metrics.pop("nan") != loaded.metrics.get("nan")
    assert loaded.metrics == {"third": 1 / 3, "inf": math.inf, "tiny": 5e-324}
    table = loaded.table("curves")
    assert table is not None and table.equals(TABLE)
    assert loaded.table("nothing") is None


def test_the_same_trial_makes_the_same_bytes() -> None:
    assert record().to_bytes() == record().to_bytes()


@pytest.mark.parametrize("content", [b"", b"no zip", record().to_bytes()[:-40]])
def test_a_damaged_file_gives_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "one.trial"
    path.write_bytes(content)
    with pytest.raises(RunError, match=r"one\.trial is damaged .*--resume runs it again"):
        Record.load(path)


def test_a_newer_version(tmp_path: Path) -> None:
    path = tmp_path / "one.trial"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("trial.json", '{"schema": 99}')
    with pytest.raises(RunError, match="newer diag"):
        Record.load(path)
