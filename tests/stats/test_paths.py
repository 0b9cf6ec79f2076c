"""Every path measures what the reference defines."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from diag.stats import device, host, host_plan, reference, torch_path
from diag.stats.fields import COUNT, DEAD_UNITS, FIELDS, M2, MEAN, NONFINITE, SAMPLE_VAR, UNITS, WIDTH, ZEROS
from diag.stats.tensor_stats import TensorStats
from diag.stats.twins import twin_rows
from tests.stats.strategies import tensors

Path = Callable[..., torch.Tensor | None]


def _device(row: torch.Tensor, x: torch.Tensor, **arguments: Any) -> torch.Tensor | None:
    """The way of other devices, walked on the CPU."""
    own = host.measure
    host.measure = device.measure
    try:
        return torch_path.measure_into(row, x, **arguments)
    finally:
        host.measure = own


def _compiled(row: torch.Tensor, x: torch.Tensor, **arguments: Any) -> torch.Tensor | None:
    pytest.importorskip("numba")
    from diag.stats import compiled

    return compiled.measure_into(row, x, **arguments)


def _planned(row: torch.Tensor, x: torch.Tensor, **arguments: Any) -> torch.Tensor | None:
    """As the second tensor of its kind, from where no mode of the user's sees it."""
    how = [arguments.get(name) for name in ("saturation", "unit_dim", "sample_dim")]
    with torch._C.DisableTorchFunction():
        plan = host_plan.plan_for(row, x, *how)
        mask = False if plan is None else plan(row, x, *how)
    return torch_path.measure_into(row, x, **arguments) if mask is False else mask


PATHS = [torch_path.measure_into, _planned, _device, _compiled]
every_path = pytest.mark.parametrize("path", PATHS, ids=["host", "planned", "device", "compiled"])


def measured(path: Path, x: torch.Tensor, **arguments: Any) -> tuple[TensorStats, torch.Tensor | None]:
    row = torch.full((WIDTH,), 7.0, dtype=torch.float64)
    mask = path(row, x, **arguments)
    return TensorStats.from_row(row.tolist()), mask


def assert_same(found: TensorStats, expected: TensorStats) -> None:
    """Counts exact, variances within 1e-5, the mean within a millionth of the rms."""
    for name in set(FIELDS) - {"mean", "m2", "sample_var"}:
        np.testing.assert_equal(getattr(found, name), getattr(expected, name), err_msg=name)
    np.testing.assert_allclose(found.m2, expected.m2, rtol=1e-5)
    np.testing.assert_allclose(found.mean, expected.mean, rtol=1e-6, atol=1e-6 * np.nan_to_num(expected.rms))
    np.testing.assert_allclose(found.sample_var, expected.sample_var, rtol=1e-5, atol=1e-300)


def assert_agrees(path: Path, x: torch.Tensor, **arguments: Any) -> TensorStats:
    found, mask = measured(path, x, **arguments)
    expected, expected_mask = reference.measure(x, **arguments)
    assert_same(found, expected)
    assert (mask is None) == (expected_mask is None)
    if mask is not None and expected_mask is not None:
        assert mask.dtype == torch.bool
        assert mask.tolist() == expected_mask.tolist()
    return found


@every_path
@given(data=st.data())
@settings(max_examples=100, deadline=None)
def test_agrees_with_reference(path: Path, data: st.DataObject) -> None:
    x = data.draw(tensors())
    dims = st.none() | st.integers(-x.ndim, x.ndim - 1)
    bound = st.sampled_from([-math.inf, -0.3, 0.0, 0.1, math.inf])
    saturation = (x, data.draw(bound), data.draw(bound)) if data.draw(st.booleans()) else None
    if saturation is not None and data.draw(st.booleans()):
        other = torch.randn(x.shape, generator=torch.Generator().manual_seed(1)).to(x.dtype)
        saturation = (other, -0.5, math.inf)
    assert_agrees(path, x, saturation=saturation, unit_dim=data.draw(dims), sample_dim=data.draw(dims))


