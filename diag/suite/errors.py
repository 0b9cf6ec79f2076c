"""What a user can do wrong with a suite or a run."""

from __future__ import annotations

from diag.errors import DiagError


class SuiteError(DiagError):
    """A suite cannot be found, loaded or run as it is written."""


class RunError(DiagError):
    """A run's folder cannot be used: it is another's, damaged, or from a newer version."""


class InterruptedRunError(KeyboardInterrupt):
    """Ctrl-C during a run; the message says what is kept and how to go on."""


class MissingTrialsError(Exception):
    """A claim asks for trials that the run does not have (yet)."""
