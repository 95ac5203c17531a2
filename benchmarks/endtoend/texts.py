"""100,000 short texts from a CSV to tokens: read, checked, split, and encoded for an encoder.

    python -m benchmarks.endtoend.texts --base FOLDER [--rows 100000]

`--base` is a transformers encoder. Texts of 5 to 30 words are drawn from a list that is written here. Every row is
encoded as a run does it, one at a time, when a batch needs it. Writes benchmarks/results/texts.json.
"""

from __future__ import annotations

import argparse
import random
import resource
import tempfile
import time
from pathlib import Path

from benchmarks import keep, setting_of_this_run
from plugins.nlp import options
from plugins.nlp.classify import Classify
from plugins.nlp.encoders import Transformers
from plugins.nlp.texts import Texts

BOUND = 15.0
"""Seconds that all of it may take."""

WORDS = [
    *("what", "where", "who", "how", "many", "is", "the", "of", "a", "in"),
    *("city", "country", "president", "river", "name", "first", "mean", "long", "film", "actor"),
    *("won", "year", "best", "known", "as", "did", "does", "world", "war", "king"),
    *("queen", "largest", "state", "animal", "colour", "called", "made", "from", "which", "author"),
    "wrote",
]


def main() -> None:
    parser = argparse.ArgumentParser(description="100,000 texts from a CSV to tokens.")
    parser.add_argument("--base", required=True)
    parser.add_argument("--rows", type=int, default=100_000)
    given = parser.parse_args()
    base = Transformers(options.Transformers(name=given.base)).load()
    task = Classify(options.Classify())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "texts.csv")
        draw = random.Random(0)  # noqa: S311 (nothing here is secret)
        with path.open("w", encoding="utf-8") as file:
            file.write("text,label\n")
            for i in range(given.rows):
                words = " ".join(draw.choices(WORDS, k=draw.randint(5, 30)))
                file.write(f"{words} {i},{draw.choice('abcdef')}\n")
        began = time.perf_counter()
        splits = Texts(options.Texts.model_validate({"path": str(path)})).rows()
        read = time.perf_counter() - began
        state = task.fit(splits["train"], base.preprocessing["task"])
        fitted = time.perf_counter() - began - read
        tokens = sum(len(task.encode(row, state)["ids"]) for rows in splits.values() for row in rows)
        seconds = time.perf_counter() - began
    if sum(map(len, splits.values())) != given.rows or tokens < 5 * given.rows:
        raise AssertionError(f"{given.rows} rows were written, and {tokens} tokens read")
    figures = {
        "rows": given.rows,
        "tokens": tokens,
        "read_and_split": round(read, 2),
        "labels": round(fitted, 2),
        "encode": round(seconds - read - fitted, 2),
        "seconds": round(seconds, 2),
        "bound": BOUND,
        "memory_grew_mb": round((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024, 1),
    }
    print(figures)
    keep("texts", {"setting": setting_of_this_run(), **figures})


if __name__ == "__main__":
    main()
