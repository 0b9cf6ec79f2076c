"""`diag gate RUN --baseline RUN` and `diag baseline RUN`: regressions stopped in CI."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, TextIO

import typer

from diag.errors import DiagError


class GateFormat(StrEnum):
    """How a gate's verdict is written."""

    text = "text"
    json = "json"
    markdown = "markdown"
    github = "github"
    junit = "junit"
    sarif = "sarif"
    gitlab = "gitlab"


def gate(
    run: Annotated[Path | None, typer.Argument(metavar="[RUN]", help="A run's folder.", show_default=False)] = None,
    baseline: Annotated[
        Path | None,
        typer.Option("--baseline", metavar="RUN", help="A baseline's file or folder, or another run's folder."),
    ] = None,
    format: Annotated[GateFormat, typer.Option(help="Format of the verdict.")] = GateFormat.text,
    output: Annotated[
        Path | None, typer.Option("--output", metavar="FILE", help="Write the verdict there instead of to stdout.")
    ] = None,
    false_alarms: Annotated[
        float, typer.Option("--false-alarms", metavar="P", help="Chance of a false regression, over all comparisons.")
    ] = 0.01,
    margin: Annotated[
        list[str] | None,
        typer.Option("--margin", metavar="METRIC=X", help="A change of a metric below X does not matter."),
    ] = None,
    benchmark: Annotated[
        Path | None, typer.Option("--benchmark", metavar="FILE", help="pytest-benchmark's JSON: gate ratios in it.")
    ] = None,
    ratio: Annotated[
        list[str] | None,
        typer.Option("--ratio", metavar="'A/B<=X'", help="Of the benchmarks A and B of the same file."),
    ] = None,
) -> None:
    """Hold a run to a baseline: exit 1 if anything became worse.

    Worse is: by more than its margin, and beyond what chance explains.

    Exit codes: 0 pass or improvement, 1 regression, 2 these seeds cannot tell, or the two cannot be compared.
    """
    if (run is None) != (baseline is None):
        raise DiagError("a RUN needs a --baseline, and a --baseline a RUN")
    if run is None and benchmark is None:
        raise DiagError("nothing to hold: give a RUN with --baseline, or --benchmark FILE with --ratio")
    if (benchmark is None) != (not ratio):
        raise DiagError("--benchmark FILE needs at least one --ratio 'A/B<=X', and a --ratio a --benchmark")
    if run is None and (format is not GateFormat.text or output is not None or margin):
        raise DiagError("--format, --output and --margin are of a RUN: ratios of benchmarks are lines on stdout")
    codes = []
    if benchmark is not None:
        # Beside a verdict for machines, stdout is the verdict's alone.
        codes += _ratios(benchmark, ratio or [], sys.stdout if format is GateFormat.text else sys.stderr)
    if run is not None and baseline is not None:
        codes.append(_run(run, baseline, format, output, false_alarms, margin or []))
    raise typer.Exit(1 if 1 in codes else max(codes))


def _run(
    run: Path, baseline: Path, format: GateFormat, output: Path | None, false_alarms: float, margins: list[str]
) -> int:
    from diag.gate.gate import gate as hold
    from diag.report.gate import formats
    from diag.report.github import append_summary

    verdict = hold(run, baseline, false_alarms=false_alarms, margins=_margins(margins))
    if output is not None:
        from diag.atomic import write_text

        write_text(output, formats.render(verdict, format.value))
        formats.show(verdict, sys.stderr)
        sys.stderr.write(f"diag: wrote {output}\n")
    elif format is GateFormat.text:
        formats.show(verdict, sys.stdout)
    else:
        sys.stdout.write(formats.render(verdict, format.value))
    if format is GateFormat.github:
        append_summary(formats.markdown(verdict))
    return verdict.exit_code


def _margins(pairs: list[str]) -> dict[str, float]:
    found = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        try:
            found[name.strip()] = float(text)
        except ValueError:
            equals = ""
        if not equals:
            raise DiagError(f"--margin takes METRIC=NUMBER, such as test_accuracy=0.01; got '{pair}'")
    return found


def _ratios(file: Path, ratios: list[str], stream: TextIO) -> list[int]:
    from diag.gate.benchmark import hold_ratios
    from diag.gate.judge import EXIT_CODES

    held = hold_ratios(file, ratios)
    for one in held:
        stream.write(f"{one.answer}: {one.text}\n")
    return [EXIT_CODES[one.answer] for one in held]


def baseline(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A finished run's folder.", show_default=False)],
    output: Annotated[
        Path | None,
        typer.Option("--output", metavar="FILE", help="Where to.", show_default="RUN/baseline.json"),
    ] = None,
) -> None:
    """Make a baseline of a run: one small file to commit.

    It is what `diag gate` holds later runs to.
    """
    from diag.atomic import write_text
    from diag.gate.baseline import FILE, make_baseline

    target = output if output is not None else run / FILE
    if output is not None and output.is_dir():
        target = output / FILE
    sys.stderr.write(f"diag: wrote {write_text(target, make_baseline(run).to_json())}\n")
