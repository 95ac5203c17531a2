"""A large table: ten million texts with labels, from a file to splits.

    python -m benchmarks.endtoend.tables [ROWS]

Each row is a function of its number, so that what was read is checked against the function before the figures are
kept: rows drawn at random, the count of each label, the sizes of the splits. The bound: reading ROWS texts takes at
most 512 MiB more than before.
"""

from __future__ import annotations

import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch  # noqa: F401 (a run has it in memory already)

from benchmarks import keep, setting_of_this_run
from core.data.options import Splits
from core.data.splits import assign, mix
from core.data.tables import coded, digests, read_table

T = TypeVar("T")
BOUND_MIB = 512.0
WORDS = [f"w{i:x}" for i in range(4096)]


def peak_mib() -> float:
    """The most memory this process has had so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def timed(figures: dict[str, Any], name: str, work: Callable[[], T]) -> T:
    """What `work` returns; its seconds are kept under `name`."""
    began = time.perf_counter()
    result = work()
    figures[f"{name}_s"] = time.perf_counter() - began
    return result


def texts(begin: int, end: int) -> tuple[list[str], list[str]]:
    """Texts of six words, all different, and labels of 20 classes."""
    words = (mix(np.arange(begin * 6, end * 6, dtype=np.uint64)) & np.uint64(4095)).reshape(-1, 6).tolist()
    lines = [
        f"{i} " + " ".join([WORDS[word] for word in row])
        for i, row in zip(range(begin, end), words, strict=True)
    ]
    return lines, [f"class {i * 7 % 20}" for i in range(begin, end)]


def write_texts(path: Path, rows: int) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.write("text,label\n")
        for begin in range(0, rows, 50_000):
            pairs = zip(*texts(begin, min(rows, begin + 50_000)), strict=True)
            file.writelines(f"{text},{label}\n" for text, label in pairs)


def read_texts(path: Path, rows: int) -> dict[str, Any]:
    """Read, read again from the cache, digested, split, and rows looked at at random."""
    figures: dict[str, Any] = {"rows": rows, "mb": path.stat().st_size / 1e6, "before_mib": peak_mib()}
    columns = {"text": str, "label": str}
    timed(figures, "read", lambda: read_table(path, columns))
    figures["read_mib"] = peak_mib() - figures["before_mib"]
    table = timed(figures, "read_again", lambda: read_table(path, columns))
    labels = timed(figures, "labels", lambda: coded(table["label"]))
    contents = timed(figures, "digests", lambda: digests(table["text"]))
    options = Splits.model_validate({"how": "stratified"})
    splits = timed(figures, "split", lambda: assign(options, rows, labels=labels, contents=contents))
    figures["peak_mib"] = peak_mib()

    places = np.random.RandomState(0).randint(0, rows, 100_000).tolist()
    column = table["text"]
    timed(figures, "100k_rows_at_random", lambda: [column[place].as_py() for place in places])
    for place in places[:1000]:
        (text,), (label,) = texts(place, place + 1)
        if (column[place].as_py(), labels[place]) != (text, label):
            raise AssertionError(
                f"row {place} is {column[place].as_py()!r}, {labels[place]!r}; not {text!r}, {label!r}"
            )
    if table.num_rows != rows or labels.counts().tolist() != [rows // 20] * 20:
        raise AssertionError(f"{table.num_rows} rows with {labels.counts().tolist()} of each label")
    if [len(splits[name]) for name in ("train", "select", "report")] != [
        rows * share // 10 for share in (7, 1, 2)
    ]:
        raise AssertionError("the splits have not the shares asked for")
    return figures


def main(rows: int = 10_000_000) -> int:
    """Print a line, keep the figures in `benchmarks/results/tables.json`; 1 where they are beyond the bound."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TAOKE_CACHE"] = str(Path(folder, "cache"))
        path = Path(folder, "texts.csv")
        write_texts(path, rows)
        figures = read_texts(path, rows)
    keep("tables", {**setting_of_this_run(), **figures})
    print(
        f"{rows:,} texts, {figures['mb']:.0f} MB, read in {figures['read_s']:.1f} s with {figures['read_mib']:.0f} MiB"
        f" more memory (bound {BOUND_MIB:.0f}); again {figures['read_again_s']:.1f} s, digests"
        f" {figures['digests_s']:.1f} s, split {figures['split_s']:.1f} s, a row at random"
        f" {figures['100k_rows_at_random_s'] * 10:.2f} µs"
    )
    return int(figures["read_mib"] > BOUND_MIB)


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
