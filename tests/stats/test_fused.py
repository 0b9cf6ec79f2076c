"""The CUDA kernel: on a GPU if there is one, else in Triton's interpreter; and compiled for GPUs that are not here."""

from __future__ import annotations

import contextlib
import importlib.util
import math
import os
import subprocess
import sys
from types import ModuleType
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from diag.stats import cuda
from diag.stats.fields import WIDTH
from tests.stats.test_paths import assert_agrees

WHY = "the kernel needs Triton, which comes with torch for CUDA: pip install 'diag[triton]'"


INTERPRETS = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cuda" if torch.cuda.is_available() and not INTERPRETS else "cpu"


@pytest.fixture(scope="module")
def plans() -> ModuleType:
    if DEVICE == "cpu" and not INTERPRETS:
        pytest.skip("run by test_in_the_interpreter, in a process in which Triton interprets from the start")
    return importlib.import_module("diag.stats.cuda_plan")


@pytest.mark.nightly
@pytest.mark.skipif(INTERPRETS or not importlib.util.find_spec("triton"), reason=WHY)
@pytest.mark.skipif(DEVICE == "cuda", reason="the GPU itself runs the kernel's tests")
def test_in_the_interpreter() -> None:
    environment = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", "-p", "no:cacheprovider", __file__]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
    assert "23 passed" in done.stdout, done.stdout[-500:]


def by_kernel(plans: ModuleType, row: torch.Tensor, x: torch.Tensor, **arguments: Any) -> torch.Tensor | None:
    saturation, *dims = (arguments.get(name) for name in ("saturation", "unit_dim", "sample_dim"))
    there, on = row.to(DEVICE), x.to(DEVICE)
    if saturation is not None:
        saturation = (on if saturation[0] is x else saturation[0].to(DEVICE), *saturation[1:])
    plan = plans.plan_for(there, on, saturation, *dims)
    mask: torch.Tensor | None = plan(there, on, saturation, *dims)
    if DEVICE == "cuda":
        first = there.clone(), None if mask is None else mask.clone()
        mask = plan(there.fill_(7.0), on, saturation, *dims)  # by the compiled kernel itself
        assert getattr(plan, "_plan", plan)._launch is not None
        assert torch.equal(first[0].nan_to_num(-1.0), there.nan_to_num(-1.0))
        assert mask is None or torch.equal(mask, first[1])
    row.copy_(there)
    return None if mask is None else mask.cpu()


def of_the_kernel(plans: ModuleType) -> Any:
    return lambda row, x, **arguments: by_kernel(plans, row, x, **arguments)


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # of numpy, which interprets
@given(data=st.data())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_agrees_with_reference(plans: ModuleType, data: st.DataObject) -> None:
    shape = data.draw(st.lists(st.integers(1, 9), min_size=1, max_size=4))
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 9)))
    dtype = data.draw(st.sampled_from([torch.float32, torch.bfloat16, torch.float16]))
    x = (torch.randn(shape, generator=generator) * data.draw(st.sampled_from([1e-3, 1.0, 50.0]))).to(dtype)
    x = x + data.draw(st.sampled_from([0.0, 3.0, -1000.0]))
    kind = data.draw(st.sampled_from(["as it is", "rectified", "constant", "not finite", "dead"]))
    if kind == "rectified":
        x = x.relu()
    elif kind == "constant":
        x = torch.full_like(x, 0.3)
    elif kind == "not finite":
        x = torch.where(torch.rand(shape, generator=generator) < 0.3, math.nan, x)
        x.view(-1)[0] = math.inf
    elif kind == "dead":
        x.zero_()
    unit_dim = data.draw(st.none() | st.integers(-len(shape), len(shape) - 1))
    sample_dim = data.draw(st.sampled_from([None, 0]))
    saturation = data.draw(st.sampled_from([None, (x, -math.inf, 0.0), (x, -0.5, 0.5), (x * 2, 0.25, math.inf)]))
    assert_agrees(of_the_kernel(plans), x, saturation=saturation, unit_dim=unit_dim, sample_dim=sample_dim)


