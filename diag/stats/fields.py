"""The row that one measurement is: names and places of its float64 numbers. NaN means not measured, never zero."""

from __future__ import annotations

FIELDS = (
    "count",  # all elements, the non-finite ones included
    "mean",  # this and the next five: over the finite elements only
    "m2",  # sum of squared deviations from the mean
    "min",
    "max",
    "zeros",  # exact zeros
    "saturated",  # elements where the activation is flat: see saturation.py
    "nonfinite",  # NaN and infinities
    "units",  # size of the unit dimension (features of a linear layer, channels of a convolution)
    "dead_units",  # units that are zero at every sample and position
    "sample_var",  # variance over samples (biased), averaged over features, of a bounded subsample
    "twin_units",  # rows of a weight that exactly equal another row
)
WIDTH = len(FIELDS)
(COUNT, MEAN, M2, MIN, MAX, ZEROS, SATURATED, NONFINITE, UNITS, DEAD_UNITS, SAMPLE_VAR, TWIN_UNITS) = range(WIDTH)
