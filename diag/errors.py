"""Errors a user can cause. The command line prints one line of them and exits with status 2."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

STRICT = "DIAG_STRICT"
"""With this in the environment a mistake of ours is raised where it would only be noted, as in our own tests."""


class DiagError(Exception):
    """Something the user can mend; the message names what was expected, what came, and the fix."""


class TargetError(DiagError):
    """The thing to be checked cannot be found, loaded or used."""


class TraceError(DiagError):
    """A stored trace cannot be read or written."""


class MissingExtraError(DiagError):
    """An optional dependency is not installed; the message names the extra that brings it."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs {package}, which is not installed: pip install 'diag[{extra}]'")


def nearest(name: str, valid: Iterable[str]) -> str:
    """A hint for a misspelt name: " (did you mean 'x'?)", or "" when nothing is near."""
    close = difflib.get_close_matches(name, list(valid), n=1)
    return f" (did you mean '{close[0]}'?)" if close else ""
