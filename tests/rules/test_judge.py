"""All rules asked: which there are, what they are held to, what users set, and what their own rules may do."""

from __future__ import annotations

import importlib
import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import diag.rules
from diag.errors import STRICT, DiagError
from diag.rules.evidence import Evidence
from diag.rules.finding import Finding
from diag.rules.judge import judge
from diag.rules.registry import RULES, rule
from diag.rules.thresholds import THRESHOLDS, resolve
from diag.trace import Trace
from tests.rules.traces import Net, chain, even, falling, flat, found

SICK: dict[str, Callable[[], Net]] = {
    "vanishing-gradient": lambda: chain(even(1e-9, 1.0), loss=flat),
    "exploding-gradient": lambda: chain(even(1e9, 1.0)),
    "collapsed-signal": lambda: chain((0.01,) * 8, even(1.0, 1e-7)),
    "exploding-activation": lambda: chain((0.01,) * 8, even(1.0, 1e7)),
    "saturated-activation": lambda: (
        Net().output("0").output("1", "nonlinearity", "tanh", saturated_fraction=0.99).output("2")
    ),
    "dead-units": lambda: Net().output("0").output("1", "nonlinearity", "relu", dead=32),
    "non-finite": lambda: Net(loss=lambda step: float("nan")).output("0", bad={("activation", 0): 3}),
    "missing-gradient": lambda: (
        Net().output("0").parameter("0.weight", gradient=None, ratio=None).output("1").parameter("1.weight")
    ),
    "stalled-update": lambda: Net(loss=flat).output("0").parameter("0.weight", ratio=1e-9),
    "oversized-update": lambda: Net().output("0").parameter("0.weight", ratio=50.0),
    "symmetric-units": lambda: Net().output("0").parameter("0.weight", twins=(32, 32)),
    "loss-not-decreasing": lambda: chain(loss=flat),
    "diverging-loss": lambda: chain(loss=lambda step: 2.0**step),
}
"""A trace for every rule name of the design."""


@pytest.fixture(autouse=True)
def _own_rules_leave_no_trace() -> Iterator[None]:
    before = dict(RULES)
    yield
    RULES.clear()
    RULES.update(before)


def test_every_rule_of_the_design_is_there() -> None:
    assert set(SICK) <= set(RULES)


@pytest.mark.parametrize("name", SICK)
def test_what_every_finding_holds(name: str) -> None:
    findings = found(name, SICK[name]())
    assert findings
    for finding in findings:
        assert finding.rule == name
        assert finding.severity in ("error", "warning", "note")
        assert finding.site and finding.message and finding.remedy and finding.source
        assert isinstance(finding.evidence["step"], int)
        stored = json.loads(json.dumps(finding.to_dict(), allow_nan=False))
        assert stored["site"] == finding.site
        assert stored["evidence"].keys() == finding.evidence.keys()


@pytest.mark.parametrize("optimizer", [0.0, None])
@pytest.mark.parametrize("loss", [falling, None])
@pytest.mark.parametrize("steps", [1, 2, 30])
def test_a_healthy_chain_has_no_finding(steps: int, loss: object, optimizer: float | None) -> None:
    net = chain(steps=steps, loss=loss, optimizer=optimizer)  # type: ignore[arg-type]
    assert judge(net.build(), {}) == []


def test_an_empty_trace_has_no_finding() -> None:
    assert judge(Trace(), {}) == []


def test_each_model_is_judged_by_itself() -> None:
    """A generator and a discriminator: their layers are no common depth."""
    apart, together = Net(loss=flat), Net(loss=flat)
    for net in (apart, together):
        for model, gradient in (("G", 1e-6), ("D", 1.0)):
            net.model = model if net is apart else ""
            for number in range(5):
                net.output(f"{model}.{number}", gradient=gradient)
    assert "vanishing-gradient" not in [one.rule for one in judge(apart.build(), {})]
    assert "vanishing-gradient" in [one.rule for one in judge(together.build(), {})]


