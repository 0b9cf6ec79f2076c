"""Critics, and what is trained by their scores: whether both want the same."""

from __future__ import annotations

from diag.rules.evidence import Evidence
from diag.rules.finding import Finding

_FEWEST, _NEARLY_ALL = 5, 0.9
_REGRESSIONS = ("mse_loss", "smooth_l1_loss", "huber_loss", "l1_loss", "sub")


def opponents(evidence: Evidence) -> Finding | None:
    """A critic and what it judges push scores the same way, or an actor makes small what its critic says it earns."""
    for critic, known in evidence.of_models("opponents"):
        found = _allied(evidence, critic, known) or _unrewarded(evidence, critic, known)
        if found is not None:
            return found
    return None


def _allied(evidence: Evidence, critic: str, known: dict[str, int]) -> Finding | None:
    """A critic makes the scores of what is made large, and so does what makes it; or both small."""
    for way, other in (("up", "down"), ("down", "up")):
        judged, fooled = known[f"judged_{way}"], known[f"fooled_{way}"]
        clear = known[f"judged_{other}"] + known[f"fooled_{other}"] <= (1 - _NEARLY_ALL) * (judged + fooled)
        if min(judged, fooled) < _FEWEST or not clear:
            continue
        does = "large" if way == "up" else "small"
        return Finding(
            "diverging-loss",
            "error",
            "loss",
            f"{critic} and what it judges want the same: in {judged} passes the loss of {critic} makes its scores of"
            f" what is made {does}, beside scores of data that it makes {'small' if way == 'up' else 'large'}, and in"
            f" {fooled} passes the loss of what makes it makes them {does} too. The sign of one of the two is turned.",
            {"step": evidence.clean[0], "of": "sign", "critic": critic, "passes": judged + fooled},
            "Minimize critic(made).mean() - critic(data).mean() for the critic, and -critic(made).mean() for the"
            " generator; in a binary cross-entropy what is made is 0 for the critic, and 1 for the generator.",
            "Arjovsky et al. 2017, 'Wasserstein GAN', algorithm 1",
        )
    return None


def _unrewarded(evidence: Evidence, critic: str, known: dict[str, int]) -> Finding | None:
    """Of a critic that is fitted to returns the scores of an actor's actions are made small."""
    down, up = known["fooled_down"], known["fooled_up"]
    judged = known["judged_up"] + known["judged_down"]
    regresses = evidence.trace.sites["op"].isin(_REGRESSIONS).any()
    rewarded = known["rewarded_down"] >= max(_FEWEST, _NEARLY_ALL * down)
    if judged or not rewarded or up > (1 - _NEARLY_ALL) * down or not regresses:
        return None
    return Finding(
        "diverging-loss",
        "error",
        "loss",
        f"The sign of the actor's loss is turned: what {critic} says of its actions stands without a minus in {down}"
        " backward passes that were read, beside rewards that are to be large. Actions are chosen that it thinks worst"
        " of.",
        {"step": evidence.clean[0], "of": "sign", "critic": critic, "passes": down},
        "Minimize the negative: -critic(state, actor(state)).mean().",
        "Lillicrap et al. 2016, 'Continuous control with deep reinforcement learning', equation 6",
    )
