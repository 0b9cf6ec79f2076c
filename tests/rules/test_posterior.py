"""A VAE whose latent variables hold nothing of the input, and one whose do."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import diag
from diag.rules.judge import judge
from tests.corpus.data import digits
from tests.rules.traces import Net, Value, found

COLLAPSED = "collapsed-signal"


def fades(step: int) -> float:
    """From 0.1 to 0.1 / 30 over thirty steps, fast at first."""
    return 0.1 / (step + 1)


def autoencoder(mean: Value, apart: Value, fit: float) -> Net:
    """An encoder that ends in a mean and a deviation, what is sampled, and a decoder; the gradient vanishes below."""
    net = Net().output("VAE:input", "input", "input", gradient=None)
    for number in range(3):
        net.output(f"encoder.{number}", gradient=1e-7).parameter(f"encoder.{number}.weight", gradient=1e-7)
    net.output("mu", units=8, rms=mean, gradient=1e-3).output("logvar", units=8, rms=mean, gradient=1e-3)
    net.output("VAE:exp", "elementwise", "exp", units=8, gradient=None, mean=1.0, var=apart)
    net.output("decoder.0", gradient=0.01).output("decoder.2", gradient=0.01)
    return net.output("loss:mse_loss[pairing]", "pairing", "pairing", gradient=None, mean=fit, spread=0.0)


@pytest.mark.parametrize(
    ("mean", "apart", "fit", "severity"),
    [
        (fades, 1e-5, 0.1, "error"),
        (fades, 1e-5, 5.0, "warning"),
        (0.005, 1e-5, 0.1, None),
        (0.5, 1e-5, 0.1, None),
        (fades, 1e-2, 0.1, None),
    ],
    ids=["collapsed", "what is reconstructed fits", "so from the start", "the mean tells", "the deviation tells"],
)
def test_collapse(mean: Value, apart: float, fit: float, severity: str | None) -> None:
    findings = [one for one in found(COLLAPSED, autoencoder(mean, apart, fit)) if one.evidence["of"] == "posterior"]
    assert [(one.severity, one.site) for one in findings] == ([(severity, "mu")] if severity else [])
    for one in findings:
        assert one.evidence["divergence"] == pytest.approx((0.1 / 21) ** 2 / 2 + 1e-5)


@pytest.mark.parametrize(("steps", "severity"), [(240, "error"), (60, "warning")])
def test_after_many_steps_it_is_one_though_it_is_not_known_what_is_reconstructed(steps: int, severity: str) -> None:
    net = Net(steps=steps)
    net.output("encoder.0").output("mu", units=8, rms=fades, gradient=1e-3)
    net.output("logvar", units=8, rms=fades, gradient=1e-3)
    net.output("VAE:exp", "elementwise", "exp", units=8, gradient=None, mean=1.0, var=1e-6).output("decoder.0")
    (one,) = [one for one in found(COLLAPSED, net) if one.evidence["of"] == "posterior"]
    assert (one.severity, one.evidence["fit"]) == (severity, None)


def test_it_is_the_root_of_a_gradient_that_vanishes() -> None:
    (first, *_) = judge(autoencoder(fades, 1e-5, 0.1).build(), {})
    assert first.evidence["of"] == "posterior"
    assert "vanishing-gradient" in [one.rule for one in first.consequences]


class VAE(nn.Module):
    """Of Kingma & Welling; what it returns is reconstruction, mean and logarithm of the variance."""

    def __init__(self, cuts: bool = False) -> None:
        super().__init__()
        self.cuts = cuts
        self.encoder, self.mu, self.logvar = nn.Linear(64, 64), nn.Linear(64, 8), nn.Linear(64, 8)
        self.decoder = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 64))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        hidden = F.relu(self.encoder(x))
        mu, logvar = self.mu(hidden), self.logvar(hidden)
        sampled = mu + torch.randn_like(mu) * torch.exp(0.5 * logvar)
        return self.decoder(sampled.data if self.cuts else sampled), mu, logvar


@pytest.mark.parametrize(
    ("reduction", "cuts", "of"),
    [
        ("mean", False, "posterior"),
        ("sum", False, None),
        ("sum", True, "prior alone"),
        ("mean", True, "prior alone"),
    ],
)
def test_really_trained(reduction: str, cuts: bool, of: str | None) -> None:
    """A mean over pixels beside a sum over latent variables and samples, and two sums; with the graph and without."""

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        made, mu, logvar = model(batch[0])
        kl = -0.5 * (1 + logvar - mu**2 - logvar.exp()).sum()
        return F.mse_loss(made, batch[0], reduction=reduction) + kl

    torch.manual_seed(0)
    model = VAE(cuts)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    checked = diag.check(diag.Workload(model, digits(), loss, optimizer), steps=80)
    errors = [one.evidence.get("of") for one in checked.findings if one.severity == "error"]
    assert errors[:1] == ([of] if of else [])
    assert cuts or len(errors) <= 1
