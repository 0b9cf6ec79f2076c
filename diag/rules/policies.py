"""A policy that is undecided to the end, or decided before anything was learned."""

from __future__ import annotations

from diag.rules.evidence import Evidence
from diag.rules.finding import Finding

_FEWEST, _NEARLY_ALL = 10, 0.9
_MUCH, _UNDECIDED = 0.3, 0.98
"""An entropy bonus that is large beside rewards of about 1 (0.01 is usual); a share of the largest entropy."""
_ANY = 1e-4
"""What entropy costs that is no rounding."""
_DECIDED, _STILL = 0.02, 0.05
"""Shares of the largest entropy, at first and at the end, of a policy that tries nothing out."""
_ENDS, _ENDED, _KEPT = 20, 0.02, 0.5
"""Ends of which something is told; their share of all samples, and the share of them that one target of each reward
has, at least, where targets end with the episode."""


def policy(evidence: Evidence) -> Finding | None:
    """Entropy for its own sake, or none from the start, by the log-probabilities that the loss weighs."""
    known = (evidence.trace.coverage.get("terms") or {}).get("policy")
    if not known or known["passes"] < _FEWEST:
        return None
    first, last, bonus = (float(known[name]) for name in ("first", "last", "bonus"))
    if bonus >= _MUCH and last >= _UNDECIDED:
        return Finding(
            "loss-not-decreasing",
            "error",
            "loss",
            f"The entropy bonus of {bonus:.3g} outweighs what is rewarded: in the last third of {known['passes']}"
            f" backward passes the policy's entropy is {last:.1%} of the largest there is, that of actions drawn at"
            " random.",
            {"step": evidence.clean[0], "of": "bonus", "bonus": bonus, "first": first, "last": last},
            "Lower the bonus: 0.01 is usual where rewards, or standardized advantages, are about 1.",
            "Mnih et al. 2016, 'Asynchronous methods for deep reinforcement learning', section 4",
        )
    if bonus <= -_ANY:
        return Finding(
            "loss-not-decreasing",
            "error",
            "loss",
            f"The sign of the entropy bonus is turned: the policy's entropy stands in the loss with a plus"
            f" ({-bonus:.3g}), so that it is made small: from {first:.1%} of the largest there is to {last:.1%} in"
            f" {known['passes']} backward passes. What is not tried out is not learned.",
            {"step": evidence.clean[0], "of": "bonus", "bonus": bonus, "first": first, "last": last},
            "Subtract it: policy_loss - 0.01 * entropy.mean().",
            "Mnih et al. 2016, 'Asynchronous methods for deep reinforcement learning', section 4",
        )
    if first < _DECIDED and last < _STILL:
        return Finding(
            "loss-not-decreasing",
            "error",
            "loss",
            f"The policy is decided before it has learned anything: its entropy is {first:.2%} of the largest there is"
            f" in the first backward passes, and {last:.2%} in the last third of {known['passes']}. It tries nothing"
            " else out, and its log-probabilities have next to no gradient.",
            {"step": evidence.clean[0], "of": "decided", "bonus": bonus, "first": first, "last": last},
            "Initialize the last layer of the policy small, with biases of 0, and reward its entropy by 0.01.",
            "Andrychowicz et al. 2021, 'What matters in on-policy reinforcement learning?', section 3.2",
        )
    return None


def beyond_the_end(evidence: Evidence) -> Finding | None:
    """What a value is to be where an episode ends is no function of the reward: what is expected beyond is added."""
    known = (evidence.trace.coverage.get("terms") or {}).get("ends")
    if not known or not evidence.trains or known["told"] < _ENDS or known["ended"] < _ENDED * known["samples"]:
        return None
    kept = float(known["kept"])
    if kept >= _KEPT:
        return None
    return Finding(
        "loss-not-decreasing",
        "error",
        "loss",
        f"Targets go on beyond the end of an episode: of {known['told']} samples that `{known['done']}` marks as ends,"
        f" those of one and the same `{known['reward']}` have targets that differ (at most {kept:.0%} have the"
        " commonest one), where the target of an end is its reward, and nothing is expected after it.",
        {"step": evidence.clean[0], "of": "ends", "ended": known["ended"], "kept": kept, "passes": known["passes"]},
        "Mask what is expected of the next state: reward + gamma * (1 - done) * value(next_state).",
        "Mnih et al. 2015, 'Human-level control through deep reinforcement learning', algorithm 1",
    )


def own_ratio(evidence: Evidence) -> Finding | None:
    """The ratio of a policy to itself is 1, and its gradient cancels."""
    known = evidence.trace.coverage.get("terms") or {}
    count = int(known.get("of_itself", 0))
    if not evidence.trains or count < max(_FEWEST, _NEARLY_ALL * int(known.get("looked", 0))):
        return None
    return Finding(
        "missing-gradient",
        "error",
        "loss",
        f"The ratio of the loss is one of log-probabilities to themselves, in {count} of {known['looked']} backward"
        " passes that were read: it is 1, and the gradients of both cancel, so that the policy learns nothing.",
        {"step": evidence.clean[0], "of": "own ratio", "passes": count},
        "Keep the log-probabilities of the policy that acted: under no_grad(), or with detach(), before it is trained.",
        "Schulman et al. 2017, 'Proximal policy optimization algorithms', section 3",
    )
