"""The published thresholds, each just crossed and just not."""

from __future__ import annotations

import pytest

from tests.corpus.baselines import autotrainer, deepdiagnosis, sagemaker
from tests.rules.traces import Net, chain, even, flat


def weighted(first: float, last: float = 0.01) -> Net:
    net = Net()
    for number, rms in enumerate((first, last)):
        net.output(f"{number}").parameter(f"{number}.weight", gradient=rms)
    return net


@pytest.mark.parametrize(("first", "fires"), [(0.9e-5, True), (1.1e-5, False)])
def test_autotrainer_vanishing(first: float, fires: bool) -> None:
    """A thousandth of the last one's 0.01, and below 1e-4."""
    assert ("vanishing-gradient" in autotrainer(weighted(first).build())) == fires


@pytest.mark.parametrize(("first", "fires"), [(0.9e-7, True), (1.1e-7, False)])
def test_sagemaker_vanishing(first: float, fires: bool) -> None:
    assert ("vanishing-gradient" in sagemaker(weighted(first).build())) == fires


def test_a_flat_loss() -> None:
    net = chain([0.01] * 4, loss=flat).build()
    assert "loss-not-decreasing" in sagemaker(net)
    assert "loss-not-decreasing" in autotrainer(net)
    assert "loss-not-decreasing" not in sagemaker(chain([0.01] * 4).build())


@pytest.mark.parametrize(("top", "fires"), [(3.0, False), (3.3, True)])
def test_variance_of_activations(top: float, fires: bool) -> None:
    """SageMaker: more than ten between layers; DeepDiagnosis: more than ten."""
    net = chain([0.01] * 4, even(1.0, top, 4)).build()
    net.frame["var"] = net.frame["rms"] ** 2
    assert ("collapsed-signal" in sagemaker(net)) == fires
    assert ("exploding-activation" in deepdiagnosis(net)) == fires


def test_a_number_that_is_none() -> None:
    net = chain([0.01] * 4).build()
    net.frame.loc[0, "nonfinite"] = 1.0
    assert all("non-finite" in tool(net) for tool in (autotrainer, sagemaker, deepdiagnosis))


@pytest.mark.parametrize(("top", "fires"), [(0.99, False), (1.01, True)])
def test_deepdiagnosis_range_of_the_input(top: float, fires: bool) -> None:
    net = chain([0.01] * 4).build()
    net.frame.loc[net.frame["site"] == "Net:input", ["min", "max"]] = [-0.5, top]
    assert ("input-range" in deepdiagnosis(net)) == fires
