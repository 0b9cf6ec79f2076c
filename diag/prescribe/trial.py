"""A remedy tried: trained beside the control on the same batches and seeds, and its own trace judged."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from diag.prescribe.arm import Arm, Loss, run_arm, seed_everything
from diag.prescribe.copies import Source
from diag.prescribe.effect import MORE_SEEDS, Effect, Verdict, effect_of, is_open, is_settled, verdict_of
from diag.prescribe.remedy import Remedy
from diag.prescribe.watched import Watched, watch
from diag.rules.finding import json_safe
from diag.train.seeds import derived_seed
from diag.train.workload import Workload


@dataclass(frozen=True)
class Trial:
    """What became of one remedy. effect: None where it raised, or where there is no optimizer to train with.

    gone, left, new: rules with an error or a warning before but not after, before and after, and only after; errors:
    those of the new ones with an error. None where that was not looked at. why: what it raised. ends: the final loss of
    each seed.
    """

    remedy: Remedy
    verdict: Verdict
    effect: Effect | None = None
    gone: list[str] | None = None
    left: list[str] | None = None
    new: list[str] | None = None
    why: str = ""
    errors: list[str] | None = None
    ends: tuple[float, ...] = ()

    @property
    def helped(self) -> bool:
        """Whether it did."""
        return self.verdict == "helped"

    def to_dict(self) -> dict[str, Any]:
        """JSON-safe values: `change`, `helped`, `effect` and `code` among them; `loss`: the name to train with then."""
        content = {
            "name": self.remedy.name,
            "family": self.remedy.family,
            "change": self.remedy.change,
            "helped": self.helped,
            "verdict": self.verdict,
            "effect": self.effect.to_dict() if self.effect is not None else {},
            "findings_gone": self.gone,
            "findings_left": self.left,
            "findings_new": self.new,
            "errors_new": self.errors,
            "direct": self.remedy.direct,
            "code": self.remedy.code,
            "imports": self.remedy.snippet.imports,
            "lines": self.remedy.snippet.lines,
            "loss": self.remedy.loss,
            "why": self.why,
        }
        safe: dict[str, Any] = json_safe(content)
        return safe


@dataclass
class Bench:
    """Where trials are run. judged: the batches that the rules see, which may be more. measure: the loss that counts;
    measured_by: what it is if it is not the user's. controls: the user's own training by seed, run when first needed.
    """

    source: Source
    batches: Sequence[Any]
    judged: Sequence[Any]
    watched: Watched
    seeds: int
    measure: Loss
    measured_by: str = ""
    is_late: Callable[[], bool] = lambda: False
    controls: dict[int, Arm] = field(default_factory=dict)

    def control(self, seed: int) -> Arm:
        """The user's training with this seed, unchanged."""
        if seed not in self.controls:
            with self.source.fresh() as workload:
                self.controls[seed] = self._run(workload, seed, norms=seed == 0)
        return self.controls[seed]

    def arm(self, remedy: Remedy, seed: int) -> Arm:
        """The same with a remedy; what it draws is drawn by the seed."""
        with self.source.fresh() as workload:
            seed_everything(derived_seed(seed, "remedy"))
            return self._run(remedy.apply(workload), seed)

    def _run(self, workload: Workload, seed: int, norms: bool = False) -> Arm:
        return run_arm(workload, self.batches, seed, self.measure, norms)

    def try_(self, remedy: Remedy) -> Trial:
        """Train it with one seed after another until the verdict is settled.

        What is wrong with a remedy, of the user's kind of model, does not end the others.
        """
        if remedy.surgery and self.source.why_not:
            return Trial(remedy, "could not be tried", why=self.source.why_not)
        try:
            # A remedy may provoke torch to warn of what the user never does; a warning is no failure of it.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return self._try(remedy)
        except Exception as error:
            lines = str(error).splitlines() or [""]
            return Trial(remedy, "could not be tried", why=f"{type(error).__name__}: {lines[0]}")

    def _try(self, remedy: Remedy) -> Trial:
        if self.source.optimizer is None:
            return self._at_initialization(remedy)
        controls: list[Arm] = []
        arms: list[Arm] = []
        for seed in range(self.seeds):
            controls.append(self.control(seed))
            arms.append(self.arm(remedy, seed))
            effect = effect_of(controls, arms)
            if is_settled(effect, arms, self.seeds):
                break
            if self.is_late() and seed + 1 < self.seeds:
                return Trial(remedy, "could not be tried", why="the time was up")
        if remedy.direct and self.seeds > 1 and is_open(effect, controls, arms) and not self.is_late():
            for seed in range(self.seeds, self.seeds + MORE_SEEDS):
                controls.append(self.control(seed))
                arms.append(self.arm(remedy, seed))
            effect = effect_of(controls, arms)
        return Trial(remedy, verdict_of(effect, arms), effect, ends=tuple(one.final for one in arms))

    def watch(self, trial: Trial) -> Trial:
        """The trial with what the rules say after its change."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            gone, left, new = self._compare(watched := self._watched(trial.remedy, 0))
        errors = [rule for rule in watched.rules("error") if rule in new]
        return replace(trial, gone=gone, left=left, new=new, errors=errors)

    def _at_initialization(self, remedy: Remedy) -> Trial:
        """Without an optimizer nothing is trained: it helped where no seed's network has an error or a new warning."""
        changes = [self._compare(watched := self._watched(remedy, seed)) for seed in range(self.seeds)]
        gone = [rule for rule in changes[0][0] if all(rule in one for one, _, _ in changes)]
        new = list(dict.fromkeys(rule for _, _, one in changes for rule in one))
        left = list(dict.fromkeys(rule for _, one, _ in changes for rule in one))
        helped = bool(gone) and not new and watched.healthy
        return Trial(remedy, "helped" if helped else "did not help", None, gone, left, new)

    def _watched(self, remedy: Remedy, seed: int) -> Watched:
        with self.source.fresh() as workload:
            seed_everything(derived_seed(seed, "remedy"))
            return watch(remedy.apply(workload), self.judged, len(self.judged))

    def _compare(self, after: Watched) -> tuple[list[str], list[str], list[str]]:
        before, now = self.watched.rules("error", "warning"), after.rules("error", "warning")
        return (
            [rule for rule in before if rule not in now],
            [rule for rule in before if rule in now],
            [rule for rule in now if rule not in before],
        )
