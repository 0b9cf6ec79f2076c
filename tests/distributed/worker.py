"""One rank: checks each row of that many ranks, and writes down what failed."""

from __future__ import annotations

import json
import sys
import traceback
import warnings
from pathlib import Path

import torch.distributed as dist

from tests.compat.columns import CHECKS
from tests.distributed.setups import RANKS, ROWS


def main(folder: Path) -> None:
    """Every row of this number of ranks, every column."""
    warnings.simplefilter("error")
    dist.init_process_group("gloo")
    found = {}
    for row in ROWS:
        if RANKS[row.name] != dist.get_world_size():
            continue
        for column, check in CHECKS.items():
            found[f"{row.name}/{column}"] = ""
            with warnings.catch_warnings():
                for message in row.ignored:
                    warnings.filterwarnings("ignore", message=message)
                try:
                    check(row)
                except Exception:
                    found[f"{row.name}/{column}"] = traceback.format_exc()
    (folder / f"{dist.get_rank()}.json").write_text(json.dumps(found))
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
