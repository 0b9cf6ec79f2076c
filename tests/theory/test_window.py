from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from diag.theory.window import Window, window_of


@pytest.mark.parametrize(
    ("inputs", "kernel", "stride", "padding"),
    [((8, 8), (3, 3), 1, 1), ((9, 7), (3, 5), 2, 1), ((12, 6), (4, 2), 2, 0), ((5, 5), (1, 1), 1, 0)],
)
def test_gather_and_scatter_are_a_convolution_of_ones_and_its_transpose(
    inputs: tuple[int, int], kernel: tuple[int, int], stride: int, padding: int
) -> None:
    ones = torch.ones(1, 1, *kernel, dtype=torch.float64) / (kernel[0] * kernel[1])
    image = torch.rand(1, 1, *inputs, dtype=torch.float64, requires_grad=True)
    out = F.conv2d(image, ones, stride=stride, padding=padding)
    weights = torch.rand_like(out)
    (back,) = torch.autograd.grad(out, image, weights)
    window = window_of(inputs, (out.shape[2], out.shape[3]), kernel)
    assert window == Window(inputs, (out.shape[2], out.shape[3]), kernel, (stride,) * 2, (padding,) * 2)
    np.testing.assert_allclose(window.gather(image.detach().numpy()[0, 0]), out.detach().numpy()[0, 0], rtol=1e-12)
    np.testing.assert_allclose(window.scatter(weights.numpy()[0, 0]), back.numpy()[0, 0], rtol=1e-12)


def test_what_no_stride_and_padding_explain_has_no_window() -> None:
    assert window_of((4,), (9,), (3,)) is None
    assert window_of((8, 8), (8, 20), (3, 3)) is None
