"""How numbers are shown."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from diag.rules.finding import Finding, shown


@pytest.mark.parametrize(
    ("share", "text"),
    [(0.0, "0%"), (1e-4, "less than 1%"), (0.02, "2%"), (0.5, "50%"), (0.9996, "more than 99%"), (1.0, "100%")],
)
def test_a_share_is_all_or_nothing_only_where_it_is(share: float, text: str) -> None:
    assert shown(share) == text


def test_evidence_of_any_kind_is_written() -> None:
    evidence = {"array": np.arange(3), "tensor": torch.ones(2, 1), "number": np.float32(0.5), "what": object}
    assert Finding("a", "note", "0", "seen", evidence).to_dict()["evidence"] == {
        "array": [0, 1, 2],
        "tensor": [[1.0], [1.0]],
        "number": 0.5,
        "what": "<class 'object'>",
    }
