"""Which activation function, and at what price? How each trains, what dies in it, and what it costs.

Every activation in a network of ten layers on digits, at the better of two learning rates; then units followed over a
training with steps so large that ReLU units die; the time of each function; and how near swish comes to GELU.
"""

import numpy as np
import pandas as pd
import torch

import diag
from diag.recipes import kinds
from diag.theory import mean_field
from diag.theory.activations import activation as theory_of
from diag.train.build import build_model, load_dataset

DEEP = diag.Recipe(data="digits", network="mlp", depth=10, width=64, init="he_normal", steps=300)
RECTIFIERS = "relu relu6 leaky_relu prelu elu gelu silu swish(beta=1.702) hardswish mish softplus".split()
BOUNDED = "tanh softsign hardtanh".split()
SIGMOIDS = "sigmoid hardsigmoid".split()
NETWORKS = {
    **{name: DEEP.but(activation=name) for name in RECTIFIERS},
    **{name: DEEP.but(activation=name, init="glorot_uniform") for name in (*BOUNDED, *SIGMOIDS, "identity")},
    "selu": DEEP.but(activation="selu", init="lecun_normal"),
}
"""Each with the initialization that is advised for it."""
RATES = [0.02, 0.1]

LEAVING_A_SLOPE = "leaky_relu elu selu gelu silu".split()
FLAT = 1e-3
"""A unit is flat where no sample gives it more than this share of the largest slope; leaky ReLU has 0.01."""
HARSH = 1.0
"""A learning rate at which ReLU units die; a large step is what is blamed for it."""


