"""Tensors that measuring must cope with, for hypothesis."""

from __future__ import annotations

import math

import torch
from hypothesis import strategies as st

FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
SPECIAL = (math.nan, math.inf, -math.inf, 0.0, -0.0)


@st.composite
def tensors(draw: st.DrawFn, dtypes: tuple[torch.dtype, ...] = FLOATS, special: bool = True) -> torch.Tensor:
    """A float tensor of 1 to 4 dimensions, any order of strides, some relu zeros, dead units and special values."""
    shape = draw(st.lists(st.integers(0, 7), min_size=1, max_size=4))
    if draw(st.booleans()):
        shape[0] *= draw(st.sampled_from([1, 30, 400]))  # beyond 64 samples, 256 features and one block of 4096
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    x = torch.randn(shape, generator=generator, dtype=torch.float64)
    x = x * draw(st.sampled_from([1.0, 1e-4, 30.0])) + draw(st.sampled_from([0.0, 1.0, -5.0]))
    if draw(st.booleans()):
        x = x.relu()
    if draw(st.booleans()):
        dim = draw(st.integers(0, x.ndim - 1))
        if x.shape[dim]:
            x.select(dim, draw(st.integers(0, x.shape[dim] - 1))).fill_(0.0)
    x = x.to(draw(st.sampled_from(dtypes)))
    if special and x.numel() and draw(st.booleans()):
        flat = x.view(-1)
        for value in draw(st.lists(st.sampled_from(SPECIAL), max_size=4)):
            flat[draw(st.integers(0, flat.numel() - 1))] = value
    return _restrided(draw, x)


def _restrided(draw: st.DrawFn, x: torch.Tensor) -> torch.Tensor:
    """The same values in another memory layout."""
    layout = draw(st.sampled_from(["contiguous", "permuted", "strided", "expanded", "flipped"]))
    if layout == "permuted":
        order = draw(st.permutations(range(x.ndim)))
        return x.permute(order).contiguous().permute([order.index(dim) for dim in range(x.ndim)])
    if layout == "strided":
        wide = torch.full((*x.shape[:-1], 2 * x.shape[-1]), math.nan, dtype=x.dtype)
        wide[..., ::2] = x
        return wide[..., ::2]
    if layout == "expanded":
        return x.unsqueeze(1).expand(x.shape[0], 3, *x.shape[1:])
    return x.flip(0) if layout == "flipped" else x
