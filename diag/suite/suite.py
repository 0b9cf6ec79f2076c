"""A suite: the question, the cases that are tried with several seeds, and the claims that are judged."""

from __future__ import annotations

import ast
import dataclasses
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diag.errors import nearest
from diag.recipes.recipe import FIELDS, Recipe
from diag.recipes.spec import RecipeError
from diag.suite.claim import Claim
from diag.suite.errors import SuiteError

if TYPE_CHECKING:
    from diag.suite.results import Results
    from diag.train.trial import Measure, Measured


class Experiment:
    """A case that is no training of a recipe: `Experiment(function, **parameters)`.

    function(seed, **parameters) -> {name: number or DataFrame}, defined at the top level of the suite's file.
    parameters: numbers, strings, booleans, None, and lists of these.

    Raises: SuiteError for a function that a worker could not find again, or arguments it does not take.
    """

    def __init__(self, function: Callable[..., Measured], **parameters: Any) -> None:
        self.function = function
        if not inspect.isfunction(function) or "." in function.__qualname__:
            raise SuiteError(f"an experiment is a function at the top level of the suite's file, got {function!r}")
        try:
            bound = inspect.signature(function).bind(0, **parameters)
        except TypeError as error:
            raise SuiteError(f"experiment {function.__name__}(seed, ...): {error}") from None
        # With the defaults: a default that changes makes another experiment.
        bound.apply_defaults()
        self.parameters: dict[str, Any] = dict(list(bound.arguments.items())[1:])
        plain = (int, float, str, bool, type(None), list, tuple)
        for name, value in self.parameters.items():
            if not isinstance(value, plain):
                raise SuiteError(f"experiment {function.__name__}: {name} is a {type(value).__name__}, no plain value")

    def but(self, **changes: Any) -> Experiment:
        """The same experiment with some parameters changed."""
        return Experiment(self.function, **{**self.parameters, **changes})

    def to_dict(self) -> dict[str, Any]:
        """Its function's name and parameters, for JSON."""
        return {"experiment": self.function.__name__, "parameters": self.parameters}


Case = Recipe | Experiment


def axes(base: Recipe, **fields: Sequence[Any]) -> dict[str, Case]:
    """Every combination of the fields' values, named `init=he_normal depth=5`.

    Raises: RecipeError for a field that a recipe does not have.
    """
    cases: dict[str, Case] = {"": base}
    for name, values in fields.items():
        if name not in FIELDS:
            raise RecipeError(f"an axis over '{name}': a recipe has no such field{nearest(name, FIELDS)}")
        cases = {
            f"{label} {name}={_short(value)}".strip(): case.but(**{name: value})
            for label, case in cases.items()
            for value in values
        }
    return cases


def _short(value: Any) -> str:
    return ("+".join(map(str, value)) or "none") if isinstance(value, (list, tuple)) else str(value)


