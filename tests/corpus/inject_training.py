"""Faults of the step: rates, decay, schedules, clipping, parameters forgotten, gradients kept, cut or gone."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from diag.train.workload import Workload
from tests.corpus.inject import TOO_LARGE, NotApplicable, after, at_depth, groups, injector, matrices

SMALL = "stalled-update loss-not-decreasing"
LARGE_ROOTS = "oversized-update diverging-loss exploding-activation non-finite"


def _every_step(workload: Workload, act: Any) -> None:
    """Call act(step number, optimizer) before each step."""
    count = iter(range(10**9))
    assert workload.optimizer is not None
    workload.optimizer.register_step_pre_hook(lambda optimizer, *_: act(next(count), optimizer))


@injector("lr-up", (10, 100, 1000), TOO_LARGE + " loss-not-decreasing collapsed-signal vanishing-gradient", LARGE_ROOTS)
def lr_up(workload: Workload, strength: float) -> None:
    """The learning rate times `strength`."""
    for group in groups(workload):
        group["lr"] *= strength


@injector("lr-down", (1e-2, 1e-3, 1e-5), SMALL, "stalled-update")
def lr_down(workload: Workload, strength: float) -> None:
    """The learning rate times `strength`."""
    for group in groups(workload):
        group["lr"] *= strength


@injector(
    "lr-one-layer", (100, 1000), TOO_LARGE + " loss-not-decreasing collapsed-signal vanishing-gradient", LARGE_ROOTS
)
def lr_one_layer(workload: Workload, strength: float) -> None:
    """The middle matrix has `strength` times the learning rate, in a parameter group of its own."""
    found = matrices(workload.model)
    own = found[len(found) // 2][1]
    [group] = groups(workload)
    group["params"] = [one for one in group["params"] if one is not own]
    settings = {key: value for key, value in group.items() if key != "params"}
    assert workload.optimizer is not None
    workload.optimizer.add_param_group({**settings, "params": [own], "lr": strength * group["lr"]})


@injector("schedule-decays", (0.7, 0.1), SMALL, "stalled-update")
def decays(workload: Workload, strength: float) -> None:
    """A schedule meant for epochs multiplies the learning rate by `strength` in every step."""

    def act(step: int, optimizer: torch.optim.Optimizer) -> None:
        for group in optimizer.param_groups:
            group["lr"] *= strength

    _every_step(workload, act)


@injector("weight-decay", (1, 10, 100), "collapsed-signal vanishing-gradient oversized-update loss-not-decreasing "
          "diverging-loss dead-units",
          "collapsed-signal oversized-update loss-not-decreasing vanishing-gradient")  # fmt: skip
def weight_decay(workload: Workload, strength: float) -> None:
    """Weight decay is this."""
    for group in groups(workload):
        if "weight_decay" not in group:
            raise NotApplicable("no weight decay")
        group["weight_decay"] = float(strength)


@injector("clipped", (1e-3, 1e-6), SMALL, "stalled-update")
def clipped(workload: Workload, strength: float) -> None:
    """The norm of all gradients is clipped to `strength`."""

    def act(step: int, optimizer: torch.optim.Optimizer) -> None:
        held = [one for group in optimizer.param_groups for one in group["params"]]
        torch.nn.utils.clip_grad_norm_(held, strength)

    _every_step(workload, act)


@injector(
    "never-cleared", (1, 3), "oversized-update diverging-loss exploding-activation non-finite", "oversized-update"
)
def never_cleared(workload: Workload, strength: float) -> None:
    """zero_grad does nothing; the learning rate times `strength`."""
    assert workload.optimizer is not None
    workload.optimizer.zero_grad = lambda set_to_none=True: None  # type: ignore[method-assign]
    lr_up(workload, strength)


@injector("optimizer-lacks", (0.5, 0.9, 0.97), "stalled-update missing-gradient")
def lacks(workload: Workload, strength: float) -> None:
    """The optimizer holds all but the first share of the parameters."""
    [group] = groups(workload)
    group["params"] = group["params"][round(strength * len(group["params"])) :]
    if not group["params"]:
        raise NotApplicable("nothing left to train")


@injector("frozen", (0.5, 0.9, 0.97), "stalled-update missing-gradient", beyond=True)
def frozen(workload: Workload, strength: float) -> None:
    """The first share of the parameters is frozen, though the optimizer holds them."""
    held = groups(workload)[0]["params"]
    for one in held[: round(strength * len(held))]:
        one.requires_grad_(False)


@injector("detached", (0.0, 0.5, 1.0), "missing-gradient stalled-update", "missing-gradient")
def detached(workload: Workload, strength: float) -> None:
    """The trunk is cut at this share of its depth."""
    after(at_depth(workload.model, strength), lambda x: x.detach())


@injector("half-underflow", (1e-5, 1e-8), "vanishing-gradient stalled-update missing-gradient non-finite")
def underflow(workload: Workload, strength: float) -> None:
    """Weights and inputs in half precision, a loss scaled by `strength` and steps scaled back."""
    workload.model.half()
    workload.batches = [_half(batch) for batch in workload.batches]
    loss = workload.loss
    workload.loss = lambda model, batch: loss(model, batch).float() * strength

    def act(step: int, optimizer: torch.optim.Optimizer) -> None:
        for group in optimizer.param_groups:
            for one in group["params"]:
                if one.grad is not None:
                    one.grad.div_(strength)

    _every_step(workload, act)


def _half(batch: Any) -> Any:
    if isinstance(batch, Tensor):
        return batch.half() if batch.is_floating_point() else batch
    return {key: _half(one) for key, one in batch.items()} if isinstance(batch, dict) else tuple(map(_half, batch))


@injector("nan-in-step", (20, 5, 0), "non-finite oversized-update", "non-finite oversized-update")
def nan_in_step(workload: Workload, strength: float) -> None:
    """The schedule divides by the steps left to step `strength`: the learning rate is infinite there."""

    def act(step: int, optimizer: torch.optim.Optimizer) -> None:
        for group in optimizer.param_groups:
            if step == strength:
                group["lr"] = torch.inf

    _every_step(workload, act)


@injector("nan-forward", (3, 0.5), "non-finite")
def nan_forward(workload: Workload, strength: float) -> None:
    """A logarithm in the middle of the trunk, of what is half a deviation above the first batch's least, or a
    fiftieth below it: strength 0.5 or 3."""
    least: list[Tensor] = []

    def change(x: Tensor) -> Tensor:
        if not least:
            margin = 0.02 if strength > 1 else -strength
            least.append((x.min() - margin * x.std()).detach())
        return x + 0 * torch.log(x - least[0])

    after(at_depth(workload.model, 0.5), change)


@injector("nan-backward", (1,), "non-finite")
def nan_backward(workload: Workload, strength: float) -> None:
    """In the middle of the trunk a square root whose slope at zero is infinite; forward it is finite."""
    # relu's own backward would hide it: it writes 0 where its input was negative, whatever comes in.
    after(at_depth(workload.model, 0.5), lambda x: x + 0.1 * (x.abs() + x).sqrt())
