"""What a convolution's window does to a map of second moments: near an edge it sees zeros, so less comes in."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from diag.theory.quadrature import Array


@dataclass(frozen=True)
class Window:
    """Sizes per spatial dimension. A window covers stride i - padding + (0 ... kernel - 1); outside are zeros."""

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]

    def gather(self, moments: Array) -> Array:
        """Mean over each window of second moments [*inputs], to [*outputs]: what fan_in times Var[w] multiplies."""
        for axis, matrix in enumerate(self._matrices):
            moments = np.moveaxis(np.tensordot(matrix, moments, (1, axis)), 0, axis)
        return moments

    def scatter(self, moments: Array) -> Array:
        """The transpose of `gather`, [*outputs] to [*inputs]: what fan_out times Var[w] multiplies on the way back."""
        for axis, matrix in enumerate(self._matrices):
            moments = np.moveaxis(np.tensordot(matrix, moments, (0, axis)), 0, axis)
        return moments

    @cached_property
    def _matrices(self) -> list[Array]:
        sizes = zip(self.inputs, self.outputs, self.kernel, self.stride, self.padding, strict=True)
        return [_matrix(*one) for one in sizes]


def window_of(inputs: tuple[int, ...], outputs: tuple[int, ...], kernel: tuple[int, ...]) -> Window | None:
    """The window that leads from one shape to the other, with the least stride and padding; None if none does.

    outputs = floor((inputs + 2 padding - kernel) / stride) + 1 in each dimension, without dilation and with one
    stride for all.
    """
    for stride in range(1, max(inputs) + 1):
        padding = [_padding(*sizes, stride) for sizes in zip(inputs, outputs, kernel, strict=True)]
        known = tuple(one for one in padding if one is not None)
        if len(known) == len(padding):
            return Window(inputs, outputs, kernel, (stride,) * len(known), known)
    return None


def _padding(inputs: int, outputs: int, kernel: int, stride: int) -> int | None:
    fits = (one for one in range(kernel) if (inputs + 2 * one - kernel) // stride + 1 == outputs)
    return next(fits, None)


def _matrix(inputs: int, outputs: int, kernel: int, stride: int, padding: int) -> Array:
    place = np.arange(outputs)[:, None, None] * stride - padding + np.arange(kernel)[None, :, None]
    return (place == np.arange(inputs)).sum(axis=1) / kernel
