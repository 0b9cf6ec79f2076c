"""What every callback does at the end, without any framework."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import diag
from diag.errors import DiagError, MissingExtraError
from diag.integrations.ending import Ending, FindingsError, hand_to
from diag.integrations.extra import refuse
from diag.integrations.session import Session
from diag.report.diagnosis import Diagnosis
from diag.rules.finding import Finding
from tests.probe.conftest import assert_nothing_left


def test_import_diag_loads_no_framework() -> None:
    foreign = ("lightning", "pytorch_lightning", "transformers", "tensorboard", "wandb", "torch", "diag.integrations.")
    code = f"import sys, diag, diag.integrations; print([n for n in sys.modules if n.startswith({foreign!r})])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_what_is_missing_inside_an_installed_package_is_its_own_error() -> None:
    with pytest.raises(MissingExtraError, match=r"needs wandb, which is not installed: pip install 'diag\[wandb\]'"):
        refuse(ModuleNotFoundError(name="wandb.sdk"), "wandb")
    broken = ModuleNotFoundError("No module named 'pkg_resources'", name="pkg_resources")
    with pytest.raises(ModuleNotFoundError, match="pkg_resources"):
        refuse(broken, "wandb")


@pytest.fixture(scope="module")
def trace() -> diag.Trace:
    """Of one healthy step: what the findings of these tests are said to be about."""
    model = torch.nn.Sequential(torch.nn.Linear(3, 2))
    with diag.watch(model) as watch:
        model(torch.ones(4, 3)).square().sum().backward()
        watch.step()
    return watch.trace


ERROR = Finding("vanishing-gradient", "error", "net.0", "It vanishes.")
WARNING = Finding("stalled-update", "warning", "", "It hardly moves.")
NOTE = Finding("dead-units", "note", "net.1", "Some are dead.")


@pytest.mark.parametrize(
    ("fail_on", "findings", "message"),
    [
        ("error", [ERROR, WARNING], r"error vanishing-gradient at net\.0: It vanishes; all"),
        ("warning", [ERROR, WARNING], r"error vanishing-gradient at net\.0: It vanishes \(and 1 more\); all"),
        ("warning", [WARNING, NOTE], r"warning stalled-update: It hardly moves; all"),
        ("error", [WARNING, NOTE], None),
        ("warning", [NOTE], None),
        ("never", [ERROR], None),
        (None, [ERROR], None),
    ],
)
def test_what_fails(fail_on: str | None, findings: list[Finding], message: str | None, trace: diag.Trace) -> None:
    diagnosis = Diagnosis(findings, trace)
    if message is None:
        Ending(fail_on=fail_on).hold(diagnosis)
        return
    with pytest.raises(FindingsError, match=message):
        Ending(fail_on=fail_on).hold(diagnosis)


def test_a_training_that_could_not_be_judged_does_not_pass() -> None:
    nothing = Diagnosis([], diag.Trace())
    with pytest.raises(FindingsError, match="fail_on='error', but nothing was observed that could be judged"):
        Ending(fail_on="error").hold(nothing)
    Ending().hold(nothing)


@pytest.mark.parametrize(
    ("findings", "level", "text"),
    [
        ([], logging.INFO, "diag: Net: healthy"),
        ([NOTE], logging.INFO, "diag: Net: healthy, 1 note\n  note dead-units at net.1: Some are dead."),
        ([WARNING], logging.WARNING, "diag: Net: 1 warning\n  warning stalled-update: It hardly moves."),
    ],
)
def test_what_is_said(
    findings: list[Finding], level: int, text: str, trace: diag.Trace, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "diag")
    Ending().deliver(Diagnosis(findings, trace, title="Net"))
    (record,) = caplog.records
    assert (record.levelno, record.getMessage()) == (level, text)


def test_what_a_log_says_of_a_model_cannot_move_a_cursor(trace: diag.Trace, caplog: pytest.LogCaptureFixture) -> None:
    Ending().deliver(Diagnosis([Finding("x", "error", "net\x1b[2J\nfake", "m")], trace, title="a\nb"))
    assert caplog.messages == ["diag: a b: 1 error\n  error x at net\\x1b[2J fake: m"]


def test_a_page_that_cannot_be_written(trace: diag.Trace, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DiagError, match="cannot write"):
        Ending(html=tmp_path / "file" / "page.html").deliver(Diagnosis([], trace))


def test_a_logger_of_another_kind_is_refused(trace: diag.Trace) -> None:
    class Logger:
        experiment = object()

    assert Ending(writer=Logger())  # it may hold anything
    with pytest.raises(DiagError, match="a W&B run, or a function, got object"):
        hand_to(Logger(), Diagnosis([], trace))


def test_a_session_ends_once_and_measures_several_optimizers_in_turn() -> None:
    seen: list[Diagnosis] = []
    session = Session(10, None, None, seen.append)
    model = torch.nn.ModuleList([torch.nn.Linear(3, 3), torch.nn.Linear(3, 2)])
    optimizers = [torch.optim.SGD(one.parameters(), 0.1) for one in model]
    session.end(writes=True)
    assert (session.diagnosis, seen) == (None, [])
    wrapper: Any = object()
    session.begin(model, [*optimizers, wrapper, None])
    for _ in range(20):
        for optimizer in optimizers:
            model.zero_grad()
            model[1](model[0](torch.ones(4, 3))).square().sum().backward()
            optimizer.step()
    session.stop()
    assert_nothing_left()
    for _ in range(2):
        session.end(writes=True)
    assert seen == [session.diagnosis]
    updates = seen[0].trace.kind("update")
    # Both at first, then every 10th step, or the one after where the second optimizer would have none.
    first, second = (["0.weight", "0.bias"], ["1.weight", "1.bias"])
    found = updates.groupby("step")["site"].agg(list).to_dict()
    assert found == {0: first, 1: second, 10: first, 20: first, 31: second}


def test_a_process_that_does_not_write_is_judged_all_the_same(trace: diag.Trace) -> None:
    seen: list[Diagnosis] = []
    session = Session(1, None, "error", seen.append)
    session.begin(torch.nn.Linear(3, 2), [])
    session.end(writes=False)
    assert seen == []
    with pytest.raises(FindingsError, match="nothing was observed"):
        session.hold()