def test_every_threshold_has_a_source_and_a_use() -> None:
    folder = Path(diag.rules.__path__[0])
    code = "\n".join(file.read_text() for file in sorted(folder.glob("*.py")) if file.name != "thresholds.py")
    used = set(re.findall(r"\"(\w+)\"\]", code))
    for name, threshold in THRESHOLDS.items():
        assert threshold.source and threshold.meaning
        assert name in used, f"{name} is in no rule"
    for name in re.findall(r"(?:limit|thresholds)\[\"(\w+)\"\]", code):
        assert name in THRESHOLDS


def test_an_error_is_never_easier_than_its_warning() -> None:
    values = resolve({})
    for name in values:
        if name.endswith("_error") and (warning := name.replace("_error", "_warning")) in values:
            low_is_bad = name.startswith(("vanishing", "collapsed", "stalled", "unrelated"))
            assert values[name] < values[warning] if low_is_bad else values[name] > values[warning]


def test_a_threshold_given_or_set_in_pyproject(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trace = chain(even(0.05, 1.0), loss=falling).build()
    (tmp_path / "pyproject.toml").write_text("[tool.diag.thresholds]\nvanishing_error = 0.1\n")
    assert judge(trace) == []
    monkeypatch.chdir(tmp_path)
    assert [(one.rule, one.severity) for one in judge(trace)] == [("vanishing-gradient", "error")]
    assert judge(trace, {}) == []
    assert [one.severity for one in judge(trace, {"vanishing_warning": 0.1})] == ["warning"]


def test_a_threshold_that_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.diag.thresholds]\nvanishing_eror = 0.1\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DiagError, match=r"knows no 'vanishing_eror' \(did you mean 'vanishing_error'\?\)"):
        judge(chain().build())


def test_a_rule_of_ones_own() -> None:
    @rule("too-deep")
    def too_deep(evidence: Evidence) -> Iterator[Finding]:
        yield Finding("too-deep", "note", evidence.layers[-1], f"{len(evidence.layers)} layers", {"step": 0})

    [finding] = judge(chain().build(), {})
    assert (finding.rule, finding.site, finding.message) == ("too-deep", "10", "6 layers")


def test_a_name_that_is_taken() -> None:
    with pytest.raises(DiagError, match=r"'dead-units' exists already, in diag\.rules\.dead"):

        @rule("dead-units")
        def mine(evidence: Evidence) -> list[Finding]:
            return []

    assert RULES["dead-units"].__module__ == "diag.rules.dead"
    importlib.reload(importlib.import_module("diag.rules.dead"))  # the same rule again is no second one


@pytest.mark.parametrize("body", ["raise ValueError('no luck')", "return None"])
def test_a_rule_that_fails_is_named(body: str) -> None:
    scope: dict[str, object] = {"rule": rule, "__name__": "mine.rules"}
    exec(f"@rule('unlucky')\ndef unlucky(evidence):\n    {body}", scope)
    (finding,) = judge(chain().build(), {})
    assert (finding.rule, finding.severity, finding.site) == ("unlucky", "warning", "mine.rules")
    assert re.match(
        r"The rule 'unlucky' of mine\.rules raised (ValueError: no luck|TypeError: it returned None)", finding.message
    )


def test_a_rule_may_return_its_only_finding() -> None:
    @rule("single")
    def single(evidence: Evidence) -> Any:
        return Finding("single", "note", "0", "seen", {"step": 0})

    assert [one.rule for one in judge(chain().build(), {})] == ["single"]


@pytest.mark.parametrize("given", [lambda evidence: [], 3, None])
def test_a_rule_that_is_registered_without_its_name(given: Any) -> None:
    with pytest.raises(DiagError, match=r"a rule is registered by its name, @diag\.rule\('my-rule'\), got"):
        rule(given)
    with pytest.raises(DiagError, match=r"the rule 'mine' is a function of the evidence, got 5"):
        rule("mine")(5)  # type: ignore[arg-type]


