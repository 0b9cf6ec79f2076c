"""What one rank saw, as bytes; and the parts of several ranks as one (Chan, Golub & LeVeque 1983)."""

from __future__ import annotations

import io
import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from diag.probe.death import Death
from diag.probe.recorder import ACTIVATION, GRADIENT
from diag.probe.shards import Part
from diag.probe.sharing import Sharing
from diag.probe.sites import Site
from diag.probe.steps import Steps
from diag.stats import fields
from diag.stats.merge import merge_rows

if TYPE_CHECKING:
    from diag.probe.probe import Probe

_SAME = [fields.COUNT, fields.MEAN, fields.M2, fields.MIN, fields.MAX, fields.ZEROS]


@dataclass
class Seen:
    """What a rank saw: step, key (site, call, kind, order) and values of every row; which units were zero, by step."""

    rank: int
    sites: list[dict[str, Any]]
    losses: list[float | None]
    placed: dict[tuple[int, int], Part]
    ran: list[list[Any]]
    steps: np.ndarray
    keys: np.ndarray
    values: np.ndarray
    masks: list[tuple[int, int, int, np.ndarray]]


def pack(probe: Probe, since: int) -> bytes:
    """What was seen from this step on; nothing in it is code."""
    recorder = probe.recorder
    steps, keys, values = recorder.tables()
    kept = steps >= since
    kept_masks = recorder.death.kept or []
    masks = [(step, *key, size) for step, names, sizes, _ in kept_masks for key, size in zip(names, sizes, strict=True)]
    bits = [packed for *_, packed in kept_masks]
    meta = {
        "sites": [asdict(site) for site in probe.sites.table],
        "losses": recorder.steps.losses(since),
        "placed": [[*key, *part] for key, part in recorder.placed.items()],
        "ran": sorted(probe.forward.ran),
        "masks": masks,
        "sizes": [len(one) for one in bits],
    }
    file = io.BytesIO()
    text = np.frombuffer(json.dumps(meta).encode(), np.uint8)
    joined = np.concatenate([np.zeros(0, np.uint8), *bits])
    np.savez_compressed(file, steps=steps[kept], keys=keys[kept], values=values[kept], meta=text, masks=joined)
    return file.getvalue()


def unpack(data: bytes, rank: int) -> Seen:
    """The inverse of `pack`."""
    with np.load(io.BytesIO(data), allow_pickle=False) as file:
        meta = json.loads(file["meta"].tobytes())
        steps, keys, values, joined = (file[name] for name in ("steps", "keys", "values", "masks"))
    masks, start = [], 0
    by_step: dict[int, list[list[int]]] = {}
    for step, *rest in meta["masks"]:
        by_step.setdefault(step, []).append(rest)
    for (step, rows), length in zip(by_step.items(), meta["sizes"], strict=True):
        flags = np.unpackbits(joined[start : start + length])
        start, place = start + length, 0
        for site, call, size in rows:
            masks.append((step, site, call, flags[place : place + size].astype(bool)))
            place += size
    placed = {(site, kind): Part(counts, units, tuple(ranks)) for site, kind, counts, units, ranks in meta["placed"]}
    return Seen(rank, meta["sites"], meta["losses"], placed, meta["ran"], steps, keys, values, masks)


def merge_parts(probe: Probe, parts: list[Seen], sharing: Sharing, *, since: int) -> None:
    """Put the ranks' rows in the place of the probe's own, which are the first part.

    Of a data-parallel training outputs and their gradients are divided among the ranks and each rank's gradient is of
    its own mean loss: of the mean over all parts of the batch it is so much less. Parameters that are no DTensor are
    copies. Where tensors are parallel, a plain tensor is a copy if all ranks with one part of the batch say exactly
    the same of it.
    """
    recorder = probe.recorder
    for part in parts[1:]:
        _renumber(probe, part)
    party_of = dict(zip(sharing.ranks, sharing.parties, strict=True))
    steps = np.concatenate([part.steps for part in parts])
    keys = np.concatenate([part.keys for part in parts])
    values = np.concatenate([part.values for part in parts])
    parties = [party_of[part.rank] for part in parts]
    leads = [one not in parties[:index] for index, one in enumerate(parties)]
    placed = [_placed(part, part is parts[0], lead, party_of) for part, lead in zip(parts, leads, strict=True)]
    counts, units, plain = (np.concatenate([one[column] for one in placed]) for column in range(3))
    lengths = [len(part.steps) for part in parts]
    party = np.repeat(parties, lengths)
    gradients = keys[:, 2] == GRADIENT
    values[np.ix_(gradients, [fields.MEAN, fields.MIN, fields.MAX])] /= sharing.batches
    values[np.ix_(gradients, [fields.M2, fields.SAMPLE_VAR])] /= sharing.batches**2
    unique, start, group = _grouped(np.column_stack([steps, keys[:, :3]]))
    by_party, _, within = _grouped(np.column_stack([group, party]))
    copied = _copied(values, within, len(by_party))[within]
    counts &= ~plain | ~copied | np.repeat(leads, lengths)
    units |= plain & ~copied & (keys[:, 2] == ACTIVATION)
    merged = merge_rows(values[counts], group[counts], len(unique))
    divided = counts & units & ~np.isnan(values[:, fields.UNITS])
    # Every part of the batch goes through the same units.
    once = divided & (party == parties[0])
    sums = np.bincount(group[once], values[once, fields.UNITS], len(unique))
    merged[sums > 0, fields.UNITS] = sums[sums > 0]
    full = np.column_stack([unique[:, 1:], keys[start, 3]])
    apart = {tuple(row) for row in unique[np.unique(group[divided])]}
    _merge_units(probe, list(zip(parties, parts, strict=True)), unique, merged, apart)
    done = [one for one in recorder._done if one[0] < since]
    for step in np.unique(unique[:, 0]):
        rows = (unique[:, 0] == step) & (unique[:, 0] < recorder.step)
        if rows.any():
            done.append((int(step), full[rows], merged[rows]))
    recorder._done = done
    if sharing.batches > 1:
        _merge_losses(recorder.steps, since, [part.losses for part, lead in zip(parts, leads, strict=True) if lead])
    probe.forward.ran |= {(root, path) for part in parts for root, path in part.ran}


