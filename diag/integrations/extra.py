"""The package of an extra is not there, or something that it needs is not."""

from __future__ import annotations

from typing import NoReturn

from diag.errors import MissingExtraError


def refuse(error: ModuleNotFoundError, package: str) -> NoReturn:
    """Say which extra brings the package; what is missing inside an installed one is its own error, and goes on.

    Raises: MissingExtraError, or the error itself.
    """
    if (error.name or "").partition(".")[0] != package:
        raise error
    raise MissingExtraError(package, package, f"diag.integrations.{package}") from error