@dataclass
class Suite:
    """A question and what answers it.

    question: in one sentence. cases: by name, recipes (`axes` makes many) or experiments. seeds: how many, from 0.
    claims: judged on the results. measures: called after each recipe's training (`diag.train.trial.Measure`).
    follow_up(results): further cases that the first results decide, such as each optimizer at its best rate.
    looks, validations: as in `diag.train.trial.run_recipe`. quick: what `--quick` changes in every case that has such a
    field or parameter; quick_seeds: how many seeds then. tables, figures: by title, functions of the results that
    return a data frame, or a matplotlib figure. follow_up_seeds: of the follow-up's cases, if other than seeds.
    answer(results): what was found, in a sentence or two, with its numbers. notes: what a reader has to know beside the
    verdicts, such as what was changed after a look at data. concepts: names from `diag.report.techniques.concept` that
    the report explains, beside the recipes' ingredients.

    Raises: SuiteError for an empty suite or parts of the wrong kind.
    """

    question: str
    cases: Mapping[str, Case]
    seeds: int = 5
    claims: Sequence[Claim] = ()
    measures: Sequence[Measure] = ()
    follow_up: Callable[[Results], Mapping[str, Case]] | None = None
    follow_up_seeds: int | None = None
    looks: int = 5
    validations: int = 20
    quick: Mapping[str, Any] = field(default_factory=dict)
    quick_seeds: int = 2
    tables: Mapping[str, Callable[[Results], Any]] = field(default_factory=dict)
    figures: Mapping[str, Callable[[Results], Any]] = field(default_factory=dict)
    answer: Callable[[Results], str] | None = None
    notes: Sequence[str] = ()
    concepts: Sequence[str] = ()
    name: str = field(default="", init=False)
    path: Path | None = field(default=None, init=False)
    source: str = field(default="", init=False)
    overrides: dict[str, Any] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        if not isinstance(self.question, str) or not self.question.strip():
            raise SuiteError("a suite needs a question")
        if not isinstance(self.cases, Mapping) or not self.cases:
            raise SuiteError("a suite's cases are a mapping from names to recipes or experiments, and not empty")
        for name, case in self.cases.items():
            if not isinstance(name, str):
                raise SuiteError(f"a suite's cases have names, got {name!r}")
            if not isinstance(case, (Recipe, Experiment)):
                raise SuiteError(f"the case '{name}' is a {type(case).__name__}: expected a Recipe or an Experiment")
        if isinstance(self.claims, Claim) or any(not isinstance(one, Claim) for one in self.claims):
            raise SuiteError("a suite's claims are a list of diag.Claim")
        for what in ("seeds", "quick_seeds"):
            value = getattr(self, what)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise SuiteError(f"a suite's {what} is a whole number from 1, got {value!r}")
        for what in ("tables", "figures"):
            named = getattr(self, what)
            if not isinstance(named, Mapping) or not all(isinstance(k, str) and callable(v) for k, v in named.items()):
                raise SuiteError(f"a suite's {what} are functions of the results by title, got {named!r}")
        if self.answer is not None and not callable(self.answer):
            raise SuiteError(f"a suite's answer is a function of the results, got {self.answer!r}")
        for measure in self.measures:
            if not callable(measure):
                raise SuiteError(f"a suite's measures are functions, got {measure!r}")

    def variant(
        self, *, quick: bool = False, seeds: int | None = None, changes: Mapping[str, Any] | None = None
    ) -> Suite:
        """The suite as `--quick`, `--seeds` and `--set` want it.

        Raises: SuiteError for a change of an axis, or of a field that no case has; RecipeError for a wrong value.
        """
        given = dict(changes or {})
        for name in given:
            self._check_change(name)
        overrides = {**(self.quick if quick else {}), **given}
        cases = {name: changed(case, overrides) for name, case in self.cases.items()}
        chosen = seeds if seeds is not None else self.quick_seeds if quick else self.seeds
        new = dataclasses.replace(self, cases=cases, seeds=chosen)
        if seeds is not None or quick:
            new.follow_up_seeds = None if self.follow_up_seeds is None else min(chosen, self.follow_up_seeds)
        new.name, new.path, new.source, new.overrides = self.name, self.path, self.source, overrides
        return new

    def _check_change(self, name: str) -> None:
        valid = {field for case in self.cases.values() for field in _fields_of(case)}
        if name not in valid:
            raise SuiteError(f"no case of the suite has a field '{name}'{nearest(name, sorted(valid))}")
        if self._varies(name):
            raise SuiteError(f"'{name}' is what the suite compares, so it cannot be set to one value")

    def _varies(self, name: str) -> bool:
        return len({str(fields[name]) for case in self.cases.values() if name in (fields := _fields_of(case))}) > 1

    def follow_up_cases(self, results: Results) -> dict[str, Case]:
        """The further cases, with the suite's overrides.

        Raises: SuiteError if a name is taken already.
        """
        if self.follow_up is None:
            return {}
        cases = dict(self.follow_up(results))
        taken = sorted(set(cases) & set(self.cases))
        if taken:
            raise SuiteError(f"follow_up names the case '{taken[0]}', which exists already")
        return {name: changed(case, self.overrides) for name, case in cases.items()}


def changed(case: Case, overrides: Mapping[str, Any]) -> Case:
    """The case with those overrides that it has; a recipe of no steps is measured at initialization and stays so."""
    mine = {name: value for name, value in overrides.items() if name in _fields_of(case)}
    if isinstance(case, Recipe) and case.steps == 0:
        mine.pop("steps", None)
    return case.but(**mine) if mine else case


def _fields_of(case: Case) -> dict[str, Any]:
    return case.to_dict() if isinstance(case, Recipe) else dict(case.parameters)


def parse_changes(pairs: Sequence[str]) -> dict[str, Any]:
    """`["steps=50", "optimizer=adam"]` as a mapping; a value is a Python literal, or else a string.

    Raises: SuiteError for one without `=`.
    """
    changes: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name:
            raise SuiteError(f"--set takes FIELD=VALUE, such as steps=50; got '{pair}'")
        try:
            changes[name.strip()] = ast.literal_eval(text)
        except (SyntaxError, ValueError):
            changes[name.strip()] = text
    return changes
