"""A base learned from interactions when it is asked for: EASE in closed form, on users that the new task does not see.

The weights are kept in the cache by the content of the file and the options, so that a run, its parity check and what
is asked of its shell later have the same bits. They are multiples of 2^-16: where the cache is gone, other threads or
another BLAS change sums in the last of 52 bits, and hardly ever a weight (some 1e-10 a weight).
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.sparse import csr_matrix

from core.bases import digest, read_tensors, write_tensors
from core.contract import Base
from core.data.cache import folder
from core.errors import BaseError, OutputError
from core.licences import spdx
from plugins.recommendation import options
from plugins.recommendation.ease import Array, best_penalty, moments, solve
from plugins.recommendation.log import Ints, Log, Mask, located, pairs_unit, positions, read, users_unit
from plugins.recommendation.models import ItemItem
from plugins.recommendation.ranking import NDCG, recommend

FORM = 1
"""Of what is in the cache: to be raised where the same file and options would give other weights."""
STEP = 2.0**-16
"""What weights are multiples of."""
FIFTH = 0.2
"""Of a user's items, to choose the penalty with."""
MOST = 500
"""Users to choose it with at most."""


class Learned:
    """The base source `learned`."""

    def __init__(self, options: options.Learned) -> None:
        self._options = options

    def load(self) -> Base:
        """Raises `DataError` where the file does not serve, `BaseError` where what the cache holds is damaged."""
        options = self._options
        path = located(options.path)
        key = self._key(path)
        kept = folder() / "recommendation" / f"{key}.safetensors"
        if not kept.is_file():
            _keep(kept, learn(options))
        tensors = read_tensors(kept, f"the base learned from {path}")
        try:
            card = json.loads(kept.with_suffix(".json").read_text(encoding="utf-8"))
            model = ItemItem(len(card["items"]))
            model.load_state_dict(tensors)
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise BaseError(f"{kept} is damaged: {error}", "delete it; it will be learned again") from error
        origin = options.origin or path.name
        return Base(
            model,
            digest(model.state_dict()),
            spdx(options.licence),
            f"{origin}: EASE on {card['users']} users, penalty {card['penalty']:g}",
            {"task": {"items": card["items"]}},
        )

    def _key(self, path: Path) -> str:
        """Of all that the weights depend on, and neither of the file's place nor of what is only said of it."""
        chosen = self._options.model_dump(mode="json", exclude={"path", "licence", "origin"})
        read(
            self._options, "base"
        )  # what is wrong with the file or the options is said here, whatever the cache holds
        total = hashlib.blake2b(
            json.dumps([FORM, chosen, path.suffixes], sort_keys=True).encode(), digest_size=16
        )
        with path.open("rb") as file:
            total.update(hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=32)).digest())
        return total.hexdigest()


@dataclass(frozen=True, slots=True)
class Weights:
    """What was learned: weight (items, items) and bias (items,), float64; from how many users, with which penalty."""

    items: Sequence[str]
    weight: Array
    bias: Array
    users: int
    penalty: float


def learn(options: options.Learned) -> Weights:
    """EASE on the users of the base's side, with the best of the penalties where there are several. Raises
    `DataError`."""
    log = read(options, "base")
    items = np.sort(
        np.argsort(-np.bincount(log.item, minlength=len(log.items)), kind="stable")[: options.max_items]
    )
    place = np.full(len(log.items), -1)
    place[items] = np.arange(len(items))
    known = place[log.item] >= 0
    penalties = options.penalties
    penalty = penalties[0] if len(penalties) == 1 else _chosen(options, log, place, known)
    weight, bias = solve(*moments(_matrix(log, place, known)), penalty)
    return Weights([log.items[i] for i in items.tolist()], weight, bias, len(log.users), penalty)


def _matrix(log: Log, place: Ints, which: Mask) -> csr_matrix:
    """(users, items) of ones where `which` says; a user of whom it says nothing has a row of zeros, which counts in the
    means."""
    user, item = log.user[which], place[log.item[which]]
    return csr_matrix((np.ones(len(user)), (user, item)), shape=(len(log.users), place.max() + 1))


def _chosen(options: options.Learned, log: Log, place: Ints, known: Mask) -> float:
    """The penalty with which EASE on the rest of everybody's items finds best the fifth that is held out."""
    has = np.bincount(log.user[known], minlength=len(log.users))
    wanted = np.clip(np.floor(FIFTH * has + 0.5), 1, np.maximum(has - 1, 0))
    drawn = np.where(known, pairs_unit(log, options.draw, "penalty"), 2.0)
    asked = known & (positions(log, drawn) < wanted[log.user])
    able = np.flatnonzero(np.bincount(log.user[asked], minlength=len(log.users)))
    judges = np.sort(able[np.argsort(users_unit(log, options.draw, "penalty")[able], kind="stable")[:MOST]])
    if not len(judges):
        return options.penalties[len(options.penalties) // 2]
    rest = _matrix(log, place, known & ~asked)
    shown = rest[judges].toarray()
    places = np.where(asked, place[log.item], -1)
    of_each = (places[log.offsets[judge] : log.offsets[judge + 1]] for judge in judges.tolist())
    targets = [one[one >= 0].tolist() for one in of_each]
    names = [str(i) for i in range(shown.shape[1])]
    gram, means = moments(rest)

    def ndcg(penalty: float) -> float:
        weight, bias = solve(gram, means, penalty)
        predictions = recommend(shown @ weight + bias, shown, targets, names)
        return float(np.mean([NDCG.score(prediction)[0] for prediction in predictions]))

    return best_penalty(options.penalties, ndcg, "the base (base.penalties)")


def _keep(path: Path, learned: Weights) -> None:
    """The weights first, beside their place; what another process has put there meanwhile is the same."""
    card = {"items": list(learned.items), "users": learned.users, "penalty": learned.penalty}
    tensors = {
        name: torch.from_numpy(np.round(values / STEP) * STEP).float()
        for name, values in (("weight", learned.weight), ("bias", learned.bias))
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as beside:
            part = Path(beside, "part")
            part.write_text(json.dumps(card, ensure_ascii=False), encoding="utf-8")
            part.replace(path.with_suffix(".json"))
            write_tensors(part, tensors)
            part.replace(path)
    except OSError as error:
        raise OutputError(
            f"the cache folder {path.parent} cannot be written: {error.strerror}",
            "make room, or name another folder in TAOKE_CACHE",
        ) from error
