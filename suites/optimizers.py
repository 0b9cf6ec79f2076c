"""Which optimizer trains best, each at its own learning rate, and what does each of them do to a step?

First stage: seven rates per optimizer, half a decade apart, three seeds; a rate is chosen by the mean validation loss.
Second stage: each optimizer at its rate, five seeds, judged on the test part (Schneider et al. 2019; Schmidt et al.
2021). Beside it stand surfaces of two parameters, where the optimizers can be seen, and single parameters under given
gradients, where their formulas can be checked; there nothing is random, and a claim is judged by one number.
"""

import math

import numpy as np
import pandas as pd
import torch

import diag
from diag.recipes import kinds
from diag.report import suite_figures

TASKS = {
    "digits mlp": diag.Recipe(data="digits", network="mlp", depth=3, width=64, init="he_normal", steps=300),
    "mnist1d cnn": diag.Recipe(data="mnist1d", network="cnn", depth=3, width=16, init="he_normal", steps=300),
}
TARGETS = {"digits": 0.9, "mnist1d": 0.6}
HIGHEST = {
    "sgd": 10.0,
    "momentum": 1.0,
    "nesterov": 1.0,
    "adagrad": 1.0,
    "rmsprop": 0.1,
    "adam": 0.1,
    "adamax": 0.3162,
    "nadam": 0.1,
    "adamw": 0.1,
}
RATES = {name: [float(f"{top * 10 ** (-k / 2):.3g}") for k in range(6, -1, -1)] for name, top in HIGHEST.items()}
DECAY = diag.Recipe(data="mnist1d", network="mlp", depth=2, width=64, init="he_normal", lr=0.003, steps=400)
# Six strengths each; L2 in Adam's loss is the stronger of the two at the same number.
DECAYS = {"adam": [0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03], "adamw": [0.01, 0.03, 0.1, 0.3, 1.0, 3.0]}


def steps_to_target(session):
    """The step of the first validation with the task's target accuracy; twice the budget where it is never reached."""
    rows = session.fitted.curves.rows
    reached = [row["step"] for row in rows if row["valid_accuracy"] >= TARGETS[session.recipe.data]]
    return {"steps_to_target": float(min(reached, default=2 * session.recipe.steps))}


def weight_norm(session):
    """The norm of all parameters together."""
    return {"weight_norm": math.sqrt(sum(float(one.detach().square().sum()) for one in session.model.parameters()))}


COS, SIN = math.cos(math.pi / 6), math.sin(math.pi / 6)


def turned(value, gradient):
    """A surface turned by 30 degrees, so that no optimizer gains by treating the axes one by one."""

    def turned_value(x, y):
        return value(COS * x + SIN * y, COS * y - SIN * x)

    def turned_gradient(x, y):
        along, across = gradient(COS * x + SIN * y, COS * y - SIN * x)
        return COS * along - SIN * across, SIN * along + COS * across

    return turned_value, turned_gradient


# By name: value and gradient as functions of (x, y), the start, and the loss to be reached.
SURFACES = {
    "valley": (
        *turned(lambda u, v: u**2 / 2 + 100 * v**2 / 2, lambda u, v: (u, 100 * v)),
        (10 * COS - SIN, 10 * SIN + COS),
        1e-4,
    ),
    "saddle": (
        *turned(lambda u, v: 5 * u**2 - v**2 / 2 + v**4 / 4, lambda u, v: (10 * u, v**3 - v)),
        (COS - 1e-4 * SIN, SIN + 1e-4 * COS),
        -0.2,
    ),
    "dip": (
        lambda x, y: x**2 / 20 + y**2 / 2 - 0.4 * np.exp(-2 * (x - 3) ** 2),
        lambda x, y: (x / 10 + 1.6 * (x - 3) * np.exp(-2 * (x - 3) ** 2), y),
        (6.0, 1.0),
        0.01,
    ),
}
# AdamW is none of them: its decay pulls towards the origin, which happens to be the valley's minimum.
RACERS = ("sgd", "momentum", "nesterov", "adagrad", "rmsprop", "adam", "adamax", "nadam")


