"""The proofs of all labels, measured by `python -m tests.corpus.verify_labels --write`."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("labels.json")
STATES = ("healthy", "faulty", "no effect", "doubtful")
"""no effect: a fault too weak to change how training comes out. doubtful: no proof; it counts nowhere."""


@functools.cache
def labels() -> dict[str, dict[str, Any]]:
    """By case: its state, and the losses that prove it."""
    found: dict[str, dict[str, Any]] = json.loads(FILE.read_text()) if FILE.is_file() else {}
    return found


def state(name: str) -> str:
    """Of a case, by its proof."""
    return str(labels()[name]["state"])
