"""What is known of a module that is called, and of the tensors that come out of a call."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import CheckpointFunction

from diag.probe import ops
from diag.probe.tensors import is_measurable
from diag.stats.saturation import Bounds, bounds_for

_CHECKPOINT_CODE = CheckpointFunction.forward.__code__
INNER = frozenset({"parametrizations", "_packed_params"})
"""Children that hold a module's weight, computed or quantized: with them alone it is still a leaf."""


@dataclass(slots=True)
class Spot:
    """What is known of one output, as long as its shape stays: nothing of it has to be found out again.

    placed: its site has its place in the order.
    """

    site: int
    shape: torch.Size
    device: torch.device
    unit_dim: int | None
    sample_dim: int | None
    placed: bool = False


@dataclass(frozen=True)
class Frame:
    """What is known of a module that is called.

    leaf: its output is measured. opaque: what happens inside belongs to it. single: it owns one matrix, so that the
    one product inside is its output. quiet: no function runs in it but those of what it contains. spots: its outputs,
    by their suffix. direct: its output alone tells what is to be measured. see: takes in an output, see `quick`.
    """

    module: nn.Module
    root: int
    path: str
    leaf: bool
    opaque: bool
    single: bool
    op: str
    role: str
    bounds: Bounds | None
    children: int
    quiet: bool = False
    spots: dict[str, Spot] = field(default_factory=dict)
    direct: bool = False
    see: Callable[[Any], bool] | None = None


def loss_frame(module: nn.Module, root: int) -> Frame:
    """What stands for a loss: nothing of it is a model's, but it is told with the one whose output it judges."""
    return Frame(module, root, "loss", False, False, False, "", "other", None, 0)


def describe(module: nn.Module, root: int, path: str) -> Frame:
    """What is known of a watched module."""
    children = [name for name, _ in module.named_children()]
    # Attention calls no child; the children of a scripted module run where no hook sees them.
    closed = isinstance(module, (nn.MultiheadAttention, torch.jit.ScriptModule))
    leaf = closed or not set(children) - INNER
    op = ops.module_op(module)
    # What computes swish, a sigmoid as a rule, is saturated where swish is steepest.
    known = closed or type(module).__module__.startswith("torch.nn") or "parametrizations" in children or op == "swish"
    role = ops.module_role(module, op)
    bounds = bounds_for(op, **ops.module_slope_parameters(module, op)) if role == "nonlinearity" else None
    single = leaf and sum(p.ndim >= 2 for p in module.parameters(recurse=False)) == 1
    opaque = leaf and known
    quiet = opaque or type(module).forward is nn.Sequential.forward
    return Frame(
        module,
        root,
        path,
        leaf,
        opaque,
        single,
        op,
        role,
        bounds,
        len(module._modules),
        quiet,
        direct=leaf and (bounds is None or bounds.on == "output"),
    )


def saturation_of(bounds: Bounds | None, output: torch.Tensor, source: Any) -> tuple[torch.Tensor, float, float] | None:
    """What to compare with which bounds to tell saturated elements; None where that cannot be known."""
    if bounds is None:
        return None
    if bounds.on == "output":
        return output, bounds.low, bounds.high
    if not isinstance(source, torch.Tensor) or source.shape != output.shape or not is_measurable(source):
        return None
    # An in-place operation has overwritten its input, so what it was cannot be known.
    if source.data_ptr() == output.data_ptr():
        return None
    return source, bounds.low, bounds.high


def source_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What a call was given first."""
    return args[0] if args else next(iter(kwargs.values()), None)


def without_view(op: str, output: torch.Tensor) -> torch.Tensor:
    """What has the same gradient as an output and keeps it: of more than two dimensions, a linear layer gives a view of
    its own product, and an operation in place would take the view, and every hook on it, out of the graph."""
    if op != "linear" or not output._is_view():
        return output
    base = output._base
    return base if base is not None and base.requires_grad and base.numel() == output.numel() else output


def sample_dim_of(module: nn.Module, suffix: str, tensor: torch.Tensor, unit_dim: int | None) -> int | None:
    """The dimension of the samples: the first, but for what torch's own sequence modules return."""
    if tensor.ndim < 2 or (unit_dim is not None and unit_dim % tensor.ndim == 0):
        return None
    if tensor.ndim == 3 and isinstance(module, nn.RNNBase):
        # The states that follow the output are (layers, batch, units) whatever batch_first says.
        return 0 if module.batch_first and not suffix else 1
    if tensor.ndim == 3 and isinstance(module, nn.MultiheadAttention):
        return 0 if module.batch_first or suffix else 1
    return 0


def is_parametrization(path: str) -> bool:
    """Whether a path leads into what computes a parametrized weight."""
    return "parametrizations" in path.split(".")


def in_reentrant_checkpoint() -> bool:
    """Whether the caller is a checkpoint that runs without a graph now and with one in backward."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code is _CHECKPOINT_CODE:
            return True
        frame = frame.f_back
    return False