def walk(seed, surface, optimizer, lr, limit):
    """A registered optimizer's path on a surface until it reaches the target loss, of at most `limit` steps.

    swing: how long the path is in its steep direction, across the valley; the start is 1 away from the bottom.
    """
    value, gradient, start, target = SURFACES[surface]
    point = torch.tensor(start, dtype=torch.float64, requires_grad=True)
    rule = kinds.optimizer.resolve(optimizer)([point], lr)
    path = [start]
    while len(path) <= limit and value(*path[-1]) > target and max(map(abs, path[-1])) < 1e3:
        point.grad = torch.tensor(gradient(*path[-1]), dtype=torch.float64)
        rule.step()
        path.append(tuple(point.tolist()))
    table = pd.DataFrame(path, columns=["x", "y"])
    across = (COS * table["y"] - SIN * table["x"]).diff().dropna()
    return {
        "steps_on_surface": float(len(path) - 1) if value(*path[-1]) <= target else math.inf,
        "swing": float(across.abs().sum()),
        "end_x": path[-1][0],
        "end_loss": float(value(*path[-1])),
        "rate": lr,
        "path": table,
    }


def race(seed, surface, optimizer, limit):
    """The fastest of the optimizer's walks over the rates 3.16, 2.82, ... 0.00316, twenty per decade.

    If none reaches the target, the one that ends lowest.
    """
    best, rank = {}, (math.inf, math.inf)
    for k in range(10, -51, -1):
        # No walk needs more steps than the best one so far.
        one = walk(seed, surface, optimizer, 10 ** (k / 20), int(min(limit, rank[0])))
        this = (one["steps_on_surface"], one["end_loss"])
        if not best or this < rank:
            best, rank = one, this
    return best


def steady(seed, optimizer, lr, gradient, limit):
    """The optimizer's steps, in units of its rate, under a gradient that never changes."""
    point = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    rule = kinds.optimizer.resolve(optimizer)([point], lr)
    places = [0.0]
    for _ in range(limit):
        point.grad = torch.full_like(point, gradient)
        rule.step()
        places.append(point.item())
    sizes = -np.diff(places) / lr
    table = pd.DataFrame({"step": np.arange(1, limit + 1), "size": sizes, "optimizer": optimizer})
    return {"first_step": sizes[0], "last_step": sizes[-1], "sizes": table}


