"""Recommendation from what a user has: rank all items that the user does not have."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypedDict

import torch
from torch import Tensor, nn

from core.contract import JSON, SELECT, TRAIN, Base, Contender, Metric, Row, Split
from core.edits import axis_size
from core.errors import DataError, nearest
from plugins.recommendation import contenders, options
from plugins.recommendation.imports import imported
from plugins.recommendation.log import located
from plugins.recommendation.ranking import MRR, NDCG, RECALL, catalogue, recommend

LISTED = 30
"""Items that a message names at most."""
NONE, PAD = -1, -2
"""In place of the index of a target: one that the state does not list; none at all, beside rows with more."""


class Example(NamedTuple):
    """Indices of the history's items, (n,) int64, and of the targets, (m,) int64; m is 0 where no target is given.
    `several`: the target is a list. `items`: how many the state lists."""

    history: Tensor
    targets: Tensor
    several: bool
    items: int


class State(TypedDict):
    """The items, in the order of the model's outputs."""

    items: list[str]


class Ranking(TypedDict):
    """What the losses of rankings read: what users have and what is to rank high, (batch, items), float32 of ones and
    zeros; and a number for what a loss draws, () int64."""

    histories: Tensor
    positives: Tensor
    seed: Tensor


class Batch(Ranking):
    """Target indices (batch, most), int64; which rows have a list of targets, (batch,) bool. What users have is what
    is to rank high."""

    targets: Tensor
    several: Tensor


class Recommend:
    """The task `recommend`: a user's history in, all other items out, ranked.

    It trains on whole histories: a model with a zero diagonal predicts each item from the others. Examples hold
    indices, and are made dense a batch at a time.
    """

    def __init__(self, options: options.Recommend) -> None:
        self._options = options
        self._places: tuple[list[str], dict[str, int]] = ([], {})

    def fit(self, rows: Sequence[Row], brought: Mapping[str, JSON]) -> State:
        """The base's items keep their places; those that only `train` has follow, sorted, as the options allow."""
        allowed = self._options
        known = brought.get("items", [])
        return {"items": catalogue(rows, known, users=allowed.new_item_users, most=allowed.max_items)}

    def edits(self, model: nn.Module, state: State) -> list[Mapping[str, JSON]]:
        """New items begin with zeros, the score of an item that nobody has."""
        wanted, has = len(state["items"]), axis_size(model, "items")
        return [{"edit": "grow", "axis": "items", "to": wanted, "init": "zero"}] if has < wanted else []

    def encode(self, row: Row, state: State) -> Example:
        """What the state does not list is left out of the history."""
        place = self._place(state)
        history = sorted({place[item] for item in row.inputs["history"] if item in place})
        several = isinstance(row.target, list)
        asked = row.target if several else [] if row.target is None else [row.target]
        targets = [place.get(item, NONE) for item in asked]
        return Example(
            torch.tensor(history, dtype=torch.int64),
            torch.tensor(targets, dtype=torch.int64),
            several,
            len(state["items"]),
        )

    def _place(self, state: State) -> dict[str, int]:
        """Item to index, of the state's list; kept until another is asked for."""
        if self._places[0] is not state["items"]:
            self._places = state["items"], {item: i for i, item in enumerate(state["items"])}
        return self._places[1]

    def collate(self, examples: Sequence[Example], rng: torch.Generator) -> Batch:
        """Dense histories, and targets filled up with `PAD`."""
        lengths = torch.tensor([example.history.numel() for example in examples])
        histories = torch.zeros(len(examples), examples[0].items)
        owner = torch.arange(len(examples)).repeat_interleave(lengths)
        histories[owner, torch.cat([example.history for example in examples])] = 1.0
        return {
            "histories": histories,
            "positives": histories,
            "targets": padded([example.targets for example in examples]),
            "several": torch.tensor([example.several for example in examples]),
            "seed": torch.randint(2**62, (), generator=rng),
        }

    def forward(self, model: nn.Module, batch: Batch) -> Tensor:
        scores: Tensor = model(batch["histories"])
        return scores

    def loss(self, outputs: Tensor, batch: Batch) -> tuple[Tensor, float]:
        """The squared error of each item's score, summed over the items: the loss of EASE
        (https://arxiv.org/abs/1905.03375)."""
        return (outputs - batch["histories"]).square().sum(), float(len(outputs))

    def predict(self, model: nn.Module, batch: Batch, state: State) -> list[dict[str, JSON]]:
        """As `ranking.recommend`."""
        targets = asked(batch["targets"], batch["several"])
        has = batch["histories"].cpu().numpy()
        scores = self.forward(model, batch).cpu().numpy()
        return recommend(scores, has, targets, state["items"])

    def parse(self, inputs: Sequence[str], state: State) -> list[Row]:
        """Items separated by commas, as in `os,sys`, or `@PATH`, a text file with an item a line; nothing at all is an
        empty history. With the option `inputs: python` also a path that ends in .py, whose imports are the items.

        What is typed and the model does not know is refused; what a file holds and it does not know is left out, as
        long as it knows some. Raises `DataError`."""
        return [Row({"user": text, "history": self._history(text, state)}) for text in inputs]

    def _history(self, text: str, state: State) -> list[str]:
        known = self._place(state)
        if text.startswith("@"):
            return _listed(located(text[1:]), known)
        python = self._options.inputs == "python"
        if python and text.endswith(".py"):
            return sorted(_imports(located(text)).intersection(known))
        whole = text.strip()
        typed = {whole} if whole in known else {name.strip() for name in text.split(",")} - {""}
        unknown = sorted(typed.difference(known))
        if unknown:
            what = "a path that ends in .py, or modules" if python else "@FILE, or items"
            raise DataError(
                f"{text!r}: expected {what} the model knows, separated by commas;"
                f" it does not know {', '.join(map(repr, unknown))}",
                "\n  ".join(f"{name!r}: {_near(name, known)}" for name in unknown),
            )
        return sorted(typed)

    def metrics(self) -> list[Metric]:
        return [NDCG, RECALL, MRR]

    def trivial(self, base: Base, splits: Mapping[str, Split]) -> list[Contender]:
        """As `contenders.trivial`, with the catalogue that the adapted model has."""
        train = splits[TRAIN]
        items = self.fit(train.rows, {"items": train.state["items"]})["items"]
        return contenders.trivial(base, train, splits[SELECT].rows, items)