def test_a_rule_of_ours_that_fails_is_our_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(evidence: Evidence) -> list[Finding]:
        raise KeyError("ours")

    broken.__module__ = "diag.rules.dead"
    monkeypatch.setitem(RULES, "dead-units", broken)
    with pytest.raises(KeyError):
        judge(chain().build(), {})
    monkeypatch.delenv(STRICT)  # for users the other rules still speak
    trace = chain(even(1e9, 1.0)).build()
    assert [one.rule for one in judge(trace, {})][:1] == ["exploding-gradient"]
    assert trace.coverage["notes"] == ["the rule 'dead-units' failed and says nothing (KeyError: 'ours'): report it"]


def settings(folder: Path, monkeypatch: pytest.MonkeyPatch, code: str | None) -> None:
    """A project whose pyproject.toml names a module of rules, with this code."""
    (folder / "pyproject.toml").write_text('[tool.diag]\nrules = ["rules_of_a_test"]\n')
    if code is not None:
        (folder / "rules_of_a_test.py").write_text(code)
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "rules_of_a_test", raising=False)


OWN = """
from diag import Finding, rule

@rule("own")
def own(evidence):
    yield Finding("own", "warning", "everywhere", "seen", {"step": 1})
"""


def test_a_module_of_rules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings(tmp_path, monkeypatch, OWN)
    assert [(one.rule, one.site) for one in judge(chain().build())] == [("own", "everywhere")]
    assert [one.rule for one in judge(chain().build())] == ["own"]
    sys.modules.pop("rules_of_a_test")


@pytest.mark.parametrize("code", [None, "import a_package_that_is_not_there"])
def test_a_module_that_cannot_be_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str | None) -> None:
    settings(tmp_path, monkeypatch, code)
    with pytest.raises(
        DiagError, match="rules names 'rules_of_a_test', which cannot be imported: ModuleNotFoundError: No module named"
    ):
        judge(chain().build())


@pytest.mark.parametrize("code", ["def (", "1 / 0"])
def test_a_module_that_is_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    settings(tmp_path, monkeypatch, code)
    with pytest.raises(DiagError, match="rules_of_a_test"):
        judge(chain().build())


@pytest.mark.parametrize(
    "given",
    [
        "['a text']",
        "[Finding('odd', 'fatal', '0', 'seen', {'step': 0})]",
        "[Finding('odd', 'note', '0', 'seen', 3)]",
        "[Finding('odd', 'note', '0', 5, {})]",
        "[Finding('odd', 'note', '0', 'seen', {}, consequences=None)]",
    ],
)
def test_a_rule_that_says_what_is_no_finding(given: str) -> None:
    scope: dict[str, object] = {"rule": rule, "Finding": Finding, "__name__": "mine.rules"}
    exec(f"@rule('odd')\ndef odd(evidence):\n    return {given}", scope)
    (finding,) = judge(chain().build(), {})
    assert (finding.severity, finding.site) == ("warning", "mine.rules")
    assert "must yield diag.Finding with severity error, warning, note" in finding.message


def _severities(net: Net, passes: int) -> dict[str, str]:
    net.coverage["acting_passes"] = passes
    return {one.rule: one.severity for one in judge(net.build(), {})}


def test_what_grows_as_a_policy_learns_is_no_error() -> None:
    """Returns, and with them the loss, the critic's outputs and weights; unless the policy's few passes are chance."""

    def grown(passes: int) -> dict[str, str]:
        return _severities(chain(loss=lambda step: 2.0 if step < 15 else 3000.0), passes)

    assert grown(0)["diverging-loss"] == grown(10)["diverging-loss"] == "error"
    assert grown(300)["diverging-loss"] == "warning"


def test_a_policy_s_loss_that_is_no_number_is_an_error() -> None:
    found = _severities(chain(loss=lambda step: 2.0 if step < 15 else float("nan")), 300)
    assert found["non-finite"] == "error"


