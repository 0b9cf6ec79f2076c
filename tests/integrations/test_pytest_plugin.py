"""The pytest plugin in projects of its own, each run by a pytest of its own."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODELS = """
import sys

HEAVY = [name for name in ("torch", "pandas", "numpy", "scipy", "matplotlib") if name in sys.modules]

import pytest
import torch
from torch import nn

x = torch.randn(64, 16, generator=torch.Generator().manual_seed(0))
batch = x, x[:, :1].sin()


def loss(model, batch):
    return (model(batch[0]) - batch[1]).square().mean()


def net(act=nn.ReLU, layers=1):
    torch.manual_seed(0)
    hidden = [one for _ in range(layers) for one in (nn.Linear(16, 16), act())]
    return nn.Sequential(*hidden, nn.Linear(16, 1))


def sgd(model, lr=0.05):
    return torch.optim.SGD(model.parameters(), lr=lr)


def saturated():
    model = net(nn.Tanh, 2)
    with torch.no_grad():
        model[0].weight.mul_(12)
    return model
"""
CHECKS = (
    MODELS
    + """
def test_loading_the_plugin_loads_nothing():
    assert HEAVY == []

def test_healthy(diag_check):
    model = net()
    before = [one.detach().clone() for one in model.parameters()]
    diagnosis = diag_check(model, batch, loss, sgd(model))
    assert diagnosis.healthy and diagnosis.coverage["steps"] == 30
    assert all(torch.equal(one, other) for one, other in zip(before, model.parameters()))

def test_sick(diag_check):
    model = net(nn.Sigmoid, 8)
    diag_check(model, batch, loss, sgd(model), steps=3)

@pytest.mark.parametrize("name", ["a/b", "a-b"])
def test_at_initialization(diag_check, name):
    assert diag_check(net(), batch, loss).coverage["optimizer"] is False

def test_twice(diag_check):
    diag_check(net(), batch, loss)
    diag_check(net(), batch, loss)

def test_a_warning_passes(diag_check):
    model = saturated()
    assert diag_check(model, batch, loss, sgd(model, 0.01), 10).findings[0].severity == "warning"

@pytest.mark.diag(severity="warning", steps=10)
def test_a_warning_fails_by_the_marker(diag_check):
    model = saturated()
    diag_check(model, batch, loss, sgd(model, 0.01))

@pytest.mark.diag(severity="warning", steps=10)
def test_the_call_is_nearer_than_the_marker(diag_check):
    model = saturated()
    diagnosis = diag_check(model, batch, loss, sgd(model, 0.01), severity="error", steps=4)
    assert diagnosis.coverage["steps"] == 4

@pytest.mark.diag(severty="warning")
def test_a_typo_in_the_marker(diag_check):
    diag_check(net(), batch, loss)

def test_a_severity_that_is_none(diag_check):
    diag_check(net(), batch, loss, severity="grave")

def test_a_mistake_of_theirs(diag_check):
    diag_check(nn.ReLU(), batch, loss)

def test_an_error_in_their_loss(diag_check):
    diag_check(net(), batch, lambda model, batch: 1 / 0)
"""
)

GATES = """
import pytest

@pytest.mark.parametrize("number", [1, 2])
def test_gate(diag_gate, number):
    verdict = diag_gate("suites/mine.py", f"baselines/{number}.json", seeds=5)
    assert (verdict.answer, {one.seeds for one in verdict.checks}) == ("pass", {5})

def test_margins(diag_gate):
    assert diag_gate("suites/mine.py", "baselines/1.json", seeds=5, margins={"test_accuracy": 0.9}).answer == "pass"

def test_no_baseline(diag_gate):
    diag_gate("suites/mine.py", "baselines/3.json")

def test_no_suite(diag_gate):
    diag_gate("suites/mien.py", "baselines/1.json")
"""
SUITE = """
import diag

