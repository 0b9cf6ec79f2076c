"""Which rank this process is, and whether that of another is still there, as far as this machine can tell."""

from __future__ import annotations

import os
import socket
import sys


def own_rank() -> int:
    """This process's rank; before there is a process group, the one that its launcher gave it."""
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        return int(distributed.get_rank())
    given, world = (os.environ.get(name, "") for name in ("RANK", "WORLD_SIZE"))
    return int(given) if given.isdecimal() and world.isdecimal() and int(world) > 1 else 0


def presence() -> str:
    """This process, for others."""
    return f"{os.getpid()} {socket.gethostname()}"


def is_gone(presence: str) -> bool:
    """Whether a process has ended; of one on another machine nobody knows."""
    number, _, host = presence.partition(" ")
    if os.name != "posix" or host != socket.gethostname():  # elsewhere signal 0 would end it
        return False
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False
