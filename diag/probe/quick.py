"""Leaves whose output is like the one before it: their calls are told in as few steps of Python as there are.

Hooks cost a small network more than the numbers do. What the first passes have found out of a leaf and of its gradient
is bound into two functions; whatever they do not expect goes the long way, through `Forward` and `Recorder`.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch._C._functorch import is_functorch_wrapped_tensor, peek_interpreter_stack

from diag.probe.backward import Backward
from diag.probe.frames import Frame, Spot, without_view
from diag.probe.recorder import ACTIVATION, GRADIENT, Meter, Recorder

_BUSY = torch._C._len_torch_function_stack


class Quick:
    """The hooks in front of `enter` and `leave`, which are called for all that is not known here.

    stack: the modules being called. frames: what is known of modules, by identity. thread: the one
    whose calls are measured; 0 for none.
    """

    def __init__(
        self,
        recorder: Recorder,
        backward: Backward,
        stack: list[Frame | None],
        enter: Callable[..., None],
        leave: Callable[..., None],
    ) -> None:
        self._recorder, self._backward = recorder, backward
        self._stack, self._enter, self._leave = stack, enter, leave
        self._known: dict[int, Frame] = {}
        self.frames: dict[int, Frame] = {}
        self.thread = 0

    def forget(self) -> None:
        """Modules may have other paths now."""
        self._known.clear()
        self.frames.clear()

    def enter(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        """A module is called."""
        frame, stack = self._known.get(id(module)), self._stack
        if frame is not None and stack:
            top = stack[-1]
            if (
                top is not None
                and not top.opaque
                and threading.get_ident() == self.thread
                and not module._modules
                and not module._forward_hooks  # which run after ours, and may change what it puts out
                and torch._C._get_tracing_state() is None
                and not torch.compiler.is_compiling()
            ):
                stack.append(frame)
                return
        self._enter(module, args)

    def leave(self, module: nn.Module, args: tuple[Any, ...], *rest: Any) -> None:
        """It returns, with keywords and an output, or has raised."""
        stack = self._stack
        frame = stack[-1] if stack else None
        if (
            frame is not None
            and frame.see is not None
            and frame.module is module
            and len(rest) == 2
            and threading.get_ident() == self.thread
            and frame.see(rest[1])
        ):
            stack.pop()
            return
        self._leave(module, args, *rest)

    def learn(self, frame: Frame) -> None:
        """A leaf was told the long way: next time it need not be, if its output and gradient have been measured."""
        self._known.pop(id(frame.module), None)
        spot = frame.spots.get("")
        if spot is None or not (spot.placed and frame.opaque and frame.direct) or frame.children:
            return
        output = self._recorder.meter(spot.site, ACTIVATION)
        gradient = self._recorder.meter(spot.site, GRADIENT)
        if frame.op != "embedding" and output is not None and gradient is not None:
            see = _seer(self._recorder, self._backward, spot, frame.op, output, gradient)
            self._known[id(frame.module)] = replace(frame, see=see)


def _seer(
    recorder: Recorder, backward: Backward, spot: Spot, op: str, meter: Meter, gradient: Meter
) -> Callable[[Any], bool]:
    """What sees one more output of a leaf; it says whether it did."""
    tensor, peek, is_wrapped, busy = torch.Tensor, peek_interpreter_stack, is_functorch_wrapped_tensor, _BUSY
    measure, buffer, addresses = meter.measure, meter.buffer, meter.buffer.addresses
    device, site, calls, death = spot.device, spot.site, backward.calls, recorder.death
    may_be_view = op == "linear"
    hooks: dict[tuple[int, int], Any] = {}

    def see(output: Any) -> bool:
        if type(output) is not tensor or busy() or backward.running or peek() is not None or is_wrapped(output):
            return False
        index = buffer.used
        if output.is_nested or index >= len(addresses):
            return False
        mask = measure(output, index)
        if mask is False:
            return False
        buffer.used = index + 1
        call = calls.get(site, 0)
        calls[site] = call + 1
        order = backward.order
        backward.order = order + 1
        recorder.meta.append((device, index, site, call, order, ACTIVATION, None))
        if mask is not None:
            death.see(site, call, mask)
        node = output.grad_fn
        if node is None or output._backward_hooks is not None or (may_be_view and output._is_view()):
            backward.attach(site, call, order, without_view(op, output))
            return True
        hook = hooks.get((call, order))
        if hook is None:
            hook = hooks[call, order] = _gradient_hook(recorder, backward, site, call, order, gradient)
        # As in `Backward._hook`.
        kept: Any = OrderedDict({hook: hook})
        output._backward_hooks = kept
        node._register_hook_dict(output)
        return True

    return see


def _gradient_hook(
    recorder: Recorder, backward: Backward, site: int, call: int, order: int, meter: Meter
) -> Callable[[torch.Tensor | None], None]:
    """`backward._GradientHook` of what needs no care; it outlives the passes and is hung on one after the other."""
    measure, buffer, addresses = meter.measure, meter.buffer, meter.buffer.addresses
    device, tensor, busy = meter.device, torch.Tensor, _BUSY

    def hook(gradient: torch.Tensor | None) -> None:
        if gradient is None or not backward.running or not backward.active:
            return
        index = buffer.used
        if type(gradient) is not tensor or busy() or index >= len(addresses) or measure(gradient, index) is False:
            backward.see(site, call, order, gradient)
            return
        backward.gradients_seen += 1
        buffer.used = index + 1
        recorder.meta.append((device, index, site, call, order, GRADIENT, backward.scale))

    return hook
