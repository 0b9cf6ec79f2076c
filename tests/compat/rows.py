"""All rows of single processes; importing the groups enters them."""

from tests.compat import frameworks, modules, precision, quantized, reparametrized, steps, transformed
from tests.compat.registry import SETUPS

GROUPS = (modules, steps, precision, reparametrized, transformed, quantized, frameworks)
ROWS = [one for group in GROUPS for one in SETUPS if one.group == group.GROUP]
"""In the order of the table."""
