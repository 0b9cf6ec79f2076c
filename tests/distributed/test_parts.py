"""Parts of several ranks as one, without processes: what two halves of the batch saw is what the whole shows."""

from __future__ import annotations

import contextlib
import copy
from typing import Any

import pandas as pd
import pytest
import torch
from torch import nn

import diag
from diag.errors import DiagError
from diag.probe.distributed import VARIABLE, patience
from diag.probe.parts import merge_parts, pack, unpack
from diag.probe.sharing import Sharing
from diag.trace.schema import BESIDE
from tests.compat.loops import batches, loss_of

STEPS = 12


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 40), nn.ReLU(), nn.Linear(40, 3))


def seen(parts: int) -> list[Any]:
    """A watch of each part of every batch; weights move as the mean of the parts' gradients says."""
    model = network()
    watches = []
    for part in range(parts):
        one = copy.deepcopy(model)
        watch = diag.watch(one)
        watch._probe.recorder.death.kept = []
        with watch:
            for step, (x, y) in enumerate(batches(STEPS)):
                with torch.no_grad():  # the weights of all are the same at every step
                    one[0].weight.copy_(model[0].weight * (1 - step / 20))
                one.zero_grad()
                loss_of(one(x.chunk(parts)[part]), y.chunk(parts)[part]).backward()
                watch.step()
        watches.append(watch)
    return watches


def rows(trace: diag.Trace, kind: str) -> pd.DataFrame:
    """Of the loss what it is given, and its value."""
    frame = trace.frame[(trace.frame["kind"] == kind) & ~trace.frame["op"].isin(BESIDE)].drop(columns=["sample_var"])
    frame.loc[frame["site"].str.endswith("[value]"), ["count", "var", "rms", "min", "max"]] = float(
        "nan"
    )  # each part has one
    return frame.sort_values(["step", "site"]).reset_index(drop=True)


@pytest.mark.parametrize("parts", [2, 4])
def test_the_parts_of_a_batch_make_the_whole(parts: int) -> None:
    (whole,) = seen(1)
    watches = seen(parts)
    probe = watches[0]._probe
    alone = watches[0].trace
    merge_parts(
        probe,
        [unpack(pack(watch._probe, 0), rank) for rank, watch in enumerate(watches)],
        Sharing(tuple(range(parts)), tuple(range(parts))),
        since=0,
    )
    merged = watches[0].trace
    for kind in ("activation", "gradient"):
        pd.testing.assert_frame_equal(rows(merged, kind), rows(whole.trace, kind), rtol=1e-5, atol=1e-8)
        assert not rows(alone, kind)["rms"].round(6).equals(rows(whole.trace, kind)["rms"].round(6))
    pd.testing.assert_frame_equal(rows(merged, "weight"), rows(alone, "weight"))
    pd.testing.assert_frame_equal(merged.units, whole.trace.units)
    assert merged.units["dead"].sum() > 0
    assert alone.units["sleeping"].sum() > merged.units["sleeping"].sum() > 0
    assert merged.steps["loss"].tolist() == pytest.approx(whole.trace.steps["loss"].tolist(), rel=1e-5)
    assert merged.steps["loss"].tolist() != pytest.approx(alone.steps["loss"].tolist(), rel=1e-3)


def test_halves_of_a_layer_on_parts_of_the_batch() -> None:
    """Four ranks: two have the same part of the batch and half of the units each."""
    model, (head,) = network()[:2], network()[2:]
    halves = [copy.deepcopy(model) for _ in range(4)]
    watches = [diag.watch(one) for one in (model, *halves)]
    with contextlib.ExitStack() as stack:
        for watch in watches:
            watch._probe.recorder.death.kept = []
            stack.enter_context(watch)
        for step, (x, y) in enumerate(batches(STEPS)):
            for rank, half in enumerate(halves):
                with torch.no_grad():
                    model[0].bias[:7] = step / 2 - 3
                half[0].weight, half[0].bias = (nn.Parameter(one.chunk(2)[rank % 2]) for one in model[0].parameters())
            loss_of(head(model(x)), y).backward()
            for party in range(2):
                out = torch.cat([one(x.chunk(2)[party]) for one in halves[2 * party : 2 * party + 2]], 1)
                loss_of(head(out), y.chunk(2)[party]).backward()
            for watch in watches:
                watch.step()
    whole, first = watches[:2]
    parts = [unpack(pack(watch._probe, 0), rank) for rank, watch in enumerate(watches[1:])]
    merge_parts(first._probe, parts, Sharing((0, 1, 2, 3), (0, 0, 1, 1)), since=0)
    for kind in ("activation", "gradient"):
        pd.testing.assert_frame_equal(rows(first.trace, kind), rows(whole.trace, kind), rtol=1e-5, atol=1e-8)
    pd.testing.assert_frame_equal(first.trace.units, whole.trace.units)
    assert 0 < first.trace.units["dead"].sum() < first.trace.units["units"].sum()
    assert first.trace.steps["loss"].tolist() == pytest.approx(whole.trace.steps["loss"].tolist(), rel=1e-5)


def test_what_is_posted_is_read_without_running_code() -> None:
    (watch,) = seen(1)
    data = pack(watch._probe, 3)
    part = unpack(data, 5)
    assert (part.rank, part.steps.min(), len(part.losses)) == (5, 3, STEPS - 3)
    assert b"pickle" not in data


@pytest.mark.parametrize("given", ["soon", "0", "-1", "inf", "nan"])
def test_a_wrong_timeout(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, given)
    with pytest.raises(DiagError, match=f"{VARIABLE} is a number of seconds above 0, such as 60; got '{given}'"):
        patience()
