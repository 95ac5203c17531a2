"""Seconds in which a million interactions are read, indexed and split.

    python -m benchmarks.endtoend.interactions [ROWS]

The log is made first: users, items, ratings and times in no order, drawn so that few items have most users. The same
log is then split by plain Python, of a hundredth of the users, and every row has to be equal. The bound: 10 s.
"""

from __future__ import annotations

import csv
import resource
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import keep, setting_of_this_run
from plugins.recommendation import options
from plugins.recommendation.interactions import Interactions

BOUND_S = 10.0


def write(path: Path, rows: int) -> None:
    """A log: a tenth as many users, a fiftieth as many items."""
    rng = np.random.RandomState(0)
    users = rng.randint(rows // 10, size=rows)
    items = (rows // 50 * rng.beta(0.4, 3.0, size=rows)).astype(np.int64)
    ratings = rng.randint(1, 11, size=rows) / 2
    times = rng.randint(1_500_000_000, 1_800_000_000, size=rows)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["user_id", "item_id", "rating", "timestamp"])
        writer.writerows(zip(users.tolist(), items.tolist(), ratings.tolist(), times.tolist(), strict=True))


def check(path: Path, splits: Any, chosen: options.Interactions) -> int:
    """Rows of `report` against plain Python's; how many were compared. Raises `AssertionError`."""
    latest: dict[str, dict[str, tuple[float, float]]] = defaultdict(dict)
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            has = latest[row["user_id"]]
            moment = float(row["timestamp"])
            if row["item_id"] not in has or has[row["item_id"]][0] <= moment:
                has[row["item_id"]] = (moment, float(row["rating"]))
    report = splits["report"]
    compared = 0
    for i in range(0, len(report), 100):
        found = report[i]
        has = latest[found.inputs["user"]]
        liked = {item: moment for item, (moment, rating) in has.items() if rating >= (chosen.min_rating or 0)}
        whole = [*found.inputs["history"], *found.target]
        if set(whole) != set(liked) or [liked[item] for item in whole] != sorted(liked.values()):
            raise AssertionError(f"{found}: expected {liked}")
        if len(found.target) != max(1, int(chosen.held_out * len(liked) + 0.5)):
            raise AssertionError(f"{found}: {len(found.target)} of {len(liked)} held out")
        compared += 1
    return compared


def main(rows: int = 1_000_000) -> int:
    """Print the seconds, keep the figures in `benchmarks/results/interactions.json`; 1 where they are beyond the
    bound."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "log.csv")
        write(path, rows)
        chosen = options.Interactions.model_validate(
            {
                "path": str(path),
                "min_rating": 2.0,
                "min_user_items": 3,
                "holdout": "last",
                "base_users": 0.5,
            }
        )
        began = time.perf_counter()
        splits = Interactions(chosen).rows()
        seconds = time.perf_counter() - began
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        began = time.perf_counter()
        made = sum(len(row.inputs["history"]) for split in splits.values() for row in split)
        pass_seconds = time.perf_counter() - began
        compared = check(path, splits, chosen)
        figures = {
            **setting_of_this_run(),
            "rows": rows,
            "bytes": path.stat().st_size,
            "users": {name: len(split) for name, split in splits.items()},
            "seconds": seconds,
            "bound_s": BOUND_S,
            "seconds_of_a_pass_over_all_rows": pass_seconds,
            "items_in_that_pass": made,
            "peak_mib": peak,
            "rows_compared": compared,
        }
    keep("interactions", figures)
    print(
        f"{rows} interactions read, indexed and split in {seconds:.2f} s of {BOUND_S:.0f}; a pass over all rows"
        f" {pass_seconds:.2f} s; {peak:.0f} MiB at most; {compared} rows as plain Python has them"
    )
    return int(seconds > BOUND_S)


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
