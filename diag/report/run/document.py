"""What a report of a run says, before it becomes a page, Markdown or JSON."""

from __future__ import annotations

import itertools
import re
import shlex
import sys
from collections.abc import Callable, Iterable
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
    "5 %) does not tell from it, unless its nearest seed is further from the best ones than they are from one another."
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
    """A report's content. unfinished: what is missing, in words, or empty. absent: what could not be drawn, and why.
    quick: whether its run was."""

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
    quick: bool = False

    def count(self, verdict: str) -> int:
        """How many claims have this verdict."""
        return sum(one.verdict == verdict for one in self.claims)


def document(run: Run) -> Document:
    """Draw and word everything that a run's suite asks for; what has no trials yet is named in `absent`.

    Raises: SuiteError if a figure, table or answer of the suite fails.
    """
    folder = RunFolder(run.folder)
    header = folder.header
    lost = folder.lost(len(run.results.records))
    whole = bool(header.get("finished")) and not lost
    absent: list[str] = []
    pictures = _pictures(run, whole, absent)
    tables = _tables(run, whole, absent)
    return Document(
        suite=run.suite.name,
        question=run.suite.question,
        answer=_answer(run, whole),
        claims=run.verdicts,
        pictures=pictures,
        tables=tables,
        techniques=_techniques(run),
        notes=list(run.suite.notes),
        how=_how(run, header),
        command=command(header),
        unfinished=_lost(lost, header) if lost else _unfinished(run, header),
        absent=absent,
        quick=bool(header["settings"]["quick"]),
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


def _answer(run: Run, whole: bool) -> str:
    if run.suite.answer is not None:
        found = _asked(run, "the answer", run.suite.answer, whole)
        if isinstance(found, str) and found.strip():
            return " ".join(found.split())
    failing = [one.statement for one in run.verdicts if one.verdict == "does not hold"]
    if failing:
        return f"{counted(run.verdicts)} What fails: {joined(failing[:3])}{' and others' if len(failing) > 3 else ''}."
    return f"{counted(run.verdicts)} None fails in this measurement."


def _asked(run: Run, what: str, function: Callable[[Any], Any], whole: bool) -> Any:
    """What a function of the suite says of the results; a MissingTrialsError that says why it cannot say it.

    whole: the run is finished. In one that is not, whatever fails may fail for want of trials.
    """
    try:
        return function(run.results)
    except MissingTrialsError as error:
        return error
    except Exception as error:
        text = f"{type(error).__name__}: {plain(error)}"
        if not whole:
            return MissingTrialsError(text)
        raise SuiteError(f"{run.suite.name}: {what} fails: {text}") from error


def _pictures(run: Run, whole: bool, absent: list[str]) -> list[Picture]:
    from matplotlib.figure import Figure

    from diag.report.figures.style import styled

    found: list[Picture] = []
    names = _names(run.suite.figures)
    with styled():
        for title, function in run.suite.figures.items():
            what = f"the figure '{title}'"
            figure = _asked(run, what, function, whole)
            if isinstance(figure, MissingTrialsError):
                absent.append(f"{title}: {figure}")
                continue
            if not isinstance(figure, Figure):
                raise SuiteError(f"{run.suite.name}: {what} is a {type(figure).__name__}: expected a matplotlib Figure")
            found.append(_picture(run.suite.name, names[title], title, caption_of(function, title), figure))
            _close(figure)
    return found


def _close(figure: Figure) -> None:
    """Let go of a figure that pyplot made, which would keep it for as long as the process lives."""
    if (pyplot := sys.modules.get("matplotlib.pyplot")) is not None:
        pyplot.close(figure)


def _picture(suite: str, name: str, title: str, caption: str, figure: Figure) -> Picture:
    from diag.report.figures.svg import inline, standalone

    wide = figure.get_figwidth() > WIDEST
    return Picture(
        name, title, caption, inline=_visible(inline(figure, f"{suite}-{name}", plain(caption))),
        file=_visible(standalone(figure, name)), wide=wide,
    )  # fmt: skip


def _visible(svg: str) -> str:
    """A drawing in which what XML cannot hold, and what turns the direction of text, is seen instead."""
    return re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", lambda one: plain(one[0]), svg)


def _tables(run: Run, whole: bool, absent: list[str]) -> list[Table]:
    import pandas as pd

    found = []
    names = _names(run.suite.tables)
    for title, function in run.suite.tables.items():
        what = f"the table '{title}'"
        frame = _asked(run, what, function, whole)
        if isinstance(frame, MissingTrialsError):
            absent.append(f"{title}: {frame}")
            continue
        if not isinstance(frame, pd.DataFrame):
            raise SuiteError(f"{run.suite.name}: {what} is a {type(frame).__name__}: expected a pandas DataFrame")
        found.append(Table(names[title], title, caption_of(function, ""), flat(frame)))
    return found


def flat(frame: pd.DataFrame) -> pd.DataFrame:
    """The table with its index as columns, if it has names, and every column named by one string of its own."""
    import pandas as pd

    if not isinstance(frame.index, pd.RangeIndex) and any(name is not None for name in frame.index.names):
        frame = frame.reset_index()
    frame = frame.reset_index(drop=True)
    names = [" ".join(str(part) for part in (one if isinstance(one, tuple) else (one,)) if part != "") for one in frame]
    return frame.set_axis(different(names), axis=1)


def different(names: Iterable[str], joint: str = " ") -> list[str]:
    """The names, each with a number behind it that was there already."""
    taken: dict[str, None] = {}
    for name in names:
        numbered = (f"{name}{joint}{i}" for i in itertools.count(2))
        taken[next(one for one in itertools.chain([name], numbered) if one not in taken)] = None
    return list(taken)


def caption_of(function: Callable[..., Any], otherwise: str) -> str:
    """A function's first paragraph, on one line."""
    text = "" if getattr(function, "__name__", "") == "<lambda>" else (function.__doc__ or "")
    return " ".join(text.strip().partition("\n\n")[0].split()) or otherwise


def file_name(title: str) -> str:
    """A title as the name of a file."""
    words = "".join(one if one.isalnum() and one.isascii() else " " for one in title.lower()).split()
    return "-".join(words)[:80] or "untitled"


def _names(titles: Iterable[str]) -> dict[str, str]:
    """A file's name for each title, of which no two are the same."""
    several = list(titles)
    return dict(zip(several, different(map(file_name, several), "-"), strict=True))


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


def _lost(lost: int, header: dict[str, Any]) -> str:
    return (
        f"{lost} of the {header['trials']} trials of this run are missing from its folder. What needs them is "
        "undecided or left out; `--resume` runs them again."
    )


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
