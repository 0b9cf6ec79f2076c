"""Theory beside the measurement: the dashed line, and the one line of text in every format."""

from __future__ import annotations

import json
import re

import pytest

from diag.report.diagnosis import Diagnosis, diagnose
from diag.report.figures import draw
from diag.report.figures.depth import THEORY
from diag.report.formats import render
from diag.report.page import render as page
from diag.report.verdict import measured, theory
from diag.trace import Trace
from tests.report.synthetic import build_diagnosis
from tests.rules.traces import Net

SAYS = "departs at block<2> (measured 8x the prediction)"


def chain(last: str = "block<2>", op: str = "linear") -> Net:
    """Four layers that should double a second moment each; the third has eight times the rms it should have."""
    net = Net(steps=2).output("Net:input", "input", "input", gradient=None)
    for name, rms in (("block0", 2**0.5), ("block1", 2), (last, 8 * 2**1.5), ("block3", 32)):
        kind = op if name == last else "linear"
        net.output(name, "layer", kind, rms=rms, gradient=0.01).parameter(f"{name}.weight", rms=0.25)
    return net


def test_the_coverage_holds_what_theory_says() -> None:
    held = json.loads(diagnose(chain().build()).to_json())["coverage"]["theory"]
    assert held == {"says": SAYS, "departs_at": "block<2>", "ratio": pytest.approx(8), "why_not": None}


def test_one_line_in_the_terminal_in_markdown_and_on_the_page() -> None:
    diagnosis = diagnose(chain().build())
    assert f"theory: {SAYS}\n" in render(diagnosis, "text")
    assert "Theory: departs at block&lt;2&gt; \\(measured 8x the prediction\\).\n" in render(diagnosis, "markdown")
    assert "<p>Theory: departs at block&lt;2&gt; (measured 8x the prediction).</p>" in page([diagnosis], "t")
    assert "theory" not in measured(diagnosis.coverage)


def test_where_there_is_no_chain_the_reason_stands_in_its_place_and_no_line_is_drawn() -> None:
    diagnosis = diagnose(chain(op="bilinear").build())
    assert theory(diagnosis.coverage) == "no prediction: block<2> is a bilinear, which theory does not cover"
    assert "theory: no prediction: block<2> is a bilinear" in render(diagnosis, "text")
    assert not any("theory" in plot.svg for plot in draw(diagnosis))
    assert not any("Dashed" in plot.caption for plot in draw(diagnosis))


def test_nothing_is_said_where_nothing_was_observed_or_asked() -> None:
    assert diagnose(Trace()).coverage == {}
    assert theory({}) == theory({"theory": None}) == theory(build_diagnosis(5, 2).coverage) == ""
    for name in ("text", "markdown"):
        assert "heory:" not in render(Diagnosis([], Trace()), name)


def test_both_profiles_over_depth_carry_the_line_and_say_so() -> None:
    plots = {plot.name: plot for plot in draw(diagnose(chain().build()), "f")}
    for name in ("f-activations", "f-gradients"):
        assert ">theory</text>" in plots[name].svg
        assert plots[name].caption.endswith("Dashed: what theory predicts for step 0.")
        dashed = re.findall(r'<path d="([^"]*)"[^>]*stroke-dasharray', plots[name].svg)
        assert any(path.count("L") == 3 for path in dashed), "a line through four layers"
    assert THEORY["color"] not in [None, "none"]


def test_the_axis_makes_room_for_the_prediction() -> None:
    """A layer that is far below its prediction leaves the dashed line inside the picture."""
    net = Net(steps=1).output("Net:input", "input", "input", gradient=None)
    for i, rms in enumerate((17.0, 1e-3, 0.017, 0.29)):
        net.output(f"block{i}", rms=rms).parameter(f"block{i}.weight", rms=3.0)
    (plot,) = [one for one in draw(diagnose(net.build()), "f") if one.name == "f-activations"]
    assert "10⁴" in plot.svg, "the prediction ends at 17^4 = 8e4, no measurement is above 17"
