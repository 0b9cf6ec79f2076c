"""What a training loop forgets: to step, to step on what is trained, to have a gradient when it clips, parameters."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from diag.rules.evidence import Evidence
from diag.rules.finding import Finding, listed

_FEWEST, _NEARLY_ALL = 3, 0.9
_FEWEST_TOLD = 10
"""Calls of a teacher."""
_OFTEN = 1.8
"""Times for each step, that gradients are cleared without one: a sharpness-aware step clears them once."""
_HALF_OF = 0.5
"""Of the steps: how often layers are made anew at the least."""
_TO_THE_END = 0.8
"""Of the steps, until when it is called."""
_LONG, _VERY_LONG = 100, 200
"""Steps for which a network that is to follow another stands still: worth a word, and an error."""
_AVERAGES = re.compile(r"ema|shadow|averag|avg|polyak", re.IGNORECASE)
"""Names of what is to be better than the last weights are."""


def never_stepped(evidence: Evidence) -> Iterator[Finding]:
    """Gradients come to the model, and what the optimizer does does not reach it."""
    zeroed = int(evidence.trace.coverage.get("zeroed_without_step", 0))
    if not len(evidence.rows("gradient")):
        return
    if zeroed >= _FEWEST:
        yield Finding(
            "stalled-update",
            "error",
            "optimizer",
            f"The optimizer never took a step: gradients were computed, and cleared {zeroed} times, and the weights are"
            " what they were.",
            {"step": 0, "of": "optimizer", "zeroed": zeroed},
            "Call optimizer.step() after loss.backward(); without parentheses it does nothing.",
            "torch.optim documentation, 'Taking an optimization step'",
        )
    elif evidence.idle_steps:
        yield _stepped_beside(evidence.idle_steps, 0)


def stopped_stepping(evidence: Evidence) -> Iterator[Finding]:
    """What trained gives way to what no step reaches."""
    if evidence.unended is not None:
        yield _stepped_beside(evidence.idle_steps, evidence.unended)


def _stepped_beside(idle: int, step: int) -> Finding:
    since = f" from step {step} on" if step else ""
    return Finding(
        "stalled-update",
        "error",
        "optimizer",
        f"The optimizer took {idle} steps on parameters that had no gradient, and that no model holds which was"
        f" called: what is called and gets gradients{since} never moves.",
        {"step": step, "of": "optimizer", "idle": idle},
        "Make the optimizer after the model, from the parameters of the one that is trained; a model that is made"
        " anew, as for each epoch or fold, or a layer that is replaced, needs an optimizer made after it.",
        "torch.optim documentation, 'Constructing it'",
    )


def thrown_away(evidence: Evidence) -> Iterator[Finding]:
    """Gradients of most batches are cleared before a step is made of them."""
    thrown, steps = int(evidence.trace.coverage.get("thrown_gradients", 0)), len(evidence.steps)
    # An attack on the network's inputs, as in adversarial training, throws the weights' gradients away.
    attacked = bool(evidence.trace.coverage.get("leaf_inputs"))
    if thrown < _FEWEST or thrown < _OFTEN * steps or evidence.alternates or attacked or not evidence.trains:
        return
    yield Finding(
        "stalled-update",
        "error",
        "optimizer",
        f"Gradients are computed, and cleared before a step is made of them, {thrown} times beside {steps} steps: most"
        " of what is computed of the batches is thrown away.",
        {"step": evidence.clean[0], "of": "optimizer", "thrown": thrown, "steps": steps},
        "Call optimizer.step() for each batch; or, to add gradients of several batches up, call zero_grad() only after"
        " step().",
        "torch.optim documentation, 'Taking an optimization step'",
    )


def unregistered(evidence: Evidence) -> Iterator[Finding]:
    """Modules that run within the model and get gradients, but are none of its own and in no optimizer."""
    for model, names in evidence.of_models("unregistered"):
        yield Finding(
            "stalled-update",
            "error",
            str(model),
            f"{listed(names)} ({len(names)} in all) run within {model} and get gradients, but are not registered in it,"
            " and no optimizer holds their parameters: they never move.",
            {"step": evidence.clean[0], "of": "optimizer", "modules": names[:20], "count": len(names)},
            "Keep them in an nn.ModuleList or nn.ModuleDict, or as attributes, rather than in a list or dict; then"
            " model.parameters(), .to() and state_dict() know of them.",
            "torch.nn.ModuleList documentation",
        )


def layers_made_anew(evidence: Evidence) -> Iterator[Finding]:
    """Layers with random weights that each pass makes, uses and drops."""
    for model, counts in evidence.of_models("made_anew"):
        often = {name: count for name, count in counts.items() if count >= _HALF_OF * len(evidence.measured)}
        if not often or not evidence.trains:
            continue
        name, count = max(often.items(), key=lambda one: one[1])
        yield Finding(
            "stalled-update",
            "error",
            str(model),
            f"Forward passes of {model} make a new {name} with random weights, use it and drop it: {count} so far. No"
            " optimizer ever holds its weights: what it learned is lost, and the next pass meets other ones.",
            {"step": evidence.clean[0], "of": "optimizer", "modules": list(often)[:20], "count": count},
            "Make the layer once, in __init__, as an attribute of the model, and call that in forward().",
            "torch.nn.Module documentation: submodules are assigned as attributes in __init__",
        )


def plain_tensors(evidence: Evidence) -> Iterator[Finding]:
    """Attributes that get a gradient and are no parameters, so that no optimizer holds them."""
    for model, names in evidence.of_models("plain_tensors"):
        one = len(names) == 1
        yield Finding(
            "stalled-update",
            "error",
            str(names[0]),
            f"{listed(names)} ({len(names)} in all) of {model} {'gets a gradient' if one else 'get gradients'}, but"
            f" {'is a plain tensor' if one else 'are plain tensors'}: model.parameters() leaves"
            f" {'it' if one else 'them'} out, and no optimizer holds {'it' if one else 'them'}.",
            {"step": evidence.clean[0], "of": "optimizer", "tensors": names[:20], "count": len(names)},
            "Wrap them in nn.Parameter.",
            "torch.nn.parameter.Parameter documentation",
        )


def _called_to_the_end(evidence: Evidence, key: str) -> Iterator[dict[str, Any]]:
    """What the coverage knows of networks that are to follow one of these models; of one that was called last long
    before the end another may have taken the place."""
    for one in evidence.trace.coverage.get(key) or ():
        if one["of"] in set(evidence.sites["model"]) and int(one["last"]) >= _TO_THE_END * evidence.measured[-1]:
            yield one


def never_follows(evidence: Evidence) -> Iterator[Finding]:
    """A target network, or an average of the weights, that is what it was copied as for the whole training."""
    for one in _called_to_the_end(evidence, "standing"):
        steps = int(one["last"]) - int(one["first"])
        if steps < _LONG:
            continue
        yield Finding(
            "stalled-update",
            "error" if steps >= _VERY_LONG else "warning",
            str(one["name"]),
            f"{one['name']} is a copy of {one['of']} that never follows it: it was called in steps {one['first']} to"
            f" {one['last']}, and is what it was at the start, before anything was learned.",
            {"step": evidence.clean[0], "of": "standing", "calls": int(one["calls"]), "steps": steps},
            "Copy the weights every so many steps, target.load_state_dict(model.state_dict()), or average them in each:"
            " target = tau * model + (1 - tau) * target with tau above 0 (a decay of 1 leaves all as it was).",
            "Mnih et al. 2015, algorithm 1; Lillicrap et al. 2016, section 3; Polyak & Juditsky 1992",
        )


def lags_behind(evidence: Evidence) -> Iterator[Finding]:
    """An average of the weights that takes in next to nothing of what is new: an error where it is what is tested."""
    for one in _called_to_the_end(evidence, "lagging"):
        last = int(one["last"])
        if last < _LONG:
            continue
        yield Finding(
            "stalled-update",
            "error" if _AVERAGES.search(str(one["name"])) else "warning",
            str(one["name"]),
            f"{one['name']} follows {one['of']} too slowly: in step {last}, when it was called last, it has come"
            f" {float(one['share']):.1%} of the way that {one['of']} has, and is still about what it was at the start.",
            {"step": evidence.clean[0], "of": "lagging", "share": float(one["share"]), "steps": last},
            "Lower the decay, so that 1 / (1 - decay) is far below the number of steps (0.99 for some hundreds, 0.999"
            " for some thousands), or let it rise: min(decay, (1 + step) / (10 + step)).",
            "Polyak & Juditsky 1992; tf.train.ExponentialMovingAverage documentation, 'num_updates'",
        )


def untaught(evidence: Evidence) -> Iterator[Finding]:
    """A teacher that has learned nothing: what it tells is chance."""
    for one in evidence.trace.coverage.get("untaught") or ():
        if int(one["calls"]) < _FEWEST_TOLD:
            continue
        yield Finding(
            "unrelated-targets",
            "error",
            str(one["name"]),
            f"All weights of {one['name']} are as they are drawn at random, in steps {one['first']} to {one['last']}:"
            " a teacher that has learned nothing, so that what it tells has nothing to do with the task.",
            {"step": evidence.clean[0], "of": "untaught", "calls": int(one["calls"])},
            "Train the teacher first, or load what it has learned (load_state_dict, from_pretrained).",
            "Hinton et al. 2015, 'Distilling the knowledge in a neural network', section 2",
        )


def clipped_nothing(evidence: Evidence, grown: Finding | None) -> Finding | None:
    """Gradients are clipped when there are none. grown: what a clip may have kept from happening."""
    clips, vain = (int(evidence.trace.coverage.get(name, 0)) for name in ("clips", "vain_clips"))
    arrive = bool((evidence.rows("weight_gradient")["rms"] > 0).any())
    if vain < _FEWEST or vain < _NEARLY_ALL * clips or not arrive:
        return None
    harm = (grown is not None and grown.severity == "error") or evidence.crawls()
    return Finding(
        "oversized-update",
        "error" if harm else "warning",
        "optimizer",
        f"Gradients were clipped {vain} times when there was none: after zero_grad() and before backward(), where it"
        f" does nothing.{'' if grown is None else ' ' + grown.message}",
        {"step": 0 if grown is None else grown.evidence["step"], "of": "vain clip", "vain": vain, "clips": clips},
        "Clip between loss.backward() and optimizer.step().",
        "torch.nn.utils.clip_grad_norm_ documentation; Pascanu et al. 2013",
    )
