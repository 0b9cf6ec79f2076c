"""`diag watch SCRIPT ARGS`: run a training script as it is, watched, and judge what was seen."""

from __future__ import annotations

import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from diag.cli.options import FailOn, FailOnOption, Format, FormatOption, HtmlOption, OutputOption, TraceOption
from diag.errors import DiagError

if TYPE_CHECKING:
    from diag.train.script import ScriptOutcome


def watch(
    script: Annotated[Path, typer.Argument(metavar="SCRIPT", help="The training script.", show_default=False)],
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="ARGS", help="The script's own arguments.", show_default=False)
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Stop measuring after N steps; the script runs on.", show_default="all"),
    ] = None,
    every: Annotated[int, typer.Option(min=1, metavar="K", help="Measure every K-th step.")] = 1,
    format: FormatOption = Format.text,
    output: OutputOption = None,
    html: HtmlOption = None,
    trace: TraceOption = None,
    fail_on: FailOnOption = FailOn.error,
) -> None:
    """Run a training script as it is and say what is wrong with it.

    The script runs as __main__ with its own arguments. Options of diag stand before the script, the script's after it.
    Its output stays on stdout; the report goes to stderr. Its exit code is kept where it is not 0. With --trace, what
    was measured is also written every half a minute: a script that is killed leaves it. Under torchrun the first rank
    reports of the whole.
    """
    from diag.cli.deliver import Delivery, exit_code
    from diag.cli.project import use_settings
    from diag.cli.stdout import plain_stdout
    from diag.train.script import watch_script
    from diag.watch import diagnose

    delivery = Delivery(format, output, html, trace, prose=sys.stderr)
    delivery.require_writable()
    use_settings()
    argv = arguments or []
    with plain_stdout():
        outcome = watch_script(script, argv, steps=steps, every=every, trace=trace)
    if outcome.error and not outcome.interrupted:
        where = f" on rank {outcome.rank}" if outcome.rank else ""
        sys.stderr.write(f"diag: {script} failed{where}: {outcome.error}\n")
    if outcome.silent or (outcome.rank and outcome.trace.frame.empty):
        raise typer.Exit(outcome.exit_code)
    if outcome.trace.frame.empty:
        _end_unjudged(script, outcome)
    if outcome.rank:
        output, html, trace = (_of_rank(path, outcome.rank) for path in (output, html, trace))
        delivery = replace(delivery, output=output, html=html, trace=trace)
    delivery.keep(outcome.trace)
    if outcome.interrupted:
        sys.stderr.write("diag: interrupted; this is what was seen until then\n")
    diagnosis = diagnose(outcome.trace, title=str(script), command=_command(script, argv, steps, every))
    delivery.send(diagnosis)
    # A rank that exits with anything but 0 has its launcher kill the others: only the first one's may tell of findings.
    found = 0 if outcome.rank else exit_code(diagnosis, fail_on)
    raise typer.Exit(outcome.exit_code or (130 if outcome.interrupted else found))


def _of_rank(path: Path | None, rank: int) -> Path | None:
    """Beside what the first rank writes, for one that reports for itself."""
    return None if path is None else path.with_name(f"{path.stem}.rank{rank}{path.suffix}")


def _command(script: Path, argv: list[str], steps: int | None, every: int) -> str:
    words = ["diag", "watch"]
    words += ["--steps", str(steps)] if steps is not None else []
    words += ["--every", str(every)] if every != 1 else []
    return shlex.join([*words, str(script), *argv])


def _end_unjudged(script: Path, outcome: ScriptOutcome) -> NoReturn:
    """Nothing was seen: say what to do."""
    if outcome.interrupted:
        sys.stderr.write(f"diag: interrupted before {script} trained anything\n")
        raise typer.Exit(130)
    if outcome.error:
        # The 1 of an exception would read as a finding.
        raise DiagError(f"{script} raised before it trained anything, so there is nothing to judge: mend it first")
    if outcome.exit_code:
        sys.stderr.write(
            f"diag: {script} ended itself with exit code {outcome.exit_code} before it trained anything, so there is "
            "nothing to judge: are its arguments right?\n"
        )
        raise typer.Exit(outcome.exit_code)
    elsewhere = int(outcome.trace.coverage.get("steps_elsewhere", 0))
    if elsewhere:
        raise DiagError(
            f"{script} took {elsewhere} optimizer steps, but no module that holds what they change was seen to be"
            " called. Either the modules that are called are frozen (requires_grad=False), or what trains cannot be"
            " watched: a class that overrides torch.nn.Module.__call__, as those of gpytorch do; a module that is run"
            " by module.forward(x), which torch's hooks do not see: call module(x); or tensors that are parameters of"
            " no module: hold them in an nn.Module, as nn.Parameter"
        )
    raise DiagError(
        f"no training was seen in {script}: expected a torch model that is called, a loss.backward() and an "
        "optimizer.step() in the script's own process"
    )
