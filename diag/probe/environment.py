"""Where and with what a trace was measured."""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable
from typing import Any

import torch

from diag.stats.backend import backend_name


def describe_environment(measured_by: Callable[[], str] = backend_name) -> dict[str, Any]:
    """Versions, device and threads: what a measurement depends on beside the model."""
    return {
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "platform": f"{sys.platform} {platform.machine()}",
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "threads": torch.get_num_threads(),
        "statistics": measured_by(),
    }
