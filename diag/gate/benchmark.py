"""pytest-benchmark's JSON held to ratios between benchmarks of one run: times differ between machines, ratios less.

A ratio is that of the two medians; the interval of each is that of its rounds: a regression is only what lies above the
limit with its whole interval, and a ratio above it whose interval reaches below is left open.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from diag.errors import nearest
from diag.gate.metrics import GateError

_RATIO = re.compile(r"^\s*(?P<names>.+?)\s*<=?\s*(?P<limit>[0-9.eE+-]+)\s*$")


@dataclass(frozen=True)
class RatioVerdict:
    """One ratio: regression if even the low end of its interval is above the limit; "cannot tell" if only the ratio
    itself is."""

    text: str
    ratio: float
    low: float
    high: float
    limit: float
    answer: Literal["pass", "regression", "cannot tell"]


def hold_ratios(file: Path, ratios: list[str]) -> list[RatioVerdict]:
    """Judge ratios such as `watched/plain<=1.2`, each of two benchmarks' names.

    The interval is that of the logarithm of the ratio of medians, two standard errors to each side, from each
    benchmark's interquartile range over the root of its rounds (the standard error of a median is about
    1.25 sd / sqrt(n), and sd about iqr / 1.35).
    Raises: GateError for a file that is no pytest-benchmark JSON, a benchmark that is unknown or was run once, or a
        ratio that cannot be read.
    """
    known = _benchmarks(file)
    return [_judge(text, known) for text in ratios]


def _benchmarks(file: Path) -> dict[str, dict[str, Any]]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        # Two modules may hold benchmarks of one name: their full names, with the file, tell them apart.
        names = [one["name"] for one in content["benchmarks"]]
        pairs = [(one.get("fullname", one["name"]), dict(one["stats"])) for one in content["benchmarks"]]
        return dict(pairs) | {
            name: stats for name, (_, stats) in zip(names, pairs, strict=True) if names.count(name) == 1
        }
    except FileNotFoundError:
        raise GateError(f"no file {file}: make one with 'pytest --benchmark-json={file}'") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise GateError(f"{file} is no JSON of pytest-benchmark ({type(error).__name__}: {error})") from None


def _judge(text: str, known: dict[str, dict[str, Any]]) -> RatioVerdict:
    match = _RATIO.match(text)
    try:
        limit = float(match["limit"]) if match else math.nan
    except ValueError:
        limit = math.nan
    if match is None or not 0 < limit < math.inf or "/" not in match["names"]:
        raise GateError(f"a ratio reads 'A/B<=1.2', with the names of two benchmarks; got '{text}'")
    names = _two_names(match["names"], known)
    (above, error_above), (below, error_below) = (_median(name, known[name]) for name in names)
    ratio = above / below
    factor = math.exp(2 * math.hypot(error_above, error_below))
    low, high = ratio / factor, ratio * factor
    words = f"{names[0]} / {names[1]} = {ratio:.3g} [{low:.3g}, {high:.3g}], limit {limit:g}"
    answer: Literal["pass", "regression", "cannot tell"] = "pass" if ratio <= limit else "cannot tell"
    return RatioVerdict(words, ratio, low, high, limit, "regression" if low > limit else answer)


def _two_names(text: str, known: dict[str, dict[str, Any]]) -> tuple[str, str]:
    """The names on both sides of that slash which leaves two benchmarks: a name may hold slashes itself."""
    parts = text.split("/")
    splits = [("/".join(parts[:i]).strip(), "/".join(parts[i:]).strip()) for i in range(1, len(parts))]
    for above, below in splits:
        if above in known and below in known:
            return above, below
    unknown = next((name for name in splits[0] if name not in known), text)
    raise GateError(f"no benchmark '{unknown}' in the file, or several of that name{nearest(unknown, known)}")


def _median(name: str, stats: dict[str, Any]) -> tuple[float, float]:
    """A benchmark's median, and its relative standard error."""
    try:
        median, spread, rounds = float(stats["median"]), float(stats["iqr"]), int(stats["rounds"])
    except (KeyError, TypeError, ValueError) as error:
        raise GateError(f"the benchmark '{name}' has no median, iqr and rounds ({type(error).__name__})") from None
    if rounds < 2 or not (0 < median < math.inf and 0 <= spread < math.inf):
        raise GateError(
            f"the benchmark '{name}' has {rounds} rounds, a median of {median:g} and an iqr of {spread:g}: a ratio "
            "needs at least two rounds that took time"
        )
    return median, 1.25 / 1.35 * spread / math.sqrt(rounds) / median
