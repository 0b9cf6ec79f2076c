from __future__ import annotations

import doctest
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable

import matplotlib
import numpy as np
import pandas as pd
import pytest

from diag.report.diagnosis import Diagnosis
from diag.report.figures import Plot, compare, curves, depth, draw, heat, style, ticks
from diag.trace import Trace
from tests.report.synthetic import build_diagnosis, build_trace


def words(plot: Plot) -> list[str]:
    """The texts drawn in a figure; parsing it proves it well-formed."""
    namespaced = plot.svg.replace("<svg ", '<svg xmlns:xlink="http://www.w3.org/1999/xlink" ', 1)
    return ["".join(node.itertext()) for node in ET.fromstring(namespaced).iter() if node.tag.endswith("text")]


def named(plots: list[Plot]) -> dict[str, Plot]:
    return {plot.name.removeprefix("figure-"): plot for plot in plots}


def test_each_kind_of_network_gets_the_figures_that_mean_something() -> None:
    assert list(named(draw(build_diagnosis(5, 4)))) == ["gradients", "activations", "saturation", "loss", "updates"]
    relu = named(draw(build_diagnosis(21, 8, healthy=True)))
    assert list(relu) == ["gradients", "activations", "dead", "zeros", "loss", "updates"]


def test_nothing_is_drawn_from_nothing() -> None:
    assert draw(Diagnosis([], Trace())) == []
    assert compare([Diagnosis([], Trace())] * 2) == []
    hollow = build_diagnosis(5, 3)
    hollow.trace.frame[["rms", "saturated_fraction", "zero_fraction"]] = np.nan
    hollow.trace.steps["loss"] = np.nan
    assert draw(hollow) == []


@pytest.mark.parametrize(
    ("bad", "where"), [(np.nan, "last step"), (np.inf, "half"), (-np.inf, "one"), (np.inf, "last step")]
)
def test_non_finite_values_break_no_axis(bad: float, where: str) -> None:
    diagnosis = build_diagnosis(9, 6)
    frame, steps = diagnosis.trace.frame, diagnosis.trace.steps
    picked = {"one": frame.index == 0, "half": frame.index % 2 == 0, "last step": frame["step"] == 5}[where]
    frame.loc[picked, ["rms", "saturated_fraction", "zero_fraction"]] = bad
    steps.loc[steps["step"] >= 4, "loss"] = bad
    plots = draw(diagnosis) + compare([diagnosis, build_diagnosis(9, 6, healthy=True)])
    assert len(plots) >= 5
    for plot in plots:
        assert not re.search(r"\b(nan|inf)\b", " ".join(words(plot)), re.I)
        assert not re.search(r'(?:points|d|x|y)="[^"]*\b(?:nan|inf)', plot.svg)


def test_exact_zeros_and_non_finite_sites_are_marked_on_the_log_axis() -> None:
    trace = build_trace(9, 3)
    gradient = trace.frame["kind"] == "gradient"
    trace.frame.loc[gradient & (trace.frame["order"] == 0), "rms"] = 0.0
    trace.frame.loc[gradient & (trace.frame["order"] == 8), "nonfinite"] = 2.0
    with style.styled():
        plot = depth.gradients(trace, "figure")
    assert plot is not None
    assert {"exactly 0", "NaN or infinite"} <= set(words(plot))
    assert "and 0 at layers.0 linear, nearest the input" in plot.caption


def test_extreme_magnitudes_are_drawn() -> None:
    diagnosis = build_diagnosis(9, 3)
    diagnosis.trace.frame["rms"] *= np.geomspace(1e-150, 1e150, len(diagnosis.trace.frame))
    assert len(draw(diagnosis)) >= 4


@pytest.mark.parametrize("sites", [1, 5, 300])
def test_names_are_legible_whatever_their_number(sites: int) -> None:
    with style.styled():
        plot = depth.activations(build_trace(sites, 2, decay=0.9), "figure")
    assert plot is not None
    labels = [text for text in words(plot) if text.startswith("layers.")]
    assert 1 <= len(labels) <= 18
    assert labels[0] == "layers.0 linear"
    assert labels[-1].startswith(f"layers.{(sites - 1) // 2}")


def test_names_are_words_and_neither_markup_nor_formulas() -> None:
    names = {0: "</text><script>alert(1)</script>", 2: "$x_1$ & \\frac", 4: "層 \x1b[2J"}
    plots = draw(build_diagnosis(5, 2, rename=names))
    for plot in plots:
        assert "<script" not in plot.svg
        assert "\x1b" not in plot.svg
    drawn = words(named(plots)["gradients"])
    assert "$x_1$ & \\frac" in drawn
    assert "層 \\x1b[2J" in drawn


def test_lines_join_the_same_site_of_successive_blocks() -> None:
    names = {i: f"block.{i // 4}.{('query', 'act', 'value', 'act2')[i % 4]}" for i in range(16)}
    with style.styled():
        plot = depth.gradients(build_trace(16, 2, rename=names), "figure")
        chain = depth.gradients(build_trace(16, 2), "figure")
    assert plot is not None
    assert chain is not None
    assert "Lines join the same site of successive blocks; the lowest is #.query" in plot.caption
    assert "successive" not in chain.caption
    with style.styled():
        spread = depth.activations(build_trace(16, 2), "figure")
    assert spread is not None
    assert "successive" not in spread.caption, "layers and nonlinearities have a line each anyway"


