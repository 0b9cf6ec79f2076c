"""Losses that no hook sees, in a training loop of the user's own: read off the graph that backward is about to walk.

Nothing is changed: nodes are looked at, and what they keep for backward is read before backward frees it.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from typing import Any, NamedTuple

from torch import Tensor

from diag.probe.saved import REDUCTIONS, nll_loss, signed
from diag.probe.triplets import triplets
from diag.trace.shapes import are_crossed

_OPS = {
    "NllLossBackward0": "nll_loss",
    "NllLoss2DBackward0": "nll_loss",
    "MseLossBackward0": "mse_loss",
    "SmoothL1LossBackward0": "smooth_l1_loss",
    "HuberLossBackward0": "huber_loss",
    "BinaryCrossEntropyBackward0": "binary_cross_entropy",
    "BinaryCrossEntropyWithLogitsBackward0": "binary_cross_entropy_with_logits",
}
"""Nodes that keep what a loss is given: its prediction as `self`, its target as `target`."""
_DIFFERENCE = "SubBackward0"
_OF_DIFFERENCE = {"PowBackward0", "AbsBackward0", "CoshBackward0", "LinalgVectorNormBackward0"}
"""What a loss that is written out makes of a difference; each keeps what it was given."""
_EXTREMES = {"MaximumBackward0": 1, "MinimumBackward0": -1}
"""The larger or the smaller of two multiples of a difference: a pinball loss, or its negative."""
_SCALINGS, _FACTORS = ("DivBackward0", "MulBackward0"), 4
"""What multiplies a loss by a number, and how often that is followed."""
_SQUASHED = ("SoftmaxBackward0", "LogSoftmaxBackward0")
_NEAR_ONE = 0.01
"""How far from 1 probabilities may add up to, in half precision too."""
VIEWS = frozenset(
    "ViewBackward0 UnsafeViewBackward0 ReshapeAliasBackward0 SqueezeBackward0 SqueezeBackward1 SqueezeBackward2 "
    "UnsqueezeBackward0 TransposeBackward0 PermuteBackward0 TBackward0 CloneBackward0 ExpandBackward0 "
    "ToCopyBackward0".split()
)
"""What only arranges the same numbers anew."""
_HANDED_ON = "_DDPSinkBackward"
"""DistributedDataParallel puts it behind outputs that may be unused, or whose graph is static: each stays as it is."""
_SMALL = 4096
"""Elements of an output that may be kept until its loss is known."""
_MOST = 300
"""Nodes between a loss and the models' outputs that are looked at."""


class Judged(NamedTuple):
    """One loss: its op, the prediction as near to what the loss was given as is known, the target, its value, the node
    that made what it was given, and what more the loss was given."""

    op: str
    given: Tensor
    target: Tensor
    value: Tensor | None
    source: Any = None
    kwargs: dict[str, Any] = {}  # noqa: RUF012  (never changed)


class Outputs:
    """What models have returned since they were last cleared, held by nothing but its place in the graph; if it is
    small, as are numbers that a loss which is written out takes a difference of and leaves, until then."""

    def __init__(self) -> None:
        self._known: dict[int, weakref.ref[Tensor]] = {}
        self._small: list[Tensor] = []

    def add(self, tensors: Iterable[Tensor]) -> None:
        """Remember these outputs; those without a graph are no part of a loss."""
        for one in tensors:
            node = maker(one)
            if type(one) is Tensor and node is not None:
                self._known[node._sequence_nr()] = weakref.ref(one)
                if one.numel() <= _SMALL:
                    self._small.append(one)

    def add_handed_on(self, tensors: Iterable[Tensor]) -> None:
        """What a wrapper has made of them is what the loss is given, and what the user may hold."""
        pairs = [(one, maker(one)) for one in tensors]
        self.add(one for one, node in pairs if node is not None and node is not one.grad_fn and self.has(node))

    def clear(self) -> None:
        """Forget them."""
        self._known.clear()
        self._small.clear()

    def __bool__(self) -> bool:
        return bool(self._known)

    def has(self, node: Any) -> bool:
        """Whether a node made one of them."""
        return node._sequence_nr() in self._known

    def made_by(self, node: Any) -> Tensor | None:
        """The output that a node made, if anybody still holds it."""
        known = self._known.get(node._sequence_nr())
        found = None if known is None else known()
        return found if found is not None and maker(found) is node else None


def maker(tensor: Tensor) -> Any:
    """The node that made a tensor, before DistributedDataParallel handed it on."""
    return _behind(tensor.grad_fn, tensor.output_nr)


def _behind(node: Any, place: int) -> Any:
    if node is None or node.name() != _HANDED_ON or len(node.next_functions) != len(node._input_metadata):
        return node  # of outputs that are no tensors the graph does not know which they were
    return node.next_functions[place][0]


