"""The CUDA kernels, in Triton's interpreter on the CPU, and compiled for GPUs that need not be there."""

from __future__ import annotations

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

WHY = "the kernels need Triton, which comes with torch for CUDA: pip install 'diag[triton]'"


INTERPRETS = os.environ.get("TRITON_INTERPRET") == "1"


@pytest.fixture(scope="module")
def fused() -> ModuleType:
    if not INTERPRETS:
        pytest.skip("run by test_in_the_interpreter, in a process in which Triton interprets from the start")
    return importlib.import_module("diag.stats.fused")


@pytest.mark.nightly
@pytest.mark.skipif(INTERPRETS or not importlib.util.find_spec("triton"), reason=WHY)
def test_in_the_interpreter() -> None:
    environment = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", "-p", "no:cacheprovider", __file__]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
    assert "12 passed" in done.stdout, done.stdout[-500:]


def by_kernels(fused: ModuleType, row: torch.Tensor, x: torch.Tensor, **arguments: Any) -> torch.Tensor | None:
    how = [arguments.get(name) for name in ("saturation", "unit_dim", "sample_dim")]
    assert fused.suits(row, x, *how)
    mask: torch.Tensor | None = fused.measure(row, x, *how)
    return mask


def of_the_kernels(fused: ModuleType) -> Any:
    return lambda row, x, **arguments: by_kernels(fused, row, x, **arguments)


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # of numpy, which interprets
@given(data=st.data())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_agrees_with_reference(fused: ModuleType, data: st.DataObject) -> None:
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
    assert_agrees(of_the_kernels(fused), x, saturation=saturation, unit_dim=unit_dim, sample_dim=sample_dim)


@pytest.mark.parametrize("shape", [(130, 70), (40, 300, 9), (9000,), (3, 5, 40, 40)], ids=str)
@pytest.mark.parametrize("ratio", [0.0, 1000.0])
def test_larger_than_a_tile_far_from_zero(fused: ModuleType, shape: tuple[int, ...], ratio: float) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1)) + ratio
    dims = {"unit_dim": 1 if len(shape) > 1 else None, "sample_dim": 0}
    found = assert_agrees(of_the_kernels(fused), x, saturation=(x, -0.5, ratio), **dims)
    assert found.var == pytest.approx(x.double().numpy().var(), rel=1e-9)


def test_channels_last(fused: ModuleType) -> None:
    x = torch.randn(4, 6, 5, 5, generator=torch.Generator().manual_seed(2)).relu()
    x[:, 2] = 0
    x = x.to(memory_format=torch.channels_last)
    found = assert_agrees(of_the_kernels(fused), x, unit_dim=1)
    assert found.dead_units == 1


def test_what_does_not_suit_them(fused: ModuleType) -> None:
    row = torch.empty(WIDTH, dtype=torch.float64)
    ones = torch.ones(4, 6)
    assert fused.suits(row, ones, None, 1, 0)
    for x in (ones.double(), ones.int(), ones[:, ::2], ones[:0], torch.tensor(1.0), ones.to(torch.complex64)):
        assert not fused.suits(row, x, None, None, None)
    assert not fused.suits(row, ones, None, 0, 1), "samples that do not come first"
    assert not fused.suits(row, ones, (torch.ones(6, 4).t(), 0.0, 1.0), 1, 0), "a comparison in another order"


def test_kernels_that_fail_are_left_out_with_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = ModuleType("broken")
    broken.suits = lambda *_: True  # type: ignore[attr-defined]

    def fail(*_: Any) -> None:
        raise RuntimeError("no compiler\nand more")

    broken.measure = fail  # type: ignore[attr-defined]
    monkeypatch.setattr(cuda._Kernels, "found", broken)
    monkeypatch.setattr(cuda._Kernels, "looked", True)
    row = torch.empty(WIDTH, dtype=torch.float64)
    with pytest.warns(RuntimeWarning, match=r"kernels failed \(RuntimeError: no compiler\); DIAG_BACKEND=torch"):
        cuda.measure(row, torch.tensor([1.0, 3.0]), None, None, None)
    assert row[1] == 2.0
    cuda.measure(row, torch.tensor([2.0, 4.0]), None, None, None)  # warns once
    assert row[1] == 3.0


_COMPILE = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from diag.stats import fused

def compile(kernel, constants, types, capability):
    names = kernel.arg_names
    signature = {name: "constexpr" if name in constants else types.get(name, "i32") for name in names}
    places = {(names.index(name),): value for name, value in constants.items()}
    source = ASTSource(fn=kernel, signature=signature, constexprs=places)
    made = triton.compile(source, target=GPUTarget("cuda", capability, 32))
    assert made.asm["cubin"], capability

for capability in (75, 80, 90):
    for pointer in ("*fp32", "*bf16"):
        sizes = dict(COMPARES=True, TILE=fused.TILE, UNITS=64, INNER=64, SAMPLES=64, FEATURES=32)
        types = {"x": pointer, "t": pointer, "parts": "*fp64", "spreads": "*fp64", "dead": "*i8"}
        compile(fused._read, sizes, types | {"low": "fp32", "high": "fp32"}, capability)
    kinds = dict(COMPARES=True, HAS_UNITS=True, HAS_SAMPLES=True, TILE=fused.TILE)
    types = {"parts": "*fp64", "spreads": "*fp64", "row": "*fp64", "dead": "*i8"}
    compile(fused._put_together, kinds, types, capability)
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
    assert done.stdout == "compiled\n", done.stderr[-2000:]


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
