"""The accuracy of the rules, for people: tables in Markdown and two figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import seaborn as sns

from diag.report.figures.style import SERIES, blank, styled
from diag.report.figures.svg import standalone
from tests.corpus.accuracy_text import FIRST, FIRST_SCORES, METHOD, WORST
from tests.corpus.scores import text, weakest
from tests.corpus.split import PARTS

BARS = {"error on healthy": "at most 1 %", "right cause": "at least 95 %", "root first": "at least 90 %"}


def page(found: dict[str, Any], folder: Path) -> None:
    """Write README.md and its figures."""
    parts = [one for one in PARTS[::-1] if found[one]["families"]]
    out = ["# How often the diagnosis is right", "", _opening(found), ""]
    out += ["| | bar | " + " | ".join(parts) + " |", "|---|---|" + "---|" * len(parts)]
    for what in found[parts[0]]["summary"]:
        cells = [_cell(found[part]["summary"][what]) for part in parts]
        out.append(f"| {what} | {BARS.get(what, '')} | " + " | ".join(cells) + " |")
    out += ["", FIRST_SCORES, "## Beside published thresholds, on the same 30 steps", ""]
    out += ["![found beside false alarms](figures/tools.svg)", ""]
    out += ["| | part | error on healthy | right cause |", "|---|---|---|---|"]
    for part in parts:
        tools = {"diag": found[part]["summary"], **found[part]["baselines"]}
        out += [
            f"| {tool} | {part} | {text(one['error on healthy'])} | {text(one['right cause'])} |"
            for tool, one in tools.items()
        ]
    out += [
        "",
        *_rules(found, parts),
        *_strengths(found, parts),
        *_families(found),
        WORST,
        *_mistakes(found, parts),
        METHOD,
    ]
    (folder / "README.md").write_text("\n".join(out) + "\n")
    figures = folder / "figures"
    figures.mkdir(exist_ok=True)
    (figures / "tools.svg").write_text(_tools(found, parts))
    (figures / "strengths.svg").write_text(_graded(found))


def _cell(one: Any) -> str:
    return text(one) if isinstance(one, dict) else str(one)


def _opening(found: dict[str, Any]) -> str:
    one, corpus = found["fresh"]["summary"], found["corpus"]
    total = sum(sum(states.values()) for states in corpus.values())
    return (
        f"{FIRST} With what it taught mended, the same families give {text(one['error on healthy'])},"
        f" {text(one['right cause'])} and {text(one['root first'])}, which are no longer unseen: these are the tables"
        f" below. The corpus has {total} set-ups; every label is proven by training the set-up beside its twin without"
        " the fault."
    )


def _rules(found: dict[str, Any], parts: list[str]) -> list[str]:
    out = ["## By rule", "", "| rule | part | precision | recall where it is a root | any right cause there |"]
    out += ["|---|---|---|---|---|"]
    for part in parts:
        for rule, one in found[part]["rules"].items():
            out.append(
                f"| {rule} | {part} | {text(one['precision'])} | {text(one['recall'])} | {text(one['found by any'])} |"
            )
    return [*out, ""]


def _strengths(found: dict[str, Any], parts: list[str]) -> list[str]:
    out = ["## By fault: the weakest that is found", "", "![found by strength](figures/strengths.svg)", ""]
    out += [
        "Found of those with an effect, at each strength from the weakest; in brackets errors on those without.",
        "",
    ]
    out += ["| fault | part | weakest found | all found from | by strength |", "|---|---|---|---|---|"]
    for fault in found["fresh"]["strengths"]:
        for part in parts:
            graded = found[part]["strengths"][fault]
            cells = ", ".join(
                f"{one['strength']:g}: {one['right cause']['count']}/{one['right cause']['of']}"
                f" ({one['early warning']['count']}/{one['early warning']['of']})"
                for one in graded
            )
            some, every = weakest(graded)
            out.append(f"| {fault} | {part} | {some} | {every} | {cells} |")
    return [*out, ""]


def _families(found: dict[str, Any]) -> list[str]:
    out = ["## By family", "", "| family | part | errors on healthy | right causes |", "|---|---|--:|--:|"]
    for part in PARTS[::-1]:
        for family, one in found[part]["families"].items():
            cells = [f"{c['count']} of {c['of']}" for c in (one["error on healthy"], one["right cause"])]
            out.append(f"| {family} | {part} | {cells[0]} | {cells[1]} |")
    return [*out, ""]


def _mistakes(found: dict[str, Any], parts: list[str]) -> list[str]:
    out = ["## Every mistake", ""]
    for part in parts:
        out += [f"### {part}", "", "```", *found["mistakes"][part], "```", ""]
    return out


def _tools(found: dict[str, Any], parts: list[str]) -> str:
    with styled():
        figure, axes = blank()
        part = parts[0]
        tools = {"diag": found[part]["summary"], **found[part]["baselines"]}
        for number, (tool, one) in enumerate(tools.items()):
            alarm, right = one["error on healthy"], one["right cause"]
            x, y = 100 * alarm["share"], 100 * right["share"]
            axes.errorbar(x, y, [[y - 100 * right["low"]], [100 * right["high"] - y]],
                          [[x - 100 * alarm["low"]], [100 * alarm["high"] - x]], color=SERIES[number],
                          marker="osDv"[number], linestyle="none")  # fmt: skip
            place = {"xytext": (6, 6)} if x < 60 else {"xytext": (-6, 6 if number % 2 else -14), "ha": "right"}
            axes.annotate(tool, (x, y), textcoords="offset points", color=SERIES[number], **place)
        axes.set(
            xlim=(-3, 103), ylim=(-3, 103), xlabel="error on healthy set-ups, %", ylabel="right cause on faulty ones, %"
        )
        sns.despine(ax=axes)
        return standalone(figure, "accuracy-tools")


def _graded(found: dict[str, Any]) -> str:
    """One row per fault: a dot per strength, from the weakest on, at the share found over all families."""
    with styled():
        figure, axes = blank()
        faults = list(found["fresh"]["strengths"])
        figure.set_size_inches(4.5, 0.17 * len(faults) + 0.9)
        table = np.array([[_pooled(found, fault, number) for number in range(4)] for fault in faults])
        sns.heatmap(
            table, vmin=0, vmax=100, annot=True, fmt=".0f", ax=axes, yticklabels=faults, cbar=False, linewidths=1,
            xticklabels=["weakest", "2", "3", "4"], annot_kws={"size": 6.5},
            cmap=sns.light_palette(SERIES[0], as_cmap=True), mask=np.isnan(table),
        )  # fmt: skip
        axes.grid(False)
        axes.set_xlabel("strength; found, % of the faults with an effect")
        return standalone(figure, "accuracy-strengths")


def _pooled(found: dict[str, Any], fault: str, number: int) -> float:
    count = total = 0
    for part in PARTS:
        graded = found[part]["strengths"][fault]
        if number < len(graded):
            count += graded[number]["right cause"]["count"]
            total += graded[number]["right cause"]["of"]
    return 100 * count / total if total else float("nan")
