"""stalled-update and oversized-update: the size of steps against that of the weights."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from diag.rules.judge import judge
from tests.rules.traces import DEFAULTS, Net, Value, falling, flat, found, only

STALLED, OVERSIZED = "stalled-update", "oversized-update"


def net(*ratios: Value, loss: Value | None = flat, optimizer: Value | None = 0.0) -> Net:
    """Layers a, b, c ... whose weights move by these shares of themselves."""
    made = Net(loss=loss, optimizer=optimizer)
    for name, ratio in zip("abcdefgh", ratios, strict=False):
        made.output(name).parameter(f"{name}.weight", ratio=ratio)
    return made


@pytest.mark.parametrize(
    ("threshold", "just", "severity"),
    [
        ("stalled_error", 0.9, "error"),
        ("stalled_error", 1.1, "warning"),
        ("stalled_warning", 0.9, "warning"),
        ("stalled_warning", 1.1, None),
    ],
)
def test_thresholds_of_stalling(threshold: str, just: float, severity: str | None) -> None:
    findings = found(STALLED, net(*[just * DEFAULTS[threshold]] * 3))
    assert [one.severity for one in findings] == ([severity] if severity else [])


@pytest.mark.parametrize(
    ("steps", "ratio", "slope", "severity"),
    [
        (120, 1e-4, 0.12, "error"),  # the loss falls by 8 % from the first third to the last
        (120, 1e-4, 0.3, None),
        (120, 2e-4, 0.12, None),
        (60, 1e-4, 0.12, None),
    ],
)
def test_small_steps_over_many_of_them(steps: int, ratio: float, slope: float, severity: str | None) -> None:
    """A schedule that ends at nothing does not count: the largest update does."""
    made = Net(steps=steps, loss=lambda step: 2.3 * (1 - slope * step / steps) + 0.001 * math.sin(7 * step))
    made.output("a").parameter("a.weight", ratio=lambda step: ratio if step < 80 else 1e-9)
    assert [one.severity for one in found(STALLED, made)] == ([severity] if severity else [])


def test_stalling_and_its_numbers() -> None:
    finding = only(STALLED, net(1e-9, 1e-8, 1e-7))
    assert finding.site == "a.weight"
    assert finding.evidence["update_ratio"] == pytest.approx(1e-8)
    assert (finding.evidence["lr"], finding.evidence["matrices"]) == (0.1, 3)
    assert "1e-08 of the weights" in finding.message


@pytest.mark.parametrize(
    ("rate", "loss", "of"),
    [
        (lambda step: 1e-7 * (step + 1), flat, "schedule"),
        (lambda step: 1e-7 * min(step + 1, 20), flat, None),
        (lambda step: 1e-7, flat, None),
        (lambda step: 1e-7 * (step + 1), falling, ""),
    ],
    ids=["to the last step", "it ends", "none", "the loss falls"],
)
def test_a_warm_up_that_outlasts_the_run(rate: Callable[[int], float], loss: Value, of: str | None) -> None:
    trace = Net(loss=loss).output("a").parameter("a.weight", ratio=1e-4).build()
    trace.steps["lr"] = [rate(step) for step in range(30)]
    findings = found("stalled-update", trace)
    assert [one.evidence.get("of") for one in findings] == ([] if of == "" else [of])
    if of == "schedule":
        (finding,) = findings
        assert (finding.severity, finding.site, finding.evidence["lr"]) == ("error", "optimizer", pytest.approx(3e-6))
        assert "from 1e-07 to 3e-06" in finding.message


def leaps(step: int) -> float:
    """A loss that leaps up in the second step and comes back to where it was."""
    return 1.2 + 3 * 0.7**step * (step > 0)


@pytest.mark.parametrize(
    ("first", "loss", "of"),
    [(0.21, leaps, ["first"]), (0.19, leaps, []), (0.21, falling, []), (0.21, flat, ["first"])],
)
def test_first_steps_that_remake_the_weights(first: float, loss: Value, of: list[str]) -> None:
    """Later ones are small, for weights that have grown to the learning rate."""
    net = Net(loss=loss)
    for name in "abc":
        net.output(name).parameter(f"{name}.weight", ratio=lambda step: first if step < 3 else 0.01)
    findings = found("oversized-update", net)
    assert [one.evidence["of"] for one in findings] == of
    for one in findings:
        assert (one.severity, one.evidence["step"]) == ("error", 0)
        assert one.evidence["median_ratio"] == pytest.approx(first)


def test_they_are_the_root_of_what_saturates_after_them() -> None:
    net = Net(loss=leaps)
    for name in "abc":
        net.output(name).parameter(f"{name}.weight", ratio=lambda step: 0.3 if step < 3 else 0.01)
        net.output(f"{name}:tanh", "nonlinearity", "tanh", saturated_fraction=lambda step: float(step > 0))
    net.output("head")
    first = judge(net.build(), {})[0]
    assert (first.rule, first.evidence["of"]) == ("oversized-update", "first")
    assert "saturated-activation" in [one.rule for one in first.consequences]


def test_small_steps_that_lower_the_loss_are_fine() -> None:
    assert not found(STALLED, net(1e-8, 1e-8, loss=falling))


@pytest.mark.parametrize(
    ("ratios", "gradients", "tiny"),
    [
        ((1e-7, 1e-7, 1e-6), (1e-6, 1e-5, 1e-2), True),
        ((1e-7, 1e-7, 1e-4), (1e-6, 1e-5, 1e-2), False),
        ((1e-7, 1e-7, 1e-6), (1e-9, 1e-8, 1e-5), False),
    ],
    ids=["a whole gradient", "one that moves", "no whole gradient"],
)
def test_steps_that_are_tiny_whatever_the_gradient(
    ratios: tuple[float, ...], gradients: tuple[float, ...], tiny: bool
) -> None:
    made = Net(loss=flat)
    for name, ratio, gradient in zip("abc", ratios, gradients, strict=True):
        made.output(name).parameter(f"{name}.weight", ratio=ratio, gradient=gradient)
    assert only(STALLED, made).evidence.get("of") == ("step" if tiny else None)


def test_most_matrices_must_stall() -> None:
    assert not found(STALLED, net(1e-9, 1e-3, 1e-3))
    assert found(STALLED, net(1e-9, 1e-9, 1e-3))


def test_a_step_that_is_large_now_and_then_is_no_stall() -> None:
    assert not found(STALLED, net(*[lambda step: 1e-3 if step % 5 == 4 else 1e-9] * 3))


def test_without_steps_nothing_is_said() -> None:
    assert not found(STALLED, net(1e-9, optimizer=None)) + found(OVERSIZED, net(1e3, optimizer=None))
    unheld = Net(optimizer=None).output("a").parameter("a.weight", ratio=None)
    assert not found(STALLED, unheld)


def test_a_weight_in_no_optimizer() -> None:
    held = net(1e-3, 1e-3, loss=falling)
    held.output("x").parameter("x.weight", optimized=False, ratio=None).parameter("x.bias", "32", optimized=False)
    finding = only(STALLED, held)
    assert (finding.severity, finding.site) == ("error", "x.bias")
    assert sorted(finding.evidence["parameters"]) == ["x.bias", "x.weight"]
    assert finding.evidence["count"] == 2


@pytest.mark.parametrize("gradient", [None, 0.0])
def test_a_frozen_weight_in_no_optimizer(gradient: float | None) -> None:
    held = net(1e-3, 1e-3, loss=falling)
    held.output("x").parameter("x.weight", optimized=False, trainable=False, gradient=gradient, ratio=None)
    assert not found(STALLED, held)


@pytest.mark.parametrize(
    ("threshold", "ratios"),
    [
        ("oversized_error", [lambda step, just=just: just if step == 7 else 1e-3 for just in (1.0, 1.0, 1.0)]),
        ("oversized_lasting_error", [1.0, 1.0, 1.0]),
        ("oversized_single_error", [1e-3, 1e-3, lambda step: 1.0 if step == 7 else 1e-3]),
    ],
)
@pytest.mark.parametrize(("just", "count"), [(1.1, 1), (0.9, 0)])
def test_thresholds_of_oversize(threshold: str, ratios: list[Value], just: float, count: int) -> None:
    limit = just * DEFAULTS[threshold]
    scaled: list[Value] = []
    for ratio in ratios:
        height = ratio if callable(ratio) else lambda step, ratio=ratio: ratio
        scaled.append(lambda step, height=height: limit if height(step) == 1.0 else 1e-3)
    findings = found(OVERSIZED, net(*scaled))
    assert [one.severity for one in findings] == ["error"] * count
    if findings:
        assert findings[0].evidence["step"] == (0 if threshold == "oversized_lasting_error" else 7)
        assert findings[0].evidence["update_ratio"] == pytest.approx(limit)


def test_oversize_names_the_worst_weight() -> None:
    finding = only(OVERSIZED, net(2.0, 50.0, 3.0))
    assert finding.site == "b.weight"
    assert finding.evidence["median_ratio"] == pytest.approx(3)
    assert finding.evidence["lr"] == 0.1
    assert "50 times the weight itself" in finding.message


def test_a_raw_input_is_named_in_the_remedy() -> None:
    raw = Net().output("data", "input", "input", rms=150.0).output("a").parameter("a.weight", ratio=20.0)
    assert "rms is 150: standardize it" in only(OVERSIZED, raw).remedy
    assert "standardize" not in only(OVERSIZED, net(20.0)).remedy


@pytest.mark.parametrize("start", [0.0, 1e-6])
def test_what_starts_at_nothing_has_no_ratio(start: float) -> None:
    """A zero-initialized branch or LoRA matrix: its first step is infinitely large."""
    branch = net(1e-3, 1e-3, 1e-3)
    branch.output("z").parameter("z.weight", rms=lambda step: start + 1e-3 * step, ratio=1e3)
    assert not found(OVERSIZED, branch)


def test_biases_and_scales_do_not_count() -> None:
    assert not found(OVERSIZED, net(1e-3, 1e-3).output("n").parameter("n.bias", "32", ratio=1e3))
    assert not found(STALLED, net(1e-3, 1e-3).parameter("b.gamma", "32", ratio=1e-9).parameter("b.bias", "32", ratio=0))


def growing(*factors: float, loss: Value = flat, scale: float = 1.0) -> Net:
    """Layers whose weights end at so many times the norm they began with, by small steps."""
    made = Net(loss=loss)
    for name, factor in zip("abcdefgh", factors, strict=False):
        rms = [scale * 32**-0.5 * factor ** (step / 29) for step in range(30)]
        made.output(name).parameter(f"{name}.weight", rms=rms, ratio=0.02)
    return made.output("loss:cross_entropy", "loss", "cross_entropy", gradient=None)


def test_weights_that_grow_while_nothing_is_learned() -> None:
    limit = DEFAULTS["grown_error"]
    finding = only(OVERSIZED, growing(1.1 * limit, 1.1 * limit, 1.0))
    assert (finding.severity, finding.evidence["of"], finding.site) == ("error", "growth", "a.weight")
    assert finding.evidence["median_growth"] == pytest.approx(1.1 * limit)
    assert not found(OVERSIZED, growing(0.9 * limit, 0.9 * limit, 1.0))
    assert not found(OVERSIZED, growing(1.1 * limit, 1.1 * limit, 1.0, loss=falling))


def test_a_single_matrix_that_grows_by_far() -> None:
    limit = DEFAULTS["grown_single_error"]
    slow = lambda step: 2.3 * 0.99**step  # noqa: E731
    finding = only(OVERSIZED, growing(1.0, 1.1 * limit, 1.0, loss=slow))
    assert (finding.severity, finding.site) == ("error", "b.weight")
    assert not found(OVERSIZED, growing(1.0, 0.9 * limit, 1.0, loss=slow))
    assert not found(OVERSIZED, growing(1.0, 1.1 * limit, 1.0, loss=falling)), "it is half solved"
    assert not found(OVERSIZED, growing(1.0, 1.1 * limit, 1.0, loss=slow, scale=0.1)), "it began with little on purpose"


def test_what_does_not_move_at_all_is_an_error_however_noisy_the_loss() -> None:
    noisy = [2.0 + ((7 * step) % 5) * 0.4 - 0.02 * step for step in range(30)]
    assert only(STALLED, net(1e-7, 1e-7, 1e-7, loss=noisy)).severity == "error"
    assert only(STALLED, net(1e-4, 1e-4, 1e-4, loss=noisy)).severity == "warning"


def test_a_training_that_is_done_may_stand_still() -> None:
    """A loss that fell a thousandfold at once, and small steps at the end."""
    solved = Net(loss=lambda step: 44.0 * 0.3**step if step < 6 else 0.03 + 0.001 * (step % 3))
    assert not found(STALLED, solved.output("0").parameter("0.weight", ratio=3e-4))
    stands = Net(loss=flat).output("0").parameter("0.weight", ratio=3e-4)
    assert only(STALLED, stands).severity == "error"


@pytest.mark.parametrize(("known", "severity"), [(True, "error"), (False, "warning")])
def test_growth_under_a_loss_of_ones_own_is_a_warning(known: bool, severity: str) -> None:
    """A policy gradient's loss need not fall, and nothing but its being written by hand tells of it."""
    net = Net(loss=flat)
    for number in range(3):
        net.output(f"{number}").parameter(f"{number}.weight", rms=lambda step: 0.1 * 1.05**step)
    if known:
        net.output("loss:cross_entropy", "loss", "cross_entropy", gradient=None)
    assert only(OVERSIZED, net).severity == severity


