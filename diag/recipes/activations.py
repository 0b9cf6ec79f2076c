"""Activation functions: torch's modules under the names of the literature, and swish with a beta."""

from __future__ import annotations

import torch
from torch import nn

from diag.recipes.kinds import activation
from diag.recipes.spec import RecipeError


class Swish(nn.Module):
    """z sigmoid(beta z), elementwise.

    beta: a number, or, if trainable, a parameter that begins there.
    Source: Ramachandran, Zoph & Le 2017, Searching for Activation Functions, section 4.
    """

    def __init__(self, beta: float = 1.0, trainable: bool = False) -> None:
        super().__init__()
        self.beta: float | nn.Parameter = nn.Parameter(torch.tensor(float(beta))) if trainable else float(beta)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Same shape as `inputs`."""
        return inputs * torch.sigmoid(self.beta * inputs)

    def extra_repr(self) -> str:
        """What printing the module shows in its parentheses."""
        return "beta trainable" if isinstance(self.beta, nn.Parameter) else f"beta={self.beta:g}"


@activation("identity")
def _identity() -> nn.Module:
    """z: a network of these is linear."""
    return nn.Identity()


@activation("sigmoid", source="Rumelhart, Hinton & Williams 1986")
def _sigmoid() -> nn.Module:
    """1 / (1 + exp(-z)), in (0, 1)."""
    return nn.Sigmoid()


@activation("tanh", source="LeCun et al. 1998, Efficient BackProp, section 4.4")
def _tanh() -> nn.Module:
    """(exp z - exp -z) / (exp z + exp -z), in (-1, 1)."""
    return nn.Tanh()


@activation("softsign", source="Bergstra et al. 2009; Glorot & Bengio 2010, section 3")
def _softsign() -> nn.Module:
    """z / (1 + |z|), in (-1, 1), with tails that flatten slowly."""
    return nn.Softsign()


@activation("hardtanh", source="Collobert 2004")
def _hardtanh(*, min_val: float = -1.0, max_val: float = 1.0) -> nn.Module:
    """z cut off at min_val and max_val."""
    if not min_val < max_val:
        raise RecipeError(f"hardtanh needs min_val < max_val, got {min_val!r} and {max_val!r}")
    return nn.Hardtanh(min_val, max_val)


@activation("hardsigmoid", source="Courbariaux, Bengio & David 2015, BinaryConnect, section 2.2; Howard et al. 2019")
def _hardsigmoid() -> nn.Module:
    """min(max(z / 6 + 1/2, 0), 1)."""
    return nn.Hardsigmoid()


@activation("relu", source="Nair & Hinton 2010; Glorot, Bordes & Bengio 2011, section 3.1")
def _relu() -> nn.Module:
    """max(0, z)."""
    return nn.ReLU()


@activation("relu6", source="Krizhevsky 2010, Convolutional Deep Belief Networks on CIFAR-10, section 2.2")
def _relu6() -> nn.Module:
    """min(max(0, z), 6)."""
    return nn.ReLU6()


@activation("leaky_relu", source="Maas, Hannun & Ng 2013, section 2")
def _leaky_relu(*, negative_slope: float = 0.01) -> nn.Module:
    """max(a z, z), a = negative_slope in [0, 1]."""
    return nn.LeakyReLU(negative_slope)


@activation("prelu", source="He et al. 2015, Delving Deep into Rectifiers, section 2.1")
def _prelu(*, init: float = 0.25) -> nn.Module:
    """max(0, z) + a min(0, z), a learned, one for the layer, from init."""
    return nn.PReLU(init=init)


@activation("elu", source="Clevert, Unterthiner & Hochreiter 2016, section 3")
def _elu(*, alpha: float = 1.0) -> nn.Module:
    """alpha (exp z - 1) for z < 0, z above; the slope is continuous at 0 for alpha = 1."""
    return nn.ELU(alpha)


@activation("selu", source="Klambauer et al. 2017, Self-Normalizing Neural Networks, section 2")
def _selu() -> nn.Module:
    """1.0507 elu(z) with alpha = 1.6733: mean 0 and variance 1 is its fixed point under lecun_normal."""
    return nn.SELU()


@activation("gelu", source="Hendrycks & Gimpel 2016, section 2")
def _gelu(*, approximate: str = "none") -> nn.Module:
    """z Phi(z), Phi the normal distribution function; approximate="tanh" for the paper's approximation."""
    if approximate not in ("none", "tanh"):
        raise RecipeError(f"gelu's approximate is 'none' or 'tanh', got {approximate!r}")
    return nn.GELU(approximate)


@activation("silu", source="Elfwing, Uchibe & Doya 2018; Hendrycks & Gimpel 2016")
def _silu() -> nn.Module:
    """z sigmoid(z): swish with beta = 1, fused in torch."""
    return nn.SiLU()


@activation("swish", source="Ramachandran, Zoph & Le 2017, section 4")
def _swish(*, beta: float = 1.0, trainable: bool = False) -> nn.Module:
    """z sigmoid(beta z); beta is learned if trainable."""
    return Swish(beta, trainable)


@activation("hardswish", source="Howard et al. 2019, Searching for MobileNetV3, section 5.2")
def _hardswish() -> nn.Module:
    """z min(max(z + 3, 0), 6) / 6."""
    return nn.Hardswish()


@activation("mish", source="Misra 2019, section 2")
def _mish() -> nn.Module:
    """z tanh(ln(1 + exp z))."""
    return nn.Mish()


@activation("softplus", source="Dugas et al. 2001; Glorot, Bordes & Bengio 2011, section 3.2")
def _softplus(*, beta: float = 1.0) -> nn.Module:
    """ln(1 + exp(beta z)) / beta."""
    if not beta > 0:
        raise RecipeError(f"softplus needs beta > 0, got {beta!r}")
    return nn.Softplus(beta)
