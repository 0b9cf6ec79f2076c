"""One small real run, its report, and a browser to look at it with."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from diag.report.run.document import Document, document
from diag.report.run.files import write_report
from diag.suite.run import open_run, run_suite
from tests.report.run.browser import Browser, start
from tests.suite.conftest import HEADER
from tests.suite.folders import Inline

SUITE = (
    HEADER
    + '''
from diag.report import suite_figures

CASES = diag.axes(diag.Recipe(depth=1, width=16, steps=20), lr=[0.01, 0.2])


def learning(results):
    """Validation accuracy over the training, mean over seeds and its 95 % band.

    What stands after the first paragraph is for whoever reads the code.
    """
    return suite_figures.curves(results.table("curves"), "step", "valid_accuracy", ylabel="validation accuracy")


def by_seed(results):
    """Test accuracy of every trial."""
    return suite_figures.heat_map(results.frame, "lr", "seed", "test_accuracy")


def ranked(results):
    """Both rates, the better one first."""
    return results.ranking(CASES, test_accuracy="high", test_loss="low")


def each(results):
    """Every trial; `reached` is its loss, where it learned."""
    frame = results.frame[["case", "seed", "test_accuracy", "test_loss"]].copy()
    frame["learned"] = frame["test_accuracy"] > 0.5
    frame["reached"] = frame["test_loss"].where(frame["learned"])
    frame["huge"] = [10.0**5, -3.0, float("inf"), float("-inf"), 2e-7, 12345.0]
    return frame


def gain(results):
    return results.difference("test_accuracy", {"lr": 0.2}, {"lr": 0.01})


def around_their_mean(results):
    values = results.values("test_accuracy", lr=0.2)
    return values - values.mean()


def each_rate(results):
    return {f"rate {lr}": results.values("test_loss", lr=lr) for lr in (0.01, 0.2)}


suite = diag.Suite(
    question="Does the higher rate learn faster?",
    cases=CASES,
    seeds=3,
    looks=2,
    validations=4,
    figures={"Learning": learning, "By seed": by_seed},
    tables={"Ranking": ranked, "Every trial": each},
    notes=["The rates were chosen before any look."],
    concepts=("vanishing_gradients",),
    claims=[
        diag.Claim("The higher rate is better after 20 steps", "a book, chapter 3", gain, above=0.1, unit="accuracy"),
        diag.Claim("The higher rate is worse after 20 steps", "-", gain, below=-0.1),
        diag.Claim("Its seeds lie above their own mean", "-", around_their_mean, above=0.0),
        diag.Claim("No rate diverges", "-", each_rate, above=0.0, below=5.0, unit="nats"),
    ],
)
'''
)


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run: 2 cases with 3 seeds, trained in this process. Not to be written to."""
    home = tmp_path_factory.mktemp("suite")
    (home / "rates.py").write_text(SUITE)
    run_suite(home / "rates.py", output=home / "run", engine=Inline())
    return home / "run"


@pytest.fixture(scope="session")
def content(run_folder: Path) -> Document:
    return document(open_run(run_folder))


@pytest.fixture(scope="session")
def report(content: Document, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the run's report was written to. Not to be written to."""
    folder = tmp_path_factory.mktemp("report")
    write_report(content, folder)
    return folder


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    chromedriver = shutil.which("chromedriver")
    if chromium is None or chromedriver is None:
        pytest.skip("no chromium with its chromedriver on this machine")
    pytest.importorskip("selenium")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_PROXY", ",".join(filter(None, [os.environ.get("NO_PROXY"), "localhost", "127.0.0.1"])))
        one = start(chromium, chromedriver, tmp_path_factory.mktemp("browser"))
    yield one
    one.quit()
