"""What happens in a forward pass: global module hooks see every output, a function mode the functional activations.

Nothing is registered on the model itself, so that it pickles, copies and prints as if it were not watched.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.nn.modules.loss import _Loss

from diag.probe import ops
from diag.probe.backward import Backward
from diag.probe.calls import TELLING, VIEWS, Calls
from diag.probe.capture import is_capturing
from diag.probe.container import container_of
from diag.probe.copies import Copies
from diag.probe.eager import is_compiled
from diag.probe.frames import (
    Frame,
    describe,
    is_parametrization,
    loss_frame,
    saturation_of,
    source_of,
    without_view,
)
from diag.probe.function_mode import FunctionMode
from diag.probe.late import Late, finishes_late
from diag.probe.losses import Losses
from diag.probe.module_hooks import ModuleHooks
from diag.probe.owner import Owner
from diag.probe.quick import Quick
from diag.probe.recorder import ACTIVATION, Recorder
from diag.probe.sites import Sites
from diag.probe.spots import Spots
from diag.probe.strangers import Strangers
from diag.probe.tensors import find_inputs, find_tensors, is_measurable
from diag.probe.tokens import Tokens, beside_ids
from diag.probe.unharmed import Unharmed
from diag.probe.untrained import Untrained
from diag.stats.saturation import Bounds, bounds_for
from diag.trace.operations import LAYERS


class Forward:
    """Follows the modules that are being called and measures what they and the functions in them return."""

    def __init__(
        self,
        sites: Sites,
        recorder: Recorder,
        backward: Backward,
        owner: Owner,
        *,
        unharmed: Unharmed,
        discover: bool = False,
        pairs: bool = True,
    ) -> None:
        self._owner, self._unharmed = owner, unharmed
        self._sites = sites
        self._recorder = recorder
        self._backward = backward
        self._discover = discover
        self._tokens = Tokens()
        self.calls = Calls()
        self.losses = Losses(self._see, recorder, pairs, self._tokens)
        self._stack: list[Frame | None] = []
        self.strangers = Strangers()
        self._mode = FunctionMode(self.see_call, unharmed.see)
        self._mode_at = 0
        self._thread = 0
        self._quick = Quick(recorder, backward, self._stack, self._enter, self._leave)
        self._hooks = ModuleHooks(self._quick.enter, self._quick.leave)
        self._late = Late()
        self._loss_frame: Frame | None = None
        self._measures = False
        self._spots = Spots(sites)
        self._unknown: set[int] = set()
        self._rescanned = False
        self._input_order = -1
        self.on_pass: Callable[[], None] = lambda: None
        self.on_entered: Callable[[], None] = lambda: None
        self.untrained = Untrained(sites, recorder)
        self.training_passes = self.captured_passes = 0
        self.copies = Copies()
        self.given: dict[tuple[int, str, str], list[int]] = {}
        self.ran: set[tuple[int, str]] = set()
        self.ran_compiled = False
        self.unmeasurable: dict[str, None] = {}

    def install(self) -> None:
        """Register the global module hooks."""
        self._hooks.install()

    def remove(self) -> None:
        """Take every hook away; safe to call twice and in the middle of a pass."""
        self._hooks.remove()
        self.reset()

    def reset(self) -> None:
        """Forget the modules being called: a pass may have been left by an exception that hooks do not see."""
        self._stack.clear()
        self._late.clear()
        self._tokens.clear()
        self.losses.clear()
        self.untrained.evaluations.abandon()
        self._loss_frame = None
        if self._mode_at:
            self._leave_mode()

    def _enter_mode(self, at: int) -> None:
        """Show every function until fewer modules than this are being called."""
        if not self._mode_at:
            self._mode.__enter__()
            self._mode_at = at

    def _leave_mode(self) -> None:
        self._mode_at = 0
        self._mode.__exit__(None, None, None)

    @contextlib.contextmanager
    def loss_scope(self) -> Iterator[None]:
        """A loss function runs: what it computes outside of the model is recorded too, as `loss:log`."""
        if not self._hooks.installed or self._stack:
            yield
            return
        self._thread = threading.get_ident()
        self._measures = self._recorder.measures_step
        self._loss_frame = loss_frame(nn.Module(), self.losses.root)
        self._enter_mode(1)
        try:
            yield
        finally:
            self.losses.has_seen = True  # whatever it is made of
            if self._loss_frame is not None:
                self._loss_frame = None
                self._leave_mode()

    def _enter(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        if torch._C._get_tracing_state() is not None or torch.compiler.is_compiling():
            return
        if not self._stack:
            try:
                self._enter_outermost(module, args)
            except Exception as error:
                self._unharmed.see(error)
            return
        if threading.get_ident() != self._thread:
            return
        top = self._stack[-1]
        if top is None or top.opaque:
            self._stack.append(top)
            return
        frame = self._frame_of(module, top.root) or top
        self._stack.append(frame)
        if frame.op == "embedding":
            self._tokens.see_embedded(args)
        if module._forward_hooks:
            self._expect_late(frame)
        if not self._mode_at and module._forward_hooks:
            self._enter_mode(len(self._stack) - 1)  # the user's hooks run after ours, as part of what contains it
        elif not self._mode_at and not frame.quiet:
            self._enter_mode(len(self._stack))

    def _enter_outermost(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        self.on_entered()
        if is_capturing():
            if self._owner.is_here():
                self.captured_passes += 1
                self._thread = threading.get_ident()
                self._stack.append(None)  # nor is what it calls measured
            return
        if self._sites.find_module(module) is None and not self._takes_up(module, args):
            return
        recomputing = self._backward.running
        evaluates = self.untrained.has(module)
        if not recomputing and not (self._owner.is_here() if evaluates else self._owner.is_free()):
            return
        self._thread = threading.get_ident()
        frame = self._frame_of(module, 0)
        if frame is None or is_parametrization(frame.path) or evaluates:
            if frame is not None and not recomputing and not is_parametrization(frame.path):
                self.untrained.begin(module, frame, args)
            self._stack.append(None)
            if self.untrained.evaluations.is_open and not self._mode_at:
                self._enter_mode(1)  # for dropout that is left on
            return
        self._input_order = -1
        if not recomputing:
            self._owner.move_here()
            self.training_passes += 1
            self.on_pass()
            self.untrained.see_training(module, frame.root, args)
            if not self._hooks.installed:
                return
            self._unknown.clear()
            self._rescanned = False
            self._backward.begin_forward()
            self._input_order = self._backward.next_order()
        self._measures = self._recorder.measures_step
        if self._measures:
            self.losses.see_call(frame.root, args, several=self._sites.several)
        self._quick.thread = self._thread if self._measures else 0
        self._stack.append(frame)
        if module._forward_hooks:
            self._expect_late(frame)
        if self._measures and not recomputing:
            # Before the forward pass, which may change its inputs in place.
            with torch._C.DisableTorchFunction():
                self._see_inputs(frame, args, {})
        if not frame.quiet:
            self._enter_mode(1)

    def _takes_up(self, module: nn.Module, args: tuple[Any, ...]) -> bool:
        """Whether a module that nothing is known of is watched from now on; a loss is entered, others are passed by."""
        self.ran_compiled |= is_compiled(module)
        if isinstance(module, _Loss) and self._sites.roots:
            if self._owner.is_here():
                self._enter_loss(module, args)
            return False
        if self._sites.wraps_known(module) or not self._owner.is_free():
            return False  # as what a solver puts around a network at each call: the network itself comes next
        if not self._discover or not self.copies.admits(module, self._sites.roots):
            if self._owner.is_here() and not torch.is_grad_enabled():
                self.untrained.standing.see_beside(module, self._recorder.step)
            if self._owner.is_here() and self.copies.left_out(module):
                self._thread = threading.get_ident()
                self._stack.append(None)  # what it calls is no model either
            return False
        self._sites.watch(container_of(module))
        self._quick.forget()
        return self._sites.find_module(module) is not None

    def _enter_loss(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        """A loss module follows the model: it is measured as a loss function is where the loop is ours."""
        self._thread = threading.get_ident()
        evaluates = self.untrained.evaluations.follows and not any(one.requires_grad for _, one in find_tensors(args))
        measured = self._recorder.measures_step and torch.is_grad_enabled() and not self._backward.running
        measured = measured and not evaluates
        self._input_order = -1
        self._stack.append(loss_frame(module, self.losses.root) if measured else None)
        if evaluates:
            self.untrained.evaluations.expect_loss(module)
        if measured and not self._mode_at:
            self._measures = True
            self._enter_mode(1)

    def _frame_of(self, module: nn.Module, root: int) -> Frame | None:
        """What is known of a module; None for one that no watched model contains."""
        frame = self._quick.frames.get(id(module))
        if frame is not None and frame.module is module and frame.children == len(module._modules):
            return frame
        if id(module) in self._unknown:
            return None
        found = self._sites.find_module(module)
        if found is None and not self._rescanned:
            # Once in a pass: modules made anew at every call would have the whole model searched each time.
            self._rescanned = True
            self._sites.rescan(root)
            self._quick.forget()  # what was wrapped has another path now
            found = self._sites.find_module(module)
        if found is None:
            self._unknown.add(id(module))
            if torch.is_grad_enabled():
                self.strangers.see(root, module)
            return None
        frame = self._quick.frames[id(module)] = describe(module, *found)
        return frame

    def _leave(self, module: nn.Module, args: tuple[Any, ...], *rest: Any) -> None:
        if not self._stack or threading.get_ident() != self._thread:
            self.losses.see_wrapper(module, rest[-1])
            return
        frame = self._stack.pop()
        if len(self._stack) < self._mode_at and self._loss_frame is None:
            self._leave_mode()
        if frame is None and len(rest) == 1:
            self.untrained.evaluations.abandon()
        elif frame is None:
            self.untrained.leave(module, *rest)
            found = self._sites.find_module(module) if self.losses.several and not self._stack else None
            if found is not None:
                self.losses.terms.opponents.see_output(found[0], rest[-1], ())
        if frame is None or frame.module is not module:
            return
        if len(rest) == 1:
            # torch calls the hook without keywords where the module raised.
            self._late.forget(module)
            if not self._stack and not self._backward.running:
                self._backward.abandon_pass()
            return
        kwargs, output = rest
        self.ran.add((frame.root, frame.path))
        if not self._stack and self.untrained.answers.doubts:
            self._leave_doubted(module, kwargs, output)
        if not self._measures:
            return
        late = self._late.expects(module)
        direct = (
            self._stack and frame.direct and not late and type(output) is torch.Tensor and output.is_floating_point()
        )
        if direct and not torch._C._len_torch_function_stack():  # no mode sees what is called from here
            self._see(frame, "", frame.op, frame.role, output, frame.bounds)
            self._quick.learn(frame)
            return
        try:
            with torch._C.DisableTorchFunction():
                if frame.leaf and not late and self._stack:
                    self._see_output(frame, args, kwargs, output)
                elif not self._stack:
                    self._leave_outermost(frame, not late, args, kwargs, output)
        except Exception as error:
            self._unharmed.see(error)

    def _leave_doubted(self, module: nn.Module, kwargs: dict[str, Any], output: Any) -> None:
        try:
            self.untrained.answers.see_doubted(module, self._recorder.step, kwargs, output)
        except Exception as error:
            self._unharmed.see(error)

    def _leave_outermost(self, frame: Frame, ended: bool, args: Any, kwargs: dict[str, Any], output: Any) -> None:
        if self._input_order >= 0:
            self._see_inputs(frame, (), kwargs)
        if frame.leaf and ended:
            self._see_output(frame, args, kwargs, output)
        self._tokens.clear()
        if "input_ids" in kwargs and self.losses.looks_beside():
            for role, tensor in beside_ids(frame.module, kwargs):
                self._see(frame, f"[{role}]", role, role, tensor, gradient=False)
        if not self._backward.running:
            self.losses.add_output(output, frame.root)
            if self.losses.looks_beside():
                self.losses.contrasts.see(frame.root, args, output)

    def fall_silent(self) -> None:
        """Measure nothing more of the pass that is running: hooks cannot go in the middle of a function."""
        self._measures, self._quick.thread = False, 0

    def see_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Any optimizer steps."""
        self.strangers.see_step(optimizer)
        self.untrained.see_step()

    def see_backward(self, roots: list[Any]) -> None:
        """A backward pass is about to begin, perhaps of a loss that was neither a module nor within `loss_scope`."""
        if self._hooks.installed and not self._stack:
            self.losses.see_backward(roots)

    def _see_inputs(self, frame: Frame, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        for suffix, tensor in find_inputs(args, kwargs):
            computed = tensor.grad_fn is not None
            if computed and frame.path:
                continue  # what a part is given by another one is no input
            self._see(frame, suffix, "input", "input", tensor, order=self._input_order, gradient=False)
            self.given.setdefault((frame.root, frame.path, suffix), [0, 0])[computed] += 1

    def _expect_late(self, frame: Frame) -> None:
        if frame.leaf and self._measures and finishes_late(frame.module):
            self._late.expect(frame.module, functools.partial(self._see_late, frame))

    def _see_late(self, frame: Frame, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        with torch._C.DisableTorchFunction():
            self._see_output(frame, args, kwargs, output)

    def _see_output(self, frame: Frame, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        source = source_of(args, kwargs)
        if frame.op == "attention":
            self.calls.see_module((frame.root, frame.path, ""), frame.module, args, kwargs)
        if frame.op == "softmax":
            self.calls.see_softmax((frame.root, frame.path, ""), getattr(frame.module, "dim", None), output)
        if frame.op == "attention" and self.losses.looks_beside():
            attended = self._tokens.attended(frame.module, args, kwargs)
            if attended is not None:
                self._see(frame, "[attended]", "attended", "attended", attended, gradient=False)
        if type(output) is torch.Tensor and output.is_floating_point():
            self._see(frame, "", frame.op, frame.role, output, bounds=frame.bounds, source=source)
            return
        for index, (where, tensor) in enumerate(find_tensors(output)):
            self._see(frame, where if index else "", frame.op, frame.role, tensor, bounds=frame.bounds, source=source)

    def see_call(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        """A torch function was called while a watched module was running."""
        op = ops.function_op(func)
        frame = self._stack[-1] if self._stack else self._loss_frame
        if frame is None and self.untrained.evaluations.is_open:
            self.untrained.evaluations.see_call(func, kwargs)
        if op is None or frame is None or frame.opaque or not self._measures:
            if self._measures and frame is not None and frame is self._loss_frame:
                self.losses.see_difference(frame, func, args)
            elif op is None and self._measures and frame is not None and getattr(func, "__name__", "") in VIEWS:
                self.calls.see_view(frame.root, frame.path, args, output)
            return
        if (frame.single and op in LAYERS) or not ops.is_recorded_call(op, args, kwargs):
            return
        if op in ops.DROPOUTS and not kwargs.get("training", True):
            return
        role = ops.role_of(op)
        slope = ops.call_slope_parameters(op, args, kwargs) if role == "nonlinearity" else {}
        bounds = bounds_for("relu" if op == "clamp" else op, **slope) if role == "nonlinearity" else None
        source = source_of(args, kwargs)
        if op in TELLING:
            self.calls.see((frame.root, frame.path, f":{op}"), op, args, kwargs, output)
        with torch._C.DisableTorchFunction():
            if role == "loss":
                self.losses.has_seen = True
                self.losses.see(frame, op, args, kwargs, output)
                return
            for index, (where, tensor) in enumerate(find_tensors(output)):
                suffix = f":{op}" + (where if index else "")
                self._see(frame, suffix, op, role, tensor, bounds=bounds, source=source)

    def _see(
        self,
        frame: Frame,
        suffix: str,
        op: str,
        role: str,
        tensor: torch.Tensor,
        bounds: Bounds | None = None,
        *,
        source: Any = None,
        order: int | None = None,
        gradient: bool = True,
    ) -> None:
        if not is_measurable(tensor):
            self.unmeasurable[frame.path] = None
            return
        spot = frame.spots.get(suffix)
        if spot is None or spot.shape != tensor.shape or spot.device != tensor.device:
            spot = self._spots.find(frame, suffix, op, role, tensor)
        site = spot.site
        if self._backward.running and self._backward.was_seen(site):
            if gradient and torch.is_grad_enabled():
                self._backward.attach_recomputed(site, without_view(op, tensor))
            return
        call, position = self._backward.next_call(site, order)
        if not spot.placed:
            spot.placed = True
            if self._sites.table[site].order < 0:
                self._sites.table[site].order = position
        saturation = None if bounds is None else saturation_of(bounds, tensor, source)
        self._recorder.measure(site, call, position, ACTIVATION, tensor, saturation, spot.unit_dim, spot.sample_dim)
        if gradient:
            self._backward.attach(site, call, position, without_view(op, tensor))
