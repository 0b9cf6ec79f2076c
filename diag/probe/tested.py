"""What tests give a model: the size, the mean and the spread of its inputs, pass by pass."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

import torch

from diag.probe.sites import Sites
from diag.probe.tensors import find_inputs, is_measurable

_PASSES, _KEPT = 4, 16
"""Passes after one step that are looked at, and in all that are kept, the last ones."""
_SAMPLES, _FEATURES = 1024, 1024
"""Of a pass that are looked at, the first ones."""


@dataclass(frozen=True)
class _Pass:
    step: int
    site: int
    samples: int
    numbers: torch.Tensor


class InputsOfTests:
    """Looks at inputs of passes without a gradient of what has been trained, in evaluation mode or not. Numbers stay
    where they were computed until they are asked for."""

    def __init__(self, sites: Sites) -> None:
        self._sites = sites
        self._kept: deque[_Pass] = deque(maxlen=_KEPT)
        self._seen = (-1, 0)

    def see(self, root: int, path: str, args: tuple[Any, ...], step: int) -> None:
        """Such a pass begins."""
        count = self._seen[1] if self._seen[0] == step else 0
        self._seen = step, count + 1
        if count >= _PASSES or step < 0:
            return
        for suffix, tensor in find_inputs(args, {}):
            site = self._sites.get(root, path, suffix)
            plain = type(tensor) is torch.Tensor and tensor.layout is torch.strided and not tensor.is_complex()
            if site is None or not plain or not is_measurable(tensor) or tensor.ndim < 2 or not tensor.numel():
                continue
            with torch._C.DisableTorchFunction(), torch.no_grad():
                values = tensor.detach()[:_SAMPLES].flatten(1)[:, :_FEATURES].float()
                spread = values.var(0, correction=0).mean()
                numbers = torch.stack([values.mean(), values.square().mean(), spread])
            self._kept.append(_Pass(step, site, len(tensor), numbers))

    def entries(self) -> list[dict[str, Any]]:
        """For the coverage, of each pass that is kept: the step after which it came, the site, how many samples, mean,
        rms, and the variance over samples, averaged over features."""
        name, table = self._sites.name, self._sites.table
        return [
            {
                "step": one.step,
                "site": name(table[one.site]),
                "samples": one.samples,
                **_described(one.numbers),
            }
            for one in self._kept
        ]


def _described(numbers: torch.Tensor) -> dict[str, float]:
    mean, square, spread = (float(one) for one in numbers)
    return {"mean": mean, "rms": square**0.5, "sample_var": spread}