def _grouped(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The different rows, where each comes first, and which of them every row is."""
    unique, start, group = np.unique(rows, axis=0, return_index=True, return_inverse=True)
    return unique, start, group.reshape(-1)


def _renumber(probe: Probe, part: Seen) -> None:
    """Give a part's sites the numbers they have here."""
    numbers = []
    for fields_ in part.sites:
        site = Site(**fields_)
        known = probe.sites.get(site.root, site.owner, site.suffix)
        numbers.append(probe.sites.add(site) if known is None else known)
    table = np.array(numbers, np.int64)
    if len(part.keys):
        part.keys[:, 0] = table[part.keys[:, 0]]
    part.placed = {(int(table[site]), kind): one for (site, kind), one in part.placed.items()}
    part.masks = [(step, int(table[site]), call, mask) for step, site, call, mask in part.masks]


def _placed(
    part: Seen, first: bool, leads: bool, party_of: dict[int, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Per row: whether it counts, whether its units are divided among ranks, whether the tensor was a plain one.

    first, leads: whether the part is the first of all, and of those with its part of the batch.
    """
    known = [part.placed.get((site, kind)) for site, _, kind, _ in part.keys.tolist()]
    output = [kind in (ACTIVATION, GRADIENT) for kind in part.keys[:, 2].tolist()]
    mine = party_of[part.rank]

    def counts(one: Part | None, output: bool) -> bool:
        if one is None:
            return first or output
        if output or not one.counts:
            return one.counts
        # A parameter that is distributed over some of the ranks has copies on the others.
        others = {party_of.get(rank, mine) for rank in one.ranks} - {mine}
        alone = sum(party_of.get(rank, mine) == mine for rank in one.ranks) == 1
        return (leads or not alone) and (bool(others) or mine == party_of[min(party_of)])

    count = [counts(one, out) for one, out in zip(known, output, strict=True)]
    units = [one is not None and one.units for one in known]
    plain = [one is None for one in known]
    return np.array(count, bool), np.array(units, bool), np.array(plain, bool)


def _copied(values: np.ndarray, group: np.ndarray, groups: int) -> np.ndarray:
    """Per group: whether all its rows are the same."""
    same = np.ones(groups, bool)
    for column in _SAME:
        least, most = np.full(groups, np.inf), np.full(groups, -np.inf)
        np.fmin.at(least, group, values[:, column])
        np.fmax.at(most, group, values[:, column])
        same &= least >= most
    return same


def _merge_units(
    probe: Probe, parts: list[tuple[int, Seen]], unique: np.ndarray, merged: np.ndarray, divided: set[Any]
) -> None:
    """Count dead units anew: one is dead where every rank that has it says so. parts: with which part of the batch."""
    recorder = probe.recorder
    death = Death(recorder.death.window)
    masks: dict[int, dict[tuple[int, int], dict[int, list[np.ndarray]]]] = {}
    for party, part in parts:
        for step, site, call, mask in part.masks:
            masks.setdefault(step, {}).setdefault((site, call), {}).setdefault(party, []).append(mask)
    measured = {int(step) for step in unique[:, 0]}
    rows: list[tuple[int, ...]] = [row for row in recorder.unit_rows if row[0] not in masks]
    place = {tuple(key): index for index, key in enumerate(unique.tolist())}
    for step, by_key in sorted(masks.items()):
        for (site, call), each in by_key.items():
            put = np.concatenate if (step, site, call, ACTIVATION) in divided else np.logical_and.reduce
            whole = [put(one) for one in each.values()]
            size = max(map(len, whole))  # a part whose ranks did not all answer is shorter
            zero = np.logical_and.reduce([one for one in whole if len(one) == size])
            death.see(site, call, torch.from_numpy(zero))
            index = place.get((step, site, call, ACTIVATION))
            if index is not None:
                merged[index, fields.DEAD_UNITS] = zero.sum()
        ended, _ = death.end_step()
        rows += [(step, *row) for row in ended] if step in measured else []
    recorder.unit_rows = sorted(rows)


def _merge_losses(steps: Steps, since: int, losses: list[list[float | None]]) -> None:
    """The mean of the losses that are known."""
    for index in range(len(steps) - since):
        known = [one[index] for one in losses if index < len(one) and one[index] is not None]
        if known:
            steps.know_loss(since + index, float(np.mean(np.array(known, np.float64))))
