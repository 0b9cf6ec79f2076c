"""Does clipping save a recurrent network whose gradients explode, and what does it do to them?

A recurrent ReLU network learns the adding problem: two marked numbers of a sequence are to be added up. Its orthogonal
recurrent weights are scaled by 1.2, so a state that stays positive grows by 1.2^20 = 38 over the sequence, and the
gradient on its way back as well.
"""

import math

import numpy as np
import pandas as pd
import torch

import diag
from diag.recipes.kinds import clipping
from diag.report import suite_figures as draw
from diag.train.build import build_model, load_dataset

RATES = [0.01, 0.03, 0.1, 0.3, 1.0]
VALUE, NORM = "value(clip_value=0.1)", "norm(max_norm=1.0)"
CLIPS = ["none", VALUE, NORM]
# Mean squared errors: of always answering 1, and half of it.
TRIVIAL = 1 / 6
LEARNED = TRIVIAL / 2

BASE = diag.Recipe(
    data="adding(length=20)",
    network="rnn(unrolled=False)",
    activation="relu",
    init="orthogonal(gain=1.2)",
    depth=1,
    width=32,
    batch_size=32,
    steps=1500,
)
# Unrolled, so that each time step is seen. The default recurrent weights, U[-1/sqrt(n), 1/sqrt(n)], have the spectral
# radius 0.58; orthogonal ones have 1.
INITS = ["default", "orthogonal"]
TANH = BASE.but(network="rnn", activation="tanh", clipping=NORM, steps=300)


def vectors(seed):
    """What the two ways make of the gradient [0.9, 100] at a limit of 1, and how far its direction turns."""
    found = {}
    for name in ("value", "norm"):
        found[f"{name}_cosine"], (found[f"{name}_first"], found[f"{name}_second"]) = turned([0.9, 100.0], name)
    return found


def directions(seed):
    """How far clipping turns a real gradient: the network's at initialization."""
    dataset = load_dataset(BASE.data, seed)
    model = build_model(BASE, dataset, seed)
    inputs, targets = next(dataset.batches(BASE.batch_size, seed))
    torch.nn.functional.mse_loss(model(inputs), targets).backward()
    gradient = torch.cat([one.grad.flatten() for one in model.parameters()]).double()
    # At a tenth of what it is, so that both ways have to act.
    largest, norm = float(gradient.abs().max()), float(gradient.norm())
    return {
        "value_cosine": turned(gradient, f"value(clip_value={largest / 10})")[0],
        "norm_cosine": turned(gradient, f"norm(max_norm={norm / 10})")[0],
    }


def turned(gradient, clip):
    """The cosine between a gradient before and after clipping, and what it is after."""
    parameter = torch.nn.Parameter(torch.zeros(len(gradient), dtype=torch.float64))
    parameter.grad = torch.as_tensor(gradient, dtype=torch.float64).clone()
    before = parameter.grad.clone()
    clipping.resolve(clip)([parameter])
    return float(torch.nn.functional.cosine_similarity(before, parameter.grad, dim=0)), parameter.grad.tolist()


cases = {
    **diag.axes(BASE, clipping=CLIPS, lr=RATES),
    **{f"tanh, {init}": TANH.but(init=init) for init in INITS},
    "two numbers": diag.Experiment(vectors),
    "a real gradient": diag.Experiment(directions),
}


def by_time_step(session):
    """Rms of the loss gradient at the state by time step, before and after training, and its factor per step back."""
    if session.recipe.network != TANH.network:
        return {}
    frame = session.trace.frame
    rows = frame[(frame["kind"] == "gradient") & frame["site"].str.endswith("recurrence.activation")]
    rows = rows.sort_values(["step", "call"])[["step", "call", "rms"]]
    first = rows[rows["step"] == rows["step"].min()]["rms"]
    factor = (first.iloc[0] / first.iloc[-1]) ** (1 / (len(first) - 1))
    return {"factor_per_step": float(factor), "by_time": rows}