@pytest.mark.parametrize("shape", [(130, 70), (40, 300, 9), (9000,), (3, 5, 40, 40)], ids=str)
@pytest.mark.parametrize("ratio", [0.0, 1000.0])
def test_larger_than_a_tile_far_from_zero(plans: ModuleType, shape: tuple[int, ...], ratio: float) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1)) + ratio
    dims = {"unit_dim": 1 if len(shape) > 1 else None, "sample_dim": 0}
    found = assert_agrees(of_the_kernel(plans), x, saturation=(x, -0.5, ratio), **dims)
    assert found.var == pytest.approx(x.double().numpy().var(), rel=1e-9)


def test_channels_last(plans: ModuleType) -> None:
    x = torch.randn(4, 6, 5, 5, generator=torch.Generator().manual_seed(2)).relu()
    x[:, 2] = 0
    x = x.to(memory_format=torch.channels_last)
    found = assert_agrees(of_the_kernel(plans), x, unit_dim=1)
    assert found.dead_units == 1


def test_what_does_not_suit_them(plans: ModuleType) -> None:
    row = torch.empty(WIDTH, dtype=torch.float64)
    ones = torch.ones(4, 6, device=DEVICE)
    row = row.to(DEVICE)
    plan = plans.plan_for(row, ones, None, 1, 0)
    assert isinstance(plan, plans.CudaPlan)
    for x in (ones.double(), ones[:0], ones.to(torch.complex64), ones.to_sparse()):
        assert plans.plan_for(row, x, None, None, None) is None
    assert plans.plan_for(row, ones, (ones.half(), 0.0, 1.0), 1, 0) is None
    assert plans.plan_for(row, ones, (ones[:2], 0.0, 1.0), 1, 0) is None
    for x, saturation, *dims in (
        (ones.half(), None, 1, 0),
        (ones.t(), None, 1, 0),
        (ones[:3], None, 1, 0),
        (ones, (ones, 0.0, 1.0), 1, 0),
        (ones, None, 0, 0),
    ):
        assert plan(row, x, saturation, *dims) is False, "the plan is for another kind"


@pytest.mark.parametrize("dtype", [torch.int16, torch.uint8, torch.bool, torch.float32, torch.int32, torch.int64])
def test_what_is_copied_first(plans: ModuleType, dtype: torch.dtype) -> None:
    most = {torch.int64: 2**40 + 1, torch.int32: 2**30 + 1, torch.int16: 9}.get(dtype, 3)
    x = torch.randint(0, most, (9, 8, 10), generator=torch.Generator().manual_seed(3)).to(dtype)[:, :, ::2]
    other = x.transpose(0, 1).contiguous().transpose(0, 1)
    for one in (x, other):
        assert_agrees(of_the_kernel(plans), one, saturation=(one, 0.0, 2.0), unit_dim=1, sample_dim=0)
    how = {"unit_dim": 2, "sample_dim": 1}
    assert_agrees(of_the_kernel(plans), other, saturation=(other.contiguous(), 1.0, 5.0), **how)


@pytest.mark.parametrize("dims", [(1, 0), (0, 1), (2, 1), (1, 2)], ids=str)
def test_samples_and_units_of_every_dimension_in_every_order(plans: ModuleType, dims: tuple[int, int]) -> None:
    x = torch.randn(7, 70, 12, generator=torch.Generator().manual_seed(4)).relu()
    x.select(dims[0], 3).zero_()
    for order in ((0, 1, 2), (1, 0, 2), (2, 1, 0)):
        laid = x.permute(order).contiguous().permute([order.index(one) for one in range(3)])
        found = assert_agrees(of_the_kernel(plans), laid, unit_dim=dims[0], sample_dim=dims[1])
        assert found.dead_units == 1


