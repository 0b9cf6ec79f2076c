"""Units over a window of steps: dead, sleeping, revived."""

from __future__ import annotations

import torch

from diag.probe.death import Death

D, F = True, False


def run(steps: list[list[list[bool]]], window: int = 3) -> list[tuple[int, int, int]]:
    """(dead, sleeping, revived) after each step; a step is a list of masks, one per micro-batch."""
    death = Death(window)
    result = []
    for masks in steps:
        for mask in masks:
            death.see(0, 0, torch.tensor(mask))
        ((site, call, units, dead, sleeping, revived),), _ = death.end_step()
        assert (site, call, units) == (0, 0, len(masks[0]))
        result.append((dead, sleeping, revived))
    return result


def test_a_unit_sleeps_then_dies_then_revives() -> None:
    history = [[[D, F]], [[D, F]], [[D, D]], [[D, F]], [[F, F]], [[F, F]], [[D, F]], [[F, F]]]
    assert run(history) == [
        (0, 1, 0),
        (0, 1, 0),
        (1, 1, 0),  # zero in three steps; the other has only begun to sleep
        (1, 0, 0),
        (0, 0, 1),  # fires again
        (0, 0, 1),
        (0, 1, 0),  # sleeps again: no longer revived
        (0, 0, 0),  # it had not died in between
    ]


def test_a_step_without_the_site_neither_kills_nor_revives() -> None:
    death = Death(2)
    for seen in (True, False, True):
        if seen:
            death.see(0, 0, torch.tensor([D]))
        rows, _ = death.end_step()
    assert rows == [(0, 0, 1, 1, 0, 0)]


def test_micro_batches_must_agree() -> None:
    assert run([[[D, D, F], [D, F, D]]], window=1) == [(1, 0, 0)]


def test_joint_counts_of_sites_seen_several_times() -> None:
    death = Death()
    death.see(0, 0, torch.tensor([D, D, F]))
    death.see(0, 0, torch.tensor([D, F, F]))
    death.see(1, 0, torch.tensor([D]))
    assert death.end_step()[1] == {(0, 0): 1}


def test_calls_and_sites_are_tracked_apart_and_a_new_width_starts_anew() -> None:
    death = Death(2)
    for width in (2, 2, 3):
        death.see(0, 0, torch.ones(width, dtype=torch.bool))
        death.see(0, 1, torch.zeros(2, dtype=torch.bool))
        rows, _ = death.end_step()
    assert rows == [(0, 0, 3, 0, 3, 0), (0, 1, 2, 0, 0, 0)]