def largest_rate(results, clip):
    """Per seed, the largest rate that ends better than always answering 1; a third of the least where none does."""
    rows = results.select(clipping=clip, lr=RATES)
    rows = rows.assign(rate=rows["lr"].where(rows["test_loss"] < TRIVIAL, min(RATES) / 3))
    return rows.groupby("seed")["rate"].max()


def rate_gain(results):
    """Per seed, log10 of the largest rate with norm clipping over that without."""
    return (largest_rate(results, NORM) / largest_rate(results, "none")).map(math.log10)


def numbers_gap(results):
    """Largest distance of each clipped vector from the two numbers that it should be."""
    row = results.select(case="two numbers").iloc[0]
    wanted = {"value": (0.9, 1.0), "norm": (0.00899964, 0.9999595)}
    return {
        name: max(abs(row[f"{name}_first"] - first), abs(row[f"{name}_second"] - second))
        for name, (first, second) in wanted.items()
    }


def cosine(results, name):
    """Of the canon's two numbers, and of the network's gradients."""
    return {
        "[0.9, 100]": float(results.values(f"{name}_cosine", case="two numbers").iloc[0]),
        "a network's gradient": results.values(f"{name}_cosine", case="a real gradient"),
    }


def test_error(results):
    """The test error (mean squared) by clipping and rate, cut off at 1; 0.167 is what always answering 1 gives."""
    table = results.select(clipping=CLIPS, lr=RATES, network=BASE.network)
    return draw.heat_map(
        table.assign(error=table["test_loss"].clip(upper=1.0)), "clipping", "lr", "error", label="mean squared error"
    )


def gradients(results):
    """Gradient norm over the training steps at the rate 0.1, before and after clipping by norm at 1: the mean, and the
    largest since the last look."""
    rows = results.table("curves", clipping=NORM, lr=0.1, network=BASE.network)
    rows = pd.concat(
        [
            rows.assign(what="largest, before clipping", norm=rows["gradient_norm_max"]),
            rows.assign(what="mean, before clipping", norm=rows["gradient_norm"]),
            rows.assign(what="mean, after clipping", norm=rows["clipped_norm"]),
        ],
        ignore_index=True,
    )
    # In logarithms, so that the band is of factors.
    rows["norm"] = np.log10(rows["norm"])
    return draw.curves(rows, "step", "norm", hue="what", ylabel="log10 of the gradient norm")


def vanishing(results):
    """Rms of the gradient at the state of a tanh network by time step, at initialization; the loss sits at the last."""
    rows = results.table("by_time")
    rows = rows[rows["step"] == rows["step"].min()]
    rows = rows.assign(log=np.log10(rows["rms"]))
    return draw.curves(rows, "call", "log", xlabel="time step", ylabel="log10 of the gradient's rms")


def errors(results):
    """Test error, cut off at 1, and the share of the trainings that diverge."""
    rows = results.select(clipping=CLIPS, lr=RATES, network=BASE.network)
    rows = rows.assign(**{"test error": rows["test_loss"].clip(upper=1.0)})
    return rows.groupby("case", sort=False)[["test error", "diverged"]].mean().reset_index()


def acting(results):
    """Share of the steps in which clipping acts, and what it leaves of the gradient's norm; means over training."""
    rows = results.table("curves", clipping=[VALUE, NORM], lr=RATES, network=BASE.network)
    rows = rows[rows["clipped_norm"].notna()].assign(left=lambda t: t["clipped_norm"] / t["gradient_norm"])
    columns = {
        "clipped_fraction": "steps clipped",
        "gradient_norm": "norm before",
        "clipped_norm": "norm after",
        "left": "left",
    }
    return rows.groupby("case", sort=False)[list(columns)].mean().rename(columns=columns).reset_index()


