"""The recipes for public data that the project does not ship, each as a user runs it: the whole process.

    python -m benchmarks.public DATA BASES [NAME...]

DATA has the folders mnist, bccd, sent-conv, tiny-shakespeare, ml-latest-small, filmtrust, multi30k-en-de,
weights-mnist-lenet, weights-ultralight-face and weights-stories260k, BASES the encoder all-MiniLM-L6-v2 as a
transformers folder; the bases of mnist-cnn and mnist-mlp are trained first. Keeps every contender's score, the gains,
the verdict, the seconds of each stage and the part of training that waited for data in
`benchmarks/results/public.json`, with those of other names that are there.
`vision/cifar-jpeg`, and `nlp/sentences` on TREC, stand beside loops by hand in `benchmarks.endtoend`.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks import RESULTS, keep, run_recipe, setting_of_this_run

KEPT = ("primary", "contenders", "gains", "verdict", "reasons", "seconds", "took", "waited")


def commands(data: Path, bases: Path, made: Path) -> Mapping[str, tuple[str, ...]]:
    """By name, the recipe and its overrides; bases that are trained here lie in `made`."""
    mnist, sentences = data / "mnist", data / "sent-conv"
    lenet = next((data / "weights-mnist-lenet").glob("*.pth"))
    sst = ", ".join(
        f"{split}: {sentences / f'stsa.binary.{name}'}"
        for split, name in (("train", "train"), ("select", "dev"), ("report", "test"))
    )
    multi30k = ", ".join(
        f"{split}: {data / 'multi30k-en-de' / name}"
        for split, name in (("train", "train"), ("select", "val"), ("report", "test_2016_flickr"))
    )
    return {
        "mnist": ("vision/mnist", f"data={mnist}", f"base.path={lenet}"),
        "mnist-cnn": ("vision/mnist-cnn", f"data={mnist}", f"base.path={made / 'cnn.safetensors'}"),
        "mnist-mlp": ("vision/mnist-mlp", f"data={mnist}", f"base.path={made / 'mlp.safetensors'}"),
        "cells": (
            "vision/cells",
            f"data={made / 'bccd'}",
            f"base.path={data / 'weights-ultralight-face' / 'version-slim-320.pth'}",
        ),
        "sst2": (
            "nlp/sentences",
            f"base.name={bases / 'all-MiniLM-L6-v2'}",
            f"data.path={{{sst}}}",
            "data.encoding=latin-1",
            "allow=[duplicates]",
        ),
        "stories": (
            "nlp/stories",
            f"data={data / 'tiny-shakespeare' / 'input.txt'}",
            f"base.name={data / 'weights-stories260k'}",
        ),
        "translate": (
            "nlp/translate",
            f"base.name={bases / 'all-MiniLM-L6-v2'}",
            f"data.path={{{multi30k}}}",
        ),
        "movies": ("recommendation/movies", f"data={data / 'ml-latest-small' / 'ratings.csv'}"),
        "people": ("recommendation/people", f"data={data / 'filmtrust' / 'trust.txt'}"),
    }


def main(data: str, bases: str, *names: str) -> None:
    result = RESULTS / "public.json"
    kept: dict[str, Any] = json.loads(result.read_text(encoding="utf-8")) if result.is_file() else {}
    with tempfile.TemporaryDirectory() as folder:
        known = commands(Path(data).resolve(), Path(bases).resolve(), Path(folder))
        for name in names or known:
            if name in ("mnist-cnn", "mnist-mlp"):
                kind = name.removeprefix("mnist-")
                train = ("plugins.vision.train_mnist", kind, f"{data}/mnist", f"{folder}/{kind}.safetensors")
                subprocess.run([sys.executable, "-m", *train], check=True)
            if name == "cells":
                with tarfile.open(f"{data}/bccd/bccd.tar.gz") as packed:
                    packed.extractall(Path(folder) / "bccd", filter="data")
            document = run_recipe(*known[name], out=folder)
            figures = {key: document[key] for key in KEPT}
            scores = {one: by[figures["primary"]] for one, by in figures["contenders"].items()}
            print(name, figures["verdict"], scores, figures["seconds"], figures["waited"], flush=True)
            kept[name] = {**setting_of_this_run(), **figures}
            keep("public", dict(sorted(kept.items())))


if __name__ == "__main__":
    main(*sys.argv[1:])
