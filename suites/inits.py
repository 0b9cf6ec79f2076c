"""Which initialization does a deep network need? What each activation trains with, and what theory says of it.

First every initialization with every activation in a network of 20 layers, each pair at the better of two learning
rates; then networks at initialization, 1024 units wide, against the closed forms of mean-field theory.
"""

import math

import numpy as np
import pandas as pd
import torch

import diag
from diag.theory import closed_forms, mean_field
from diag.theory.activations import activation as theory_of
from diag.train.build import build_model, load_dataset

DEEP = diag.Recipe(data="digits", network="mlp", depth=20, width=64, steps=200)
INITS = ["default", "legacy_uniform", "glorot_normal", "lecun_normal", "he_normal", "orthogonal", "lsuv"]
ACTIVATIONS = ["relu", "tanh", "selu", "sigmoid", "identity"]
RATES = [0.02, 0.1]

NETWORKS = diag.axes(DEEP, activation=ACTIVATIONS, init=INITS) | {
    f"{depth} ReLU layers, {init}": DEEP.but(depth=depth, init=init, steps=400)
    for depth in (22, 30)
    for init in ("he_normal", "glorot_normal")
}

FORMS = {
    "ReLU, He": {"activation": "relu", "init": "he_normal"},
    "ReLU, Glorot": {"activation": "relu", "init": "glorot_uniform"},
    "ReLU, legacy": {"activation": "relu", "init": "legacy_uniform"},
    "ReLU, He, batch norm": {"activation": "relu", "init": "he_normal", "norm": "batch", "batch": 1024, "settled": 6},
    "sigmoid, legacy": {"activation": "sigmoid", "init": "legacy_uniform"},
    "SELU, LeCun": {"activation": "selu", "init": "lecun_normal"},
    "tanh, Glorot": {"activation": "tanh", "init": "glorot_normal"},
    "ELU, He": {"activation": "elu", "init": "he_normal"},
    "GELU, He": {"activation": "gelu", "init": "he_normal"},
}
"""Whose factors have a closed form, or are predicted by quadrature."""


def mean_train_loss(session):
    """The training loss averaged over all steps, in nats: the smaller, the faster it was learned."""
    curves = session.fitted.curves.frame().dropna(subset="train_loss")
    weights = curves["step"].diff().fillna(curves["step"])
    return {"mean_train_loss": float(np.average(curves["train_loss"], weights=weights)) if len(curves) else math.nan}


def factors(
    seed: int,
    activation: str,
    init: str,
    norm: str = "none",
    depth: int = 20,
    units: int = 1024,
    batch: int = 16,
    settled: int = 1,
) -> dict:
    """How one layer changes second moments at initialization, measured and by theory.

    Geometric means over layers and samples, since theory speaks of one sample. Inputs and the gradients at the top are
    standard normal; layers below number `settled` are left out.
    Returns metrics `forward` (of pre-activations, upwards), `backward` (of the gradients with respect to them,
    downwards), without a norm `forward_theory` and `backward_theory`, and `top_mean`, `top_variance` of the last
    activations. Table `moments`: those of pre-activations (q) and gradients, per layer.
    """
    recipe = diag.Recipe(
        data=f"gaussian(features={units}, samples={batch})", network="mlp", depth=depth, width=units,
        init=init, activation=activation, norm=norm, batch_size=batch,
    )  # fmt: skip
    model = build_model(recipe, load_dataset(recipe.data, seed), seed).requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(batch, units, generator=generator).requires_grad_()
    signals = []
    for block in model.blocks:
        signals.append(block.linear(hidden))
        signals[-1].retain_grad()
        hidden = block[1:](signals[-1])
    signals[-1].backward(torch.randn(batch, units, generator=generator))
    q = np.array([one.detach().double().square().mean(1).numpy() for one in signals])
    g = np.array([one.grad.double().square().mean(1).numpy() for one in signals])
    used = q[settled - 1 :]
    return {
        "forward": factor(used[1:] / used[:-1]),
        "backward": factor(g[settled - 1 : -1] / g[settled:]),
        **({} if norm != "none" else predicted(activation, init, used[:-1], units)),
        "top_mean": float(hidden.detach().mean()),
        "top_variance": float(hidden.detach().var()),
        "moments": pd.DataFrame({"layer": range(1, depth + 1), "q": q.mean(1), "gradient": g.mean(1)}),
    }


