"""What a stored measurement depends on, as a hash of sources: it is measured anew when one of them changes."""

from __future__ import annotations

import ast
import functools
import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.corpus.case import Case
from tests.corpus.families import FAMILIES

ROOT = Path(__file__).absolute().parents[2]
_HERE = Path(__file__).parent
_MEASURED = ("diag/probe", "diag/stats", "diag/trace", "diag/train/loop.py", "diag/train/snapshot.py")
_BY_HAND = ("healthy_*.py", "faulty_*.py")


@functools.cache
def rules_key() -> str:
    """Of a verdict: the rules and the published thresholds."""
    return hashed(*sources(["diag/rules"]), published_key())


@functools.cache
def published_key() -> str:
    """Of what other tools' thresholds say."""
    return hashed(*sources(["tests/corpus/baselines.py"]))


def trace_key(case: Case) -> str:
    """Of a trace: the probe, the file that the model's family stands in with all it imports, and the injectors."""
    source = FAMILIES[case.family].source if case.family in FAMILIES else ""
    return hashed(_probe(), _corpus(source, "+" in case.name))


@functools.cache
def _probe() -> str:
    return hashed(*sources(_MEASURED))


@functools.cache
def _corpus(source: str, injected: bool) -> str:
    if source:
        files = _imported(ROOT / (source.replace(".", "/") + ".py"))
    else:
        by_hand = [one for pattern in _BY_HAND for one in sorted(_HERE.glob(pattern))]
        files = [_HERE / "nets.py", _HERE / "data.py", _HERE / "case.py", *by_hand]
    if injected:
        files += sorted(_HERE.glob("inject*.py"))
    return hashed(*(one.read_bytes() for one in files))


def _imported(file: Path) -> list[Path]:
    """A file of the corpus and all files of the corpus that it imports, directly or not."""
    found, ahead = [], [file]
    while ahead:
        one = ahead.pop()
        if one in found:
            continue
        found.append(one)
        for node in ast.parse(one.read_text()).body:
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tests.corpus"):
                path = ROOT / str(node.module).replace(".", "/")
                names = [path.with_suffix(".py"), *(path / f"{name.name}.py" for name in node.names)]
                ahead += [each for each in names if each.is_file()]
    return sorted(found)


def sources(places: Iterable[str]) -> Iterable[bytes]:
    """What stands in these files and folders of the repository."""
    for place in places:
        path = ROOT / place
        files = [path] if path.is_file() else sorted(path.rglob("*.py"))
        # What healthy networks reach stands beside the rules, and decides nothing.
        yield from (one.read_bytes() for one in files if one.name != "null.py")


def hashed(*parts: Any) -> str:
    """Twelve hexadecimal digits."""
    digest = hashlib.sha256()
    for one in parts:
        digest.update(one if isinstance(one, bytes) else str(one).encode())
    return digest.hexdigest()[:12]