suite = diag.Suite("Does it learn?", {"plain": diag.Recipe(depth=1, width=8, steps=20)}, looks=0, validations=2)
"""
# The figures would be most of the time; tests/cli holds the page itself.
NO_FIGURES = """
def pytest_runtest_setup(item):
    from diag.atomic import write_text
    from diag.report.diagnosis import Diagnosis

    Diagnosis.to_html = lambda self, path: write_text(path, f"{self.title}: {self.findings}, {self.command}")
"""
# The workers' start would be most of the time; how many were asked for is kept.
NO_WORKERS = f"""
import sys
from pathlib import Path

sys.path.append({str(ROOT)!r})


def pytest_runtest_setup(item):
    import diag.suite.run
    from tests.gate.runs import InProcess

    def engine(jobs=None):
        with Path("jobs.txt").open("a") as file:
            file.write(f"{{jobs}} ")
        return InProcess()

    diag.suite.run.LocalEngine = engine
"""


def outcomes(pytester: pytest.Pytester, *arguments: str, inside: bool = False) -> tuple[dict[str, str], str]:
    """Each test's outcome by its name, and what was printed. inside: in this process, where nothing needs torch."""
    start = pytester.runpytest_inprocess if inside else pytester.runpytest_subprocess
    result = start("-W", "error", "-p", "no:benchmark", "-rA", *(["-p", "no:xdist"] if inside else []), *arguments)
    text = "\n".join(result.outlines)
    found = re.findall(r"^(PASSED|FAILED|ERROR) \S+?::(\S+)", text, re.MULTILINE)
    return {name: state for state, name in found}, text + "\n".join(result.errlines)


def told(text: str, test: str) -> str:
    """What pytest shows of one failure."""
    found = re.search(rf"^_+ {re.escape(test)} _+$\n(.*?)(?=^_{{3,}} |^=+ |\Z)", text, re.MULTILINE | re.DOTALL)
    return found[1].strip() if found else ""