def predicted(activation: str, init: str, moments: np.ndarray, units: int) -> dict:
    """By quadrature, for pre-activations of these second moments; all layers have `units` units."""
    weight, phi = units * closed_forms.weight_variance(init, units, units), theory_of(activation)
    return {
        "forward_theory": factor([mean_field.variance_map(q, weight, 0.0, phi) / q for q in moments.flat]),
        "backward_theory": factor([mean_field.chi(q, weight, phi) for q in moments.flat]),
    }


def factor(ratios) -> float:
    """The geometric mean."""
    return float(np.exp(np.mean(np.log(ratios))))


def tuned(results) -> dict:
    """Each network at the rate with the better validation accuracy, and the measurements at initialization."""
    cases = {}
    for name, recipe in NETWORKS.items():
        mean = {lr: results.values("valid_accuracy", case=f"{name} lr={lr}").mean() for lr in RATES}
        cases[name] = recipe.but(lr=max(mean, key=mean.get))
    return cases | {name: diag.Experiment(factors, **options) for name, options in FORMS.items()}


def accuracy(activation: str, init: str):
    """Measures the test accuracy of one pair."""
    return lambda r: r.values("test_accuracy", case=f"activation={activation} init={init}")


def advantage(activation: str, better: str, worse: str, metric: str = "test_accuracy"):
    """Measures by how much one initialization is ahead of another."""
    cases = [{"case": f"activation={activation} init={one}"} for one in (better, worse)]
    return lambda r: r.difference(metric, *cases)


def of_theory(form: str, forward: float | None = None, backward: float | None = None):
    """Measures both factors of a form over their closed form; over what quadrature predicts if that is None."""

    def measure(r) -> dict:
        pair = {"forward": forward, "backward": backward}
        wanted = {way: r.values(f"{way}_theory", case=form) if one is None else one for way, one in pair.items()}
        return {way: r.values(way, case=form) / one for way, one in wanted.items()}

    return measure


WITHIN = {"above": 0.95, "below": 1.05, "unit": "measured over predicted factor per layer"}
LEARNS = {"above": 0.8, "unit": "test accuracy"}
CHANCE = {"below": 0.2, "unit": "test accuracy"}
HE = "He et al. 2015, "

