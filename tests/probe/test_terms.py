"""Signs of the terms of losses that are written out, read off their graphs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Distribution, MixtureSameFamily, Normal, kl_divergence
from torch.nn import functional as F

import diag

STATES = torch.randn(12, 4, generator=torch.Generator().manual_seed(0))


def terms(loss: Callable[[nn.Module], None], outputs: int = 2, end: nn.Module | None = None) -> dict[str, Any]:
    """loss: calls backward itself, as the variables beside that call are looked at."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, outputs), *([end] if end else []))
    optimizer = torch.optim.SGD(net.parameters(), 1e-3)
    with diag.watch(net, optimizer) as watch:
        for _ in range(4):
            optimizer.zero_grad()
            loss(net)
            optimizer.step()
    found: dict[str, Any] = watch.trace.coverage["terms"]
    return found


def reinforce(net: nn.Module, sign: float) -> None:
    policy = Categorical(logits=net(STATES))
    actions = policy.sample()
    returns = actions * STATES[:, 0]
    (sign * (policy.log_prob(actions) * returns).mean() - 0.01 * policy.entropy().mean()).backward()


def with_baseline(net: nn.Module, sign: float) -> None:
    policy = Categorical(probs=net(STATES).softmax(-1))
    actions = policy.sample()
    returns = actions * STATES[:, 0]
    baseline = 0.02 * STATES[:, 1]
    (sign * (policy.log_prob(actions) * (returns - baseline)).sum()).backward()


def one_by_one(net: nn.Module, sign: float) -> None:
    logs, rewards = [], []
    for state in STATES:
        policy = Categorical(logits=net(state))
        action = policy.sample()
        logs.append(policy.log_prob(action))
        rewards.append(float(action + state[0]))
    G = [(one - sum(rewards) / len(rewards)) for one in rewards]
    (sum(sign * log * reward for log, reward in zip(logs, G, strict=True)) / len(G)).backward()  # type: ignore[union-attr]


def continuous(net: nn.Module, sign: float) -> None:
    mean, log_std = net(STATES).unbind(1)
    policy = Normal(mean, log_std.exp())
    actions = policy.sample()
    advantages = -((actions - STATES[:, 0]) ** 2)
    (sign * (policy.log_prob(actions) * advantages).mean()).backward()


def proximal(net: nn.Module, sign: float) -> None:
    policy = Categorical(logits=net(STATES))
    actions = policy.sample()
    adv = (2 * actions - 1) * STATES[:, 0]
    ratio = (policy.log_prob(actions) - policy.log_prob(actions).detach()).exp()
    (sign * torch.min(ratio * adv, ratio.clamp(0.8, 1.2) * adv).mean()).backward()


def by_cross_entropy(net: nn.Module, sign: float) -> None:
    logits = net(STATES)
    actions = Categorical(logits=logits).sample()
    returns = actions * STATES[:, 0]
    (-sign * (F.cross_entropy(logits, actions, reduction="none") * returns).mean()).backward()


@pytest.mark.parametrize(
    ("loss", "name"),
    [
        (reinforce, "returns"),
        (with_baseline, "returns"),
        (one_by_one, "G"),
        (continuous, "advantages"),
        (proximal, "adv"),
        (by_cross_entropy, "returns"),
    ],
)
def test_rewards_that_stand_without_a_minus(loss: Callable[[nn.Module, float], None], name: str) -> None:
    wrong, right = (terms(lambda net, sign=sign: loss(net, sign)) for sign in (1.0, -1.0))  # type: ignore[misc]
    assert (wrong["looked"], wrong["reversed"]) == (2, {name: 2})  # every second step is looked at
    assert (right["looked"], right["reversed"]) == (2, {})


def costs(net: nn.Module) -> None:
    policy = Categorical(logits=net(STATES))
    actions = policy.sample()
    costs = actions * STATES[:, 0]
    (policy.log_prob(actions) * costs).mean().backward()


def negated(net: nn.Module) -> None:
    policy = Categorical(logits=net(STATES))
    actions = policy.sample()
    returns = actions * STATES[:, 0]
    (policy.log_prob(actions) * -returns).mean().backward()


@pytest.mark.parametrize("loss", [costs, negated])
def test_costs_are_to_be_made_rarer(loss: Callable[[nn.Module], None]) -> None:
    assert terms(loss)["reversed"] == {}


