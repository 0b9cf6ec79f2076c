"""What losses are given, wherever they stand: in a model, in a module of their own, in a function, or written out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.distributions import Distribution

from diag.probe.beside import DIFFERENCES, EVERY, LOOKED_BESIDE, beside, difference
from diag.probe.feeding import Feeding
from diag.probe.frames import Frame, loss_frame, source_of
from diag.probe.loss_graph import Outputs, losses_before, maker
from diag.probe.pairing import argument, pairing_of_numbers
from diag.probe.pairs import Pairs
from diag.probe.recorder import Recorder
from diag.probe.tensors import find_tensors
from diag.probe.terms import Terms
from diag.probe.tokens import Tokens
from diag.trace.schema import INDEXED

_TURNS = 5
"""Of the measured steps, with several models, every so many-th has its signs read: an odd number."""


class Losses:
    """see: measures one tensor that stands in a frame, as `Forward` does. pairs: whether targets, and how predictions
    fit them, are looked at.

    root: the model whose output was the last one to be trained. has_seen: whether the losses of the open step are told
    as they are computed, so that no graph need be asked. several: whether more than one model is watched.
    """

    def __init__(self, see: Callable[..., None], recorder: Recorder, pairs: bool, tokens: Tokens) -> None:
        self.pairs = pairs
        self.has_seen = self.several = False
        self.root = 0
        self._see = see
        self._recorder = recorder
        self._tokens = tokens
        self.feeding = Feeding()
        self.terms = Terms()
        self.contrasts = Pairs()
        self._outputs = Outputs()
        self._frame: Frame | None = None

    def clear(self) -> None:
        """Forget what was seen of the open step."""
        self._outputs.clear()
        self.terms.opponents.clear()
        self.contrasts.clear()
        self.has_seen = False

    def see_call(self, root: int, args: tuple[Any, ...], *, several: bool) -> None:
        """A watched model is about to be trained. several: whether there are others."""
        self.several = several
        self.terms.see_given(args)
        if several:
            self.terms.opponents.see_call(root, args)

    def add_output(self, value: Any, root: int) -> None:
        """A watched model has returned this."""
        tensors = parameters_of(value) if isinstance(value, Distribution) else (one for _, one in find_tensors(value))
        trained = [tensor for tensor in tensors if tensor.grad_fn is not None]
        if trained:  # a teacher's output is no prediction
            self.root = root
        self._outputs.add(trained)
        if self.several:
            self.terms.opponents.see_output(root, value, trained)

    def see_wrapper(self, wrapper: nn.Module, value: Any) -> None:
        """A module that is not watched has returned this: if it wraps one that is, its outputs may have been copied."""
        if self._outputs and isinstance(wrapper, nn.parallel.DistributedDataParallel):
            self._outputs.add_handed_on(tensor for _, tensor in find_tensors(value))

    def see(
        self,
        frame: Frame,
        op: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        value: Any,
        source: Any = None,
    ) -> None:
        """Of a loss, what it judges tells more than its value, which stands beside it as `...[value]`. source: the node
        that made it, where its tensor does not tell."""
        for _, tensor in find_tensors(source_of(args, kwargs)):
            self._see(frame, f":{op}", op, "loss", tensor, gradient=False)
            self.feeding.see((frame.root, frame.path, f":{op}"), op, source or maker(tensor), tuple(tensor.shape))
        for _, tensor in find_tensors(value):
            self._see(frame, f":{op}[value]", op, "loss", tensor, gradient=False)
        if op in LOOKED_BESIDE and self.looks_beside():
            for role, tensor in beside(op, args, kwargs):
                self._see(frame, f":{op}[{role}]", role, role, tensor, gradient=False)
            share = self._tokens.next_share(argument(args, kwargs, 1, "target")) if op in INDEXED else None
            if share is not None:
                self._see(frame, f":{op}[next]", "next", "next", share, gradient=False)

    def see_difference(self, frame: Frame, func: Any, args: tuple[Any, ...]) -> None:
        """Of a loss that is written out, a prediction and its target, where this function is how it begins."""
        differs = getattr(func, "__name__", "") in DIFFERENCES
        pair = difference(args) if differs and self.looks_beside() else None
        if pair is not None:
            with torch._C.DisableTorchFunction():
                self._see_pair(frame, *pair)

    def see_backward(self, roots: list[Any]) -> None:
        """A backward pass is about to begin: losses that nobody has told of, read off its graph, and signs of terms."""
        tensors = [one for one in roots if isinstance(one, torch.Tensor)]  # the edge of a graph has no value
        if self._outputs and (self.looks_beside() or self._looks_at_another()):
            with torch._C.DisableTorchFunction(), torch.no_grad():
                for root in tensors:
                    self.terms.see(root, self._outputs)
        if not self._outputs or self.has_seen:
            return
        frame = self._frame
        if frame is None or frame.root != self.root:  # kept for its spots, which are then not looked for again
            frame = self._frame = loss_frame(nn.Module(), self.root)
        for root in tensors:
            self.feeding.see_root(root.grad_fn)
        with torch._C.DisableTorchFunction():
            for loss in [one for root in tensors for one in losses_before(root, self._outputs)]:
                if loss.op != "sub":
                    self.see(frame, loss.op, (loss.given, loss.target), loss.kwargs, loss.value, loss.source)
                elif self.looks_beside():
                    self._see_pair(frame, loss.given, loss.target)

    def _see_pair(self, frame: Frame, given: torch.Tensor, target: torch.Tensor) -> None:
        self._see(frame, ":sub", "sub", "loss", given, gradient=False)
        self._see(frame, ":sub[target]", "target", "target", target, gradient=False)
        score = pairing_of_numbers(given, target)
        if score is not None:
            self._see(frame, ":sub[pairing]", "pairing", "pairing", score, gradient=False)

    def _looks_at_another(self) -> bool:
        """Whether signs are read in the open step although nothing else is: optimizers that take turns may all but one
        have their steps between those that are looked at."""
        return self.several and self.pairs and self._recorder.step // self._recorder.every % _TURNS == 0

    def looks_beside(self) -> bool:
        """Whether what stands beside a loss, or beside ids, is looked at in the open step."""
        return self.pairs and self._recorder.step // self._recorder.every % EVERY == 0


def parameters_of(distribution: Distribution) -> Iterator[torch.Tensor]:
    """The tensors that a distribution is made of, and those that it is a mixture or a transform of."""
    for value in vars(distribution).values():
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, Distribution):
            yield from parameters_of(value)