@pytest.mark.parametrize(("ratio", "severity"), [(2.0, "error"), (0.9, "warning")])
def test_a_policy_whose_weights_are_replaced_by_a_step(ratio: float, severity: str) -> None:
    net = Net(loss=flat)
    for name in "abc":
        net.output(name).parameter(f"{name}.weight", ratio=ratio)
    assert _severities(net, 300)["oversized-update"] == severity


@pytest.mark.parametrize(("right", "severity"), [(40, "error"), (200, "warning")])
def test_what_is_worth_a_word_is_an_error_where_tests_tell_nothing(right: int, severity: str) -> None:
    net = chain(even(1e-6, 1.0), adaptive=True, steps=120)
    labels = {str(label): 40 for label in range(10)}
    test = {"line": 0, "step": 119, "samples": 400, "batches": 1, "right": right, "labels": labels, "loss": 2.3}
    net.coverage["answers"] = {"": [{**test, "columns": 10}]}
    net.output("loss:cross_entropy", "loss", "cross_entropy", samples=32, units=10, gradient=None)
    (finding,) = [one for one in judge(net.build(), {}) if one.rule == "vanishing-gradient"]
    assert finding.severity == severity
    assert ("are told right" in finding.message) == (severity == "error")
    assert ("no visible harm" in finding.message) == (severity == "warning")


def trained_on_raw_inputs(scale: float) -> list[Finding]:
    """scale: of what tells classes apart; without it there is nothing to be told."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 64), nn.ReLU(), nn.Linear(64, 3))
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    y = torch.arange(600) % 3
    x = 500 + 50 * torch.randn(600, 6)
    x[:, :3] += scale * F.one_hot(y, 3)
    with diag.watch(net) as watch:
        for _ in range(40):
            for rows in torch.randperm(400).split(50):
                optimizer.zero_grad()
                F.cross_entropy(net(x[rows]), y[rows]).backward()
                optimizer.step()
        with torch.no_grad():
            (net(x[400:]).argmax(1) == y[400:]).float().mean()
    return [one for one in watch.diagnose().findings if one.evidence.get("of") == "input"]


@pytest.mark.parametrize(("scale", "severity"), [(300.0, "warning"), (0.0, "error")])
def test_raw_inputs_are_worth_a_word_where_tests_tell_nearly_all(scale: float, severity: str) -> None:
    found = trained_on_raw_inputs(scale)
    assert [one.severity for one in found] == [severity]
    assert ("does no visible harm" in found[0].message) == (severity == "warning")


class Forgetful(nn.Module):
    """Positions are embedded, or are not."""

    def __init__(self, calls: bool) -> None:
        super().__init__()
        self.calls, self.words, self.places, self.head = calls, nn.Embedding(6, 8), nn.Embedding(5, 8), nn.Linear(8, 2)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.words(ids)
        return self.head(((x + self.places.weight) if self.calls else x).tanh().mean(1))


def _first_of_two(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Whether 0 comes before 1, of five ids."""
    ids, first = torch.randint(2, 6, (count, 5)), torch.rand(count) < 0.5
    places = torch.rand(count, 5).argsort(1)[:, :2].sort(1).values
    ids.scatter_(1, places, torch.stack([(~first).long(), first.long()], 1))
    return ids, first.long()


def _of_order(calls: bool) -> list[Any]:
    torch.manual_seed(0)
    net = Forgetful(calls)
    optimizer = torch.optim.Adam(net.parameters(), 0.02)
    with diag.watch(net) as watch:
        for _ in range(160):
            ids, labels = _first_of_two(64)
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(net(ids), labels).backward()
            optimizer.step()
        ids, labels = _first_of_two(400)
        with torch.no_grad():
            (net(ids).argmax(1) == labels).float().mean().item()
    return list(watch.diagnose().findings)


def test_a_module_that_is_never_called_is_a_cause_where_nothing_is_learned() -> None:
    errors = [one for one in _of_order(calls=False) if one.severity == "error"]
    assert [(one.rule, one.site, one.evidence["of"]) for one in errors] == [
        ("missing-gradient", "places.weight", "never ran")
    ]
    assert "are told right, where a guess has" in errors[0].message
