"""A workload for a module alone: random inputs, and random gradients at its outputs."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from diag.errors import DiagError, TargetError, nearest
from diag.train.workload import Workload

BATCHES = 4
SEED = 0
_MOST_DIGITS = 18
"""Of a size: torch counts elements in 63 bits."""

DTYPES = {
    "float32": torch.float32,
    "float64": torch.float64,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "complex64": torch.complex64,
    "int64": torch.int64,
    "int32": torch.int32,
    "uint8": torch.uint8,
    "bool": torch.bool,
}

SYNTAX = "expected sizes such as 32x784, 8x128:int64 for token ids, inputs separated by ;"


@dataclasses.dataclass(frozen=True)
class Input:
    """One input of a model: its shape, batch first, and its dtype; None for the dtype of the model's parameters."""

    shape: tuple[int, ...]
    dtype: torch.dtype | None = None

    def __str__(self) -> str:
        text = "x".join(map(str, self.shape))
        return text if self.dtype is None else f"{text}:{str(self.dtype).removeprefix('torch.')}"


def parse_shapes(text: str) -> tuple[Input, ...]:
    """The inputs that `text` names: `32x784`, `32,784`, `8x128:int64`, or several of them separated by `;`.

    Raises: TargetError if the text is no such thing or names an unknown dtype.
    """
    return tuple(_parse_one(part.strip(), text) for part in text.split(";"))


def _parse_one(part: str, text: str) -> Input:
    sizes, separator, dtype = part.partition(":")
    dtype = dtype.strip()
    if separator and dtype not in DTYPES:
        raise TargetError(
            f"--input '{text}': unknown dtype '{dtype}'{nearest(dtype, DTYPES)}; known are {', '.join(DTYPES)}"
        )
    if "x" in sizes and "," in sizes:
        raise TargetError(
            f"--input '{text}' mixes 'x' and ',': expected one of them between sizes, and ';' between several inputs,"
            f" as in '{text.replace(',', ';')}'"
        )
    numbers = [one.strip() for one in sizes.replace("x", ",").split(",")]
    if not all(one.isascii() and one.isdigit() for one in numbers):
        raise TargetError(f"--input '{text}' is no shape: {SYNTAX}")
    if any(len(one.lstrip("0")) > _MOST_DIGITS for one in numbers):
        raise TargetError(f"--input '{text}' has a size of more than {_MOST_DIGITS} digits: no tensor is as large")
    shape = tuple(map(int, numbers))
    if 0 in shape:
        raise TargetError(f"--input '{text}' has a size of 0: every size must be at least 1")
    return Input(shape, DTYPES[dtype] if separator else None)


def bare_workload(model: torch.nn.Module, inputs: tuple[Input, ...]) -> Workload:
    """A workload whose loss is the sum over outputs y of <y, g>, with g fixed, random, of variance 1 / numel(y).

    So every output is given a random gradient of unit expected norm. Inputs are standard normal; integer ones are
    uniform in [0, n) with n the smallest table of the model's embeddings, or 2. There is no optimizer: the network is
    judged at initialization. Nothing is drawn from torch's global generator.

    Raises: TargetError where the inputs find no room in memory.
    """
    generator = torch.Generator().manual_seed(SEED)
    batches = [tuple(_drawn(one, model, generator) for one in inputs) for _ in range(BATCHES)]
    return Workload(model, batches, _Loss(inputs))


def _drawn(one: Input, model: torch.nn.Module, generator: torch.Generator) -> torch.Tensor:
    try:
        return _draw(one, model, generator)
    except (RuntimeError, MemoryError) as error:
        raise TargetError(
            f"--input {one} cannot be drawn: {BATCHES} batches of {math.prod(one.shape):,} elements are needed, and "
            f"there is no memory for them ({_first_line(error)}): give smaller sizes"
        ) from error


def _draw(one: Input, model: torch.nn.Module, generator: torch.Generator) -> torch.Tensor:
    reference = next((p for p in model.parameters() if p.is_floating_point()), None)
    device = next(model.parameters()).device
    dtype = one.dtype or (reference.dtype if reference is not None else torch.get_default_dtype())
    if dtype.is_floating_point or dtype.is_complex:
        drawn = torch.float64 if dtype is torch.float64 else torch.complex64 if dtype.is_complex else torch.float32
        return torch.randn(one.shape, generator=generator, dtype=drawn).to(device, dtype)
    high = 2 if dtype is torch.bool else min(_smallest_table(model), torch.iinfo(dtype).max)
    return torch.randint(0, high, one.shape, generator=generator).to(device, dtype)


def _smallest_table(model: torch.nn.Module) -> int:
    tables = (one for one in model.modules() if isinstance(one, (torch.nn.Embedding, torch.nn.EmbeddingBag)))
    return min((one.num_embeddings for one in tables), default=2)


class _Loss:
    """The sum of <output, fixed random tensor>; a class so that it pickles."""

    def __init__(self, inputs: tuple[Input, ...]) -> None:
        self.inputs = inputs

    def __call__(self, model: torch.nn.Module, batch: tuple[torch.Tensor, ...]) -> torch.Tensor:
        outputs = [one for one in _tensors(self._forward(model, batch)) if one.requires_grad and one.numel()]
        if not outputs:
            raise TargetError(
                f"{type(model).__name__} returns no float tensor that depends on its parameters: "
                "nothing can be differentiated; return a diag.Workload with a loss"
            )
        generator = torch.Generator().manual_seed(SEED)
        wide = any(output.dtype in (torch.float64, torch.complex128) for output in outputs)
        total = torch.zeros((), device=outputs[0].device, dtype=torch.float64 if wide else torch.float32)
        for output in outputs:
            real = torch.view_as_real(output) if output.is_complex() else output
            weight = torch.randn(real.shape, generator=generator) / math.sqrt(real.numel())
            total = total + (real * weight.to(real.device, real.dtype)).sum().to(total)
        return total

    def _forward(self, model: torch.nn.Module, batch: tuple[torch.Tensor, ...]) -> Any:
        try:
            return model(*batch)
        except DiagError:
            raise
        except Exception as error:
            raise TargetError(
                f"--input {self._shown()} does not fit {type(model).__name__}: {_first_line(error)}{self._hint(model)}"
            ) from error

    def _shown(self) -> str:
        return ";".join(map(str, self.inputs))

    def _hint(self, model: torch.nn.Module) -> str:
        if all(one.dtype is None for one in self.inputs) and any(
            isinstance(m, torch.nn.Embedding) for m in model.modules()
        ):
            return f" (for token ids, try --input {self.inputs[0]}:int64)"
        return ""


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    """The tensors in nested tuples, lists, dicts and dataclasses."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from _tensors(one)
    elif isinstance(value, (tuple, list)):
        for one in value:
            yield from _tensors(one)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            yield from _tensors(getattr(value, field.name))
