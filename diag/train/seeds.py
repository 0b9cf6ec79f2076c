"""Random streams of a trial: one seed, and for each purpose a stream that no other draws from."""

from __future__ import annotations

import hashlib


def derived_seed(seed: int, purpose: str) -> int:
    """A seed below 2^63 for one purpose: what one part of a trial draws cannot shift what another does."""
    digest = hashlib.sha256(f"{seed}:{purpose}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
