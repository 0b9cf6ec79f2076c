"""The ranks of a script that a launcher such as torchrun starts several times: when each posts, and which one reports.

A script makes its process group, and perhaps takes it apart, while it is watched.
"""

from __future__ import annotations

import functools
import os
import sys
from types import TracebackType
from typing import Any, Self

from diag.probe.distributed import Ranks, patience
from diag.probe.presence import own_rank
from diag.probe.probe import Probe

_NAME = "destroy_process_group"


class Joined:
    """Joins the ranks at the first pass within a process group, and posts or collects before that is destroyed.

    rank: this process's. silent: another rank reports. several: whether there are others.
    """

    def __init__(self, probe: Probe) -> None:
        patience()  # a number of seconds that is none is to be told before the training
        self._probe = probe
        self._ranks: Ranks | None = None
        self._replaced: list[tuple[Any, Any, Any]] = []
        self.rank = own_rank()
        self.silent = False
        self.several = os.environ.get("WORLD_SIZE", "1") not in ("", "0", "1")

    def __enter__(self) -> Self:
        distributed = sys.modules.get("torch.distributed")
        if distributed is not None and distributed.is_available():
            self._probe.on_begun = self._begin
            for owner in (distributed, distributed.distributed_c10d):
                original = getattr(owner, _NAME)
                ours = self._ending(original)
                setattr(owner, _NAME, ours)
                self._replaced.append((owner, original, ours))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for owner, original, ours in self._replaced:
            if getattr(owner, _NAME) is ours:
                setattr(owner, _NAME, original)
        self._replaced.clear()

    def _begin(self) -> None:
        try:
            self._ranks = Ranks.begin(self._probe)
        except (RuntimeError, OSError) as error:
            # A training must not fail because it is watched.
            self._probe.notes.append(f"the ranks could not be joined: {error}")
            self._probe.on_begun = _nothing
            return
        if self._ranks is not None:
            self.rank, self.several = own_rank(), True
            self._probe.on_begun = _nothing

    def _ending(self, original: Any) -> Any:
        @functools.wraps(original)
        def destroy_process_group(group: Any = None) -> Any:
            if group is None or group is sys.modules["torch.distributed"].group.WORLD:
                self.end(None)
            return original(group)

        return destroy_process_group

    def end(self, error: str | None) -> None:
        """Post this rank's part or put all together, once. error: how the script failed.

        What is interrupted is done again when the script has ended.
        """
        if self._ranks is None:
            return
        self._probe.close_ended()
        self._ranks.end(error)
        self.silent = self._ranks.silent
        self._ranks = None
        self._probe.on_begun = self._begin

    def hurry(self) -> None:
        """This process will be killed soon: do not wait long for others."""
        if self._ranks is not None:
            self._ranks.hurry()


def _nothing() -> None:
    """What a pass begins with when all is joined."""
