"""What does normalization do: to distributions, to learning rates, to speed, and to gradients at initialization?

An eight-layer ReLU network learns handwritten digits with no, batch, layer and group normalization before each
activation, at learning rates from 0.01 to 10. What normalization costs is timed against the same network without. What
it does to gradients at initialization is measured on 25 wide layers, where theory has an exact answer.
"""

import copy
import math

import numpy as np
import pandas as pd
import torch
from torch import nn

import diag
from diag.recipes import kinds
from diag.recipes.folding import fold_batch_norm
from diag.report import suite_figures as draw
from diag.train.evaluate import evaluate
from diag.train.trial import run_recipe

NORMS = ["none", "batch", "layer", "group"]
RATES = [0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0]
LEARNED = 0.8
BASE = diag.Recipe(depth=8, width=64, init="he_normal", steps=250)


def layer_rows(frame, kind, part):
    """The rows of one kind at one part of each block, with the number of its layer, from 0."""
    rows = frame[(frame["kind"] == kind) & frame["site"].str.match(rf"blocks\.\d+\.{part}(\.norm)?$")]
    return rows.assign(layer=rows["site"].str.extract(r"blocks\.(\d+)", expand=False).astype(int))


def drift(session):
    """How far the distribution that enters each activation moves while training, mean over layers.

    spread_drift: largest |ln(std / first std)|; mean_drift: largest |mean - first mean| / first std.
    """
    if session.fitted.diverged:
        return {}
    rows = layer_rows(session.trace.frame, "activation", "norm" if session.recipe.norm != "none" else "linear")
    rows = rows.assign(std=np.sqrt(rows["var"])).sort_values(["layer", "step"])
    first = rows.groupby("layer")[["mean", "std"]].transform("first")
    moved = pd.DataFrame(
        {
            "layer": rows["layer"],
            "spread_drift": np.log(rows["std"] / first["std"]).abs(),
            "mean_drift": (rows["mean"] - first["mean"]).abs() / first["std"],
        }
    )
    return {
        **moved.groupby("layer").max().mean().to_dict(),
        "distributions": rows[["step", "layer", "mean", "std"]],
    }


def statistics(session):
    """Test accuracy with running statistics minus that with the batch's own, and how much a sample's output depends on
    the other samples of its batch, with each: the largest change of a logit."""
    if session.recipe.norm != "batch" or session.fitted.diverged:
        return {}
    inputs, labels = session.dataset.test
    own = copy.deepcopy(session.model)
    for one in own.modules():
        if isinstance(one, nn.BatchNorm1d):
            one.track_running_stats, one.running_mean, one.running_var = False, None, None
    with torch.no_grad():
        alone = session.model(inputs[:32])
        change = (alone - session.model(inputs)[:32]).abs().max()
        change_own = (own(inputs[:32]) - own(inputs)[:32]).abs().max()
        right = [own(x).argmax(1) == y for x, y in zip(inputs.split(64), labels.split(64), strict=True)]
    running = evaluate(session.model, session.dataset, session.dataset.test)["accuracy"]
    return {
        "running_minus_own": running - float(torch.cat(right).float().mean()),
        "change_running": float(change),
        "change_own": float(change_own),
    }


def gradients_at_start(seed, norm, layers=25, units=512, samples=1024):
    """The factor per layer of the gradient's mean square, on its way down, in a wide ReLU network before any training.

    The five layers at each end are left out: the theory is of the inside.
    """
    recipe = BASE.but(
        data=f"gaussian(features={units}, samples={2 * samples})", depth=layers, width=units, norm=norm,
        batch_size=samples, steps=0,
    )  # fmt: skip
    frame = run_recipe(recipe, seed, looks=1, validations=1).tables["layers"]
    rows = layer_rows(frame, "gradient", "linear").sort_values("layer")
    squares = rows["rms"].to_numpy() ** 2
    factor = (squares[5] / squares[-6]) ** (1 / (len(squares) - 11))
    return {"gradient_factor": float(factor), "by_depth": rows[["layer", "rms"]].assign(norm=norm)}


def prices(seed, units=256, layers=8, samples=128, rounds=9):
    """Time of a training step and of a prediction with each norm over that without, one thread; folded too."""
    torch.manual_seed(seed)
    x, y = torch.randn(samples, units), torch.randint(10, (samples,))
    models = {norm: network(norm, units, layers) for norm in NORMS}

    def train(model):
        model.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()

    # So that there are running statistics to fold.
    train(models["batch"])
    models["folded"] = fold_batch_norm(models["batch"])
    with torch.no_grad():
        gap = (models["folded"].eval()(x) - models["batch"].eval()(x)).abs().max()
    jobs = {f"predict_{name}": ("model(x)", model.eval(), 40) for name, model in models.items()}
    measured = {"folded_gap": float(gap)}
    with torch.no_grad():
        measured |= ratios(jobs, {"x": x}, rounds)
    jobs = {f"train_{name}": ("train(model)", models[name].train(), 12) for name in NORMS}
    return measured | ratios(jobs, {"train": train}, rounds)