@pytest.mark.parametrize(
    ("peak", "rises", "loss", "of"),
    [(0.16, True, flat, ["first"]), (0.14, True, flat, []), (0.16, False, flat, []), (0.16, True, falling, [])],
)
def test_steps_after_a_warm_up_that_remake_the_weights(peak: float, rises: bool, loss: Value, of: list[str]) -> None:
    net = Net(loss=loss)
    for name in "abc":
        net.output(name).parameter(f"{name}.weight", ratio=lambda step: peak if 8 <= step < 12 else 0.01)
    trace = net.build()
    trace.steps["lr"] = [0.01 * min(step + 1, 10) if rises else 0.1 for step in range(30)]
    findings = found(OVERSIZED, trace)
    assert [one.evidence["of"] for one in findings] == of
    if of:
        assert findings[0].evidence["step"] == 8
        assert "steps 8 to 10" in findings[0].message


@pytest.mark.parametrize(("known", "severity"), [(3, None), (14, None), (15, "warning"), (0, "warning")])
def test_a_loss_that_is_known_of_a_few_steps_says_nothing_of_the_others(known: int, severity: str | None) -> None:
    """As where a CUDA graph takes them."""
    net = Net(loss=[2.3] * known + [math.nan] * (30 - known) if known else None).output("0")
    net.parameter("0.weight", ratio=0.9 * DEFAULTS["stalled_warning"])
    trace = net.build()
    trace.steps["loss_known"] = trace.steps["step"] < known
    assert [one.severity for one in found(STALLED, trace)] == ([severity] if severity else [])