def padded(targets: Sequence[Tensor]) -> Tensor:
    """(rows, most) int64, filled up with `PAD`. In training there are none, and the library is slow to find out."""
    if not any(map(Tensor.numel, targets)):
        return torch.empty(len(targets), 0, dtype=torch.int64)
    return nn.utils.rnn.pad_sequence(list(targets), batch_first=True, padding_value=PAD)


def asked(targets: Tensor, several: Tensor) -> list[int | list[int | None] | None]:
    """A batch's targets as `recommend` takes them."""
    found: list[int | list[int | None] | None] = []
    for row, listed in zip(targets.tolist(), several.tolist(), strict=True):
        given = [None if index == NONE else index for index in row if index != PAD]
        found.append(given if listed else given[0] if given else None)
    return found


def _near(name: str, known: Collection[str]) -> str:
    close = nearest(name, known)
    if close.startswith("did you mean") or len(known) <= LISTED:
        return close
    return f"nothing of that name; among the {len(known)} it knows are {', '.join(sorted(known)[:LISTED])}"


def _listed(path: Path, known: Collection[str]) -> list[str]:
    """The items in a file, one a line; blank lines do not count."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path} cannot be read: {error}", "give a UTF-8 text file with an item a line"
        ) from error
    found = {line.strip() for line in lines} - {""}
    if found and not found.intersection(known):
        raise DataError(
            f"{path}: the model knows none of its {len(found)} lines as an item; the first is {min(found)!r}",
            f"write an item a line, as in {', '.join(sorted(known)[:3])}",
        )
    return sorted(found.intersection(known))


def _imports(path: Path) -> set[str]:
    try:
        return imported(path.read_bytes(), path.name)
    except FileNotFoundError as error:
        raise DataError(f"{path}: there is no such file", "check the path") from error
    except OSError as error:
        raise DataError(
            f"{path} cannot be read: {error.strerror}", "give a file that you may read"
        ) from error
    except (SyntaxError, ValueError) as error:
        raise DataError(
            f"{path}: expected Python source: {error}", "give a file that Python can compile"
        ) from error
