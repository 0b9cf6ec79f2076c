"""Model families beyond those that the rules were first fitted on, each with a builder and its variations."""

from tests.corpus.families import generative, hub, learning, sequence, structured, vision
from tests.corpus.families.family import FAMILIES, Family

__all__ = ["FAMILIES", "Family", "generative", "hub", "learning", "sequence", "structured", "vision"]