def divergence(net: nn.Module, sign: float) -> None:
    mean, log_var = net(STATES).chunk(2, 1)
    kl = -0.5 * torch.sum(1 + log_var - mean**2 - log_var.exp())
    (F.mse_loss(mean, STATES[:, :1]) + sign * kl).backward()


def of_distributions(net: nn.Module, sign: float) -> None:
    mean, log_std = net(STATES).unbind(1)
    (sign * kl_divergence(Normal(mean, log_std.exp()), Normal(torch.zeros(12), torch.ones(12))).mean()).backward()


def squares(net: nn.Module, sign: float) -> None:
    error = net(STATES) - STATES[:, :2]
    (sign * (error * error).mean()).backward()


def likelihood(net: nn.Module, sign: float) -> None:
    mean, log_std = net(STATES).unbind(1)
    (-sign * Normal(mean, log_std.exp()).log_prob(STATES[:, 0]).mean()).backward()


@pytest.mark.parametrize("loss", [divergence, of_distributions, squares, likelihood])
def test_squares_that_are_made_large(loss: Callable[[nn.Module, float], None]) -> None:
    wrong, right = (terms(lambda net, sign=sign: loss(net, sign)) for sign in (-1.0, 1.0))  # type: ignore[misc]
    assert (wrong["looked"], wrong["enlarged"]) == (2, 2)
    assert right["enlarged"] == 0


def reparametrized(net: nn.Module) -> None:
    mean, log_std = net(STATES).unbind(1)
    posterior = Normal(mean, log_std.exp())
    sample = posterior.rsample()
    (posterior.log_prob(sample) - Normal(torch.zeros(12), torch.ones(12)).log_prob(sample)).mean().backward()


def bounded(net: nn.Module) -> None:
    (-(net(STATES) ** 2).mean()).backward()


def cut_off(net: nn.Module) -> None:
    torch.clamp(-(net(STATES) ** 2), min=-1.0).mean().backward()


def within_a_kernel(net: nn.Module) -> None:
    torch.exp(-(net(STATES) ** 2)).mean().backward()


@pytest.mark.parametrize(
    ("loss", "end"),
    [(reparametrized, None), (bounded, nn.Softmax(1)), (bounded, nn.Tanh()), (within_a_kernel, None), (cut_off, None)],
)
def test_squares_with_a_bound_may_be_made_large(loss: Callable[[nn.Module], None], end: nn.Module | None) -> None:
    assert terms(loss, end=end)["enlarged"] == 0


def column_and_row(net: nn.Module) -> None:
    ((net(STATES)[:, :1].sigmoid() - STATES[:, 0]) ** 2).mean().backward()


def row_and_column(net: nn.Module) -> None:
    error = STATES[:, :1] - net(STATES)[:, 0]
    (0.5 * (error * error)).sum().backward()


def weighted(net: nn.Module) -> None:
    (net(STATES)[:, :1].tanh() * STATES[:, 0]).mean().backward()


@pytest.mark.parametrize(
    ("loss", "given"),
    [(column_and_row, [12, 1]), (row_and_column, [12]), (weighted, [12, 1])],
)
def test_predictions_that_are_spread(loss: Callable[[nn.Module], None], given: list[int]) -> None:
    assert terms(loss)["crossed"] == {"given": given, "spread": [12, 12], "count": 2}


def own_row(net: nn.Module) -> None:
    ((net(STATES)[:, 0] - STATES[:, 0]) ** 2).mean().backward()


def pairs(net: nn.Module) -> None:
    out = net(STATES)[:, 0]
    ((out[:, None] - out) ** 2).mean().backward()


def nearest(net: nn.Module) -> None:
    ((net(STATES)[:, None] - STATES[None, :, :2]) ** 2).sum(-1).min(1).values.mean().backward()


def table(net: nn.Module) -> None:
    ((net(STATES)[:, :1] - STATES @ STATES.T) ** 2).mean().backward()


@pytest.mark.parametrize("loss", [own_row, pairs, nearest, table])
def test_what_is_meant_to_meet_all(loss: Callable[[nn.Module], None]) -> None:
    assert "crossed" not in terms(loss)


def by_sigmoids(net: nn.Module, sign: float) -> None:
    out = net(STATES)
    (-sign * (F.logsigmoid(out[:, 0]) + F.logsigmoid(-out[:, 1])).mean()).backward()


