"""The pictures of a diagnosis: drawn with seaborn, returned as SVG that takes its colors from the page around it."""

from diag.report.figures.gallery import compare, draw
from diag.report.figures.plot import Plot

__all__ = ["Plot", "compare", "draw"]