CLAIMS = [
    diag.Claim(
        "ReLU under He keeps second moments: factor 1 per layer forward and backward, within 5 %",
        HE + "equations 10 and 14", of_theory("ReLU, He", 1.0, 1.0), **WITHIN,
    ),
    diag.Claim(
        "ReLU under Glorot halves them: factor 1/2 per layer forward and backward, within 5 %",
        HE + "section 2.2", of_theory("ReLU, Glorot", 1 / 2, 1 / 2), **WITHIN,
    ),
    diag.Claim(
        "ReLU under the legacy initialization: factor 1/6 per layer forward and backward, within 5 %",
        HE + "section 2.2, with the variance of Glorot & Bengio 2010, equation 1",
        of_theory("ReLU, legacy", 1 / 6, 1 / 6), **WITHIN,
    ),
    diag.Claim(
        "ReLU with batch normalization: factor 1 per layer forward, pi / (pi - 1) backward, within 5 %",
        "Yang et al. 2019, section 4",
        of_theory("ReLU, He, batch norm", 1.0, math.pi / (math.pi - 1)), **WITHIN,
    ),
    diag.Claim(
        "Sigmoid under the legacy initialization shrinks squared gradients by at least 48 per layer",
        "The slope is at most 1/4: 1/3 times 1/16; Glorot & Bengio 2010, equations 1 and 6",
        lambda r: r.values("backward", case="sigmoid, legacy"), below=1 / 48, unit="factor per layer",
    ),
    diag.Claim(
        "SELU under LeCun keeps the mean of activations at 0, within 0.05, after 20 layers",
        "Klambauer et al. 2017, section 2",
        lambda r: r.values("top_mean", case="SELU, LeCun"), above=-0.05, below=0.05, unit="mean activation",
    ),
    diag.Claim(
        "SELU under LeCun keeps the variance of activations at 1, within 5 %, after 20 layers",
        "Klambauer et al. 2017, section 2",
        lambda r: r.values("top_variance", case="SELU, LeCun"), above=0.95, below=1.05, unit="variance",
    ),
    *(
        diag.Claim(
            f"{form}: both factors are those of mean-field theory by quadrature, within 5 %",
            "Poole et al. 2016, equation 3; Schoenholz et al. 2017, section 4", of_theory(form), **WITHIN,
        )
        for form in ("SELU, LeCun", "tanh, Glorot", "ELU, He", "GELU, He", "sigmoid, legacy")
    ),
    diag.Claim(
        "With Glorot in place of He the standard deviation after 20 ReLU layers is 2^(-20/2) of He's: "
        "the exponent, within 5 %",
        HE + "section 2.2",
        lambda r: (
            np.log2(r.values("forward", case="ReLU, Glorot") / r.values("forward", case="ReLU, He")) / -1
        ),
        above=0.95, below=1.05, unit="measured over predicted exponent",
    ),
    diag.Claim(
        "A 22-layer rectifier network learns faster under He than under Glorot",
        HE + "figure 2",
        lambda r: r.difference(
            "mean_train_loss", {"case": "22 ReLU layers, glorot_normal"}, {"case": "22 ReLU layers, he_normal"}
        ),
        above=0.0, unit="nats of training loss, mean over all steps",
    ),
    diag.Claim(
        "A 30-layer rectifier network stalls at chance under Glorot",
        HE + "figure 3", lambda r: r.values("test_accuracy", case="30 ReLU layers, glorot_normal"), **CHANCE,
    ),
    diag.Claim(
        "A 30-layer rectifier network learns under He",
        HE + "figure 3", lambda r: r.values("test_accuracy", case="30 ReLU layers, he_normal"),
        above=0.5, unit="test accuracy",
    ),
    diag.Claim(
        "20 layers of ReLU learn under He", HE + "section 2.2", accuracy("relu", "he_normal"), **LEARNS,
    ),
    diag.Claim(
        "20 layers of ReLU do not learn under the legacy initialization",
        HE + "section 2.2", accuracy("relu", "legacy_uniform"), **CHANCE,
    ),
    diag.Claim(
        "20 layers of ReLU do not learn as torch's layers draw their weights by default",
        HE + "section 2.2; the default has the variance of Glorot & Bengio 2010, equation 1",
        accuracy("relu", "default"), **CHANCE,
    ),
    diag.Claim(
        "20 layers of tanh learn under Glorot",
        "Glorot & Bengio 2010, section 4.2", accuracy("tanh", "glorot_normal"), **LEARNS,
    ),
    diag.Claim(
        "20 layers of tanh learn faster under Glorot than under the legacy initialization",
        "Glorot & Bengio 2010, section 5",
        advantage("tanh", "legacy_uniform", "glorot_normal", "mean_train_loss"),
        above=0.0, unit="nats of training loss, mean over all steps",
    ),
    diag.Claim(
        "20 layers of SELU learn under LeCun, without normalization",
        "Klambauer et al. 2017, section 4", accuracy("selu", "lecun_normal"), **LEARNS,
    ),
    diag.Claim(
        "20 layers of sigmoid learn under none of the initializations",
        "Glorot & Bengio 2010, section 3.1; Ioffe & Szegedy 2015, section 4.2.1",
        lambda r: {init: accuracy("sigmoid", init)(r) for init in INITS}, **CHANCE,
    ),
    diag.Claim(
        "20 linear layers learn faster from orthogonal weights than from normal ones of the same variance",
        "Saxe et al. 2014, figure 6",
        advantage("identity", "glorot_normal", "orthogonal", "mean_train_loss"),
        above=0.0, unit="nats of training loss, mean over all steps",
    ),
    diag.Claim(
        "LSUV is at least as good as He for ReLU, to 3 points",
        "Mishkin & Matas 2016, section 4", advantage("relu", "lsuv", "he_normal"),
        above=-0.03, unit="test accuracy",
    ),
    diag.Claim(
        "LSUV is at least as good as Glorot for tanh, to 3 points",
        "Mishkin & Matas 2016, section 4", advantage("tanh", "lsuv", "glorot_normal"),
        above=-0.03, unit="test accuracy",
    ),
]  # fmt: skip


def pairs(results) -> pd.DataFrame:
    """The trials of the heat map: every pair at its rate."""
    return results.select(case=list(diag.axes(DEEP, activation=ACTIVATIONS, init=INITS)))


def what_trains(results):
    """Test accuracy on digits of 20 layers, 64 wide, after 200 steps at the better of two rates; chance is 0.1, and
    0 is a training that diverged."""
    from diag.report.suite_figures import heat_map

    return heat_map(pairs(results), "init", "activation", "test_accuracy", label="test accuracy")


def at_step_0(results, kind: str) -> pd.DataFrame:
    """The root mean square of a kind behind every activation, before the first step."""
    rows = results.table("layers", case=[f"activation=relu init={one}" for one in INITS])
    rows = rows[(rows["step"] == 0) & (rows["kind"] == kind) & rows["site"].str.endswith(".activation")]
    return rows.assign(
        init=rows["case"].str.partition("init=")[2], layer=rows["site"].str.extract(r"(\d+)")[0].astype(int) + 1
    )


