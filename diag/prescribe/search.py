"""Which remedies are tried: one by one, and then together with what the first ones showed."""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterable, Iterator

from diag.prescribe.order import adds_nothing, to_tell, to_try
from diag.prescribe.patient import Patient
from diag.prescribe.rate import ANSWERS, UNTUNED, tuned
from diag.prescribe.remedy import FAMILIES, Advice, Remedy, combined
from diag.prescribe.trial import Bench, Trial
from diag.train.loop import Progress

# A family registers itself when its file is imported.
for _family in (
    "losses",
    "dimensions",
    "outputs",
    "inputs",
    "optimizers",
    "biases",
    "gates",
    "initialization",
    "activations",
    "normalization",
    "residual",
    "clipping",
    "precision",
    "pairs",
):
    importlib.import_module(f"diag.prescribe.{_family}")

COMBINATIONS = 3
"""Of the remedies tried, as many are of two."""
MOST_WATCHED = 4
"""Trials whose findings are told: to watch and judge a small network takes longer than to train it."""
STRUCTURAL = (
    "activation",
    "initialization",
    "normalization",
    "inputs",
    "targets",
    "optimizer",
    "loss",
    "biases",
    "precision",
)
"""Families that may ask for another learning rate."""


class Search:
    """trials: the best first, when it has run. advice: what was not tried, and why. untried: what is left over."""

    def __init__(self, bench: Bench, most: int, progress: Progress | None = None, everything: bool = False) -> None:
        self.bench, self.most, self.progress = bench, most, progress
        self.trials: list[Trial] = []
        self.advice: list[Advice] = []
        self.untried: list[str] = []
        source = bench.source
        norms = bench.control(0).gradient_norms if source.optimizer is not None else []
        self.patient = Patient(source.template, source.fresh, bench.batches, bench.watched, norms, everything)

    def run(self) -> None:
        """Try what there is, as far as number and time allow."""
        alone = self.most - COMBINATIONS if self.most > 2 * COMBINATIONS else self.most
        candidates = self._candidates()
        for number, remedy in enumerate(candidates):
            if len(self.trials) >= alone or self.bench.is_late():
                self.untried += [one.name for one in candidates[number:]]
                break
            for one in self._tunings(None) if remedy is UNTUNED else [remedy]:
                self._try(one)
        for remedy in self._combinations():
            if len(self.trials) >= self.most or self.bench.is_late():
                break
            self._try(remedy)
        self._watch()

    def _watch(self) -> None:
        """Rank the trials, and look at the best of those that helped under the probe, which may rank them anew."""
        self.trials = to_tell(self.trials)
        for _ in self.trials:
            top = enumerate(self.trials[:MOST_WATCHED])
            number = next((at for at, one in top if one.helped and one.gone is None), None)
            if number is None or self.bench.is_late():
                break
            self.trials[number] = self.bench.watch(self.trials[number])
            self.trials = to_tell(self.trials)

    def _try(self, remedy: Remedy) -> None:
        trial = self.bench.try_(remedy)
        if trial.verdict == "could not be tried":
            self.advice.append(Advice(remedy.name, remedy.change, trial.why, remedy.code))
        elif not adds_nothing(trial, self.trials):
            self.trials.append(trial)
        if self.progress is not None:
            self.progress(len(self.trials), self.most, None)

    def _candidates(self) -> list[Remedy]:
        """What the families propose, in the order in which it is tried. The range test waits for its turn."""
        proposed = [one for name in FAMILIES for one in self._told(self._proposed(name))]
        if self.patient.optimizer is not None and self.patient.suffers(*ANSWERS):
            proposed.insert(0, UNTUNED)
        return to_try(self.patient, proposed)

    def _proposed(self, name: str) -> list[Remedy | Advice]:
        """What one family proposes. What it cannot read in the user's kind of model does not end the others."""
        try:
            return list(FAMILIES[name](self.patient))
        except Exception as error:
            lines = str(error).splitlines() or [""]
            return [Advice(name, f"Look at the {name}.", f"{type(error).__name__}: {lines[0]}")]

    def _combinations(self) -> Iterator[Remedy]:
        """A learning rate tuned after the best; the two best of different families; a rate tuned after what is then the
        best but one. Where nothing lowered the loss, rates tuned after what made the steps too large."""
        best = self._best()
        if best:
            yield from self._tunings(best[0])
        if len(best) > 1:
            yield (pair := combined(best[0], best[1]))
            ends = {one.remedy.name: _end(one) for one in self.trials}
            yield from self._tunings(pair if ends.get(pair.name, math.inf) < ends[best[1].name] else best[1])
        wild = [one.remedy for one in self.trials if one.effect is not None and one.effect.value >= 0]
        for remedy in [one for one in wild if one.family in STRUCTURAL][: COMBINATIONS - len(best)]:
            yield from self._tunings(remedy)

    def _best(self) -> list[Remedy]:
        """The best remedy of each family but the learning rate that lowered the loss at all."""
        kept: dict[str, Remedy] = {}
        for one in to_tell(self.trials):
            lower = one.effect is not None and one.effect.value < 0 and one.verdict != "diverged"
            if lower and one.remedy.family in (*STRUCTURAL, "clipping", "residual", "dropout"):
                kept.setdefault(one.remedy.family, one.remedy)
        return list(kept.values())

    def _tunings(self, after: Remedy | None) -> list[Remedy]:
        return list(self._told(tuned(self.patient, after))) if self.patient.optimizer is not None else []

    def _told(self, proposed: Iterable[Remedy | Advice]) -> Iterator[Remedy]:
        """The remedies; advice is noted, once for what it is about."""
        for one in proposed:
            if isinstance(one, Remedy):
                yield one
            elif all(one.name != known.name for known in self.advice):
                self.advice.append(one)


def _end(trial: Trial) -> float:
    return trial.effect.remedy if trial.effect is not None else math.inf
