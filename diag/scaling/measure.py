"""The same network at several sizes, trained for some steps on its first batches and watched."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import torch

from diag.errors import TargetError
from diag.probe.probe import Probe
from diag.trace import Trace
from diag.train.loop import train
from diag.train.workload import Workload

COLUMNS = ["size", "seed", "site", "order", "quantity", "step", "value"]
LAST = "(output)"
"""The last output, whatever it is called."""
Build = Callable[[int], Workload]
Progress = Callable[[int, int], None]


def measure(
    build: Build, sizes: Sequence[int], seeds: int, steps: int, progress: Progress | None = None
) -> pd.DataFrame:
    """Per size, seed and site: `activation` (rms per element, of its output), `gradient` (norm of the loss's gradient
    there) and `update` (rms of a parameter's change over its rms), at the first step and at the last.

    build(size) is called under a seed of its own. The gradient is taken as a norm over all elements, since those of
    single units shrink with the square root of the width in the soundest of networks.
    """
    parts, done = [], 0
    for seed in range(seeds):
        for size in sizes:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                workload = build(size)
                if workload.optimizer is None:
                    raise TargetError("to see how updates scale the workload needs an optimizer: give it one")
                parts.append(_rows(_watched(workload, steps)).assign(size=size, seed=seed))
            done += 1
            if progress is not None:
                progress(done, len(sizes) * seeds)
    table = pd.concat(parts, ignore_index=True)
    everywhere = table.groupby(["site", "quantity", "step"])["size"].transform("nunique") == len(set(sizes))
    return table[everywhere][COLUMNS].sort_values(["order", "size", "seed"], kind="stable", ignore_index=True)


def _watched(workload: Workload, steps: int) -> Trace:
    assert workload.optimizer is not None
    probe = Probe([workload.model], [workload.optimizer])
    probe.start()
    try:
        train(workload, probe, steps, None)
    finally:
        probe.stop()
    return probe.trace()


def _rows(trace: Trace) -> pd.DataFrame:
    frame = trace.frame
    frame = frame[frame["step"].isin([frame["step"].min(), frame["step"].max()])]
    frame = frame.assign(site=frame["site"].astype(str))
    # What goes in is not the network's doing, and the loss says what its input, the last output, says.
    own = ~frame["site"].str.startswith("loss:") & ~frame["site"].str.endswith(":input")
    outputs = frame[frame["kind"].isin(["activation", "gradient"]) & own].copy()
    outputs["value"] = outputs["rms"].astype(float)
    # Networks of other depths have other names for it.
    top = outputs[outputs["order"] == outputs["order"].max()]
    outputs = pd.concat([outputs, top.assign(site=LAST)], ignore_index=True)
    gradient = outputs["kind"] == "gradient"
    outputs.loc[gradient, "value"] *= outputs.loc[gradient, "count"].astype(float) ** 0.5
    weights = frame[frame["kind"] == "weight"].set_index(["step", "site"])["rms"].astype(float)
    updates = frame[frame["kind"] == "update"].copy()
    over = weights.groupby(level=[0, 1]).first().reindex(pd.MultiIndex.from_frame(updates[["step", "site"]]))
    with np.errstate(divide="ignore", invalid="ignore"):
        updates["value"] = updates["rms"].astype(float).to_numpy() / over.to_numpy()
    rows = pd.concat([outputs, updates[updates["value"].map(math.isfinite)]])
    rows = rows.assign(quantity=rows["kind"].astype(str))
    # A shared site is met several times a step.
    return rows.groupby(["site", "quantity", "step"], sort=False, as_index=False).agg(
        order=("order", "min"), value=("value", "mean")
    )