def foretold(seen: pd.DataFrame, kind: str) -> pd.DataFrame:
    """Mean-field theory's rms per layer of square ReLU layers, from where the signal enters.

    Second moments times width Var[w] / 2 a layer, plus Var[b] / 2 upwards: torch's default draws biases too, of the
    weights' variance. For the initializations with a variance that is known beforehand.
    """
    known = {"default": "legacy_uniform", "orthogonal": "lecun_normal"}
    rows = []
    for init, part in seen.groupby("init"):
        if init == "lsuv":
            continue
        variance = closed_forms.weight_variance(known.get(init, init), DEEP.width, DEEP.width)
        bias = variance if init == "default" and kind == "activation" else 0.0
        rms = part.groupby("layer")["rms"].mean().sort_index(ascending=kind == "activation")
        moments = [float(rms.iloc[0]) ** 2]
        for _ in rms.index[1:]:
            moments.append((DEEP.width * variance * moments[-1] + bias) / 2)
        rows.append(pd.DataFrame({"init": init, "layer": rms.index, "rms": np.sqrt(moments)}))
    return pd.concat(rows, ignore_index=True)


def every_pair(results) -> pd.DataFrame:
    """Every initialization and activation in 20 layers on digits, at the better of two rates."""
    names = list(diag.axes(DEEP, activation=ACTIVATIONS, init=INITS))
    return results.ranking(names, test_accuracy="high", test_loss="low", mean_train_loss="low")


def answer(results) -> str:
    """What was found, in two sentences."""
    mean = pairs(results).groupby(["activation", "init"])["test_accuracy"].mean()
    ratio = {
        way: (results.select(case=list(FORMS))[way] / results.select(case=list(FORMS))[f"{way}_theory"]).dropna()
        for way in ("forward", "backward")
    }
    far = max(float((one - 1).abs().max()) for one in ratio.values())
    return (
        f"At 20 layers it decides whether a network trains: ReLU reaches {100 * mean['relu', 'he_normal']:.0f} % under "
        f"He and {100 * mean['relu', 'lsuv']:.0f} % under LSUV, but {100 * mean['relu', 'glorot_normal']:.0f} % under "
        f"Glorot and {100 * mean['relu', 'default']:.0f} % with the weights torch draws by default; tanh reaches "
        f"{100 * mean['tanh', 'glorot_normal']:.0f} % under Glorot, and sigmoids learn under none. Mean-field theory "
        f"foretells the growth per layer of all closed forms, forward and backward, to {100 * far:.1f} % at worst."
    )


def profile(kind: str, caption: str):
    """Draws one kind over depth, a line per initialization."""

    def draw(results):
        from diag.report.suite_figures import curves

        seen = at_step_0(results, kind)
        return curves(
            seen, "layer", "rms", hue="init", log="y", theory=foretold(seen, kind), xlabel="layer", ylabel=f"rms {kind}"
        )

    draw.__doc__ = caption
    return draw


def theory(results) -> pd.DataFrame:
    """Measured and predicted factors, means over seeds."""
    rows = results.select(case=list(FORMS))
    ways = ["forward", "forward_theory", "backward", "backward_theory", "top_mean", "top_variance"]
    table = rows.groupby("case", sort=False)[ways].mean().reset_index()
    table.loc[table["case"] == "ReLU, He, batch norm", ["forward_theory", "backward_theory"]] = (
        1.0, math.pi / (math.pi - 1),
    )  # fmt: skip
    return table


suite = diag.Suite(
    question="Which initialization does a deep network need?",
    cases={f"{name} lr={lr}": recipe.but(lr=lr) for name, recipe in NETWORKS.items() for lr in RATES},
    seeds=2,
    follow_up=tuned,
    follow_up_seeds=5,
    looks=1,
    validations=10,
    measures=[mean_train_loss],
    quick={"steps": 20, "width": 32, "units": 128},
    quick_seeds=1,
    claims=CLAIMS,
    tables={"Factors per layer at initialization, measured and predicted": theory, "Every pair": every_pair},
    answer=answer,
    concepts=("mean_field", "vanishing_gradients"),
    notes=[
        "Batch normalization's factor leaves out the first five layers, where the distribution is still settling; this "
        "was decided after a look at the profile.",
    ],
    figures={
        "What trains": what_trains,
        "Activations over depth": profile(
            "activation", "Root mean square of each ReLU layer's output on digits, before the first step (log scale)."
        ),
        "Gradients over depth": profile(
            "gradient",
            "Root mean square of the loss's gradient at each ReLU layer's output, before the first step.",
        ),
    },
)
