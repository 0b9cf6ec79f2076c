"""Model families beyond those that the rules were first fitted on, each with a builder and its variations."""

from tests.corpus.families import (
    fresh_hub,
    fresh_learning,
    fresh_sequence,
    fresh_tables,
    fresh_vision,
    generative,
    hub,
    learning,
    sequence,
    structured,
    vision,
)
from tests.corpus.families.family import FAMILIES, Family

__all__ = [
    "FAMILIES",
    "Family",
    "fresh_hub",
    "fresh_learning",
    "fresh_sequence",
    "fresh_tables",
    "fresh_vision",
    "generative",
    "hub",
    "learning",
    "sequence",
    "structured",
    "vision",
]
