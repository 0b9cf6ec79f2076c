"""What a gate reads in a trial, and the margins it holds it to."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
import pytest

from diag.gate.metrics import METRICS, GateError, chosen_margins, gated, of_layers
from diag.suite.record import Record, packed
from tests.gate.runs import recipe_of


def layers(*rows: dict[str, Any]) -> pd.DataFrame:
    base = {
        "step": 0, "site": "layers.0:relu", "order": 0, "op": "tanh", "kind": "activation", "rms": 1.0,
        "saturated_fraction": math.nan, "units": 10.0, "dead_units": math.nan, "nonfinite": 0.0,
    }  # fmt: skip
    return pd.DataFrame([base | one for one in rows])


def chain(kind: str, *sizes: float, **more: Any) -> list[dict[str, Any]]:
    """A row per layer, the first one first."""
    return [
        {"site": f"blocks.{i}.activation", "order": i, "kind": kind, "rms": rms, **more} for i, rms in enumerate(sizes)
    ]


def test_what_was_not_measured_is_left_out() -> None:
    record = Record("a", 0, {"recipe": recipe_of("a")}, {"test_loss": 0.5, "wall": 3.0, "diverged": 0.0})
    assert gated(record) == {"test_loss": 0.5, "diverged": 0.0}


def test_the_layers_are_read_too() -> None:
    frame = layers(*chain("gradient", 0.01, 0.1, 1.0))
    record = Record("a", 0, {"recipe": recipe_of("a")}, {"test_loss": 0.5}, tables={"layers": packed(frame)})
    assert gated(record) == {"test_loss": 0.5, "gradient_decay": pytest.approx(-1.0)}


def test_of_an_experiment_that_is_looked_at_which_has_a_known_name() -> None:
    measured = {"test_loss": 0.5, "gain": 2.0}
    assert gated(Record("a", 0, {"experiment": "f", "parameters": {}}, measured)) == {"test_loss": 0.5}


def test_of_a_network_of_ones_own_what_it_and_the_loss_are_given_is_no_depth() -> None:
    rows = [("Net:input", "input", 5.0), ("a", "linear", 1.0), ("b", "relu", 0.1), ("c", "linear", 3.0)]
    rows += [("d", "tanh", 0.01), ("e", "linear", 7.0), ("loss:cross_entropy", "cross_entropy", 9.0)]
    rows += [("loss:cross_entropy[target]", "target", 4.0), ("loss:softmax", "softmax", 0.3)]
    made = [
        {"site": site, "op": op, "order": i, "rms": rms, "dead_units": float(op in ("input", "relu"))}
        for i, (site, op, rms) in enumerate(rows)
    ]
    found = of_layers(layers(*made))
    assert found["activation_decay"] == pytest.approx(-1.0)
    assert found["dead"] == pytest.approx(0.1)
    linear = of_layers(layers(*(one for one in made if one["op"] not in ("relu", "tanh"))))
    assert linear["activation_decay"] == pytest.approx(math.log10(7.0) / 2)


@pytest.mark.parametrize(
    ("sizes", "decay"),
    [((1.0, 0.1, 0.01), -1.0), ((1e-6, 1e-3, 1.0), 3.0), ((1.0, 7.0, 1.0), 0.0), ((1.0, 10.0), 1.0)],
)
@pytest.mark.parametrize("kind", ["activation", "gradient"])
def test_decay_is_decades_per_layer_in_the_direction_of_the_pass(
    kind: str, sizes: tuple[float, ...], decay: float
) -> None:
    expected = decay if kind == "activation" else -decay  # the backward pass begins at the last layer
    assert of_layers(layers(*chain(kind, *sizes)))[f"{kind}_decay"] == pytest.approx(expected)


def test_decay_is_of_the_first_step_and_in_the_order_of_the_forward_pass() -> None:
    first = chain("gradient", 0.001, 0.1, step=0)
    later = chain("gradient", 1.0, 1.0, step=40)
    assert of_layers(layers(*later, *reversed(first)))["gradient_decay"] == pytest.approx(-2.0)


def test_one_layer_has_no_decay() -> None:
    assert "gradient_decay" not in of_layers(layers(*chain("gradient", 0.5)))


def test_a_silent_layer_is_infinitely_worse_and_not_missing() -> None:
    assert of_layers(layers(*chain("gradient", 0.0, 0.1, 1.0)))["gradient_decay"] == math.inf
    broken = chain("activation", 1.0, math.nan, 1.0)
    assert "activation_decay" not in of_layers(layers(*broken)), "nobody looked: that is no verdict"
    broken[1]["nonfinite"] = 640.0
    assert of_layers(layers(*broken))["activation_decay"] == math.inf


def test_saturation_and_death_are_of_the_worst_layer_at_the_last_look() -> None:
    rows = [
        {"site": "a:relu", "op": "relu", "saturated_fraction": 0.9, "dead_units": 2.0, "step": 10},
        {"site": "b.activation", "op": "tanh", "saturated_fraction": 0.3, "dead_units": 0.0, "step": 10},
        {
            "site": "c.activation",
            "op": "tanh",
            "saturated_fraction": 0.2,
            "dead_units": 5.0,
            "units": 100.0,
            "step": 10,
        },
        {"site": "b.activation", "op": "tanh", "saturated_fraction": 0.8, "dead_units": 9.0, "step": 0},
    ]
    found = of_layers(layers(*rows))
    # ReLU's flat side is judged by what is dead, not by what is saturated; step 0 is not the last look.
    assert found == {"saturated": pytest.approx(0.3), "dead": pytest.approx(0.2)}


def steps_of(*sizes: tuple[float, float], **more: Any) -> pd.DataFrame:
    """The rms of a weight's update and of the weight, step by step; a bias that is 0 and stays so beside it."""
    rows = []
    for step, (update, weight) in enumerate(sizes):
        rows += [
            {"step": step, "kind": kind, "site": "a.weight", "count": 90.0, "rms": rms} | more
            for kind, rms in (("update", update), ("weight", weight))
        ]
        rows += [
            {"step": step, "kind": kind, "site": "a.bias", "count": 10.0, "rms": 0.0} for kind in ("update", "weight")
        ]
    return layers(*rows)


