"""A prescription as text, Markdown and a page: the answer, the table, the code, and nothing of a name that acts."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import pytest

from diag.prescribe.effect import Effect, Verdict
from diag.prescribe.prescribe import Prescription
from diag.prescribe.remedy import Advice, Remedy
from diag.prescribe.trial import Trial
from diag.prescribe.watched import Watched
from diag.report.prescription import markdown, page, text
from diag.report.prescription_words import cells, effect_text, headline, method, pasting
from diag.rules.finding import Finding
from diag.trace import Trace

CODE = 'for group in optimizer.param_groups:\n    group["lr"] = 0.14\n'
EVIL = "layer\x1b[31m|<b>"


def trial(verdict: Verdict = "helped", value: float = math.log(0.2), measure: str = "log ratio") -> Trial:
    remedy = Remedy("learning rate 0.14", "learning rate", "Set the learning rate to 0.14.", CODE, ())
    effect = Effect(measure, value, value - 0.1, value + 0.1, 2.0, 0.4, 2.3, 3, 2.0, 0.4)
    return Trial(remedy, verdict, effect, ["stalled-update"], [], ["dead-units"])


def prescription(*trials: Trial, findings: int = 1) -> Prescription:
    finding = Finding("stalled-update", "error", EVIL, f"updates of {EVIL} are 1e-9", {}, "raise the rate", "-")
    return Prescription(
        Watched([finding] * findings, Trace()),
        [],
        list(trials),
        [Advice("normalization", "Put a norm there.", f"{EVIL} is no chain")],
        ["LSUV initialization"],
        ["a note"],
        60,
        3,
    )


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (trial(), "loss 80% lower [78% to 82%]"),
        (trial("did not help", math.log(1.5)), "loss 50% higher [36% to 66%]"),
        (trial("did not help", -0.05), "loss 5% lower [-5% to 14%]"),
        (trial("did not help", -0.5, "difference"), "loss 0.5 lower [0.4 to 0.6]"),
        (trial("diverged"), "diverged"),
        (Trial(trial().remedy, "helped", None, ["a", "b"]), "2 findings gone at initialization"),
    ],
)
def test_effects_in_words(one: Trial, expected: str) -> None:
    assert effect_text(one) == expected


def test_one_seed_shows_no_interval() -> None:
    effect = Effect("log ratio", -0.7, -math.inf, math.inf, 2.0, 1.0, 2.3, 1, 2.0, 1.0)
    assert effect_text(Trial(trial().remedy, "did not help", effect)) == "loss 50% lower (one seed)"
    effect = Effect("log ratio", 0.7, -math.inf, math.inf, 1.0, 2.0, 2.3, 1, 1.0, 2.0)
    assert effect_text(Trial(trial().remedy, "did not help", effect)) == "no fall with the first seed"


def test_the_numbers_of_a_row_agree() -> None:
    """The percentage is that of the two losses told, or of what they count as."""
    effect = Effect("log ratio", math.log(0.43 / 0.68), -0.5, -0.4, 13.2, 0.43, 0.68, 3, 0.68, 0.43)
    row = cells(Trial(trial().remedy, "helped", effect), 3)
    assert row[1:3] == ("13.2 (as 0.68) -> 0.43", "loss 37% lower [33% to 39%]")
    diverged = replace(effect, control=math.inf, seeds=5)
    assert cells(Trial(trial().remedy, "helped", diverged), 3)[1] == "diverged (as 0.68) -> 0.43 (5 seeds)"
    one = replace(effect, low=-math.inf, high=math.inf, value=0.1, remedy=15.0, end=0.68, seeds=1)
    row = cells(Trial(trial().remedy, "did not help", one), 3)
    assert row[1:3] == ("13.2 -> 15 (1 seed)", "no fall with the first seed")
    one = replace(one, value=math.log(0.5), remedy=0.34, end=0.34)
    row = cells(Trial(trial().remedy, "cannot tell", one), 1)
    assert row[1:3] == ("13.2 (as 0.68) -> 0.34", "loss 50% lower (one seed)")
    gone = replace(effect, control=math.inf, remedy=math.inf)
    assert cells(Trial(trial().remedy, "diverged", gone), 3)[1] == "diverged -> diverged"


def test_seeds_that_change_nothing_give_no_interval() -> None:
    same = Effect("log ratio", math.log(0.5), math.log(0.5), math.log(0.5), 2.0, 1.0, 4.0, 3, 2.0, 1.0)
    one = Trial(trial().remedy, "helped", same)
    assert effect_text(one) == "loss 50% lower (one and the same with each seed)"
    assert "tell nothing of chance" in method(prescription(one))
    assert "tell nothing of chance" not in method(prescription(trial()))


def test_lines_to_paste_are_not_broken() -> None:
    line = f"value = {' + '.join(map(str, range(60)))}  # one line, however long"
    found = prescription(Trial(replace(trial().remedy, code=f"import torch\n{line}\n"), "helped", trial().effect))
    assert f"    {line}\n" in text(found, "t")


def test_where_a_lower_loss_is_no_help_it_says_why() -> None:
    effect = Effect("log ratio", math.log(0.05), -3.2, -2.8, 13.4, 0.67, 377.0, 3, 13.4, 0.67)
    assert effect_text(Trial(trial().remedy, "did not help", effect)) == (
        "loss 95% lower [94% to 96%], only 3.4% of the 377 before training"
    )


def test_an_effect_in_doubt_is_undecided_and_asks_for_seeds() -> None:
    found = prescription(trial("cannot tell"), trial("did not help"))
    assert headline(found) == "none of 2 remedies helped beyond doubt; more seeds may decide for 1 remedy (--seeds 5)"
    for shown in (text(found, "t"), markdown(found, "t"), page(found, "t", "diag prescribe t")):
        assert "cannot tell" in shown
        assert "more seeds may decide (--seeds 5)" in " ".join(shown.replace("\\", "").split())
    assert "Cannot tell" not in method(prescription(trial()))


def test_what_losses_count_as_is_explained_where_it_shows() -> None:
    effect = Effect("log ratio", math.log(0.43 / 0.68), -0.5, -0.4, 13.2, 0.43, 0.68, 3, 0.68, 0.43)
    assert "it counts as that" in method(prescription(Trial(trial().remedy, "helped", effect)))
    assert "it counts as that" not in method(prescription(trial()))


def test_a_rescue_is_explained_where_its_interval_is_not() -> None:
    effect = Effect("log ratio", -0.5, -1.1, 0.1, math.inf, 1.4, 2.3, 3, 2.3, 1.4, rescued=True)
    assert "each untreated training ends higher" in method(prescription(Trial(trial().remedy, "helped", effect)))
    assert "each untreated training ends higher" not in method(prescription(trial(), Trial(trial().remedy, "helped")))


def test_what_the_interval_is_over_is_told() -> None:
    told = (
        "all from the same initial weights: seeds differ in the order of the batches and in what a remedy itself draws"
    )
    for shown in (text(prescription(trial()), "t"), page(prescription(trial()), "t", "c")):
        assert told in " ".join(shown.split())


def test_one_change_that_mends_what_was_seen_stands_beside_a_combination() -> None:
    pair = replace(trial(), remedy=Remedy("two + things", "combination", "Do both.", "both = 2\n", (), parts=2))
    single = replace(
        trial(value=math.log(0.5)), remedy=Remedy("one thing", "optimizer", "Do it.", "it = 1\n", (), True)
    )
    for shown in (text(prescription(pair, single), "t"), markdown(prescription(pair, single), "t")):
        assert "two + things helped most" in shown
        assert shown.index("both = 2") < shown.index("Simpler, one change") < shown.index("it = 1")
    assert "Simpler, one change" in page(prescription(pair, single), "t", "c")
    assert prescription(single, pair).simpler is None and prescription(pair).simpler is None


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (prescription(trial()), "learning rate 0.14 helped most: loss 80% lower [78% to 82%]"),
        (prescription(trial("did not help"), trial("diverged")), "none of 2 remedies helped"),
        (prescription(trial("did not help")), "none of 1 remedy helped"),
        (prescription(trial("did not help"), findings=0), "healthy, and none of 1 remedy helped"),
        (prescription(findings=0), "healthy: nothing was tried"),
        (prescription(), "nothing could be tried"),
    ],
)
def test_headlines(found: Prescription, expected: str) -> None:
    assert headline(found) == expected


def test_text_tells_in_order() -> None:
    shown = text(prescription(trial(), trial("did not help")), "m.py:f")
    order = ["helped most", "ERROR", "what to do: raise the rate", "what it would bring", "2 -> 0.4", "Paste after"]
    order += ['    group["lr"] = 0.14', "not tried: Put a norm there:", "LSUV initialization", "a note"]
    places = [shown.index(one) for one in order]
    assert places == sorted(places)
    assert "\x1b" not in shown
    assert max(map(len, shown.splitlines())) <= 120
    assert "dead-units" in shown


def test_where_nothing_helped_there_is_no_code() -> None:
    for shown in (text(prescription(trial("diverged")), "t"), markdown(prescription(trial("diverged")), "t")):
        assert "Paste" not in shown and "optimizer.param_groups" not in shown


def test_markdown() -> None:
    shown = markdown(prescription(trial()), "m.py:f")
    assert shown.startswith("### diag prescribe, m.py:f: learning rate 0.14 helped most")
    assert f"```python\n{CODE}```" in shown
    row = next(line for line in shown.splitlines() if line.startswith("| learning rate"))
    assert row == (
        "| learning rate 0.14 | 2 -&gt; 0.4 | loss 80% lower \\[78% to 82%\\] | "
        "stalled-update; new: dead-units | helped |"
    )
    # A name is in a code span, where nothing is markup, or escaped.
    assert "\x1b" not in shown and "<b>" not in re.sub(r"`[^`]*`", "", shown)


def test_what_is_pasted_where() -> None:
    code = "import torch\n\n\ndef scaled_loss(model, batch):\n    return torch.sum(loss(model, batch))\n"
    one = replace(trial(), remedy=Remedy("loss scaled", "loss", "Scale it.", code, (), loss="scaled_loss"))
    where = "Paste after the model and the optimizer are made, with your own names for loss"
    where += " (a function of model and batch):"
    assert pasting(one.remedy) == [
        ("Paste at the top of the file:", "import torch"),
        (where, code.removeprefix("import torch\n\n\n").rstrip()),
        ("Then train with scaled_loss in place of your loss.", ""),
    ]
    for shown in (text(prescription(one), "t"), markdown(prescription(one), "t"), page(prescription(one), "t", "c")):
        words = " ".join(shown.replace("\\", "").split())
        order = ["at the top of the file:", "import torch", where, "def scaled_loss", "Then train with scaled_loss in"]
        places = [words.index(part) for part in order]
        assert places == sorted(places)
    assert pasting(trial().remedy) == [
        ("Paste after the model and the optimizer are made, with your own names for optimizer:", CODE.rstrip())
    ]
    told = one.to_dict()
    assert (told["code"], told["imports"], told["loss"]) == (code, "import torch", "scaled_loss")
    assert told["lines"].startswith("def scaled_loss")


def test_page_stands_alone_and_escapes() -> None:
    shown = page(prescription(trial(), trial("diverged")), "m.py:f", "diag prescribe m.py:f")
    assert "group[&#34;lr&#34;] = 0.14" in shown
    assert "<b>" not in shown and "\x1b" not in shown
    assert "diag prescribe m.py:f</code>" in shown
    assert not re.search(r"(src|href)=\"(?!data:|#)", shown)
    for heading in ("What is wrong", "What to do", "What it would bring", "Not tried", "How it was measured"):
        assert f">{heading}</h2>" in shown
    assert shown.count("<details>") == 1
