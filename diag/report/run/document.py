"""What a report of a run says, before it becomes a page, Markdown or JSON."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from diag.recipes.recipe import Recipe
from diag.report.run.wording import joined
from diag.report.techniques import Technique, concept, of_recipes
from diag.report.text import number, plain, plural
from diag.suite.claim import ClaimVerdict
from diag.suite.errors import MissingTrialsError, SuiteError
from diag.suite.folder import RunFolder
from diag.suite.run import Run

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

WIDEST = 6.0
"""Inches of a figure that shares its row with another."""
METHOD = (
    "A claim holds if its whole interval (Student's t over seeds, 95 %; of several parts together, by Bonferroni) lies "
    "in the range in which it is true, does not hold if the interval lies outside, and is undecided otherwise. In "
    "tables, ± is half of the 95 % interval of a mean; bold is the best, and what a paired t-test over seeds (Holm, "
    "5 %) does not tell from it, unless it loses at every one of five or more seeds."
)


@dataclass(frozen=True)
class Picture:
    """A figure. name: for files and links. caption: what it shows; its alternative text too. inline: an `<svg>` whose
    colors follow the page's theme. file: the same as a document of its own, on white. wide: needs a row of its own."""

    name: str
    title: str
    caption: str
    inline: str
    file: str
    wide: bool = False


@dataclass(frozen=True)
class Table:
    """A table, as it was measured: `X ±` and `X mark` belong to the column `X`."""

    name: str
    title: str
    caption: str
    frame: pd.DataFrame


@dataclass(frozen=True)
class Document:
    """A report's content. unfinished: what is missing, in words, or empty. absent: what could not be drawn, and why."""

    suite: str
    question: str
    answer: str
    claims: list[ClaimVerdict]
    pictures: list[Picture]
    tables: list[Table]
    techniques: list[Technique]
    notes: list[str]
    how: str
    command: str
    unfinished: str = ""
    absent: list[str] = field(default_factory=list)

    def count(self, verdict: str) -> int:
        """How many claims have this verdict."""
        return sum(one.verdict == verdict for one in self.claims)


def document(run: Run) -> Document:
    """Draw and word everything that a run's suite asks for; what has no trials yet is named in `absent`.

    Raises: SuiteError if a figure, table or answer of the suite fails.
    """
    header = RunFolder(run.folder).header
    absent: list[str] = []
    pictures = _pictures(run, absent)
    tables = _tables(run, absent)
    return Document(
        suite=run.suite.name,
        question=run.suite.question,
        answer=_answer(run),
        claims=run.verdicts,
        pictures=pictures,
        tables=tables,
        techniques=_techniques(run),
        notes=list(run.suite.notes),
        how=_how(run, header),
        command=command(header),
        unfinished=_unfinished(run, header),
        absent=absent,
    )


def counted(claims: list[ClaimVerdict]) -> str:
    """The verdicts in one sentence."""
    counts = {
        answer: sum(one.verdict == answer for one in claims) for answer in ("holds", "does not hold", "undecided")
    }
    if not claims:
        return "The suite makes no claim."
    held, failed, open_ = counts.values()
    return (
        f"Of {plural(len(claims), 'claim')}, {held} {'holds' if held == 1 else 'hold'}, {failed} "
        f"{'does' if failed == 1 else 'do'} not, and {open_} {'is' if open_ == 1 else 'are'} undecided."
    )


def _answer(run: Run) -> str:
    if run.suite.answer is not None:
        found = _asked(run, "the answer", run.suite.answer)
        if isinstance(found, str) and found.strip():
            return " ".join(found.split())
    failing = [one.statement for one in run.verdicts if one.verdict == "does not hold"]
    if failing:
        return f"{counted(run.verdicts)} What fails: {joined(failing[:3])}{' and others' if len(failing) > 3 else ''}."
    return f"{counted(run.verdicts)} None fails in this measurement."


def _asked(run: Run, what: str, function: Callable[[Any], Any]) -> Any:
    """What a function of the suite says of the results; a MissingTrialsError that says why it cannot say it."""
    try:
        return function(run.results)
    except MissingTrialsError as error:
        return error
    except Exception as error:
        raise SuiteError(f"{run.suite.name}: {what} fails: {type(error).__name__}: {plain(error)}") from error