def test_dead_units_among_many(plans: ModuleType) -> None:
    for shape in ((300, 700), (40, 300, 9), (2, 5000), (3, 1030, 200)):
        x = torch.rand(shape, generator=torch.Generator().manual_seed(5)) + 0.1
        dead = torch.randperm(shape[1], generator=torch.Generator().manual_seed(6))[: shape[1] // 7]
        x[:, dead] = 0
        found = assert_agrees(of_the_kernel(plans), x, unit_dim=1)
        assert found.dead_units == shape[1] // 7


def test_kernels_that_fail_are_left_out_with_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = ModuleType("broken")

    def fail(*_: Any) -> None:
        raise RuntimeError("no compiler\nand more")

    broken.plan_for = fail  # type: ignore[attr-defined]
    monkeypatch.setattr(torch.cuda, "device", contextlib.nullcontext)
    monkeypatch.setattr(cuda._Kernels, "found", broken)
    monkeypatch.setattr(cuda._Kernels, "looked", True)
    row = torch.empty(WIDTH, dtype=torch.float64)
    with pytest.warns(RuntimeWarning, match=r"kernel failed \(RuntimeError: no compiler\); DIAG_BACKEND=torch"):
        cuda.measure(row, torch.tensor([1.0, 3.0]), None, None, None)
    assert row[1] == 2.0
    cuda.measure(row, torch.tensor([2.0, 4.0]), None, None, None)  # warns once
    assert row[1] == 3.0


_COMPILE = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from diag.stats import cuda_plan as plans, fused

def compile(kernel, constants, types, capability):
    names = kernel.arg_names
    signature = {name: "constexpr" if name in constants else types.get(name, "i32") for name in names}
    places = {(names.index(name),): value for name, value in constants.items()}
    source = ASTSource(fn=kernel, signature=signature, constexprs=places)
    made = triton.compile(source, target=GPUTarget("cuda", capability, 32))
    assert made.asm["cubin"], capability

sizes = dict(COMPARES=True, HAS_UNITS=True, WIDE=False, TILE=plans.TILE, PIECES=fused.MOST_PIECES, **plans._DEEP,
             SAMPLES=64, FEATURES=plans._FEATURES, BLOCKS=plans._BLOCKS)
types = {"row": "*fp64", "dead": "*i8", "parts": "*fp64", "alive": "*i32", "counter": "*i32",
         "low": "fp32", "high": "fp32", "offsets": "*i32"}
for capability in (75, 80, 90):
    for pointer in ("*fp32", "*bf16", "*i64"):
        sizes["WIDE"] = pointer == "*i64"
        compile(fused.measure, sizes, types | {"x": pointer, "t": pointer}, capability)
print("compiled")
"""


@pytest.mark.nightly
@pytest.mark.skipif(not importlib.util.find_spec("triton"), reason=WHY)
def test_they_compile_for_gpus_that_are_not_here() -> None:
    environment = {key: one for key, one in os.environ.items() if key != "TRITON_INTERPRET"}
    environment["PYTHONPATH"] = os.pathsep.join(p for p in sys.path if p)
    done = subprocess.run(
        [sys.executable, "-c", _COMPILE], capture_output=True, text=True, env=environment, check=False
    )
    assert done.stdout == "compiled\n", done.stderr[-4000:]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here")
def test_on_the_gpu() -> None:
    def path(row: torch.Tensor, x: torch.Tensor, **arguments: Any) -> torch.Tensor | None:
        how = [arguments.get(name) for name in ("saturation", "unit_dim", "sample_dim")]
        if how[0] is not None:
            how[0] = (x.cuda(), *how[0][1:])
        there = row.cuda()
        mask = cuda.measure(there, x.cuda(), *how)
        row.copy_(there)
        return None if mask is None else mask.cpu()

    x = torch.randn(300, 700, generator=torch.Generator().manual_seed(0)).relu()
    assert_agrees(path, x, saturation=(x, -math.inf, 0.0), unit_dim=1, sample_dim=0)
    assert cuda._Kernels.found is not None