def hidden_units(model: torch.nn.Module, inputs: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Per activation, from the input upwards: its outputs and its slopes, each [samples, units]."""
    found = []

    def see(module, arguments, output) -> None:
        with torch.enable_grad():
            z = arguments[0].detach().requires_grad_()
            (slope,) = torch.autograd.grad(module.forward(z).sum(), z)  # its function without this hook
        found.append((output.detach(), slope))

    handles = [block.activation.register_forward_hook(see) for block in model.blocks]
    try:
        with torch.no_grad():
            model(inputs)
    finally:
        for handle in handles:
            handle.remove()
    return found


def dead_and_flat(model: torch.nn.Module, inputs: torch.Tensor, largest: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Two masks [layers, units] over all samples: always zero, and nowhere steeper than FLAT."""
    units = hidden_units(model, inputs)
    dead = torch.stack([(output == 0).all(0) for output, _ in units])
    flat = torch.stack([(slope.abs() <= FLAT * largest).all(0) for _, slope in units])
    return dead, flat


def largest_slope(name: str) -> float:
    """Of an activation, between -10 and 10."""
    z = torch.linspace(-10, 10, 20001).requires_grad_()
    (slope,) = torch.autograd.grad(kinds.activation.resolve(name)()(z).sum(), z)
    return float(slope.abs().max())


def after_training(session) -> dict:
    """Shares of dead and of flat units on all training data, and the distance of units' mean outputs from 0."""
    inputs = session.dataset.train[0]
    dead, flat = dead_and_flat(session.model, inputs, largest_slope(session.recipe.activation))
    means = torch.cat([output.mean(0) for output, _ in hidden_units(session.model, inputs)])
    return {
        "dead": float(dead.float().mean()),
        "flat": float(flat.float().mean()),
        "mean_activation": float(means.abs().mean()),
    }


def harsh(seed: int, activation: str, lr: float = HARSH, steps: int = 300, checks: int = 10) -> dict:
    """Three layers trained by large steps, every unit looked at `checks` times over all training data.

    Returns metrics `dead` and `flat` (final shares), `revived` (of the units dead halfway, the share that is not in
    the end; 0 if there were none) and `train_loss`. Table `units`, a row per check: how many units are dead, sleeping
    (dead, but not to the end) and revived (dead at the check before, now not). Table `layers_dead`: step, layer and
    the share of its units that are dead.
    """
    recipe = DEEP.but(depth=3, activation=activation, lr=lr, steps=steps)
    dataset = load_dataset(recipe.data, seed)
    model = build_model(recipe, dataset, seed)
    masks, loss = [], float("nan")
    for number in range(checks):
        masks.append(dead_and_flat(model, dataset.train[0], largest_slope(activation)))
        loss = train(model, dataset, lr, max(1, steps // checks), seed * checks + number)
    masks.append(dead_and_flat(model, dataset.train[0], largest_slope(activation)))
    by_layer = torch.stack([one for one, _ in masks])
    dead = by_layer.flatten(1)
    for_good = dead.flip(0).cumprod(0).flip(0).bool()
    halfway = dead[len(dead) // 2]
    table = pd.DataFrame({"step": np.arange(checks + 1) * max(1, steps // checks), "dead": dead.sum(1).numpy()})
    table["sleeping"] = (dead & ~for_good).sum(1).numpy()
    table["revived"] = [0, *(dead[:-1] & ~dead[1:]).sum(1).tolist()]
    shares = by_layer.float().mean(2).numpy()
    layers = pd.DataFrame(shares, columns=range(1, 1 + shares.shape[1])).assign(step=table["step"])
    return {
        "dead": float(dead[-1].float().mean()),
        "flat": float(masks[-1][1].float().mean()),
        "revived": float((halfway & ~dead[-1]).sum() / halfway.sum().clamp(min=1)),
        "train_loss": loss,
        "units": table,
        "layers_dead": layers.melt("step", var_name="layer", value_name="dead"),
    }


def put_to_sleep(seed: int, activation: str, init: str, lr: float = 0.1, steps: int = 300) -> dict:
    """Half of the units of the second of three layers get a bias at which no training sample makes them positive.

    Their largest pre-activation becomes -1. Returns metrics `gradient`: root mean square of the loss's gradient at
    their weights over that at the other units', before training; `woken`: the share of them that some training sample
    makes positive after it.
    """
    recipe = DEEP.but(depth=3, activation=activation, init=init, lr=lr, steps=steps)
    dataset = load_dataset(recipe.data, seed)
    model = build_model(recipe, dataset, seed)
    layer, inputs = model.blocks[1].linear, dataset.train[0]
    with torch.no_grad():
        asleep = torch.arange(layer.out_features) % 2 == 0
        largest = layer(model.blocks[0](model.prepare(inputs))).amax(0)
        layer.bias[asleep] -= largest[asleep] + 1
    torch.nn.functional.cross_entropy(model(inputs), dataset.train[1]).backward()
    gradient = layer.weight.grad.square()
    train(model, dataset, lr, steps, seed)
    with torch.no_grad():
        largest = layer(model.blocks[0](model.prepare(inputs))).amax(0)
    return {
        "gradient": float((gradient[asleep].mean() / gradient[~asleep].mean()).sqrt()),
        "woken": float((largest[asleep] > 0).float().mean()),
    }


def train(model: torch.nn.Module, dataset, lr: float, steps: int, seed: int) -> float:
    """So many steps of plain gradient descent; returns the last loss."""
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    loss = torch.tensor(float("nan"))
    for _, (inputs, labels) in zip(range(steps), dataset.batches(DEEP.batch_size, seed), strict=False):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(inputs), labels)
        loss.backward()
        optimizer.step()
    return float(loss.detach())


def cost(seed: int, elements: int = 2**18, seconds: float = 0.05, rounds: int = 3) -> dict:
    """Time of every activation on one thread, forward and backward, over that of ReLU: medians over rounds.

    Metrics `forward_NAME` and `backward_NAME`; table `cost`, with nanoseconds per element.
    """
    from torch.utils.benchmark import Timer

    z = torch.randn(elements, generator=torch.Generator().manual_seed(seed)).requires_grad_()
    gradient, rows = torch.ones(elements), []
    for _ in range(rounds):  # one after another within a round, so that a slow spell hits all
        for name in NETWORKS:
            module = kinds.activation.resolve(name)()
            known = {"f": module, "z": z, "y": module(z), "g": gradient, "grad": torch.autograd.grad}
            ways = {"forward": "f(z)", "backward": "grad(y, z, g, retain_graph=True)"}
            if name == "identity":
                continue
            for way, statement in ways.items():
                timed = Timer(statement, globals=known, num_threads=1).blocked_autorange(min_run_time=seconds)
                rows.append({"activation": name, "way": way, "ns": timed.median * 1e9 / elements})
    table = pd.DataFrame(rows).groupby(["activation", "way"], sort=False)["ns"].median().unstack()
    over_relu = table / table.loc["relu"]
    metrics = {f"{way}_{name}": float(over_relu.loc[name, way]) for name in table.index for way in table}
    return {**metrics, "cost": table.reset_index()}


def swish_like_gelu(seed: int) -> dict:
    """The beta of the swish that is closest to GELU, by the largest gap anywhere, and that gap; and at 1.702."""
    from scipy.optimize import minimize_scalar

    z = np.linspace(-10, 10, 20001)

    def gap(beta: float) -> float:
        return float(np.abs(theory_of("swish", beta=beta).phi(z) - theory_of("gelu").phi(z)).max())

    best = minimize_scalar(gap, bounds=(1.0, 3.0), method="bounded", options={"xatol": 1e-6})
    curve = pd.DataFrame({"beta": np.linspace(1, 3, 81)})
    return {
        "beta": float(best.x),
        "gap": gap(float(best.x)),
        "gap_1702": gap(1.702),
        "gaps": curve.assign(gap=curve["beta"].map(gap)),
    }


def selu_attracts(seed: int, variance: float, units: int = 512, depth: int = 20, samples: int = 256) -> dict:
    """Variance and mean after so many SELU layers for inputs of another variance, under LeCun's initialization."""
    recipe = diag.Recipe(
        data=f"gaussian(features={units}, samples={samples})", depth=depth, width=units, init="lecun_normal",
        activation="selu",
    )  # fmt: skip
    dataset = load_dataset(recipe.data, seed)
    with torch.no_grad():
        top = build_model(recipe, dataset, seed).features(dataset.train[0] * variance**0.5)
    return {"top_variance": float(top.var()), "top_mean": float(top.mean())}


def tuned(results) -> dict:
    """Each activation at the rate with the better validation accuracy, and what does not depend on it."""
    cases = {}
    for name, recipe in NETWORKS.items():
        mean = {lr: results.values("valid_accuracy", case=f"{name} lr={lr}").mean() for lr in RATES}
        cases[name] = recipe.but(lr=max(mean, key=mean.get))
    return {
        **cases,
        # ELU and SELU diverge at this rate: they are judged by the units that were put to sleep.
        **{
            f"{name}, harsh": diag.Experiment(harsh, activation=name) for name in ("relu", "leaky_relu", "gelu", "silu")
        },
        **{
            f"{name}, asleep": diag.Experiment(put_to_sleep, activation=name, init=NETWORKS[name].init)
            for name in ("relu", *LEAVING_A_SLOPE)
        },
        **{f"SELU from variance {one}": diag.Experiment(selu_attracts, variance=one) for one in (0.5, 2.0)},
        "cost": diag.Experiment(cost),
        "swish and GELU": diag.Experiment(swish_like_gelu),
    }


def each(metric: str, names, suffix: str = ""):
    """Measures a metric of several cases, all of which must meet the bounds."""
    return lambda r: {name: r.values(metric, case=name + suffix) for name in names}


def once(metric: str):
    """Measures what is the same for every seed."""
    return lambda r: float(r.values(metric, case="swish and GELU").iloc[0])


LEARNS = {"above": 0.85, "unit": "test accuracy"}

CLAIMS = [
    diag.Claim(
        "Ten layers learn with every rectifier, plain or smooth, under He's initialization",
        "He et al. 2015; Clevert et al. 2016; Hendrycks & Gimpel 2016; Ramachandran et al. 2017; Misra 2019",
        each("test_accuracy", [one for one in RECTIFIERS if one != "softplus"]), **LEARNS,
    ),
    diag.Claim(
        "Ten layers of SELU learn under LeCun's initialization, without normalization",
        "Klambauer et al. 2017, section 4", each("test_accuracy", ["selu"]), **LEARNS,
    ),
    diag.Claim(
        "Ten layers of tanh, softsign and hardtanh learn under Glorot's initialization",
        "Glorot & Bengio 2010, section 4.2; Collobert 2004", each("test_accuracy", BOUNDED), **LEARNS,
    ),
    diag.Claim(
        "Ten layers of sigmoids do not learn even under Glorot's initialization",
        "Glorot & Bengio 2010, section 3.1", each("test_accuracy", SIGMOIDS), below=0.5, unit="test accuracy",
    ),
    diag.Claim(
        "Under large steps more than 1 % of ReLU units are dead in the end: zero on all training data",
        "Maas et al. 2013, section 2; Clevert et al. 2016, section 2",
        lambda r: r.values("dead", case="relu, harsh"), above=0.01, unit="share of the hidden units",
    ),
    diag.Claim(
        "ReLU units that are dead halfway stay dead: fewer than 10 % revive",
        "Maas et al. 2013, section 2", lambda r: r.values("revived", case="relu, harsh"), below=0.1,
        unit="share of the units dead halfway",
    ),
    diag.Claim(
        "Under the same steps fewer than 1 % of leaky ReLU, GELU and Swish units are flat on all training data",
        "Maas et al. 2013, section 2; Hendrycks & Gimpel 2016; Ramachandran et al. 2017",
        each("flat", ("leaky_relu", "gelu", "silu"), ", harsh"), below=0.01, unit="share of the hidden units",
    ),
    diag.Claim(
        "ReLU units that were put to sleep do not wake: fewer than 10 % do",
        "Maas et al. 2013, section 2", lambda r: r.values("woken", case="relu, asleep"), below=0.1,
        unit="share of the units put to sleep",
    ),
    diag.Claim(
        "A gradient reaches such units with leaky ReLU, ELU, SELU, GELU and Swish: at least 0.1 % of the others'",
        "Maas et al. 2013, section 2; Clevert et al. 2016, section 3; Hendrycks & Gimpel 2016",
        each("gradient", LEAVING_A_SLOPE, ", asleep"), above=1e-3, unit="rms gradient over that of the other units",
    ),
    diag.Claim(
        "None reaches them with ReLU",
        "Maas et al. 2013, section 2", lambda r: r.values("gradient", case="relu, asleep"), above=-1e-12, below=1e-12,
        unit="rms gradient over that of the other units",
    ),
    diag.Claim(
        "Leaky ReLU, ELU, SELU, GELU and Swish units wake again: 10 points more of them than of ReLU's",
        "Maas et al. 2013, section 2; Clevert et al. 2016, section 3; Klambauer et al. 2017, section 2",
        lambda r: {
            one: r.difference("woken", {"case": f"{one}, asleep"}, {"case": "relu, asleep"}) for one in LEAVING_A_SLOPE
        },
        above=0.1, unit="share of the units put to sleep, minus ReLU's",
    ),
    diag.Claim(
        "ELU's mean outputs are nearer 0 than ReLU's, after training",
        "Clevert et al. 2016, section 3",
        lambda r: r.difference("mean_activation", {"case": "relu"}, {"case": "elu"}), above=0.0,
        unit="mean over units of |mean output|, ReLU - ELU",
    ),
    diag.Claim(
        "GELU is dearer than Swish, forward and backward, by more than 10 %",
        "Géron 2022, Hands-On Machine Learning, chapter 11",
        lambda r: {
            way: r.values(f"{way}_gelu", case="cost") / r.values(f"{way}_silu", case="cost")
            for way in ("forward", "backward")
        },
        above=1.1, unit="time of GELU over that of torch's SiLU",
    ),
    diag.Claim(
        "The swish closest to GELU has the beta of its paper, 1.702, to 0.05",
        "Hendrycks & Gimpel 2016, section 2", once("beta"), above=1.652, below=1.752, unit="beta",
    ),
    diag.Claim(
        "With beta 1.702 swish is nowhere farther than 0.025 from GELU",
        "Hendrycks & Gimpel 2016, section 2", once("gap_1702"), below=0.025, unit="largest gap",
    ),
    diag.Claim(
        "Mean 0 and variance 1 are SELU's fixed point: both kept to 1e-6",
        "Klambauer et al. 2017, equation 14",
        lambda r: {
            "mean": abs(mean_field.mean(theory_of("selu"), 1.0)),
            "variance": abs(mean_field.second_moment(theory_of("selu"), 1.0) - 1),
        },
        below=1e-6, unit="distance, by quadrature",
    ),
    diag.Claim(
        "The fixed point attracts: inputs of variance 1/2 and 2 have variance 1 after 20 layers of SELU, within 10 %",
        "Klambauer et al. 2017, theorem 1",
        each("top_variance", ["SELU from variance 0.5", "SELU from variance 2.0"]), above=0.9, below=1.1,
        unit="variance",
    ),
]  # fmt: skip


def training(results) -> pd.DataFrame:
    """Ten layers on digits, each activation at its own rate; dead and flat are shares of the hidden units."""
    table = results.ranking(NETWORKS, test_accuracy="high", test_loss="low")
    means = results.select(case=list(NETWORKS)).groupby("case")[["lr", "dead", "flat", "mean_activation"]].mean()
    return table.merge(means, left_on="case", right_index=True)


def prices(results) -> pd.DataFrame:
    """Nanoseconds per element on one thread, medians over seeds; the sum over ReLU's."""
    table = results.table("cost").groupby("activation", sort=False)[["forward", "backward"]].median()
    total = table.sum(axis=1)
    return table.assign(total_over_relu=total / total["relu"]).sort_values("total_over_relu").reset_index()


def learning(results):
    """Validation accuracy on digits of ten layers, each activation at its own rate; bands of two standard errors."""
    from diag.report.suite_figures import panels

    groups = {"bounded": (*BOUNDED, *SIGMOIDS), "kinked": ("relu", "relu6", "leaky_relu", "prelu", "elu", "selu")}
    table = results.table("curves", case=list(NETWORKS))
    table = table[table["case"] != "identity"]
    group = {name: kind for kind, names in groups.items() for name in names}
    return panels(
        table.assign(group=table["case"].map(group).fillna("smooth")), "step", "valid_accuracy", panel="group",
        ylabel="validation accuracy",
    )  # fmt: skip


def death(results):
    """Units of three layers of 64 ReLUs that are zero on all training data, over a training by large steps."""
    from diag.report.suite_figures import curves

    table = results.table("units", case=["relu, harsh"])
    table = table.melt(["case", "seed", "step"], ["dead", "sleeping", "revived"], "state", "units")
    return curves(table, "step", "units", hue="state", ylabel="units of 192")


def death_by_layer(results):
    """Share of each layer's ReLUs that are zero on all training data, over a training by large steps."""
    from diag.report.suite_figures import heat_map

    table = results.table("layers_dead", case="relu, harsh")
    return heat_map(table, "layer", "step", "dead", label="share dead", numbers=False)


def answer(results) -> str:
    """What was found, in two sentences."""
    table = training(results)
    tied = [name for name, mark in zip(table["case"], table["test_accuracy mark"], strict=True) if mark]
    cost = prices(results).set_index("activation")["total_over_relu"]
    dead = results.values("dead", case="relu, harsh").mean()
    return (
        f"With the initialization each is advised, {len(tied)} of {len(table)} activations are not told apart from "
        f"the best in ten layers on digits ({table['case'].iloc[0]}, {100 * table['test_accuracy'].iloc[0]:.1f} %); "
        f"sigmoids do not learn at all. ReLU and its kinked kin cost least (GELU {cost['gelu']:.1f} times ReLU, "
        f"SiLU {cost['silu']:.1f}, Mish {cost['mish']:.0f}), and under very large steps {100 * dead:.0f} % of ReLU "
        "units die for good, of the others none."
    )


def price(results):
    """Nanoseconds per element, forward and backward, on one thread."""
    from diag.report.suite_figures import bars

    table = results.table("cost").melt(["case", "seed", "activation"], ["forward", "backward"], "way", "ns")
    return bars(table, "activation", "ns", hue="way", label="nanoseconds per element", log=True)


def closest(results):
    """The largest gap between GELU and swish, over swish's beta."""
    from diag.report.suite_figures import curves

    return curves(results.table("gaps"), "beta", "gap", ylabel="largest gap")


suite = diag.Suite(
    question="Which activation function, and at what price?",
    cases={f"{name} lr={lr}": recipe.but(lr=lr) for name, recipe in NETWORKS.items() for lr in RATES},
    seeds=2,
    follow_up=tuned,
    follow_up_seeds=5,
    looks=0,
    measures=[after_training],
    quick={"steps": 40, "elements": 2**14, "seconds": 0.005, "rounds": 1, "units": 128},
    quick_seeds=2,
    claims=CLAIMS,
    tables={"Training": training, "Cost": prices},
    figures={
        "Learning": learning,
        "Dead units": death,
        "Dead units by layer": death_by_layer,
        "Cost": price,
        "Swish and GELU": closest,
    },
    answer=answer,
    concepts=("dead_units", "saturation", "swish_gelu_gap"),
    notes=[
        "Units that were put to sleep can wake although no gradient reaches them: the layer below moves, and with it "
        "the inputs. That is why some ReLU units wake too, and why the difference to the others is small.",
        "Times are ratios to ReLU within one process and one thread; the machine has two shared cores, so the "
        "intervals of the cost claims are wide.",
    ],
)