def _pictures(run: Run, absent: list[str]) -> list[Picture]:
    from diag.report.figures.style import styled

    found = []
    with styled():
        for title, function in run.suite.figures.items():
            figure = _asked(run, f"the figure '{title}'", function)
            if isinstance(figure, MissingTrialsError):
                absent.append(f"{title}: {figure}")
            else:
                found.append(_picture(run.suite.name, title, caption_of(function, title), figure))
    return found


def _picture(suite: str, title: str, caption: str, figure: Figure) -> Picture:
    from diag.report.figures.svg import inline, standalone

    name = file_name(title)
    wide = figure.get_figwidth() > WIDEST
    return Picture(
        name, title, caption, inline(figure, f"{suite}-{name}", caption), standalone(figure, name), wide=wide
    )


def _tables(run: Run, absent: list[str]) -> list[Table]:
    found = []
    for title, function in run.suite.tables.items():
        frame = _asked(run, f"the table '{title}'", function)
        if isinstance(frame, MissingTrialsError):
            absent.append(f"{title}: {frame}")
        else:
            found.append(Table(file_name(title), title, caption_of(function, ""), flat(frame)))
    return found


def flat(frame: pd.DataFrame) -> pd.DataFrame:
    """The table with its index as columns, if it has names, and every column named by one string."""
    import pandas as pd

    if not isinstance(frame.index, pd.RangeIndex) and any(name is not None for name in frame.index.names):
        frame = frame.reset_index()
    frame = frame.reset_index(drop=True)
    names = [" ".join(str(part) for part in (one if isinstance(one, tuple) else (one,)) if part) for one in frame]
    return frame.set_axis(names, axis=1)


def caption_of(function: Callable[..., Any], otherwise: str) -> str:
    """A function's first paragraph, on one line."""
    text = "" if getattr(function, "__name__", "") == "<lambda>" else (function.__doc__ or "")
    return " ".join(text.strip().partition("\n\n")[0].split()) or otherwise


def file_name(title: str) -> str:
    """A title as the name of a file."""
    words = "".join(one if one.isalnum() and one.isascii() else " " for one in title.lower()).split()
    return "-".join(words) or "untitled"


def _techniques(run: Run) -> list[Technique]:
    cases = {**run.suite.cases}
    recipes = [case for case in cases.values() if isinstance(case, Recipe)]
    named = [concept(name) for name in run.suite.concepts]
    return [*named, *of_recipes(recipes)]


def _unfinished(run: Run, header: dict[str, Any]) -> str:
    done = len(run.results.records)
    if header.get("finished"):
        return ""
    total = header.get("trials")
    of = f"{done} of {total} trials" if total else f"{plural(done, 'trial')} so far"
    return f"This run is unfinished: {of}. What needs the others is undecided or left out; `--resume` goes on with it."


def _how(run: Run, header: dict[str, Any]) -> str:
    records = run.results.records
    environment = records[0].environment if records else {}
    where = ", ".join(f"{key} {value}" for key, value in environment.items())
    seconds = sum(sum(one.timing.values()) for one in records)
    seeds = sorted({len(group) for _, group in run.results.frame.groupby("case")}) if records else []
    spread = f"{seeds[0]} to {seeds[-1]}" if len(seeds) > 1 else str(seeds[0]) if seeds else "no"
    when = f", begun {header['began']}" if header.get("began") else ""
    commit = f", commit {header['commit']}" if header.get("commit") else ""
    return (
        f"{plural(len(records), 'trial')} with {spread} seeds a case, {number(header.get('seconds', run.seconds))} s "
        f"on the clock ({number(seconds)} s of one-thread work){when}{commit}; {where}. {METHOD}"
    )


def command(header: dict[str, Any]) -> str:
    """What runs the same again."""
    settings = header["settings"]
    words = ["diag", "run", header["suite"]]
    words += ["--quick"] if settings["quick"] else []
    words += ["--seeds", str(settings["seeds"])] if settings["seeds"] else []
    for name, value in settings["set"].items():
        words += ["--set", f"{name}={value}"]
    return shlex.join(words)
