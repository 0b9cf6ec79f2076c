"""The ranks of a distributed training: each posts what it saw when its watch ends, and the first puts it together.

Nothing is exchanged while the training runs, and no collective at all: the tables go through the key-value store by
which the ranks found each other, so a rank that has died makes nobody wait longer than the timeout.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import sys
import time
from textwrap import shorten
from typing import TYPE_CHECKING, Any

from diag.errors import DiagError
from diag.probe.mailbox import fetch, post
from diag.probe.parts import merge_parts, pack, unpack
from diag.probe.presence import is_gone, presence
from diag.probe.sharing import KNOWN, Sharing, sharing_of

if TYPE_CHECKING:
    from diag.probe.probe import Probe

VARIABLE = "DIAG_RANKS_TIMEOUT"
_SECONDS = 60.0
_AFTER_FAILURE = 10.0
_PAUSE = 0.02
_WIDTH = 120
_GRACE = 2.0
"""Seconds in which a launcher has noticed that a rank was killed."""
_numbers = itertools.count()


def patience() -> float:
    """Seconds to wait for the others.

    Raises: DiagError if the environment says something that is no such number.
    """
    given = os.environ.get(VARIABLE) or str(_SECONDS)
    try:
        seconds = float(given)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < math.inf:
        raise DiagError(f"{VARIABLE} is a number of seconds above 0, such as 60; got {given!r}")
    return seconds


class Ranks:
    """This rank among those that watch. silent: another one reports."""

    def __init__(self, probe: Probe, distributed: Any) -> None:
        self._probe = probe
        self._store = distributed.distributed_c10d._get_default_store()
        self._rank = distributed.get_rank()
        self._sharing = sharing_of(probe)
        self._patience = patience()
        self._number = next(_numbers)
        self._since = probe.recorder.step
        self._until = math.inf
        self._merged = False
        self.silent = False
        probe.recorder.settle()
        probe.recorder.death.kept = []
        leads = self._rank == (self._sharing.ranks[0] if self._sharing is not None else 0)
        others = self._sharing.ranks if self._sharing is not None else range(distributed.get_world_size())
        self._awaited = {rank: self._next_of(rank) for rank in others} if leads else {}
        self._store.set(f"diag/{self._rank}/process", presence().encode())
        self._store.set(f"{self._name(self._rank, self._number)}/begun", b"1")

    def _next_of(self, rank: int) -> int:
        """The number of a rank's first watch that has not ended: some ranks may have watched when others did not."""
        key = f"diag/{rank}/ended"
        return int(self._store.get(key)) + 1 if self._store.check([key]) else 0

    @staticmethod
    def _name(rank: int, number: int) -> str:
        return f"diag/{rank}/{number}"

    @classmethod
    def begin(cls, probe: Probe) -> Ranks | None:
        """This rank of a distributed training; None where there is only one."""
        distributed = sys.modules.get("torch.distributed")
        if distributed is None or not distributed.is_available() or not distributed.is_initialized():
            return None
        return cls(probe, distributed) if distributed.get_world_size() > 1 else None

    def end(self, error: str | None = None) -> None:
        """Post what was seen, or put together what the others post; of those that do not, say so.

        error: what ended the training of this rank. An end that is interrupted may be done again.
        """
        self._tell_ended()
        if not self._merged:
            self._exchange(error)
        self._probe.recorder.death.kept = None

    def hurry(self) -> None:
        """Wait no longer for the others than after a failure."""
        self._until = min(self._until, time.monotonic() + _AFTER_FAILURE)

    def _exchange(self, failure: str | None) -> None:
        sharing = sharing_of(self._probe) or self._sharing
        notes = self._probe.notes
        if sharing is None:
            notes.append(f"this is rank {self._rank}'s own part: the model is not {KNOWN}")
            return
        if len(sharing.ranks) == 1 or self._rank not in sharing.ranks:
            return
        leader = sharing.ranks[0]
        try:
            if self._rank == leader:
                self._collect(sharing, self._seconds(failure is not None))
            else:
                name = self._name(self._rank, self._number)
                if failure is not None:
                    self._store.set(f"{name}/failure", shorten(failure, _WIDTH, placeholder=" ...").encode())
                post(self._store, name, pack(self._probe, self._since))
                if failure is not None and self._is_lost(leader):
                    notes.append(f"this is rank {self._rank}'s own part: rank {leader} has died")
                    return
                notes.append(f"this is rank {self._rank}'s own part: rank {leader} puts the parts together and reports")
                self.silent = True
        except (RuntimeError, OSError) as error:
            notes.append(f"this is rank {self._rank}'s own part: rank {leader} could not be reached ({_line(error)})")

    def _tell_ended(self) -> None:
        """Let the others know that this watch has ended, before they have what they wait for and begin another."""
        with contextlib.suppress(RuntimeError, OSError):
            self._store.set(f"diag/{self._rank}/ended", str(self._number).encode())

    def _seconds(self, failed: bool) -> float:
        return min(self._patience, _AFTER_FAILURE) if failed else self._patience

    def _is_late(self) -> bool:
        return time.monotonic() >= self._until

    def _is_lost(self, leader: int) -> bool:
        """Whether the rank that puts the parts together has died instead: then this one has failed because of it."""
        taken, key = f"{self._name(self._rank, self._number)}/taken", f"diag/{leader}/process"
        there = self._store.get(key).decode() if self._store.check([key]) else ""
        until = time.monotonic() + _GRACE
        while there and time.monotonic() < until and not self._store.check([taken]):
            if is_gone(there):
                return not self._store.check([taken])
            time.sleep(_PAUSE)
        return False

    def _collect(self, sharing: Sharing, seconds: float) -> None:
        began = time.monotonic()
        self._until = min(self._until, began + seconds)
        parts, missing = [unpack(pack(self._probe, self._since), self._rank)], []
        failures = []
        for rank in sharing.ranks[1:]:
            name = self._name(rank, self._awaited.get(rank, self._number))
            if not self._store.check([f"{name}/begun"]):
                missing.append(f"rank {rank} is missing: it was not watched")
                continue
            try:
                parts.append(unpack(fetch(self._store, name, self._is_late), rank))
                self._store.set(f"{name}/taken", b"1")
                if self._store.check([f"{name}/failure"]):
                    failures.append(f"rank {rank} ended with {self._store.get(f'{name}/failure').decode()}")
            except RuntimeError:
                missing.append(
                    f"rank {rank} is missing: nothing came from it within {max(self._until - began, 0):.3g} s"
                )
        self._merged = True
        merge_parts(self._probe, parts, sharing, since=self._since)
        notes = self._probe.notes
        notes += [f"{one}, so its part of the batch or of the weights was not seen" for one in missing]
        notes += failures  # which may be for want of those
        if sharing.batches > 1 and len(parts) > 1:
            several = len(sharing.ranks) // sharing.batches
            each = "each with its" if several == 1 else f"{several} with each"
            notes.append(
                f"the {len(parts)} ranks by themselves, {each} part of the batch: they are put together, and the loss"
                " is the mean of theirs"
            )


def _line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
