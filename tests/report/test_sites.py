from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from diag.report import measured
from diag.report.diagnosis import Diagnosis
from diag.report.sites import log_share, selected, site_rows
from diag.rules.finding import Finding
from diag.trace import Trace
from tests.report.synthetic import build_diagnosis, build_trace


def test_calls_of_a_shared_site_merge_by_their_finite_elements() -> None:
    trace = build_trace(1, 1)
    second = trace.frame.assign(call=1, rms=3.0, count=100.0, nonfinite=50.0, mean=math.nan)
    trace.frame = pd.concat([trace.frame.assign(rms=1.0, count=150.0, mean=0.5), second], ignore_index=True)
    rms = measured.matrix(trace, "activation", "rms").iloc[0, 0]
    assert rms == pytest.approx(math.sqrt((150 * 1 + 50 * 9) / 200))
    assert measured.matrix(trace, "activation", "mean").iloc[0, 0] == pytest.approx(0.5), "a missing mean has no weight"
    assert measured.matrix(trace, "activation", "nonfinite").iloc[0, 0] == 50


def test_rows_come_in_forward_order_whatever_their_names() -> None:
    rows = site_rows(build_diagnosis(5, 2, rename={0: "zzz", 4: "aaa"}))
    assert [row.site for row in rows] == ["zzz", "layers.0:sigmoid", "layers.1", "layers.1:sigmoid", "aaa"]


def test_saturation_is_told_of_sigmoid_and_not_of_relu() -> None:
    sigmoid, relu = build_trace(5, 2), build_trace(5, 2, op="relu")
    assert list(measured.saturation(sigmoid).index) == ["layers.0:sigmoid", "layers.1:sigmoid"]
    assert measured.saturation(relu).empty
    assert list(measured.zeros(relu).index) == ["layers.0:relu", "layers.1:relu"]


def test_what_was_not_measured_stays_missing() -> None:
    diagnosis = build_diagnosis(3, 2)
    frame = diagnosis.trace.frame
    diagnosis.trace.frame = frame[frame["kind"] != "gradient"]
    row = site_rows(diagnosis)[0]
    assert math.isnan(row.gradient_rms)
    assert row.gradient_series == ()
    assert math.isnan(row.saturated), "a linear layer has no slope to saturate"
    assert site_rows(build_diagnosis(0, 0)) == []


def test_the_last_measured_step_is_told_when_later_ones_are_missing() -> None:
    diagnosis = build_diagnosis(3, 3)
    frame = diagnosis.trace.frame
    frame.loc[frame["step"] == 2, "rms"] = np.nan
    frame.loc[(frame["step"] == 1) & (frame["site"] == "layers.0") & (frame["kind"] == "activation"), "rms"] = 7.0
    assert site_rows(diagnosis)[0].activation_rms == pytest.approx(7.0)


def test_sites_named_by_findings_and_by_their_parameters_are_kept() -> None:
    diagnosis = build_diagnosis(300, 1, decay=0.9)
    diagnosis.findings.append(Finding("stalled-update", "warning", "layers.77.weight", "m"))
    shown = selected(site_rows(diagnosis), 24)
    names = [row.site for row in shown]
    assert len(shown) <= 24
    assert {"layers.0", "layers.77", "layers.149:sigmoid"} <= set(names)
    assert next(row.severity for row in shown if row.site == "layers.77") == "warning"


def test_dead_units_fall_back_to_the_step_where_no_window_was_tracked() -> None:
    trace = build_trace(3, 2, op="relu")
    trace.units = Trace().units
    trace.frame.loc[(trace.frame["site"] == "layers.0:relu") & (trace.frame["step"] == 1), "dead_units"] = 16.0
    assert measured.dead(trace).loc["layers.0:relu", 1] == pytest.approx(16 / 64)


def test_units_of_a_layer_are_not_multiplied_by_its_calls() -> None:
    """A unit is dead where every call leaves it so: no more than the call with the fewest has."""
    diagnosis = build_diagnosis(3, 2, op="relu")
    trace, site = diagnosis.trace, "layers.0:relu"
    first = trace.units.assign(dead=20)
    trace.units = pd.concat([first, first.assign(call=1, dead=12), first.assign(call=2, dead=64)], ignore_index=True)
    row = next(one for one in site_rows(diagnosis) if one.site == site)
    assert (row.dead, row.units) == (12, 64)
    assert measured.dead(trace).loc[site, 1] == pytest.approx(12 / 64)


def test_dead_units_of_a_step_are_those_of_the_call_with_the_fewest() -> None:
    trace = build_trace(3, 2, op="relu")
    trace.units = Trace().units
    frame = trace.frame.assign(dead_units=20.0)
    trace.frame = pd.concat([frame, frame.assign(call=1, dead_units=8.0)], ignore_index=True)
    assert measured.dead(trace).loc["layers.0:relu", 1] == pytest.approx(8 / 64)


def beside_losses(model: str = "") -> Diagnosis:
    """A diagnosis with a loss after the first of five sites, its value and targets beside it, and perhaps two models.

    model: that of the last two sites.
    """
    names = {1: "loss:kl_div", 2: "loss:kl_div[value]", 3: "loss:kl_div[pairing]"}
    diagnosis = build_diagnosis(6, 2, rename=names)
    sites = diagnosis.trace.sites
    for site, role in zip(names.values(), ("loss", "loss", "pairing"), strict=True):
        sites.loc[sites["site"] == site, "role"] = role
    if model:
        sites.loc[sites["site"].isin(["layers.2", "layers.2:sigmoid"]), "model"] = model
    return diagnosis


def test_what_stands_beside_a_loss_is_not_in_the_table() -> None:
    assert [row.site for row in site_rows(beside_losses())] == [
        "layers.0",
        "loss:kl_div",
        "layers.2",
        "layers.2:sigmoid",
    ]


def test_losses_of_several_models_come_last() -> None:
    """They are told under the first model, whichever they train."""
    rows = [row.site for row in site_rows(beside_losses("Zweites"))]
    assert rows == ["layers.0", "layers.2", "layers.2:sigmoid", "loss:kl_div"]
    weights = measured.matrix(beside_losses("Zweites").trace, "weight", "rms").index
    assert "layers.0.weight" in weights, "parameters have an order too"


def test_sites_of_blocks_are_told_apart_and_plain_chains_are_not() -> None:
    blocks = [f"encoder.{i}.{part}" for i in range(4) for part in ("query", "value")]
    assert measured.kinds(["stem", *blocks]) == ["stem", *["encoder.#.query", "encoder.#.value"] * 4]
    assert set(measured.kinds(["layers.0", "layers.1", "head"])) == {"all"}
    assert set(measured.kinds(["conv", "norm", "fc", "head"])) == {"all"}


def test_dropout_makes_room_for_layers_where_there_are_many_sites() -> None:
    rows = site_rows(build_diagnosis(100, 1, decay=0.9))
    rows = [replace(row, role="dropout") if i % 2 else row for i, row in enumerate(rows)]
    assert {row.role for row in selected(rows, 20)} == {"layer"}


def test_a_log_share_spans_at_least_two_decades() -> None:
    assert log_share(1.0, [1.0, 1.1]) > 0.9
    assert log_share(1e-8, [1e-8, 1.0]) == pytest.approx(0.05)
    assert log_share(0.0, [1.0]) == 0
    assert math.isnan(log_share(math.inf, [1.0]))
    assert math.isnan(log_share(1.0, []))
