"""Recurrences that are cut between their calls: the state goes on, its gradient does not."""

from __future__ import annotations

from diag.rules.evidence import SIGNAL_ROLES, Evidence
from diag.rules.finding import Finding, listed
from diag.rules.scales import does_well

_FEWEST_CALLS, _FEWEST_STEPS = 4, 3
_ONE_PASS = 1.1
"""Forward passes in a step, above which calls may be of passes that no loss is made of."""


def truncated(evidence: Evidence) -> Finding | None:
    """Modules that run many times in a pass, of which only the last call gets a gradient in every step."""
    passes = int(evidence.trace.coverage.get("training_passes", 0))
    if len(evidence.clean) < _FEWEST_STEPS or not evidence.trains or passes > _ONE_PASS * len(evidence.trace.steps):
        return None
    ran = evidence.rows("activation", evidence.clean, SIGNAL_ROLES)
    got = evidence.rows("gradient", evidence.clean, SIGNAL_ROLES)
    calls = ran.groupby(["site", "step"])["call"].max() + 1
    first = got.groupby(["site", "step"])["call"].min().reindex(calls.index)
    cut = ((first == calls - 1) & (calls >= _FEWEST_CALLS)).groupby("site").all()
    meant = set(evidence.trace.coverage.get("without_graph") or ())  # as the steps to a fixed point are
    cut_off = [one for one in cut.index[cut] if "[" not in one and one not in meant]
    names = evidence.in_order(cut_off)
    if not names:
        return None
    count = int(calls[names[0]].median())
    one = len(names) == 1
    return Finding(
        "missing-gradient",
        "warning" if does_well(evidence) else "error",
        names[0],
        f"{listed(names)} {'runs' if one else 'run'} {count} times in each step, and only the last call gets a"
        " gradient: what is handed from one call to the next is cut off, so that nothing is learned of earlier ones.",
        {"step": evidence.clean[0], "of": "calls", "calls": count, "sites": names[:20]},
        "Hand the state on as it is: detach() it between batches, not between the steps of one sequence, and look for"
        " .data, no_grad() and new tensors on its way.",
        "Werbos 1990, 'Backpropagation through time'; torch.Tensor.detach documentation",
    )
