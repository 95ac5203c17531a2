"""The users of a product recommender: a vector for each, learned from what they have, when it is asked for."""

from __future__ import annotations

import numpy as np
import torch
from scipy.sparse import csr_matrix
from scipy.sparse.linalg import svds
from torch import Tensor, nn
from torch.nn import functional

from core.bases import digest
from core.contract import Base, Structure
from core.errors import DataError
from core.licences import spdx
from plugins.recommendation import options
from plugins.recommendation.kept import Arrays, Card, damaged, kept, key_of
from plugins.recommendation.log import Log, located, whole

FORM = 1
"""Of what is in the cache: to be raised where the same file and options would give other vectors."""


class UserVectors(nn.Module):
    """A vector for each person; people are alike as far as their vectors point the same way.

    Args:
        people: how many.
        dimensions: numbers that each is described by. Zeros: nothing is known.
    """

    structure = Structure(axes={"people": (("vectors", 0),)})

    def __init__(self, people: int, dimensions: int) -> None:
        super().__init__()
        self.vectors = nn.Parameter(torch.empty(people, dimensions))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Nothing is known of anybody: what is left is the graph alone."""
        nn.init.zeros_(self.vectors)

    def directions(self) -> Tensor:
        """(people, dimensions) of length 1, or 0 where nothing is known."""
        return functional.normalize(self.vectors, dim=1)

    def forward(self, people: Tensor, *_: Tensor) -> Tensor:
        """Cosines (batch, people) of some people, (batch,) int64, with all; of -1, whom nobody knows, zeros."""
        directions = self.directions()
        return taken(directions, people) @ directions.T


def taken(rows: Tensor, index: Tensor) -> Tensor:
    """(batch, ...) rows by index; zeros where the index is -1."""
    known = (index >= 0).unsqueeze(1)
    return rows[index.clamp(min=0)] * known


class Factors:
    """The base source `factors`."""

    def __init__(self, options: options.Factors) -> None:
        self._options = options

    def load(self) -> Base:
        """Raises `DataError` where the file does not serve, `BaseError` where what the cache holds is damaged."""
        options = self._options
        path = located(options.path)
        log = whole(options)  # what is wrong with the file is said here, whatever the cache holds
        most = min(len(log.users), len(log.items)) - 1
        if options.dimensions > most:
            raise DataError(
                f"{path}: {len(log.users)} users and {len(log.items)} items have {most} dimensions at most that can be"
                f" learned, and {options.dimensions} are wanted",
                f"write base.dimensions={most} or less",
            )
        if len(log) == len(log.users) * len(log.items):
            raise DataError(
                f"{path}: all {len(log.users)} users have all {len(log.items)} items, which tells nobody from anybody",
                "bring ratings of items that not everybody has, or count as having only what is rated well",
            )
        chosen = options.model_dump(mode="json", exclude={"path", "licence", "origin"})
        key = key_of(path, [FORM, "factors", chosen, path.suffixes])
        tensors, card = kept(key, path, lambda: learn(log, options.dimensions))
        try:
            people = card["people"]
            model = UserVectors(len(people), options.dimensions)
            model.load_state_dict(tensors)
        except (KeyError, RuntimeError) as error:
            raise damaged(key, error) from error
        what = f"{options.origin or path.name}: {options.dimensions} factors of what {len(people)} users have"
        return Base(
            model, digest(model.state_dict()), spdx(options.licence), what, {"task": {"people": people}}
        )


def learn(log: Log, dimensions: int) -> tuple[Arrays, Card]:
    """PureSVD (Cremonesi, Koren and Turrin 2010, https://doi.org/10.1145/1864708.1864721): the truncated singular value
    decomposition X ≈ U·S·Vᵀ, in which a user is the row of U·S = X·V.

    X, (users, items), has ln(users / users of the item) where a user has the item, the inverse document frequency
    (Sparck Jones 1972, https://doi.org/10.1108/eb026526), for what everybody has says little of anybody. Each
    column's sign is such that its largest entry in V is positive: the decomposition leaves it open."""
    users = np.bincount(log.item, minlength=len(log.items))
    rarity = np.log(len(log.users) / users)
    matrix = csr_matrix((rarity[log.item], log.item, log.offsets), shape=(len(log.users), len(log.items)))
    left, values, right = svds(matrix, k=dimensions, v0=np.ones(min(matrix.shape)))
    order = np.argsort(-values, kind="stable")
    left, values, right = left[:, order], values[order], right[order]
    signs = np.sign(right[np.arange(dimensions), np.abs(right).argmax(1)])
    return {"vectors": left * values * signs}, {"people": list(log.users)}
