"""What all commands share: help, version, mistakes, interruption."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

import diag
from diag.errors import DiagError, MissingExtraError


def test_version(run: Any) -> None:
    result = run("--version")
    assert (result.code, result.out) == (0, f"diag {diag.__version__}\n")


@pytest.mark.parametrize("arguments", [["--help"], ["-h"]])
def test_help_names_every_command(run: Any, arguments: list[str]) -> None:
    result = run(*arguments)
    assert result.code == 0
    for command in ("check", "watch", "demo"):
        assert command in result.out


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["chekc", "x"], "check"),
        (["check", "x", "--stepz", "3"], "--steps"),
        (["watch", "--evry", "3", "x"], "--every"),
    ],
)
def test_a_typo_gets_a_hint(run: Any, arguments: list[str], hint: str) -> None:
    result = run(*arguments)
    assert result.code == 2
    assert hint in result.err
    assert result.out == ""


@pytest.mark.parametrize("value", ["0", "-3", "many", "2.5"])
@pytest.mark.parametrize("command", ["check", "watch"])
def test_steps_is_a_whole_number_from_1(run: Any, command: str, value: str) -> None:
    result = run(command, "--steps", value, "target")
    assert result.code == 2
    assert "--steps" in result.err


def test_an_error_of_the_user_is_one_line(run: Any, fake_check: SimpleNamespace) -> None:
    def fail() -> None:
        raise MissingExtraError("numba", "fast", "the compiled path")

    fake_check.during = fail
    result = run("check", "m.py:f")
    assert result.code == 2
    assert result.out == ""
    assert (
        result.err == "diag: error: the compiled path needs numba, which is not installed: pip install 'diag[fast]'\n"
    )


def test_their_traceback_stands_before_the_line(run: Any, fake_check: SimpleNamespace) -> None:
    def fail() -> None:
        error = DiagError("importing m.py failed")
        error.user_traceback = "Traceback\n  theirs\n"  # type: ignore[attr-defined]
        raise error

    fake_check.during = fail
    assert run("check", "m.py:f").err == "Traceback\n  theirs\ndiag: error: importing m.py failed\n"


@pytest.mark.parametrize("command", ["check", "watch"])
def test_interrupted(run: Any, command: str, fake_check: SimpleNamespace, fake_watch: SimpleNamespace) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    fake_check.during = fake_watch.during = interrupt
    result = run(command, "m.py:f")
    assert result.code == 130
    assert "Traceback" not in result.err


def test_a_mistake_of_ours_is_not_hidden(fake_check: SimpleNamespace) -> None:
    from diag.cli.app import main

    def fail() -> None:
        raise ZeroDivisionError

    fake_check.during = fail
    with pytest.raises(ZeroDivisionError):
        main(["check", "m.py:f"])