def loss_made_by(node: Any) -> str | None:
    """The loss that a node is, by its op."""
    if node.name() in _OPS:
        return _OPS[node.name()]
    return "kl_div" if node.name() == _DIFFERENCE and _divergence(node) is not None else None


def losses_before(root: Tensor, outputs: Outputs) -> list[Judged]:
    """The losses between what is differentiated and the models' outputs; none where no output is reached.

    A difference that is squared or taken absolute counts as a loss, as `sub`, where its prediction still exists.
    """
    ahead, seen, found, reached = [root.grad_fn], {root.grad_fn}, [], False
    while ahead and len(seen) < _MOST:
        node: Any = ahead.pop()
        if node is None:
            continue
        if outputs.has(node):
            reached = True
            continue
        try:
            one = _read(node, root, outputs)
        except RuntimeError:  # freed, or changed in place since: backward is about to say so
            one = None
        if one is not None:
            found.append(one)
        new = {child for child, _ in node.next_functions if child is not None} - seen
        seen |= new
        ahead += new
    return found if reached else []


def _read(node: Any, root: Tensor, outputs: Outputs) -> Judged | None:
    name = node.name()
    if name == "CtcLossBackward0":
        value = _value(node, root)
        return Judged("ctc_loss", node._saved_log_probs, node._saved_targets, value, kwargs=_lengths(node))
    if name in _OPS:
        op, given, target = _OPS[name], node._saved_self, node._saved_target
        below = source = _below(node)
        if name == "NllLoss2DBackward0":  # of a sequence, it is called with a dimension more
            below = through_views(below, outputs)
        logarithms = below is not None and below.name() == "LogSoftmaxBackward0" and not outputs.has(below)
        if op == "nll_loss" and logarithms and (below is not _unviewed(source) or odd_axis(below) is None):
            op, given, source = "cross_entropy", _logits(below, given, outputs), _below(below)
        value = _value(node, root)
        return Judged(op, _as_given(given), _as_given(target), _term(node) if value is None else value, source)
    if name == _DIFFERENCE:
        return _divergence(node)
    if name in _OF_DIFFERENCE:
        below = _below(node)
        if below is not None and below.name() == _DIFFERENCE:
            return _written_out(below, node._saved_self, outputs)
    if name == "MulBackward0":  # by itself
        below, other = (child for child, _ in node.next_functions)
        if below is not None and below is other and below.name() == _DIFFERENCE:
            return _written_out(below, node._saved_self, outputs)
    tilted, both = pinball(node), triplets(node)
    if both is not None:
        return Judged("triplet_margin_loss", *both, None)
    return None if tilted is None else _written_out(tilted[0], tilted[1], outputs)


def odd_axis(node: Any) -> tuple[int, list[int]] | None:
    """Of a log_softmax that goes into nll_loss, with classes in dimension 1, the dimension that it runs over and its
    shape, where that is another one."""
    node = _unviewed(node)
    if node is None or node.name() != "LogSoftmaxBackward0":
        return None
    shape = list(node._saved_result.shape)
    dim = signed(node._saved_dim) % max(len(shape), 1)
    return (dim, shape) if len(shape) > 1 and dim != 1 else None


def _unviewed(node: Any) -> Any:
    """What stands before a view that adds dimensions at the end, as a loss does to a sequence; else the node itself."""
    if node is None or node.name() != "ViewBackward0":
        return node
    before, after = tuple(node._saved_self_sym_sizes), tuple(node._input_metadata[0].shape)
    return _below(node) if len(after) > len(before) and tuple(after[:2]) == tuple(before[:2]) else node


def _lengths(node: Any) -> dict[str, Any]:
    """What CTC was given beside its labels, where these stand in rows."""
    names = ("input_lengths", "target_lengths", "blank")
    return {name: getattr(node, f"_saved_{name}") for name in names}


def pinball(node: Any) -> tuple[Any, Tensor, int] | None:
    """The node of a difference d, and d, where a node is max(q d, (q - 1) d), of which one is above 0 and one below;
    1, or -1 where it is their minimum. None for any other.

    Source: Koenker & Bassett 1978, 'Regression quantiles', equation 3.1
    """
    if node.name() not in _EXTREMES:
        return None
    sides = [child for child, _ in node.next_functions]
    if any(one is None or one.name() != "MulBackward0" or len(one.next_functions) != 2 for one in sides):
        return None
    below, factors = [], []
    for one in sides:
        given = [child is None for child, _ in one.next_functions]
        if given not in ([True, False], [False, True]):
            return None
        below.append(one.next_functions[given.index(False)][0])
        factors.append(one._saved_self if given[0] else one._saved_other)
    first, second = factors
    if below[0] is not below[1] or below[0].name() != _DIFFERENCE or first is None or second is None:
        return None
    if not (first.is_cpu and second.is_cpu) or not bool((first * second <= 0).all() and (first != second).all()):
        return None
    return below[0], (node._saved_self - node._saved_other) / (first - second), _EXTREMES[node.name()]


