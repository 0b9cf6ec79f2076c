"""pytest-benchmark's JSON held to ratios between benchmarks of one run: times differ between machines, ratios less.

A ratio is that of the two medians; the interval of each is that of its rounds, so that a noisy machine does not fail
a build: it fails only where the whole interval lies above the limit.
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

_RATIO = re.compile(r"^\s*(?P<above>.+?)\s*/\s*(?P<below>.+?)\s*(?P<sign><=|<)\s*(?P<limit>[0-9.eE+-]+)\s*$")


@dataclass(frozen=True)
class RatioVerdict:
    """One ratio: regression if even the low end of its interval is above the limit."""

    text: str
    ratio: float
    low: float
    high: float
    limit: float
    answer: Literal["pass", "regression"]


def hold_ratios(file: Path, ratios: list[str]) -> list[RatioVerdict]:
    """Judge ratios such as `watched/plain<=1.2`, each of two benchmarks' names.

    The interval is that of the ratio of medians, from each benchmark's interquartile range over the root of its rounds
    (the standard error of a median is about 1.25 sd / sqrt(n), and sd about iqr / 1.35), two standard errors wide.
    Raises: GateError for a file that is no pytest-benchmark JSON, an unknown benchmark, or a ratio that cannot be read.
    """
    known = _benchmarks(file)
    return [_judge(text, known) for text in ratios]


def _benchmarks(file: Path) -> dict[str, dict[str, Any]]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return {one["name"]: dict(one["stats"]) for one in content["benchmarks"]}
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
    if match is None or not limit > 0:
        raise GateError(f"a ratio reads 'A/B<=1.2', with the names of two benchmarks; got '{text}'")
    for name in (match["above"], match["below"]):
        if name not in known:
            raise GateError(f"no benchmark '{name}' in the file{nearest(name, known)}")
    above, below = known[match["above"]], known[match["below"]]
    ratio = above["median"] / below["median"]
    error = ratio * math.hypot(_relative_error(above), _relative_error(below))
    low, high = ratio - 2 * error, ratio + 2 * error
    worse = low > limit
    words = f"{match['above']} / {match['below']} = {ratio:.3g} [{low:.3g}, {high:.3g}], limit {limit:g}"
    return RatioVerdict(words, ratio, low, high, limit, "regression" if worse else "pass")


def _relative_error(stats: dict[str, Any]) -> float:
    return 1.25 / 1.35 * float(stats["iqr"]) / math.sqrt(max(1, int(stats["rounds"]))) / float(stats["median"])
