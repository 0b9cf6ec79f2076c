"""Do layers that learned without labels help when labels are few?

The hidden layers first learn from all training images without their labels, as the encoder of a denoising autoencoder
or as the discriminator of a GAN; then the network learns from 20, 50 or 200 labels. Each start has its own rate for the
second part, the better of the same two by validation loss. The test part judges.
"""

import diag
from diag.report import suite_figures as draw

BASE = diag.Recipe(depth=3, width=128, init="he_normal", optimizer="adam", batch_size=20, steps=300)
# Strong noise, and long enough: with noise 0.3 an autoencoder can copy pixels; after 500 steps neither start helped.
# Both were chosen on seeds that the suite does not use.
STARTS = {"scratch": "scratch", "autoencoder": "autoencoder(steps=2000, noise=1.0)", "gan": "gan(steps=2000)"}
LABELS = [20, 50, 200]
RATES = [0.0003, 0.001]

cases = {
    f"{labels} labels, {name}, lr={lr}": BASE.but(data=f"digits(labeled={labels})", start=start, lr=lr)
    for labels in LABELS
    for name, start in STARTS.items()
    for lr in RATES
}


def tuned(results, labels, name):
    """The case with the rate whose mean validation loss is least."""
    tried = {lr: f"{labels} labels, {name}, lr={lr}" for lr in RATES}
    loss = {lr: results.values("valid_loss", case=case).mean() for lr, case in tried.items()}
    return tried[min(loss, key=loss.get)]


def gain(results, name, labels):
    """Test accuracy after a start minus that from scratch, by seed, each at its rate."""
    first, second = ({"case": tuned(results, labels, one)} for one in (name, "scratch"))
    return results.difference("test_accuracy", first, second)


def best(results):
    """The trials at each start's best rate."""
    chosen = {tuned(results, labels, name): (labels, name) for labels in LABELS for name in STARTS}
    rows = results.select(case=list(chosen))
    return rows.assign(
        labels=rows["case"].map({case: one[0] for case, one in chosen.items()}),
        start=rows["case"].map({case: one[1] for case, one in chosen.items()}),
    )


def accuracy_by_labels(results):
    """Test accuracy over the number of labels, by how the three hidden layers began; mean and two standard errors."""
    figure = draw.curves(best(results), "labels", "test_accuracy", hue="start", log="x", ylabel="test accuracy")
    figure.axes[0].set_xticks(LABELS, [str(one) for one in LABELS])
    figure.axes[0].minorticks_off()
    return figure


def ranked(labels):
    """A table of the starts with so many labels, each at the rate that validation chose."""

    def table(results):
        return results.ranking(
            [tuned(results, labels, name) for name in STARTS], test_accuracy="high", test_loss="low", train_loss="low"
        )

    return table


def answer(results):
    """What was found, in two sentences."""
    mean = best(results).groupby(["labels", "start"])["test_accuracy"].mean()
    said = "; ".join(
        f"with {labels} labels {100 * mean[labels, 'scratch']:.1f} % from random weights, "
        f"{100 * mean[labels, 'autoencoder']:.1f} % after an autoencoder, {100 * mean[labels, 'gan']:.1f} % after a GAN"
        for labels in LABELS
    )
    lead = {name: mean[20, name] - mean[20, "scratch"] for name in ("autoencoder", "gan")}
    first = max(lead, key=lead.get)
    named = {"autoencoder": "the autoencoder", "gan": "the GAN"}[first]
    return (
        f"Test accuracy on digits is, {said}. With the fewest labels the larger gain is that of {named}, "
        f"{100 * lead[first]:+.1f} points."
    )


suite = diag.Suite(
    question="Do layers that learned without labels help when labels are few?",
    cases=cases,
    seeds=6,
    looks=0,
    validations=3,
    quick={"steps": 60, "width": 32},
    quick_seeds=2,
    figures={"Accuracy by labels": accuracy_by_labels},
    tables={f"{labels} labels, each start at its best rate": ranked(labels) for labels in LABELS},
    answer=answer,
    notes=[
        "The noise of the autoencoder (0.3 to 1.0) and the length of the first part (500 to 2,000 steps) were chosen "
        "after a look at other seeds of the same digits.",
    ],
    claims=[
        diag.Claim(
            "With 50 labels, an autoencoder's encoder is a better start than random weights",
            "Bengio et al. 2007; Erhan et al. 2010, section 6",
            lambda r: gain(r, "autoencoder", 50),
            above=0.0,
            unit="test accuracy",
        ),
        diag.Claim(
            "With 50 labels, a GAN's discriminator is a better start than random weights",
            "Radford et al. 2016, section 5",
            lambda r: gain(r, "gan", 50),
            above=0.0,
            unit="test accuracy",
        ),
        diag.Claim(
            "An autoencoder helps more with 20 labels than with 200",
            "Erhan et al. 2010, section 7",
            lambda r: gain(r, "autoencoder", 20) - gain(r, "autoencoder", 200),
            above=0.0,
            unit="test accuracy",
        ),
        diag.Claim(
            "With 200 labels neither start costs more than a point",
            "Erhan et al. 2010, section 7; with a margin",
            lambda r: {name: gain(r, name, 200) for name in ("autoencoder", "gan")},
            above=-0.01,
            unit="test accuracy",
        ),
    ],
)