@pytest.mark.nightly
@pytest.mark.slow
def test_checks_under_xdist_with_pages(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(NO_FIGURES)
    pytester.makepyfile(test_it=CHECKS)
    found, text = outcomes(pytester, "-n", "2", "--diag-html", "pages")
    failed = {name for name, state in found.items() if state == "FAILED"}
    assert failed == {
        "test_sick", "test_a_warning_fails_by_the_marker", "test_a_typo_in_the_marker", "test_a_severity_that_is_none",
        "test_a_mistake_of_theirs", "test_an_error_in_their_loss",
    }, text  # fmt: skip
    assert len(found) == 13
    sick = told(text, "test_sick")
    assert re.search(r"^test_sick: 1 error\nerror: vanishing-gradient at \S+: .+$", sick, re.MULTILINE)
    assert "    remedy: " in sick
    assert "another exception" not in text
    assert "diag/check.py" not in text, "no traceback through diag"
    assert "warning: saturated-activation at 1: " in told(text, "test_a_warning_fails_by_the_marker")
    assert "the marker diag takes severity and steps, by name; got severty" in told(text, "test_a_typo_in_the_marker")
    assert "severity is one of error, warning, note, got 'grave'" in told(text, "test_a_severity_that_is_none")
    assert "diag_check: ReLU has no parameters: there is nothing to train" in told(text, "test_a_mistake_of_theirs")
    assert "1 / 0" in told(text, "test_an_error_in_their_loss")
    assert "ZeroDivisionError" in told(text, "test_an_error_in_their_loss")

    pages = {one.name for one in (pytester.path / "pages").iterdir()}
    stems = sorted(re.sub(r"-[0-9a-f]{8}", "", one) for one in pages)
    assert stems == sorted([
        "test_it.py-test_healthy.html", "test_it.py-test_sick.html", "test_it.py-test_twice.html",
        "test_it.py-test_twice-2.html", "test_it.py-test_at_initialization-a-b.html",
        "test_it.py-test_at_initialization-a-b.html", "test_it.py-test_a_warning_passes.html",
        "test_it.py-test_a_warning_fails_by_the_marker.html", "test_it.py-test_the_call_is_nearer_than_the_marker.html",
    ])  # fmt: skip
    (page,) = [one for one in pages if "test_sick" in one]
    content = (pytester.path / "pages" / page).read_text(encoding="utf-8")
    assert content.startswith("test_sick: [Finding(rule='vanishing-gradient'")
    assert content.endswith("], pytest test_it.py::test_sick")
    assert f"page: {pytester.path / 'pages' / page}" in sick
    written = re.findall(r"^diag: wrote the page (.+)$", text, re.MULTILINE)
    assert {Path(one).name for one in written} == pages


@pytest.mark.slow
def test_a_suite_is_gated_and_its_baseline_updated(pytester: pytest.Pytester) -> None:
    for folder in ("suites", "baselines"):
        pytester.mkdir(folder)
    suite = pytester.path / "suites" / "mine.py"
    suite.write_text(SUITE)
    pytester.makeconftest(NO_WORKERS)
    pytester.makepyfile(test_it=GATES)
    found, text = outcomes(pytester, "--diag-update-baseline", "-k", "test_gate", "-n", "1")
    assert found == {"test_gate[1]": "PASSED", "test_gate[2]": "PASSED"}, text
    files = [pytester.path / "baselines" / f"{number}.json" for number in (1, 2)]
    assert [f"diag: wrote the baseline {file}" in text for file in files] == [True, True]
    assert files[0].read_text() == files[1].read_text()
    assert (pytester.path / "jobs.txt").read_text() == "1 1 ", "every core has its tests already"

    # What it is held to from now on: a network that was better, by the file.
    content = json.loads(files[1].read_text())
    for case in content["cases"].values():
        case["test_accuracy"] = [one + 0.3 for one in case["test_accuracy"]]
    files[1].write_text(json.dumps(content))
    found, text = outcomes(pytester)
    assert found == {
        "test_gate[1]": "PASSED", "test_gate[2]": "FAILED", "test_margins": "PASSED", "test_no_baseline": "FAILED",
        "test_no_suite": "FAILED",
    }, text  # fmt: skip
    regression = told(text, "test_gate[2]")
    assert regression.startswith("diag gate, mine: regression: ")
    assert "\nplain: test_accuracy: " in regression
    assert f"no baseline at {pytester.path}/baselines/3.json: pytest --diag-update-baseline" in text
    assert "diag_gate: no suite file 'suites/mien.py' (did you mean 'mine.py'?)" in told(text, "test_no_suite").replace(
        f"{pytester.path}/", ""
    )
    assert (pytester.path / "jobs.txt").read_text() == "1 1 None None None "


def test_options_settings_and_where_they_are_wrong(pytester: pytest.Pytester) -> None:
    # A stand-in for what is checked: this is about who says how grave a finding has to be.
    pytester.makeconftest("""
import sys
from types import ModuleType

import pytest

from diag.integrations import pytest_plugin


class Check:
    def __init__(self, request):
        self.config = request.config

    def __call__(self):
        return self.config.getoption("--diag-severity"), self.config.getini("diag_severity")


module = ModuleType("diag.integrations.pytest_fixtures")
module.Check = Check
sys.modules["diag.integrations.pytest_fixtures"] = module
""")
    pytester.makepyfile(test_it="def test_it(diag_check):\n    print('said', diag_check())")
    pytester.makeini("[pytest]\ndiag_severity = warning\naddopts = --strict-markers --strict-config")
    found, text = outcomes(pytester, "-s", "--diag-severity", "note", inside=True)
    assert found == {"test_it": "PASSED"}, text
    assert "said ('note', 'warning')" in text
    assert "@pytest.mark.diag(severity=" in outcomes(pytester, "--markers", inside=True)[1]
    (pytester.path / "pages").touch()
    assert (
        "--diag-html pages is a file: expected a folder" in outcomes(pytester, "--diag-html", "pages", inside=True)[1]
    )
    assert "invalid choice: 'grave'" in outcomes(pytester, "--diag-severity", "grave", inside=True)[1]
    pytester.makeini("[pytest]\ndiag_severity = grave")
    assert "diag_severity is one of error, warning, note, got 'grave'" in outcomes(pytester, inside=True)[1]
