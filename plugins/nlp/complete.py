"""What a recipe for texts leaves `auto`, chosen from the data."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from core.contract import REPORT, SELECT, TRAIN, Choice
from core.data.labels import check_labels
from core.data.rows import spread
from core.data.stored import readable
from core.data.tables import column_names
from core.errors import BaseError, DataError
from plugins.nlp import options
from plugins.nlp.files import files_of
from plugins.nlp.hub import cached
from plugins.nlp.texts import Source, columns, is_lines, source_of

SAMPLED = 5_000
"""Texts whose lengths are looked at, evenly spread."""

SEEN = 5_000
"""Texts that training should see, counted in every epoch: with fewer the head is hardly learned, with many more a small
encoder gains little."""

SMALL = 512
"""How wide an encoder is at most that takes a high rate. On TREC (held-out questions of `train`, two seeds, one epoch)
one 384 wide, of 22 million parameters, has 93.5 % right with 1e-4, 94.3 % with 2e-4, 93.6 % with 3e-4."""

WIDTHS = {"sentence-transformers/all-MiniLM-L6-v2": 384}
"""Of the bases that recipes name, which may not be fetched yet."""

SHARES: Mapping[str, float] = {SELECT: 0.1, REPORT: 0.2}
MOST = {SELECT: 5_000, REPORT: 20_000}
"""What is held out of a file in one piece: shares, but no more rows than tell enough."""


def choices(recipe: Mapping[str, Any]) -> list[Choice]:
    """A choice for each key that may be `auto` where the task is `nlp.classify` and the dataset `nlp.texts`. Raises
    `DataError`."""
    data = recipe.get("data")
    data = dict(data) if isinstance(data, Mapping) else {"dataset": data}
    if _short(recipe.get("task"), "task") != "classify" or _short(data, "dataset") != "texts":
        return []
    path = data.get("path")
    if path is None:
        raise DataError(
            "no data are named",
            "write data=PATH: a CSV, TSV, JSONL or Parquet file with a column of texts and one of labels, or a folder"
            " with train, dev and test files",
        )
    given = {key: value for key, value in data.items() if key != "dataset" and value != "auto"}
    read = options.Texts.model_validate(given)
    files = files_of(read.path)
    found = list(_columns(files[TRAIN], read))
    named = {choice.key.removeprefix("data."): choice.value for choice in found}
    source = source_of(files[TRAIN], read.model_copy(update=named))
    check_labels({TRAIN: source.labels}, lambda _, i: source.where(i))  # before a base is fetched for nothing
    splits = _splits(source, files, read)
    asked = read.splits.model_dump() if "splits" in given else splits.value
    held = [asked.get(name) or share for name, share in SHARES.items() if name not in files]
    rows = len(source.texts) - sum(part if part >= 1 else part * len(source.texts) for part in held)
    return [*found, splits, *_training(source, max(1, round(rows)), recipe)]


def _short(value: Any, key: str) -> str:
    name = value.get(key) if isinstance(value, Mapping) else value
    return str(name).removeprefix("nlp.")


def _columns(path: Path, read: options.Texts) -> Iterator[Choice]:
    if is_lines(path, read):
        why = f"{path.name} has lines of a label and a text"
        yield Choice("data.text", None, why)
        yield Choice("data.label", None, why)
        return
    header = column_names(path)
    text, label = columns(path, header, read.text, read.label)
    why = f"{path.name} has the columns {', '.join(header)}"
    yield Choice("data.text", text[0] if len(text) == 1 else text, why)
    yield Choice("data.label", label, why)


def _splits(source: Source, files: Mapping[str, Path], read: options.Texts) -> Choice:
    key, counts = "data.splits", source.labels.counts()
    if SELECT in files:
        return Choice(key, {"how": "random"}, "nothing is to be split: each split has its file")
    rows = len(source.texts)
    parts = {name: share for name, share in SHARES.items() if name not in files}
    parts = {name: MOST[name] if share * rows > MOST[name] else share for name, share in parts.items()}
    capped = [f"{MOST[name]:,} of {name}" for name in parts if parts[name] == MOST[name]]
    enough = f"; {' and '.join(capped)} tell enough of {rows:,}" if capped else ""
    if source.groups is not None:
        groups = (
            f"{len(source.groups.values)} groups in the column {read.group!r}, none of which is torn apart"
        )
        return Choice(key, {"how": "grouped", **parts}, groups + enough)
    if REPORT not in files and not is_lines(source.path, read) and "split" in column_names(source.path):
        return Choice(key, {"how": "column", "by": "split"}, f"{source.path.name} has a column 'split'")
    how = "stratified" if counts.min() >= 10 else "random"
    rarest = f"the rarest of {len(counts)} labels has {counts.min()} examples"
    kept = "so each label keeps its share" if how == "stratified" else "too few to give each split its share"
    return Choice(key, {"how": how, **parts}, f"{rarest}, {kept}{enough}")


def _training(source: Source, rows: int, recipe: Mapping[str, Any]) -> Iterator[Choice]:
    base = recipe.get("base")
    base = base if isinstance(base, Mapping) else {"name": base}
    name = str(base.get("name", "")).removeprefix("nlp.").removeprefix("transformers:")
    folder = _folder(name, base.get("revision"))
    longest, lengths = _lengths(source, folder)
    reads = min(256, max(16, 8 * -(-longest // 8)))
    yield Choice("task.longest", reads, lengths)
    batch = 16 if rows < 1_000 or reads > 128 else 32
    why = f"about {rows:,} texts to train on" + (f", of up to {reads} tokens" if reads > 128 else "")
    yield Choice("fine_tune.batch_size", batch, why)
    epochs = int(min(15, max(1, -(-SEEN // rows))))
    yield Choice(
        "fine_tune.epochs", epochs, f"about {rows:,} texts, of which some {SEEN:,} are to be seen in all"
    )
    width = _width(folder) or WIDTHS.get(name)
    if width is None:
        yield Choice("fine_tune.lr", 3e-5, "an encoder of unknown width")
    elif width <= SMALL:
        yield Choice("fine_tune.lr", 2e-4, f"a small encoder, {width} wide")
    else:
        yield Choice("fine_tune.lr", 3e-5, f"an encoder {width} wide")
    yield Choice("evaluate.primary", "accuracy", f"{len(source.labels.values)} labels, one for each text")


def _lengths(source: Source, folder: Path) -> tuple[int, str]:
    """How many tokens the longest texts have, one in a hundred left out where they are long, and that in words."""
    texts = [str(text) for text in spread(source.texts, SAMPLED)]
    try:
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        tokenizer.no_truncation()
        tokenizer.no_padding()
        counts, how = [len(tokenizer.encode(text).ids) for text in texts], "tokens"
    except Exception:  # no such file, or none that the library can read: the base itself says so later
        counts, how = [round(1.5 * len(text.split())) + 2 for text in texts], "tokens, reckoned as 1.5 a word"
    if max(counts) <= 128:
        return max(counts), f"the longest text has {max(counts)} {how}"
    longest = int(np.quantile(counts, 0.99))
    return longest, f"99 in 100 texts have {longest} {how}, or less"


def _folder(name: str, revision: Any) -> Path:
    """Where the base's files are, if they are here: in a folder of that name, or in the hub's cache."""
    folder = Path(name).expanduser()
    with readable(folder, BaseError):
        if folder.is_dir():
            return folder
    return cached(name, None if revision is None else str(revision), whole=False) or folder


def _width(folder: Path) -> int | None:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        width = config.get("hidden_size") or config.get("dim")  # DistilBERT's word for it
    except (OSError, ValueError, AttributeError):
        return None
    return width if isinstance(width, int) else None
