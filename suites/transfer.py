"""How many layers of a network carry over to a related task with few labels?

Digits 0 to 4 are learned with all their labels, then the lower layers are reused for digits 5 to 9 with 50 or 20
labels: frozen, or trained further. The claims are of convolutional networks, as in Yosinski et al. 2014, and are judged
on one; a perceptron, whose lowest layer sees whole images and so has no reason to be general, is drawn beside it.
"""

import pandas as pd

import diag
from diag.report import suite_figures as draw

NETWORKS = {"cnn": {"network": "cnn(pool_every=2)", "width": 16}, "mlp": {"network": "mlp", "width": 64}}
DEPTH = 4
FROZEN, TUNED = "frozen", "fine-tuned"
# Long enough for a linear head on frozen layers to fit its labels: what can be learned is compared, not how fast.
BASE = diag.Recipe(depth=DEPTH, init="he_normal", optimizer="adam", lr=0.005, batch_size=25, steps=600)


def named(network, labels, layers, how):
    """The name of a case; no layers reused is the same frozen or not."""
    return f"{network}, {labels} labels, " + ("scratch" if layers == 0 else f"{layers} reused and {how}")


def recipe(network, labels, layers, how):
    """A network for digits 5 to 9 whose lower layers come from one for digits 0 to 4."""
    base = BASE.but(data=f"digits(classes='5-9', labeled={labels})", **NETWORKS[network])
    if layers == 0:
        return base
    options = f"layers={layers}, frozen={how == FROZEN}, source=\"digits(classes='0-4')\", steps=400"
    return base.but(start=f"transfer({options})")


# A mapping, so from scratch is one case however often it is named.
PANELS = [("cnn", 50), ("cnn", 20), ("mlp", 50)]
ALL = [(*panel, k, how) for panel in PANELS for k in range(DEPTH + 1) for how in (FROZEN, TUNED)]
cases = {named(*one): recipe(*one) for one in ALL}


def gain(results, first, second, labels=50):
    """Test accuracy of the CNN reused one way minus another, by seed; each way is (layers, how)."""
    cases = ({"case": named("cnn", labels, *one)} for one in (first, second))
    return results.difference("test_accuracy", *cases)


def mean_gain(results, than, labels=50):
    """Test accuracy fine-tuned minus another way, mean over reusing 1 to all layers as in Yosinski's table 1."""
    return sum(gain(results, (k, TUNED), than(k), labels) for k in range(1, DEPTH + 1)) / DEPTH


def accuracy_by_layers(results):
    """Test accuracy on digits 5 to 9 over how many layers come from a network for digits 0 to 4; 0 is from scratch."""
    parts = []
    for network, labels, layers, how in ALL:
        rows = results.select(case=named(network, labels, layers, how))[["seed", "test_accuracy"]]
        parts.append(rows.assign(panel=f"{network}, {labels} labels", layers=layers, how=how))
    table = pd.concat(parts, ignore_index=True)
    return draw.panels(
        table, "layers", "test_accuracy", panel="panel", hue="how", xlabel="layers reused", ylabel="test accuracy"
    )


def ranked(network, labels):
    """A table of the ways to begin, for one network and number of labels."""

    def table(results):
        names = [named(network, labels, k, how) for k in range(DEPTH + 1) for how in (FROZEN, TUNED)]
        return results.ranking(names, test_accuracy="high", test_loss="low")

    return table


def answer(results):
    """What was found, in two sentences."""
    mean = {
        (k, how): results.values("test_accuracy", case=named("cnn", 50, k, how)).mean()
        for k in range(DEPTH + 1)
        for how in (FROZEN, TUNED)
    }
    return (
        f"From scratch the convolutional network reaches {100 * mean[0, FROZEN]:.1f} % with 50 labels; with its lowest "
        f"layer reused and frozen {100 * mean[1, FROZEN]:.1f} %, with all four frozen {100 * mean[DEPTH, FROZEN]:.1f} "
        f"%. Fine-tuned it reaches {100 * min(mean[k, TUNED] for k in range(1, DEPTH + 1)):.1f} to "
        f"{100 * max(mean[k, TUNED] for k in range(1, DEPTH + 1)):.1f} %, however many layers are reused."
    )


suite = diag.Suite(
    question="How many layers of a network carry over to a related task with few labels?",
    cases=cases,
    seeds=6,
    looks=0,
    validations=3,
    quick={"steps": 60, "width": 16},
    quick_seeds=2,
    figures={"Accuracy by layers reused": accuracy_by_layers},
    tables={
        f"Test accuracy, {network}, {labels} labels": ranked(network, labels) for network, labels in PANELS
    },
    answer=answer,
    notes=[
        "After a look at data: 600 steps instead of 150, since an undertrained head had shown as layers that do not "
        "carry over.",
    ],
    claims=[
        diag.Claim(
            "The lowest layer carries over: with it frozen, accuracy is less than 2 points below that from scratch",
            "Yosinski et al. 2014, section 4.1",
            lambda r: gain(r, (1, FROZEN), (0, FROZEN)),
            above=-0.02,
            unit="test accuracy",
        ),
        diag.Claim(
            "The top layers do not: with all four frozen, accuracy is more than 2 points below that with one",
            "Yosinski et al. 2014, section 4.1 (representation specificity)",
            lambda r: gain(r, (1, FROZEN), (DEPTH, FROZEN)),
            above=0.02,
            unit="test accuracy",
        ),
        diag.Claim(
            "Fine-tuned is at least as good as frozen, to within a point (mean over 1 to 4 layers reused)",
            "Yosinski et al. 2014, section 4.1 (AnB+ and AnB)",
            lambda r: mean_gain(r, lambda k: (k, FROZEN)),
            above=-0.01,
            unit="test accuracy",
        ),
        diag.Claim(
            "Reused and fine-tuned beats from scratch, with 50 labels and with 20 (mean over 1 to 4 layers reused)",
            "Yosinski et al. 2014, table 1",
            lambda r: {f"{labels} labels": mean_gain(r, lambda k: (0, TUNED), labels) for labels in (50, 20)},
            above=0.0,
            unit="test accuracy",
        ),
        diag.Claim(
            "With 20 labels a frozen lowest layer is worth more, against scratch, than with 50",
            "Pan & Yang 2010, section 2",
            lambda r: gain(r, (1, FROZEN), (0, FROZEN), 20) - gain(r, (1, FROZEN), (0, FROZEN), 50),
            above=0.0,
            unit="test accuracy",
        ),
    ],
)  # fmt: skip
