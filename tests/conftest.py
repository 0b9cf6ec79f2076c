"""What all tests need before torch is loaded."""

from __future__ import annotations

import os

# Two threads in a small step wait for each other longer than they compute, and the tests run in several processes.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")
