"""What a trace should hold, worked out without the probe: values noted in a plain copy of the model, in float64."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import diag

TOLERANCE = 1e-5


def unnoted(site: str, tensor: Any) -> Any:
    """The `note` of a model's forward when nobody takes notes."""
    return tensor


class Notes:
    """Passed to a model's forward as `note`: writes down each tensor, then asks autograd for the gradients."""

    def __init__(self) -> None:
        self.keys: list[tuple[str, int]] = []
        self.tensors: list[torch.Tensor] = []
        self.values: list[np.ndarray] = []
        self.gradients: list[np.ndarray | None] = []

    def __call__(self, site: str, tensor: torch.Tensor) -> torch.Tensor:
        self.keys.append((site, sum(known == site for known, _ in self.keys)))
        self.tensors.append(tensor)
        self.values.append(as_double(tensor))
        return tensor

    def differentiate(self, loss: torch.Tensor) -> Notes:
        """The gradient of the loss with respect to everything noted; None where there is none."""
        wanted = [tensor for tensor in self.tensors if tensor.requires_grad]
        found = iter(torch.autograd.grad(loss, wanted, allow_unused=True))
        each = [next(found) if tensor.requires_grad else None for tensor in self.tensors]
        self.gradients = [None if one is None else as_double(one) for one in each]
        return self


def as_double(tensor: torch.Tensor) -> np.ndarray:
    tensor = tensor.detach().clone()
    tensor = tensor.to_dense() if tensor.layout != torch.strided else tensor
    return np.abs(tensor.numpy()) if tensor.is_complex() else tensor.double().numpy()


def noted(model: nn.Module, loss: Callable[[nn.Module, Callable[..., Any]], torch.Tensor]) -> Notes:
    """The notes of one pass of an unwatched copy; random states stay as they were. `loss(model, note)`."""
    state = torch.get_rng_state()
    notes = Notes()
    notes.differentiate(loss(copy.deepcopy(model), notes))
    torch.set_rng_state(state)
    return notes


def watched(model: nn.Module, loss: Callable[[nn.Module, Callable[..., Any]], torch.Tensor]) -> diag.Trace:
    """The trace of one watched forward and backward pass without an optimizer."""
    with diag.watch(model) as watch:
        loss(model, unnoted).backward()
        watch.step()
    return watch.trace


def check_against_hand(model: nn.Module, loss: Callable[[nn.Module, Callable[..., Any]], torch.Tensor]) -> diag.Trace:
    """Watch one pass and hold every row of it to the notes: no site too many or too few, in order, every number."""
    notes = noted(model, loss)
    trace = watched(model, loss)
    assert_agrees(trace, notes)
    return trace


def assert_agrees(trace: diag.Trace, notes: Notes, step: int = 0) -> None:
    frame = trace.frame[(trace.frame["step"] == step) & (trace.frame["op"] != "input")]
    frame = frame[~frame["site"].str.startswith("loss:")]
    activations = frame[frame["kind"] == "activation"]
    gradients = frame[frame["kind"] == "gradient"]
    assert list(zip(activations["site"], activations["call"], strict=True)) == notes.keys
    for row, value in zip(activations.itertuples(), notes.values, strict=True):
        assert_row(row, value)
    expected = {key: one for key, one in zip(notes.keys, notes.gradients, strict=True) if one is not None}
    assert set(zip(gradients["site"], gradients["call"], strict=True)) == set(expected)
    orders = dict(zip(notes.keys, activations["order"], strict=True))
    for row in gradients.itertuples():
        assert_row(row, expected[row.site, row.call])
        assert row.order == orders[row.site, row.call]


def assert_row(row: Any, values: np.ndarray) -> None:
    """One row of the frame against the numbers it describes."""
    values = np.asarray(values, dtype=np.float64).ravel()
    assert row.count == values.size
    assert row.nonfinite == 0
    if not values.size:
        assert np.isnan([row.mean, row.var, row.rms, row.min, row.max, row.zero_fraction]).all()
        return
    scale = np.sqrt((values**2).mean())
    assert row.mean == pytest.approx(values.mean(), rel=TOLERANCE, abs=TOLERANCE * scale)
    assert row.var == pytest.approx(values.var(), rel=TOLERANCE, abs=TOLERANCE * scale**2)
    assert row.rms == pytest.approx(scale, rel=TOLERANCE)
    assert (row.min, row.max) == pytest.approx((values.min(), values.max()), rel=TOLERANCE, abs=TOLERANCE * scale)
    assert row.zero_fraction == pytest.approx((values == 0).mean())


def rows_of(trace: diag.Trace, kind: str, site: str | None = None, step: int | None = None) -> pd.DataFrame:
    rows = trace.kind(kind)
    rows = rows if site is None else rows[rows["site"] == site]
    return rows if step is None else rows[rows["step"] == step]


def only_row(trace: diag.Trace, kind: str, site: str, step: int | None = None) -> Any:
    (row,) = rows_of(trace, kind, site, step).itertuples()
    return row