@pytest.mark.parametrize(
    ("optimizer", "loss", "severity"),
    [
        (lambda step: float(step), flat, "error"),
        (lambda step: float(step), lambda step: 2.3 * 0.8**step, "warning"),
        (lambda step: float(step // 2), flat, None),  # as for each task
        (lambda step: float(step % 2), flat, None),
    ],
)
def test_an_optimizer_that_is_made_anew_for_each_step(optimizer: Value, loss: Value, severity: str | None) -> None:
    findings = [
        one
        for one in found(STALLED, net(1e-3, loss=loss, optimizer=optimizer))
        if one.evidence.get("of") == "made anew"
    ]
    assert [one.severity for one in findings] == ([severity] if severity else [])


@pytest.mark.parametrize(
    ("cut", "of", "ratio", "kind"),
    [
        (1e-5, 1e-5, 1e-5, "clip"),
        (1e-5, 0.9e-5, 1e-5, None),  # the largest of each matrix differ
        (1e-5, 1e-5, 1e-2, None),  # as Adam makes usual steps of them
        (0.2, 0.2, 1e-5, None),
    ],
)
def test_gradients_that_are_cut_entry_by_entry(cut: float, of: float, ratio: float, kind: str | None) -> None:
    made = net(ratio, ratio)
    trace = made.build()
    rows = trace.frame["kind"].eq("weight_gradient")
    trace.frame.loc[rows, "min"], trace.frame.loc[rows, "max"] = -cut, 0.5 * cut
    trace.frame.loc[rows & trace.frame["site"].eq("b.weight"), "min"] = -of
    trace.frame.loc[rows, "rms"] = (0.7 + 0.01 * trace.frame.loc[rows, "step"] % 3) * cut
    kinds = [one.evidence.get("of") for one in found(STALLED, trace)]
    assert ("clip" in kinds) == (kind == "clip")


@pytest.mark.parametrize(("entropy", "count"), [(0.12, 0), (1.8, 1)])
def test_what_goes_on_with_what_was_learned_before_may_stand_still(entropy: float, count: int) -> None:
    net = Net(loss=lambda step: entropy)
    for name in "abc":
        net.output(name).parameter(f"{name}.weight", ratio=1e-4)
    net.output("loss:cross_entropy", "loss", "cross_entropy", gradient=None, units=10)
    net.output("loss:cross_entropy[value]", "loss", "cross_entropy", gradient=None, mean=entropy)
    assert len([one for one in found("stalled-update", net) if one.severity == "error"]) == count
