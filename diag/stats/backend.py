"""Which implementation measures: the compiled one where numba is installed and the tensor suits it, else torch."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch

from diag.errors import DiagError, nearest
from diag.stats import cuda, host_plan, torch_path
from diag.stats.cuda import VARIABLE
from diag.stats.fields import WIDTH
from diag.stats.tensor_stats import TensorStats
from diag.stats.torch_path import Saturation

CHOICES = ("auto", "compiled", "torch")


def backend_name() -> str:
    """Name "compiled" or "torch": what measures the tensors that suit it; the first call may import numba.

    Raises:
        DiagError: DIAG_BACKEND is neither of auto, compiled, torch, or asks for numba where there is none.
    """
    return "torch" if _chosen() is torch_path.measure_into else "compiled"


def choice() -> str:
    """What the user chose: auto, compiled or torch.

    Raises:
        DiagError: DIAG_BACKEND is neither.
    """
    said = os.environ.get(VARIABLE, "auto") or "auto"
    if said not in CHOICES:
        raise DiagError(f"{VARIABLE} must be one of {', '.join(CHOICES)}; got {said!r}{nearest(said, CHOICES)}")
    return said


@lru_cache(maxsize=1)
def _chosen() -> Callable[..., torch.Tensor | None]:
    chosen = choice()
    if chosen == "torch":
        return torch_path.measure_into
    try:
        from diag.stats import compiled
    except ImportError as error:
        if chosen == "compiled":
            raise DiagError(f"{VARIABLE}=compiled needs numba ({error}): pip install 'diag[fast]'") from error
        return torch_path.measure_into
    return compiled.measure_into


def measure_into(
    row: torch.Tensor,
    x: torch.Tensor,
    *,
    saturation: Saturation | None = None,
    unit_dim: int | None = None,
    sample_dim: int | None = None,
) -> torch.Tensor | None:
    """Write the measurement of x into row with the fastest path that applies; see `torch_path.measure_into`.

    Raises:
        DiagError: as in `backend_name`.
    """
    return _chosen()(row, x, saturation=saturation, unit_dim=unit_dim, sample_dim=sample_dim)


def measure_and_plan(
    row: torch.Tensor, x: torch.Tensor, saturation: Saturation | None, unit_dim: int | None, sample_dim: int | None
) -> tuple[torch.Tensor | None, Callable[..., Any] | None]:
    """`measure_into`, and what measures more tensors like x without finding anything out anew, see `compiled.Plan`,
    `host_plan.HostPlan` and `cuda_plan.CudaPlan`."""
    if x.is_cuda:
        return _on_cuda(row, x, saturation, unit_dim, sample_dim)
    if _chosen() is torch_path.measure_into:
        return by_torch(row, x, saturation, unit_dim, sample_dim)
    from diag.stats import compiled

    return compiled.measure_and_plan(row, x, saturation, unit_dim, sample_dim)


def by_torch(
    row: torch.Tensor, x: torch.Tensor, saturation: Saturation | None, unit_dim: int | None, sample_dim: int | None
) -> tuple[torch.Tensor | None, Callable[..., Any] | None]:
    """`measure_and_plan` with torch's operations, whatever is chosen."""
    mask = torch_path.measure_into(row, x, saturation=saturation, unit_dim=unit_dim, sample_dim=sample_dim)
    with torch._C.DisableTorchFunction():
        return mask, host_plan.plan_for(row, x, saturation, unit_dim, sample_dim)


def _on_cuda(
    row: torch.Tensor, x: torch.Tensor, saturation: Saturation | None, unit_dim: int | None, sample_dim: int | None
) -> tuple[torch.Tensor | None, Callable[..., Any] | None]:
    with torch._C.DisableTorchFunction(), torch.no_grad():
        dims = (None, None) if x.ndim == 0 else (unit_dim, sample_dim)
        mask, plan = cuda.by_kernel(row, x, saturation, *dims)
    if plan is not None:
        return mask, plan
    mask = torch_path.measure_into(row, x, saturation=saturation, unit_dim=unit_dim, sample_dim=sample_dim)
    return mask, None


def measure(
    x: torch.Tensor,
    *,
    saturation: Saturation | None = None,
    unit_dim: int | None = None,
    sample_dim: int | None = None,
) -> TensorStats:
    """The measurement of x as a value; waits for the device. Arguments as in `torch_path.measure_into`."""
    device = torch.device("cpu") if x.is_meta else x.device
    row = torch.empty(WIDTH, dtype=torch.float64, device=device)
    measure_into(row, x, saturation=saturation, unit_dim=unit_dim, sample_dim=sample_dim)
    return TensorStats.from_row(row.tolist())