def network(norm, units, layers):
    """Linear, norm, ReLU, as often as there are layers, and a linear head."""
    make = kinds.norm.resolve(norm)
    parts = [one for _ in range(layers) for one in (nn.Linear(units, units), make(units, 0), nn.ReLU())]
    return nn.Sequential(*[one for one in parts if one is not None], nn.Linear(units, 10))


def ratios(jobs, names, rounds):
    """Median over rounds of each job's time over the first's; interleaved, so that the machine's moods meet all."""
    from torch.utils.benchmark import Timer

    times = {name: [] for name in jobs}
    for _ in range(rounds):
        for name, (statement, model, count) in jobs.items():
            timer = Timer(statement, globals={"model": model, **names}, num_threads=1)
            times[name].append(timer.timeit(count).median)
    first = np.array(next(iter(times.values())))
    return {name: float(np.median(np.array(one) / first)) for name, one in times.items()}


cases = {
    **diag.axes(BASE, norm=NORMS, lr=RATES),
    **{f"gradients, {norm}": diag.Experiment(gradients_at_start, norm=norm) for norm in ("none", "batch")},
    "price": diag.Experiment(prices),
}


def largest_rate(results, norm):
    """Per seed, the largest rate of the grid at which test accuracy is above 0.8, and a third of the least for none."""
    rows = results.select(norm=norm, lr=RATES)
    rows = rows.assign(rate=rows["lr"].where(rows["test_accuracy"] > LEARNED, min(RATES) / 3))
    return rows.groupby("seed")["rate"].max()


def drift_less(results, metric):
    """Drift without normalization minus that with batch normalization, by seed, at the rate 0.1."""
    return results.difference(metric, {"norm": "none", "lr": 0.1}, {"norm": "batch", "lr": 0.1})


def accuracy(results):
    """Test accuracy of an eight-layer ReLU network by normalization and learning rate; chance is 0.1."""
    return draw.heat_map(results.select(norm=NORMS, lr=RATES), "norm", "lr", "test_accuracy", label="test accuracy")


def distributions(results):
    """Standard deviation of what enters the activation of three layers, over the training steps, at the rate 0.1."""
    rows = results.table("distributions", lr=0.1)
    rows = rows[rows["layer"].isin([0, 3, 7])]
    rows = rows.assign(
        norm=rows["case"].str.extract(r"norm=(\w+)", expand=False), layer="layer " + (rows["layer"] + 1).astype(str)
    )
    return draw.panels(rows, "step", "std", panel="norm", hue="layer", ylabel="standard deviation")