def test_captions_tell_the_numbers() -> None:
    trace = build_trace(5, 2)
    rows = (trace.frame["kind"] == "gradient") & (trace.frame["step"] == 1)
    trace.frame.loc[rows & (trace.frame["order"] == 0), "rms"] = 2e-6
    trace.frame.loc[rows & (trace.frame["order"] == 4), "rms"] = 0.02
    with style.styled():
        plot = depth.gradients(trace, "figure")
        loss = curves.loss(trace, "loss")
    assert plot is not None
    assert loss is not None
    assert plot.caption.startswith(
        "At step 1 the gradient of the loss has rms 0.02 at layers.2 linear, nearest the loss"
    )
    assert "and 2.0e-06 at layers.0 linear" in plot.caption
    assert "a ratio of 1e-04" in plot.caption
    assert "from 2.303 to 2.301 over 2 steps" in loss.caption
    assert f'aria-label="{plot.caption}"' in plot.svg


def test_update_ratios_leave_biases_out_and_keep_forward_order() -> None:
    trace = build_trace(5, 2)
    weights = trace.frame["site"].str.endswith(".weight")
    biases = trace.frame[weights].assign(op="bias")
    biases["site"] = biases["site"].str.replace("weight", "bias")
    trace.frame = pd.concat([trace.frame, biases], ignore_index=True)
    held = trace.sites[trace.sites["kind"] == "parameter"].assign(op="bias")
    held["site"] = held["site"].str.replace("weight", "bias")
    trace.sites = pd.concat([trace.sites, held], ignore_index=True)
    table = curves.update_ratios(trace)
    assert list(table.index) == ["layers.0.weight", "layers.1.weight", "layers.2.weight"]
    expected = trace.parameters.set_index(["site", "step"])["update_ratio"]["layers.1.weight", 1]
    assert table.loc["layers.1.weight", 1] == pytest.approx(expected)


@pytest.mark.parametrize("steps", [1, 2, 700])
def test_maps_take_any_number_of_steps(steps: int) -> None:
    with style.styled():
        plot = heat.saturation(build_trace(5, steps), "map")
    assert plot is not None
    assert len(plot.svg) < 60_000
    assert "elements" in " ".join(words(plot))


def test_pictures_take_their_colors_from_the_page_and_clash_in_no_identifier() -> None:
    plots = draw(build_diagnosis(5, 4), "a") + draw(build_diagnosis(5, 4), "b")
    for plot in plots:
        assert "var(--fig-ink,#23272e)" in plot.svg
        assert "<metadata" not in plot.svg
    identifiers = [set(re.findall(r' id="([^"]*)"', plot.svg)) for plot in plots]
    for i, (own, plot) in enumerate(zip(identifiers, plots, strict=True)):
        used = set(re.findall(r'(?:url\(|href=")#([\w.-]+)', plot.svg))
        assert used, "ticks are drawn by reference"
        assert own == used
        assert not any(own & other for other in identifiers[i + 1 :])


def test_comparison_overlays_both_networks() -> None:
    plots = {plot.name: plot for plot in compare([build_diagnosis(21, 6), build_diagnosis(9, 6, healthy=True)])}
    assert list(plots) == ["compare-gradients", "compare-activations", "compare-loss", "compare-dead"]
    assert {"sigmoid, legacy uniform", "ReLU, He initialization"} <= set(words(plots["compare-gradients"]))
    assert "sigmoid, legacy uniform: " in plots["compare-gradients"].caption


def test_drawing_changes_no_setting_of_the_user() -> None:
    before = dict(matplotlib.rcParams)
    draw(build_diagnosis(5, 2))
    assert dict(matplotlib.rcParams) == before
    code = (
        "import matplotlib.pyplot as p; from tests.report.synthetic import build_diagnosis;"
        "from diag.report.figures import draw; draw(build_diagnosis(5, 2)); assert not p.get_fignums()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_thinning_keeps_both_ends_and_its_bound() -> None:
    assert doctest.testmod(ticks).failed == 0
    for count in range(1, 400):
        picked = ticks.thinned(count, 18)
        assert len(picked) <= 18
        assert (picked[0], picked[-1]) == (0, count - 1)
        assert len(set(np.diff(picked)[:-1])) <= 1


@pytest.mark.parametrize(
    ("value", "shown"), [(1e-7, "10⁻⁷"), (2e-7, "2·10⁻⁷"), (0.05, "0.05"), (1000.0, "1000"), (1e30, "10³⁰"), (0.0, "")]
)
def test_decades_are_written_as_powers(value: float, shown: str) -> None:
    assert ticks.decade(value) == shown


@pytest.mark.parametrize("dark", [0, 1])
def test_lines_stand_out_from_their_paper(dark: int, luminance: Callable[[str], float]) -> None:
    paper = luminance(("#ffffff", "#1c2026")[dark])
    for token, pair in style.TOKENS.items():
        light, deep = sorted((luminance(pair[dark]), paper))
        ratio = (deep + 0.05) / (light + 0.05)
        if token == "fig-grid":
            continue
        # The first step's line is faint by intent; the last step's, in full contrast, carries the message.
        least = 4.5 if token in ("fig-ink", "fig-soft") else 1.9 if token == "fig-step-0" else 3.0
        assert ratio >= least, (token, ratio)
