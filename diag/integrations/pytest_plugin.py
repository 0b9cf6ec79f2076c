"""pytest: models checked and suites gated in tests.

pytest loads this file by its entry point in every project that has diag installed, so it loads nothing itself: torch
comes with the first fixture.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from diag.integrations.pytest_fixtures import Check, Gate

SEVERITIES = ("error", "warning", "note")
MARKER = 'diag(severity="error", steps=30): what diag_check fails on in this test, and for how many steps it trains'
PAGE, BASELINE = "diag_page", "diag_baseline"
"""Names of the properties by which a test says what it wrote, across the processes of pytest-xdist too."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options and the setting."""
    group = parser.getgroup("diag", "diag: models that train")
    group.addoption("--diag-severity", choices=SEVERITIES, help="The least severity that fails a diag_check.")
    group.addoption("--diag-html", metavar="DIR", help="Write a page with pictures there for every diag_check.")
    group.addoption(
        "--diag-update-baseline", action="store_true", help="diag_gate writes its baseline instead of holding to it."
    )
    parser.addini("diag_severity", "The least severity that fails a diag_check.", default="error")


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known, and find mistakes before any test is run.

    Raises: UsageError.
    """
    config.addinivalue_line("markers", MARKER)
    given = config.getini("diag_severity")
    if given not in SEVERITIES:
        raise pytest.UsageError(f"diag_severity is one of {', '.join(SEVERITIES)}, got '{given}'")
    pages = config.getoption("--diag-html")
    if pages is not None and Path(pages).exists() and not Path(pages).is_dir():
        raise pytest.UsageError(f"--diag-html {pages} is a file: expected a folder")


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say what was written and where."""
    for name, words in ((PAGE, "page"), (BASELINE, "baseline")):
        for path in dict.fromkeys(_written(terminalreporter.stats, name)):
            terminalreporter.write_line(f"diag: wrote the {words} {path}")


def _written(stats: Mapping[str, list[Any]], name: str) -> Iterator[str]:
    for report in (one for group in stats.values() for one in group):
        if getattr(report, "when", None) == "call":
            yield from (str(value) for key, value in report.user_properties if key == name)


@pytest.fixture
def diag_check(request: pytest.FixtureRequest) -> Check:
    """`diag_check(model, batch, loss, optimizer)` fails the test with what is wrong with the model's training."""
    from diag.integrations.pytest_fixtures import Check

    return Check(request)


@pytest.fixture
def diag_gate(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Gate:
    """`diag_gate("mysuite.py", "baseline.json")` fails the test if the suite trains worse than its baseline."""
    from diag.integrations.pytest_fixtures import Gate

    return Gate(request, tmp_path_factory)