def by_classes(net: nn.Module, sign: float) -> None:
    logs = net(STATES).log_softmax(1)
    (-sign * logs.gather(1, (STATES[:, :1] > 0).long()).mean()).backward()


def by_bits(net: nn.Module, sign: float) -> None:
    bits = (STATES[:, :2] > 0).float()
    (sign * F.binary_cross_entropy_with_logits(net(STATES), bits, reduction="none").mean()).backward()


@pytest.mark.parametrize("loss", [by_sigmoids, by_classes, by_bits])
def test_likelihoods_that_are_made_small(loss: Callable[[nn.Module, float], None]) -> None:
    wrong, right = (terms(lambda net, sign=sign: loss(net, sign))["lowered"] for sign in (-1.0, 1.0))  # type: ignore[misc]
    assert (wrong, right) == (2, 0)


def both_signs(net: nn.Module) -> None:
    out = net(STATES)
    (F.logsigmoid(out[:, 0]) - F.logsigmoid(out[:, 1])).mean().backward()


def one_sample(net: nn.Module) -> None:
    F.logsigmoid(net(STATES[:1])[:, 0]).mean().backward()


@pytest.mark.parametrize("loss", [both_signs, one_sample])
def test_what_may_be_an_advantage(loss: Callable[[nn.Module], None]) -> None:
    assert terms(loss)["lowered"] == 0


def test_a_loss_that_the_model_puts_out() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return F.logsigmoid(self.layer(x)).mean()

    net = Net()
    with diag.watch(net, torch.optim.SGD(net.parameters(), 0.1)) as watch:
        net(STATES).backward()
    assert watch.trace.coverage["terms"]["lowered"] == 1


@pytest.mark.parametrize(
    ("scale", "dtype", "count"), [(1e-9, torch.half, 2), (1e-9, torch.float, 0), (2.0, torch.half, 0)]
)
def test_what_underflows(scale: float, dtype: torch.dtype, count: int) -> None:
    def loss(net: nn.Module) -> None:
        (net(STATES).square().mean().to(dtype) * scale).backward()

    found = terms(loss)
    assert found["underflown"] == count
    assert found["scale"] == (pytest.approx(scale) if count else 1.0)


def test_nothing_is_kept_alive_or_changed() -> None:
    def loss(net: nn.Module) -> None:
        torch.manual_seed(1)
        reinforce(net, -1.0)

    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))
    watched = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))
    watched.load_state_dict(plain.state_dict())
    loss(plain)
    with diag.watch(watched, torch.optim.SGD(watched.parameters(), 0.1)):
        loss(watched)
    one, other = ([parameter.grad for parameter in net.parameters()] for net in (plain, watched))
    assert all(
        isinstance(a, Tensor) and isinstance(b, Tensor) and torch.equal(a, b) for a, b in zip(one, other, strict=True)
    )


def all_turned(net: nn.Module) -> None:
    out = net(STATES)
    (-(F.relu(out - 1).mean() + 2 * F.mse_loss(out, STATES[:, :2]))).backward()


def a_hinge_of_some(net: nn.Module) -> None:
    hinges = F.relu(net(STATES).sum(1) + 3)
    (-hinges[hinges > 0].mean()).backward()


def absolute_values(net: nn.Module) -> None:
    (-(net(STATES) - STATES[:, :2]).abs().mean()).backward()


def the_smaller_of_two(net: nn.Module) -> None:
    error = STATES[:, :2] - net(STATES)
    torch.minimum(0.9 * error, -0.1 * error).mean().backward()


def the_larger_of_two(net: nn.Module) -> None:
    error = STATES[:, :2] - net(STATES)
    torch.maximum(0.9 * error, -0.1 * error).mean().backward()


def with_another_term(net: nn.Module) -> None:
    out = net(STATES)
    (-F.l1_loss(out, STATES[:, :2]) - out.mean()).backward()


def one_of_two(net: nn.Module) -> None:
    out = net(STATES)
    (F.relu(out).mean() - F.smooth_l1_loss(out, STATES[:, :2])).backward()


def right(net: nn.Module) -> None:
    F.mse_loss(net(STATES), STATES[:, :2]).backward()


