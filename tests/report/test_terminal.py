from __future__ import annotations

import io
import re
import subprocess
import sys

import pytest
from rich.console import Console

from diag.report.diagnosis import Diagnosis
from diag.report.site_table import bar, trend
from diag.report.terminal import render
from diag.trace import Trace
from tests.report.synthetic import build_diagnosis


def shown(diagnosis: Diagnosis, width: int = 80, terminal: bool = False, encoding: str = "utf-8") -> str:
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding=encoding, newline="\n", write_through=True)
    render(
        diagnosis,
        Console(file=file, width=width, force_terminal=terminal, color_system="standard" if terminal else None),
    )
    return raw.getvalue().decode(encoding)


def test_the_verdict_comes_first_and_the_remedy_below_its_finding() -> None:
    lines = shown(build_diagnosis(5, 30)).splitlines()
    assert "1 error, 1 warning, 1 note" in lines[1]
    text = " ".join(" ".join(lines).split())
    places = [
        text.index(part)
        for part in (
            "1 error",
            "ERROR vanishing-gradient at layers.0:",
            "remedy: use ReLU",
            "therefore: stalled-update at layers.0.weight",
            "WARNING saturated-activation",
            "NOTE symmetric-units",
            "act. rms",
            "observed: 30 steps, 5 sites",
            "not observed: 1 module never ran: auxiliary_head",
        )
    ]
    assert places == sorted(places)


@pytest.mark.parametrize("width", [60, 80, 120, 300])
@pytest.mark.parametrize("sites", [5, 300])
def test_no_line_is_wider_than_the_console(width: int, sites: int) -> None:
    long = {0: "transformer.encoder.block.0.layer.0.SelfAttention.relative_attention_bias.projection_out"}
    text = shown(build_diagnosis(sites, 3, decay=0.9, rename=long), width)
    assert max(map(len, text.splitlines())) <= width


def test_a_redirected_report_is_plain_ascii() -> None:
    text = shown(build_diagnosis(5, 30))
    assert text.isascii()
    assert "\x1b" not in text


def test_a_terminal_gets_color_and_drawn_bars() -> None:
    text = shown(build_diagnosis(5, 30), terminal=True)
    assert "\x1b[" in text
    assert "━━" in text


def test_no_color_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    text = shown(build_diagnosis(5, 30), terminal=True)
    assert "\x1b[31m" not in text
    assert "\x1b[1;31m" not in text


def test_a_name_is_shown_as_it_is_and_moves_no_cursor() -> None:
    text = shown(build_diagnosis(5, 2, rename={0: "[red]x[/red] :smile:\x1b[2J"}), width=120, terminal=True)
    assert "[red]x[/red] :smile:\\x1b[2J" in text
    assert "\x1b[2J" not in text


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_an_encoding_that_lacks_a_letter_does_not_end_the_report(encoding: str) -> None:
    text = shown(build_diagnosis(5, 2, rename={0: "層.é"}), encoding=encoding, terminal=True)
    assert "\\u5c64" in text
    assert "observed:" in text


def test_many_sites_are_thinned_and_the_rest_is_counted() -> None:
    text = shown(build_diagnosis(300, 2, decay=0.9), width=100)
    rows = [line for line in text.splitlines() if re.match(r"[EWN ]  layers\.", line)]
    assert len(rows) > 15
    assert len(rows) <= 24
    assert "of 300 sites are left out" in text


def test_a_healthy_network_and_an_empty_trace_are_told_apart() -> None:
    assert "healthy" in shown(build_diagnosis(5, 2, healthy=True))
    empty = shown(Diagnosis([], Trace(), {"notes": ["no forward pass ran"]}))
    assert "could not judge: nothing was observed" in empty
    assert "healthy" not in empty
    assert "not observed: no forward pass ran" in empty


def test_bars_and_trends_have_exact_lengths() -> None:
    assert bar(1.0, [1e-4, 1.0], 10, ascii_only=True) == "#" * 10
    assert bar(1e-2, [1e-4, 1.0], 20, ascii_only=True) == "#" * 10
    assert bar(float("nan"), [1.0], 10, ascii_only=True) == ""
    assert trend((1e-6, float("nan"), 1.0), 8, ascii_only=True) == "_ @"
    assert trend((1.0,) * 50, 8, ascii_only=True) == "+" * 8


def test_text_and_machine_formats_load_no_plotting() -> None:
    code = (
        "import sys, diag.report.terminal, diag.report.formats, diag.report.page;"
        "sys.exit(bool({'matplotlib', 'seaborn', 'torch'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
