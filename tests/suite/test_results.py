"""Selections, pairs and tables of many trials, against pandas by hand."""

from __future__ import annotations

import pandas as pd
import pytest

from diag.recipes.recipe import Recipe
from diag.suite.errors import MissingTrialsError
from diag.suite.record import Record, packed
from diag.suite.results import Results


def trial(lr: float, seed: int, loss: float) -> Record:
    recipe = Recipe(lr=lr).to_dict()
    table = packed(pd.DataFrame({"step": [1, 2], "loss": [loss, loss / 2]}))
    return Record(f"lr={lr}", seed, {"recipe": recipe}, {"loss": loss}, tables={"curves": table})


RESULTS = Results([trial(0.1, 0, 4.0), trial(0.2, 1, 2.0), trial(0.1, 1, 5.0), trial(0.2, 0, 1.0), trial(0.1, 2, 9.0)])


def test_values_and_pairs() -> None:
    assert RESULTS.values("loss", lr=0.1).to_dict() == {0: 4.0, 1: 5.0, 2: 9.0}
    # Seed 2 has no partner.
    assert RESULTS.difference("loss", {"lr": 0.1}, {"case": "lr=0.2"}).to_dict() == {0: 3.0, 1: 3.0}


def test_what_is_missing_or_ambiguous() -> None:
    with pytest.raises(MissingTrialsError, match=r"no trial with lr=0\.3"):
        RESULTS.values("loss", lr=0.3)
    with pytest.raises(MissingTrialsError, match="no trial has 'speed'"):
        RESULTS.values("loss", speed=1)
    with pytest.raises(MissingTrialsError, match="measured gain"):
        RESULTS.values("gain", lr=0.1)
    with pytest.raises(ValueError, match="several cases"):
        RESULTS.values("loss", optimizer="sgd")
    with pytest.raises(MissingTrialsError, match="no trial"):
        Results([]).values("loss", case="x")


def test_tables_are_joined() -> None:
    table = RESULTS.table("curves", lr=0.2)
    assert table[["case", "seed", "step", "loss"]].values.tolist() == [
        ["lr=0.2", 1, 1, 2.0], ["lr=0.2", 1, 2, 1.0], ["lr=0.2", 0, 1, 1.0], ["lr=0.2", 0, 2, 0.5],
    ]  # fmt: skip
    assert len(RESULTS.table("curves")) == 10
    with pytest.raises(MissingTrialsError, match="table 'layers'"):
        RESULTS.table("layers")


def test_summary() -> None:
    summary = RESULTS.summary(["loss"]).set_index("case")
    assert summary.loc["lr=0.1", "loss"] == 6.0
    assert summary.loc["lr=0.1", "seeds"] == 3
    # t(0.975, 2) = 4.3027, s = sqrt(7), n = 3.
    assert summary.loc["lr=0.1", "loss ±"] == pytest.approx(4.302653 * 7**0.5 / 3**0.5, rel=1e-6)
