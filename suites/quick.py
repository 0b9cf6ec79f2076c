"""Does training still work as it should? The claims of the canon that a minute can judge, for CI."""

import diag

DEEP = diag.Recipe(data="digits", network="mlp", depth=10, width=64, lr=0.05, steps=150)


cases = {
    **diag.axes(DEEP.but(activation="sigmoid"), init=["legacy_uniform"], norm=["none", "batch"]),
    **diag.axes(DEEP, activation=["relu"], init=["legacy_uniform", "he_normal"]),
    **diag.axes(DEEP.but(depth=2, lr=0.003, init="he_normal"), optimizer=["sgd", "adam"]),
}


def compared(results):
    """Every case; the three pairs are tasks of their own, so only their order within a pair means something."""
    return results.ranking(cases, test_accuracy="high", test_loss="low")


def learning(results):
    """Validation accuracy over the training, mean over seeds and its 95 % band."""
    from diag.report.suite_figures import curves

    return curves(results.table("curves"), "step", "valid_accuracy", ylabel="validation accuracy")


suite = diag.Suite(
    question="Does training still work as it should?",
    cases=cases,
    seeds=5,
    looks=3,
    concepts=("vanishing_gradients",),
    figures={"Learning": learning},
    tables={"All cases": compared},
    claims=[
        diag.Claim(
            "A ten-layer sigmoid network with the legacy initialization does not learn",
            "Glorot & Bengio 2010, section 3.1",
            lambda r: r.values("test_accuracy", case="init=legacy_uniform norm=none"),
            below=0.3,
            unit="test accuracy",
        ),
        diag.Claim(
            "Batch normalization makes it learn",
            "Ioffe & Szegedy 2015, section 4.2.1",
            lambda r: r.values("test_accuracy", case="init=legacy_uniform norm=batch"),
            above=0.5,
            unit="test accuracy",
        ),
        diag.Claim(
            "A ten-layer ReLU network learns better under He's initialization than under the legacy one",
            "He et al. 2015, section 2.2",
            lambda r: r.difference(
                "test_accuracy",
                {"case": "activation=relu init=he_normal"},
                {"case": "activation=relu init=legacy_uniform"},
            ),
            above=0.2,
            unit="test accuracy",
        ),
        diag.Claim(
            "At a rate of 0.003 Adam learns faster than plain gradient descent",
            "Kingma & Ba 2015, section 6",
            lambda r: r.difference("test_loss", {"case": "optimizer=sgd"}, {"case": "optimizer=adam"}),
            above=0.0,
            unit="nats of test loss",
        ),
    ],
)