@pytest.mark.parametrize(
    ("loss", "upturned", "absolute"),
    [
        (all_turned, 2, 0),
        (a_hinge_of_some, 2, 0),
        (absolute_values, 2, 2),
        (the_smaller_of_two, 2, 0),
        (the_larger_of_two, 0, 0),
        (with_another_term, 0, 0),
        (one_of_two, 0, 0),
        (right, 0, 0),
    ],
)
def test_losses_that_stand_with_a_minus_and_nothing_else(
    loss: Callable[[nn.Module], None], upturned: int, absolute: int
) -> None:
    found = terms(loss)
    assert (found["looked"], found["upturned"], found["absolute"]) == (2, upturned, absolute)


def divergence(net: nn.Module, sign: float) -> None:
    out = net(STATES)
    target = STATES[:, :2].softmax(1)
    classes = target.argmax(1)
    kl = F.kl_div(F.log_softmax(out / 2, 1), target, reduction="batchmean")
    (F.cross_entropy(out, classes) + sign * 0.5 * kl).backward()


@pytest.mark.parametrize(
    ("sign", "subtracted", "added"),
    [(1.0, {}, {"nll_loss": 2, "kl_div": 2}), (-1.0, {"kl_div": 2}, {"nll_loss": 2})],
)
def test_the_sign_with_which_each_loss_stands(sign: float, subtracted: dict[str, int], added: dict[str, int]) -> None:
    found = terms(lambda net: divergence(net, sign))
    assert (found["subtracted"], found["added"]) == (subtracted, added)
    found = terms(one_of_two)
    assert (found["subtracted"], found["added"]) == ({"smooth_l1_loss": 2}, {})


class Density(nn.Module):
    def __init__(self, mixes: bool) -> None:
        super().__init__()
        self.layer, self.mixes = nn.Linear(4, 6), mixes

    def forward(self, x: Tensor) -> Distribution:
        weights, mean, log_std = self.layer(x).chunk(3, -1)
        components = Normal(mean, log_std.exp())
        return MixtureSameFamily(Categorical(logits=weights), components) if self.mixes else components


@pytest.mark.parametrize("wrong", [True, False])
@pytest.mark.parametrize("mixes", [True, False])
def test_a_model_that_returns_a_distribution(mixes: bool, wrong: bool) -> None:
    torch.manual_seed(0)
    net, wanted = Density(mixes), STATES[:, :1] if wrong else STATES[:, 0]
    if not mixes and not wrong:
        wanted = STATES[:, :2]
    if not mixes and wrong:
        wanted = STATES[:, None, :2]
    optimizer = torch.optim.SGD(net.parameters(), 1e-3)
    with diag.watch(net, optimizer) as watch:
        for _ in range(4):
            optimizer.zero_grad()
            (-net(STATES).log_prob(wanted).mean()).backward()
            optimizer.step()
    found = watch.trace.coverage["terms"]
    assert found["looked"] == 2
    assert ("crossed" in found) is wrong


@pytest.mark.parametrize(
    ("sign", "choose", "count"), [(1.0, torch.min, 2), (-1.0, torch.min, 0), (-1.0, torch.max, 0), (1.0, torch.max, 0)]
)
def test_a_clipped_surrogate_that_is_minimized_as_it_is(sign: float, choose: Callable[..., Tensor], count: int) -> None:
    """Whatever the numbers are called that it is multiplied with: the least of two bounds what is to be made large."""

    def proximal(net: nn.Module) -> None:
        policy = Categorical(logits=net(STATES))
        actions = torch.arange(12) % 2
        ratio = (policy.log_prob(actions) - 0.7).exp()
        some = STATES[:, 0]
        (sign * choose(ratio * some, ratio.clamp(0.8, 1.2) * some).mean() - 0.01 * policy.entropy().mean()).backward()

    assert terms(proximal)["surrogates"] == count


@pytest.mark.parametrize(("sign", "name"), [(1.0, "returns"), (-1.0, None)])
def test_rewards_behind_a_mask(sign: float, name: str | None) -> None:
    """Of episodes of several lengths: what is padded has rewards too, of which nothing is to be learned."""

    def masked(net: nn.Module) -> None:
        policy = Categorical(logits=net(STATES))
        actions = torch.arange(12) % 2
        returns = torch.cat([STATES[:8, 0], 50 * torch.ones(4)])
        mask = (torch.arange(12) < 8).float()
        (sign * (policy.log_prob(actions) * returns * mask).sum() / mask.sum()).backward()

    assert terms(masked)["reversed"] == ({name: 2} if name else {})
