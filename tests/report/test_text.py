from __future__ import annotations

import doctest
import math

import pytest

from diag.report import text


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.0, "0"),
        (12.0, "12"),
        (1234.5, "1234"),
        (0.00123, "0.00123"),
        (1.23e-7, "1.2e-07"),
        (-3e9, "-3.0e+09"),
        (math.inf, "inf"),
        (-math.inf, "-inf"),
        (math.nan, "-"),
        (None, "-"),
    ],
)
def test_numbers_are_short_and_absence_is_not_zero(value: float | None, shown: str) -> None:
    assert text.number(value) == shown


def test_a_share_is_not_rounded_to_none_or_all() -> None:
    shown = [text.percent(share) for share in (0.0, 1e-9, 0.004, 0.5, 0.999, 1.0, math.nan)]
    assert shown == ["0%", "<1%", "<1%", "50%", ">99%", "100%", "-"]


def test_control_characters_overrides_and_surrogates_become_visible() -> None:
    assert text.plain("a\x1b[31m\u202eb\ud800\nc") == "a\\x1b[31m\\u202eb\\ud800 c"
    assert text.plain("conv.é漢") == "conv.é漢"


def test_elision_keeps_both_ends_and_the_width() -> None:
    short = text.elide("transformer.encoder.layers.11.mlp.dense", 20)
    assert len(short) == 20
    assert short.startswith("transf")
    assert short.endswith("11.mlp.dense")
    assert text.elide("fc1", 20) == "fc1"


def test_a_shortened_name_keeps_its_block_and_its_last_parts() -> None:
    assert text.shorten("bert.encoder.layer.11.attention.output.dense", 22) == "layer.11..output.dense"
    assert text.shorten("encoder.fc1", 22) == "encoder.fc1"
    assert len(text.shorten("a_module_with_one_very_long_name_without_any_dot", 22)) == 22


def test_long_lists_say_how_much_is_left_out() -> None:
    assert text.value(list(range(10)), longest=3) == "0, 1, 2, and 7 more"
    assert text.value({"a_b": 0.5, "c": True}) == "a_b: 0.5, c: yes"
    assert text.value([]) == "none"


def test_the_examples_in_the_docstrings_hold() -> None:
    result = doctest.testmod(text)
    assert result.attempted > 0
    assert result.failed == 0