def shrinkage(seed, optimizer, decay, limit):
    """How far decay alone pulls two weights of 1 down, one with 100 times the other's random gradients: the ratio.

    Each is compared with its twin under the same gradients and no decay.
    """
    noise = torch.randn(limit, 1, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    ends = []
    for strength in (0.0, decay):
        point = torch.ones(2, dtype=torch.float64, requires_grad=True)
        rule = kinds.optimizer.resolve(f"{optimizer}(weight_decay={strength})")([point], 1e-3)
        for row in noise:
            point.grad = row * torch.tensor([1.0, 100.0], dtype=torch.float64)
            rule.step()
        ends.append(point.detach())
    pulled = (ends[0] - ends[1]).tolist()
    return {"pull_small": pulled[0], "pull_large": pulled[1], "pull_ratio": pulled[0] / pulled[1]}


cases = {
    f"{task}: {name} lr={lr:g}": recipe.but(optimizer=name, lr=lr)
    for task, recipe in TASKS.items()
    for name, rates in RATES.items()
    for lr in rates
}
cases |= {
    f"decay: {name} {decay:g}": DECAY.but(optimizer=f"{name}(weight_decay={decay})")
    for name, strengths in DECAYS.items()
    for decay in strengths
}
cases |= {
    f"{surface}: {name}": diag.Experiment(race, surface=surface, optimizer=name, limit=1000)
    for surface in ("valley", "saddle")
    for name in RACERS
}
cases |= {
    f"valley: {name} at 0.01": diag.Experiment(walk, surface="valley", optimizer=name, lr=0.01, limit=1000)
    for name in ("momentum", "nesterov")
}
cases |= {
    f"dip: {name} at {lr:g}": diag.Experiment(walk, surface="dip", optimizer=name, lr=lr, limit=1000)
    for name, lr in (("sgd", 0.1), ("sgd", 1.0), ("momentum", 0.1), ("nesterov", 0.1))
}
cases |= {
    f"steady: {name} under {gradient:g}": diag.Experiment(
        steady, optimizer=name, lr=0.01, gradient=gradient, limit=2000
    )
    for name in ("sgd", "momentum", "nesterov", "adagrad", "rmsprop", "adam", "adam_uncorrected")
    for gradient in (0.01, 1.0, 100.0)
}
cases |= {
    f"shrinkage: {name}": diag.Experiment(shrinkage, optimizer=name, decay=0.1, limit=1000)
    for name in ("adam", "adamw")
}


def tuned(results, prefix):
    """The case with the lowest mean validation loss among those whose name begins so."""
    frame = results.frame[results.frame["case"].str.startswith(prefix)]
    # A loss that is not a number is as bad as an infinite one.
    means = frame.assign(valid_loss=frame["valid_loss"].fillna(math.inf)).groupby("case")["valid_loss"].mean()
    return means.idxmin()


def follow_up(results):
    """Every optimizer at its best rate, and both kinds of decay at their best strength."""
    best = {f"{task}: {name} at its best": tuned(results, f"{task}: {name} lr=") for task in TASKS for name in HIGHEST}
    best |= {f"decay: {name} at its best": tuned(results, f"decay: {name} ") for name in DECAYS}
    return {name: cases[case] for name, case in best.items()}


def gain(metric, worse, better):
    """worse - better of a metric, by task, each optimizer at its best rate."""
    return lambda r: {
        task: r.difference(metric, {"case": f"{task}: {worse} at its best"}, {"case": f"{task}: {better} at its best"})
        for task in TASKS
    }


def over_adam(results):
    """By task and optimizer: its test accuracy over Adam's."""
    return {
        f"{task}, {name}": results.difference(
            "test_accuracy", {"case": f"{task}: {name} at its best"}, {"case": f"{task}: adam at its best"}
        )
        for task in TASKS
        for name in HIGHEST
        if name != "adam"
    }


def once(results, metric, case):
    """A value of a case in which nothing is random."""
    return float(results.values(metric, case=case).iloc[0])


def slower(surface, first, second):
    """By how many times more steps the first needs than the second, each at its best rate."""
    return lambda r: (
        once(r, "steps_on_surface", f"{surface}: {first}") / once(r, "steps_on_surface", f"{surface}: {second}")
    )


def best_rates(results):
    """Each optimizer's chosen rate, whether it lies at the edge of its grid, and what it reached on the test part."""
    rows = []
    for task in TASKS:
        for name, rates in RATES.items():
            case = f"{task}: {name} at its best"
            mean = results.select(case=case).mean(numeric_only=True)
            rows.append(
                {
                    "task": task,
                    "optimizer": name,
                    "rate": mean["lr"],
                    "grid": f"{rates[0]:g} to {rates[-1]:g}",
                    "at the edge": min(abs(mean["lr"] - rates[0]), abs(mean["lr"] - rates[-1])) < 1e-9,
                    **{key: mean[key] for key in ("test_accuracy", "test_loss", "train_loss", "steps_to_target")},
                }
            )
    return pd.DataFrame(rows)


def decays(results):
    """The norm of all weights and the losses after training with either kind of decay; the rate is the same."""
    rows = results.frame[results.frame["case"].str.match(r"decay: \w+ [\d.]+$")]
    rows = rows.assign(kind=rows["case"].str.split().str[1], decay=rows["case"].str.split().str[2].astype(float))
    return rows.groupby(["decay", "kind"])[["weight_norm", "valid_loss", "test_loss", "test_accuracy"]].mean().unstack()


def surfaces(results):
    """Steps to the target and swing on the two surfaces, each optimizer at its best rate."""
    names = [f"{surface}: {name}" for surface in ("valley", "saddle") for name in RACERS]
    rows = results.select(case=names, seed=0)
    return rows[["case", "rate", "steps_on_surface", "swing", "end_loss"]].reset_index(drop=True)


def paths(surface, names, limits, levels, caption):
    """A figure of the paths of some cases on their surface."""

    def draw(results):
        table = results.table("path", case=[f"{surface}: {name}" for name in names], seed=0)
        table = table.assign(case=table["case"].str.removeprefix(f"{surface}: "))
        return suite_figures.trajectories(SURFACES[surface][0], table, limits, levels=levels)

    draw.__doc__ = caption
    return draw


def rate_curves(results):
    """Mean validation loss after training (vertical) over the learning rate (horizontal), by optimizer and task."""
    names = {case: case.split(":")[0] for case in results.frame["case"].unique() if " lr=" in case}
    rows = results.select(case=list(names))
    # Above ln 10 a network of ten classes knows less than nothing; how much less does not matter here.
    rows = rows.assign(task=rows["case"].map(names), valid_loss=rows["valid_loss"].fillna(math.inf).clip(upper=2.5))
    return suite_figures.panels(
        rows, "lr", "valid_loss", panel="task", hue="optimizer", log="x", xlabel="learning rate"
    )


def loss_curves(results):
    """Training loss (vertical, mean since the validation before) over steps, each optimizer at its best rate."""
    names = {f"{task}: {name} at its best": (task, name) for task in TASKS for name in HIGHEST}
    rows = results.table("curves", case=list(names))
    rows = rows.assign(task=rows["case"].map(lambda c: names[c][0]), optimizer=rows["case"].map(lambda c: names[c][1]))
    return suite_figures.panels(rows, "step", "train_loss", panel="task", hue="optimizer", log="y")


def step_sizes(results):
    """Size of a step in units of the learning rate (vertical) over steps under a constant gradient of 1."""
    names = {
        f"steady: {name} under 1" for name in ("sgd", "momentum", "adagrad", "rmsprop", "adam", "adam_uncorrected")
    }
    rows = results.table("sizes", case=names, seed=0)
    return suite_figures.curves(rows, "step", "size", hue="optimizer", log="xy", ylabel="step / learning rate")


def ranked(task):
    """A table of the optimizers on one task, each at its best rate."""

    def table(results):
        names = [f"{task}: {name} at its best" for name in HIGHEST]
        return results.ranking(names, test_accuracy="high", test_loss="low", steps_to_target="low")

    return table


def answer(results):
    """What was found, in two sentences."""
    parts = []
    for task in TASKS:
        table = ranked(task)(results)
        tied = int((table["test_accuracy mark"] != "").sum())
        name = table["case"].iloc[0].split(": ")[1].removesuffix(" at its best")
        sgd = table.set_index("case").loc[f"{task}: sgd at its best", "test_accuracy"]
        parts.append(
            f"on {task} {tied} of {len(table)} optimizers are not told apart from the best ({name}, "
            f"{100 * table['test_accuracy'].iloc[0]:.1f} %; plain gradient descent {100 * sgd:.1f} %)"
        )
    steps = {name: slower("valley", "sgd", name)(results) for name in ("momentum", "nesterov")}
    return (
        f"Each at its own rate, {' and '.join(parts)}. Down an ill-conditioned valley gradient descent needs "
        f"{steps['momentum']:.1f} times momentum's steps and {steps['nesterov']:.1f} times Nesterov's."
    )


suite = diag.Suite(
    question="Which optimizer trains best, each at its own learning rate, and what does each do to a step?",
    cases=cases,
    seeds=3,
    follow_up=follow_up,
    follow_up_seeds=5,
    looks=0,
    validations=20,
    measures=[steps_to_target, weight_norm],
    quick={"steps": 15, "width": 8},
    quick_seeds=1,
    claims=[
        diag.Claim(
            "At their own best rates momentum reaches the target accuracy sooner than plain gradient descent",
            "Sutskever et al. 2013, section 3",
            gain("steps_to_target", "sgd", "momentum"),
            above=0.0,
            unit="steps",
        ),
        diag.Claim(
            "At their own best rates Adam reaches the target accuracy sooner than plain gradient descent",
            "Kingma & Ba 2015, section 6",
            gain("steps_to_target", "sgd", "adam"),
            above=0.0,
            unit="steps",
        ),
        diag.Claim(
            "Tuned, no optimizer beats Adam by more than two points of test accuracy",
            "Schmidt et al. 2021, section 4",
            over_adam,
            below=0.02,
            unit="test accuracy",
        ),
        diag.Claim(
            "Tuned, plain gradient descent generalizes as well as Adam, to within two points of test accuracy",
            "Wilson et al. 2017, section 4",
            gain("test_accuracy", "sgd", "adam"),
            above=-0.02,
            unit="test accuracy",
        ),
        diag.Claim(
            "Nadam ends with a lower training loss than Adam",
            "Dozat 2016, section 3",
            gain("train_loss", "adam", "nadam"),
            above=0.0,
            unit="nats of training loss",
        ),
        diag.Claim(
            "Nesterov's gradient ends with a lower training loss than momentum",
            "Sutskever et al. 2013, section 3",
            gain("train_loss", "momentum", "nesterov"),
            above=0.0,
            unit="nats of training loss",
        ),
        diag.Claim(
            "Each at its best rate, gradient descent takes at least 1.5 times either momentum's steps down the valley",
            "Polyak 1964; Nesterov 1983; Goh 2017",
            lambda r: {name: slower("valley", "sgd", name)(r) for name in ("momentum", "nesterov")},
            above=1.5,
            unit="times the steps",
        ),
        diag.Claim(
            "On the valley Nesterov swings less than half as far as momentum, at the same rate and each at its best",
            "Sutskever et al. 2013, section 2.1",
            lambda r: {
                how: once(r, "swing", f"valley: nesterov{case}") / once(r, "swing", f"valley: momentum{case}")
                for how, case in (("rate 0.01", " at 0.01"), ("best rates", ""))
            },
            below=0.5,
            unit="of momentum's swing",
        ),
        diag.Claim(
            "Each at its best rate, gradient descent takes at least twice the steps of Adam and RMSProp off a saddle",
            "Dauphin et al. 2014, section 3; Staib et al. 2019",
            lambda r: {name: slower("saddle", "sgd", name)(r) for name in ("adam", "rmsprop")},
            above=2.0,
            unit="times the steps",
        ),
        diag.Claim(
            "A small dip at x = 3 stops gradient descent, even at ten times momentum's rate",
            "Sutskever et al. 2013; Rumelhart et al. 1986",
            lambda r: {f"rate {lr}": once(r, "end_x", f"dip: sgd at {lr}") for lr in ("0.1", "1")},
            above=2.5,
            below=3.5,
            unit="x at the end",
        ),
        diag.Claim(
            "Momentum rolls through the dip to the minimum near 0",
            "Sutskever et al. 2013; Rumelhart et al. 1986",
            lambda r: {name: once(r, "end_x", f"dip: {name} at 0.1") for name in ("momentum", "nesterov")},
            above=-0.5,
            below=0.5,
            unit="x at the end",
        ),
        diag.Claim(
            "Under a steady gradient momentum of 0.9 gets ten times as fast as gradient descent",
            "Polyak 1964; Goh 2017",
            lambda r: {
                name: once(r, "last_step", f"steady: {name} under 1") / once(r, "last_step", "steady: sgd under 1")
                for name in ("momentum", "nesterov")
            },
            above=9.9,
            below=10.1,
            unit="times the speed",
        ),
        diag.Claim(
            "AdaGrad's step after 2000 equal gradients is below 3 % of its first (1 / sqrt(t))",
            "Duchi et al. 2011; Zeiler 2012, section 2.3",
            lambda r: (
                once(r, "last_step", "steady: adagrad under 1") / once(r, "first_step", "steady: adagrad under 1")
            ),
            below=0.03,
            unit="of the first step",
        ),
        diag.Claim(
            "RMSProp's step does not shrink: after 2000 equal gradients it is the rate, whatever the gradient",
            "Tieleman & Hinton 2012, lecture 6.5",
            lambda r: {
                f"gradient {g}": once(r, "last_step", f"steady: rmsprop under {g}") for g in ("0.01", "1", "100")
            },
            above=0.99,
            below=1.01,
            unit="times the rate",
        ),
        diag.Claim(
            "Adam's first step is as long as the rate, whatever the gradient",
            "Kingma & Ba 2015, sections 2.1 and 3",
            lambda r: {f"gradient {g}": once(r, "first_step", f"steady: adam under {g}") for g in ("0.01", "1", "100")},
            above=0.99,
            below=1.01,
            unit="times the rate",
        ),
        diag.Claim(
            "Without bias correction Adam's first step is 3.16 times the rate: (1 - beta1) / sqrt(1 - beta2)",
            "Kingma & Ba 2015, section 3",
            lambda r: once(r, "first_step", "steady: adam_uncorrected under 1"),
            above=3.15,
            below=3.17,
            unit="times the rate",
        ),
        diag.Claim(
            "With L2 in Adam's loss a weight with 100 times larger gradients decays at least ten times less",
            "Loshchilov & Hutter 2019, section 2",
            lambda r: r.values("pull_ratio", case="shrinkage: adam"),
            above=10.0,
            unit="ratio of the decays",
        ),
        diag.Claim(
            "With decoupled decay both weights decay alike",
            "Loshchilov & Hutter 2019, section 2",
            lambda r: r.values("pull_ratio", case="shrinkage: adamw"),
            above=0.99,
            below=1.01,
            unit="ratio of the decays",
        ),
        diag.Claim(
            "At its best strength decoupled decay ends with a lower test loss than L2 in Adam's loss",
            "Loshchilov & Hutter 2019, section 4",
            lambda r: r.difference(
                "test_loss", {"case": "decay: adam at its best"}, {"case": "decay: adamw at its best"}
            ),
            above=0.0,
            unit="nats of test loss",
        ),
    ],
    answer=answer,
    concepts=("ill_conditioned_valley",),
    notes=[
        "The surfaces were turned by 30 degrees and the grid of decay strengths widened after a look at data: on "
        "surfaces along the axes the adaptive methods look better than they are.",
        "All are given 300 steps. On mnist1d plain gradient descent has not converged by then at any rate that is "
        "stable, so what it lacks against Adam there is speed; that it generalizes worse is not shown.",
    ],
    tables={
        **{f"Optimizers compared on {task}": ranked(task) for task in TASKS},
        "Rates that were chosen": best_rates,
        "On the surfaces": surfaces,
        "L2 in the loss and decoupled decay, under Adam": decays,
    },
    figures={
        "Every optimizer has its own rate": rate_curves,
        "Training, each at its best rate": loss_curves,
        "An ill-conditioned valley": paths(
            "valley",
            ["sgd", "momentum", "nesterov", "adam"],
            (-4.0, 10.0, -3.0, 7.0),
            [1, 5, 20, 50, 110, 200, 400, 800, 1600, 2500],
            "Paths down u^2/2 + 100 v^2/2, turned by 30 degrees, each optimizer at its fastest rate.",
        ),
        "A saddle": paths(
            "saddle",
            ["sgd", "momentum", "adam", "rmsprop"],
            (-1.7, 1.4, -1.2, 1.2),
            [-0.24, -0.2, -0.15, -0.1, -0.05, 0, 0.1, 0.5, 1, 2, 4, 6],
            "Paths past the saddle of 5 u^2 - v^2/2 + v^4/4, turned by 30 degrees, each optimizer at its fastest rate.",
        ),
        "A small dip": paths(
            "dip",
            ["sgd at 0.1", "sgd at 1", "momentum at 0.1", "nesterov at 0.1"],
            (-2.0, 6.5, -1.2, 1.2),
            25,
            "Paths from (6, 1) down a slope with a dip at x = 3; numbers are learning rates.",
        ),
        "Steps under a steady gradient": step_sizes,
    },
)
