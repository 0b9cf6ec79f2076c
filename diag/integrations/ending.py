"""What a callback of a training framework does when the training has ended: say it, write it, raise where asked to."""

from __future__ import annotations

import importlib.util
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diag.errors import DiagError, MissingExtraError, nearest
from diag.report.diagnosis import Diagnosis
from diag.report.text import plain
from diag.report.verdict import verdict
from diag.rules.finding import Finding

FAIL_ON = ("error", "warning", "never")
LOG = logging.getLogger("diag")


class FindingsError(DiagError):
    """The training ended with a finding as grave as `fail_on`; the message names the gravest."""


@dataclass(frozen=True)
class Ending:
    """What is to be done with the diagnosis.

    html: where the page goes. fail_on: `error` or `warning` raises FindingsError for a finding as grave; None or
    `never` only logs it. writer: a TensorBoard writer or log folder, a W&B run, a logger of Lightning that holds one
    of them (`.experiment`), or a function that takes the diagnosis.

    Raises: DiagError for options that no training could satisfy.
    """

    html: Path | None = None
    fail_on: str | None = None
    writer: Any = None

    def __post_init__(self) -> None:
        if self.fail_on is not None and self.fail_on not in FAIL_ON:
            hint = nearest(str(self.fail_on), FAIL_ON)
            raise DiagError(f"fail_on is one of {', '.join(FAIL_ON)} or None, got {self.fail_on!r}{hint}")
        if self.html is not None and self.html.is_dir():
            raise DiagError(f"html={str(self.html)!r} is a folder: expected the name of a file in it")
        if isinstance(self.writer, (str, Path)) and importlib.util.find_spec("tensorboard") is None:
            raise MissingExtraError("tensorboard", "tensorboard", "writer=FOLDER")
        if self.writer is not None and not _is_writer(self.writer):
            raise _no_writer(self.writer)

    def deliver(self, diagnosis: Diagnosis) -> None:
        """Log the verdict, write the page, and hand the diagnosis to the writer.

        Raises: DiagError if the page cannot be written, or for a writer of an unknown kind.
        """
        _say(diagnosis)
        if self.html is not None:
            LOG.info("diag: wrote %s", diagnosis.to_html(self.html))
        if self.writer is not None:
            hand_to(self.writer, diagnosis)

    def hold(self, diagnosis: Diagnosis) -> None:
        """Raise if the training is not as good as `fail_on` asks.

        Raises: FindingsError for a finding as grave as that, or if nothing was observed that could be judged.
        """
        if self.fail_on not in ("error", "warning"):
            return
        if verdict(diagnosis).status == "unknown":
            raise FindingsError(
                f"fail_on={self.fail_on!r}, but nothing was observed that could be judged: expected a training step"
            )
        grave = diagnosis.at_least("error" if self.fail_on == "error" else "warning")
        if grave:
            more = f" (and {len(grave) - 1} more)" if len(grave) > 1 else ""
            raise FindingsError(
                f"fail_on={self.fail_on!r}, and the training has {told(grave[0]).rstrip('.')}{more}; all of it is in "
                "the callback's `diagnosis`"
            )


def told(finding: Finding) -> str:
    """A finding in one line: `error vanishing-gradient at net.0: ...`."""
    where = f" at {finding.site}" if finding.site else ""
    return plain(f"{finding.severity} {finding.rule}{where}: {finding.message}")


def hand_to(writer: Any, diagnosis: Diagnosis) -> None:
    """Give the diagnosis to a writer of any kind that `Ending` names.

    Raises: DiagError for another kind.
    """
    writer = getattr(writer, "experiment", writer)
    if isinstance(writer, (str, Path)) or hasattr(writer, "add_scalar"):
        from diag.integrations import tensorboard

        tensorboard.write(diagnosis, writer)
    elif hasattr(writer, "alert") and hasattr(writer, "summary"):
        from diag.integrations import wandb

        wandb.log(diagnosis, run=writer)
    elif callable(writer):
        writer(diagnosis)
    else:
        raise _no_writer(writer)


def _is_writer(writer: Any) -> bool:
    """Asked before the training, so of the class: a logger makes its `experiment` when that is first read."""
    marks = ("add_scalar", "alert", "experiment")
    return isinstance(writer, (str, Path)) or callable(writer) or any(hasattr(type(writer), one) for one in marks)


def _no_writer(given: Any) -> DiagError:
    return DiagError(
        f"writer is a TensorBoard writer or log folder, a W&B run, or a function, got {type(given).__name__}"
    )


def _say(diagnosis: Diagnosis) -> None:
    """A finding is a warning of the log, which Python shows unless told otherwise; health is only information."""
    found = verdict(diagnosis)
    level = logging.INFO if found.status in ("healthy", "note") else logging.WARNING
    lines = [f"diag: {plain(diagnosis.title)}: {found.text}", *map(told, diagnosis.findings)]
    LOG.log(level, "%s", "\n  ".join(lines))