def _divergence(node: Any) -> Judged | None:
    """`kl_div`, which is t log t - t * input and has no node of its own: where t are probabilities, and the input has
    been through a softmax, or its logarithm."""
    parts = [child for child, _ in node.next_functions]
    if len(parts) != 2 or parts[0] is not None or parts[1] is None or parts[1].name() != "MulBackward0":
        return None
    product = parts[1]
    factors = [child for child, _ in product.next_functions]
    if len(factors) != 2 or factors[0] is not None or factors[1] is None or factors[1].name() not in _SQUASHED:
        return None
    target, given = product._saved_self, factors[1]._saved_result
    # To look at values would wait for a device.
    if target is None or target.shape != given.shape or not target.ndim or not target.is_cpu:
        return None
    sums = target.sum(signed(factors[1]._saved_dim))
    certain = bool((target >= 0).all()) and bool(((sums - 1).abs() < _NEAR_ONE).all())
    return Judged("kl_div", given, target, None) if certain else None


def _below(node: Any) -> Any:
    return _behind(*node.next_functions[0]) if node.next_functions else None


def through_views(node: Any, outputs: Outputs | None = None) -> Any:
    """What made the numbers that views have arranged anew; at the latest an output."""
    while node is not None and not (outputs and outputs.has(node)) and node.name() in VIEWS:
        node = _below(node)
    return node


def _logits(node: Any, logarithms: Tensor, outputs: Outputs) -> Tensor:
    """What log_softmax was given; its result, which is the same but for a number per sample, where nobody has it."""
    source = through_views(_below(node), outputs)
    if source is None:
        return logarithms
    kept = _kept(source, outputs)
    return logarithms if kept is None or kept.numel() != logarithms.numel() else kept.reshape(logarithms.shape)


def _kept(node: Any, outputs: Outputs) -> Tensor | None:
    """What a node has put out, where anybody holds it, or what it was made of by a number: softmax, sigmoid, tanh and
    relu keep theirs."""
    kept = outputs.made_by(node)
    if kept is None:
        kept = getattr(node, "_saved_result", None)
    if (
        kept is None
        and node.name() in _SCALINGS
        and len(node.next_functions) == 2
        and node.next_functions[1][0] is None
    ):
        by, source = node._saved_other, _below(node)
        below = None if source is None or by is None or by.ndim else _kept(source, outputs)
        if below is not None:
            kept = below * by if node.name() == "MulBackward0" else below / by
    return kept


def _written_out(node: Any, difference: Tensor, outputs: Outputs) -> Judged | None:
    """Of prediction minus target, or the reverse, both: the target is what their difference leaves."""
    for place, edge in enumerate(node.next_functions):
        source = through_views(_behind(*edge), outputs)
        given = None if source is None else outputs.made_by(source)
        if given is None or not (given.is_floating_point() and difference.is_floating_point()):
            continue
        if given.numel() == difference.numel():
            given = given.detach().reshape(difference.shape)
        elif not (given.ndim == 2 and given.shape[1] == 1 and difference.shape == (len(given), len(given))):
            continue
        target = given.detach() - difference.detach() * (1 if place == 0 else -1)
        target = target if target.numel() == given.numel() else target[0]
        if target.shape == given.shape or are_crossed(given.shape, target.shape):
            return Judged("sub", given, target, None)
    return None


def _value(node: Any, root: Tensor) -> Tensor | None:
    """The loss itself, where it was only multiplied or divided by a number on the way to what is differentiated: for
    its sign, for passes whose gradients add up, or by a loss scale."""
    top: Any = root.grad_fn
    value = root.detach()
    for _ in range(_FACTORS):
        if top is node:
            return value
        name = "" if top is None else top.name()
        if name == "NegBackward0":
            value = -value
        elif name in _SCALINGS and len(top.next_functions) == 2 and top.next_functions[1][0] is None:
            factor = top._saved_other
            if not isinstance(factor, Tensor) or factor.numel() != 1:
                return None
            value = value * factor.detach() if name == "DivBackward0" else value / factor.detach()
        else:
            return None
        top = _below(top)
    return None


def _term(node: Any) -> Tensor | None:
    """A mean cross-entropy that is one of several terms, worked out once more of what it keeps."""
    mean = _OPS.get(node.name()) == "nll_loss" and REDUCTIONS.get(node._saved_reduction) == "mean"
    return nll_loss(node, "mean") if mean else None


def _as_given(tensor: Tensor) -> Tensor:
    """Without what broadcasting has added: rows that are one and the same, a column that is."""
    while tensor.ndim > 1 and tensor.stride(0) == 0 and len(tensor) > 1:
        tensor = tensor[0]
    if tensor.ndim == 2 and tensor.shape[1] > 1 and tensor.stride(1) == 0:
        tensor = tensor[:, :1]
    return tensor