def test_the_update_ratio_is_of_all_parameters_together_at_the_first_step_that_moved_them() -> None:
    frame = steps_of((0.0, 1.0), (0.01, 1.0), (0.5, 1.0))
    assert of_layers(frame) == {"update_ratio": pytest.approx(-2.0)}
    assert of_layers(steps_of((0.0, 1.0), (0.0, 1.0))) == {"update_ratio": math.inf}
    assert of_layers(steps_of((0.01, 1.0), nonfinite=1.0)) == {"update_ratio": math.inf}


def test_only_nonlinearities_count_where_there_are_any() -> None:
    linear = {"site": "layers.1", "op": "linear", "dead_units": 10.0}
    assert of_layers(layers({"dead_units": 1.0}, linear))["dead"] == pytest.approx(0.1)
    assert of_layers(layers(linear))["dead"] == pytest.approx(1.0)


def test_a_margin_is_absolute_or_a_share_whichever_is_more() -> None:
    loss = METRICS["test_loss"]
    assert loss.margin_at(2.0) == pytest.approx(0.2)
    assert loss.margin_at(0.01) == pytest.approx(0.02)
    assert loss.margin_at(math.inf) == pytest.approx(0.02)
    assert METRICS["test_accuracy"].margin_at(0.9) == pytest.approx(0.02)


def test_a_chosen_margin_is_absolute_and_leaves_the_others() -> None:
    chosen = chosen_margins({"test_loss": 0.5})
    assert chosen["test_loss"].margin_at(100.0) == pytest.approx(0.5)
    assert {name for name in METRICS if chosen[name] != METRICS[name]} == {"test_loss"}
    assert METRICS["test_loss"].margin == pytest.approx(0.02), "a choice is for one gate"


@pytest.mark.parametrize(
    ("name", "margin", "message"),
    [
        ("test_acuracy", 0.1, r"no metric 'test_acuracy' in a gate \(did you mean 'test_accuracy'\?\)"),
        ("test_loss", 0.0, "the margin of test_loss is a positive number, got 0.0"),
        ("test_loss", -1.0, "positive"),
        ("test_loss", math.nan, "positive"),
        ("test_loss", math.inf, "positive"),
    ],
)
def test_a_wrong_margin(name: str, margin: float, message: str) -> None:
    with pytest.raises(GateError, match=message):
        chosen_margins({name: margin})
