"""`python -m diag` is the command `diag`."""

from __future__ import annotations

from diag.cli.app import main

if __name__ == "__main__":
    main()
