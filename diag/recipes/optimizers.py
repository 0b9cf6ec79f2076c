"""Optimizers: torch's, by the names and with the options of the canon, and Adam without its bias correction.

g is the gradient at theta, eta the rate, t counts from 1. weight_decay adds lambda theta to g, for all parameters and
in all optimizers but adamw. Numbers that torch refuses, and an empty list of parameters, are a RecipeError.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from diag.recipes.kinds import optimizer
from diag.recipes.spec import RecipeError

Optimizer = torch.optim.Optimizer


@optimizer("sgd", source="Robbins & Monro 1951")
def sgd(parameters: Any, lr: float, *, weight_decay: float = 0.0) -> Optimizer:
    """Gradient descent: theta <- theta - eta g."""
    return _made(torch.optim.SGD, parameters, lr, weight_decay=weight_decay)


@optimizer("momentum", source="Polyak 1964")
def momentum(parameters: Any, lr: float, *, momentum: float = 0.9, weight_decay: float = 0.0) -> Optimizer:
    """Heavy ball: m <- beta m - eta g, theta <- theta + m; under a steady gradient 1 / (1 - beta) times as fast.

    beta is `momentum`. torch's momentum_buffer is m / -eta, which is the same as long as eta is constant.
    """
    return _made(torch.optim.SGD, parameters, lr, momentum=momentum, weight_decay=weight_decay)


@optimizer("nesterov", source="Nesterov 1983; Sutskever et al. 2013, section 2")
def nesterov(parameters: Any, lr: float, *, momentum: float = 0.9, weight_decay: float = 0.0) -> Optimizer:
    """Momentum with the gradient taken at theta + beta m, where the ball is going.

    torch's parameters are that look-ahead point: b <- beta b + g, theta <- theta - eta (g + beta b), which is
    SGD(nesterov=True). At constant eta both are the same sequence.
    """
    return _made(torch.optim.SGD, parameters, lr, momentum=momentum, nesterov=True, weight_decay=weight_decay)


@optimizer("adagrad", source="Duchi et al. 2011")
def adagrad(parameters: Any, lr: float, *, eps: float = 1e-10, weight_decay: float = 0.0) -> Optimizer:
    """s <- s + g^2, theta <- theta - eta g / (sqrt(s) + eps): under a steady gradient steps of eta / sqrt(t)."""
    return _made(torch.optim.Adagrad, parameters, lr, eps=eps, weight_decay=weight_decay)


@optimizer("adadelta", source="Zeiler 2012, algorithm 1")
def adadelta(
    parameters: Any, lr: float, *, rho: float = 0.9, eps: float = 1e-6, weight_decay: float = 0.0
) -> Optimizer:
    """RMSProp whose rate is the mean size of its own steps: theta <- theta - eta d, d = sqrt((u + eps) / (s + eps)) g.

    s <- rho s + (1 - rho) g^2, u <- rho u + (1 - rho) d^2, the latter after the step. The paper's eta is 1.
    """
    return _made(torch.optim.Adadelta, parameters, lr, rho=rho, eps=eps, weight_decay=weight_decay)


@optimizer("rmsprop", source="Tieleman & Hinton 2012, lecture 6.5")
def rmsprop(parameters: Any, lr: float, *, rho: float = 0.9, eps: float = 1e-8, weight_decay: float = 0.0) -> Optimizer:
    """s <- rho s + (1 - rho) g^2, theta <- theta - eta g / (sqrt(s) + eps).

    rho is torch's alpha. s begins at 0 and is not corrected, so the first step is eta / sqrt(1 - rho) in size.
    """
    return _made(torch.optim.RMSprop, parameters, lr, alpha=rho, eps=eps, weight_decay=weight_decay)


@optimizer("adam", source="Kingma & Ba 2015, algorithm 1")
def adam(
    parameters: Any,
    lr: float,
    *,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
) -> Optimizer:
    """m <- b1 m + (1 - b1) g, s <- b2 s + (1 - b2) g^2, theta <- theta - eta m_hat / (sqrt(s_hat) + eps).

    m_hat = m / (1 - b1^t), s_hat = s / (1 - b2^t); b1 and b2 are torch's betas.
    """
    return _made(torch.optim.Adam, parameters, lr, betas=(beta1, beta2), eps=eps, weight_decay=weight_decay)


@optimizer("adamax", source="Kingma & Ba 2015, algorithm 2")
def adamax(
    parameters: Any,
    lr: float,
    *,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
) -> Optimizer:
    """Adam with the infinity norm: u <- max(b2 u, |g| + eps), theta <- theta - eta m_hat / u."""
    return _made(torch.optim.Adamax, parameters, lr, betas=(beta1, beta2), eps=eps, weight_decay=weight_decay)


@optimizer("nadam", source="Dozat 2016, algorithm 2 and section 3.1")
def nadam(
    parameters: Any,
    lr: float,
    *,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
) -> Optimizer:
    """Adam with Nesterov's look-ahead in its first moment.

    m_hat = mu_(t+1) m / (1 - mu_1 ... mu_(t+1)) + (1 - mu_t) g / (1 - mu_1 ... mu_t), where
    mu_t = b1 (1 - 0.96^(0.004 t) / 2); 0.004 is torch's momentum_decay.
    """
    return _made(torch.optim.NAdam, parameters, lr, betas=(beta1, beta2), eps=eps, weight_decay=weight_decay)


@optimizer("radam", source="Liu et al. 2020, algorithm 2")
def radam(
    parameters: Any,
    lr: float,
    *,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
) -> Optimizer:
    """Adam whose first steps, while s is too uncertain, are plain momentum's, and then are scaled by r_t up to 1.

    theta <- theta - eta m_hat r / (sqrt(s) + eps) sqrt(1 - b2^t) once rho = rho_inf - 2 t b2^t / (1 - b2^t) > 5, with
    rho_inf = 2 / (1 - b2) - 1 and r^2 = (rho - 4)(rho - 2) rho_inf / ((rho_inf - 4)(rho_inf - 2) rho); before that,
    theta <- theta - eta m_hat.
    """
    return _made(torch.optim.RAdam, parameters, lr, betas=(beta1, beta2), eps=eps, weight_decay=weight_decay)


@optimizer("adamw", source="Loshchilov & Hutter 2019, algorithm 2")
def adamw(
    parameters: Any,
    lr: float,
    *,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.01,
) -> Optimizer:
    """Adam with decoupled decay: theta <- theta - eta (m_hat / (sqrt(s_hat) + eps) + lambda theta).

    lambda is weight_decay. As in torch, theta shrinks before the step, and by eta lambda, not the paper's eta_t lambda.
    """
    return _made(torch.optim.AdamW, parameters, lr, betas=(beta1, beta2), eps=eps, weight_decay=weight_decay)


@optimizer("adam_uncorrected", source="Kingma & Ba 2015, section 6.4")
def adam_uncorrected(
    parameters: Any, lr: float, *, beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-8
) -> Optimizer:
    """Adam without bias correction: theta <- theta - eta m / (sqrt(s) + eps); to show what the correction does.

    Its first step is (1 - b1) / sqrt(1 - b2) times eta in size, 3.16 at the defaults, where Adam's is eta.
    """
    return _made(UncorrectedAdam, parameters, lr, betas=(beta1, beta2), eps=eps)


class UncorrectedAdam(Optimizer):
    """theta <- theta - eta m / (sqrt(s) + eps), with m and s as Adam's, which begin at 0, and not corrected for it."""

    def __init__(self, params: Any, lr: float, betas: tuple[float, float], eps: float) -> None:
        if not all(0 <= beta < 1 for beta in betas) or not eps >= 0 or not lr >= 0:
            raise ValueError(f"betas are from 0 and below 1, eps and lr from 0, got {betas}, {eps} and {lr}")
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One update; `closure` is torch's."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["m"], state["s"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
                state["m"].lerp_(parameter.grad, 1 - beta1)
                state["s"].mul_(beta2).addcmul_(parameter.grad, parameter.grad, value=1 - beta2)
                parameter.addcdiv_(state["m"], state["s"].sqrt().add_(group["eps"]), value=-group["lr"])
        return loss


def _made(kind: Callable[..., Optimizer], parameters: Any, lr: float, **options: Any) -> Optimizer:
    try:
        return kind(parameters, lr=lr, **options)
    except ValueError as error:
        raise RecipeError(f"{kind.__name__} does not take lr={lr}, {options}: {error}") from None
