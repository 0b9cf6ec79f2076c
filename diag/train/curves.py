"""The curves of one training: a row per validation, summing up the steps since the one before."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import torch


@dataclass
class Curves:
    """Columns: step, train_loss (mean over the steps since), valid_loss, valid_accuracy, lr, momentum,
    gradient_norm (mean before clipping), gradient_norm_max, clipped_norm (mean after it), clipped_fraction of steps.
    """

    rows: list[dict[str, float]] = field(default_factory=list)
    _losses: list[float] = field(default_factory=list)
    _before: list[float] = field(default_factory=list)
    _after: list[float] = field(default_factory=list)

    def see_step(self, loss: float) -> None:
        """A step's training loss."""
        self._losses.append(loss)

    def see_gradient(self, before: float, after: float) -> None:
        """A step's total gradient norm, before and after clipping."""
        self._before.append(before)
        self._after.append(after)

    def close(self, step: int, optimizer: torch.optim.Optimizer | None, valid: dict[str, float]) -> None:
        """A validation after `step` steps."""
        group: dict[str, Any] = optimizer.param_groups[0] if optimizer is not None else {}
        betas = group.get("betas")
        clipped = [after < before * (1 - 1e-6) for before, after in zip(self._before, self._after, strict=True)]
        self.rows.append(
            {
                "step": step,
                "train_loss": _mean(self._losses),
                "valid_loss": valid.get("loss", math.nan),
                "valid_accuracy": valid.get("accuracy", math.nan),
                "lr": float(group.get("lr", math.nan)),
                "momentum": float(betas[0] if betas else group.get("momentum", math.nan)),
                "gradient_norm": _mean(self._before),
                "gradient_norm_max": max(self._before, default=math.nan),
                "clipped_norm": _mean(self._after),
                "clipped_fraction": _mean([float(one) for one in clipped]),
            }
        )
        self._losses, self._before, self._after = [], [], []

    def frame(self) -> pd.DataFrame:
        """One row per validation."""
        frame = pd.DataFrame(self.rows, columns=list(self.rows[0]) if self.rows else ["step"])
        return frame.astype({"step": "int64"})


def _mean(values: list[float]) -> float:
    return math.fsum(values) / len(values) if values and all(map(math.isfinite, values)) else math.nan