@every_path
@pytest.mark.parametrize("ratio", [0.0, 1.0, 30.0, 1000.0, -1000.0])
@pytest.mark.parametrize("size", [50, 5000, 300_001])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16], ids=str)
def test_variance_is_exact_far_from_zero(path: Path, ratio: float, size: int, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(size)
    x = (torch.randn(size, generator=generator, dtype=torch.float64) + ratio).mul(0.037).to(dtype)
    stats, _ = measured(path, x)
    exact = x.double().numpy()
    assert stats.var == pytest.approx(exact.var(), rel=1e-5)
    assert stats.mean == pytest.approx(exact.mean(), rel=1e-6, abs=1e-7)


@every_path
def test_variance_of_a_signal_that_drifts(path: Path) -> None:
    """Blocks whose means differ by more than their spread: a pilot for the whole tensor would cancel."""
    x = torch.linspace(-50.0, 1000.0, 400_000) + torch.randn(400_000, generator=torch.Generator().manual_seed(3))
    stats, _ = measured(path, x)
    assert stats.var == pytest.approx(x.double().numpy().var(), rel=1e-5)


@every_path
@pytest.mark.parametrize("scale", [1e-30, 1e-43, 1e30, 3e38])
def test_float32_squares_that_leave_the_range(path: Path, scale: float) -> None:
    x = torch.rand(3000, generator=torch.Generator().manual_seed(0), dtype=torch.float64).mul(2).sub(1).mul(scale)
    x = x.float()
    stats, _ = measured(path, x)
    assert stats.rms == pytest.approx(np.sqrt(np.mean(x.double().numpy() ** 2)), rel=1e-5)
    assert stats.nonfinite == 0


@every_path
@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_float64_squares_that_leave_the_range(path: Path, scale: float) -> None:
    x = torch.tensor([1.0, -1.0, 2.0, 0.5], dtype=torch.float64) * scale
    stats, _ = measured(path, x)
    assert stats.mean == pytest.approx(0.625 * scale, rel=1e-12)
    assert (stats.min, stats.max) == (-scale, 2 * scale)
    assert stats.m2 == (0.0 if scale < 1 else math.inf)


@every_path
@pytest.mark.parametrize(
    "dtype",
    [torch.bool, torch.uint8, torch.int64, torch.int32, torch.complex64, torch.complex128, torch.float8_e4m3fn],
    ids=str,
)
def test_other_dtypes(path: Path, dtype: torch.dtype) -> None:
    values = torch.tensor([[0.0, 3.0, 0.0, 1.0], [0.0, 2.0, 5.0, 0.0], [0.0, 8.0, 1.0, 1.0]])
    x = (values + 1j * values.roll(1)).to(dtype) if dtype.is_complex else values.to(dtype)
    stats = assert_agrees(path, x, unit_dim=1, sample_dim=0)
    if not dtype.is_complex:
        assert (stats.zeros, stats.dead_units) == (5, 1)


@every_path
def test_wide_integers_keep_their_digits(path: Path) -> None:
    stats, _ = measured(path, torch.tensor([2**24, 2**24 + 1]))
    assert (stats.min, stats.max, stats.var) == (2**24, 2**24 + 1, 0.25)


@every_path
def test_half_precision_sums_do_not_overflow(path: Path) -> None:
    stats, _ = measured(path, torch.full((4096,), 60000.0, dtype=torch.float16))
    assert (stats.mean, stats.var) == (60000.0 - 60000.0 % 32, 0.0)


@every_path
def test_no_dimensions(path: Path) -> None:
    stats, mask = measured(path, torch.tensor(3.0), unit_dim=0, sample_dim=0)
    assert (stats.count, stats.mean, stats.var, stats.min, stats.max) == (1, 3.0, 0.0, 3.0, 3.0)
    assert mask is None and math.isnan(stats.units) and math.isnan(stats.sample_var)


@every_path
@pytest.mark.parametrize("shape", [(0,), (0, 3), (4, 0)])
def test_empty(path: Path, shape: tuple[int, ...]) -> None:
    x = torch.empty(shape)
    stats = assert_agrees(path, x, saturation=(x, 0.0, 1.0), unit_dim=-1, sample_dim=0)
    assert (stats.count, stats.m2, stats.zeros, stats.saturated) == (0, 0, 0, 0)
    assert math.isnan(stats.mean) and math.isnan(stats.min) and math.isnan(stats.dead_units)


@every_path
def test_nothing_finite(path: Path) -> None:
    x = torch.tensor([[math.nan, math.inf], [-math.inf, math.nan]])
    stats = assert_agrees(path, x, saturation=(x, -1.0, 1.0), unit_dim=1, sample_dim=0)
    assert (stats.count, stats.nonfinite, stats.saturated, stats.dead_units) == (4, 4, 0, 0)
    assert math.isnan(stats.mean) and math.isnan(stats.var) and math.isnan(stats.zero_fraction)


@every_path
def test_negative_zero_is_zero_and_dead(path: Path) -> None:
    x = torch.tensor([[-0.0, 1.0], [0.0, -2.0]])
    stats = assert_agrees(path, x, unit_dim=1)
    assert (stats.zeros, stats.dead_units) == (2, 1)


@every_path
def test_dead_units_are_not_zero_elements(path: Path) -> None:
    """Half of the elements zero and no unit dead; few elements zero and a unit dead."""
    alive = torch.eye(6).repeat(20, 1)
    assert assert_agrees(path, alive, unit_dim=1).dead_units == 0
    dead = torch.ones(120, 6)
    dead[:, 2] = 0
    assert assert_agrees(path, dead, unit_dim=1).dead_units == 1
    late = torch.zeros(120, 6)
    late[119] = 1.0
    late[119, 4] = math.nan
    late[119, 5] = 0.0
    assert assert_agrees(path, late, unit_dim=1).dead_units == 1


@every_path
def test_channels(path: Path) -> None:
    x = torch.randn(5, 8, 6, 7, generator=torch.Generator().manual_seed(2)).relu()
    x[:, 3] = 0
    for tensor in (x, x.to(memory_format=torch.channels_last), x.double(), x.bfloat16()):
        assert assert_agrees(path, tensor, unit_dim=1, sample_dim=0).dead_units == 1


@every_path
def test_identical_samples_have_exactly_no_variance(path: Path) -> None:
    x = (torch.randn(1, 500, generator=torch.Generator().manual_seed(4)) + 1e4).repeat(100, 1)
    stats, _ = measured(path, x, sample_dim=0)
    assert stats.sample_var == 0.0
    assert stats.var > 0.5


@every_path
@pytest.mark.parametrize("far", [10.0, 1e3, 1e6])
def test_sample_variance_where_the_first_sample_lies_far_from_the_others(path: Path, far: float) -> None:
    x = torch.randn(60, 33, generator=torch.Generator().manual_seed(2))
    x[0] += far
    assert_agrees(path, x, sample_dim=0)
    x[1:] *= 1e-3 / far
    x[1:] += far
    assert_agrees(path, x, sample_dim=0)


@every_path
@pytest.mark.parametrize("shape", [(100, 9), (33, 300), (5, 7, 11), (16, 40), (17, 40)])
def test_units_that_wake_in_the_last_row_are_not_dead(path: Path, shape: tuple[int, ...]) -> None:
    x = torch.zeros(shape)
    x[-1, 1], x[0, 2], x[:, 3] = 1e-44, -1.0, -0.0  # the smallest number is no zero, a negative zero is one
    stats = assert_agrees(path, x, unit_dim=1)
    assert stats.dead_units == shape[1] - 2


@every_path
def test_one_sample_has_no_variance(path: Path) -> None:
    assert math.isnan(measured(path, torch.randn(1, 5), sample_dim=0)[0].sample_var)
    assert math.isnan(measured(path, torch.randn(5, 5))[0].sample_var)


@every_path
def test_sample_variance_leaves_non_finite_features_out(path: Path) -> None:
    x = torch.tensor([[1.0, math.nan, 0.0], [3.0, 1.0, 0.0]])
    assert measured(path, x, sample_dim=0)[0].sample_var == 0.5


@every_path
@pytest.mark.filterwarnings("ignore:Sparse")
@pytest.mark.parametrize("layout", ["coo", "uncoalesced", "hybrid", "csr", "empty"])
def test_sparse(path: Path, layout: str) -> None:
    x = torch.zeros(6, 5)
    x[1, 2], x[3, 0], x[3, 3] = 2.0, -1.0, 4.0
    sparse = {
        "coo": x.to_sparse,
        "uncoalesced": lambda: torch.sparse_coo_tensor([[1, 1, 3, 3], [2, 2, 0, 3]], [1.5, 0.5, -1.0, 4.0], (6, 5)),
        "hybrid": lambda: x.to_sparse(1),
        "csr": x.to_sparse_csr,
        "empty": lambda: torch.sparse_coo_tensor(torch.empty(2, 0), [], (6, 5)),
    }[layout]()
    dense = torch.zeros(6, 5) if layout == "empty" else x
    assert_same(measured(path, sparse)[0], reference.measure(dense)[0])
    arguments = {"unit_dim": 1, "sample_dim": 0}
    assert_same(measured(path, sparse, **arguments)[0], reference.measure(dense, **arguments)[0])


@every_path
def test_meta_is_only_counted(path: Path) -> None:
    stats, mask = measured(path, torch.empty(3, 4, device="meta"), unit_dim=1)
    assert stats.count == 12 and mask is None
    assert all(math.isnan(value) for value in stats.to_row()[1:])
    assert reference.measure(torch.empty(3, 4, device="meta"))[0].count == 12


@every_path
def test_bounds_are_held_as_the_tensor_holds_them(path: Path) -> None:
    """hardtanh(max_val=0.1) in bfloat16 yields bfloat16(0.1), which is above float32(0.1) and below float16(0.1)."""
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        y = torch.nn.functional.hardtanh(torch.linspace(-1, 1, 200).to(dtype), -0.1, 0.1)
        stats = assert_agrees(path, y, saturation=(y, -0.1, 0.1))
        assert stats.saturated == 180


@every_path
def test_saturation_of_another_shape_is_not_measured(path: Path) -> None:
    x = torch.randn(4, 6)
    assert math.isnan(measured(path, x, saturation=(torch.randn(4, 12), 0.0, 1.0))[0].saturated)


@every_path
def test_leaves_no_trace(path: Path) -> None:
    """The random state, the input, the gradient mode and the graph are as before."""
    x = torch.randn(40, 50, requires_grad=True)
    before, state, version = x.detach().clone(), torch.get_rng_state(), x._version
    y = x.tanh()
    _, mask = measured(path, y, saturation=(y, -0.9, 0.9), unit_dim=1, sample_dim=0)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(x, before) and x._version == version
    assert torch.is_grad_enabled() and mask is not None and not mask.requires_grad
    y.sum().backward()
    assert x.grad is not None


class Refuses(torch.overrides.TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise AssertionError(f"{func} was seen by the user's mode")


@every_path
def test_is_invisible_to_function_modes(path: Path) -> None:
    x = torch.randn(30, 20)
    x[0, 0] = math.nan
    row = torch.empty(WIDTH, dtype=torch.float64)
    plain = torch.empty(WIDTH, dtype=torch.float64)
    with Refuses():
        path(row, x, saturation=(x, 0.0, 1.0), unit_dim=1, sample_dim=0)
        path(plain, x)
        twins = twin_rows(x)
    assert row[NONFINITE] == 1 and plain[NONFINITE] == 1 and float(twins) == 0


@every_path
def test_autocast_changes_nothing(path: Path) -> None:
    x = torch.randn(64, 64, generator=torch.Generator().manual_seed(6)) + 100
    arguments = {"saturation": (x, 99.0, 101.0), "unit_dim": 1, "sample_dim": 0}
    outside, _ = measured(path, x, **arguments)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside, _ = measured(path, x, **arguments)
        assert torch.is_autocast_enabled("cpu")
    np.testing.assert_array_equal(inside.to_row(), outside.to_row())


@every_path
def test_inference_tensors(path: Path) -> None:
    row = torch.empty(WIDTH, dtype=torch.float64)
    with torch.inference_mode():
        path(row, torch.ones(4, 4), unit_dim=1)
    assert row[[COUNT, MEAN, M2, ZEROS, UNITS, DEAD_UNITS]].tolist() == [16, 1, 0, 0, 4, 0]


class NoReading(TorchDispatchMode):
    """Fails on every operation that would make the host wait for the device."""

    waits = ("_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "equal.default", "unique")

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(func)
        assert not any(wait in name for wait in self.waits), f"{name} waits for the device"
        if name == "aten.index.Tensor":
            assert all(index is None or index.dtype == torch.int64 for index in args[1]), "a mask as index waits"
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.complex64], ids=str)
def test_device_path_never_waits(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "DEVICE_BLOCK", 500)
    x = torch.randn(20, 7, 3, 5).to(dtype)
    for tensor in (x, x.permute(2, 0, 3, 1)):
        arguments = {"saturation": (tensor, -0.5, 0.5), "unit_dim": 1, "sample_dim": 0}
        assert_agrees(_device, tensor, **arguments)
        with NoReading():
            _device(torch.empty(WIDTH, dtype=torch.float64), tensor, **arguments)


@pytest.mark.parametrize("part", ["some", "first", "all"])
def test_device_blocks_without_finite_elements(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "DEVICE_BLOCK", 10)
    x = torch.linspace(-1, 3, 35)
    x[{"some": slice(12, 15), "first": slice(0, 10), "all": slice(None)}[part]] = math.nan
    assert_agrees(_device, x)


@every_path
def test_permutation_invariance(path: Path) -> None:
    generator = torch.Generator().manual_seed(8)
    x = torch.randn(130, 70, generator=generator)
    shuffled = x.view(-1)[torch.randperm(x.numel(), generator=generator)].view(130, 70)
    assert_same(measured(path, shuffled)[0], measured(path, x)[0])


@every_path
@given(factor=st.sampled_from([-8.0, -1.0, 0.25, 1024.0]), shift=st.sampled_from([0.0, 3.0, -100.0]))
@settings(max_examples=12, deadline=None)
def test_scaling_laws(path: Path, factor: float, shift: float) -> None:
    """x -> a x + b: mean -> a mean + b, var -> a^2 var, sample variance -> a^2; min and max swap for a < 0."""
    x = torch.randn(90, 60, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    one, _ = measured(path, x, sample_dim=0)
    two, _ = measured(path, x * factor + shift, sample_dim=0)
    assert two.mean == pytest.approx(factor * one.mean + shift, rel=1e-9, abs=1e-9)
    assert two.var == pytest.approx(factor**2 * one.var, rel=1e-9)
    assert two.sample_var == pytest.approx(factor**2 * one.sample_var, rel=1e-9)
    ends = sorted([factor * one.min + shift, factor * one.max + shift])
    assert [two.min, two.max] == pytest.approx(ends)
    assert float(two.to_row()[SAMPLE_VAR]) == two.sample_var
