"""Passes of watched models that are no training: evaluations, tests that are not told to be one, what a policy does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn.modules.loss import _Loss

from diag.probe.acting import Acting
from diag.probe.answers import Answers
from diag.probe.evaluation import Evaluations
from diag.probe.frames import Frame, in_reentrant_checkpoint
from diag.probe.recorder import Recorder
from diag.probe.sites import Sites
from diag.probe.standing import Standing
from diag.probe.tensors import leaves
from diag.probe.tested import InputsOfTests


class Untrained:
    """Tells these passes from those of training, and has each looked at by those whom it concerns.

    passes: how many there were. ran: by model and path, what ran in them. leaves: training passes whose inputs are to
    get a gradient themselves.
    """

    def __init__(self, sites: Sites, recorder: Recorder) -> None:
        self._recorder = recorder
        self._trained: set[int] = set()
        self._in_eval: set[int] = set()
        self._graded: int | None = None
        self.passes = self.leaves = 0
        self._steps = False
        self._in_training: Counter[tuple[int, str]] = Counter()
        self.ran: set[tuple[int, str]] = set()
        self.evaluations = Evaluations(sites, recorder)
        self.acting = Acting()
        self.answers = Answers()
        self.standing = Standing()
        self.tested = InputsOfTests(sites)
        self.on_untold: Callable[[int, tuple[Any, ...]], None] = lambda root, args: None

    def has(self, module: nn.Module) -> bool:
        """Whether a call that begins is one: no graph is built, or what has trained is called in evaluation mode."""
        if torch.is_grad_enabled():
            return not module.training and id(module) in self._trained and id(module) not in self._in_eval
        return not in_reentrant_checkpoint()

    def see_training(self, module: nn.Module, root: int, args: tuple[Any, ...]) -> None:
        """A pass of training begins."""
        self.standing.see_trained(module)
        self.leaves += bool(leaves(args))
        if module.training:
            self._trained.add(id(module))
            self._in_eval.discard(id(module))
        self._graded = None
        self.evaluations.follows = False
        self.acting.see(root, args, evaluates=False)
        self.answers.doubt(module, root, args, trained=self._steps)

    def begin(self, module: nn.Module, frame: Frame, args: tuple[Any, ...]) -> None:
        """A watched model is called for what is no training."""
        self.passes += 1
        self.standing.see_beside(module, self._recorder.step)
        self._in_training[frame.root, frame.path] += module.training
        self._graded = id(module) if torch.is_grad_enabled() else None
        self.ran.add((frame.root, frame.path))
        self.acting.see(frame.root, args, evaluates=not module.training)
        if isinstance(module, _Loss):
            self.evaluations.expect_loss(module)
        elif id(module) in self._trained:
            self.answers.expect(module, frame.root, args)
            self.tested.see(frame.root, frame.path, args, self._recorder.step)
            if module.training:
                self.on_untold(frame.root, args)
            else:
                self.evaluations.begin(module, frame.root, frame.path, args)

    def passes_of(self, root: int, owner: str) -> int:
        """How many of them, in training mode, a module was part of."""
        return sum(
            count
            for (at, path), count in self._in_training.items()
            if at == root and f"{owner}.".startswith(f"{path}." if path else "")
        )

    def leave(self, module: nn.Module, kwargs: dict[str, Any], output: Any) -> None:
        """A module has been called that no pass of training contains."""
        if self.evaluations.is_open:
            self.evaluations.leave(module, kwargs, output)
        self.answers.see(module, self._recorder.step, kwargs, output)

    def see_step(self) -> None:
        """Any optimizer steps. Where only a pass in evaluation mode came before, with a graph, that is now how the
        model is trained, as a head on what stays as it is."""
        self._steps = True
        if self._graded is not None:
            self._in_eval.add(self._graded)
            self._graded = None
            self.evaluations.drop()