def answer(results):
    """What was found, in two sentences."""
    error = {
        name: results.values("test_loss", clipping=clip, lr=0.1, network=BASE.network).clip(upper=1.0).mean()
        for name, clip in (("none", "none"), ("norm", NORM))
    }
    rates = {name: largest_rate(results, clip).median() for name, clip in (("none", "none"), ("norm", NORM))}
    cosines = results.select(case="a real gradient")["value_cosine"].mean()
    return (
        f"At a rate of 0.1 the exploding network ends at a squared error of {error['none']:.2f} without clipping "
        f"(diverged counts as 1, always answering 1 is 0.17) and of {error['norm']:.3f} with clipping by norm, and the "
        f"median of the largest rates that learn goes from {rates['none']:.2g} to {rates['norm']:.2g}. Clipping by "
        f"value turns the gradient (cosine {cosines:.2f} on the network's own), clipping by norm does not."
    )


def all_settings(results):
    """Every clipping and rate; a squared error of 0.167 is what always answering 1 gives."""
    names = list(diag.axes(BASE, clipping=CLIPS, lr=RATES))
    return results.ranking(names, test_loss="low")


suite = diag.Suite(
    question="Does clipping save a recurrent network whose gradients explode, and what does it do to them?",
    cases=cases,
    seeds=5,
    looks=3,
    measures=[by_time_step],
    quick={"steps": 60},
    answer=answer,
    concepts=("vanishing_gradients",),
    notes=[
        "After a look at data, a rate counts as learned when the error falls below that of always answering 1, no "
        "longer half of it; and the vanishing gradient is shown with torch's default initialization instead of "
        "Glorot's, under which it hardly vanishes (0.977 a step).",
    ],
    quick_seeds=2,
    figures={"Test error": test_error, "Gradient norms": gradients, "Gradient against the time step": vanishing},
    tables={
        "Every clipping and rate": all_settings,
        "Test error and divergence": errors,
        "How often and how hard clipping acts": acting,
    },
    claims=[
        diag.Claim(
            "At a limit of 1, [0.9, 100] becomes [0.9, 1.0] by value and [0.00899964, 0.9999595] by norm, to 7 digits",
            "arithmetic",
            numbers_gap,
            below=1e-7,
            unit="largest difference",
        ),
        diag.Claim(
            "Clipping by value turns the direction",
            "Goodfellow, Bengio & Courville 2016, section 10.11.1",
            lambda r: cosine(r, "value"),
            below=0.99,
            unit="cosine",
        ),
        diag.Claim(
            "Clipping by norm keeps it",
            "Pascanu, Mikolov & Bengio 2013, algorithm 1",
            lambda r: cosine(r, "norm"),
            above=1 - 1e-9,
            unit="cosine",
        ),
        diag.Claim(
            "Without clipping the network does not learn at a rate of 0.1: its test error stays above 1/12",
            "Pascanu, Mikolov & Bengio 2013, section 4.1",
            lambda r: r.values("test_loss", clipping="none", lr=0.1).clip(upper=1.0),
            above=LEARNED,
            unit="mean squared error, cut off at 1",
        ),
        diag.Claim(
            "Clipping by norm saves it: at that rate the test error falls below 1/12",
            "Pascanu, Mikolov & Bengio 2013, section 4.1",
            lambda r: r.values("test_loss", clipping=NORM, lr=0.1, network=BASE.network).clip(upper=1.0),
            below=LEARNED,
            unit="mean squared error, cut off at 1",
        ),
        diag.Claim(
            "Clipping by norm allows a rate at least three times as high",
            "Pascanu, Mikolov & Bengio 2013, section 3.2; Zhang et al. 2020, section 4",
            rate_gain,
            above=math.log10(3),
            unit="log10 of the ratio of the largest rates that end better than always answering 1",
        ),
        diag.Claim(
            "In a tanh network with torch's initialization the gradient vanishes back in time: by more than 5 % a step",
            "Pascanu, Mikolov & Bengio 2013, section 2.1",
            lambda r: r.values("factor_per_step", case="tanh, default"),
            below=0.95,
            unit="factor per step back",
        ),
    ],
)  # fmt: skip
