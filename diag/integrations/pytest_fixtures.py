"""What the fixtures of the pytest plugin do."""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from diag.atomic import write_text
from diag.check import check
from diag.errors import DiagError
from diag.gate.baseline import make_baseline
from diag.gate.gate import Verdict, gate
from diag.integrations.pytest_plugin import BASELINE, PAGE, SEVERITIES
from diag.report.diagnosis import Diagnosis
from diag.report.gate.wording import headline, lines
from diag.report.text import plain, plural
from diag.report.verdict import unobserved, verdict
from diag.suite.run import run_suite
from diag.suite.suite import Suite
from diag.train.workload import Workload


class Check:
    """What `diag_check` is."""

    def __init__(self, request: pytest.FixtureRequest) -> None:
        self._request = request
        self._count = 0

    def __call__(
        self,
        model: nn.Module,
        batch: Any,
        loss: Any,
        optimizer: Any = None,
        steps: int | None = None,
        severity: str | None = None,
    ) -> Diagnosis:
        """Train on one batch, over and over, and fail the test on findings of the severity or a graver one.

        Args: loss: loss(model, batch) -> scalar tensor. optimizer: without one the model is judged at initialization.
            steps: else the marker's, else 30. severity: else the marker's, the option's or the setting's. The model is
            left as it was.
        Returns: the diagnosis, where it does not fail.
        """
        marked = self._marked()
        least = severity or marked.get("severity") or self._request.config.getoption("--diag-severity")
        least = least or self._request.config.getini("diag_severity")
        if least not in SEVERITIES:
            pytest.fail(f"diag_check: severity is one of {', '.join(SEVERITIES)}, got {least!r}", pytrace=False)
        self._count += 1
        again = f"pytest {shlex.quote(self._request.node.nodeid)}"
        with _failing("diag_check"):
            wanted = steps if steps is not None else marked.get("steps", 30)
            workload = Workload(model, [batch], loss, optimizer)
            diagnosis = check(workload, wanted, title=self._request.node.name, command=again)
            page = self._page(diagnosis)
        text = _told(diagnosis, least)
        if text:
            pytest.fail(text + (f"\npage: {page}" if page else ""), pytrace=False)
        return diagnosis

    def _marked(self) -> dict[str, Any]:
        """The marker's arguments; the marker nearest to the test wins."""
        found: dict[str, Any] = {}
        for marker in self._request.node.iter_markers("diag"):
            if marker.args or set(marker.kwargs) - {"severity", "steps"}:
                what = ", ".join([*map(repr, marker.args), *marker.kwargs])
                pytest.fail(f"the marker diag takes severity and steps, by name; got {what}", pytrace=False)
            found = {**marker.kwargs, **found}
        return found

    def _page(self, diagnosis: Diagnosis) -> Path | None:
        folder = self._request.config.getoption("--diag-html")
        if folder is None:
            return None
        # The name is the test's; its hash tells apart what differs only in characters that no file can have.
        node = self._request.node.nodeid
        readable = re.sub(r"[^A-Za-z0-9_.=-]+", "-", node)[-80:].strip("-.")
        digest = hashlib.sha256(node.encode("utf-8", "replace")).hexdigest()[:8]
        path = Path(folder).absolute() / f"{readable}-{digest}{f'-{self._count}' if self._count > 1 else ''}.html"
        written = diagnosis.to_html(path)
        self._request.node.user_properties.append((PAGE, str(written)))
        return written


class Gate:
    """What `diag_gate` is."""

    def __init__(self, request: pytest.FixtureRequest, folders: pytest.TempPathFactory) -> None:
        self._request, self._folders = request, folders

    def __call__(
        self,
        suite: Suite | str | Path,
        baseline: str | Path,
        seeds: int | None = None,
        quick: bool = False,
        margins: Mapping[str, float] | None = None,
    ) -> Verdict:
        """Run a suite and hold it to a baseline; fail the test on a regression, and where the seeds cannot tell.

        Args: suite: loaded, or its name, or its file. baseline: a file. Relative paths start at pytest's rootdir. With
            --diag-update-baseline the file is written first. seeds, quick: as of `diag run`. margins: by metric.
        Returns: the verdict, where it does not fail.
        """
        config = self._request.config
        file, update = config.rootpath / baseline, config.getoption("--diag-update-baseline")
        if not update and not file.exists():
            pytest.fail(f"diag_gate: no baseline at {file}: pytest --diag-update-baseline writes it", pytrace=False)
        own = config.rootpath / suite if isinstance(suite, (str, Path)) else None
        with _failing("diag_gate"):
            run = run_suite(
                own if own is not None and own.is_file() else suite,
                seeds=seeds,
                quick=quick,
                output=self._folders.mktemp("diag-gate") / "run",
                # Under pytest-xdist every core has its tests already.
                jobs=1 if hasattr(config, "workerinput") else None,
            )
            for name, error in run.failures.errors.items():
                pytest.fail(f"diag_gate: {len(run.failures.errors)} trials failed: {name}: {error}", pytrace=False)
            if update:
                write_text(file, make_baseline(run.folder).to_json())
                self._request.node.user_properties.append((BASELINE, str(file)))
            found = gate(run, file, margins=margins)
        if found.exit_code:
            pytest.fail("\n".join([f"diag gate, {found.suite}: {headline(found)}", *lines(found)]), pytrace=False)
        return found


@contextmanager
def _failing(who: str) -> Iterator[None]:
    """Turns what a user can mend into the failure of their test: one line, no traceback through diag."""
    try:
        yield
    except DiagError as error:
        # Where their own code failed, their traceback says where.
        told = f"{getattr(error, 'user_traceback', '')}{who}: {error}"
        raise pytest.fail.Exception(told, pytrace=False) from None


def _told(diagnosis: Diagnosis, least: Any) -> str:
    """The findings of this severity or a graver one, for people; that nothing was observed; or nothing."""
    failing = diagnosis.at_least(least)
    if not failing and verdict(diagnosis).status != "unknown":
        return ""
    out = [f"{plain(diagnosis.title)}: {verdict(diagnosis).text}"]
    for one in failing:
        out.append(f"{one.severity}: {plain(one.rule)}{f' at {plain(one.site)}' if one.site else ''}: {one.message}")
        out += [f"    remedy: {plain(one.remedy)}"] if one.remedy else []
        out += [f"    source: {plain(one.source)}"] if one.source else []
        out += [f"    therefore: {plain(x.rule)} at {plain(x.site)}: {plain(x.message)}" for x in one.consequences]
    rest = len(diagnosis.findings) - len(failing)
    out += [f"and {plural(rest, 'finding')} of less severity"] if rest else []
    return "\n".join([*out, *(f"not observed: {line}" for line in unobserved(diagnosis.coverage))])
