"""The measurements of the open step, and the steps that are done."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch

from diag.probe.arrivals import Arrivals
from diag.probe.budget import Budget
from diag.probe.buffer import Buffer
from diag.probe.death import Death, Silent
from diag.probe.shards import Part, local, part_of
from diag.probe.steps import Steps
from diag.probe.tensors import is_hollow
from diag.probe.turns import Turns
from diag.stats import backend, fields
from diag.stats.deferred import Deferred
from diag.stats.kind import Quick
from diag.stats.merge import merge_rows
from diag.trace.schema import KINDS

ACTIVATION, GRADIENT, WEIGHT, WEIGHT_GRADIENT, UPDATE = range(len(KINDS))
_KEPT_STEPS = 30
_MAX_ROWS = 250_000
_MOST_UNREAD = 64
"""Losses of steps that were not measured which wait on a device until they are read together."""
_TOGETHER = 8
"""Steps that are taken in at once: after a step of the training, code and tables have left the caches, and the first
one pays for fetching them."""


_Loss = tuple[float | torch.Tensor, float | torch.Tensor | None, torch.Tensor | None]
"""A loss, its weight in the backward pass, and the factor it was multiplied by."""


class _Closed(NamedTuple):
    """A step that is over. starts: which arrivals are a device's rows. numbers: identities of those that follow.
    losses: by step, those of the steps before it that were not measured too."""

    step: int
    meta: list[tuple[torch.device, int, int, int, int, int, torch.Tensor | None]]
    losses: list[tuple[int, list[_Loss]]]
    silent: Silent
    starts: dict[torch.device, list[int]]
    blocks: int
    numbers: list[int]
    arrivals: Arrivals


class Meter(NamedTuple):
    """What measures more tensors of a site that are like the one before, and into which rows."""

    measure: Quick
    buffer: Buffer
    device: torch.device


class Recorder:
    """Takes measurements without waiting for the device; merges them per (site, call, kind) when the step ends."""

    def __init__(self, window: int = 10, every: int = 1, budget: Budget | None = None, *, brief: bool = False) -> None:
        deferred = Deferred() if brief else None
        self._measure_and_plan = deferred or backend.measure_and_plan
        self.measured_by = deferred.name if deferred else backend.backend_name
        self.step = 0
        self.every = every
        self.budget = budget
        self.death = Death(window)
        self.steps = Steps()
        self.unit_rows: list[tuple[int, ...]] = []
        self.stride = 1
        self.turns = Turns(every)
        self.placed: dict[tuple[int, int], Part] = {}
        self._buffers: dict[torch.device, Buffer] = {}
        self._plans: dict[tuple[int, int], tuple[Callable[..., Any], torch.device, Buffer] | None] = {}
        self.meta: list[tuple[torch.device, int, int, int, int, int, torch.Tensor | None]] = []
        self._done: list[tuple[int, np.ndarray, np.ndarray]] = []
        self._stored = 0
        self._closed: list[_Closed] = []
        self._losses: list[list[_Loss]] = []
        self._unread: list[tuple[int, list[_Loss]]] = []
        self.backward_passes = 0
        self._closure_from: int | None = None

    def measure(
        self,
        site: int,
        call: int,
        order: int,
        kind: int,
        tensor: torch.Tensor,
        saturation: tuple[torch.Tensor, float, float] | None = None,
        unit_dim: int | None = None,
        sample_dim: int | None = None,
        *,
        scale: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Measure one tensor; returns its row, still on the device. `scale`: the factor the loss was multiplied by."""
        if type(tensor) is not torch.Tensor:
            part = part_of(tensor, unit_dim)
            if part is not None:
                self.placed[site, kind] = part
                saturation = None if saturation is None else (local(saturation[0]), *saturation[1:])
            tensor = local(tensor)
        key = site, kind
        known = self._plans.get(key)
        mask: Any = False
        if known is not None:
            plan, device, buffer = known
            index = buffer.used
            row = buffer.row()
            mask = plan(row, tensor, saturation, unit_dim, sample_dim)
            if mask is False:
                buffer.used = index  # the row is free again
        if mask is False:
            device = tensor.device
            buffer = self._buffer_of(device)
            index = buffer.used
            row = buffer.row()
            mask, new = self._measure_and_plan(row, tensor, saturation, unit_dim, sample_dim)
            self._plans[key] = None if new is None else (new, device, buffer)
        self.meta.append((device, index, site, call, order, kind, scale))
        # An empty batch says nothing of its units.
        if mask is not None and kind == ACTIVATION and tensor.numel():
            self.death.see(site, call, mask)
        return row

    def meter(self, site: int, kind: int) -> Meter | None:
        """What measures the like of what was measured last; None where that takes more than `kind.Quick` is given."""
        known = self._plans.get((site, kind))
        if known is None:
            return None
        plan, device, buffer = known
        bind = getattr(plan, "quick", None)
        measure = bind(buffer) if bind is not None and buffer.addresses else None
        return None if measure is None else Meter(measure, buffer, device)

    def _buffer_of(self, device: torch.device) -> Buffer:
        if device not in self._buffers:
            self._buffers[device] = Buffer(device)
        return self._buffers[device]

    def forget(self, sites: set[int], kind: int) -> None:
        """Drop what was measured of these sites in the open step."""
        self.meta = [one for one in self.meta if not (one[2] in sites and one[5] == kind)]

    def see_losses(self, losses: list[tuple[torch.Tensor, torch.Tensor | None]], scale: torch.Tensor | None) -> None:
        """The losses of one backward pass with their weights; they stay on their device until the step ends.

        None of them counts where one is without a number: the step's loss is then not known.
        """
        self.backward_passes += 1
        if losses and not any(is_hollow(one) for pair in losses for one in pair if one is not None):
            self._losses.append([(_kept(one), None if w is None else _kept(w), scale) for one, w in losses])

    def begin_closure(self) -> None:
        """An optimizer's closure begins: of its passes the first counts, and all of those that were before it."""
        if self._closure_from is None:
            self._closure_from = len(self._losses)

    def _counted_losses(self) -> list[_Loss]:
        """Those of the step's backward passes; of a closure's only the first, since others are at other weights."""
        passes = self._losses if self._closure_from is None else self._losses[: self._closure_from + 1]
        return [one for each in passes for one in each]

    def nonfinite_sites(self) -> set[int]:
        """Where anything measured in the open step is not finite; waits for the devices it lies on."""
        used = {device: buffer.in_use() for device, buffer in self._buffers.items() if buffer.used}
        rows = {device: torch.cat(pieces)[:, fields.NONFINITE].tolist() for device, pieces in used.items()}
        return {site for device, index, site, *_ in self.meta if rows[device][index] > 0}

    @property
    def is_empty(self) -> bool:
        """Whether the open step holds nothing."""
        return not self.meta and not self._losses

    def drop(self) -> bool:
        """Forget what the open step holds; whether it held anything."""
        held = not self.is_empty
        self.meta.clear()
        self._losses.clear()
        for buffer in self._buffers.values():
            buffer.drain()
        self.death.seal()
        return held

    def end_step(
        self,
        *,
        lr: float = float("nan"),
        optimizer: int = -1,
        loss: float | torch.Tensor | None = None,
        batch: int = -1,
    ) -> None:
        """Close the open step and start the next. `loss`: what the user gave, rather than what was seen."""
        losses: list[_Loss] = self._counted_losses() if loss is None else [(loss, None, None)]
        # Of a step that was not measured there is only the loss; from a device it is read with those of other steps.
        measured = any(buffer.used for buffer in self._buffers.values())
        known = not measured and not _elsewhere(losses)
        if not known:
            self._unread.append((self.step, losses))
        closed = self._seal() if measured or len(self._unread) >= _MOST_UNREAD else None
        self.steps.append(
            step=self.step,
            loss=float("nan"),
            loss_known=False,
            lr=lr,
            optimizer=optimizer,
            backward_passes=self.backward_passes,
            batch=batch,
        )
        self._losses.clear()
        self.backward_passes = 0
        self._closure_from = None
        self.step += 1
        if known:
            self._know_losses([(self.step - 1, losses)], None)
        if closed is not None:
            if closed.arrivals.late:  # those before it have arrived by now
                self._take_in()
            self._closed.append(closed)
            full = self._stored + sum(len(one.meta) for one in self._closed) > _MAX_ROWS
            if len(self._closed) >= _TOGETHER or (full and not closed.arrivals.late):
                self._take_in()

    def skip_step(self, *, lr: float, optimizer: int) -> None:
        """A step was taken of which nothing is known."""
        row = {"step": self.step, "lr": lr, "optimizer": optimizer, "backward_passes": 0, "batch": -1}
        self.steps.append(loss=float("nan"), loss_known=False, **row)
        self.step += 1

    def settle(self) -> None:
        """Take in all that is still on a device or on its way from there."""
        self._take_in()
        unread, self._unread = self._unread, []
        if unread:
            tensors = _tensors_of(unread)
            arrays = Arrivals([_real(one) for one in tensors.values()]).arrays()
            self._know_losses(unread, dict(zip(tensors, map(float, arrays), strict=True)))

    def _take_in(self) -> None:
        closed, self._closed = self._closed, []
        for one in closed:
            self._finish(one)

    def amend(self, *, loss: float | torch.Tensor | None, batch: int) -> None:
        """Give the loss and batch number of the step that was closed last."""
        self.settle()
        self.steps.set_batch(-1, batch)
        if loss is not None:
            self.steps.know_loss(-1, float(loss))

    def _seal(self) -> _Closed:
        """Everything of the open step and the losses not yet read, their numbers on their way to the host."""
        unread, self._unread = self._unread, []
        blocks: list[torch.Tensor] = []
        starts: dict[torch.device, list[int]] = {}
        for device, buffer in self._buffers.items():
            drained = buffer.drain()
            starts[device] = list(range(len(blocks), len(blocks) + len(drained)))
            blocks += drained
        meta, self.meta = self.meta, []
        silent = self.death.seal()
        numbers = _tensors_of(unread)
        numbers |= {id(each[-1]): each[-1] for each in meta if each[-1] is not None}
        scalars = [_real(one) for one in numbers.values()]
        arrivals = Arrivals([*blocks, *scalars, *([] if silent.on_host else silent.masks)])
        return _Closed(self.step, meta, unread, silent, starts, len(blocks), list(numbers), arrivals)

    def _finish(self, closed: _Closed) -> None:
        """Store a step whose numbers have arrived."""
        arrays = closed.arrivals.arrays()
        until = closed.blocks + len(closed.numbers)
        numbers = dict(zip(closed.numbers, map(float, arrays[closed.blocks : until]), strict=True))
        keys, values = _merged(closed, arrays, numbers)
        if len(keys):
            self._done.append((closed.step, keys, values))
            self._stored += len(keys)
        silent = closed.silent
        masks = [torch.cat(silent.masks).numpy()] if silent.on_host and silent.masks else arrays[until:]
        rows, joint = self.death.advance(closed.step, silent, masks)
        self.unit_rows += [(closed.step, *row) for row in rows]
        self._apply_joint_masks(keys, values, joint)
        self._know_losses(closed.losses, numbers)
        if self._stored > _MAX_ROWS:
            self._thin()

    def _know_losses(self, of_steps: list[tuple[int, list[_Loss]]], numbers: dict[int, float] | None) -> None:
        for step, losses in of_steps:
            if losses:
                parts = ([_number(one, numbers) for one in each] for each in losses)
                self.steps.know_loss(step, sum(_unscaled(loss * weight, scale) for loss, weight, scale in parts))

    def _apply_joint_masks(self, keys: np.ndarray, values: np.ndarray, joint: dict[tuple[int, int], int]) -> None:
        for (site, call), dead in joint.items():
            rows = (keys[:, 0] == site) & (keys[:, 1] == call) & (keys[:, 2] == ACTIVATION)
            values[rows, fields.DEAD_UNITS] = dead

    def _thin(self) -> None:
        """Keep the first steps and every second of each optimizer's rest, so that a long run's trace stays bounded."""
        self.stride = self.turns.every = max(self.stride, self.every) * 2
        turn: dict[int, int] = {}
        kept = set(range(_KEPT_STEPS))
        for step, *_ in self._done:
            who = self.steps.get(step, "optimizer")
            turn[who] = turn.get(who, 0) + (step >= _KEPT_STEPS)
            kept |= {step} if turn[who] % 2 else set()
        self._done = [one for one in self._done if one[0] in kept]
        self._stored = sum(len(keys) for _, keys, _ in self._done)
        self.unit_rows = [row for row in self.unit_rows if row[0] in kept]

    @property
    def measures_step(self) -> bool:
        """Whether the open step is one that is asked for and will be kept."""
        return (self.budget is None or self.budget.measures(self.step)) and self.turns.measures(self.step)

    def tables(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """All closed steps: step per row, keys (site, call, kind, order), values."""
        self.settle()
        if not self._done:
            return np.empty(0, np.int64), np.empty((0, 4), np.int64), np.empty((0, fields.WIDTH))
        steps = np.concatenate([np.full(len(keys), step) for step, keys, _ in self._done])
        return (
            steps,
            np.concatenate([keys for _, keys, _ in self._done]),
            np.concatenate([values for *_, values in self._done]),
        )


def _kept(number: torch.Tensor) -> float | torch.Tensor:
    """A number as it is now: of the host its value, of a device a copy that stays there."""
    if number.is_cpu and type(number) is torch.Tensor and not number.is_complex():
        return number.item()
    return number.detach().clone()


def _tensors_of(of_steps: list[tuple[int, list[_Loss]]]) -> dict[int, torch.Tensor]:
    """The numbers of which losses are made, by identity."""
    return {id(one): one for _, losses in of_steps for each in losses for one in each if isinstance(one, torch.Tensor)}


def _real(value: torch.Tensor) -> torch.Tensor:
    """A number of whatever dtype and shape, as a real one without dimensions; complex by magnitude."""
    value = value.detach().reshape(())
    return value.abs() if value.is_complex() else value.double() if value.device.type == "cpu" else value


def _unscaled(value: float, scale: float) -> float:
    """A loss without what a scaler multiplied it with; of one that has come down to 0 nothing is known."""
    return value / scale if scale else math.nan


def _number(value: float | torch.Tensor | None, known: dict[int, float] | None) -> float:
    """A loss or factor, 1 for none; of a tensor what has arrived of it or, where it is the host's, what it holds."""
    if value is None:
        return 1.0
    if not isinstance(value, torch.Tensor):
        return float(value)
    if known is not None:
        return known[id(value)]
    return abs(complex(value.item())) if value.is_complex() else float(value)


def _elsewhere(losses: list[_Loss]) -> bool:
    """Whether any of the numbers lies on a device."""
    return any(isinstance(one, torch.Tensor) and not one.is_cpu for each in losses for one in each)


def _merged(closed: _Closed, arrays: list[np.ndarray], numbers: dict[int, float]) -> tuple[np.ndarray, np.ndarray]:
    """The step's rows, one per (site, call, kind): keys (site, call, kind, order) and values."""
    if not closed.meta:
        return np.empty((0, 4), np.int64), np.empty((0, fields.WIDTH))
    drained = {
        device: np.concatenate([arrays[one] for one in places], dtype=np.float64)
        for device, places in closed.starts.items()
        if places
    }
    devices, indices, sites, calls, orders, kinds, scales = zip(*closed.meta, strict=True)
    if len(drained) == 1:
        (rows,) = drained.values()
        raw = rows if len(rows) == len(indices) else rows[list(indices)]
    else:
        raw = np.stack([drained[device][index] for device, index in zip(devices, indices, strict=True)])
    if any(one is not None for one in scales):
        for row, scale in zip(raw, scales, strict=True):
            _unscale(row, _number(scale, numbers))
    keys = np.array((sites, calls, kinds, orders), np.int64).T
    groups: dict[tuple[int, int, int], int] = {}
    assigned = [groups.setdefault(key, len(groups)) for key in zip(sites, calls, kinds, strict=True)]
    if len(groups) == len(raw):
        return keys, raw
    first = np.unique(assigned, return_index=True)[1]
    return keys[first], merge_rows(raw, np.array(assigned), len(groups))


def _unscale(row: np.ndarray, scale: float) -> None:
    """Undo a loss scale: gradients are linear in it, their squares quadratic."""
    if scale == 1.0 or not scale > 0:
        return
    row[[fields.MEAN, fields.MIN, fields.MAX]] /= scale
    row[[fields.M2, fields.SAMPLE_VAR]] /= scale**2
