"""Measure a CUDA tensor: by one kernel where Triton is, which comes with torch there, else by torch operations.

The operations are some forty, which for a small tensor take longer to launch than to run.
"""

from __future__ import annotations

import os
import warnings
from types import ModuleType
from typing import Any

import torch

from diag.stats import device
from diag.stats.layout import Saturation

VARIABLE = "DIAG_BACKEND"
"""Environment variable: auto, compiled or torch."""


def measure(
    row: torch.Tensor, x: torch.Tensor, saturation: Saturation | None, unit_dim: int | None, sample_dim: int | None
) -> torch.Tensor | None:
    """`torch_path.measure_into` for a strided tensor without a graph."""
    mask, plan = by_kernel(row, x, saturation, unit_dim, sample_dim)
    return device.measure(row, x, saturation, unit_dim, sample_dim) if plan is None else mask


def by_kernel(
    row: torch.Tensor, x: torch.Tensor, saturation: Saturation | None, unit_dim: int | None, sample_dim: int | None
) -> tuple[torch.Tensor | None, Any]:
    """What `measure` returns, and the plan that measured and may measure more like x; (None, None): it is not for the
    kernel."""
    kernels = _Kernels.load()
    if kernels is None:
        return None, None
    try:
        with torch.cuda.device(x.device):
            plan = kernels.plan_for(row, x, saturation, unit_dim, sample_dim)
            return (None, None) if plan is None else (plan(row, x, saturation, unit_dim, sample_dim), plan)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # of Triton, its compiler or the driver: what it raises is not documented
        _Kernels.give_up(error)
        return None, None


class _Kernels:
    """The module of the kernels' plans, looked for once; None where there is no Triton, or it does not work."""

    found: ModuleType | None = None
    looked = False

    @classmethod
    def load(cls) -> ModuleType | None:
        if not cls.looked:
            cls.looked = True
            if os.environ.get(VARIABLE) != "torch":
                try:
                    from diag.stats import cuda_plan
                except ImportError:
                    return None
                cls.found = cuda_plan
        return cls.found

    @classmethod
    def give_up(cls, error: Exception) -> None:
        cls.found = None
        text = f"{type(error).__name__}: {error}".splitlines()[0]
        warnings.warn(
            f"diag measures with torch operations, which takes longer: its Triton kernel failed ({text}); "
            f"{VARIABLE}=torch leaves it out from the start",
            RuntimeWarning,
            stacklevel=2,
        )
