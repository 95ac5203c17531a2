"""A base learned from a log when it is asked for: EASE in closed form, on users whom the new task does not see."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.sparse import csr_matrix

from core.bases import digest
from core.contract import Base
from core.licences import spdx
from plugins.recommendation import options
from plugins.recommendation.ease import Array, best_penalty, moments, solve
from plugins.recommendation.kept import Arrays, Card, damaged, kept, key_of
from plugins.recommendation.log import Ints, Log, Mask, located, pairs_unit, positions, read, users_unit
from plugins.recommendation.models import ItemItem
from plugins.recommendation.ranking import NDCG, recommend

FORM = 1
"""Of what is in the cache: to be raised where the same file and options would give other weights."""
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
        tensors, card = kept(key, path, lambda: _written(learn(options)))
        try:
            model = ItemItem(len(card["items"]))
            model.load_state_dict(tensors)
            known, users, penalty = card["items"], card["users"], card["penalty"]
        except (KeyError, RuntimeError) as error:
            raise damaged(key, error) from error
        origin = options.origin or path.name
        return Base(
            model,
            digest(model.state_dict()),
            spdx(options.licence),
            f"{origin}: EASE on {users} users, penalty {penalty:g}",
            {"task": {"items": known}},
        )

    def _key(self, path: Path) -> str:
        chosen = self._options.model_dump(mode="json", exclude={"path", "licence", "origin"})
        read(
            self._options, "base"
        )  # what is wrong with the file or the options is said here, whatever the cache holds
        return key_of(path, [FORM, chosen, path.suffixes])


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


def _written(learned: Weights) -> tuple[Arrays, Card]:
    card = {"items": list(learned.items), "users": learned.users, "penalty": learned.penalty}
    return {"weight": learned.weight, "bias": learned.bias}, card
