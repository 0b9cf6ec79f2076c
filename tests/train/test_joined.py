"""When a script's ranks post and collect; the ranks themselves are stand-ins."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any, ClassVar

import pytest

from diag.errors import DiagError
from diag.probe.distributed import VARIABLE
from diag.probe.presence import own_rank
from diag.probe.probe import Probe
from diag.train import joined, keep
from diag.train.joined import Joined
from diag.train.script import watch_script
from diag.train.termination import Termination

distributed = pytest.importorskip("torch.distributed")

SCRIPT = """
import torch
from torch import distributed, nn
model = nn.Linear(4, 2)
optimizer = torch.optim.SGD(model.parameters(), 0.1)
def train(steps):
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.randn(8, 4)).square().mean().backward()
        optimizer.step()
train(2)
"""


class Ranks:
    """Stands for the ranks of a group; what happened to it, in order."""

    said: ClassVar[list[Any]] = []
    interrupts = 0

    def __init__(self, probe: Probe) -> None:
        self._probe = probe
        self.silent = False
        self.said.append("began")

    @classmethod
    def begin(cls, probe: Probe) -> Ranks:
        return cls(probe)

    def end(self, error: str | None = None) -> None:
        self.said.append((error, len(self._probe.recorder.steps)))
        if type(self).interrupts:
            type(self).interrupts -= 1
            raise SystemExit(143)
        self.silent = True

    def hurry(self) -> None:
        self.said.append("hurry")


@pytest.fixture
def ranks(monkeypatch: pytest.MonkeyPatch) -> type[Ranks]:
    monkeypatch.setattr(Ranks, "said", [])
    monkeypatch.setattr(Ranks, "interrupts", 0)
    monkeypatch.setattr(joined, "Ranks", Ranks)
    for owner in (distributed, distributed.distributed_c10d):
        monkeypatch.setattr(owner, "destroy_process_group", lambda group=None: Ranks.said.append("destroyed"))
    before = signal.getsignal(signal.SIGTERM)
    yield Ranks
    signal.signal(signal.SIGTERM, before)


def outcome(folder: Path, *lines: str) -> Any:
    script = folder / "train.py"
    script.write_text("\n".join([SCRIPT, *lines]))
    return watch_script(script, [])


def test_what_the_group_leaves_is_exchanged_before_it_is_destroyed(ranks: type[Ranks], tmp_path: Path) -> None:
    replaced = distributed.destroy_process_group
    assert outcome(tmp_path, "distributed.destroy_process_group()").silent
    assert ranks.said == ["began", (None, 2), "destroyed"]
    assert distributed.destroy_process_group is replaced


def test_a_group_within_the_group_ends_nothing(ranks: type[Ranks], tmp_path: Path) -> None:
    outcome(tmp_path, "distributed.destroy_process_group('a part')")
    assert ranks.said == ["began", "destroyed", (None, 2)]


def test_a_second_group_is_joined_too(ranks: type[Ranks], tmp_path: Path) -> None:
    outcome(tmp_path, "distributed.distributed_c10d.destroy_process_group()", "train(1)")
    assert ranks.said == ["began", (None, 2), "destroyed", "began", (None, 3)]


@pytest.mark.parametrize(
    ("line", "error"),
    [("raise ValueError('no')", "ValueError: no"), ("raise SystemExit(3)", "exit code 3"), ("raise SystemExit", None)],
)
def test_the_others_are_told_how_the_script_ended(
    line: str, error: str | None, ranks: type[Ranks], tmp_path: Path
) -> None:
    outcome(tmp_path, line)
    assert ranks.said == ["began", (error, 2)]


def test_what_a_signal_interrupts_is_done_when_the_script_has_ended(ranks: type[Ranks], tmp_path: Path) -> None:
    ranks.interrupts = 1
    assert outcome(tmp_path, "distributed.destroy_process_group()").exit_code == 143
    assert ranks.said == ["began", (None, 2), ("exit code 143", 2)]


def test_a_training_goes_on_where_the_ranks_cannot_be_joined(
    ranks: type[Ranks], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(probe: Probe) -> Any:
        raise RuntimeError("no store")

    monkeypatch.setattr(ranks, "begin", refuse)
    found = outcome(tmp_path)
    assert found.exit_code == 0
    assert len(found.trace.steps) == 2
    assert found.trace.coverage["notes"] == ["the ranks could not be joined: no store"]


def test_no_number_of_seconds_is_told_before_the_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "soon")
    with pytest.raises(DiagError, match=VARIABLE):
        outcome(tmp_path, "raise AssertionError('it has run')")


@pytest.mark.skipif(os.name != "posix", reason="a process cannot send itself SIGTERM on this system")
@pytest.mark.parametrize("several", [False, True])
def test_a_rank_that_is_terminated_after_its_script_reports_all_the_same(several: bool, ranks: type[Ranks]) -> None:
    one = Joined(Probe())
    one.several, one._ranks = several, Ranks(Probe())
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        with Termination(one) as termination:
            with pytest.raises(SystemExit), termination.script_runs():
                signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGTERM)
        assert ranks.said == ["began", "hurry"]
        assert (signal.getsignal(signal.SIGTERM) is signal.SIG_DFL) == (not several)
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize(
    ("rank", "world", "expected"), [("1", "2", 1), ("0", "2", 0), ("1", "", 0), ("1", "1", 0), ("a", "2", 0)]
)
def test_the_rank_is_the_launchers_before_there_is_a_group(
    rank: str, world: str, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("WORLD_SIZE", world)
    assert own_rank() == expected


@pytest.mark.parametrize("rank", ["0", "1"])
def test_only_the_first_rank_keeps_what_it_has_seen(rank: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv(keep.VARIABLE, "1e-6")
    before = signal.getsignal(signal.SIGTERM)
    (tmp_path / "train.py").write_text(SCRIPT)
    found = watch_script(tmp_path / "train.py", [], trace=tmp_path / "trace.parquet")
    signal.signal(signal.SIGTERM, before)
    assert (tmp_path / "trace.parquet").exists() == (rank == "0")
    assert (found.rank, found.silent) == (int(rank), False)
