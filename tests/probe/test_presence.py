"""Whether a process is there, as others see it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from diag.probe.presence import is_gone, presence

pytestmark = pytest.mark.skipif(os.name != "posix", reason="processes are not asked on this system")


def test_a_process_is_gone_when_it_has_ended() -> None:
    assert not is_gone(presence())
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    host = presence().split(" ")[1]
    assert is_gone(f"{ended.pid} {host}")
    assert not is_gone(f"{ended.pid} another-than-{host}")
    assert not is_gone(f"1 {host}"), "also where it is another user's"
