"""One trial's results on disk: one file, written whole or not at all, that executes nothing when it is read."""

from __future__ import annotations

import hashlib
import io
import json
import math
import re
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from diag.suite.errors import RunError

SCHEMA_VERSION = 1


@dataclass
class Record:
    """A trial that ended. fields: of its recipe or experiment. tables are read from the file when they are asked for.

    timing and environment say how it went; everything else is the same whichever engine ran the trial.
    """

    case: str
    seed: int
    content: dict[str, Any]
    metrics: dict[str, float]
    timing: dict[str, float] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    tables: dict[str, bytes] = field(default_factory=dict)
    path: Path | None = None

    @property
    def fields(self) -> dict[str, Any]:
        """The recipe's fields, or the experiment's name and parameters."""
        if "recipe" in self.content:
            recipe = self.content["recipe"]
            return {**recipe, "regularizers": "+".join(recipe["regularizers"]) or "none"}
        return {"experiment": self.content["experiment"], **self.content["parameters"]}

    def table(self, name: str) -> pd.DataFrame | None:
        """A table by name, or None."""
        if self.path is not None and not self.tables:
            self.tables = _tables_of(self.path)
        return pd.read_parquet(io.BytesIO(self.tables[name])) if name in self.tables else None

    def to_bytes(self) -> bytes:
        """The file's content: a zip of `trial.json` and one parquet file per table."""
        header = {
            "schema": SCHEMA_VERSION,
            "case": self.case,
            "seed": self.seed,
            **self.content,
            "metrics": {name: encoded(value) for name, value in self.metrics.items()},
            "timing": self.timing,
            "environment": self.environment,
        }
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
            _put(archive, "trial.json", json.dumps(header, indent=1, allow_nan=False).encode())
            for name, data in self.tables.items():
                _put(archive, f"{name}.parquet", data)
        return stream.getvalue()

    @classmethod
    def load(cls, path: Path) -> Record:
        """Read what `to_bytes` made; the tables wait until they are asked for.

        Raises: RunError for a file that is damaged or from a newer version.
        """
        try:
            with zipfile.ZipFile(path) as archive:
                header = json.loads(archive.read("trial.json"))
            if header["schema"] > SCHEMA_VERSION:
                raise RunError(f"{path} was written by a newer diag (schema {header['schema']}): upgrade diag")
            content = {key: header[key] for key in ("recipe", "experiment", "parameters") if key in header}
            metrics = {name: float(value) for name, value in header["metrics"].items()}
            return cls(
                header["case"], header["seed"], content, metrics, header["timing"], header["environment"], path=path
            )
        except RunError:
            raise
        except Exception as error:
            raise RunError(
                f"{path} is damaged ({type(error).__name__}): remove it, and --resume runs it again"
            ) from None


def trial_key(case: str, seed: int, content: dict[str, Any]) -> str:
    """A trial's name as a file's: readable, and different for different recipes, experiments and seeds."""
    text = json.dumps([case, seed, content], sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    return f"{re.sub(r'[^A-Za-z0-9=.]+', '-', case)[:60].strip('-')}-s{seed}-{digest}"


def encoded(value: float) -> float | str:
    """A number for JSON, which has none that is not finite: those become `inf`, `-inf` and `nan`."""
    return value if math.isfinite(value) else str(value)


def packed(table: pd.DataFrame) -> bytes:
    """A table as parquet."""
    stream = io.BytesIO()
    table.to_parquet(stream, index=False, compression="zstd")
    return stream.getvalue()


def _put(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    # A fixed date: the same results make the same file.
    archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), data)


def _tables_of(path: Path) -> dict[str, bytes]:
    try:
        with zipfile.ZipFile(path) as archive:
            names = [one for one in archive.namelist() if one.endswith(".parquet")]
            return {one.removesuffix(".parquet"): archive.read(one) for one in names}
    except (OSError, zipfile.BadZipFile, KeyError) as error:
        raise RunError(f"{path} is damaged ({type(error).__name__}): remove it, and --resume runs it again") from None