def gradients(results):
    """Rms of the gradient by layer at initialization; dashed, what theory has for batch normalization: 1.21 a layer."""
    rows = results.table("by_depth")
    figure = draw.curves(rows, "layer", "rms", hue="norm", log="y", ylabel="rms of the gradient")
    batch = rows[rows["norm"] == "batch"].groupby("layer")["rms"].mean()
    middle = batch.index[len(batch) // 2]
    theory = batch[middle] * (math.pi / (math.pi - 1)) ** ((middle - batch.index.to_numpy()) / 2)
    figure.axes[0].plot(batch.index, theory, color="0.3", linestyle="--", linewidth=1)
    return figure


def price_table(results):
    """Time over that of the same network without normalization, one thread; medians, then means over seeds."""
    row = results.select(case="price").filter(regex="^(predict|train)_").mean()
    names = [*NORMS, "folded"]
    return pd.DataFrame(
        {"norm": names, **{what: [row.get(f"{what}_{one}") for one in names] for what in ("train", "predict")}}
    )


def price(results, name):
    """A time or gap by seed."""
    return results.values(name, case="price")


def answer(results):
    """What was found, in two sentences."""
    rates = {one: largest_rate(results, one).median() for one in ("none", "batch")}
    explode = results.values("gradient_factor", case="gradients, batch").mean()
    table = price_table(results).set_index("norm")
    return (
        f"Batch normalization lets eight ReLU layers learn at rates up to {rates['batch']:g}, against "
        f"{rates['none']:g} without, and what enters an activation moves less; it costs "
        f"{100 * (table.loc['batch', 'train'] - 1):.0f} % of a training step and, unless it is folded away, "
        f"{100 * (table.loc['batch', 'predict'] - 1):.0f} % of a prediction. At initialization it makes squared "
        f"gradients grow by {explode:.3f} a layer (pi/(pi-1) = 1.467)."
    )


def at_their_best(results):
    """Every normalization and rate: test accuracy after 250 steps."""
    names = [f"norm={norm} lr={lr}" for norm in NORMS for lr in RATES]
    return results.ranking(names, test_accuracy="high", test_loss="low")


suite = diag.Suite(
    question="What does normalization do: to distributions, learning rates, speed, and gradients at initialization?",
    cases=cases,
    seeds=5,
    looks=20,
    validations=1,
    measures=[drift, statistics],
    quick={"steps": 40, "depth": 8, "units": 128, "samples": 256, "rounds": 3},
    quick_seeds=2,
    answer=answer,
    concepts=("folding_batch_norm",),
    notes=[
        "Times are ratios within one process on one thread of a shared two-core machine; the claims on prices are the "
        "only ones here that another load on the machine can blur.",
    ],
    figures={"Accuracy by rate": accuracy, "Distributions": distributions, "Gradients at initialization": gradients},
    tables={
        "The price": price_table,
        "Every rate": at_their_best,
        "Largest rate that learns": lambda r: pd.DataFrame({one: largest_rate(r, one) for one in NORMS}).reset_index(),
    },
    claims=[
        diag.Claim(
            "With batch norm what enters an activation moves less in training (rate 0.1), in spread and in mean",
            "Ioffe & Szegedy 2015, section 4.1",
            lambda r: {what: drift_less(r, f"{what}_drift") for what in ("spread", "mean")},
            above=0.0,
            unit="first standard deviations less (spread: in logarithm)",
        ),
        diag.Claim(
            "Batch norm allows a rate at least five times as high",
            "Ioffe & Szegedy 2015, section 4.2.1 (BN-x5)",
            lambda r: (largest_rate(r, "batch") / largest_rate(r, "none")).map(math.log10),
            above=math.log10(5),
            unit="log10 of the ratio of the largest rates that learn",
        ),
        diag.Claim(
            "Batch norm makes a training step dearer by more than 5 %",
            "Gitman & Ginsburg 2017",
            lambda r: price(r, "train_batch"),
            above=1.05,
            unit="times the step without",
        ),
        diag.Claim(
            "Unfolded, it makes prediction dearer by more than 5 %",
            "Jacob et al. 2018, section 3.2",
            lambda r: price(r, "predict_batch"),
            above=1.05,
            unit="times the prediction without",
        ),
        diag.Claim(
            "Folded into the layers before, it is free at prediction, to within 5 %",
            "Jacob et al. 2018, section 3.2",
            lambda r: price(r, "predict_folded"),
            above=0.95,
            below=1.05,
            unit="times the prediction without",
        ),
        diag.Claim(
            "The folded network computes the same, to 1e-4",
            "Jacob et al. 2018, section 3.2",
            lambda r: float(price(r, "folded_gap").max()),
            below=1e-4,
            unit="largest difference of a logit, over all seeds",
        ),
        diag.Claim(
            "With running statistics it predicts as well as with those of batches of 64: less than a point worse",
            "Ioffe & Szegedy 2015, section 3.1",
            lambda r: r.values("running_minus_own", norm="batch", lr=0.1),
            above=-0.01,
            unit="test accuracy",
        ),
        diag.Claim(
            "and then a sample's output does not depend on the rest of its batch, to 1e-4",
            "Ioffe & Szegedy 2015, section 3.1",
            lambda r: float(r.values("change_running", norm="batch", lr=0.1).max()),
            below=1e-4,
            unit="largest change of a logit, over all seeds",
        ),
        diag.Claim(
            "At initialization batch norm makes gradients explode: squared norm times pi/(pi-1) a layer, to within 5 %",
            "Yang et al. 2019, theorem 3.9",
            lambda r: r.values("gradient_factor", case="gradients, batch") / (math.pi / (math.pi - 1)),
            above=0.95,
            below=1.05,
            unit="times pi/(pi-1)",
        ),
        diag.Claim(
            "Without it, under He's initialization, they stay level, to within 5 % a layer",
            "He et al. 2015, section 2.2",
            lambda r: r.values("gradient_factor", case="gradients, none"),
            above=0.95,
            below=1.05,
            unit="factor per layer",
        ),
    ],
)  # fmt: skip
